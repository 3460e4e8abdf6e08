//! Images: the whole state at one position, written in order and replaced as a whole.
//!
//! A head, blocks of at most 64 KiB each with length and checksum, and an end block with the length and
//! checksum of everything. The same bytes stand in `image/` and go to a client that asks for a snapshot.

use crate::disk::{Cursor, Disk, DiskError, DiskFile, write_all_at};
use crate::error::WalError;
use crate::format::{CRC, crc32c, get_u16, get_u32, get_u64, put};
use crate::format_1::{FORMAT_1, ImageHead1};
use embedded_io::{ErrorType, Read};
use quorate_types::{HardState, Identity, Index, Membership, Position, Start};
use serde::{Deserialize, Serialize};

/// Format of images this release writes and the newest it reads. Format 1 is read too: see `format_1`.
pub const IMAGE_FORMAT: u16 = 2;

/// What an image says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHead {
    /// Who wrote it.
    pub identity: Identity,
    /// Everything up to here is in it.
    pub position: Position,
    /// Members at that position.
    pub membership: Membership,
    /// Term and vote when it was written.
    pub hard_state: HardState,
    /// The start that wrote it.
    pub start: Start,
    /// Images counted by that node.
    pub number: u64,
}

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
        self.disk.rename(&temporary, &image_path(self.index))?;
        self.disk.sync_dir("image")?;
        let mut removed = false;
        for name in self.disk.list("image")? {
            if index_of(&name).is_some_and(|index| index < self.index) {
                self.disk.remove(&format!("image/{name}"))?;
                removed = true;
            }
        }
        if removed {
            self.disk.sync_dir("image")?;
        }
        Ok(bytes)
    }

    fn put(&mut self) -> Result<(), WalError> {
        write_all_at(&mut self.file, &temporary_path(self.index), self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

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
    ended: bool,
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
            ended: false,
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
        if self.ended {
            return Ok(None);
        }
        let mut prefix = [0; 8];
        self.fill(&mut prefix)?;
        let length = get_u32(&prefix, 0) as usize;
        let checksum = get_u32(&prefix, 4);
        if length == 0 {
            let mut end = [0; IMAGE_END_BYTES];
            self.fill(&mut end)?;
            if crc32c(&end) != checksum
                || get_u64(&end, 0) != self.total
                || get_u32(&end, 8) != core::mem::take(&mut self.whole).finish()
            {
                return Err(self.damaged("its end does not match what comes before"));
            }
            self.ended = true;
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

    /// Reads to the end; answers the bytes of content. For a check.
    ///
    /// # Errors
    /// As `next_block`.
    pub fn verify(mut self) -> Result<u64, WalError> {
        while self.next_block()?.is_some() {}
        Ok(self.total)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), WalError> {
        fill(&mut self.from, into).map_err(|what| self.damaged(what))
    }

    fn damaged(&self, what: &'static str) -> WalError {
        WalError::ImageDamaged { file: self.name.clone(), offset: self.offset, what }
    }
}

/// An image file found in `image/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Its path below the data folder.
    pub path: String,
    /// Its index, by its name.
    pub index: Index,
    /// Its head, or why there is none.
    pub head: Result<ImageHead, WalError>,
}

/// What `newest_image` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewestImage {
    /// Head and path of the newest image that is whole.
    pub image: Option<(ImageHead, String)>,
    /// What is wrong with newer ones.
    pub damaged: Vec<WalError>,
}

/// All images, newest first, with their heads; their blocks are not read. Makes their names durable first:
/// the log may be trimmed because of what is found here.
///
/// # Errors
/// What the disk says.
pub fn images<D: Disk>(disk: &D) -> Result<Vec<ImageFile>, WalError> {
    let mut found = Vec::new();
    let names = disk.list("image")?;
    disk.sync_dir("image")?;
    for name in names {
        if let Some(index) = index_of(&name) {
            let path = format!("image/{name}");
            let head = open_image(disk, &path).map(|reader| reader.head().clone());
            found.push(ImageFile { path, index, head });
        }
    }
    found.sort_by_key(|file| core::cmp::Reverse(file.index));
    Ok(found)
}

/// Opens an image by its path.
///
/// # Errors
/// What the disk says, `NewerFormat` or `ImageDamaged`.
pub fn open_image<D: Disk>(disk: &D, path: &str) -> Result<ImageReader<Cursor<D::File>>, WalError> {
    ImageReader::open(Cursor::new(disk.open(path)?), path)
}

/// Removes what a life that ended while it wrote an image left of it: it never counts, and can be as large as the
/// whole state.
///
/// # Errors
/// What the disk says.
pub fn remove_unfinished_images<D: Disk>(disk: &D) -> Result<(), WalError> {
    for name in disk.list("image")? {
        if name.ends_with(".tmp") {
            disk.remove(&format!("image/{name}"))?;
        }
    }
    Ok(())
}

/// The newest image whose every block holds, with its path, and what was wrong with newer ones.
///
/// An older image only helps while the log still reaches back to it: `recover` answers `Gap` if it does
/// not, and then the damage listed here is the reason.
///
/// # Errors
/// What the disk says, or `NewerFormat`: an image of a newer release must not be passed over.
pub fn newest_image<D: Disk>(disk: &D) -> Result<NewestImage, WalError> {
    let mut damaged = Vec::new();
    for file in images(disk)? {
        let checked = file.head.and_then(|head| {
            open_image(disk, &file.path)?.verify()?;
            Ok(head)
        });
        match checked {
            Ok(head) => return Ok(NewestImage { image: Some((head, file.path)), damaged }),
            Err(error @ WalError::ImageDamaged { .. }) => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(NewestImage { image: None, damaged })
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

/// Checksum of everything, taken up piece by piece.
struct Whole(crc::Digest<'static, u32, crc::Table<16>>);

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
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// Over the prefix before it and the head.
fn head_checksum(prefix: &[u8; IMAGE_PREFIX_BYTES], head: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&prefix[..IMAGE_CHECKSUM_AT]);
    digest.update(head);
    digest.finalize()
}

/// Over number and bytes: a block in another's place does not pass.
fn block_checksum(number: u64, block: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&number.to_le_bytes());
    digest.update(block);
    digest.finalize()
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

fn image_path(index: Index) -> String {
    format!("image/image-{index:020}", index = index.0)
}

fn temporary_path(index: Index) -> String {
    format!("image/image-{index:020}.tmp", index = index.0)
}

fn index_of(name: &str) -> Option<Index> {
    name.strip_prefix("image-")?.parse().ok().map(Index)
}

const IMAGE_MAGIC: [u8; 8] = *b"quoratei";
const IMAGE_MAGIC_AT: usize = 0;
const IMAGE_FORMAT_AT: usize = IMAGE_MAGIC_AT + 8;
const IMAGE_HEAD_BYTES_AT: usize = IMAGE_FORMAT_AT + 2;
const IMAGE_CHECKSUM_AT: usize = IMAGE_HEAD_BYTES_AT + 4;
const IMAGE_PREFIX_BYTES: usize = IMAGE_CHECKSUM_AT + 4;
/// Bytes of content and checksum of the whole.
const IMAGE_END_BYTES: usize = 8 + 4;
/// Content of one block.
const IMAGE_BLOCK_BYTES: usize = 64 * 1024;
const IMAGE_HEAD_BYTES_MAX: usize = 1024 * 1024;
