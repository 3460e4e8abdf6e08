//! The bytes of an image: a head, blocks of at most 64 KiB each with length and checksum, and an end block with
//! the length and checksum of everything. `tests/golden/wal-image.txt` shows them.

use crate::format::CRC;

pub(super) const IMAGE_MAGIC: [u8; 8] = *b"quoratei";
pub(super) const IMAGE_MAGIC_AT: usize = 0;
pub(super) const IMAGE_FORMAT_AT: usize = IMAGE_MAGIC_AT + 8;
pub(super) const IMAGE_HEAD_BYTES_AT: usize = IMAGE_FORMAT_AT + 2;
pub(super) const IMAGE_CHECKSUM_AT: usize = IMAGE_HEAD_BYTES_AT + 4;
pub(super) const IMAGE_PREFIX_BYTES: usize = IMAGE_CHECKSUM_AT + 4;
/// Bytes of content and checksum of the whole.
pub(super) const IMAGE_END_BYTES: usize = 8 + 4;
/// Content of one block.
pub(super) const IMAGE_BLOCK_BYTES: usize = 64 * 1024;
pub(super) const IMAGE_HEAD_BYTES_MAX: usize = 1024 * 1024;

/// Checksum of everything, taken up piece by piece.
pub(super) struct Whole(crc::Digest<'static, u32, crc::Table<16>>);

impl Default for Whole {
    fn default() -> Whole {
        Whole(CRC.digest())
    }
}

impl core::fmt::Debug for Whole {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Whole")
    }
}

impl Whole {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// Over the prefix before it and the head.
pub(super) fn head_checksum(prefix: &[u8; IMAGE_PREFIX_BYTES], head: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&prefix[..IMAGE_CHECKSUM_AT]);
    digest.update(head);
    digest.finalize()
}

/// Over number and bytes: a block in another's place does not pass.
pub(super) fn block_checksum(number: u64, block: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&number.to_le_bytes());
    digest.update(block);
    digest.finalize()
}
