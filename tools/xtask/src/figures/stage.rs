//! The stage: a folder of its own, simulated cards, and one store at a time on one of them.

use super::process::{self, Running};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What every folder of a run is called, before its process number.
const FOLDER_PREFIX: &str = "quorate-figures-";
/// Longest wait for a store to answer its first get; a card that is busy zeroing slows it down.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const CARD_LIMIT: Duration = Duration::from_secs(150);
/// The background zeroing of a new node's log on an ordinary card.
const SETTLE_LIMIT: Duration = Duration::from_secs(300);

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Quorate,
    Etcd,
}

/// Programs and a folder; everything in the folder ends with this.
pub(super) struct Stage {
    folder: PathBuf,
    quorated: PathBuf,
    quorate: PathBuf,
    etcd: Option<PathBuf>,
    pub(super) seed: u64,
    pub(super) quick: bool,
}

impl Stage {
    /// Copies our programs into the new folder, so that a build in the meantime changes nothing.
    pub(super) fn open(programs: &Path, etcd: Option<PathBuf>, seed: u64, quick: bool) -> Result<Stage> {
        clear_left_behind()?;
        let folder = std::env::temp_dir().join(format!("{FOLDER_PREFIX}{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (quorated, quorate) = (folder.join("quorated"), folder.join("quorate"));
        let stage = Stage { folder, quorated, quorate, etcd, seed, quick };
        for (name, copy) in [("quorated", &stage.quorated), ("quorate", &stage.quorate)] {
            let program = programs.join(name);
            fs::copy(&program, copy).with_context(|| {
                format!("no {}: cargo build --release -p quorated -p quorate", program.display())
            })?;
        }
        Ok(stage)
    }

    /// The full length, or the quick one.
    pub(super) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(super) fn kinds(&self) -> &'static [Kind] {
        if self.etcd.is_some() { &[Kind::Quorate, Kind::Etcd] } else { &[Kind::Quorate] }
    }

    pub(super) fn programs(&self) -> (&Path, Option<&Path>) {
        (&self.quorated, self.etcd.as_deref())
    }

    /// A new, empty folder on the machine's own disk.
    pub(super) fn plain_folder(&self) -> Result<PathBuf> {
        let data = self.folder.join("plain");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::create_dir_all(&data)?;
        Ok(data)
    }

    fn run(&self, words: &[&str], limit: Duration) -> Result<String> {
        process::run(Command::new(&self.quorate).args(words), &self.folder, limit)
    }

    /// A fresh card of that model; the same seed gives every store the same card.
    pub(super) fn card(&self, model: &str) -> Result<Card<'_>> {
        let folder = self.folder.join("card");
        let seed = self.seed.to_string();
        let mut command = Command::new(&self.quorate);
        command.args(["card", "start", "--size", "4GiB", "--model", model, "--seed", &seed, "--dir"]);
        // Not in the background: so Ctrl-C ends the card as it ends us.
        let running = Running::start(command.arg(&folder), "card", &self.folder)?;
        let mut card = Card { stage: self, folder, running };
        let begun = Instant::now();
        while card.stats().is_err() {
            card.running.check_alive().context("simulated cards need Linux, root, FUSE and loop devices")?;
            ensure!(begun.elapsed() < CARD_LIMIT, "the card is not ready after {CARD_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(card)
    }

    /// Starts a store in a folder and waits until it answers a get.
    pub(super) fn store(&self, kind: Kind, data: &Path, flags: &[&str]) -> Result<Store<'_>> {
        let ports = free_ports()?;
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let running = self.start(kind, &data.join("data"), ports, &flags)?;
        let mut store = Store { stage: self, kind, data: data.join("data"), ports, flags, running };
        store.wait_for_get(Instant::now())?;
        Ok(store)
    }

    fn start(&self, kind: Kind, data: &Path, ports: [u16; 2], flags: &Vec<String>) -> Result<Running> {
        let client = format!("http://127.0.0.1:{}", ports[0]);
        let peer = format!("http://127.0.0.1:{}", ports[1]);
        let mut command = match kind {
            Kind::Quorate => {
                let mut command = Command::new(&self.quorated);
                let listen = format!("127.0.0.1:{}", ports[0]);
                command.args(["--new-cluster", "--log-level", "error", "--listen-client", &listen]);
                command
            }
            Kind::Etcd => {
                let mut command = Command::new(self.etcd.as_ref().context("no etcd")?);
                command
                    .args(["--name", "n1", "--logger", "zap", "--log-level", "error"])
                    .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                    .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                    .args(["--initial-cluster", &format!("n1={peer}")]);
                command
            }
        };
        Running::start(command.arg("--data-dir").arg(data).args(flags), "store", &self.folder)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} stays behind: {error}", self.folder.display());
        }
    }
}

/// Ends what earlier runs left that were killed; never what belongs to a run that lives.
fn clear_left_behind() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(pid) = name.strip_prefix(FOLDER_PREFIX) else { continue };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        process::kill_left_behind(&path)?;
        if path.join("card/card.json").exists() {
            let mut stop = Command::new(path.join("quorate"));
            process::run(stop.args(["card", "stop", "--dir"]).arg(path.join("card")), &path, CARD_LIMIT)?;
        }
        fs::remove_dir_all(&path)?;
    }
    Ok(())
}

/// Two free ports of loopback, held together while they are drawn so that they differ.
fn free_ports() -> Result<[u16; 2]> {
    let one = TcpListener::bind("127.0.0.1:0")?;
    let other = TcpListener::bind("127.0.0.1:0")?;
    Ok([one.local_addr()?.port(), other.local_addr()?.port()])
}

/// A card that is mounted; it ends with this.
pub(super) struct Card<'a> {
    stage: &'a Stage,
    folder: PathBuf,
    running: Running,
}

impl Card<'_> {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn mount(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    fn ctl(&self, words: &[&str]) -> Result<String> {
        let folder = self.folder.to_string_lossy();
        self.stage.run(&[&["card", "ctl", &folder], words].concat(), Duration::from_secs(30))
    }

    pub(super) fn set_model(&self, model: &str) -> Result<()> {
        self.ctl(&["set", &format!("model={model}")]).map(drop)
    }

    /// The card's own counters.
    pub(super) fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ctl(&["stats", "--json"])?)?)
    }
}

impl Drop for Card<'_> {
    fn drop(&mut self) {
        let folder = self.folder.to_string_lossy();
        // Asked first: only the card itself can unmount what it mounted.
        let stopped = self.stage.run(&["card", "stop", "--dir", &folder], CARD_LIMIT);
        let ended = stopped.and_then(|_| self.running.wait(CARD_LIMIT));
        if let Err(error) = ended {
            eprintln!("the card in {folder}: {error:#}");
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A store that answers; it ends with this.
pub(super) struct Store<'a> {
    stage: &'a Stage,
    kind: Kind,
    data: PathBuf,
    ports: [u16; 2],
    flags: Vec<String>,
    running: Running,
}

impl Store<'_> {
    /// `quorate bench WORDS… --json` against it; the report.
    pub(super) fn bench(&self, words: &[&str], limit: Duration) -> Result<Value> {
        let endpoint = format!("127.0.0.1:{}", self.ports[0]);
        let seed = self.stage.seed.to_string();
        let rest = ["--json", "--quiet", "--seed", &seed, "--endpoints", &endpoint];
        let text = self.stage.run(&[&["bench"], words, &rest].concat(), limit)?;
        serde_json::from_str(&text).with_context(|| format!("no report of the bench: {text}"))
    }

    /// The same, left running.
    pub(super) fn bench_in_background(&self, words: &[&str]) -> Result<Running> {
        let endpoint = format!("127.0.0.1:{}", self.ports[0]);
        let mut command = Command::new(&self.stage.quorate);
        command.arg("bench").args(words).args(["--json", "--quiet", "--endpoints", &endpoint]);
        Running::start(&mut command, "bench", &self.stage.folder)
    }

    /// Waits until a new node has prepared its log, so that the load alone is measured. etcd prepares as it goes
    /// and gets a moment.
    pub(super) fn settle(&self) -> Result<()> {
        const STILL: Duration = Duration::from_secs(5);
        if self.kind == Kind::Etcd {
            std::thread::sleep(STILL);
            return Ok(());
        }
        let begun = Instant::now();
        let (mut zeroed, mut since) = (self.zeroed_bytes()?, Instant::now());
        while since.elapsed() < STILL {
            ensure!(begun.elapsed() < SETTLE_LIMIT, "still zeroing after {SETTLE_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(250));
            let now = self.zeroed_bytes()?;
            if now > zeroed {
                (zeroed, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// What a node wrote once to prepare its log, in bytes; etcd has no such thing.
    pub(super) fn zeroed_bytes(&self) -> Result<f64> {
        match self.kind {
            Kind::Quorate => self.metric("quorate_zeroed_bytes_total"),
            Kind::Etcd => Ok(0.0),
        }
    }

    /// One number of `/metrics`.
    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        let text = http_get(self.ports[0], "/metrics")?;
        find_metric(&text, name).with_context(|| format!("no {name} in /metrics"))
    }

    pub(super) fn resident_mebibytes(&self) -> Result<f64> {
        Ok(process::resident_bytes(self.running.pid())? / 1_048_576.0)
    }

    pub(super) fn terminate(&mut self) -> Result<()> {
        self.running.terminate(STOP_LIMIT)
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.running.kill()
    }

    /// Starts it again on the same folder; seconds from the start of the process to the answer of a get.
    pub(super) fn restart(&mut self) -> Result<f64> {
        let begun = Instant::now();
        self.running = self.stage.start(self.kind, &self.data, self.ports, &self.flags)?;
        self.wait_for_get(begun)
    }

    /// A linearizable get, asked by a new process each time, until one is answered.
    fn wait_for_get(&mut self, begun: Instant) -> Result<f64> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports[0]));
        loop {
            // Cheap until somebody listens, so that asking does not slow the start it measures.
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
                && self.bench(&["get", "--total", "1", "--keys", "1"], START_LIMIT).is_ok()
            {
                return Ok(begun.elapsed().as_secs_f64());
            }
            self.running.check_alive()?;
            if begun.elapsed() > START_LIMIT {
                bail!("no get is answered after {START_LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn http_get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn find_metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a_total x\na_total_more 1\na_total 2.5\r\n";
        assert_eq!(find_metric(text, "a_total"), Some(2.5));
        assert_eq!(find_metric(text, "a"), None);
    }

    #[test]
    fn ports_differ() {
        let [one, other] = free_ports().unwrap();
        assert_ne!(one, other);
    }
}
