//! The board's memory: how much there is, and keeping the node's own pages in it (protocol.md rule 19).

use quorate_types::limits::QUOTA_BYTES_DEFAULT_MAX;
use rustix::mm::MlockAllFlags;
use std::fs::read_to_string;
use std::path::PathBuf;

/// What the quota takes of the memory by default: one part in four. The rest is for the page cache,
/// the WAL's buffers, queues, connections, and the orchestrator beside us.
const QUOTA_SHARE: u64 = 4;

/// Bytes of memory this process may use: the smaller of the board's and its control group's.
#[must_use]
pub fn bytes_allowed() -> u64 {
    let board = meminfo_total().unwrap_or(512 * 1024 * 1024);
    cgroup_limit().map_or(board, |limit| limit.min(board))
}

/// The default of `--quota-backend-bytes`.
#[must_use]
pub fn quota_default() -> u64 {
    (bytes_allowed() / QUOTA_SHARE).min(QUOTA_BYTES_DEFAULT_MAX)
}

fn meminfo_total() -> Option<u64> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The tightest limit from this process's control group up to the root; version 2, else version 1.
fn cgroup_limit() -> Option<u64> {
    let text = read_to_string("/proc/self/cgroup").ok()?;
    let read = |path: PathBuf| read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut tightest: Option<u64> = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = PathBuf::from(group.trim_start_matches('/'));
        for folder in group.ancestors() {
            let limit = read(PathBuf::from(root).join(folder).join(file));
            tightest = [tightest, limit].into_iter().flatten().min();
        }
    }
    tightest
}

/// Keeps the program in memory, so that none of its pages waits for a stalled card: text, data and the heap of
/// this moment are read in and stay.
///
/// To be called before the first thread: the stacks of those that run already would be read in whole. What is
/// allocated later is not locked, for locked pages cannot be given back to the system after a compaction; without swap
/// on the card it stays in memory all the same, and with swap a warning says so.
///
/// # Errors
/// A sentence with what to grant. The node runs on without.
pub fn lock() -> Result<(), String> {
    rustix::mm::mlockall(MlockAllFlags::CURRENT).map_err(|error| {
        format!(
            "the program is not locked in memory ({error}): grant CAP_IPC_LOCK or raise RLIMIT_MEMLOCK, or a stalled \
             card under memory pressure can hold the node up"
        )
    })
}

/// A warning if this machine swaps to a disk: then a stalled card can hold up any program on it.
#[must_use]
pub fn swap_warning() -> Option<String> {
    let text = read_to_string("/proc/swaps").ok()?;
    let on_disk = |line: &&str| !line.starts_with("/dev/zram");
    let swap = text.lines().skip(1).find(on_disk)?.split_whitespace().next()?;
    Some(format!("memory may be swapped out to {swap}: turn it off (swapoff) if that lies on the card"))
}

/// Resident bytes of this process, for metrics.
#[must_use]
pub fn resident_bytes() -> u64 {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_is_a_bounded_share() {
        assert!(bytes_allowed() > 0);
        assert!(quota_default() <= bytes_allowed() / 4);
        assert!(quota_default() <= QUOTA_BYTES_DEFAULT_MAX);
    }

    #[test]
    fn resident_memory_is_known() {
        assert!(resident_bytes() > 0);
    }
}
