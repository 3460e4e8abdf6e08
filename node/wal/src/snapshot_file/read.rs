//! Reads an image back, from a file or a stream.

use super::layout::{
    IMAGE_BLOCK_BYTES, IMAGE_CHECKSUM_AT, IMAGE_END_BYTES, IMAGE_FORMAT_AT, IMAGE_HEAD_BYTES_AT,
    IMAGE_HEAD_BYTES_MAX, IMAGE_MAGIC, IMAGE_PREFIX_BYTES, Whole, block_checksum, head_checksum,
};
use super::{IMAGE_FORMAT, ImageHead};
use crate::disk::DiskError;
use crate::error::WalError;
use crate::format::{crc32c, get_u16, get_u32, get_u64};
use crate::format_1::{FORMAT_1, ImageHead1};
use embedded_io::{ErrorType, Read};

/// Reads an image from any stream, a block at a time; what it hands out was checked.
pub struct ImageReader<R> {
    from: R,
    name: String,
    head: ImageHead,
    block: Vec<u8>,
    block_number: u64,
    offset: u64,
    total: u64,
    whole: Whole,
    /// Checksum of the whole, once the end has confirmed it.
    ended: Option<u32>,
}

impl<R: Read> ImageReader<R> {
    /// Reads the head; `name` is what errors call the stream.
    ///
    /// # Errors
    /// `NewerFormat`, or `ImageDamaged` for a stream that is no image.
    pub fn open(mut from: R, name: &str) -> Result<ImageReader<R>, WalError> {
        let damaged = |offset, what| WalError::ImageDamaged { file: name.to_owned(), offset, what };
        let mut prefix = [0; IMAGE_PREFIX_BYTES];
        fill(&mut from, &mut prefix).map_err(|what| damaged(0, what))?;
        if prefix[..IMAGE_FORMAT_AT] != IMAGE_MAGIC {
            return Err(damaged(0, "it does not begin like an image"));
        }
        let format = get_u16(&prefix, IMAGE_FORMAT_AT);
        if format > IMAGE_FORMAT {
            return Err(WalError::NewerFormat { file: name.to_owned(), found: format, known: IMAGE_FORMAT });
        }
        let head_bytes = get_u32(&prefix, IMAGE_HEAD_BYTES_AT) as usize;
        if head_bytes > IMAGE_HEAD_BYTES_MAX {
            return Err(damaged(12, "its head is longer than any head"));
        }
        let mut head = vec![0; head_bytes];
        let start = IMAGE_PREFIX_BYTES as u64;
        fill(&mut from, &mut head).map_err(|what| damaged(start, what))?;
        if head_checksum(&prefix, &head) != get_u32(&prefix, IMAGE_CHECKSUM_AT) {
            return Err(damaged(start, "its head does not match its checksum"));
        }
        let mut whole = Whole::default();
        whole.update(&head);
        let offset = start + head.len() as u64;
        let head = if format == FORMAT_1 {
            postcard::from_bytes::<ImageHead1>(&head).map(ImageHead::from)
        } else {
            postcard::from_bytes(&head)
        };
        let head = head.map_err(|_| damaged(start, "its head makes no sense"))?;
        let name = name.to_owned();
        Ok(ImageReader {
            from,
            name,
            head,
            block: Vec::new(),
            block_number: 0,
            offset,
            total: 0,
            whole,
            ended: None,
        })
    }

    /// What it says about itself.
    pub fn head(&self) -> &ImageHead {
        &self.head
    }

    /// The next block of content, at most 64 KiB; `None` once the end block has confirmed the whole.
    ///
    /// # Errors
    /// `ImageDamaged`: what was handed out before is right, and not all of it.
    pub fn next_block(&mut self) -> Result<Option<&[u8]>, WalError> {
        if self.ended.is_some() {
            return Ok(None);
        }
        let mut prefix = [0; 8];
        self.fill(&mut prefix)?;
        let length = get_u32(&prefix, 0) as usize;
        let checksum = get_u32(&prefix, 4);
        if length == 0 {
            let mut end = [0; IMAGE_END_BYTES];
            self.fill(&mut end)?;
            let whole = core::mem::take(&mut self.whole).finish();
            if crc32c(&end) != checksum || get_u64(&end, 0) != self.total || get_u32(&end, 8) != whole {
                return Err(self.damaged("its end does not match what comes before"));
            }
            self.offset += (prefix.len() + IMAGE_END_BYTES) as u64;
            self.ended = Some(whole);
            return Ok(None);
        }
        if length > IMAGE_BLOCK_BYTES {
            return Err(self.damaged("a block is longer than any block"));
        }
        let mut block = core::mem::take(&mut self.block);
        block.resize(length, 0);
        self.fill(&mut block)?;
        if block_checksum(self.block_number, &block) != checksum {
            return Err(self.damaged("a block does not match its checksum"));
        }
        self.whole.update(&block);
        self.total += length as u64;
        self.block_number += 1;
        self.offset += (prefix.len() + length) as u64;
        self.block = block;
        Ok(Some(&self.block))
    }

    /// Bytes of the stream that were read and hold: head, whole blocks, end.
    #[must_use]
    pub fn bytes_checked(&self) -> u64 {
        self.offset
    }

    /// Reads to the end; answers the bytes of content. For a check.
    ///
    /// # Errors
    /// As `next_block`.
    pub fn verify(mut self) -> Result<u64, WalError> {
        self.read_to_end()?;
        Ok(self.total)
    }

    /// Reads to the end; answers the checksum of the whole.
    pub(super) fn read_to_end(&mut self) -> Result<u32, WalError> {
        while self.next_block()?.is_some() {}
        Ok(self.ended.expect("the last block comes before the end only"))
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), WalError> {
        fill(&mut self.from, into).map_err(|what| self.damaged(what))
    }

    fn damaged(&self, what: &'static str) -> WalError {
        WalError::ImageDamaged { file: self.name.clone(), offset: self.offset, what }
    }
}

/// Lets an image be read from what std reads: a file given by name, a socket.
#[derive(Debug)]
pub struct StdRead<R>(pub R);

/// An error of std, as embedded-io wants one.
impl<R> ErrorType for StdRead<R> {
    type Error = DiskError;
}

impl<R: std::io::Read> Read for StdRead<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, DiskError> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(DiskError {
                        kind: crate::DiskErrorKind::Io,
                        operation: "read",
                        path: "the stream".to_owned(),
                        reason: error.to_string(),
                    });
                }
                Ok(count) => return Ok(count),
            }
        }
    }
}

fn fill<R: Read>(from: &mut R, mut into: &mut [u8]) -> Result<(), &'static str> {
    while !into.is_empty() {
        match from.read(into) {
            Ok(0) => return Err("it ends too early"),
            Ok(count) => into = &mut into[count..],
            Err(_) => return Err("it cannot be read"),
        }
    }
    Ok(())
}
