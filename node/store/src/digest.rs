//! Checksums over what the store means, not over how far its sweep got.
//!
//! Fed in this order: every key's state at the compacted revision, by key; every change from the compacted
//! revision up to the one asked for, in order; for the whole state also leases, alarms, invites, time. Two nodes at
//! the same applied index have the same (rule 18).

use crate::history::{Record, u64_of};
use crate::revision::Found;
use crate::{AlarmKind, Store, StoreError};
use alloc::sync::Arc;
use core::ops::Bound;
use crc::{CRC_32_ISCSI, Crc, Table};

/// CRC-32C; sixteen tables are faster than any card.
pub(crate) static CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Keys looked at count as that many bytes of a slice, so that keys without bytes to hash end it too.
pub(crate) const VISIT_BYTES: usize = 128;

/// Checksum over all keys at a revision, as etcd's HashKV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compacted revision it starts from; -1 if there is none.
    pub compact_revision: i64,
    /// The revision it was taken at.
    pub hash_revision: i64,
}

/// A checksum under way. While it lives, nothing is swept; dropping it lets go.
pub struct Hasher {
    hold: Arc<()>,
    digest: crc::Digest<'static, u32, Table<16>>,
    compacted: i64,
    revision: i64,
    place: Place,
}

/// How far.
enum Place {
    /// Keys up to this one are through.
    Keys(Option<Arc<[u8]>>),
    /// Records before this one are through.
    Records(u64),
    Done,
}

impl core::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hasher")
            .field("compacted", &self.compacted)
            .field("revision", &self.revision)
            .finish()
    }
}

impl Store {
    /// Begins a checksum over all keys at a revision; zero or less is now.
    ///
    /// # Errors
    /// `FutureRevision`, `Compacted`.
    pub fn begin_hash(&self, revision: i64) -> Result<Hasher, StoreError> {
        if revision > self.keyspace.revision {
            return Err(StoreError::FutureRevision);
        }
        let revision = if revision <= 0 { self.keyspace.revision } else { revision };
        if revision < self.keyspace.compacted {
            return Err(StoreError::Compacted);
        }
        Ok(Hasher {
            hold: Arc::clone(&self.hold),
            digest: CASTAGNOLI.digest(),
            compacted: self.keyspace.compacted,
            revision,
            place: Place::Keys(None),
        })
    }

    /// Goes on for about that many bytes; answers the checksum when it is through.
    ///
    /// # Panics
    /// If `hasher` was begun on another store.
    pub fn hash_next(&self, hasher: &mut Hasher, bytes_max: usize) -> Option<KeyHash> {
        assert!(Arc::ptr_eq(&self.hold, &hasher.hold), "a checksum goes on where it was begun");
        let mut bytes = 0;
        while bytes < bytes_max {
            match &hasher.place {
                Place::Keys(last) => {
                    let last = last.clone();
                    bytes += self.hash_keys(hasher, last.as_deref(), bytes_max - bytes);
                }
                Place::Records(sequence) => {
                    let sequence = *sequence;
                    bytes += self.hash_record(hasher, sequence);
                }
                Place::Done => {
                    return Some(KeyHash {
                        hash: hasher.digest.clone().finalize(),
                        compact_revision: hasher.compacted,
                        hash_revision: hasher.revision,
                    });
                }
            }
        }
        None
    }

    /// The checksum over all keys at a revision, in one go: for a store that nobody waits for.
    ///
    /// # Errors
    /// As `begin_hash`.
    pub fn hash_kv(&self, revision: i64) -> Result<KeyHash, StoreError> {
        let mut hasher = self.begin_hash(revision)?;
        loop {
            if let Some(hash) = self.hash_next(&mut hasher, usize::MAX) {
                return Ok(hash);
            }
        }
    }

    /// Checksum over the whole replicated state; comparable between nodes at the same applied index only.
    /// In one go: for start-up, tests and tools.
    ///
    /// # Panics
    /// Never: a hash now has no revision to refuse.
    #[must_use]
    pub fn digest(&self) -> u32 {
        let keys = self.hash_kv(0).expect("now is neither compacted nor to come");
        let mut digest = CASTAGNOLI.digest();
        digest.update(&keys.hash.to_le_bytes());
        digest.update(&keys.compact_revision.to_le_bytes());
        digest.update(&keys.hash_revision.to_le_bytes());
        for lease in self.leases.views() {
            digest.update(&lease.id.0.to_le_bytes());
            digest.update(&lease.ttl_seconds.to_le_bytes());
            digest.update(&lease.granted.to_le_bytes());
        }
        for alarm in self.alarms.list() {
            let kind: u8 = match alarm.kind {
                AlarmKind::NoSpace => 1,
                AlarmKind::Corrupt => 2,
            };
            digest.update(&alarm.node.0.to_le_bytes());
            digest.update(&[kind]);
        }
        for invite in self.invites.views() {
            digest.update(&invite.hash);
            digest.update(&invite.expires.0.to_le_bytes());
            digest.update(&[u8::from(invite.used_by.is_some())]);
            digest.update(&invite.used_by.unwrap_or_default().0);
        }
        digest.update(&self.time.0.to_le_bytes());
        digest.finalize()
    }

    fn hash_keys(&self, hasher: &mut Hasher, last: Option<&[u8]>, bytes_max: usize) -> usize {
        let start = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut bytes = 0;
        for (key, state) in self.keyspace.keys.range::<[u8], _>((start, Bound::Unbounded)) {
            if let Some(found) = self.keyspace.at(state, hasher.compacted) {
                feed(&mut hasher.digest, key, &found);
                bytes += key.len() + found.value.len();
            }
            bytes += VISIT_BYTES;
            if bytes >= bytes_max {
                hasher.place = Place::Keys(Some(Arc::clone(key)));
                return bytes;
            }
        }
        hasher.place = Place::Records(self.keyspace.history.first_at(hasher.compacted));
        bytes
    }

    fn hash_record(&self, hasher: &mut Hasher, sequence: u64) -> usize {
        match self.keyspace.history.get(sequence) {
            Some(record) if record.mod_revision <= hasher.revision => {
                feed(&mut hasher.digest, &record.key, &state_in(record));
                hasher.digest.update(&record.sub.to_le_bytes());
                hasher.place = Place::Records(sequence + 1);
                record.key.len() + record.value.len() + VISIT_BYTES
            }
            Some(_) | None => {
                hasher.place = Place::Done;
                0
            }
        }
    }
}

fn state_in(record: &Record) -> Found<'_> {
    Found {
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
        version: record.version,
        lease: record.lease,
        value: &record.value,
    }
}

fn feed(digest: &mut crc::Digest<'static, u32, Table<16>>, key: &[u8], found: &Found<'_>) {
    let mut head = [0_u8; 48];
    let figures = [
        u64_of(key.len()).to_le_bytes(),
        u64_of(found.value.len()).to_le_bytes(),
        found.create_revision.to_le_bytes(),
        found.mod_revision.to_le_bytes(),
        found.version.to_le_bytes(),
        found.lease.0.to_le_bytes(),
    ];
    for (target, figure) in head.chunks_exact_mut(8).zip(figures) {
        target.copy_from_slice(&figure);
    }
    digest.update(&head);
    digest.update(key);
    digest.update(found.value);
}
