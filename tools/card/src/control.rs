//! The control socket: one line of JSON asks, one line of JSON answers. Never through the card itself, so a
//! stalled card answers at once.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::device::Stats;
use crate::figures::Figures;
use crate::host;

/// Answers that need no program to run.
const QUICK: Duration = Duration::from_secs(10);
/// Answers that mount and unmount.
const SLOW: Duration = Duration::from_secs(120);
/// A line longer than this is none of ours.
pub(crate) const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What may be asked of a running card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Stall(Duration),
    Change(Vec<(String, String)>),
    Set(Figures),
    Figures,
    Cut(Option<u64>),
    Revive,
    Stats,
    Stop,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Figures(Figures),
    Cut(CutReport),
    Stats(Stats),
    Failed(String),
}

/// What a power cut did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutReport {
    /// The seed that decided; the same seed on the same unflushed sectors decides the same.
    pub seed: u64,
    /// Unflushed 512-byte sectors that survived.
    pub kept: u64,
    /// Unflushed 512-byte sectors that fell back to their flushed content.
    pub lost: u64,
}

/// A card that is ready to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Where the ext4 is mounted.
    pub mount: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// The block device at the start (a revived card may get another).
    pub device: PathBuf,
    /// The process that is the card.
    pub pid: u32,
    /// The seed of its flush times, pauses and cuts.
    pub seed: u64,
}

/// Where a card keeps its things, all below one folder.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) mount: PathBuf,
}

impl Place {
    /// Makes the folders; their real paths, as the kernel's tables spell them.
    pub(crate) fn make(folder: &Path, mount: Option<&Path>) -> Result<Place> {
        let make = |folder: &Path| -> Result<PathBuf> {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            Ok(folder.canonicalize()?)
        };
        let folder = make(folder)?;
        let mount = make(&mount.map_or_else(|| folder.join("mnt"), Path::to_path_buf))?;
        Ok(Place { folder, mount })
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("card.img")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("card.sock")
    }

    pub(crate) fn owner_file(&self) -> PathBuf {
        self.folder.join("card.json")
    }
}

/// Who is the card of a folder; left behind by a crash, it says what to clear away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    /// The kernel's start time of that process: a process number alone may be somebody else's by now.
    pub(crate) started: String,
    pub(crate) mount: PathBuf,
}

impl Owner {
    pub(crate) fn this_process(mount: &Path) -> Owner {
        let pid = std::process::id();
        Owner { pid, started: start_time(pid).unwrap_or_default(), mount: mount.to_path_buf() }
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid).is_some_and(|started| started == self.started)
    }

    /// Ends a card that does not answer.
    fn kill(&self) -> Result<()> {
        let begun = Instant::now();
        while self.is_alive() {
            if begun.elapsed() > QUICK {
                bail!("process {} does not end", self.pid);
            }
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            kill_process(pid.context("no process number")?, Signal::KILL)?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Field 22 of `/proc/PID/stat`; none when the process is gone or a zombie.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may itself hold blanks and parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// A running card, from outside.
#[derive(Clone, Debug)]
pub struct Control {
    folder: PathBuf,
}

impl Control {
    /// The card of this folder; whether it runs shows with the first question.
    #[must_use]
    pub fn of(folder: &Path) -> Control {
        Control { folder: folder.to_path_buf() }
    }

    fn ask(&self, command: &Command, limit: Duration) -> Result<Reply> {
        let socket = self.folder.join("card.sock");
        let mut stream = UnixStream::connect(&socket)
            .with_context(|| format!("no card answers at {}", socket.display()))?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(QUICK))?;
        let mut line = serde_json::to_string(command)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut answer)?;
        match serde_json::from_str(&answer).context("the card ended without an answer")? {
            Reply::Failed(reason) => bail!(reason),
            reply @ (Reply::Done | Reply::Figures(_) | Reply::Cut(_) | Reply::Stats(_)) => Ok(reply),
        }
    }

    fn done(&self, command: &Command, limit: Duration) -> Result<()> {
        match self.ask(command, limit)? {
            Reply::Done => Ok(()),
            other @ (Reply::Figures(_) | Reply::Cut(_) | Reply::Stats(_) | Reply::Failed(_)) => {
                unexpected(&other)
            }
        }
    }

    /// From now on nothing is done for `length`; what is in progress waits too.
    ///
    /// # Errors
    /// No card answers.
    pub fn stall(&self, length: Duration) -> Result<()> {
        self.done(&Command::Stall(length), QUICK)
    }

    /// Changes figures by their names on the command line; all or none.
    ///
    /// # Errors
    /// No card answers, or a name or value is not understood.
    pub fn change(&self, changes: &[(String, String)]) -> Result<()> {
        self.done(&Command::Change(changes.to_vec()), QUICK)
    }

    /// Sets all figures.
    ///
    /// # Errors
    /// No card answers.
    pub fn set(&self, figures: Figures) -> Result<()> {
        self.done(&Command::Set(figures), QUICK)
    }

    /// What the card costs now.
    ///
    /// # Errors
    /// No card answers.
    pub fn figures(&self) -> Result<Figures> {
        match self.ask(&Command::Figures, QUICK)? {
            Reply::Figures(figures) => Ok(figures),
            other @ (Reply::Done | Reply::Cut(_) | Reply::Stats(_) | Reply::Failed(_)) => unexpected(&other),
        }
    }

    /// Cuts the power, at once: each unflushed sector is kept or lost, all I/O fails until `revive`. Without a seed
    /// the card draws one (from its own, so a run can be repeated).
    ///
    /// # Errors
    /// No card answers, or it has no power.
    pub fn cut(&self, seed: Option<u64>) -> Result<CutReport> {
        match self.ask(&Command::Cut(seed), QUICK)? {
            Reply::Cut(report) => Ok(report),
            other @ (Reply::Done | Reply::Figures(_) | Reply::Stats(_) | Reply::Failed(_)) => {
                unexpected(&other)
            }
        }
    }

    /// Power on: unmounts what the cut left, attaches the surviving content and mounts it again (ext4 replays its
    /// journal). Processes that used the card must have ended, or end within some seconds.
    ///
    /// # Errors
    /// No card answers, it has power, it is still in use, or ext4 refuses what survived.
    pub fn revive(&self) -> Result<()> {
        self.done(&Command::Revive, SLOW)
    }

    /// Counters and gauges.
    ///
    /// # Errors
    /// No card answers.
    pub fn stats(&self) -> Result<Stats> {
        match self.ask(&Command::Stats, QUICK)? {
            Reply::Stats(stats) => Ok(stats),
            other @ (Reply::Done | Reply::Figures(_) | Reply::Cut(_) | Reply::Failed(_)) => {
                unexpected(&other)
            }
        }
    }

    /// Ends the card and leaves nothing mounted; also after a crash of its process, and when it hangs.
    ///
    /// # Errors
    /// There is no card in this folder, or something could not be unmounted.
    pub fn stop(&self) -> Result<()> {
        let file = self.folder.join("card.json");
        let text = fs::read(&file).with_context(|| format!("no card in {}", self.folder.display()))?;
        // A card that hangs is told by the quick question, not by waiting for it to unmount.
        if self.stats().is_ok() && self.done(&Command::Stop, SLOW).is_ok() {
            return Ok(());
        }
        let owner: Owner = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; unmount by hand", file.display()))?;
        owner.kill()?;
        let place = Place { folder: self.folder.canonicalize()?, mount: owner.mount };
        host::clear_away(&place.image(), &place.mount)?;
        forget(&place)
    }
}

fn unexpected<T>(reply: &Reply) -> Result<T> {
    bail!("the card answers another question: {reply:?}")
}

/// Removes a stopped card's files; the folder and the mount point stay.
pub(crate) fn forget(place: &Place) -> Result<()> {
    for file in [place.socket(), place.image(), place.owner_file()] {
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", file.display())),
        }
    }
    Ok(())
}
