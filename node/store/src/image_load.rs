//! Bytes of an image back into a store. Nothing is believed that was not checked; nothing panics.

use crate::digest::CASTAGNOLI;
use crate::history::{Record, u64_of};
use crate::image::{
    BaseItem, End, FRAME_BYTES_MAX, Head, IMAGE_FORMAT, Item, LENGTH_BYTES, MAGIC, RecordItem, length_in,
};
use crate::revision::Version;
use crate::{Alarm, InviteView, Store, Value};
use alloc::{sync::Arc, vec::Vec};
use core::fmt;
use crc::Table;
use quorate_types::{ClusterTime, Index, LeaseId, NodeId, PeerKey, limits};

/// Why bytes are no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageError {
    /// The beginning is not that of an image.
    NotAnImage,
    /// Written by a newer release.
    Format(u32),
    /// A frame that does not read, or stands where it may not.
    Malformed,
    /// What the frames say contradicts itself.
    Inconsistent,
    /// The checksum or the number of frames differs.
    Checksum,
    /// It ends before its end.
    Incomplete,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::NotAnImage => f.write_str("this is not an image of a store"),
            ImageError::Format(format) => {
                write!(f, "the image has format {format}, this release reads up to {IMAGE_FORMAT}")
            }
            ImageError::Malformed => f.write_str("the image does not read"),
            ImageError::Inconsistent => f.write_str("the image contradicts itself"),
            ImageError::Checksum => f.write_str("the image's checksum does not match"),
            ImageError::Incomplete => f.write_str("the image is incomplete"),
        }
    }
}

impl core::error::Error for ImageError {}

/// Builds a store from an image's bytes, cut anyhow. Memory: the store, and one frame.
pub struct ImageLoader {
    /// An incomplete frame.
    partial: Vec<u8>,
    store: Store,
    digest: crc::Digest<'static, u32, Table<16>>,
    count: u64,
    stage: Stage,
    /// Key of the last base.
    key_last: Option<Arc<[u8]>>,
    /// Revision and order of the last record.
    record_last: (i64, u32),
}

/// Which frames may come; a later stage never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Head,
    Small,
    Bases,
    Records,
    Done,
}

impl fmt::Debug for ImageLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageLoader")
            .field("count", &self.count)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Default for ImageLoader {
    fn default() -> ImageLoader {
        ImageLoader::new()
    }
}

impl ImageLoader {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> ImageLoader {
        ImageLoader {
            partial: Vec::new(),
            store: Store::new(),
            digest: CASTAGNOLI.digest(),
            count: 0,
            stage: Stage::Head,
            key_last: None,
            record_last: (0, 0),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// See `ImageError`; the loader is of no use afterwards.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let wanted = self.wanted()?;
            let (taken, later) = rest.split_at(wanted.min(rest.len()));
            rest = later;
            if self.partial.is_empty() && taken.len() > LENGTH_BYTES && taken.len() == wanted {
                self.frame(taken)?;
                continue;
            }
            self.partial.extend_from_slice(taken);
            if self.partial.len() >= LENGTH_BYTES && self.wanted()? == 0 {
                let frame = core::mem::take(&mut self.partial);
                self.frame(&frame)?;
                self.partial = frame;
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// The store, if the image was complete.
    ///
    /// # Errors
    /// `Incomplete`, `Inconsistent`.
    pub fn finish(mut self) -> Result<Store, ImageError> {
        if self.stage != Stage::Done || !self.partial.is_empty() {
            return Err(ImageError::Incomplete);
        }
        let ties: Vec<(Arc<[u8]>, LeaseId)> = self
            .store
            .keyspace
            .keys
            .iter()
            .filter_map(|(key, state)| {
                let found = self.store.keyspace.at(state, i64::MAX)?;
                found.lease.is_some().then(|| (Arc::clone(key), found.lease))
            })
            .collect();
        for (key, lease) in ties {
            if !self.store.leases.contains(lease) {
                return Err(ImageError::Inconsistent);
            }
            self.store.leases.retie(&key, LeaseId::NONE, lease);
        }
        Ok(self.store)
    }

    /// Bytes missing of the frame at hand, or of its length.
    fn wanted(&self) -> Result<usize, ImageError> {
        let Some(length) = length_in(&self.partial) else { return Ok(LENGTH_BYTES - self.partial.len()) };
        if length > FRAME_BYTES_MAX {
            return Err(if self.stage == Stage::Head {
                ImageError::NotAnImage
            } else {
                ImageError::Malformed
            });
        }
        Ok(LENGTH_BYTES + length - self.partial.len())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), ImageError> {
        let unreadable =
            if self.stage == Stage::Head { ImageError::NotAnImage } else { ImageError::Malformed };
        let body = frame.get(LENGTH_BYTES..).ok_or(unreadable)?;
        let (item, rest) = postcard::take_from_bytes::<Item<'_>>(body).map_err(|_| unreadable)?;
        if !rest.is_empty() {
            return Err(unreadable);
        }
        self.item(item)?;
        self.digest.update(frame);
        self.count += 1;
        Ok(())
    }

    fn item(&mut self, item: Item<'_>) -> Result<(), ImageError> {
        let stage = match &item {
            Item::Head(_) => Stage::Head,
            Item::Lease(_) | Item::Alarm(_) | Item::Invite(_) => Stage::Small,
            Item::Base(_) => Stage::Bases,
            Item::Record(_) => Stage::Records,
            Item::End(_) => Stage::Done,
        };
        // The head stands first and once; afterwards stages only go on, and nothing follows the end.
        let is_first = self.stage == Stage::Head;
        if is_first != (stage == Stage::Head) {
            return Err(if is_first { ImageError::NotAnImage } else { ImageError::Malformed });
        }
        if stage < self.stage || self.stage == Stage::Done {
            return Err(ImageError::Malformed);
        }
        self.stage = if is_first { Stage::Small } else { stage };
        match item {
            Item::Head(head) => self.head(&head),
            Item::Lease(lease) => {
                let id = LeaseId(lease.id);
                let ttl_fits = (1..=limits::LEASE_TTL_SECONDS_MAX).contains(&lease.ttl_seconds);
                if !id.is_some() || !ttl_fits || self.store.leases.contains(id) {
                    return Err(ImageError::Inconsistent);
                }
                self.store.leases.insert(id, lease.ttl_seconds, lease.granted);
                Ok(())
            }
            Item::Alarm(alarm) => {
                self.store.alarms.raise(Alarm { node: NodeId(alarm.node), kind: alarm.kind });
                Ok(())
            }
            Item::Invite(invite) => {
                let expires = ClusterTime(invite.expires);
                let used_by = invite.used_by.map(PeerKey);
                let is_sound = self.store.invites.restore(InviteView { hash: invite.hash, expires, used_by });
                if is_sound { Ok(()) } else { Err(ImageError::Inconsistent) }
            }
            Item::Base(base) => self.base(&base),
            Item::Record(record) => self.record(&record),
            Item::End(end) => self.end(end),
        }
    }

    fn head(&mut self, head: &Head) -> Result<(), ImageError> {
        if head.magic != MAGIC {
            return Err(ImageError::NotAnImage);
        }
        if !(1..=IMAGE_FORMAT).contains(&head.format) {
            return Err(ImageError::Format(head.format));
        }
        if head.revision < 1
            || head.revision == i64::MAX
            || head.compacted < -1
            || head.compacted > head.revision
        {
            return Err(ImageError::Inconsistent);
        }
        self.store.applied = Index(head.applied);
        self.store.time = ClusterTime(head.time);
        self.store.keyspace.revision = head.revision;
        self.store.keyspace.compacted = head.compacted;
        Ok(())
    }

    fn base(&mut self, base: &BaseItem<'_>) -> Result<(), ImageError> {
        let rises = self.key_last.as_ref().is_none_or(|last| **last < *base.key);
        // Only what lies below the compacted revision was ever swept.
        if !rises
            || !is_state(base.create_revision, base.mod_revision, base.version)
            || base.mod_revision >= self.store.keyspace.compacted
        {
            return Err(ImageError::Inconsistent);
        }
        let key: Arc<[u8]> = Arc::from(base.key);
        let version = Version {
            create_revision: base.create_revision,
            mod_revision: base.mod_revision,
            version: base.version,
            lease: LeaseId(base.lease),
            value: Value::own(base.value),
        };
        self.store.keyspace.insert_base(Arc::clone(&key), version);
        self.key_last = Some(key);
        Ok(())
    }

    fn record(&mut self, item: &RecordItem<'_>) -> Result<(), ImageError> {
        let place = (item.mod_revision, item.sub);
        let is_deletion =
            item.version == 0 && item.create_revision == 0 && item.value.is_empty() && item.lease == 0;
        let is_sound = is_deletion || is_state(item.create_revision, item.mod_revision, item.version);
        if place <= self.record_last && self.record_last != (0, 0)
            || item.mod_revision < 2
            || item.mod_revision > self.store.keyspace.revision
            || !is_sound
        {
            return Err(ImageError::Inconsistent);
        }
        self.record_last = place;
        let keyspace = &mut self.store.keyspace;
        let key = match keyspace.keys.get_key_value(item.key) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(item.key),
        };
        let value = keyspace.chunk.put(item.value);
        keyspace.append(Record {
            key,
            value,
            mod_revision: item.mod_revision,
            create_revision: item.create_revision,
            version: item.version,
            lease: LeaseId(item.lease),
            sub: item.sub,
            previous: 0,
        });
        Ok(())
    }

    fn end(&self, end: End) -> Result<(), ImageError> {
        let matches = end.count == self.count && end.checksum == self.digest.clone().finalize();
        if matches { Ok(()) } else { Err(ImageError::Checksum) }
    }

    /// Frames taken so far.
    #[must_use]
    pub fn frame_count(&self) -> u64 {
        self.count
    }

    /// Bytes of the store so far.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.store.bytes_total() + u64_of(self.partial.len())
    }
}

/// Largest revision or version believed: leaves room to count on for ever.
const COUNT_MAX: i64 = i64::MAX / 2;

/// Whether figures can belong to a key that exists.
fn is_state(create_revision: i64, mod_revision: i64, version: i64) -> bool {
    create_revision >= 2 && create_revision <= mod_revision && (1..=COUNT_MAX).contains(&version)
}
