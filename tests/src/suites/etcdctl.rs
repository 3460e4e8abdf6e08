//! `etcdctl`, the command line of etcd, as a client of whatever server.

use super::is_there;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Longer than any healthy command takes; one that takes longer is ended and fails.
const SECONDS_MAX: &str = "60";

/// The tool, and the server it is to speak to.
#[derive(Debug, Clone)]
pub struct Etcdctl {
    endpoint: String,
}

/// What a command said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Standard output and error, in this order, without the tool's own log lines and without trailing space.
    pub words: String,
    /// Its exit code.
    pub code: i32,
}

impl Etcdctl {
    /// The tool named by `ETCDCTL`, or the one on the path; none where there is none.
    #[must_use]
    pub fn new(endpoint: &str) -> Option<Etcdctl> {
        is_there(&program(), "version").then(|| Etcdctl { endpoint: endpoint.to_owned() })
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started, or is ended by a signal.
    #[must_use]
    pub fn run(&self, stdin: &[u8], args: &[&str]) -> Said {
        let mut child = self.start(args, Stdio::piped());
        let mut pipe = child.stdin.take().expect("it is piped");
        // A command that refuses its arguments does not read.
        pipe.write_all(stdin).ok();
        drop(pipe);
        let output = child.wait_with_output().expect("one's own child can be waited for");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("{\"level\"")).collect();
        let code = output.status.code().unwrap_or_else(|| panic!("{args:?}: {}", output.status));
        Said { words: lines.join("\n").trim_end().to_owned(), code }
    }

    /// Runs a command that has to succeed, and gives its words.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(b"", args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.words);
        said.words
    }

    /// Starts a command that goes on by itself until it is interrupted.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut child = self.start(args, Stdio::null());
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Running { child, lines }
    }

    fn start(&self, args: &[&str], stdin: Stdio) -> Child {
        // In the foreground, `timeout` hands on the signals it gets and ends with its command's exit code.
        let mut command = Command::new("timeout");
        command.args(["--foreground", SECONDS_MAX]).arg(program()).args(args);
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", &self.endpoint);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("coreutils' timeout is there")
    }
}

fn program() -> String {
    std::env::var("ETCDCTL").unwrap_or_else(|_| "etcdctl".to_owned())
}

/// A command that goes on; interrupted when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    /// Its next line; empty at its end.
    ///
    /// # Panics
    /// If it says what is no text.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it speaks text");
        line.trim_end().to_owned()
    }

    /// Ends it as a person at a terminal does, and waits.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn interrupt(&mut self) {
        // It may have ended by itself.
        kill_process(Pid::from_child(&self.child), Signal::INT).ok();
        self.child.wait().expect("one's own child can be waited for");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.interrupt();
        }
    }
}
