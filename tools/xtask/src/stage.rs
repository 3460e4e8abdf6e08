//! The stage: a folder of its own, simulated cards, and one store at a time on one of them.

pub(crate) mod card;
pub(crate) mod cluster;
pub(crate) mod figure;
pub(crate) mod kill;
pub(crate) mod metrics;
pub(crate) mod plan;
pub(crate) mod process;
pub(crate) mod scene;
pub(crate) mod sides;

use anyhow::{Context, Result, bail};
use card::CARD_LIMIT;
use process::Running;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What every folder of a run is called, before its process number; on disk and in memory.
const FOLDER_PREFIX: &str = "quorate-stage-";
/// Longest wait for a store to answer its first get; a card that is busy zeroing slows it down.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);
/// Storage that costs nothing: what lies there is in memory.
const MEMORY: &str = "/dev/shm";
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Quorate,
    Etcd,
}

/// Programs and a folder; everything in the folder ends with this.
pub(crate) struct Stage {
    folder: PathBuf,
    /// Of the same name, in memory.
    memory: PathBuf,
    quorated: PathBuf,
    quorate: PathBuf,
    etcd: Option<PathBuf>,
    pub(crate) seed: u64,
    pub(crate) quick: bool,
}

impl Stage {
    /// Copies our programs into the new folder, so that a build in the meantime changes nothing.
    pub(crate) fn open(programs: [&Path; 2], etcd: Option<PathBuf>, seed: u64, quick: bool) -> Result<Stage> {
        clear_left_behind()?;
        let name = format!("{FOLDER_PREFIX}{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (quorated, quorate) = (folder.join("quorated"), folder.join("quorate"));
        let memory = Path::new(MEMORY).join(name);
        let stage = Stage { folder, memory, quorated, quorate, etcd, seed, quick };
        for (program, copy) in programs.into_iter().zip([&stage.quorated, &stage.quorate]) {
            fs::copy(program, copy).with_context(|| {
                format!("no {}: cargo build --release -p quorated -p quorate", program.display())
            })?;
        }
        Ok(stage)
    }

    /// The full length, or the quick one.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(crate) fn kinds(&self) -> &'static [Kind] {
        if self.etcd.is_some() { &[Kind::Quorate, Kind::Etcd] } else { &[Kind::Quorate] }
    }

    pub(crate) fn programs(&self) -> (&Path, Option<&Path>) {
        (&self.quorated, self.etcd.as_deref())
    }

    /// A new, empty folder on the machine's own disk.
    pub(crate) fn plain_folder(&self) -> Result<PathBuf> {
        let data = self.folder.join("plain");
        clear(&data)?;
        Ok(data)
    }

    /// A new, empty folder in memory.
    pub(crate) fn memory_folder(&self) -> Result<PathBuf> {
        clear(&self.memory)?;
        Ok(self.memory.clone())
    }

    /// Where logs go.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `quorated`, with no arguments yet.
    pub(crate) fn quorated(&self) -> Command {
        Command::new(&self.quorated)
    }

    /// `quorate`, likewise.
    pub(crate) fn quorate(&self) -> Command {
        Command::new(&self.quorate)
    }

    /// `etcd`, likewise.
    pub(crate) fn etcd(&self) -> Result<Command> {
        Ok(Command::new(self.etcd.as_ref().context("no etcd")?))
    }

    /// A report of `quorate bench WORDS… --json` on these endpoints.
    pub(crate) fn bench(&self, words: &[&str], endpoints: &str, limit: Duration) -> Result<Value> {
        let seed = self.seed.to_string();
        let rest = ["--json", "--quiet", "--seed", &seed, "--endpoints", endpoints];
        let text = self.run(&[&["bench"], words, &rest].concat(), limit)?;
        serde_json::from_str(&text).with_context(|| format!("no report of the bench: {text}"))
    }

    /// The same, left running under a name of its own.
    pub(crate) fn bench_in_background(&self, name: &str, words: &[&str], endpoints: &str) -> Result<Running> {
        let seed = self.seed.to_string();
        let mut command = self.quorate();
        command.arg("bench").args(words).args([
            "--json",
            "--quiet",
            "--seed",
            &seed,
            "--endpoints",
            endpoints,
        ]);
        Running::start(&mut command, name, &self.folder)
    }

    pub(crate) fn run(&self, words: &[&str], limit: Duration) -> Result<String> {
        process::run(self.quorate().args(words), &self.folder, limit)
    }

    /// Starts a store in a folder and waits until it answers a get.
    pub(crate) fn store(&self, kind: Kind, data: &Path, flags: &[&str]) -> Result<Store<'_>> {
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
                let mut command = self.quorated();
                let listen = format!("127.0.0.1:{}", ports[0]);
                command.args(["--new-cluster", "--log-level", "error", "--listen-client", &listen]);
                command
            }
            Kind::Etcd => {
                let mut command = self.etcd()?;
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
        for folder in [&self.folder, &self.memory] {
            if let Err(error) = remove(folder) {
                eprintln!("{} stays behind: {error}", folder.display());
            }
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
        for entry in fs::read_dir(&path)? {
            let card = entry?.path();
            if card.join("card.json").exists() {
                let mut stop = Command::new(path.join("quorate"));
                process::run(stop.args(["card", "stop", "--dir"]).arg(card), &path, CARD_LIMIT)?;
            }
        }
        remove(&Path::new(MEMORY).join(&*name))?;
        fs::remove_dir_all(&path)?;
    }
    Ok(())
}

/// An empty folder where there may be one.
fn clear(folder: &Path) -> Result<()> {
    remove(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Two free ports of loopback, held together while they are drawn so that they differ.
pub(crate) fn free_ports() -> Result<[u16; 2]> {
    let one = TcpListener::bind("127.0.0.1:0")?;
    let other = TcpListener::bind("127.0.0.1:0")?;
    Ok([one.local_addr()?.port(), other.local_addr()?.port()])
}

/// A store that answers; it ends with this.
pub(crate) struct Store<'a> {
    stage: &'a Stage,
    kind: Kind,
    data: PathBuf,
    ports: [u16; 2],
    flags: Vec<String>,
    running: Running,
}

impl Store<'_> {
    /// `quorate bench WORDS… --json` against it; the report.
    pub(crate) fn bench(&self, words: &[&str], limit: Duration) -> Result<Value> {
        self.stage.bench(words, &self.endpoint(), limit)
    }

    /// The same, left running under a name of its own.
    pub(crate) fn bench_in_background(&self, name: &str, words: &[&str]) -> Result<Running> {
        self.stage.bench_in_background(name, words, &self.endpoint())
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Waits until a new node has prepared its log, so that the load alone is measured.
    pub(crate) fn settle(&self) -> Result<()> {
        metrics::settle(self.kind, || self.zeroed_bytes())
    }

    /// What a node wrote once to prepare its log, in bytes; etcd has no such thing.
    pub(crate) fn zeroed_bytes(&self) -> Result<f64> {
        metrics::zeroed_bytes(self.kind, self.ports[0])
    }

    /// One number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        metrics::metric(self.ports[0], name)
    }

    pub(crate) fn resident_mebibytes(&self) -> Result<f64> {
        Ok(process::resident_bytes(self.running.pid())? / 1_048_576.0)
    }

    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.running.terminate(STOP_LIMIT)
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.running.kill()
    }

    /// Starts it again on the same folder; seconds from the start of the process to the answer of a get.
    pub(crate) fn restart(&mut self) -> Result<f64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let [one, other] = free_ports().unwrap();
        assert_ne!(one, other);
    }
}
