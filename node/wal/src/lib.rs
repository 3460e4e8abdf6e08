//! The write-ahead log: what this node has promised to remember.
//!
//! Way in:   Batch (from the hall, in order).          Way out: Synced, or a final WalError.
//! May touch: its directory, through `Disk`.           Must not: time, network, meaning of payloads.
//! Always:   indexes in a segment are contiguous; acknowledged bytes are synced and their blocks never
//!           written again; after the first I/O failure nothing is acknowledged again.
#![forbid(unsafe_code)]

mod batch;
pub mod disk;
mod error;
mod extent;
mod format;
mod format_1;
mod pool;
mod reader;
mod record;
mod recovery;
mod replay;
mod scan;
mod segment;
mod small_file;
mod snapshot_file;
mod start;
mod trim;
mod writer;

pub use batch::Batch;
pub use disk::real::RealDisk;
pub use disk::{Disk, DiskError, DiskErrorKind, DiskFile};
pub use error::WalError;
pub use format::{FORMAT, crc32c};
pub use pool::{Preparer, Spare, SpareOrder};
pub use reader::{Fetched, Reader};
pub use record::Record;
pub use recovery::{Recovered, Tail, recover};
pub use small_file::{SMALL_FILE_BYTES_MAX, SMALL_FILE_SYNC_COUNT, read_small_file, write_small_file};
pub use snapshot_file::{
    IMAGE_FORMAT, ImageEncoder, ImageFile, ImageHead, ImageName, ImageReader, ImageReceiver, ImageSource,
    ImageWriter, NewestImage, StdRead, images, newest_image, open_image, remove_partial_images,
    remove_unfinished_images,
};
pub use start::Opener;
pub use writer::{Synced, Writer};

use quorate_types::limits;

/// How the log is cut into files and blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of one segment file; whole blocks, at least room for a header and the longest batch.
    pub segment_bytes: u64,
    /// Bytes of one block, a multiple of 4,096: each batch starts on one. More than 4,096 only where a
    /// board says that its card writes larger units.
    pub block_bytes: u32,
    /// Segment files to keep, in use or ready: what lies between two images, plus two (rule 7).
    pub pool_count: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { segment_bytes: limits::SEGMENT_BYTES, block_bytes: BLOCK_BYTES, pool_count: POOL_COUNT }
    }
}

impl Settings {
    /// Stops on sizes no log can be built from: they come from this program, not from a disk.
    pub(crate) fn check(&self) {
        let unit = u32::try_from(format::UNIT_BYTES).expect("a unit is 4 KiB");
        assert!(
            self.block_bytes >= unit && self.block_bytes.is_multiple_of(unit),
            "a block is whole 4 KiB units"
        );
        assert!(self.segment_bytes.is_multiple_of(u64::from(self.block_bytes)), "a segment is whole blocks");
        assert!(
            self.segment_bytes / u64::from(self.block_bytes) >= 4,
            "a segment holds a header and batches"
        );
        assert!(self.segment_bytes <= 1 << 30, "offsets in a segment fit 32 bits");
    }
}

const BLOCK_BYTES: u32 = 4_096;
const POOL_COUNT: usize = 6;
const _: () = assert!(BLOCK_BYTES as usize == limits::BLOCK_BYTES);
const _: () = assert!(
    POOL_COUNT as u64 == limits::IMAGE_TRIGGER_BYTES_MIN.div_ceil(limits::SEGMENT_BYTES) + 2,
    "rule 7"
);
