//! Listen addresses: `host:port`, or a URL as etcd's flags have it.

use super::ConfigError;
use std::net::{SocketAddr, ToSocketAddrs};

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The socket.
    pub address: SocketAddr,
    /// Whether connections there speak TLS.
    pub tls: bool,
    /// As a URL, for the member list.
    pub url: String,
}

/// Reads one or several (by comma) addresses. Without a scheme, TLS is what `tls_default` says.
///
/// # Errors
/// A sentence that names the flag and what it takes.
pub fn parse_listen(flag: &'static str, text: &str, tls_default: bool) -> Result<Vec<Listen>, ConfigError> {
    text.split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .map(|one| parse_one(flag, one, tls_default))
        .collect()
}

fn parse_one(flag: &'static str, text: &str, tls_default: bool) -> Result<Listen, ConfigError> {
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some((scheme, _)) => {
            return Err(ConfigError::Flag {
                flag,
                reason: format!("'{text}' has the scheme '{scheme}'; http and https are served here"),
            });
        }
        None => (tls_default, text),
    };
    let host_port = rest.strip_suffix('/').unwrap_or(rest);
    let address =
        host_port.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()).ok_or_else(|| {
            ConfigError::Flag {
                flag,
                reason: format!("'{text}' is no address; write host:port, [v6]:port, or http(s)://host:port"),
            }
        })?;
    let scheme = if tls { "https" } else { "http" };
    Ok(Listen { address, tls, url: format!("{scheme}://{host_port}") })
}

/// Reads the one socket address peers are listened for at.
///
/// # Errors
/// A sentence that names the flag and what it takes.
pub(super) fn parse_peer_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()).ok_or_else(|| ConfigError::Flag {
        flag: "listen-peer",
        reason: format!("'{text}' is no address; write host:port or [v6]:port, without a scheme"),
    })
}

/// Reads addresses peers dial, by comma or repeated. Names are not resolved here: they may change.
///
/// # Errors
/// A sentence that names the flag and what it takes.
pub(super) fn parse_peer_addresses(texts: &[String]) -> Result<Vec<String>, ConfigError> {
    let each = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|one| !one.is_empty());
    each.map(|one| {
        let parts = one.rsplit_once(':').filter(|(host, port)| {
            let is_host = !host.is_empty() && !host.contains('/');
            let is_v6_bare = host.contains(':') && !host.starts_with('[');
            is_host && !is_v6_bare && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        let reason = format!("'{one}' is nothing to dial; write host:port or [v6]:port, without a scheme");
        parts.map(|_| one.to_owned()).ok_or(ConfigError::Flag { flag: "advertise-peer", reason })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_plain_addresses_and_urls() {
        let listen = parse_listen("listen-client", "127.0.0.1:2379, https://[::1]:2380", false).unwrap();
        assert_eq!(listen[0].address, "127.0.0.1:2379".parse().unwrap());
        assert!(!listen[0].tls);
        assert_eq!(listen[0].url, "http://127.0.0.1:2379");
        assert_eq!(listen[1].address, "[::1]:2380".parse().unwrap());
        assert!(listen[1].tls);
        assert_eq!(listen[1].url, "https://[::1]:2380");
    }

    #[test]
    fn without_a_scheme_tls_follows_the_certificate() {
        assert!(parse_listen("listen-client", "127.0.0.1:2379", true).unwrap()[0].tls);
        assert!(!parse_listen("listen-client", "http://127.0.0.1:2379", true).unwrap()[0].tls);
    }

    #[test]
    fn says_what_is_wrong() {
        for text in ["unix://x", "localhost", "127.0.0.1:99999", "http://"] {
            let error = parse_listen("listen-client", text, false).unwrap_err().to_string();
            assert!(error.starts_with("--listen-client: "), "{error}");
        }
    }
}
