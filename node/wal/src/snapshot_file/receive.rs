//! Takes another node's image, byte for byte, until it is whole.

use super::layout::IMAGE_END_BYTES;
use super::source::ImageName;
use super::{ImageHead, install, open_image};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::WalError;
use quorate_types::{Identity, Index, Term};

/// Writes an image that another node made into `image/`. Nothing counts before `finish`; what was written may be
/// gone on with after a restart. One at a time.
pub struct ImageReceiver<D: Disk> {
    disk: D,
    file: D::File,
    name: ImageName,
    identity: Identity,
    offset: u64,
}

impl<D: Disk> ImageReceiver<D> {
    /// Begins for the node of that identity, or goes on with what an earlier connection or life has of the same image; parts of others are
    /// removed. What is there is synced, then read and checked block by block, so this takes as long as reading
    /// it.
    ///
    /// # Errors
    /// What the disk says. The log is not touched by it.
    pub fn open(disk: D, name: ImageName, identity: Identity) -> Result<ImageReceiver<D>, WalError> {
        let path = part_path(&name);
        let mut is_there = false;
        for found in disk.list("image")? {
            let found = format!("image/{found}");
            if found == path {
                is_there = true;
            } else if found.ends_with(PART) {
                disk.remove(&found)?;
            }
        }
        let mut file = if is_there { disk.open(&path)? } else { disk.create(&path)? };
        disk.sync_dir("image")?;
        let mut offset = 0;
        if is_there {
            // Readable is not durable (rule 2): an earlier life may have ended before it synced.
            file.sync_data()?;
            file.forget_cache()?;
            if let Ok(mut reader) = open_image(&disk, &path) {
                offset = reader.bytes_checked();
                while let Ok(Some(_)) = reader.next_block() {
                    offset = reader.bytes_checked();
                }
            }
            // The end is sent again: without it nothing is whole.
            offset = offset.min(name.bytes.saturating_sub(IMAGE_END_BYTES as u64));
        }
        Ok(ImageReceiver { disk, file, name, identity, offset })
    }

    /// Bytes that are there and need not be sent again: where to go on. Durable when this was just opened, later
    /// as far as `sync_so_far`.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Which image.
    #[must_use]
    pub fn name(&self) -> ImageName {
        self.name
    }

    /// Takes the bytes that follow.
    ///
    /// # Errors
    /// `ImageDamaged` if there are more than its name says, or what the disk says. Not to be called again after
    /// it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WalError> {
        let path = part_path(&self.name);
        if bytes.len() as u64 > self.name.bytes - self.offset {
            return Err(self.refuse("more bytes came than were announced"));
        }
        write_all_at(&mut self.file, &path, self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was written so far durable: a pace for the caller, so that `finish` does not flush it all.
    ///
    /// # Errors
    /// What the disk says. Not to be called again after it: what the kernel could not write is not gone on with,
    /// so the file is removed.
    pub fn sync_so_far(&mut self) -> Result<(), WalError> {
        let result = self.file.sync_data();
        if result.is_err() {
            self.disk.remove(&part_path(&self.name)).ok();
        }
        Ok(result?)
    }

    /// Reads all of it back past the cache, compares every checksum, and makes it this folder's newest image,
    /// durably. Answers its head and its bytes. From here on a start begins from it, whatever the log says
    /// (rule 5).
    ///
    /// # Errors
    /// `ImageDamaged`, `Foreign` or `NewerFormat` for bytes that are not what was announced, which are removed;
    /// or what the disk says.
    pub fn finish(mut self) -> Result<(ImageHead, u64), WalError> {
        self.sync_so_far()?;
        self.file.forget_cache()?;
        let path = part_path(&self.name);
        match self.check(&path) {
            Ok(head) => {
                install(&self.disk, &path, self.name.position.index)?;
                Ok((head, self.name.bytes))
            }
            Err(error) => {
                if !matches!(error, WalError::Disk(_)) {
                    self.disk.remove(&path)?;
                }
                Err(error)
            }
        }
    }

    /// Removes what was received. If that fails, the next image does it.
    pub fn abandon(self) {
        let ImageReceiver { disk, file, name, .. } = self;
        drop(file);
        disk.remove(&part_path(&name)).ok();
    }

    fn check(&self, path: &str) -> Result<ImageHead, WalError> {
        let mut reader = open_image(&self.disk, path)?;
        let found = reader.head().identity;
        if found.cluster != self.identity.cluster {
            return Err(WalError::Foreign { file: path.to_owned(), expected: self.identity, found });
        }
        if reader.head().position != self.name.position {
            return Err(self.refuse("it is of another position than was announced"));
        }
        let whole = reader.read_to_end()?;
        if (reader.bytes_checked(), whole) != (self.name.bytes, self.name.checksum) {
            return Err(self.refuse("it is another image than was announced"));
        }
        Ok(reader.head().clone())
    }

    fn refuse(&self, what: &'static str) -> WalError {
        WalError::ImageDamaged { file: part_path(&self.name), offset: self.offset, what }
    }
}

/// Removes what was received of images that are not whole: room the log may need.
///
/// # Errors
/// What the disk says.
pub fn remove_partial_images<D: Disk>(disk: &D) -> Result<(), WalError> {
    for name in disk.list("image")? {
        if name.ends_with(PART) {
            disk.remove(&format!("image/{name}"))?;
        }
    }
    Ok(())
}

/// Index of the image a part belongs to.
pub(super) fn part_index_of(name: &str) -> Option<Index> {
    let figures = name.strip_prefix("image-")?.strip_suffix(PART)?;
    figures.split('-').next()?.parse().ok().map(Index)
}

fn part_path(name: &ImageName) -> String {
    let ImageName { position, bytes, checksum } = name;
    let (Index(index), Term(term)) = (position.index, position.term);
    format!("image/image-{index:020}-{term}-{bytes}-{checksum:08x}{PART}")
}

/// Not `.tmp`: a start keeps it.
const PART: &str = ".part";
