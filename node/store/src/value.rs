//! Where value bytes live: history's one after the other in chunks that go with it, all others on their own.
//!
//! Compaction takes history from its oldest end. Were each value an allocation of its own, the few that stay
//! would lie scattered over all the memory history had, and each would hold a page of it. So a value that
//! outlives its chunk is copied out of it once, and then the chunk is free as a whole.

use alloc::sync::Arc;
use bytes::{Bytes, BytesMut};
use core::{cmp::Ordering, fmt, ops::Deref};

/// Bytes of a chunk: large enough that allocators map it by itself, and a head of theirs fits into its pages.
const CHUNK_BYTES: usize = 256 * 1024 - 64;

/// A longer value is an allocation of its own: it holds few pages that are not its own, and a chunk's end
/// that no value fits into stays small.
const CHUNK_VALUE_BYTES_MAX: usize = CHUNK_BYTES / 16;

/// The bytes of a value. Cloning shares them.
///
/// They may be a piece of a chunk of history, and a chunk is freed when compaction took all of it *and* nobody
/// holds a piece. Who keeps one for long keeps up to 256 KiB of memory with it: answers and deliveries are
/// short-lived or bounded by their stream's credit, so that is bounded by them and by what history was.
#[derive(Clone)]
pub struct Value(Place);

#[derive(Clone)]
enum Place {
    /// A piece of a chunk, or nothing at all.
    Chunk(Bytes),
    /// An allocation of its own.
    Own(Arc<[u8]>),
}

const _: () = assert!(size_of::<Value>() <= 32, "every record of history holds one");

impl Value {
    /// In an allocation of its own.
    #[must_use]
    pub(crate) fn own(bytes: &[u8]) -> Value {
        if bytes.is_empty() { Value::default() } else { Value(Place::Own(Arc::from(bytes))) }
    }

    /// Moves out of the chunk it may lie in; answers how many bytes had to be copied for that.
    pub(crate) fn leave_chunk(&mut self) -> usize {
        if !self.is_in_chunk() {
            return 0;
        }
        *self = Value::own(self);
        self.len()
    }

    /// Whether it holds a chunk.
    pub(crate) fn is_in_chunk(&self) -> bool {
        match &self.0 {
            Place::Chunk(bytes) => !bytes.is_empty(),
            Place::Own(_) => false,
        }
    }
}

/// The empty value, which takes no memory.
impl Default for Value {
    fn default() -> Value {
        Value(Place::Chunk(Bytes::new()))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::own(bytes)
    }
}

/// Without a copy.
impl From<Value> for Bytes {
    fn from(value: Value) -> Bytes {
        match value.0 {
            Place::Chunk(bytes) => bytes,
            Place::Own(_) => Bytes::from_owner(value),
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Chunk(bytes) => bytes,
            Place::Own(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Where the values of new records go: the chunk that is being filled. Its values hold it; when it is full, the
/// next one is begun.
#[derive(Debug, Default)]
pub(crate) struct ValueChunk {
    /// What is left of it.
    rest: BytesMut,
}

impl ValueChunk {
    /// A copy for a new record.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Value {
        if bytes.is_empty() || bytes.len() > CHUNK_VALUE_BYTES_MAX {
            return Value::own(bytes);
        }
        if self.rest.capacity() < bytes.len() {
            self.rest = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.rest.extend_from_slice(bytes);
        Value(Place::Chunk(self.rest.split().freeze()))
    }

    /// An older value for a new record: it must not hold the older one's chunk.
    pub(crate) fn put_again(&mut self, value: &Value) -> Value {
        if value.is_in_chunk() { self.put(value) } else { value.clone() }
    }
}
