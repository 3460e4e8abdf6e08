//! A join token: one line of text that lets one node in, once.

use crate::key::{KeyError, NodeKey, random};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core::fmt;
use quorate_types::{ClusterId, PeerKey};
use ring::{digest, hkdf};

/// What a token says. Printed as `quorate1-` and URL-safe base64.
///
/// The bytes below the base64, little-endian:
///
/// ```text
///  2 length of all of it | 8 cluster | 32 issuer | 16 secret | 1 count | count * (1 length, address) | 4 checksum
/// ```
///
/// The checksum is the head of a SHA-256: it finds slips, it protects from nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// Key of the node that gave it: what answers at the addresses must prove it.
    pub issuer: PeerKey,
    /// Where the issuer is reached: `host:port`, at most 8 of at most 255 bytes.
    pub addresses: Vec<String>,
    /// 128 random bits; who knows them may join.
    pub secret: [u8; 16],
}

impl Token {
    /// A token with a new secret.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate(cluster: ClusterId, issuer: PeerKey, addresses: Vec<String>) -> Result<Token, KeyError> {
        Ok(Token { cluster, issuer, addresses, secret: random()? })
    }

    /// The line for people. Addresses beyond the eighth, or too long for a host name, are left out.
    #[must_use]
    pub fn print(&self) -> String {
        let addresses: Vec<(u8, &String)> = self
            .addresses
            .iter()
            .filter_map(|address| Some((u8::try_from(address.len()).ok()?, address)))
            .take(ADDRESS_COUNT_MAX)
            .collect();
        let mut bytes = vec![0; LENGTH_BYTES];
        bytes.extend_from_slice(&self.cluster.0.to_le_bytes());
        bytes.extend_from_slice(&self.issuer.0);
        bytes.extend_from_slice(&self.secret);
        bytes.push(u8::try_from(addresses.len()).expect("at most ADDRESS_COUNT_MAX were taken"));
        for (length, address) in addresses {
            bytes.push(length);
            bytes.extend_from_slice(address.as_bytes());
        }
        let length =
            u16::try_from(bytes.len() + CHECKSUM_BYTES).expect("eight short addresses stay far below 64 KiB");
        bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a printed token; white space around it is no matter.
    ///
    /// # Errors
    /// It is no token, or a damaged one; the error says which, for people.
    pub fn parse(text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        let Some(body) = text.strip_prefix(PREFIX) else {
            let is_other = text
                .strip_prefix("quorate")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            return Err(if is_other { TokenError::OtherFormat } else { TokenError::NoToken });
        };
        if body.len() > TEXT_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let is_known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if let Some(strange) = body.chars().find(|&c| !is_known(c)) {
            return Err(TokenError::StrangeCharacter(strange));
        }
        // A cut may leave a number of characters that is no whole number of bytes: look at the length inside
        // before judging the text.
        let whole = body.len() - usize::from(body.len() % 4 == 1);
        let lenient = base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
        let bytes = lenient.decode(&body[..whole]).map_err(|_| TokenError::Mistyped)?;
        let token = Token::from_bytes(&bytes)?;
        // One token, one text: bits that no byte takes are zero.
        if token.print().len() == text.len() && URL_SAFE_NO_PAD.decode(body).is_ok() {
            Ok(token)
        } else {
            Err(TokenError::Mistyped)
        }
    }

    /// The key pair that proves the secret: HKDF-SHA-256 of it. Only its public half ever leaves the joiner.
    pub(crate) fn invite_key(&self) -> NodeKey {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"quorate invite 1");
        let secret = salt.extract(&self.secret);
        let info = [b"ed25519".as_slice()];
        let key =
            secret.expand(&info, hkdf::HKDF_SHA256).expect("32 bytes are a legal length for HKDF-SHA-256");
        let mut seed = [0; 32];
        key.fill(&mut seed).expect("the length asked for is the buffer's");
        NodeKey::from_seed(seed)
    }

    /// What the store keeps of the token: it names the invite and proves nothing.
    #[must_use]
    pub fn invite_hash(&self) -> [u8; 32] {
        invite_hash(&self.invite_key().public())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Token, TokenError> {
        let mut rest = Bytes(bytes);
        let length = usize::from(u16::from_le_bytes(rest.array().ok_or(TokenError::Cut)?));
        if bytes.len() < length {
            return Err(TokenError::Cut);
        }
        if bytes.len() > length || length < CHECKSUM_BYTES {
            return Err(TokenError::Mistyped);
        }
        let (checked, sum) = bytes.split_at(length - CHECKSUM_BYTES);
        if checksum(checked) != sum {
            return Err(TokenError::Mistyped);
        }
        rest.0 = checked.get(LENGTH_BYTES..).ok_or(TokenError::Mistyped)?;
        rest.token().filter(|_| rest.0.is_empty()).ok_or(TokenError::Mistyped)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("cluster", &self.cluster)
            .field("issuer", &self.issuer)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// It does not begin as one.
    NoToken,
    /// Of a format this release does not know.
    OtherFormat,
    /// Longer than any token.
    TooLong,
    /// Holds a character no token has.
    StrangeCharacter(char),
    /// Its end is missing.
    Cut,
    /// Its checksum does not fit.
    Mistyped,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::NoToken => write!(f, "this is no join token: one begins with \"{PREFIX}\""),
            TokenError::OtherFormat => {
                f.write_str("the join token is of another release: make a new one with this node's release")
            }
            TokenError::TooLong => f.write_str("this is no join token: it is too long"),
            TokenError::StrangeCharacter(strange) => {
                write!(f, "the join token holds {strange:?}, which no token has: copy it again")
            }
            TokenError::Cut => f.write_str("the join token is cut off at its end: copy all of it"),
            TokenError::Mistyped => {
                f.write_str("the join token is mistyped: its checksum does not fit, copy it again")
            }
        }
    }
}

impl core::error::Error for TokenError {}

/// The invite's name, from the key that proves it.
pub(crate) fn invite_hash(key: &PeerKey) -> [u8; 32] {
    digest::digest(&digest::SHA256, &key.0).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Bytes not read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn token(&mut self) -> Option<Token> {
        let cluster = ClusterId(u64::from_le_bytes(self.array()?));
        let issuer = PeerKey(self.array()?);
        let secret = self.array()?;
        let [count] = self.array()?;
        if usize::from(count) > ADDRESS_COUNT_MAX {
            return None;
        }
        let addresses =
            (0..count).map(|_| self.text().map(str::to_owned)).collect::<Option<Vec<String>>>()?;
        Some(Token { cluster, issuer, addresses, secret })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn text(&mut self) -> Option<&'a str> {
        let [length] = self.array()?;
        let (text, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        core::str::from_utf8(text).ok()
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = digest::digest(&digest::SHA256, bytes);
    *hash.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

const LENIENT: base64::engine::GeneralPurposeConfig = base64::engine::GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone);
const PREFIX: &str = "quorate1-";
const LENGTH_BYTES: usize = 2;
const CHECKSUM_BYTES: usize = 4;
const ADDRESS_COUNT_MAX: usize = 8;
const TEXT_BYTES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> Token {
        Token {
            cluster: ClusterId(0x1234),
            issuer: NodeKey::from_seed([1; 32]).public(),
            addresses: vec!["board-a.local:2380".into(), "[fe80::1]:2380".into()],
            secret: *b"sixteen of bytes",
        }
    }

    #[test]
    fn one_line_that_reads_back() {
        let text = token().print();
        assert!(text.starts_with("quorate1-"));
        assert!(!text.contains(char::is_whitespace));
        assert_eq!(Token::parse(&format!("  {text}\n")), Ok(token()));
    }

    #[test]
    fn every_cut_is_told_as_a_cut() {
        let text = token().print();
        for length in PREFIX.len()..text.len() {
            assert_eq!(Token::parse(&text[..length]), Err(TokenError::Cut), "{length} of {}", text.len());
        }
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = token().print();
        for at in PREFIX.len()..text.len() {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let mistyped = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(Token::parse(&mistyped).is_err(), "character {at}");
        }
        assert_eq!(Token::parse(&format!("{text}A")), Err(TokenError::Mistyped));
        assert_eq!(Token::parse(&text.replace('e', "é")), Err(TokenError::NoToken));
        assert_eq!(Token::parse(&format!("{text}é")), Err(TokenError::StrangeCharacter('é')));
    }

    #[test]
    fn other_texts_are_told_apart() {
        assert_eq!(Token::parse(""), Err(TokenError::NoToken));
        assert_eq!(Token::parse("http://board:2380"), Err(TokenError::NoToken));
        assert_eq!(Token::parse("quorate2-AAAA"), Err(TokenError::OtherFormat));
        assert_eq!(Token::parse(&format!("quorate1-{}", "A".repeat(5_000))), Err(TokenError::TooLong));
    }

    #[test]
    fn the_secret_is_not_printed_for_logs() {
        assert!(!format!("{:?}", token()).contains("secret"));
    }

    #[test]
    fn the_invite_depends_on_the_secret_alone() {
        let moved = Token { addresses: vec![], ..token() };
        assert_eq!(moved.invite_hash(), token().invite_hash());
        let other = Token { secret: [0; 16], ..token() };
        assert_ne!(other.invite_hash(), token().invite_hash());
    }

    proptest! {
        #[test]
        fn any_token_reads_back(
            cluster: u64, issuer: [u8; 32], secret: [u8; 16],
            addresses in prop::collection::vec("[ -~]{0,60}", 0..8),
        ) {
            let token = Token { cluster: ClusterId(cluster), issuer: PeerKey(issuer), addresses, secret };
            prop_assert_eq!(Token::parse(&token.print()), Ok(token));
        }

        #[test]
        fn any_text_is_answered(text: String, body in "[A-Za-z0-9_-]{0,200}") {
            prop_assert!(Token::parse(&text).is_err(), "{}", text);
            let made_up = format!("{PREFIX}{body}");
            prop_assert!(Token::parse(&made_up).is_err());
        }
    }
}
