//! The proof that a joiner holds a token's secret, bound to one TLS session and both node keys: what is heard
//! on one connection proves nothing on another.

use crate::frame::FrameError;
use crate::key::{NodeKey, is_signed_by};
use quinn::Connection;
use quorate_types::PeerKey;

/// What is signed with the invite's key, and by whom for whom.
pub(crate) struct Statement(Vec<u8>);

impl Statement {
    /// For this connection; none if it is gone.
    pub(crate) fn new(
        connection: &Connection,
        issuer: PeerKey,
        joiner: PeerKey,
        said: &[u8],
    ) -> Option<Statement> {
        let mut session = [0; 32];
        connection.export_keying_material(&mut session, LABEL, b"").ok()?;
        Some(Statement([PURPOSE, &session, &issuer.0, &joiner.0, said].concat()))
    }

    pub(crate) fn sign(&self, invite: &NodeKey) -> [u8; 64] {
        invite.sign(&self.0)
    }

    fn is_signed(&self, invite: &PeerKey, signature: &[u8; 64]) -> bool {
        is_signed_by(invite, &self.0, signature)
    }
}

/// A knock's head: `32 invite key | 64 signature | what is said (postcard)`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Knock<'a> {
    pub(crate) invite: PeerKey,
    pub(crate) signature: [u8; 64],
    pub(crate) said: &'a [u8],
}

impl<'a> Knock<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.invite.0, self.signature.as_slice(), self.said].concat()
    }

    pub(crate) fn decode(head: &'a [u8]) -> Result<Knock<'a>, FrameError> {
        let (invite, rest) = head.split_first_chunk().ok_or(FrameError::Head)?;
        let (signature, said) = rest.split_first_chunk().ok_or(FrameError::Head)?;
        Ok(Knock { invite: PeerKey(*invite), signature: *signature, said })
    }

    pub(crate) fn is_proven(&self, statement: &Statement) -> bool {
        statement.is_signed(&self.invite, &self.signature)
    }
}

const LABEL: &[u8] = b"EXPORTER-quorate-join";
const PURPOSE: &[u8] = b"quorate join proof 1";
