//! Other programs: run to their end within a time, or left running until somebody ends them. Whatever is
//! started here is ended here, by its own process number.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(5);

/// A program that is running; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
    log: PathBuf,
    /// Says to a later run which process an interrupted one left behind; gone once it has ended, as the next
    /// process of that name writes its own there.
    pid_file: Option<PathBuf>,
}

impl Running {
    /// Starts it with its output in `folder/NAME.log`. It stays in our process group: Ctrl-C reaches it too.
    pub(crate) fn start(command: &mut Command, name: &str, folder: &Path) -> Result<Running> {
        let log = folder.join(format!("{name}.log"));
        let pid_file = folder.join(format!("{name}.pid"));
        let output = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{} does not start", command.get_program().display()))?;
        // Held first: if its number cannot be written, it is killed on the way out.
        let running = Running { child, name: name.to_owned(), log, pid_file: Some(pid_file.clone()) };
        fs::write(&pid_file, running.child.id().to_string())?;
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails with its last words if it has ended already.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status}): {}", self.name, last_words(&self.log)),
            None => Ok(()),
        }
    }

    /// Waits for its end; kills it after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.forget();
                return Ok(status);
            }
            if begun.elapsed() > limit {
                self.kill()?;
                bail!("{} did not end within {limit:?} and was killed", self.name);
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Result<()> {
        self.signal("-TERM")?;
        self.wait(limit).map(drop)
    }

    /// SIGINT, as from the keyboard: a load ends and reports.
    pub(crate) fn interrupt(&self) -> Result<()> {
        self.signal("-INT")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status()?;
        if !sent.success() {
            bail!("{} was gone before it was asked to stop: {}", self.name, last_words(&self.log));
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.strike()?;
        self.child.wait()?;
        self.forget();
        Ok(())
    }

    /// SIGKILL without waiting, so that several fall at once.
    pub(crate) fn strike(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    fn forget(&mut self) {
        if let Some(path) = self.pid_file.take() {
            // Gone already is as good.
            drop(fs::remove_file(path));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        drop(self.kill());
        self.forget();
    }
}

/// Runs a program to its end; what it printed. A code other than zero is an error with its last words.
pub(crate) fn run(command: &mut Command, folder: &Path, limit: Duration) -> Result<String> {
    run_as(command, "step", folder, limit)
}

/// The same under a name of its own, for programs that run at the same time.
pub(crate) fn run_as(command: &mut Command, name: &str, folder: &Path, limit: Duration) -> Result<String> {
    let mut running = Running::start(command, name, folder)?;
    let status = running.wait(limit)?;
    if !status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        bail!(
            "{} {}: {status}: {}",
            command.get_program().display(),
            words.join(" "),
            last_words(&running.log)
        );
    }
    running.output()
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Kills what an interrupted run left in its folder: only processes whose command line names a folder of that
/// run, as a process number alone may be somebody else's by now.
pub(crate) fn kill_left_behind(folder: &Path) -> Result<()> {
    // By name: data may lie in a folder of the same name elsewhere.
    let mark = format!("{}/", folder.file_name().context("a run's folder has a name")?.to_string_lossy());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let pid = fs::read_to_string(&path)?;
        let line = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        if line.contains(&mark) {
            Command::new("kill").args(["-KILL", pid.trim()]).status()?;
        }
    }
    Ok(())
}

/// Resident bytes of a process.
pub(crate) fn resident_bytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status).with_context(|| format!("no resident memory of process {pid}"))
}

fn parse_resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024.0)
}

/// The most memory a process has while it is watched.
pub(crate) struct PeakMemory {
    at_first: f64,
    is_over: Arc<AtomicBool>,
    sampler: JoinHandle<f64>,
}

impl PeakMemory {
    /// Starts to look, twenty times a second.
    pub(crate) fn watch(pid: u32) -> Result<PeakMemory> {
        const EVERY: Duration = Duration::from_millis(50);
        let at_first = resident_bytes(pid)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let sampler = std::thread::spawn(move || {
            let mut peak = at_first;
            while !told.load(Ordering::Relaxed) {
                // A process that has ended grows no more.
                peak = resident_bytes(pid).map_or(peak, |now| now.max(peak));
                std::thread::sleep(EVERY);
            }
            peak
        });
        Ok(PeakMemory { at_first, is_over, sampler })
    }

    /// What it grew by at most, in MiB; looks no more.
    pub(crate) fn grown_mebibytes(self) -> f64 {
        self.is_over.store(true, Ordering::Relaxed);
        let peak = self.sampler.join().unwrap_or(f64::NAN);
        (peak - self.at_first) / 1_048_576.0
    }
}

/// Processor time that a process has taken so far, in seconds of one core.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_cpu(&stat).with_context(|| format!("no processor time of process {pid}"))
}

fn parse_cpu(stat: &str) -> Option<f64> {
    // USER_HZ: what the kernel tells everybody, whatever its own tick is.
    const TICKS_A_SECOND: f64 = 100.0;
    // A name may hold anything, also spaces and parentheses: fields count from behind the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(parse_resident("VmPeak:\t 9 kB\nVmRSS:\t   20 kB\n"), Some(20_480.0));
        assert_eq!(parse_resident("VmPeak:\t 9 kB\n"), None);
        assert!(resident_bytes(std::process::id()).unwrap() > 0.0);
    }

    #[test]
    fn processor_time_is_read_whatever_the_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 500 0 0 0 150 25 9 9 20 0 4 0 100 1000 200";
        assert_eq!(parse_cpu(stat), Some(1.75));
        assert_eq!(parse_cpu("7 (a) S 1"), None);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }

    #[test]
    fn the_next_of_a_name_keeps_its_number_when_the_last_goes() {
        let folder = std::env::temp_dir().join(format!("xtask-names-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let start = || Running::start(Command::new("sleep").arg("1000"), "one", &folder).unwrap();
        let mut running = start();
        running.kill().unwrap();
        running = start();
        let number = fs::read_to_string(folder.join("one.pid")).unwrap();
        assert_eq!(number, running.pid().to_string());
        drop(running);
        assert!(!folder.join("one.pid").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_failing_program_says_why_and_a_hanging_one_ends() {
        let folder = std::env::temp_dir().join(format!("xtask-process-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let shell = |line: &str, limit| run(Command::new("sh").args(["-c", line]), &folder, limit);
        assert_eq!(shell("echo yes", Duration::from_secs(20)).unwrap(), "yes\n");
        let error = shell("echo because >&2; exit 3", Duration::from_secs(20)).unwrap_err().to_string();
        assert!(error.contains("because") && error.contains('3'), "{error}");
        assert!(
            shell("exec sleep 1000", Duration::from_millis(20)).unwrap_err().to_string().contains("killed")
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
