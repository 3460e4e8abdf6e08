//! A real server process: started on a folder and a free loopback port, killed, stopped, started again.

use crate::process::{LIMIT, POLL, Process};
use crate::program::Program;
use rustix::process::Pid;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Instant;
use tempfile::TempDir;

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which program.
    pub program: Program,
    /// Words before the program, as an emulator and its flags.
    pub wrapper: Vec<String>,
    /// Flags beyond folder and addresses.
    pub flags: Vec<String>,
    /// The data folder; none takes a temporary one, gone with the server.
    pub data_dir: Option<PathBuf>,
    /// Whether the temporary folder is in memory: for tests that are not about disks.
    pub in_memory: bool,
}

impl Options {
    /// The program alone.
    #[must_use]
    pub fn new(program: Program) -> Options {
        Options { program, wrapper: Vec::new(), flags: Vec::new(), data_dir: None, in_memory: false }
    }

    /// With flags.
    #[must_use]
    pub fn flags<S: Into<String>>(mut self, flags: impl IntoIterator<Item = S>) -> Options {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// On this folder, which is kept.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Options {
        self.data_dir = Some(folder.into());
        self
    }

    /// With the temporary folder in memory where the system has one there.
    #[must_use]
    pub fn in_memory(mut self) -> Options {
        self.in_memory = true;
        self
    }
}

/// A server; dropping it kills the process and removes its temporary folder.
#[derive(Debug)]
pub struct Server {
    options: Options,
    data_dir: PathBuf,
    port: u16,
    peer_port: u16,
    process: Process,
    /// Holds the words of all starts, and the data folder unless one was given.
    _folder: TempDir,
}

impl Server {
    /// A fresh node of ours, ready.
    ///
    /// # Panics
    /// If it does not get ready; its last lines are shown.
    #[must_use]
    pub fn quorated() -> Server {
        Server::start(Options::new(Program::quorated()))
    }

    /// Starts a server and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get ready; its last lines are shown.
    #[must_use]
    pub fn start(options: Options) -> Server {
        let mut server = Server::spawn(options);
        server.wait_ready();
        server
    }

    /// Starts a server without waiting: for those that are not meant to get ready.
    ///
    /// # Panics
    /// If the program cannot be started at all.
    #[must_use]
    pub fn spawn(options: Options) -> Server {
        let memory = Path::new("/dev/shm");
        let folder = if options.in_memory && memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.expect("a temporary folder can be made");
        let data_dir = options.data_dir.clone().unwrap_or_else(|| folder.path().join("data"));
        let process = Process::new(options.program.path().display().to_string(), folder.path().join("log"));
        let mut server =
            Server { options, data_dir, port: free_port(), peer_port: free_port(), process, _folder: folder };
        server.spawn_again();
        server
    }

    /// Starts it again on the same folder and port and waits until it is ready.
    ///
    /// # Panics
    /// If it still runs, or does not get ready.
    pub fn restart(&mut self) {
        self.spawn_again();
        self.wait_ready();
    }

    /// Starts it again without waiting.
    ///
    /// # Panics
    /// If it still runs or cannot be started.
    pub fn spawn_again(&mut self) {
        self.process.spawn(self.command());
    }

    fn command(&self) -> Command {
        let program = self.options.program.path();
        let mut command = match self.options.wrapper.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        match &self.options.program {
            Program::Quorated(_) => {
                command.arg("--data-dir").arg(&self.data_dir).arg("--new-cluster");
                command.args(["--name", "n1", "--listen-client"]).arg(format!("127.0.0.1:{}", self.port));
            }
            Program::Etcd(_) => {
                let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.peer_port));
                command.arg("--data-dir").arg(&self.data_dir).args(["--name", "n1"]);
                command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
                command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
                command.args(["--initial-cluster", &format!("n1={peer}")]);
            }
        }
        command.args(&self.options.flags);
        command
    }

    /// Waits until `/health` says so.
    ///
    /// # Panics
    /// If the process ends or never gets ready; its last lines are shown.
    pub fn wait_ready(&mut self) {
        let began = Instant::now();
        while !self.is_healthy() {
            if let Some(status) = self.process.try_wait() {
                panic!("{} ended before it was ready: {status}\n{}", self.name(), self.last_lines());
            }
            assert!(began.elapsed() < LIMIT, "{} never got ready\n{}", self.name(), self.last_lines());
            std::thread::sleep(POLL);
        }
    }

    fn is_healthy(&self) -> bool {
        let page = self.try_page("/health");
        page.is_ok_and(|body| body.contains("\"health\":\"true\"") || body.contains("\"health\": \"true\""))
    }

    /// An HTTP page of the client port, body only.
    ///
    /// # Panics
    /// If it cannot be had.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        self.try_page(path)
            .unwrap_or_else(|error| panic!("{}{path}: {error}\n{}", self.endpoint(), self.last_lines()))
    }

    /// An HTTP page of the client port, body only, whatever the status.
    ///
    /// # Errors
    /// What the socket says.
    pub fn try_page(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address(), LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        Ok(body.to_owned())
    }

    /// One figure of `/metrics`, by its whole name with labels; none if it is not there.
    ///
    /// # Panics
    /// If the page cannot be had.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = self.page("/metrics");
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Kills it as a power cut of the board would end it: SIGKILL, and gone when this returns.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// If it does not run or does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.process.wait_exit()
    }

    /// Its process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Where clients dial: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The client address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// All it said since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The end of what it said.
    #[must_use]
    pub fn last_lines(&self) -> String {
        self.process.last_lines()
    }

    fn name(&self) -> &str {
        self.process.name()
    }
}

/// Where test servers listen: below the ports the system hands to outgoing connections, so that no client of
/// another test takes one while its server is between two starts.
const PORTS: Range<u16> = 12_000..32_000;

/// A port nobody listens on, by TCP or UDP.
pub(crate) fn free_port() -> u16 {
    free_port_run(&[0])
}

/// A port such that nobody listens on those at these distances above it, by TCP or UDP.
///
/// # Panics
/// Never: ports are below 65536.
#[must_use]
pub fn free_port_run(distances: &[u16]) -> u16 {
    let is_free = |port| {
        let place = (Ipv4Addr::LOCALHOST, port);
        TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok()
    };
    loop {
        let port =
            PORTS.start + u16::try_from(random() % u64::from(PORTS.end - PORTS.start)).expect("below 65536");
        if distances.iter().all(|distance| is_free(port + distance)) {
            return port;
        }
    }
}

/// Any number: the standard library's hasher starts from a fresh one each time.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
