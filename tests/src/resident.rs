//! What a process holds in memory, as the kernel counts it.

use rustix::process::Pid;
use std::fs;
use std::io;

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
