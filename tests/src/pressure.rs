//! Memory pressure on chosen processes: whatever the kernel may take from them, it takes, again and again. What is
//! locked stays; a page of a program that is not has to be read again from where the program lies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where control groups are mounted everywhere.
const GROUPS: &str = "/sys/fs/cgroup";
const ROUND: Duration = Duration::from_millis(250);
/// More than a node holds: "as much as can be had".
const ALL_BYTES: &str = "1073741824";

/// A control group for one process, from which memory can be taken.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    file: &'static str,
    word: &'static str,
}

impl MemoryGroup {
    /// Makes an empty group.
    ///
    /// # Errors
    /// Why there can be none here: no such controller, or no right to make groups.
    pub fn make() -> Result<MemoryGroup, String> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("quorate-test-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut reasons = Vec::new();
        for (parent, file, word) in [
            (parent_of_version_1(), "memory.force_empty", "0"),
            (PathBuf::from(GROUPS), "memory.reclaim", ALL_BYTES),
        ] {
            let folder = parent.join(&name);
            if let Err(error) = fs::create_dir(&folder) {
                reasons.push(format!("{}: {error}", folder.display()));
                continue;
            }
            let group = MemoryGroup { folder, file, word };
            if group.folder.join(file).exists() {
                return Ok(group);
            }
            reasons.push(format!("{} has no {file}", group.folder.display()));
        }
        Err(reasons.join("; "))
    }

    /// What starts a command line within the group.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        let enter = format!("echo $$ > '{}/cgroup.procs' && exec \"$@\"", self.folder.display());
        ["sh", "-c", &enter, "sh"].map(str::to_owned).into()
    }

    /// Takes what can be taken. May wait for a card that stands still.
    pub fn squeeze(&self) {
        squeeze(&self.folder.join(self.file), self.word);
    }

    /// Takes it again and again until the answer is dropped.
    ///
    /// # Panics
    /// If there is no thread to be had.
    #[must_use]
    pub fn press(&self) -> Pressure {
        let (file, word) = (self.folder.join(self.file), self.word);
        Pressure::start(move || squeeze(&file, word))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its process was killed a moment ago, or never entered.
        for _ in 0..50 {
            match fs::remove_dir(&self.folder) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        eprintln!("{} stays", self.folder.display());
    }
}

fn squeeze(file: &Path, word: &str) {
    // Busy or "not all of it": what could be taken was.
    fs::write(file, word).ok();
}

/// This process's own group: no limit that holds for it is left by a group below.
fn parent_of_version_1() -> PathBuf {
    let root = Path::new(GROUPS).join("memory");
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.split_once(":memory:")).map(|(_, group)| group);
    let own = own.map(|group| root.join(group.trim_start_matches('/')));
    // A container sees its group at the root under another name.
    own.filter(|folder| folder.is_dir()).unwrap_or(root)
}

/// Drops the caches of the whole machine, clean pages only, again and again until the answer is dropped.
#[must_use]
pub fn press_caches() -> Pressure {
    Pressure::start(|| squeeze(Path::new("/proc/sys/vm/drop_caches"), "1"))
}

/// Pressure that lasts until this is dropped.
#[derive(Debug)]
pub struct Pressure {
    ending: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Pressure {
    fn start(squeeze: impl Fn() + Send + 'static) -> Pressure {
        let (ending, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, counted) = (Arc::clone(&ending), Arc::clone(&rounds));
        let work = move || {
            while !ended.load(Ordering::Relaxed) {
                squeeze();
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(ROUND);
            }
        };
        let thread = std::thread::Builder::new().name("pressure".into()).spawn(work).expect("a thread");
        Pressure { ending, rounds, thread: Some(thread) }
    }

    /// How often it was squeezed.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; it may wait until a card moves again.
            thread.join().ok();
        }
    }
}
