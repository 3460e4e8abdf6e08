//! Writes this node's own image.

use super::encode::ImageEncoder;
use super::layout::IMAGE_BLOCK_BYTES;
use super::{ImageHead, install, remove_unfinished_images};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::WalError;
use quorate_types::Index;

/// Writes an image into `image/`; nothing counts before `finish`.
pub struct ImageWriter<D: Disk> {
    disk: D,
    file: D::File,
    index: Index,
    encoder: ImageEncoder,
    buffer: Vec<u8>,
    offset: u64,
}

impl<D: Disk> ImageWriter<D> {
    /// Begins a file; removes what an earlier life left unfinished.
    ///
    /// # Errors
    /// What the disk says. The log is not touched by it.
    pub fn create(disk: D, head: &ImageHead) -> Result<ImageWriter<D>, WalError> {
        remove_unfinished_images(&disk)?;
        let index = head.position.index;
        let file = disk.create(&temporary_path(index))?;
        disk.sync_dir("image")?;
        let mut buffer = Vec::new();
        let encoder = ImageEncoder::new(head, &mut buffer);
        Ok(ImageWriter { disk, file, index, encoder, buffer, offset: 0 })
    }

    /// Takes content. Holds at most one block back.
    ///
    /// # Errors
    /// What the disk says. Not to be called again after it.
    pub fn write(&mut self, content: &[u8]) -> Result<(), WalError> {
        for piece in content.chunks(IMAGE_BLOCK_BYTES) {
            self.encoder.push(piece, &mut self.buffer);
            self.put()?;
        }
        Ok(())
    }

    /// Makes what was written so far durable: a pace for the caller, so that `finish` does not flush it all.
    ///
    /// # Errors
    /// What the disk says. Not to be called again after it.
    pub fn sync_so_far(&mut self) -> Result<(), WalError> {
        Ok(self.file.sync_data()?)
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.offset
    }

    /// Makes the image durable under its name, and only then removes older ones. Answers its bytes.
    ///
    /// # Errors
    /// What the disk says. The older image is still there unless this one counts.
    pub fn finish(mut self) -> Result<u64, WalError> {
        let encoder = self.encoder;
        encoder.finish(&mut self.buffer);
        let temporary = temporary_path(self.index);
        write_all_at(&mut self.file, &temporary, self.offset, &self.buffer)?;
        let bytes = self.offset + self.buffer.len() as u64;
        self.file.sync_data()?;
        install(&self.disk, &temporary, self.index)?;
        Ok(bytes)
    }

    fn put(&mut self) -> Result<(), WalError> {
        write_all_at(&mut self.file, &temporary_path(self.index), self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn temporary_path(index: Index) -> String {
    format!("image/image-{index:020}.tmp", index = index.0)
}
