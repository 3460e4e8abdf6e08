//! A board's card: the wal's `Disk`, sparse, so that hundreds of starts a second are possible; it forgets like a
//! real one, and says how long what was asked of it takes. (The wal room's own `SimDisk` keeps every file whole.)

mod inode;
mod model;

use crate::queue::Nanos;
use crate::rng::Rng;
use inode::Inode;
use model::Meter;
pub(crate) use model::{BAD, FREE, Model, ORDINARY, QUICK};
use quorate_wal::{Disk, DiskError, DiskErrorKind, DiskFile};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// A card. Clones are the same card; `copy` is another one with the same contents.
#[derive(Clone)]
pub(crate) struct Card(Arc<Mutex<Inner>>);

struct Inner {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    names_durable: BTreeMap<String, usize>,
    changes: Vec<Change>,
    meter: Meter,
    fails_next_sync: bool,
}

/// A change of a folder that no `sync_dir` has made durable yet.
#[derive(Clone)]
enum Change {
    Name(String, usize),
    Unname(String),
    Rename(String, String),
}

/// A file on a card.
pub(crate) struct CardFile {
    card: Card,
    path: String,
    inode: usize,
}

impl Card {
    pub(crate) fn new(model: Model, rng: Rng) -> Card {
        Card(Arc::new(Mutex::new(Inner {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            names_durable: BTreeMap::new(),
            changes: Vec::new(),
            meter: Meter::new(model, rng),
            fails_next_sync: false,
        })))
    }

    /// What somebody gets who copies the card of a board that is off.
    pub(crate) fn copy(&self) -> Card {
        let inner = self.lock();
        Card(Arc::new(Mutex::new(Inner {
            inodes: inner.inodes.clone(),
            names: inner.names.clone(),
            names_durable: inner.names_durable.clone(),
            changes: inner.changes.clone(),
            meter: inner.meter.clone(),
            fails_next_sync: false,
        })))
    }

    /// The power goes: each unsynced sector, and each unsynced change of a folder in order, is kept or lost.
    pub(crate) fn power_cut(&self, rng: &mut Rng) {
        let mut inner = self.lock();
        // Sometimes nearly all had reached the card, sometimes nearly nothing.
        let keep_per_mille = *rng.pick(&[0, 100, 500, 900, 1_000]).expect("five figures");
        for change in core::mem::take(&mut inner.changes) {
            // A journal: the first change that was lost takes the later ones along.
            if !rng.per_mille(keep_per_mille) {
                break;
            }
            apply(&mut inner.names_durable, change);
        }
        inner.names = inner.names_durable.clone();
        for inode in &mut inner.inodes {
            inode.cut(|| rng.per_mille(keep_per_mille));
        }
        inner.fails_next_sync = false;
    }

    /// Whether the next sync of a file fails.
    pub(crate) fn fail_next_sync(&self, fails: bool) {
        self.lock().fails_next_sync = fails;
    }

    pub(crate) fn set_model(&self, model: Model) {
        self.lock().meter.model = model;
    }

    /// How long takes what was asked since the last call.
    pub(crate) fn take_demand(&self) -> Nanos {
        self.lock().meter.take_demand()
    }

    /// How long one flush takes, drawn anew.
    pub(crate) fn flush_time(&self) -> Nanos {
        self.lock().meter.flush()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("a seed that panics inside its card has failed anyway")
    }
}

impl Inner {
    fn change(&mut self, change: Change) {
        apply(&mut self.names, change.clone());
        self.changes.push(change);
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

fn name_in<'a>(dir: &str, path: &'a str) -> Option<&'a str> {
    let name = if dir.is_empty() { path } else { path.strip_prefix(dir)?.strip_prefix('/')? };
    (!name.contains('/')).then_some(name)
}

fn refused(kind: DiskErrorKind, operation: &'static str, path: &str) -> DiskError {
    DiskError { kind, operation, path: path.to_owned(), reason: "says the simulated card".to_owned() }
}

impl Disk for Card {
    type File = CardFile;

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        Ok(self.lock().names.keys().filter_map(|path| name_in(dir, path)).map(str::to_owned).collect())
    }

    fn open(&self, path: &str) -> Result<CardFile, DiskError> {
        let inode = self.lock().names.get(path).copied();
        let inode = inode.ok_or_else(|| refused(DiskErrorKind::NotFound, "open", path))?;
        Ok(CardFile { card: self.clone(), path: path.to_owned(), inode })
    }

    fn create(&self, path: &str) -> Result<CardFile, DiskError> {
        let mut inner = self.lock();
        let inode = inner.inodes.len();
        inner.inodes.push(Inode::default());
        inner.change(Change::Name(path.to_owned(), inode));
        drop(inner);
        Ok(CardFile { card: self.clone(), path: path.to_owned(), inode })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut inner = self.lock();
        if !inner.names.contains_key(from) {
            return Err(refused(DiskErrorKind::NotFound, "rename", from));
        }
        inner.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        let mut inner = self.lock();
        if !inner.names.contains_key(path) {
            return Err(refused(DiskErrorKind::NotFound, "remove", path));
        }
        inner.change(Change::Unname(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let mut inner = self.lock();
        inner.meter.flushed();
        let is_ours = |change: &Change| {
            let (Change::Name(path, _) | Change::Unname(path) | Change::Rename(path, _)) = change;
            name_in(dir, path).is_some()
        };
        let (ours, others): (Vec<_>, Vec<_>) =
            core::mem::take(&mut inner.changes).into_iter().partition(is_ours);
        inner.changes = others;
        for change in ours {
            apply(&mut inner.names_durable, change);
        }
        Ok(())
    }
}

impl DiskFile for CardFile {
    fn bytes(&self) -> Result<u64, DiskError> {
        Ok(self.card.lock().inodes[self.inode].bytes())
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        Ok(self.card.lock().inodes[self.inode].read(offset, into))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<usize, DiskError> {
        let mut inner = self.card.lock();
        inner.meter.wrote(self.inode, offset, u64::try_from(bytes.len()).expect("a write fits memory"));
        inner.inodes[self.inode].write(offset, bytes);
        Ok(bytes.len())
    }

    fn allocate(&mut self, bytes: u64) -> Result<(), DiskError> {
        self.card.lock().inodes[self.inode].allocate(bytes);
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        let mut inner = self.card.lock();
        inner.meter.flushed();
        if core::mem::take(&mut inner.fails_next_sync) {
            inner.inodes[self.inode].sync_failed();
            return Err(refused(DiskErrorKind::Io, "sync", &self.path));
        }
        inner.inodes[self.inode].sync();
        Ok(())
    }

    fn forget_cache(&mut self) -> Result<(), DiskError> {
        let mut inner = self.card.lock();
        let Inner { inodes, meter, .. } = &mut *inner;
        inodes[self.inode].forget(|| meter.coin());
        Ok(())
    }
}
