//! The whole state as bytes: for images, for backups, for another node (rule 17).
//!
//! A stream of frames: length (four bytes, little-endian), then one postcard `Item`. First the small ones
//! (head, leases, alarms, invites), then the bases by key, then history in order, then the end with a checksum over
//! everything before. Taken in slices while the store lives on: history is only appended to, and an export
//! holds the sweep, so what was there at the beginning stays as it was.

use crate::digest::{CASTAGNOLI, VISIT_BYTES};
use crate::history::{Record, usize_of};
use crate::{AlarmKind, Store};
use alloc::{sync::Arc, vec::Vec};
use core::ops::Bound;
use crc::Table;
use quorate_types::{Index, Revision};
use serde::{Deserialize, Serialize};

/// Number of the frames' format; stands in the head. Format 1, which knew no invites, is read too.
pub const IMAGE_FORMAT: u32 = 2;

/// Says what this is, at the very beginning.
pub(crate) const MAGIC: [u8; 8] = *b"QUORATEI";

/// Bytes of a frame's length.
pub(crate) const LENGTH_BYTES: usize = 4;

/// One frame. Variants are only ever appended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Item<'a> {
    Head(Head),
    Lease(LeaseItem),
    Alarm(AlarmItem),
    #[serde(borrow)]
    Base(BaseItem<'a>),
    #[serde(borrow)]
    Record(RecordItem<'a>),
    End(End),
    Invite(InviteItem),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) magic: [u8; 8],
    pub(crate) format: u32,
    pub(crate) applied: u64,
    pub(crate) time: u64,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LeaseItem {
    pub(crate) id: i64,
    pub(crate) ttl_seconds: i64,
    pub(crate) granted: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct AlarmItem {
    pub(crate) node: u64,
    pub(crate) kind: AlarmKind,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct InviteItem {
    pub(crate) hash: [u8; 32],
    pub(crate) expires: u64,
    pub(crate) used_by: Option<[u8; 32]>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BaseItem<'a> {
    #[serde(with = "serde_bytes")]
    pub(crate) key: &'a [u8],
    #[serde(with = "serde_bytes")]
    pub(crate) value: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordItem<'a> {
    #[serde(with = "serde_bytes")]
    pub(crate) key: &'a [u8],
    #[serde(with = "serde_bytes")]
    pub(crate) value: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    /// Zero is a deletion.
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) sub: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct End {
    /// Frames before this one.
    pub(crate) count: u64,
    /// CRC-32C over all bytes before this frame.
    pub(crate) checksum: u32,
}

/// An export under way. While it lives, nothing is swept; dropping it lets go.
pub struct Export {
    hold: Arc<()>,
    head: Head,
    /// Frames made at the beginning and not handed out yet, last first.
    small: Vec<SmallItem>,
    place: Place,
    /// First record that came after the beginning.
    sequence_end: u64,
    count: u64,
    digest: crc::Digest<'static, u32, Table<16>>,
}

#[derive(Debug, Clone, Copy)]
enum SmallItem {
    Head(Head),
    Lease(LeaseItem),
    Alarm(AlarmItem),
    Invite(InviteItem),
}

enum Place {
    Small,
    /// Keys up to this one are through.
    Bases(Option<Arc<[u8]>>),
    /// Records before this one are through.
    Records(u64),
    Done,
}

impl core::fmt::Debug for Export {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Export").field("head", &self.head).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Export {
    /// Index of the last entry the exported state holds.
    #[must_use]
    pub fn applied(&self) -> Index {
        Index(self.head.applied)
    }

    /// Its revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.head.revision)
    }

    /// Whether everything was handed out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.place, Place::Done)
    }

    /// Appends a frame.
    fn frame(&mut self, target: &mut Vec<u8>, item: &Item<'_>) {
        let start = target.len();
        target.extend_from_slice(&[0; LENGTH_BYTES]);
        let mut filled =
            postcard::to_extend(item, core::mem::take(target)).expect("every item has a form in postcard");
        let length = u32::try_from(filled.len() - start - LENGTH_BYTES).expect("a request bounds every item");
        for (byte, value) in filled.iter_mut().skip(start).zip(length.to_le_bytes()) {
            *byte = value;
        }
        self.digest.update(filled.get(start..).expect("the frame was just written"));
        self.count += 1;
        *target = filled;
    }

    fn small(&mut self, target: &mut Vec<u8>) {
        let Some(item) = self.small.pop() else {
            self.place = Place::Bases(None);
            return;
        };
        let item = match item {
            SmallItem::Head(head) => Item::Head(head),
            SmallItem::Lease(lease) => Item::Lease(lease),
            SmallItem::Alarm(alarm) => Item::Alarm(alarm),
            SmallItem::Invite(invite) => Item::Invite(invite),
        };
        self.frame(target, &item);
    }

    fn end(&mut self, target: &mut Vec<u8>) {
        let end = End { count: self.count, checksum: self.digest.clone().finalize() };
        self.frame(target, &Item::End(end));
        self.place = Place::Done;
    }
}

impl Store {
    /// Begins an export of the state as it is now.
    #[must_use]
    pub fn begin_export(&self) -> Export {
        let head = Head {
            magic: MAGIC,
            format: IMAGE_FORMAT,
            applied: self.applied.0,
            time: self.time.0,
            revision: self.keyspace.revision,
            compacted: self.keyspace.compacted,
        };
        let mut small = alloc::vec![SmallItem::Head(head)];
        small.extend(self.leases.views().map(|lease| {
            SmallItem::Lease(LeaseItem {
                id: lease.id.0,
                ttl_seconds: lease.ttl_seconds,
                granted: lease.granted,
            })
        }));
        let alarms = self.alarms.list();
        small.extend(
            alarms.iter().map(|alarm| SmallItem::Alarm(AlarmItem { node: alarm.node.0, kind: alarm.kind })),
        );
        small.extend(self.invites.views().map(|invite| {
            SmallItem::Invite(InviteItem {
                hash: invite.hash,
                expires: invite.expires.0,
                used_by: invite.used_by.map(|key| key.0),
            })
        }));
        small.reverse();
        Export {
            hold: Arc::clone(&self.hold),
            head,
            small,
            place: Place::Small,
            sequence_end: self.keyspace.history.next(),
            count: 0,
            digest: CASTAGNOLI.digest(),
        }
    }

    /// Appends about that many bytes of whole frames to `target`: at most one frame more. Answers whether
    /// there is more to come.
    ///
    /// # Panics
    /// If `export` was begun on another store.
    pub fn export_next(&self, export: &mut Export, bytes_max: usize, target: &mut Vec<u8>) -> bool {
        assert!(Arc::ptr_eq(&self.hold, &export.hold), "an export goes on where it was begun");
        let full = target.len().saturating_add(bytes_max);
        let mut visits_left = bytes_max / VISIT_BYTES + 1;
        while target.len() < full && visits_left > 0 {
            match &export.place {
                Place::Small => export.small(target),
                Place::Bases(last) => {
                    let last = last.clone();
                    visits_left = self.export_bases(export, last.as_deref(), full, visits_left, target);
                }
                Place::Records(sequence) => {
                    let sequence = *sequence;
                    self.export_record(export, sequence, target);
                }
                Place::Done => return false,
            }
        }
        !export.is_done()
    }

    /// Ends an export, finished or not: the sweep may go on.
    pub fn end_export(&mut self, export: Export) {
        drop(export);
    }

    /// Keys that came since have no base; those that stand have kept theirs.
    fn export_bases(
        &self,
        export: &mut Export,
        last: Option<&[u8]>,
        full: usize,
        visits: usize,
        target: &mut Vec<u8>,
    ) -> usize {
        let mut visits_left = visits;
        let start = last.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, state) in self.keyspace.keys.range::<[u8], _>((start, Bound::Unbounded)) {
            if target.len() >= full || visits_left == 0 {
                return visits_left;
            }
            visits_left -= 1;
            if let Some(base) = &state.base {
                let item = BaseItem {
                    key,
                    value: &base.value,
                    create_revision: base.create_revision,
                    mod_revision: base.mod_revision,
                    version: base.version,
                    lease: base.lease.0,
                };
                export.frame(target, &Item::Base(item));
            }
            export.place = Place::Bases(Some(Arc::clone(key)));
        }
        export.place = Place::Records(self.keyspace.history.first());
        visits_left
    }

    fn export_record(&self, export: &mut Export, sequence: u64, target: &mut Vec<u8>) {
        if sequence >= export.sequence_end {
            export.end(target);
            return;
        }
        let record: &Record = self.keyspace.history.get(sequence).expect("an export holds the sweep");
        let item = RecordItem {
            key: &record.key,
            value: &record.value,
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            version: record.version,
            lease: record.lease.0,
            sub: record.sub,
        };
        export.frame(target, &Item::Record(item));
        export.place = Place::Records(sequence + 1);
    }
}

/// Longest frame believed: a key and a value within a request's bound, and its figures.
pub(crate) const FRAME_BYTES_MAX: usize = quorate_types::limits::ENTRY_BYTES_MAX;

/// The frame's length, once its first bytes are there.
pub(crate) fn length_in(bytes: &[u8]) -> Option<usize> {
    let length: [u8; LENGTH_BYTES] = bytes.get(..LENGTH_BYTES)?.try_into().ok()?;
    Some(usize_of(u64::from(u32::from_le_bytes(length))))
}
