//! Files of some KiB beside the log, replaced as a whole: this node's key, the starts of its peers.
//!
//! A prefix with format, length and checksum, then the content. Written under another name, synced, renamed, and
//! the folder synced: after a power cut there is the old content or the new one.

use crate::disk::{Disk, DiskErrorKind, DiskFile, read_all_at, write_all_at};
use crate::error::WalError;
use crate::format::{CRC, get_u16, get_u32, put};

/// Most bytes of content.
pub const SMALL_FILE_BYTES_MAX: usize = 256 * 1024;

/// Syncs that replacing a small file takes: the file, and the folder.
pub const SMALL_FILE_SYNC_COUNT: u64 = 2;

/// Makes `content` what stands in that file of the data folder, durably, and answers how many bytes it wrote. On a
/// real disk only its owner may read it.
///
/// # Errors
/// What the disk says; what was there before still is, or the new content.
///
/// # Panics
/// If the content is longer than `SMALL_FILE_BYTES_MAX`, or the name is no plain name.
pub fn write_small_file<D: Disk>(disk: &D, name: &str, content: &[u8]) -> Result<u64, WalError> {
    assert!(content.len() <= SMALL_FILE_BYTES_MAX, "a small file is small");
    assert!(!name.is_empty() && !name.contains(['/', '.']), "a small file has a plain name");
    let mut bytes = vec![0; SMALL_PREFIX_BYTES];
    put(&mut bytes, SMALL_MAGIC_AT, &SMALL_MAGIC);
    put(&mut bytes, SMALL_FORMAT_AT, &SMALL_FORMAT.to_le_bytes());
    let content_bytes = u32::try_from(content.len()).expect("bounded above");
    put(&mut bytes, SMALL_CONTENT_BYTES_AT, &content_bytes.to_le_bytes());
    bytes.extend_from_slice(content);
    let checksum = checksum(name, &bytes);
    put(&mut bytes, SMALL_CHECKSUM_AT, &checksum.to_le_bytes());
    let temporary = format!("{name}.tmp");
    let mut file = disk.create(&temporary)?;
    write_all_at(&mut file, &temporary, 0, &bytes)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, name)?;
    disk.sync_dir("")?;
    Ok(u64::try_from(bytes.len()).expect("bounded above"))
}

/// What stands in that file; `None` if there is none. Its name is made durable first: what is read may be acted
/// upon.
///
/// # Errors
/// `FileDamaged`, `NewerFormat`, or what the disk says.
pub fn read_small_file<D: Disk>(disk: &D, name: &str) -> Result<Option<Vec<u8>>, WalError> {
    let damaged = |what| WalError::FileDamaged { file: name.to_owned(), what };
    let mut file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    disk.sync_dir("")?;
    // One byte more than any has, to see that it ends.
    let mut bytes = vec![0; SMALL_PREFIX_BYTES + SMALL_FILE_BYTES_MAX + 1];
    let filled = read_all_at(&mut file, 0, &mut bytes)?;
    bytes.truncate(filled);
    if bytes.len() < SMALL_PREFIX_BYTES || bytes[..SMALL_FORMAT_AT] != SMALL_MAGIC {
        return Err(damaged("it does not begin as it should"));
    }
    let format = get_u16(&bytes, SMALL_FORMAT_AT);
    if format > SMALL_FORMAT {
        return Err(WalError::NewerFormat { file: name.to_owned(), found: format, known: SMALL_FORMAT });
    }
    let content_bytes = get_u32(&bytes, SMALL_CONTENT_BYTES_AT) as usize;
    let found = get_u32(&bytes, SMALL_CHECKSUM_AT);
    put(&mut bytes, SMALL_CHECKSUM_AT, &[0; 4]);
    if bytes.len() != SMALL_PREFIX_BYTES + content_bytes || found != checksum(name, &bytes) {
        return Err(damaged("it does not match its checksum"));
    }
    Ok(Some(bytes.split_off(SMALL_PREFIX_BYTES)))
}

/// Over name, prefix (with zeros for the checksum) and content: a file under another's name does not pass.
fn checksum(name: &str, bytes: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(name.as_bytes());
    digest.update(bytes);
    digest.finalize()
}

const SMALL_FORMAT: u16 = 1;
const SMALL_MAGIC: [u8; 8] = *b"quorates";
const SMALL_MAGIC_AT: usize = 0;
const SMALL_FORMAT_AT: usize = SMALL_MAGIC_AT + 8;
const SMALL_RESERVED_AT: usize = SMALL_FORMAT_AT + 2;
const SMALL_CONTENT_BYTES_AT: usize = SMALL_RESERVED_AT + 2;
const SMALL_CHECKSUM_AT: usize = SMALL_CONTENT_BYTES_AT + 4;
const SMALL_PREFIX_BYTES: usize = SMALL_CHECKSUM_AT + 4;
