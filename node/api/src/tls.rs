//! TLS for clients. The files are read again when they change: certificates on boards are renewed by
//! replacing files, and a node must not be restarted for that.

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// etcd's flags: `--cert-file`, `--key-file`, `--trusted-ca-file`, `--client-cert-auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: this node's certificate, then the chain.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: who signs clients' certificates. As in etcd, giving it asks for such certificates.
    pub trusted_ca: Option<PathBuf>,
    /// Refuse clients without a certificate signed by `trusted_ca`.
    pub client_cert_auth: bool,
}

/// Certificates in force, and the files to look at for newer ones. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    state: Arc<Mutex<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    stamps: Vec<Option<Stamp>>,
}

/// What tells a file from the one it replaced.
type Stamp = (SystemTime, u64);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what its flag says; named with what to do.
    pub fn open(files: TlsFiles) -> Result<Tls, TlsError> {
        let stamps = files.stamps();
        let config = Arc::new(files.load()?);
        Ok(Tls { files: Arc::new(files), state: Arc::new(Mutex::new(Loaded { config, stamps })) })
    }

    /// What the next handshake goes by. Files that changed to something unusable leave the old ones in
    /// force, with a warning: a half-written renewal must not lock clients out.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.files.stamps();
        if stamps != state.stamps {
            match self.files.load() {
                Ok(config) => {
                    state.config = Arc::new(config);
                    tracing::info!("certificates were replaced and are in force");
                }
                Err(error) => {
                    tracing::warn!(%error, "changed certificates cannot be used; the old ones stay")
                }
            }
            state.stamps = stamps;
        }
        Arc::clone(&state.config)
    }
}

impl TlsFiles {
    fn stamps(&self) -> Vec<Option<Stamp>> {
        let stamp = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        [&self.cert, &self.key].into_iter().chain(&self.trusted_ca).map(stamp).collect()
    }

    fn load(&self) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| TlsError::file(&self.key, "a private key", &error))?;
        let provider = Arc::new(provider(has_aes()));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Settings(error.to_string()))?;
        let builder = match &self.trusted_ca {
            None if self.client_cert_auth => {
                return Err(TlsError::Settings(
                    "--client-cert-auth needs --trusted-ca-file: the authority that signs clients' certificates"
                        .to_owned(),
                ));
            }
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = rustls::RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| TlsError::file(path, "an authority", &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| TlsError::file(path, "an authority", &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::file(&self.cert, "the certificate of the key", &error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::file(path, "certificates", &error))?;
    if certificates.is_empty() {
        return Err(TlsError::file(path, "certificates", &"there is none in it"));
    }
    Ok(certificates)
}

/// Boards without AES instructions (Raspberry Pi 3 and 4) encrypt several times faster with ChaCha20;
/// the choice is the server's, since a client on a large machine would not know.
fn provider(has_aes: bool) -> CryptoProvider {
    let mut provider = default_provider();
    if !has_aes {
        let chacha = [
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        provider.cipher_suites.sort_by_key(|suite| !chacha.contains(suite));
    }
    provider
}

fn has_aes() -> bool {
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    return false;
}

/// Why TLS cannot be offered; the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsError {
    /// A file is missing or does not hold what its flag says.
    File {
        /// Which.
        path: PathBuf,
        /// What was looked for in it.
        wanted: &'static str,
        /// What was found instead.
        cause: String,
    },
    /// The flags do not go together.
    Settings(String),
}

impl TlsError {
    fn file(path: &Path, wanted: &'static str, cause: &dyn fmt::Display) -> TlsError {
        TlsError::File { path: path.to_owned(), wanted, cause: cause.to_string() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File { path, wanted, cause } => {
                write!(f, "{}: no {wanted} can be read from this file: {cause}", path.display())
            }
            TlsError::Settings(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
mod tests {
    use super::provider;
    use rustls::CipherSuite;

    #[test]
    fn boards_without_aes_put_chacha_first() {
        let suites = provider(false).cipher_suites;
        assert_eq!(suites[0].suite(), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(suites.len(), provider(true).cipher_suites.len());
        assert_ne!(provider(true).cipher_suites[0].suite(), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }
}
