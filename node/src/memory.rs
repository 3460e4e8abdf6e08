//! The board's memory: how much there is, and keeping the node's own pages in it (protocol.md rule 19).

use quorate_types::limits::QUOTA_BYTES_DEFAULT_MAX;
use rustix::mm::MlockAllFlags;
use rustix::process::Resource;
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

/// Keeps the program and its working set in memory, so that no page of either waits for a stalled card.
///
/// What is mapped at this moment (text, data) is read in now; what comes later is locked when touched,
/// not in advance. To be called before the first thread: the stacks of those that run already would be
/// read in whole. Answers what a log line should say if locking was not allowed.
///
/// # Errors
/// A sentence with what to grant. The node runs on without.
pub fn lock() -> Result<(), String> {
    // With a finite limit, locking what comes later would turn an allocation beyond it into an abort.
    let limit = rustix::process::getrlimit(Resource::Memlock).current;
    let is_privileged = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::IPC_LOCK));
    if limit.is_some() && !is_privileged {
        return Err(
            "memory is not locked: grant CAP_IPC_LOCK or an unlimited RLIMIT_MEMLOCK, or a stalled card \
                    under memory pressure can hold the node up"
                .into(),
        );
    }
    rustix::mm::mlockall(MlockAllFlags::CURRENT)
        .and_then(|()| rustix::mm::mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT))
        .map_err(|error| format!("memory is not locked: mlockall failed: {error}"))
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
