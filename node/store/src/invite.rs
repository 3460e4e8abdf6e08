//! Invites: what lets a new node in, once. The secret is its bearer's; here stands only the hash of a public key
//! made from it, so that neither log nor image nor backup lets anybody in.

use crate::StoreError;
use alloc::collections::BTreeMap;
use quorate_types::{ClusterTime, PeerKey, limits};

/// Names an invite: SHA-256 of the public key that its secret makes.
pub type InviteHash = [u8; 32];

/// An invite as every node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteView {
    /// Its hash.
    pub hash: InviteHash,
    /// From then on it lets nobody new in.
    pub expires: ClusterTime,
    /// Whom it let in, by key. That one may come again: its answer may have been lost.
    pub used_by: Option<PeerKey>,
}

/// What became of an invite that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteTaken {
    /// It is this key's now, or was already.
    Taken,
    /// None such was ever given, or it was revoked, or is long over and was dropped.
    Unknown,
    /// Its time was over before anybody used it.
    Expired,
    /// Another key has used it.
    Used,
}

#[derive(Debug, Clone, Copy)]
struct Invite {
    expires: ClusterTime,
    used_by: Option<PeerKey>,
}

/// All invites. Bounded in number, and not counted as space: who replaces a board must be let in when the quota is
/// used up too.
#[derive(Debug, Default)]
pub(crate) struct Invites {
    invites: BTreeMap<InviteHash, Invite>,
}

impl Invites {
    /// Takes one in; answers when it expires. One that stands already stays as it is: the command came twice. If
    /// there are too many the one that is over for the longest time makes room, if one is over.
    pub(crate) fn add(
        &mut self,
        hash: InviteHash,
        expires: ClusterTime,
        now: ClusterTime,
    ) -> Result<ClusterTime, StoreError> {
        if let Some(known) = self.invites.get(&hash) {
            return Ok(known.expires);
        }
        if self.invites.len() >= limits::INVITE_COUNT_MAX {
            let over = self.invites.iter().filter(|(_, invite)| invite.expires <= now);
            let oldest = over.min_by_key(|(hash, invite)| (invite.expires, **hash)).map(|(hash, _)| *hash);
            self.invites.remove(&oldest.ok_or(StoreError::TooManyInvites)?);
        }
        self.invites.insert(hash, Invite { expires, used_by: None });
        Ok(expires)
    }

    pub(crate) fn take(&mut self, hash: &InviteHash, key: PeerKey, now: ClusterTime) -> InviteTaken {
        let Some(invite) = self.invites.get_mut(hash) else { return InviteTaken::Unknown };
        match invite.used_by {
            Some(used_by) if used_by == key => InviteTaken::Taken,
            Some(_) => InviteTaken::Used,
            None if invite.expires <= now => InviteTaken::Expired,
            None => {
                invite.used_by = Some(key);
                InviteTaken::Taken
            }
        }
    }

    /// Answers whether it stood.
    pub(crate) fn revoke(&mut self, hash: &InviteHash) -> bool {
        self.invites.remove(hash).is_some()
    }

    /// Puts one back, from an image. False if that cannot be one of a store's.
    pub(crate) fn restore(&mut self, view: InviteView) -> bool {
        let InviteView { hash, expires, used_by } = view;
        self.invites.len() < limits::INVITE_COUNT_MAX
            && self.invites.insert(hash, Invite { expires, used_by }).is_none()
    }

    /// All, ordered by hash.
    pub(crate) fn views(&self) -> impl Iterator<Item = InviteView> + '_ {
        self.invites.iter().map(|(hash, invite)| InviteView {
            hash: *hash,
            expires: invite.expires,
            used_by: invite.used_by,
        })
    }
}
