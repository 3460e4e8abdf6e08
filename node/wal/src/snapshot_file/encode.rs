//! Makes an image's bytes.

use super::layout::{
    IMAGE_BLOCK_BYTES, IMAGE_CHECKSUM_AT, IMAGE_END_BYTES, IMAGE_FORMAT_AT, IMAGE_HEAD_BYTES_AT, IMAGE_MAGIC,
    IMAGE_MAGIC_AT, IMAGE_PREFIX_BYTES, Whole, block_checksum, head_checksum,
};
use super::{IMAGE_FORMAT, ImageHead};
use crate::format::{crc32c, put};

/// Makes the bytes of an image, wherever they go. Every call appends to `out`.
#[derive(Debug)]
pub struct ImageEncoder {
    block: Vec<u8>,
    block_number: u64,
    total: u64,
    whole: Whole,
}

impl ImageEncoder {
    /// Appends the head.
    #[must_use]
    pub fn new(head: &ImageHead, out: &mut Vec<u8>) -> ImageEncoder {
        let head = postcard::to_allocvec(head).expect("plain values always encode into a growing vector");
        let head_bytes = u32::try_from(head.len()).expect("a head is some KiB");
        let mut prefix = [0; IMAGE_PREFIX_BYTES];
        put(&mut prefix, IMAGE_MAGIC_AT, &IMAGE_MAGIC);
        put(&mut prefix, IMAGE_FORMAT_AT, &IMAGE_FORMAT.to_le_bytes());
        put(&mut prefix, IMAGE_HEAD_BYTES_AT, &head_bytes.to_le_bytes());
        let checksum = head_checksum(&prefix, &head);
        put(&mut prefix, IMAGE_CHECKSUM_AT, &checksum.to_le_bytes());
        out.extend_from_slice(&prefix);
        out.extend_from_slice(&head);
        let mut whole = Whole::default();
        whole.update(&head);
        ImageEncoder { block: Vec::with_capacity(IMAGE_BLOCK_BYTES), block_number: 0, total: 0, whole }
    }

    /// Takes content; appends the blocks it fills.
    pub fn push(&mut self, mut content: &[u8], out: &mut Vec<u8>) {
        while !content.is_empty() {
            let (now, later) = content.split_at(content.len().min(IMAGE_BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            content = later;
            if self.block.len() == IMAGE_BLOCK_BYTES {
                self.put_block(out);
            }
        }
    }

    /// Appends the last block and the end; answers the checksum of the whole.
    pub fn finish(mut self, out: &mut Vec<u8>) -> u32 {
        self.put_block(out);
        let whole = self.whole.finish();
        let mut end = [0; IMAGE_END_BYTES];
        end[..8].copy_from_slice(&self.total.to_le_bytes());
        end[8..].copy_from_slice(&whole.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&crc32c(&end).to_le_bytes());
        out.extend_from_slice(&end);
        whole
    }

    fn put_block(&mut self, out: &mut Vec<u8>) {
        if self.block.is_empty() {
            return;
        }
        out.extend_from_slice(&u32::try_from(self.block.len()).expect("64 KiB at most").to_le_bytes());
        out.extend_from_slice(&block_checksum(self.block_number, &self.block).to_le_bytes());
        out.extend_from_slice(&self.block);
        self.whole.update(&self.block);
        self.total += self.block.len() as u64;
        self.block_number += 1;
        self.block.clear();
    }
}
