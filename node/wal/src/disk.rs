//! The door to the card: positioned writes, syncs, and the few directory operations the log needs.
//!
//! Paths are below the data folder and written `wal/segment-0001`. Positioned reads and writes have no
//! trait in embedded-io; `Cursor` gives a file its stream traits, and `DiskError` is one of its errors.

pub mod real;
pub mod sim;

use core::fmt;

/// A folder on a card. Clones name the same folder, for other threads.
pub trait Disk: Clone + Send + 'static {
    /// A file on it.
    type File: DiskFile;

    /// Names of the files in `dir`, in no order; none if there is no such folder.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError>;

    /// Opens an existing file to read and write.
    ///
    /// # Errors
    /// What the disk says; `NotFound` among it.
    fn open(&self, path: &str) -> Result<Self::File, DiskError>;

    /// Makes a file, or empties the one there. Counts only after `sync_dir`.
    ///
    /// # Errors
    /// What the disk says.
    fn create(&self, path: &str) -> Result<Self::File, DiskError>;

    /// Gives a file another name in its folder, in place of any other file there. Counts only after
    /// `sync_dir`.
    ///
    /// # Errors
    /// What the disk says.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file. Counts only after `sync_dir`.
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&self, path: &str) -> Result<(), DiskError>;

    /// Makes what was created, renamed and removed in `dir` survive power loss.
    ///
    /// # Errors
    /// What the disk says. Final.
    fn sync_dir(&self, dir: &str) -> Result<(), DiskError>;
}

/// One open file.
pub trait DiskFile: Send + 'static {
    /// Its length.
    ///
    /// # Errors
    /// What the disk says.
    fn bytes(&self) -> Result<u64, DiskError>;

    /// Reads at `offset`; fewer bytes than asked for only at the end of the file or by the disk's whim.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, DiskError>;

    /// Writes at `offset`; may write fewer bytes than given.
    ///
    /// # Errors
    /// What the disk says. Final.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<usize, DiskError>;

    /// Makes the file that long, with room set aside for it where the disk can.
    ///
    /// # Errors
    /// What the disk says; `NoSpace` among it.
    fn allocate(&mut self, bytes: u64) -> Result<(), DiskError>;

    /// Makes the bytes, and the length needed to find them, survive power loss.
    ///
    /// # Errors
    /// What the disk says. Final: a second try may succeed without the bytes being there.
    fn sync_data(&mut self) -> Result<(), DiskError>;

    /// Asks that later reads come from the card and not from memory. A wish, not a promise.
    ///
    /// # Errors
    /// What the disk says.
    fn forget_cache(&mut self) -> Result<(), DiskError>;

    /// Says that reads through this handle come here and there: the system shall read what is asked for and nothing
    /// ahead of it. A wish, not a promise.
    ///
    /// # Errors
    /// What the disk says.
    fn read_scattered(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// What kind of refusal it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// No such file.
    NotFound,
    /// The disk is full.
    NoSpace,
    /// Another process holds the folder.
    Locked,
    /// Anything else.
    Io,
}

/// A refusal of the disk: what was tried, where, and what the system said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskError {
    /// What kind.
    pub kind: DiskErrorKind,
    /// What was tried.
    pub operation: &'static str,
    /// On which path.
    pub path: String,
    /// The system's words.
    pub reason: String,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DiskError { kind, operation, path, reason } = self;
        match kind {
            DiskErrorKind::Locked => {
                write!(f, "{path} is in use by another process: give each node its own folder")
            }
            DiskErrorKind::NoSpace => {
                write!(f, "{operation} {path}: the disk is full ({reason}): make room and start again")
            }
            DiskErrorKind::NotFound => write!(f, "{operation} {path}: there is no such file ({reason})"),
            DiskErrorKind::Io => write!(
                f,
                "{operation} {path}: {reason}. The disk refused: check card, file system and rights"
            ),
        }
    }
}

impl core::error::Error for DiskError {}

impl embedded_io::Error for DiskError {
    fn kind(&self) -> embedded_io::ErrorKind {
        match self.kind {
            DiskErrorKind::NotFound => embedded_io::ErrorKind::NotFound,
            DiskErrorKind::NoSpace => embedded_io::ErrorKind::OutOfMemory,
            DiskErrorKind::Locked => embedded_io::ErrorKind::AddrInUse,
            DiskErrorKind::Io => embedded_io::ErrorKind::Other,
        }
    }
}

/// A file read or written from its start on, as embedded-io sees a stream.
#[derive(Debug)]
pub struct Cursor<F> {
    file: F,
    offset: u64,
}

impl<F: DiskFile> Cursor<F> {
    /// Starts at the file's first byte.
    pub fn new(file: F) -> Cursor<F> {
        Cursor { file, offset: 0 }
    }

    /// The file, to sync it.
    pub fn file_mut(&mut self) -> &mut F {
        &mut self.file
    }
}

impl<F> embedded_io::ErrorType for Cursor<F> {
    type Error = DiskError;
}

impl<F: DiskFile> embedded_io::Read for Cursor<F> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, DiskError> {
        let count = self.file.read_at(self.offset, into)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl<F: DiskFile> embedded_io::Write for Cursor<F> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, DiskError> {
        let count = self.file.write_at(self.offset, bytes)?;
        self.offset += count as u64;
        Ok(count)
    }

    /// Nothing is held back here; syncing is `DiskFile::sync_data`, by name.
    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// Writes all of it, whatever the disk takes at a time.
pub(crate) fn write_all_at<F: DiskFile>(
    file: &mut F,
    path: &str,
    offset: u64,
    bytes: &[u8],
) -> Result<(), DiskError> {
    let mut written = 0;
    while written < bytes.len() {
        let count = file.write_at(offset + written as u64, &bytes[written..])?;
        if count == 0 {
            let reason = "the disk takes no more bytes".to_owned();
            return Err(DiskError {
                kind: DiskErrorKind::Io,
                operation: "write",
                path: path.to_owned(),
                reason,
            });
        }
        written += count;
    }
    Ok(())
}

/// Reads until `into` is full or the file ends; answers how much was read.
pub(crate) fn read_all_at<F: DiskFile>(
    file: &mut F,
    offset: u64,
    into: &mut [u8],
) -> Result<usize, DiskError> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(offset + filled as u64, &mut into[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
