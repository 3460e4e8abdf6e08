//! The card itself, through rustix.
//!
//! Syncs are `fdatasync`, not `O_DSYNC`: rustix's `DSYNC` equals `O_SYNC` and would write metadata each time.

use super::{Disk, DiskError, DiskErrorKind, DiskFile};
use rustix::fs::{Advice, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A data folder, locked for this process as long as any clone lives.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
    _lock: Arc<File>,
}

impl RealDisk {
    /// Opens the folder, makes what misses of it, and locks it.
    ///
    /// # Errors
    /// `Locked` if another process has it open, or what the disk says.
    pub fn open(root: &Path) -> Result<RealDisk, DiskError> {
        let path = root.display().to_string();
        let wrap = |operation, error: std::io::Error| DiskError {
            kind: DiskErrorKind::Io,
            operation,
            path: path.clone(),
            reason: error.to_string(),
        };
        // A folder whose own name is lost takes everything in it along: each one made here is synced into its
        // parent before anything in it counts.
        let missing =
            root.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()).count();
        if missing > 0 {
            std::fs::create_dir_all(root).map_err(|error| wrap("create folder", error))?;
            let whole = root.canonicalize().map_err(|error| wrap("find folder", error))?;
            for parent in whole.ancestors().skip(1).take(missing) {
                sync_folder(parent)?;
            }
        }
        let lock = open_file(&root.join("lock"), OFlags::RDWR | OFlags::CREATE)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            let mut error = refusal("lock", root, errno);
            if errno == Errno::WOULDBLOCK {
                error.kind = DiskErrorKind::Locked;
            }
            error
        })?;
        for dir in ["wal", "image"] {
            let dir = root.join(dir);
            if !dir.is_dir() {
                std::fs::create_dir(&dir).map_err(|error| wrap("create folder", error))?;
            }
        }
        sync_folder(root)?;
        Ok(RealDisk { root: root.to_owned(), _lock: Arc::new(lock) })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let path = self.root.join(dir);
        let wrap = |error: std::io::Error| DiskError {
            kind: DiskErrorKind::Io,
            operation: "list",
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        let mut names = Vec::new();
        for item in std::fs::read_dir(&path).map_err(wrap)? {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = item.map_err(wrap)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &str) -> Result<RealFile, DiskError> {
        let path = self.root.join(path);
        Ok(RealFile { file: open_file(&path, OFlags::RDWR)?, path })
    }

    fn create(&self, path: &str) -> Result<RealFile, DiskError> {
        let path = self.root.join(path);
        Ok(RealFile { file: open_file(&path, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?, path })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let from = self.root.join(from);
        rustix::fs::rename(&from, self.root.join(to)).map_err(|errno| refusal("rename", &from, errno))
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        let path = self.root.join(path);
        rustix::fs::unlink(&path).map_err(|errno| refusal("remove", &path, errno))
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        sync_folder(&self.root.join(dir))
    }
}

/// An open file.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: PathBuf,
}

impl DiskFile for RealFile {
    fn bytes(&self) -> Result<u64, DiskError> {
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| refusal("stat", &self.path, errno))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        loop {
            match rustix::io::pread(&self.file, &mut *into, offset) {
                Err(Errno::INTR) => {}
                other => return other.map_err(|errno| refusal("read", &self.path, errno)),
            }
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<usize, DiskError> {
        loop {
            match rustix::io::pwrite(&self.file, bytes, offset) {
                Err(Errno::INTR) => {}
                other => return other.map_err(|errno| refusal("write", &self.path, errno)),
            }
        }
    }

    fn allocate(&mut self, bytes: u64) -> Result<(), DiskError> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // File systems that cannot set room aside: the length alone is enough to go on.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                rustix::fs::ftruncate(&self.file, bytes).map_err(|errno| refusal("resize", &self.path, errno))
            }
            Err(errno) => Err(refusal("allocate", &self.path, errno)),
        }
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        rustix::fs::fdatasync(&self.file).map_err(|errno| refusal("sync", &self.path, errno))
    }

    fn forget_cache(&mut self) -> Result<(), DiskError> {
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)
            .map_err(|errno| refusal("forget cached", &self.path, errno))
    }
}

fn open_file(path: &Path, flags: OFlags) -> Result<File, DiskError> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(path, flags | OFlags::CLOEXEC, mode) {
        Ok(fd) => Ok(File::from(fd)),
        Err(errno) => Err(refusal("open", path, errno)),
    }
}

fn sync_folder(path: &Path) -> Result<(), DiskError> {
    let dir = open_file(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    rustix::fs::fsync(&dir).map_err(|errno| refusal("sync folder", path, errno))
}

fn refusal(operation: &'static str, path: &Path, errno: Errno) -> DiskError {
    let kind = match errno {
        Errno::NOENT => DiskErrorKind::NotFound,
        Errno::NOSPC | Errno::DQUOT => DiskErrorKind::NoSpace,
        _ => DiskErrorKind::Io,
    };
    DiskError { kind, operation, path: path.display().to_string(), reason: errno.to_string() }
}
