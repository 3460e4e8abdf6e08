//! A neighbour that takes a share of every core, as a virtual machine's or a board's other work does: in bursts,
//! and before anybody else's turn.

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A burst and the rest after it.
const PERIOD: Duration = Duration::from_millis(100);

/// Before every ordinary process: the lowest niceness there is, which needs root.
const NICENESS: i32 = -20;

/// The neighbour; it leaves when this is dropped.
#[derive(Debug)]
pub struct Thief {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Thief {
    /// Takes so many hundredths of every core from now on.
    ///
    /// # Panics
    /// If it cannot: then nothing would be stolen and nothing proved.
    #[must_use]
    pub fn start(share: u32) -> Thief {
        let ending = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().expect("the system knows its cores").get();
        let steal = |core| {
            let ending = Arc::clone(&ending);
            std::thread::spawn(move || take(core, share, &ending))
        };
        Thief { threads: (0..cores).map(steal).collect(), ending: Arc::clone(&ending) }
    }
}

fn take(core: usize, share: u32, ending: &AtomicBool) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(Some(gettid()), &cores).expect("a core of its own");
    setpriority_process(Some(gettid()), NICENESS).expect("niceness below 0 needs root");
    while !ending.load(Ordering::Relaxed) {
        let burst = Instant::now();
        while burst.elapsed() < PERIOD * share / 100 {
            std::hint::spin_loop();
        }
        std::thread::sleep(PERIOD - PERIOD * share / 100);
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What it panicked with is printed already.
            thread.join().ok();
        }
    }
}
