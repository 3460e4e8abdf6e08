//! The measuring itself, on a thread of its own: a card that hangs holds that thread, never the report.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_bench::{DeviceCounts, Latencies, Meter, block_device_meter};
use quorate_board::storage::{BLOCK_BYTES, Device, Facts, Finding, PAUSE_LAST, ReadBack, SampleFile};
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const BLOCKS_A_MIB: u64 = MIB / BLOCK;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What is written in bulk for the bandwidth, in MiB; each piece is synced. Small ones first, so that the slowest
/// card ends in time.
const PIECES_MIB: [u64; 6] = [1, 1, 2, 4, 4, 4];
const BULK_MIB: u64 = 16;

/// Appends: each costs a block of zeros and a block of data.
const APPEND_COUNT_MAX: u64 = 4_096;
/// Of these, beside a neighbour.
const BESIDE_COUNT_MAX: u64 = 1_024;
/// A median of fewer says nothing.
const APPEND_COUNT_MIN: u64 = 8;

/// What the neighbour writes and syncs each second (slow-cards: 2 MiB), and in all.
const NEIGHBOUR_MIB: u64 = 2;
const NEIGHBOUR_MIB_MAX: u64 = 16;
const NEIGHBOUR_TIME: Duration = Duration::from_secs(8);

/// Most bytes written to the card.
pub(crate) const WRITE_BYTES_MAX: u64 = 2 * APPEND_COUNT_MAX * BLOCK + (BULK_MIB + NEIGHBOUR_MIB_MAX) * MIB;
const _: () = assert!(WRITE_BYTES_MAX == 64 * MIB);

/// Room that measuring needs: both files, and what the file system adds.
pub(crate) const NEEDED_BYTES: u64 = APPEND_COUNT_MAX * BLOCK + (BULK_MIB + 8) * MIB;

/// Nobody waits longer for one answer of the card.
const HANG_TIME: Duration = Duration::from_secs(30);

/// How often the bar is drawn.
const DRAW: Duration = Duration::from_millis(100);

/// What was measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// Appends, each synced, and nothing else on the card.
    pub(crate) appends: Latencies,
    /// Appends beside a neighbour's writes.
    pub(crate) beside: Latencies,
    /// Bytes written in bulk, and how long it took.
    pub(crate) bulk: (u64, Duration),
    /// What reading back showed.
    pub(crate) read: Option<ReadBack>,
    /// What the device did for the appends; none if nobody counts.
    pub(crate) device: Option<DeviceCounts>,
    /// Bytes written in all.
    pub(crate) bytes_written: u64,
    /// What the card refused, in the system's words.
    pub(crate) refusal: Option<String>,
    /// The disk ran full meanwhile.
    pub(crate) is_full: bool,
    /// An answer that never came in this time.
    pub(crate) hang: Option<Duration>,
}

impl Measured {
    /// Median of the appends and the longest of all; none before the first.
    pub(crate) fn syncs(&self) -> Option<(Duration, Duration)> {
        let of_ms = |ms: f64| Duration::from_secs_f64(ms / 1_000.0);
        let alone = self.appends.quantiles();
        let beside = self.beside.quantiles().map(|quantiles| of_ms(quantiles.max_ms));
        let longest = [alone.map(|quantiles| of_ms(quantiles.max_ms)), beside, self.hang]
            .into_iter()
            .flatten()
            .max()?;
        Some((alone.map_or(longest, |quantiles| of_ms(quantiles.p50_ms)), longest))
    }

    /// What the figures say is wrong.
    pub(crate) fn findings(&self, facts: &Facts) -> Vec<Finding> {
        let mut findings = Vec::new();
        let count = self.appends.count();
        if count >= APPEND_COUNT_MIN {
            findings.extend(self.syncs().and_then(|(p50, _)| facts.suspicion(p50)));
            let has_cache = facts.device.as_ref().is_some_and(|device| device.has_cache == Some(true));
            // Half: another program's flush at the same moment may serve for one of ours.
            findings.extend(
                self.device
                    .filter(|counts| has_cache && counts.flushes < count / 2)
                    .map(|counts| Finding::SyncsDoNotArrive { appends: count, flushes: counts.flushes }),
            );
        }
        let wrong = self.read.map_or(0, |read| read.wrong_blocks);
        findings.extend((wrong > 0).then_some(Finding::WrongBytes { blocks: wrong }));
        let free = facts.free_bytes;
        findings.extend(self.is_full.then_some(Finding::NoSpace { needed: NEEDED_BYTES, free }));
        findings
    }
}

/// What the measuring thread shows of itself.
#[derive(Debug, Default)]
struct Shown {
    measured: Measured,
    phase: &'static str,
    waits_since: Option<Instant>,
}

type Shared = Arc<Mutex<Shown>>;

/// A measuring thread that panicked has shown what it had.
fn look(shown: &Shared) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures for about `time`, with a bar where standard error is a terminal.
pub(crate) fn measure(log: SampleFile, bulk: SampleFile, facts: &Facts, time: Duration) -> Measured {
    let shown = Shared::default();
    let meter = facts
        .device
        .as_ref()
        .filter(|device| Device::counts_flushes(device))
        .and_then(|device| block_device_meter(&device.name).ok());
    let course = Course { shown: Arc::clone(&shown), log, bulk, meter, begun: Instant::now(), time };
    let (ends, end) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        course.run();
        drop(ends);
    });
    let bar = bar(time);
    let begun = Instant::now();
    while end.recv_timeout(DRAW) == Err(mpsc::RecvTimeoutError::Timeout) {
        let mut now = look(&shown);
        let waits = now.waits_since.map_or(Duration::ZERO, |since| since.elapsed());
        draw(&bar, begun.elapsed(), &now, waits);
        if waits > HANG_TIME {
            now.measured.hang = Some(waits);
            break;
        }
    }
    bar.finish_and_clear();
    let is_hung = look(&shown).measured.hang.is_some();
    if !is_hung && thread.join().is_err() {
        look(&shown).measured.refusal.get_or_insert_with(|| "the measuring ended by itself".into());
    }
    look(&shown).measured.clone()
}

fn bar(time: Duration) -> ProgressBar {
    let length = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(10));
    let template = "{bar:40} {percent:>3} %  {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant and valid"));
    bar
}

fn draw(bar: &ProgressBar, elapsed: Duration, now: &Shown, waits: Duration) {
    let position = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    bar.set_position(position.min(bar.length().unwrap_or(position)));
    let count = now.measured.appends.count() + now.measured.beside.count();
    bar.set_message(if waits > Duration::from_secs(1) {
        format!("{}: waiting for the card for {:.0} s", now.phase, waits.as_secs_f64())
    } else {
        format!("{}: {count} appends", now.phase)
    });
}

/// One measuring from begin to end.
struct Course {
    shown: Shared,
    log: SampleFile,
    bulk: SampleFile,
    meter: Option<Meter>,
    begun: Instant,
    time: Duration,
}

impl Course {
    fn run(mut self) {
        if let Err(error) = self.phases() {
            let mut shown = look(&self.shown);
            if error.kind() == io::ErrorKind::StorageFull {
                shown.measured.is_full = true;
            } else {
                shown.measured.refusal = Some(error.to_string());
            }
        }
    }

    fn phases(&mut self) -> io::Result<()> {
        self.measure_bulk()?;
        if self.measure_appends()?.is_continue() {
            self.measure_beside()?;
        }
        self.read_back()
    }

    /// The bare bandwidth: a sixth of the time.
    fn measure_bulk(&mut self) -> io::Result<()> {
        look(&self.shown).phase = "bandwidth";
        let end = self.begun + self.time / 6;
        let mut at = 0;
        for piece in PIECES_MIB {
            let blocks = piece * BLOCKS_A_MIB;
            let took = wait_for(&self.shown, || self.bulk.write_bulk(at, blocks))?;
            at += blocks;
            let mut shown = look(&self.shown);
            shown.measured.bulk.0 += piece * MIB;
            shown.measured.bulk.1 += took;
            shown.measured.bytes_written += piece * MIB;
            if Instant::now() >= end {
                break;
            }
        }
        Ok(())
    }

    /// Up to three quarters of the time. Breaks off at a sync after which nothing more needs to be known.
    fn measure_appends(&mut self) -> io::Result<ControlFlow<()>> {
        look(&self.shown).phase = "appends alone";
        let end = self.begun + self.time * 3 / 4;
        let mut counts: Option<DeviceCounts> = None;
        let mut stretch = self.read_meter();
        for number in 0..APPEND_COUNT_MAX - BESIDE_COUNT_MAX {
            if number >= APPEND_COUNT_MIN && Instant::now() >= end {
                break;
            }
            if self.log.blocks_left() == 0 {
                add_stretch(&mut counts, stretch, self.read_meter());
                self.fill()?;
                stretch = self.read_meter();
            }
            let took = wait_for(&self.shown, || self.log.append())?;
            let mut shown = look(&self.shown);
            shown.measured.appends.record(took);
            shown.measured.bytes_written += BLOCK;
            if took > PAUSE_LAST {
                return Ok(ControlFlow::Break(()));
            }
        }
        add_stretch(&mut counts, stretch, self.read_meter());
        look(&self.shown).measured.device = counts;
        Ok(ControlFlow::Continue(()))
    }

    /// Appends spread over the last quarter of the time, while a neighbour writes and syncs 2 MiB a second.
    fn measure_beside(&mut self) -> io::Result<()> {
        look(&self.shown).phase = "appends beside a neighbour";
        let time = (self.time / 4).min(NEIGHBOUR_TIME);
        let pace = time / u32::try_from(BESIDE_COUNT_MAX).unwrap_or(u32::MAX);
        let end = Instant::now() + time;
        let shown = Arc::clone(&self.shown);
        let log = &mut self.log;
        let bulk = &mut self.bulk;
        std::thread::scope(|scope| {
            let (stop, stopped) = mpsc::channel::<()>();
            let neighbour = scope.spawn({
                let shown = Arc::clone(&shown);
                move || be_neighbour(bulk, &shown, &stopped)
            });
            let result = append_beside(log, &shown, pace, end);
            drop(stop);
            let neighbour = wait_for(&shown, || {
                neighbour.join().map_err(|_| io::Error::other("the neighbour ended by itself"))
            })?;
            result.and(neighbour)
        })
    }

    /// A part of the time for each file; every byte is compared.
    fn read_back(&self) -> io::Result<()> {
        look(&self.shown).phase = "reading back";
        let limit = self.time / 10;
        let bulk = wait_for(&self.shown, || self.bulk.read_back(limit))?;
        look(&self.shown).measured.read = Some(bulk);
        // The bandwidth is the large file's; of the log only the bytes count.
        let log = wait_for(&self.shown, || self.log.read_back(limit))?;
        if let Some(read) = &mut look(&self.shown).measured.read {
            read.wrong_blocks += log.wrong_blocks;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        wait_for(&self.shown, || self.log.fill(BLOCKS_A_MIB))?;
        look(&self.shown).measured.bytes_written += MIB;
        Ok(())
    }

    fn read_meter(&self) -> Option<DeviceCounts> {
        self.meter.as_ref().and_then(|meter| meter().ok())
    }
}

/// Adds what the device did between two readings.
fn add_stretch(sum: &mut Option<DeviceCounts>, from: Option<DeviceCounts>, to: Option<DeviceCounts>) {
    let (Some(from), Some(to)) = (from, to) else { return };
    let more = to.since(from);
    let sum = sum.get_or_insert_default();
    sum.writes += more.writes;
    sum.bytes += more.bytes;
    sum.flushes += more.flushes;
}

fn append_beside(log: &mut SampleFile, shown: &Shared, pace: Duration, end: Instant) -> io::Result<()> {
    for number in 0..BESIDE_COUNT_MAX {
        if number >= APPEND_COUNT_MIN && Instant::now() >= end {
            break;
        }
        if log.blocks_left() == 0 {
            wait_for(shown, || log.fill(BLOCKS_A_MIB))?;
            look(shown).measured.bytes_written += MIB;
        }
        let begun = Instant::now();
        let took = wait_for(shown, || log.append())?;
        let mut now = look(shown);
        now.measured.beside.record(took);
        now.measured.bytes_written += BLOCK;
        drop(now);
        if took > PAUSE_LAST {
            break;
        }
        std::thread::sleep(pace.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

/// Writes and syncs 2 MiB at the begin of each second until it is stopped.
fn be_neighbour(bulk: &mut SampleFile, shown: &Shared, stopped: &mpsc::Receiver<()>) -> io::Result<()> {
    for turn in 0..NEIGHBOUR_MIB_MAX / NEIGHBOUR_MIB {
        let next = Instant::now() + Duration::from_secs(1);
        let at = turn * NEIGHBOUR_MIB % BULK_MIB;
        bulk.write_bulk(at * BLOCKS_A_MIB, NEIGHBOUR_MIB * BLOCKS_A_MIB)?;
        look(shown).measured.bytes_written += NEIGHBOUR_MIB * MIB;
        let rest = next.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(rest) == Err(mpsc::RecvTimeoutError::Disconnected) {
            break;
        }
    }
    Ok(())
}

/// Notes since when the card is waited for.
fn wait_for<T>(shown: &Shared, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    look(shown).waits_since = Some(Instant::now());
    let answer = work();
    look(shown).waits_since = None;
    answer
}
