//! TLS 1.3 with raw public keys in both directions (RFC 7250): no certificates, so no validity dates and no
//! clock. Who may talk is not judged here: the server takes any key that signs, and looks it up afterwards;
//! the client takes the one key it dials.

use crate::NodeKey;
use crate::error::PeerError;
use crate::key::{from_spki, spki};
use crate::window;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quorate_types::PeerKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as rustls_ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};
use std::sync::{Arc, OnceLock};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Messages and forwards between members.
    Peer,
    /// Heartbeats and their answers, while there are any.
    Beat,
    /// A knock, or a dial back.
    Join,
    /// An image from a member.
    Image,
}

impl Purpose {
    const ALL: [Purpose; 4] = [Purpose::Peer, Purpose::Beat, Purpose::Join, Purpose::Image];

    const fn alpn(self) -> &'static [u8] {
        match self {
            Purpose::Peer => b"quorate-peer/1",
            Purpose::Beat => b"quorate-beat/1",
            Purpose::Join => b"quorate-join/1",
            Purpose::Image => b"quorate-image/1",
        }
    }

    /// What the two ends agreed on.
    pub(crate) fn of(connection: &quinn::Connection) -> Option<Purpose> {
        let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
        Purpose::ALL.into_iter().find(|purpose| data.protocol.as_deref() == Some(purpose.alpn()))
    }
}

/// The key the other end proved.
pub(crate) fn proven_key(connection: &quinn::Connection) -> Option<PeerKey> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    from_spki(chain.first()?)
}

/// This node's side of every handshake.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    own: Arc<CertifiedKey>,
}

impl Tls {
    pub(crate) fn new(key: &NodeKey) -> Result<Tls, PeerError> {
        let provider = Arc::new(provider());
        let private = PrivatePkcs8KeyDer::from(key.pkcs8());
        let signing = rustls_ring::sign::any_eddsa_type(&private).map_err(tls_error)?;
        let public = CertificateDer::from(spki(&key.public()));
        Ok(Tls { provider, own: Arc::new(CertifiedKey::new(vec![public], signing)) })
    }

    /// Answers every purpose.
    pub(crate) fn server(&self) -> Result<quinn::ServerConfig, PeerError> {
        let verifier = Arc::new(AnyKey { algorithms: self.provider.signature_verification_algorithms });
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(
                Arc::clone(&self.own),
            )));
        config.alpn_protocols = Purpose::ALL.map(|purpose| purpose.alpn().to_vec()).to_vec();
        // No tickets, so no resumption and no 0-RTT, which could be replayed.
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        // Without AES instructions on this end, take the cipher that needs none, whatever the other prefers.
        config.ignore_client_order = !has_aes();
        let crypto = QuicServerConfig::try_from(config).map_err(|error| PeerError::Tls(error.to_string()))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        window::bound_server(&mut server);
        Ok(server)
    }

    /// Dials that key. The cell tells which other key answered, if one did.
    pub(crate) fn client(
        &self,
        key: PeerKey,
        purpose: Purpose,
    ) -> Result<(quinn::ClientConfig, Seen), PeerError> {
        let seen = Seen::default();
        let verifier = OneKey {
            key,
            seen: Arc::clone(&seen),
            algorithms: self.provider.signature_verification_algorithms,
        };
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(
                Arc::clone(&self.own),
            )));
        config.alpn_protocols = vec![purpose.alpn().to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = false;
        let crypto = QuicClientConfig::try_from(config).map_err(|error| PeerError::Tls(error.to_string()))?;
        let mut client = quinn::ClientConfig::new(Arc::new(crypto));
        client.transport_config(window::client(purpose));
        Ok((client, seen))
    }
}

/// The key that answered although another was dialled.
pub(crate) type Seen = Arc<OnceLock<PeerKey>>;

/// ring, TLS 1.3 suites only; ChaCha20 first where AES would run in software.
fn provider() -> CryptoProvider {
    let mut provider = rustls_ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    if !has_aes() {
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }
    provider
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
const fn has_aes() -> bool {
    false
}

/// Takes any Ed25519 key whose owner signs.
#[derive(Debug)]
struct AnyKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        from_spki(end_entity).map(|_| ClientCertVerified::assertion()).ok_or_else(no_key)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes one key.
#[derive(Debug)]
struct OneKey {
    key: PeerKey,
    seen: Seen,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for OneKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = from_spki(end_entity).ok_or_else(no_key)?;
        if key != self.key {
            // Told for people; the first one seen on this dial is enough.
            self.seen.get_or_init(|| key);
            return Err(no_key());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn verify(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
    rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
}

const fn no_key() -> Error {
    Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure)
}

#[expect(clippy::needless_pass_by_value, reason = "the form map_err asks for")]
fn tls_error(error: Error) -> PeerError {
    PeerError::Tls(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_suites_of_tls13_and_the_one_for_this_cpu_first() {
        let suites: Vec<CipherSuite> = provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(suites.len(), 3);
        let is_chacha_first = suites[0] == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
        assert_eq!(is_chacha_first, !has_aes());
    }
}
