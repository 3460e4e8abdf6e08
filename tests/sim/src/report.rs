//! Many seeds: run on a few threads, each seed on one; added up; stopped at the first that fails.

use crate::{Failure, Options, Report, Situation, Situations, run};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// What many seeds came to.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// Seeds that went well.
    pub seeds: u64,
    /// What they reached.
    pub situations: Situations,
    /// Elections won.
    pub elections: u64,
    /// Entries committed.
    pub committed: u64,
    /// Operations of clients.
    pub operations: u64,
    /// Turns of drivers.
    pub turns: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// The slowest recovery, and of which seed.
    pub recovery_slowest: (u64, u64),
}

impl Sum {
    /// Adds one seed.
    pub fn add(&mut self, report: &Report) {
        let widen = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.seeds += 1;
        self.situations.add(&report.situations);
        self.elections += widen(report.elections);
        self.committed += widen(report.committed);
        self.operations += widen(report.operations);
        self.turns += report.turns;
        self.virtual_ms += report.virtual_ms;
        self.recovery_slowest = self.recovery_slowest.max((report.recovery_ms, report.seed));
    }

    /// As a text for people.
    #[must_use]
    pub fn print(&self) -> String {
        let (recovery_ms, slowest) = self.recovery_slowest;
        let mut text = format!(
            "{} seeds, {} virtual minutes, {} turns, {} elections, {} entries, {} operations; slowest recovery {} ms \
             (seed {slowest})\n",
            self.seeds,
            self.virtual_ms / 60_000,
            self.turns,
            self.elections,
            self.committed,
            self.operations,
            recovery_ms,
        );
        for situation in Situation::ALL {
            text += &format!("{:>9}  {}\n", self.situations.count(*situation), situation.words());
        }
        text
    }
}

/// Runs one seed; an assertion of the code under test counts as a finding.
///
/// # Errors
/// What a checker or an assertion said.
pub fn run_guarded(seed: u64, options: Options) -> Result<Report, Box<Failure>> {
    // What a panic leaves behind is the seed's own world, which goes with it.
    catch_unwind(AssertUnwindSafe(|| run(seed, options))).unwrap_or_else(|panic| {
        let words = format!("stopped by an assertion: {}", words_of(&panic));
        let story = "  run the seed again with --verbose to see how it came to that\n".into();
        Err(Box::new(Failure { seed, at_ms: 0, words, story }))
    })
}

fn words_of(panic: &Box<dyn Any + Send>) -> String {
    if let Some(words) = panic.downcast_ref::<&str>() {
        return (*words).to_owned();
    }
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "without words".into())
}

/// Takes seeds from `next` until it has none or one fails, on so many threads; the sum, and the failure of the
/// lowest seed that failed.
pub fn run_many(
    threads: usize,
    options: Options,
    next: impl Fn(u64) -> Option<u64> + Sync,
) -> (Sum, Option<Box<Failure>>) {
    let (taken, has_failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new((Sum::default(), None::<Box<Failure>>));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !has_failed.load(Ordering::Relaxed)
                    && let Some(seed) = next(taken.fetch_add(1, Ordering::Relaxed))
                {
                    let outcome = run_guarded(seed, options);
                    let mut sum = sum.lock().expect("no thread panics while it adds up");
                    match outcome {
                        Ok(report) => sum.0.add(&report),
                        Err(failure) => {
                            has_failed.store(true, Ordering::Relaxed);
                            let is_lower = sum.1.as_ref().is_none_or(|known| failure.seed < known.seed);
                            if is_lower {
                                sum.1 = Some(failure);
                            }
                        }
                    }
                }
            });
        }
    });
    sum.into_inner().expect("no thread panics while it adds up")
}
