//! A card in memory that forgets like a real one, for tests of this room and of others.
//!
//! Between syncs each 512-byte sector written, each length and each name is kept or lost by itself when
//! the power goes. Nothing sleeps: time is a counter.

use super::{Disk, DiskError, DiskErrorKind, DiskFile};
use quorate_types::limits::SECTOR_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// The card. Clones are the same card; `fork` is another one with the same contents.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

/// What the card was asked to do so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Positioned writes.
    pub writes: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// File syncs.
    pub syncs: u64,
    /// Files created, renamed and removed, folders synced, and syncs that had a new length to write:
    /// each costs a journal commit on a real file system.
    pub metadata: u64,
    /// Microseconds the card would have been busy, by the figures of `set_latency`.
    pub busy_us: u64,
}

/// Sees a write before it happens: path, offset, the bytes there and the bytes to come.
pub type Guard = Box<dyn FnMut(&str, u64, &[u8], &[u8]) + Send>;

#[derive(Default)]
struct Inner {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    names_durable: BTreeMap<String, usize>,
    changes: Vec<Change>,
    counters: Counters,
    operations: u64,
    cut_at: Option<u64>,
    fail_at: Option<(u64, DiskErrorKind)>,
    dead: bool,
    short_writes: bool,
    write_us_per_kib: u64,
    sync_us: u64,
    guard: Option<Guard>,
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// A change of a folder that no `sync_dir` has made durable yet.
#[derive(Clone)]
enum Change {
    Name(String, usize),
    Unname(String),
    Rename(String, String),
}

/// A file on the card.
pub struct SimFile {
    disk: SimDisk,
    path: String,
    inode: usize,
}

impl SimDisk {
    /// An empty card without latency or faults.
    #[must_use]
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// Another card with the same contents, names, and unsynced sectors; without faults and guard.
    #[must_use]
    pub fn fork(&self) -> SimDisk {
        let inner = self.lock();
        SimDisk {
            inner: Arc::new(Mutex::new(Inner {
                inodes: inner.inodes.clone(),
                names: inner.names.clone(),
                names_durable: inner.names_durable.clone(),
                changes: inner.changes.clone(),
                counters: inner.counters,
                operations: inner.operations,
                ..Inner::default()
            })),
        }
    }

    /// Writes, syncs and directory operations so far: what `cut_at` and `fail_at` count.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// The power goes during that operation: its bytes may reach the card, its answer never arrives, and
    /// each later operation fails until `power_cut`.
    pub fn cut_at(&self, operation: u64) {
        self.lock().cut_at = Some(operation);
    }

    /// That operation fails. A failed sync leaves its bytes readable and clean, and off the card.
    pub fn fail_at(&self, operation: u64, kind: DiskErrorKind) {
        self.lock().fail_at = Some((operation, kind));
    }

    /// From now on each write takes half of what it is given.
    pub fn set_short_writes(&self, short: bool) {
        self.lock().short_writes = short;
    }

    /// What `Counters::busy_us` counts.
    pub fn set_latency(&self, write_us_per_kib: u64, sync_us: u64) {
        let mut inner = self.lock();
        inner.write_us_per_kib = write_us_per_kib;
        inner.sync_us = sync_us;
    }

    /// Lets `guard` see every later write.
    pub fn set_guard(&self, guard: Option<Guard>) {
        self.lock().guard = guard;
    }

    /// The power goes and comes back: `keep(path, sector)` says for each sector not yet synced whether it
    /// reached the card, and `keep("", n)` whether the n-th directory change did (the first that did not
    /// takes all later ones along, as a journal does). Open files are void.
    pub fn power_cut(&self, keep: &mut dyn FnMut(&str, usize) -> bool) {
        let mut inner = self.lock();
        let changes = core::mem::take(&mut inner.changes);
        for (number, change) in changes.into_iter().enumerate() {
            if !keep("", number) {
                break;
            }
            apply(&mut inner.names_durable, change);
        }
        inner.names = inner.names_durable.clone();
        let names = inner.names.clone();
        for (path, inode) in names {
            inner.inodes[inode].cut(&path, keep);
        }
        inner.dead = false;
        inner.cut_at = None;
        inner.fail_at = None;
    }

    /// Sectors a cut now would decide about, with their files.
    #[must_use]
    pub fn unsynced(&self) -> Vec<(String, usize)> {
        let inner = self.lock();
        let sectors = |(path, inode): (&String, &usize)| {
            inner.inodes[*inode].dirty.iter().map(|sector| (path.clone(), *sector)).collect::<Vec<_>>()
        };
        inner.names.iter().flat_map(sectors).collect()
    }

    /// The card turns a bit of a file around.
    ///
    /// # Panics
    /// If there is no such file or bit.
    pub fn flip(&self, path: &str, bit: usize) {
        let mut inner = self.lock();
        let inode = inner.names[path];
        inner.inodes[inode].now[bit / 8] ^= 1 << (bit % 8);
        inner.inodes[inode].durable[bit / 8] ^= 1 << (bit % 8);
    }

    /// A file's bytes as a reader sees them.
    #[must_use]
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        inner.names.get(path).map(|inode| inner.inodes[*inode].now.clone())
    }

    /// Puts a whole, durable file in place: files from elsewhere.
    pub fn plant(&self, path: &str, bytes: &[u8]) {
        let mut inner = self.lock();
        let inode = inner.inodes.len();
        inner.inodes.push(Inode { now: bytes.to_vec(), durable: bytes.to_vec(), dirty: BTreeSet::new() });
        inner.names.insert(path.to_owned(), inode);
        inner.names_durable.insert(path.to_owned(), inode);
    }

    /// Paths of all files.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a test that panics inside the simulated card has failed anyway")
    }
}

impl Inner {
    /// Counts one operation; says whether it may go on, and whether the power goes during it.
    fn enter(&mut self, operation: &'static str, path: &str) -> Result<bool, DiskError> {
        let refuse = |kind, reason: &str| {
            Err(DiskError { kind, operation, path: path.to_owned(), reason: reason.to_owned() })
        };
        if self.dead {
            return refuse(DiskErrorKind::Io, "the power is off");
        }
        let number = self.operations;
        self.operations += 1;
        if let Some((_, kind)) = self.fail_at.filter(|(at, _)| *at == number) {
            return refuse(kind, "simulated failure");
        }
        self.dead = self.cut_at == Some(number);
        Ok(self.dead)
    }

    fn leave(cut: bool, operation: &'static str, path: &str) -> Result<(), DiskError> {
        if cut {
            let reason = "the power went".to_owned();
            return Err(DiskError { kind: DiskErrorKind::Io, operation, path: path.to_owned(), reason });
        }
        Ok(())
    }

    fn change(&mut self, operation: &'static str, path: &str, change: Change) -> Result<(), DiskError> {
        let cut = self.enter(operation, path)?;
        self.counters.metadata += 1;
        apply(&mut self.names, change.clone());
        self.changes.push(change);
        Inner::leave(cut, operation, path)
    }
}

impl Inode {
    fn cut(&mut self, path: &str, keep: &mut dyn FnMut(&str, usize) -> bool) {
        for sector in core::mem::take(&mut self.dirty) {
            let from = sector * SECTOR_BYTES;
            let to = self.now.len().min(from + SECTOR_BYTES);
            if from < to && keep(path, sector) {
                if self.durable.len() < to {
                    self.durable.resize(to, 0);
                }
                self.durable[from..to].copy_from_slice(&self.now[from..to]);
            }
        }
        self.now.clone_from(&self.durable);
    }

    fn sync(&mut self) -> bool {
        let grown = self.durable.len() != self.now.len();
        self.durable.resize(self.now.len(), 0);
        for sector in core::mem::take(&mut self.dirty) {
            let from = sector * SECTOR_BYTES;
            let to = self.now.len().min(from + SECTOR_BYTES);
            self.durable[from..to].copy_from_slice(&self.now[from..to]);
        }
        grown
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: Change) {
    match change {
        Change::Name(path, inode) => {
            names.insert(path, inode);
        }
        Change::Unname(path) => {
            names.remove(&path);
        }
        Change::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}

/// The file's name, if it stands in that folder; the data folder itself is the empty path.
fn name_in<'a>(dir: &str, path: &'a str) -> Option<&'a str> {
    let name = if dir.is_empty() { path } else { path.strip_prefix(dir)?.strip_prefix('/')? };
    (!name.contains('/')).then_some(name)
}

fn missing(operation: &'static str, path: &str) -> DiskError {
    let reason = "not on the simulated card".to_owned();
    DiskError { kind: DiskErrorKind::NotFound, operation, path: path.to_owned(), reason }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let inner = self.lock();
        Ok(inner.names.keys().filter_map(|path| name_in(dir, path)).map(str::to_owned).collect())
    }

    fn open(&self, path: &str) -> Result<SimFile, DiskError> {
        let inode = *self.lock().names.get(path).ok_or_else(|| missing("open", path))?;
        Ok(SimFile { disk: self.clone(), path: path.to_owned(), inode })
    }

    fn create(&self, path: &str) -> Result<SimFile, DiskError> {
        let mut inner = self.lock();
        let inode = inner.inodes.len();
        inner.inodes.push(Inode::default());
        inner.change("create", path, Change::Name(path.to_owned(), inode))?;
        drop(inner);
        Ok(SimFile { disk: self.clone(), path: path.to_owned(), inode })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut inner = self.lock();
        if !inner.names.contains_key(from) {
            return Err(missing("rename", from));
        }
        inner.change("rename", from, Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        let mut inner = self.lock();
        if !inner.names.contains_key(path) {
            return Err(missing("remove", path));
        }
        inner.change("remove", path, Change::Unname(path.to_owned()))
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let mut inner = self.lock();
        let cut = inner.enter("sync folder", dir)?;
        inner.counters.metadata += 1;
        inner.counters.busy_us += inner.sync_us;
        if !cut {
            let (ours, others): (Vec<_>, Vec<_>) =
                core::mem::take(&mut inner.changes).into_iter().partition(|change| {
                    let (Change::Name(path, _) | Change::Unname(path) | Change::Rename(path, _)) = change;
                    name_in(dir, path).is_some()
                });
            inner.changes = others;
            for change in ours {
                apply(&mut inner.names_durable, change);
            }
        }
        Inner::leave(cut, "sync folder", dir)
    }
}

impl DiskFile for SimFile {
    fn bytes(&self) -> Result<u64, DiskError> {
        Ok(self.disk.lock().inodes[self.inode].now.len() as u64)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let mut inner = self.disk.lock();
        let now = &inner.inodes[self.inode].now;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(now.len());
        let count = into.len().min(now.len() - from);
        into[..count].copy_from_slice(&now[from..from + count]);
        inner.counters.bytes_read += count as u64;
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<usize, DiskError> {
        let mut inner = self.disk.lock();
        let cut = inner.enter("write", &self.path)?;
        let count = if inner.short_writes { bytes.len().div_ceil(2) } else { bytes.len() };
        let bytes = &bytes[..count];
        let from = usize::try_from(offset).expect("a simulated file fits memory");
        inner.counters.writes += 1;
        inner.counters.bytes += count as u64;
        inner.counters.busy_us += inner.write_us_per_kib * (count as u64).div_ceil(1024);
        let end = from + count;
        let length = inner.inodes[self.inode].now.len().max(end);
        inner.inodes[self.inode].now.resize(length, 0);
        if let Some(mut guard) = inner.guard.take() {
            guard(&self.path, offset, &inner.inodes[self.inode].now[from..end], bytes);
            inner.guard = Some(guard);
        }
        let inode = &mut inner.inodes[self.inode];
        inode.now[from..end].copy_from_slice(bytes);
        inode.dirty.extend(from / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Inner::leave(cut, "write", &self.path)?;
        Ok(count)
    }

    fn allocate(&mut self, bytes: u64) -> Result<(), DiskError> {
        let mut inner = self.disk.lock();
        let cut = inner.enter("allocate", &self.path)?;
        inner.counters.metadata += 1;
        let bytes = usize::try_from(bytes).expect("a simulated file fits memory");
        let length = inner.inodes[self.inode].now.len().max(bytes);
        inner.inodes[self.inode].now.resize(length, 0);
        Inner::leave(cut, "allocate", &self.path)
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        let mut inner = self.disk.lock();
        let cut = match inner.enter("sync", &self.path) {
            Ok(cut) => cut,
            Err(error) => {
                if !inner.dead {
                    // The kernel drops what it could not write: readable from memory, never on the card.
                    inner.inodes[self.inode].dirty.clear();
                }
                return Err(error);
            }
        };
        inner.counters.syncs += 1;
        inner.counters.busy_us += inner.sync_us;
        if !cut && inner.inodes[self.inode].sync() {
            inner.counters.metadata += 1;
        }
        Inner::leave(cut, "sync", &self.path)
    }

    fn forget_cache(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}
