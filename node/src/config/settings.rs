//! The settings as a person writes them: flags, `QUORATE_…` in the environment, or a TOML file.

use super::address::{parse_peer_addresses, parse_peer_listen};
use super::{Config, Listen, LogFormat, parse_listen};
use crate::auto_compact::AutoCompact;
use clap::Parser;
use quorate_api::TlsFiles;
use quorate_peer::Token;
use serde::Deserialize;
use std::path::PathBuf;

const LISTEN_CLIENT_DEFAULT: &str = "127.0.0.1:2379";
const DATA_DIR_DEFAULT: &str = "./quorate-data";

/// A store node that speaks etcd v3 and stays quorate on slow cards.
///
/// First start of the first node:   quorated --new-cluster
/// First start of each other node:  quorated --join TOKEN      (`quorate invite` on a member prints one)
/// Ever after:                      quorated
#[derive(Debug, Clone, Default, Parser, Deserialize)]
#[command(name = "quorated", version, max_term_width = 100)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Settings as a TOML file; its keys are these flags without the dashes. Flags win over it.
    #[arg(long, value_name = "FILE", env = "QUORATE_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Name of this node, for people [default: the host's name].
    #[arg(long, env = "QUORATE_NAME")]
    pub name: Option<String>,

    /// Folder of this node's data [default: ./quorate-data].
    #[arg(long, value_name = "DIR", env = "QUORATE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where to listen for clients; repeat it or use commas [default: 127.0.0.1:2379].
    #[arg(long, value_name = "ADDRESS", alias = "listen-client-urls", env = "QUORATE_LISTEN_CLIENT")]
    #[serde(default, alias = "listen-client-urls")]
    pub listen_client: Vec<String>,

    /// What clients are told to dial [default: the listen addresses].
    #[arg(long, value_name = "URL", alias = "advertise-client-urls", env = "QUORATE_ADVERTISE_CLIENT")]
    #[serde(default, alias = "advertise-client-urls")]
    pub advertise_client: Vec<String>,

    /// Where to serve metrics and health besides, without TLS: for probes of a kubelet.
    #[arg(long, value_name = "ADDRESS", env = "QUORATE_LISTEN_METRICS_URLS")]
    #[serde(default)]
    pub listen_metrics_urls: Vec<String>,

    /// Where to listen for the other nodes, UDP [default: port 2380 on all addresses].
    #[arg(long, value_name = "ADDRESS", env = "QUORATE_LISTEN_PEER")]
    pub listen_peer: Option<String>,

    /// Where the other nodes reach this one, host:port; names are resolved at every dial; repeat it or use
    /// commas [default: the listen address, or this host's own with that port].
    #[arg(long, value_name = "ADDRESS", env = "QUORATE_ADVERTISE_PEER")]
    #[serde(default)]
    pub advertise_peer: Vec<String>,

    /// Found a new cluster if the folder is empty.
    #[arg(long, conflicts_with = "join", env = "QUORATE_NEW_CLUSTER")]
    #[serde(default)]
    pub new_cluster: bool,

    /// Join a cluster with a token of `quorate invite` if the folder is empty.
    #[arg(long, value_name = "TOKEN", env = "QUORATE_JOIN")]
    pub join: Option<String>,

    /// Join as a learner that never becomes a voter by itself.
    #[arg(long, env = "QUORATE_STAY_LEARNER")]
    #[serde(default)]
    pub stay_learner: bool,

    /// Most bytes of keys, values and history [default: a quarter of the memory, at most 2 GiB].
    #[arg(long, value_name = "BYTES", env = "QUORATE_QUOTA_BACKEND_BYTES")]
    pub quota_backend_bytes: Option<i64>,

    /// How to read the retention: 'periodic' (a duration) or 'revision' (a count).
    #[arg(long, value_name = "MODE", env = "QUORATE_AUTO_COMPACTION_MODE")]
    pub auto_compaction_mode: Option<String>,

    /// How much history to keep: '0' never compacts by itself, '1h' or '1000' as the mode says.
    #[arg(long, value_name = "RETENTION", env = "QUORATE_AUTO_COMPACTION_RETENTION")]
    pub auto_compaction_retention: Option<String>,

    /// Certificate of the client port, PEM.
    #[arg(long, value_name = "FILE", env = "QUORATE_CERT_FILE")]
    pub cert_file: Option<PathBuf>,

    /// Key of that certificate, PEM.
    #[arg(long, value_name = "FILE", env = "QUORATE_KEY_FILE")]
    pub key_file: Option<PathBuf>,

    /// CA that signs the clients' certificates, PEM.
    #[arg(long, value_name = "FILE", env = "QUORATE_TRUSTED_CA_FILE")]
    pub trusted_ca_file: Option<PathBuf>,

    /// Refuse clients without a certificate of that CA.
    #[arg(long, env = "QUORATE_CLIENT_CERT_AUTH")]
    #[serde(default)]
    pub client_cert_auth: bool,

    /// Listen beyond loopback without TLS: anybody on that network can read and change everything.
    #[arg(long, env = "QUORATE_ALLOW_INSECURE_CLIENT")]
    #[serde(default)]
    pub allow_insecure_client: bool,

    /// How log lines look: 'text' or 'json' [default: text].
    #[arg(long, value_name = "FORMAT", env = "QUORATE_LOG_FORMAT")]
    pub log_format: Option<String>,

    /// Which log lines: error, warn, info, debug, or a filter like 'info,quorated=debug' [default: info].
    #[arg(long, value_name = "FILTER", env = "QUORATE_LOG_LEVEL")]
    pub log_level: Option<String>,
}

/// What is wrong with the settings: always the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// One flag does not read.
    Flag {
        /// Without the dashes.
        flag: &'static str,
        /// What is wrong and what it takes.
        reason: String,
    },
    /// The file cannot be read or does not parse.
    File {
        /// Which.
        path: PathBuf,
        /// The reader's own words.
        reason: String,
    },
    /// Without TLS, an address others can reach.
    Insecure {
        /// The address.
        url: String,
    },
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ConfigError::Flag { flag, reason } => write!(f, "--{flag}: {reason}"),
            ConfigError::File { path, reason } => write!(f, "--config: {}: {reason}", path.display()),
            ConfigError::Insecure { url } => write!(
                f,
                "--listen-client: {url} can be reached from other machines and has no TLS. Give --cert-file and \
                 --key-file, or listen on 127.0.0.1, or add --allow-insecure-client if the network is trusted"
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

fn flag(flag: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Flag { flag, reason: reason.into() }
}

impl Settings {
    /// Fills what flags and environment left open from the file they name.
    ///
    /// # Errors
    /// `File` if it cannot be read or says something unknown.
    pub fn with_file(self) -> Result<Settings, ConfigError> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let fail = |reason: String| ConfigError::File { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
        let file: Settings = toml::from_str(&text).map_err(|error| fail(error.to_string()))?;
        Ok(self.over(file))
    }

    /// These settings, with `below` where they say nothing.
    fn over(self, below: Settings) -> Settings {
        let list = |mine: Vec<String>, theirs: Vec<String>| if mine.is_empty() { theirs } else { mine };
        Settings {
            config: self.config,
            name: self.name.or(below.name),
            data_dir: self.data_dir.or(below.data_dir),
            listen_client: list(self.listen_client, below.listen_client),
            advertise_client: list(self.advertise_client, below.advertise_client),
            listen_metrics_urls: list(self.listen_metrics_urls, below.listen_metrics_urls),
            listen_peer: self.listen_peer.or(below.listen_peer),
            advertise_peer: list(self.advertise_peer, below.advertise_peer),
            new_cluster: self.new_cluster || below.new_cluster,
            join: self.join.or(below.join),
            stay_learner: self.stay_learner || below.stay_learner,
            quota_backend_bytes: self.quota_backend_bytes.or(below.quota_backend_bytes),
            auto_compaction_mode: self.auto_compaction_mode.or(below.auto_compaction_mode),
            auto_compaction_retention: self.auto_compaction_retention.or(below.auto_compaction_retention),
            cert_file: self.cert_file.or(below.cert_file),
            key_file: self.key_file.or(below.key_file),
            trusted_ca_file: self.trusted_ca_file.or(below.trusted_ca_file),
            client_cert_auth: self.client_cert_auth || below.client_cert_auth,
            allow_insecure_client: self.allow_insecure_client || below.allow_insecure_client,
            log_format: self.log_format.or(below.log_format),
            log_level: self.log_level.or(below.log_level),
        }
    }

    /// Checks everything once.
    ///
    /// # Errors
    /// The first setting that does not hold, with what to do.
    pub fn check(self) -> Result<Config, ConfigError> {
        let tls = self.tls()?;
        let listen_client = self.listen_client(tls.is_some())?;
        let mut listen_metrics = Vec::new();
        for text in &self.listen_metrics_urls {
            listen_metrics.extend(parse_listen("listen-metrics-urls", text, false)?);
        }
        if listen_metrics.iter().any(|listen| listen.tls) {
            return Err(flag("listen-metrics-urls", "metrics are served without TLS here; write http://…"));
        }
        let auto_compact = AutoCompact::parse(
            self.auto_compaction_mode.as_deref().unwrap_or("periodic"),
            self.auto_compaction_retention.as_deref().unwrap_or("0"),
        )
        .map_err(|reason| flag("auto-compaction-retention", reason))?;
        let quota_bytes = match self.quota_backend_bytes {
            // etcd's spellings: 0 is the default, below it is "no quota"; ours is bounded by memory.
            None | Some(0) => None,
            Some(bytes) => Some(u64::try_from(bytes).map_err(|_| {
                flag(
                    "quota-backend-bytes",
                    "a store in memory needs a bound; give a positive number of bytes",
                )
            })?),
        };
        let log_format = match self.log_format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(flag("log-format", format!("'{other}' is neither text nor json"))),
        };
        let advertise_client = self.advertise(&listen_client);
        let listen_peer = self.listen_peer.as_deref().map(parse_peer_listen).transpose()?;
        let advertise_peer = parse_peer_addresses(&self.advertise_peer)?;
        let token = |text: &str| Token::parse(text.trim()).map_err(|error| flag("join", error.to_string()));
        let join = self.join.as_deref().map(token).transpose()?;
        if join.is_some() && self.new_cluster {
            return Err(flag("join", "a node either joins a cluster or founds one: drop --new-cluster"));
        }
        Ok(Config {
            name: self.name.unwrap_or_else(host_name),
            data_dir: self.data_dir.unwrap_or_else(|| DATA_DIR_DEFAULT.into()),
            listen_client,
            listen_metrics,
            advertise_client,
            listen_peer,
            advertise_peer,
            new_cluster: self.new_cluster,
            join,
            stays_learner: self.stay_learner,
            tls,
            quota_bytes,
            auto_compact,
            log_format,
            log_filter: self.log_level.unwrap_or_else(|| "info".into()),
        })
    }

    fn tls(&self) -> Result<Option<TlsFiles>, ConfigError> {
        let (cert, key) = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (None, None) if self.client_cert_auth || self.trusted_ca_file.is_some() => {
                return Err(flag(
                    "client-cert-auth",
                    "needs --cert-file and --key-file of this node as well",
                ));
            }
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(flag("cert-file", "needs --key-file as well")),
            (None, Some(_)) => return Err(flag("key-file", "needs --cert-file as well")),
        };
        if self.client_cert_auth && self.trusted_ca_file.is_none() {
            return Err(flag("client-cert-auth", "needs --trusted-ca-file to know whose clients to trust"));
        }
        // As etcd: a trusted CA alone already asks clients for a certificate.
        let client_cert_auth = self.client_cert_auth || self.trusted_ca_file.is_some();
        Ok(Some(TlsFiles { cert, key, trusted_ca: self.trusted_ca_file.clone(), client_cert_auth }))
    }

    fn listen_client(&self, tls: bool) -> Result<Vec<Listen>, ConfigError> {
        let texts = if self.listen_client.is_empty() {
            &[LISTEN_CLIENT_DEFAULT.to_owned()][..]
        } else {
            &self.listen_client
        };
        let mut listen_client = Vec::new();
        for text in texts {
            listen_client.extend(parse_listen("listen-client", text, tls)?);
        }
        for listen in &listen_client {
            if listen.tls && !tls {
                return Err(flag("listen-client", "https needs --cert-file and --key-file"));
            }
            if !listen.tls && !listen.address.ip().is_loopback() && !self.allow_insecure_client {
                return Err(ConfigError::Insecure { url: listen.url.clone() });
            }
        }
        Ok(listen_client)
    }

    fn advertise(&self, listen_client: &[Listen]) -> Vec<String> {
        let given: Vec<String> = self
            .advertise_client
            .iter()
            .flat_map(|text| text.split(','))
            .map(|one| one.trim().to_owned())
            .filter(|one| !one.is_empty())
            .collect();
        if given.is_empty() { listen_client.iter().map(|listen| listen.url.clone()).collect() } else { given }
    }
}

fn host_name() -> String {
    // Linux allows as many bytes as a member's name may have.
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, ConfigError> {
        let arguments = std::iter::once("quorated").chain(arguments.iter().copied());
        Settings::try_parse_from(arguments).unwrap().with_file()?.check()
    }

    #[test]
    fn every_flag_has_a_default() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("./quorate-data"));
        assert_eq!(config.listen_client[0].url, "http://127.0.0.1:2379");
        assert_eq!(config.advertise_client, vec!["http://127.0.0.1:2379".to_owned()]);
        assert!(!config.name.is_empty());
        assert_eq!(config.quota_bytes, None);
    }

    #[test]
    fn beyond_loopback_it_wants_tls_or_consent() {
        let error = parse(&["--listen-client", "0.0.0.0:2379"]).unwrap_err();
        assert_eq!(error, ConfigError::Insecure { url: "http://0.0.0.0:2379".into() });
        assert!(parse(&["--listen-client", "0.0.0.0:2379", "--allow-insecure-client"]).is_ok());
        let tls = ["--listen-client", "0.0.0.0:2379", "--cert-file", "c", "--key-file", "k"];
        assert!(parse(&tls).unwrap().listen_client[0].tls);
    }

    #[test]
    fn etcd_spellings_are_taken() {
        let config = parse(&[
            "--listen-client-urls=http://127.0.0.1:2379,http://[::1]:2379",
            "--advertise-client-urls=http://node:2379",
            "--listen-metrics-urls=http://0.0.0.0:2381",
            "--quota-backend-bytes=16777216",
        ])
        .unwrap();
        assert_eq!(config.listen_client.len(), 2);
        assert_eq!(config.advertise_client, vec!["http://node:2379".to_owned()]);
        assert_eq!(config.listen_metrics.len(), 1);
        assert_eq!(config.quota_bytes, Some(16_777_216));
    }

    #[test]
    fn the_file_stands_below_the_flags() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.toml");
        std::fs::write(&path, "name = 'from-file'\ndata-dir = '/tmp/x'\nlisten-client = ['127.0.0.1:1']\n")
            .unwrap();
        let config = parse(&["--config", path.to_str().unwrap(), "--name", "from-flag"]).unwrap();
        assert_eq!(config.name, "from-flag");
        assert_eq!(config.data_dir, PathBuf::from("/tmp/x"));
        assert_eq!(config.listen_client[0].address, "127.0.0.1:1".parse().unwrap());
        std::fs::write(&path, "nmae = 'typo'\n").unwrap();
        let error = parse(&["--config", path.to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("nmae"), "{error}");
    }

    #[test]
    fn peer_addresses_are_names_with_ports() {
        let config = parse(&[
            "--listen-peer",
            "127.0.0.1:2380",
            "--advertise-peer",
            "board-1.local:2380,[fd00::1]:2380",
        ]);
        let config = config.unwrap();
        assert_eq!(config.listen_peer, Some("127.0.0.1:2380".parse().unwrap()));
        assert_eq!(config.advertise_peer, ["board-1.local:2380", "[fd00::1]:2380"]);
        for wrong in ["board-1", "board-1:0x", "https://board-1:2380", ":2380", "fd00::1:2380"] {
            let error = parse(&["--advertise-peer", wrong]).unwrap_err().to_string();
            assert!(error.starts_with("--advertise-peer: "), "{error}");
        }
        assert!(parse(&["--listen-peer", "nowhere"]).is_err());
    }

    #[test]
    fn a_cut_token_is_told_at_once() {
        let error = parse(&["--join", "quorate1-abc"]).unwrap_err().to_string();
        assert!(error.starts_with("--join: "), "{error}");
    }

    #[test]
    fn half_a_tls_is_refused() {
        assert!(parse(&["--cert-file", "c"]).is_err());
        assert!(parse(&["--client-cert-auth"]).is_err());
        assert!(parse(&["--cert-file", "c", "--key-file", "k", "--client-cert-auth"]).is_err());
        assert!(parse(&["--listen-client", "https://127.0.0.1:2379"]).is_err());
    }
}
