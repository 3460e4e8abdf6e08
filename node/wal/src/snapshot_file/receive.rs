//! Takes another node's image, byte for byte, until it is whole.

use super::layout::IMAGE_END_BYTES;
use super::read::ImageReader;
use super::source::ImageName;
use super::{ImageHead, install, open_image};
use crate::disk::{Cursor, Disk, DiskFile, write_all_at};
use crate::error::WalError;
use quorate_types::{Identity, Index, Term};

/// Writes an image that another node made into `image/`. Nothing counts before `install`; what was written may be
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

    /// Makes what was written so far durable: a pace for the caller, so that `read_back` does not flush it all.
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

    /// Makes all of it durable and opens it to be read back past the cache: whoever reads every block knows that
    /// it is whole, and may load it meanwhile. Then `install`, or `abandon` if its content is of no use: what a
    /// node cannot load must not become its newest image.
    ///
    /// # Errors
    /// `ImageDamaged`, `Foreign` or `NewerFormat` for a head that is not what was announced: the file is removed
    /// then; or what the disk says.
    pub fn read_back(&mut self) -> Result<ImageReader<Cursor<D::File>>, WalError> {
        self.sync_so_far()?;
        self.file.forget_cache()?;
        let opened = open_image(&self.disk, &part_path(&self.name)).and_then(|reader| {
            let found = reader.head().identity;
            if found.cluster != self.identity.cluster {
                let file = part_path(&self.name);
                return Err(WalError::Foreign { file, expected: self.identity, found });
            }
            if reader.head().position != self.name.position {
                return Err(self.refuse("it is of another position than was announced"));
            }
            Ok(reader)
        });
        self.remove_unless_kept(opened)
    }

    /// Makes it this folder's newest image, durably, once `read` has come to its end; what is left is read now.
    /// Answers its head and its bytes. From here on a start begins from it, whatever the log says (rule 5).
    ///
    /// # Errors
    /// As `read_back`, and `ImageDamaged` for blocks that are not what was announced.
    pub fn install(self, mut read: ImageReader<Cursor<D::File>>) -> Result<(ImageHead, u64), WalError> {
        let whole = read.read_to_end().and_then(|checksum| {
            if (read.bytes_checked(), checksum) == (self.name.bytes, self.name.checksum) {
                Ok(read.head().clone())
            } else {
                Err(self.refuse("it is another image than was announced"))
            }
        });
        let head = self.remove_unless_kept(whole)?;
        install(&self.disk, &part_path(&self.name), self.name.position.index)?;
        Ok((head, self.name.bytes))
    }

    /// `read_back` and `install` in one, for a content that needs no loading.
    ///
    /// # Errors
    /// As those.
    pub fn finish(mut self) -> Result<(ImageHead, u64), WalError> {
        let read = self.read_back()?;
        self.install(read)
    }

    /// Removes what was received. If that fails, the next image does it.
    pub fn abandon(self) {
        let ImageReceiver { disk, file, name, .. } = self;
        drop(file);
        disk.remove(&part_path(&name)).ok();
    }

    /// What the disk refused may be tried again; what is wrong stays wrong, and goes.
    fn remove_unless_kept<T>(&self, result: Result<T, WalError>) -> Result<T, WalError> {
        if result.as_ref().is_err_and(|error| !matches!(error, WalError::Disk(_))) {
            self.disk.remove(&part_path(&self.name))?;
        }
        result
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
