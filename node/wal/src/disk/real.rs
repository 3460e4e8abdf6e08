//! The card itself, through rustix.
//!
//! Syncs are `fdatasync`, not `O_DSYNC`: rustix's `DSYNC` equals `O_SYNC` and would write metadata each time.

use super::{Disk, DiskError, DiskErrorKind, DiskFile};
use rustix::fs::{Advice, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A data folder, locked for this process as long as any clone lives.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
    names: Arc<Names>,
    _lock: Arc<File>,
}

/// What is known of each folder's names.
#[derive(Debug, Default)]
struct Names {
    root: Folder,
    wal: Folder,
    image: Folder,
}

/// Counts the changes of a folder's names by this process, which alone makes any while it holds the lock. A folder
/// that is synced and did not change since is not synced again: that would cost the card a flush for nothing.
#[derive(Debug, Default)]
struct Folder {
    changed: AtomicU64,
    /// How many of the changes are synced, and one more: what an earlier process did counts too.
    synced: AtomicU64,
}

impl Folder {
    /// The state to be synced, if it is not yet.
    fn due(&self) -> Option<u64> {
        let state = self.changed.load(Ordering::SeqCst) + 1;
        (self.synced.load(Ordering::SeqCst) < state).then_some(state)
    }

    fn is_synced(&self, state: u64) {
        self.synced.fetch_max(state, Ordering::SeqCst);
    }
}

impl Names {
    fn of(&self, folder: &str) -> Option<&Folder> {
        match folder {
            "" => Some(&self.root),
            "wal" => Some(&self.wal),
            "image" => Some(&self.image),
            _ => None,
        }
    }

    /// To be told after the change: a sync that began before it may have missed it.
    fn changed(&self, path: &str) {
        if let Some(folder) = self.of(path.rsplit_once('/').map_or("", |(folder, _)| folder)) {
            folder.changed.fetch_add(1, Ordering::SeqCst);
        }
    }
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
        let disk = RealDisk { root: root.to_owned(), names: Arc::default(), _lock: Arc::new(lock) };
        disk.sync_dir("")?;
        Ok(disk)
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
        let whole = self.root.join(path);
        let file = open_file(&whole, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC);
        self.names.changed(path);
        Ok(RealFile { file: file?, path: whole })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let from = self.root.join(from);
        let renamed = rustix::fs::rename(&from, self.root.join(to));
        self.names.changed(to);
        renamed.map_err(|errno| refusal("rename", &from, errno))
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        let whole = self.root.join(path);
        let removed = rustix::fs::unlink(&whole);
        self.names.changed(path);
        removed.map_err(|errno| refusal("remove", &whole, errno))
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let Some(folder) = self.names.of(dir) else { return sync_folder(&self.root.join(dir)) };
        if let Some(state) = folder.due() {
            sync_folder(&self.root.join(dir))?;
            folder.is_synced(state);
        }
        Ok(())
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

    fn read_scattered(&mut self) -> Result<(), DiskError> {
        rustix::fs::fadvise(&self.file, 0, None, Advice::Random)
            .map_err(|errno| refusal("advise on", &self.path, errno))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_synced_once_for_each_change() {
        let names = Names::default();
        let wal = names.of("wal").unwrap();
        let first = wal.due().expect("an earlier process may have left it unsynced");
        wal.is_synced(first);
        assert_eq!(wal.due(), None);
        names.changed("image/image-1");
        names.changed("key");
        assert_eq!(wal.due(), None);
        names.changed("wal/segment-0001");
        let second = wal.due().expect("a name changed");
        // A change during the sync may not be in it; one that was told of before is.
        names.changed("wal/segment-0002");
        wal.is_synced(second);
        let third = wal.due().expect("a name changed");
        wal.is_synced(third);
        wal.is_synced(second);
        assert_eq!(wal.due(), None);
        assert!(names.of("").unwrap().due().is_some() && names.of("nothing").is_none());
    }

    #[test]
    fn changes_are_counted_where_they_happen() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        let due = |name| disk.names.of(name).unwrap().due().is_some();
        assert!(!due("") && due("wal") && due("image"));
        disk.sync_dir("wal").unwrap();
        assert!(!due("wal"));
        let steps: [&dyn Fn(); 3] =
            [&|| drop(disk.create("wal/a").unwrap()), &|| disk.rename("wal/a", "wal/b").unwrap(), &|| {
                disk.remove("wal/b").unwrap()
            }];
        for step in steps {
            step();
            assert!(due("wal") && !due(""));
            disk.clone().sync_dir("wal").unwrap();
            assert!(!due("wal"));
        }
    }
}
