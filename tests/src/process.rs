//! One process of a program under test: started, signalled, ended, always by its own id, with all it said in one file.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a start, a stop or a page may take before the test is called broken; no test measures by it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Lines of the program's own words shown when something fails.
const LOG_LINES_SHOWN: usize = 60;

/// A process, or the place of one that ended; dropping it kills what runs.
#[derive(Debug)]
pub struct Process {
    name: String,
    log_path: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// One that does not run yet. `name` is for reports; `log_path` takes what all its starts say.
    #[must_use]
    pub fn new(name: impl Into<String>, log_path: PathBuf) -> Process {
        Process { name: name.into(), log_path, child: None }
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it still runs or cannot be started.
    pub fn spawn(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "{} still runs", self.name);
        let log = File::options().create(true).append(true).open(&self.log_path);
        let log = log.expect("the log file can be opened");
        let both = log.try_clone().expect("a file handle can be copied");
        command.stdin(Stdio::null()).stdout(log).stderr(both);
        let child = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        self.child = Some(child);
    }

    /// Kills it as a power cut of the board would end it: SIGKILL, and gone when this returns.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("one's own child can be killed");
        child.wait().expect("one's own child can be waited for");
    }

    /// SIGSTOP: it stands still, with its connections open.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// If it does not run or does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("one's own child can be signalled");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.try_wait() {
                self.child = None;
                return status;
            }
            assert!(began.elapsed() < LIMIT, "{} does not end\n{}", self.name, self.last_lines());
            std::thread::sleep(POLL);
        }
    }

    /// How it ended, if it has by itself.
    ///
    /// # Panics
    /// Never for one's own child.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("one's own child can be asked")
    }

    /// Whether it was started and ended by itself, unnoticed so far.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let Some(child) = &self.child else { return false };
        // A process that nobody has waited for yet is a zombie: its state follows its name in brackets.
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    }

    /// Whether it was started and neither killed nor seen to end.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Its id.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// What it is called in reports.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All it said since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log_path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of what it said.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // It may have ended by itself; either way it is reaped.
        child.kill().ok();
        let status = child.wait().ok();
        if std::thread::panicking() {
            let signal = status.and_then(|status| status.signal());
            eprintln!("--- {} (ended by signal {signal:?}) said last:\n{}", self.name, self.last_lines());
        }
    }
}
