//! Which servers, by which connections. The same arguments for every command that talks to a server.

use anyhow::{Context, Result, anyhow, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// HTTP/2 window of a stream: a list or a burst of events must not wait for the window of 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// HTTP/2 window of a connection: several such streams.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Where the servers are, and by what right we talk to them.
#[derive(Debug, Clone, clap::Args)]
pub struct EndpointArgs {
    /// Servers, separated by commas: host:port, http://… or https://…
    #[arg(
        long,
        env = "ETCDCTL_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        value_name = "URL,…"
    )]
    pub endpoints: Vec<String>,
    /// CA that signed the servers' certificates (PEM)
    #[arg(long, env = "ETCDCTL_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Our certificate, if the servers ask for one (PEM)
    #[arg(long, env = "ETCDCTL_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of our certificate (PEM)
    #[arg(long, env = "ETCDCTL_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Longest wait for a connection
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub dial_timeout: Duration,
}

impl EndpointArgs {
    /// The endpoints as URLs, in the order given.
    ///
    /// # Errors
    /// An endpoint that is no http or https address.
    pub fn urls(&self) -> Result<Vec<String>> {
        let given = self.endpoints.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        let urls: Vec<String> = given.map(|text| self.url(text)).collect::<Result<_>>()?;
        ensure!(!urls.is_empty(), "no endpoint given: --endpoints 127.0.0.1:2379, or ETCDCTL_ENDPOINTS");
        Ok(urls)
    }

    fn url(&self, text: &str) -> Result<String> {
        match text.split_once("://") {
            // As etcdctl: who names a CA or a certificate means TLS.
            None if self.cacert.is_some() || self.cert.is_some() => Ok(format!("https://{text}")),
            None => Ok(format!("http://{text}")),
            Some(("http" | "https", _)) => Ok(text.trim_end_matches('/').to_owned()),
            Some((scheme, _)) => bail!("`{text}`: {scheme} is not spoken here; use http:// or https://"),
        }
    }

    /// Opens `count` connections, spread over all endpoints in turn; each endpoint gets one at least.
    ///
    /// # Errors
    /// A server that does not answer, or files that are no certificates.
    pub async fn connect(&self, count: usize) -> Result<Vec<Channel>> {
        let urls = self.urls()?;
        let mut channels = Vec::new();
        for url in urls.iter().cycle().take(count.max(urls.len())) {
            channels.push(self.connect_to(url).await?);
        }
        Ok(channels)
    }

    /// Opens one connection to one of [`EndpointArgs::urls`].
    ///
    /// # Errors
    /// As [`EndpointArgs::connect`].
    pub async fn connect_to(&self, url: &str) -> Result<Channel> {
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .with_context(|| format!("`{url}` is no address of a server"))?
            .connect_timeout(self.dial_timeout)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if url.starts_with("https://") {
            endpoint = endpoint.tls_config(self.tls()?).context("these certificates cannot be used")?;
        }
        // The endpoint's own limit is on each address tried; a name may have several, and TLS comes on top.
        let connected = tokio::time::timeout(self.dial_timeout, endpoint.connect()).await;
        connected
            .map_err(|_| anyhow!("no answer within {}", humantime::format_duration(self.dial_timeout)))
            .and_then(|outcome| Ok(outcome?))
            .with_context(|| {
                format!(
                    "nothing answers at {url}: is a server running there? (--endpoints or ETCDCTL_ENDPOINTS)"
                )
            })
    }

    fn tls(&self) -> Result<ClientTlsConfig> {
        let ca = self.cacert.as_deref().context("https needs the CA of the servers: --cacert FILE")?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(tls)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        endpoint: EndpointArgs,
    }

    fn urls(arguments: &[&str]) -> Result<Vec<String>> {
        let line = Line::try_parse_from([&["x"], arguments].concat())?;
        line.endpoint.urls()
    }

    #[test]
    fn endpoints_are_spelled_as_etcdctl_takes_them() {
        assert_eq!(
            urls(&["--endpoints", "127.0.0.1:1, https://b:2/ ,http://[::1]:3"]).unwrap(),
            ["http://127.0.0.1:1", "https://b:2", "http://[::1]:3"]
        );
        assert_eq!(urls(&["--endpoints", "a:1", "--cacert", "ca.pem"]).unwrap(), ["https://a:1"]);
    }

    #[test]
    fn other_schemes_and_half_an_identity_are_refused() {
        assert!(urls(&["--endpoints", "unix:///run/x"]).unwrap_err().to_string().contains("unix"));
        assert!(urls(&["--cert", "c.pem"]).is_err());
        assert!(urls(&["--endpoints", ","]).unwrap_err().to_string().contains("no endpoint"));
    }
}
