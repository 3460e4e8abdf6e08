//! A card for tests and measurements: a child process that is stopped when its handle is dropped, and that stops
//! by itself when the process holding the handle dies.
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::control::{Control, CutReport, Ready};
use crate::device::Stats;
use crate::figures::{Figures, Model};
use crate::host;

/// mkfs of the largest cards included.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Smaller ones hold no ext4 with a journal.
pub(crate) const SIZE_MIN: u64 = 8 << 20;
/// The page table alone would take 128 MiB beyond this.
pub(crate) const SIZE_MAX: u64 = 64 << 30;

/// How to start a card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CardOptions {
    /// The card's folder: control socket, image and log; made if missing.
    pub dir: PathBuf,
    /// Where to mount the ext4; `mnt` in the folder by default.
    pub mount: Option<PathBuf>,
    /// Size in bytes, 8 MiB to 64 GiB, rounded down to 4 KiB. Memory is taken for what is written, not for this.
    pub size: u64,
    /// Flush times, places of the pauses and cuts follow from it; drawn when not given.
    pub seed: Option<u64>,
    /// What work costs once the card is ready; making the file system costs nothing.
    pub figures: Figures,
    /// The program that is the card (`quorate` or `quorate-card`); found by itself when not given.
    pub program: Option<PathBuf>,
}

impl CardOptions {
    /// A card of 1 GiB that costs nothing.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> CardOptions {
        CardOptions {
            dir: dir.into(),
            mount: None,
            size: 1 << 30,
            seed: None,
            figures: Model::Free.figures(),
            program: None,
        }
    }

    /// The same with other figures.
    #[must_use]
    pub fn model(self, model: Model) -> CardOptions {
        CardOptions { figures: model.figures(), ..self }
    }

    /// Refuses what cannot be, rounds the size.
    pub(crate) fn checked(&self) -> Result<CardOptions> {
        if !(SIZE_MIN..=SIZE_MAX).contains(&self.size) {
            bail!("a card has 8MiB to 64GiB");
        }
        Ok(CardOptions { size: self.size & !4095, ..self.clone() })
    }
}

/// A running card. Dropping it stops it and unmounts everything, also while a test panics.
#[derive(Debug)]
pub struct Card {
    control: Control,
    ready: Ready,
    /// None once stopped.
    process: Option<Child>,
}

impl Card {
    /// Whether cards can be started here.
    ///
    /// # Errors
    /// The reason why not: not root, no /dev/fuse, no loop devices, a program missing.
    pub fn available() -> Result<(), String> {
        host::available()
    }

    /// Starts a card and waits until it is mounted.
    ///
    /// # Errors
    /// A reason for a person; nothing is left mounted.
    pub fn start(options: &CardOptions) -> Result<Card> {
        let (ready, process) = launch(&options.checked()?, true)?;
        Ok(Card { control: Control::of(&options.dir.canonicalize()?), ready, process: Some(process) })
    }

    /// The ext4's root.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.ready.mount
    }

    /// What the card said when it was ready.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The card's control, for other threads.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// See [`Control::stall`].
    ///
    /// # Errors
    /// The card is gone.
    pub fn stall(&self, length: Duration) -> Result<()> {
        self.control.stall(length)
    }

    /// See [`Control::set`].
    ///
    /// # Errors
    /// The card is gone.
    pub fn set(&self, figures: Figures) -> Result<()> {
        self.control.set(figures)
    }

    /// See [`Control::cut`].
    ///
    /// # Errors
    /// The card is gone or has no power.
    pub fn cut(&self, seed: u64) -> Result<CutReport> {
        self.control.cut(Some(seed))
    }

    /// See [`Control::revive`].
    ///
    /// # Errors
    /// The card is gone, has power, is in use, or ext4 refuses what survived.
    pub fn revive(&self) -> Result<()> {
        self.control.revive()
    }

    /// See [`Control::stats`].
    ///
    /// # Errors
    /// The card is gone.
    pub fn stats(&self) -> Result<Stats> {
        self.control.stats()
    }

    /// Stops the card and says how that went; dropping it does the same silently.
    ///
    /// # Errors
    /// Something could not be unmounted.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let stopped = self.control.stop();
        // It has ended or was killed by `stop`; should neither be so, the closed standard input ends it.
        drop(process.stdin.take());
        process.wait()?;
        stopped
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("card: {error:#}");
        }
    }
}

/// Starts the process of a card and waits for its first words. `kept`: it ends with this process.
pub(crate) fn launch(options: &CardOptions, kept: bool) -> Result<(Ready, Child)> {
    Card::available().map_err(|reason| anyhow::anyhow!("no simulated card here: {reason}"))?;
    std::fs::create_dir_all(&options.dir)?;
    let log_path = options.dir.join("card.log");
    let log = File::create(&log_path).with_context(|| format!("cannot make {}", log_path.display()))?;
    let (program, verbs) = match &options.program {
        Some(program) => (program.clone(), verbs_of(program)),
        None => find_program()?,
    };
    let mut child = Command::new(&program)
        .args(verbs)
        .arg(if kept { "serve-kept" } else { "serve" })
        .arg(serde_json::to_string(options)?)
        .stdin(if kept { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C is for the keeper; the card ends in good order after it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let first_line = first_line(&mut child)?;
    match serde_json::from_str(&first_line) {
        Ok(ready) => Ok((ready, child)),
        Err(_) => {
            drop(child.stdin.take());
            child.wait()?;
            let words = std::fs::read_to_string(&log_path).unwrap_or_default();
            bail!("the card did not start: {}", words.trim())
        }
    }
}

/// What the process says first, or nothing when it ends or takes too long.
fn first_line(child: &mut Child) -> Result<String> {
    let out = child.stdout.take().context("standard output is piped")?;
    let (send, line) = channel();
    std::thread::Builder::new().name("card-ready".into()).spawn(move || {
        let mut text = String::new();
        if BufReader::new(out).read_line(&mut text).is_ok() {
            // Nobody waits any more after the limit.
            drop(send.send(text));
        }
    })?;
    if let Ok(text) = line.recv_timeout(START_LIMIT) {
        return Ok(text);
    }
    child.kill()?;
    Ok(String::new())
}

/// `quorate` has cards under a verb, `quorate-card` is nothing else.
fn verbs_of(program: &Path) -> Vec<&'static str> {
    if program.file_stem().is_some_and(|name| name == "quorate") { vec!["card"] } else { Vec::new() }
}

/// The program that is a card: named by `QUORATE_CARD`, this very program, one that Cargo builds now (in tests,
/// which run without their neighbours' binaries), or a neighbour.
fn find_program() -> Result<(PathBuf, Vec<&'static str>)> {
    if let Some(named) = std::env::var_os("QUORATE_CARD") {
        let named = PathBuf::from(named);
        let verbs = verbs_of(&named);
        return Ok((named, verbs));
    }
    let this = std::env::current_exe()?;
    if this.file_stem().is_some_and(|name| name == "quorate" || name == "quorate-card") {
        let verbs = verbs_of(&this);
        return Ok((this, verbs));
    }
    if let Some(cargo) = std::env::var_os("CARGO") {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let built =
            BUILT.get_or_init(|| build_program(Path::new(&cargo)).map_err(|error| format!("{error:#}")));
        return built.clone().map(|path| (path, Vec::new())).map_err(anyhow::Error::msg);
    }
    let neighbours = this.ancestors().skip(1).take(2);
    for name in ["quorate-card", "quorate"] {
        if let Some(found) = neighbours.clone().map(|folder| folder.join(name)).find(|path| path.is_file()) {
            let verbs = verbs_of(&found);
            return Ok((found, verbs));
        }
    }
    bail!("no program quorate-card or quorate beside {}; name one in QUORATE_CARD", this.display())
}

/// Never a stale binary: Cargo knows whether it has to build.
fn build_program(cargo: &Path) -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--bin", "quorate-card", "--message-format", "json", "--manifest-path"])
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()?;
    String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "quorate-card")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo did not build quorate-card")
}
