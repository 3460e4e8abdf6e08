//! Test suites of published clients, run as they are published against a node of ours.
//!
//! What cannot pass yet stands in a list with its reasons. The list cannot rot: an excluded test is run as
//! well, after all others, and one that passes, or that does not exist, breaks the run.

pub mod aetcd;
pub mod etcd_client;
pub mod etcdctl;
mod report;

pub use report::{Report, Verdict};

use std::path::Path;
use std::process::{Command, Stdio};

/// A test of a suite that is expected to fail today.
#[derive(Debug, Clone, Copy)]
pub struct Exclusion {
    /// As the suite names it.
    pub test: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// What a run of a suite has to come to.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// How many tests pass.
    pub passed_count: usize,
    /// What the suite itself leaves out on a server like ours, by name.
    pub ignored: &'a [&'a str],
    /// What is left out by us.
    pub excluded: &'a [Exclusion],
}

impl Expected<'_> {
    /// Compares it with the run of everything but the exclusions, and with the run of the exclusions alone.
    ///
    /// # Panics
    /// If they differ; the words of the run that does are shown.
    pub fn check(&self, main: &Report, excluded: &Report) {
        assert_eq!(main.names(Verdict::Failed), Vec::<&str>::new(), "failed\n{}", main.words);
        let passed = main.names(Verdict::Passed);
        assert_eq!(passed.len(), self.passed_count, "passed: {passed:#?}\n{}", main.words);
        let mut ignored = self.ignored.to_vec();
        ignored.sort_unstable();
        assert_eq!(main.names(Verdict::Ignored), ignored, "left out by the suite itself\n{}", main.words);
        let mut listed: Vec<&str> = self.excluded.iter().map(|exclusion| exclusion.test).collect();
        listed.sort_unstable();
        assert_eq!(
            excluded.names(Verdict::Failed),
            listed,
            "every excluded test fails, and no other; take what passes off the list\n{}",
            excluded.words
        );
        assert_eq!(excluded.names(Verdict::Passed), Vec::<&str>::new(), "{}", excluded.words);
    }
}

/// Whether a program can be run at all.
#[must_use]
pub fn is_there(program: &str, asking: &str) -> bool {
    let status = Command::new(program).arg(asking).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A command that is ended, with all it started, when it takes longer than any healthy run does.
fn limited(seconds: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(seconds.to_string()).arg(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a command and gives all it said.
///
/// # Errors
/// What it said, if it did not succeed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let mut words = String::from_utf8_lossy(&output.stdout).into_owned();
    words.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(words) } else { Err(format!("{command:?}: {}\n{words}", output.status)) }
}

/// Runs a command whose failure is part of what it reports, and gives all it said.
fn words(command: &mut Command) -> String {
    run(command).unwrap_or_else(|words| words)
}

/// Removes what an earlier run left half done, or made of other versions, and says whether nothing is left
/// to do.
///
/// # Errors
/// What the file system says.
fn is_done(folder: &Path, versions: &str) -> std::io::Result<bool> {
    if std::fs::read_to_string(folder.join("done")).is_ok_and(|done| done == versions) {
        return Ok(true);
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    Ok(false)
}

/// Notes that the folder is whole, and of which versions.
///
/// # Errors
/// What the file system says.
fn mark_done(folder: &Path, versions: &str) -> std::io::Result<()> {
    std::fs::write(folder.join("done"), versions)
}
