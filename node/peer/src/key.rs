//! What a node proves itself with: an Ed25519 key, and the invite's key made from a token's secret.

use core::fmt;
use quorate_types::PeerKey;
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// A node's key pair. Made once, at the node's first start; the hall keeps its bytes in a file.
#[derive(Clone)]
pub struct NodeKey {
    seed: [u8; 32],
    public: PeerKey,
}

impl NodeKey {
    /// Length of `to_bytes`: the seed, then the public key, so that a rotten file is noticed.
    pub const BYTES: usize = 64;

    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<NodeKey, KeyError> {
        Ok(NodeKey::from_seed(random()?))
    }

    /// Reads back what `to_bytes` gave.
    ///
    /// # Errors
    /// Not 64 bytes, or the halves do not belong to each other.
    pub fn from_bytes(bytes: &[u8]) -> Result<NodeKey, KeyError> {
        let bytes: &[u8; NodeKey::BYTES] = bytes.try_into().map_err(|_| KeyError::Length(bytes.len()))?;
        let (seed, public) = bytes.split_at(32);
        let seed: [u8; 32] = seed.try_into().expect("64 bytes were split at 32");
        let key = NodeKey::from_seed(seed);
        if key.public.0 == public { Ok(key) } else { Err(KeyError::Damaged) }
    }

    /// For a file that only the node may read.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; NodeKey::BYTES] {
        let mut bytes = [0; NodeKey::BYTES];
        bytes[..32].copy_from_slice(&self.seed);
        bytes[32..].copy_from_slice(&self.public.0);
        bytes
    }

    /// What the membership holds of it.
    #[must_use]
    pub const fn public(&self) -> PeerKey {
        self.public
    }

    /// The pair whose secret half is that seed.
    pub(crate) fn from_seed(seed: [u8; 32]) -> NodeKey {
        let public =
            pair(&seed).public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        NodeKey { seed, public: PeerKey(public) }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        pair(&self.seed).sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// What this node's stateless resets are made with: bound to the key, so it outlives restarts.
    pub(crate) fn reset_secret(&self) -> [u8; 32] {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"quorate reset 1");
        let mut secret = [0; 32];
        salt.extract(&self.seed)
            .expand(&[b"hmac"], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut secret))
            .expect("32 bytes are a legal length for HKDF-SHA-256");
        secret
    }

    /// The private key as rustls reads it: PKCS#8, first version (RFC 8410 section 7).
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        let mut der = PKCS8_HEAD.to_vec();
        der.extend_from_slice(&self.seed);
        der
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.public)
    }
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// So many bytes are no key.
    Length(usize),
    /// The public half does not belong to the seed: the file is damaged.
    Damaged,
    /// The system gives no randomness.
    NoRandomness,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Length(bytes) => write!(f, "a node key has {} bytes, this has {bytes}", NodeKey::BYTES),
            KeyError::Damaged => f.write_str("the node key is damaged: its halves do not belong together"),
            KeyError::NoRandomness => f.write_str("the system gives no randomness"),
        }
    }
}

impl core::error::Error for KeyError {}

/// Whether `signature` over `message` was made by the owner of `key`.
pub(crate) fn is_signed_by(key: &PeerKey, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, &key.0).verify(message, signature).is_ok()
}

/// So many random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

/// A public key as TLS carries it: SubjectPublicKeyInfo (RFC 8410 section 4).
pub(crate) fn spki(key: &PeerKey) -> Vec<u8> {
    let mut der = SPKI_HEAD.to_vec();
    der.extend_from_slice(&key.0);
    der
}

/// Reads what `spki` wrote; anything else is no key of ours.
pub(crate) fn from_spki(der: &[u8]) -> Option<PeerKey> {
    let key = der.strip_prefix(SPKI_HEAD.as_slice())?;
    Some(PeerKey(key.try_into().ok()?))
}

fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed")
}

const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_give_the_key_back() {
        let key = NodeKey::generate().unwrap();
        let back = NodeKey::from_bytes(&key.to_bytes()).unwrap();
        assert_eq!(back.public(), key.public());
        assert!(is_signed_by(&key.public(), b"words", &back.sign(b"words")));
        assert!(!is_signed_by(&key.public(), b"other words", &back.sign(b"words")));
    }

    #[test]
    fn a_damaged_file_is_noticed() {
        let bytes = NodeKey::generate().unwrap().to_bytes();
        for at in 0..bytes.len() {
            let mut rotten = bytes;
            rotten[at] ^= 1;
            assert_eq!(NodeKey::from_bytes(&rotten).unwrap_err(), KeyError::Damaged, "byte {at}");
        }
        assert_eq!(NodeKey::from_bytes(&bytes[1..]).unwrap_err(), KeyError::Length(63));
    }

    #[test]
    fn the_secret_is_not_printed() {
        let key = NodeKey::from_seed([7; 32]);
        assert_eq!(format!("{key:?}"), format!("NodeKey({})", key.public()));
    }

    #[test]
    fn spki_is_read_back_and_nothing_else_is() {
        let key = NodeKey::from_seed([7; 32]).public();
        assert_eq!(from_spki(&spki(&key)), Some(key));
        assert_eq!(from_spki(&spki(&key)[..43]), None);
        assert_eq!(from_spki(&[spki(&key), vec![0]].concat()), None);
        assert_eq!(from_spki(&[0; 44]), None);
    }
}
