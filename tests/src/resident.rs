//! What a process holds in memory, as the kernel counts it.

use rustix::process::Pid;
use std::fs;
use std::io;
use std::path::Path;

/// Resident memory now, in bytes.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn resident(pid: Pid) -> u64 {
    status(pid, "VmRSS:")
}

/// The most that was resident since the start or `reset_peak`, in bytes.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn peak(pid: Pid) -> u64 {
    status(pid, "VmHWM:")
}

/// How much of a file the process has mapped is resident, in bytes: of a program, its text first of all.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn of_file(pid: Pid, file: &Path) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{}/smaps", pid.as_raw_nonzero()));
    let (mut is_of_file, mut kibibytes) = (false, 0);
    for line in maps.expect("the process is there").lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Rss:") if is_of_file => {
                kibibytes += words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            }
            // A mapping begins with its addresses and ends with its file.
            Some(first) if !first.ends_with(':') => is_of_file = words.last().map(Path::new) == Some(file),
            Some(_) | None => {}
        }
    }
    kibibytes * 1024
}

/// From now on the peak counts from what is resident now.
///
/// # Errors
/// What the system says: a kernel may be built without it.
pub fn reset_peak(pid: Pid) -> io::Result<()> {
    fs::write(format!("/proc/{}/clear_refs", pid.as_raw_nonzero()), "5")
}

fn status(pid: Pid, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    let text = text.expect("the process is there");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("every kernel says it");
    let figure = line.split_whitespace().next().expect("a figure follows");
    figure.parse::<u64>().expect("in decimal") * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_counted() {
        const BYTES: usize = 32 * 1024 * 1024;
        let own = rustix::process::getpid();
        let before = resident(own);
        if let Err(error) = reset_peak(own) {
            crate::skip!("peaks cannot be counted anew: {error}");
        }
        let held = vec![1_u8; BYTES];
        assert!(std::hint::black_box(&held).iter().all(|byte| *byte == 1));
        drop(held);
        let grown = peak(own) - before;
        assert!(grown > BYTES as u64 * 9 / 10, "{grown}");
    }
}
