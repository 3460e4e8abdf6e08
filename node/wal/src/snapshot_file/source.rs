//! An image file as another node gets it: its bytes, from any offset on.

use super::layout::IMAGE_END_BYTES;
use super::{ImageHead, images};
use crate::DiskErrorKind;
use crate::disk::{Disk, DiskFile, read_all_at};
use crate::error::WalError;
use crate::format::get_u32;
use quorate_types::Position;

/// Names one image file: two with the same name have the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageName {
    /// Everything up to here is in it.
    pub position: Position,
    /// Bytes of the file.
    pub bytes: u64,
    /// The checksum of head and content that its end holds: images of the same position, made by different
    /// nodes, differ in their heads.
    pub checksum: u32,
}

/// The newest image, held open: newer ones may come and its name go, its bytes stay until this is dropped.
pub struct ImageSource<F> {
    file: F,
    name: ImageName,
    head: ImageHead,
}

impl<F: DiskFile> ImageSource<F> {
    /// Opens the newest image whose head holds; `None` if there is none. Its blocks are not read: who receives
    /// it checks them.
    ///
    /// # Errors
    /// What the disk says, or `NewerFormat`.
    pub fn newest<D: Disk<File = F>>(disk: &D) -> Result<Option<ImageSource<F>>, WalError> {
        for found in images(disk)? {
            let head = match found.head {
                Ok(head) => head,
                Err(WalError::ImageDamaged { .. }) => continue,
                Err(WalError::Disk(error)) if error.kind == DiskErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut file = match disk.open(&found.path) {
                Ok(file) => file,
                // A newer image came, and this one was removed since the folder was read.
                Err(error) if error.kind == DiskErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let bytes = file.bytes()?;
            let mut end = [0; IMAGE_END_BYTES];
            let at = bytes.saturating_sub(IMAGE_END_BYTES as u64);
            if read_all_at(&mut file, at, &mut end)? == IMAGE_END_BYTES {
                let checksum = get_u32(&end, IMAGE_END_BYTES - 4);
                let name = ImageName { position: head.position, bytes, checksum };
                return Ok(Some(ImageSource { file, name, head }));
            }
        }
        Ok(None)
    }

    /// What the receiver must know to begin or to go on.
    pub fn name(&self) -> ImageName {
        self.name
    }

    /// What the image says about itself.
    pub fn head(&self) -> &ImageHead {
        &self.head
    }

    /// Reads at `offset`; fewer bytes than asked for only at the end.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, WalError> {
        Ok(read_all_at(&mut self.file, offset, into)?)
    }
}
