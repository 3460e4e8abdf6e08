//! The only file that may be unsafe: one operation per block, each with its reason.
#![allow(unsafe_code, reason = "what the system offers only through C stands here and nowhere else")]

/// Gives pages that the allocator holds and nobody uses back to the system.
///
/// glibc's gives back by itself only what is free at its heap's end; compaction frees what lies between. It
/// walks the whole heap (about 10 ms for 300 MiB), with the heap locked: to be called rarely, after
/// much was freed. musl's allocator gives back by itself, so there it does nothing.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    {
        // Safety: malloc_trim takes no pointer and changes nothing that is allocated; it may be called from any
        // thread at any time (malloc_trim(3): MT-Safe).
        let _gave_any: i32 = unsafe { libc::malloc_trim(0) };
    }
}

/// How urgent what a thread reads and writes is to the block device, where its scheduler knows priorities (BFQ,
/// mq-deadline); elsewhere it changes nothing. See ioprio_set(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoPriority {
    /// Somebody waits for each write: before all others, as far as the system allows.
    Log,
    /// Nobody waits.
    Background,
}

/// ioprio_set(2), linux/ioprio.h.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_SHIFT: libc::c_int = 13;
const IOPRIO_CLASS_RT: libc::c_int = 1;
const IOPRIO_CLASS_BE: libc::c_int = 2;

/// Gives the calling thread that priority; whether the system did. The real-time class is for root alone: others get
/// the best of the usual class.
pub fn set_io_priority(priority: IoPriority) -> bool {
    let tries = match priority {
        IoPriority::Log => [(IOPRIO_CLASS_RT, 4), (IOPRIO_CLASS_BE, 0)],
        IoPriority::Background => [(IOPRIO_CLASS_BE, 7), (IOPRIO_CLASS_BE, 7)],
    };
    tries.into_iter().any(|(class, level)| {
        let value: libc::c_int = class << IOPRIO_CLASS_SHIFT | level;
        let this_thread: libc::c_int = 0;
        // Safety: ioprio_set takes three integers and no pointer, and changes nothing but how the kernel orders
        // this thread's requests.
        let outcome = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, this_thread, value) };
        outcome == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_write_in_the_background() {
        assert!(set_io_priority(IoPriority::Background) && set_io_priority(IoPriority::Log));
    }

    fn resident_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
    }

    /// Half of 128 MiB in small pieces is freed, every other run of pages: only giving back shrinks the process.
    #[test]
    fn what_lies_between_goes_back() {
        let mut runs: Vec<Vec<Box<[u8]>>> =
            (0..1024).map(|_| (0..128).map(|_| vec![1_u8; 1_000].into_boxed_slice()).collect()).collect();
        let full = resident_kib();
        for run in runs.iter_mut().step_by(2) {
            run.clear();
        }
        give_back_memory();
        let after = resident_kib();
        assert!(after + 32 * 1024 < full, "{full} KiB became {after} KiB");
        assert_eq!(runs.iter().flatten().map(|piece| usize::from(piece[0])).sum::<usize>(), 512 * 128);
    }
}
