//! The card as a device: one worker takes requests in the order they arrived, holds each until its time is up,
//! and answers. Whoever asks never waits inside a lock while the card is slow.
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::medium::{Medium, Survivors};
use crate::queue::{Queue, Work};

/// The card has no power (or had none since the asker opened it): an I/O error for the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoPower;

/// What is asked of the card; bounds have been checked.
#[derive(Debug)]
pub(crate) enum Ask {
    Read { offset: usize, length: usize },
    Write { offset: usize, data: Vec<u8> },
    Flush,
}

/// Called once, from the worker, with what was read (empty for writes and flushes).
pub(crate) type Answer = Box<dyn FnOnce(Result<Vec<u8>, NoPower>) + Send>;

/// Counters since the card was ready (or since the caller's last snapshot: subtract), completed work only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Write requests, as the block layer issued them.
    pub writes: u64,
    /// Bytes of them.
    pub bytes_written: u64,
    /// Flushes: each made everything written before it durable.
    pub flushes: u64,
    /// Read requests.
    pub reads: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Garbage-collection pauses.
    pub pauses: u64,
    /// Discard and write-zeroes requests; the card refuses them and the kernel writes zeros where it must.
    pub discards: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Requests answered with an I/O error for want of power.
    pub errors: u64,
    /// Time spent on work, pauses and stalls excluded, in microseconds.
    pub busy_micros: u64,
    /// Gauge: 512-byte sectors a power cut could lose now.
    pub unflushed_sectors: u64,
    /// Gauge: memory held for the card's content, in bytes.
    pub resident_bytes: u64,
    /// Gauge: requests waiting or in progress.
    pub waiting: u64,
}

impl Stats {
    /// What was counted since `earlier`; gauges stay as they are now.
    #[must_use]
    pub fn since(&self, earlier: &Stats) -> Stats {
        Stats {
            writes: self.writes - earlier.writes,
            bytes_written: self.bytes_written - earlier.bytes_written,
            flushes: self.flushes - earlier.flushes,
            reads: self.reads - earlier.reads,
            bytes_read: self.bytes_read - earlier.bytes_read,
            pauses: self.pauses - earlier.pauses,
            discards: self.discards - earlier.discards,
            cuts: self.cuts - earlier.cuts,
            errors: self.errors - earlier.errors,
            busy_micros: self.busy_micros - earlier.busy_micros,
            unflushed_sectors: self.unflushed_sectors,
            resident_bytes: self.resident_bytes,
            waiting: self.waiting,
        }
    }
}

struct Request {
    session: u64,
    arrived: Duration,
    ask: Ask,
    answer: Answer,
}

struct State {
    waiting: VecDeque<Request>,
    queue: Queue,
    medium: Medium,
    stats: Stats,
    powered: bool,
    /// Raised by every power cut: who opened the card before stays locked out, even after the power is back. So a
    /// loop device with dirty pages from before the cut can never write them onto what survived it.
    session: u64,
    /// When the request in progress is done.
    due: Option<Duration>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    started: Instant,
    size: u64,
}

/// A handle on the card; clones are the same card.
#[derive(Clone)]
pub(crate) struct Device {
    shared: Arc<Shared>,
}

impl Device {
    /// A card with power on and its worker running.
    pub(crate) fn start(size: u64, figures: Figures, seed: u64) -> std::io::Result<Device> {
        let bytes = usize::try_from(size).map_err(std::io::Error::other)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                queue: Queue::new(figures, seed),
                medium: Medium::new(bytes),
                stats: Stats::default(),
                powered: true,
                session: 1,
                due: None,
            }),
            changed: Condvar::new(),
            started: Instant::now(),
            size,
        });
        let device = Device { shared };
        let worker = device.clone();
        std::thread::Builder::new().name("card".into()).spawn(move || worker.work())?;
        Ok(device)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("nobody panics while holding the card's lock")
    }

    fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// The card's size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.shared.size
    }

    /// What a new opener presents with each request.
    pub(crate) fn session(&self) -> u64 {
        self.lock().session
    }

    /// Queues a request; it is answered from the worker.
    pub(crate) fn submit(&self, session: u64, ask: Ask, answer: Answer) {
        let arrived = self.now();
        self.lock().waiting.push_back(Request { session, arrived, ask, answer });
        self.shared.changed.notify_all();
    }

    /// A discard or write-zeroes was refused.
    pub(crate) fn count_discard(&self) {
        self.lock().stats.discards += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.lock();
        Stats {
            unflushed_sectors: state.medium.unflushed_sectors(),
            resident_bytes: u64::try_from(state.medium.resident_bytes()).unwrap_or(u64::MAX),
            waiting: u64::try_from(state.waiting.len()).unwrap_or(u64::MAX) + u64::from(state.due.is_some()),
            ..state.stats
        }
    }

    /// Counts from zero again.
    pub(crate) fn reset_stats(&self) {
        self.lock().stats = Stats::default();
    }

    pub(crate) fn figures(&self) -> Figures {
        self.lock().queue.figures()
    }

    pub(crate) fn set_figures(&self, figures: Figures) {
        self.lock().queue.set_figures(figures);
    }

    /// Nothing is done for `length`, from now.
    pub(crate) fn stall(&self, length: Duration) {
        let now = self.now();
        let mut state = self.lock();
        let later = state.queue.stall(now, length);
        state.due = state.due.map(|due| due.saturating_add(later));
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends stalls and pauses and works without cost from now on: for clearing up.
    pub(crate) fn hurry(&self, figures: Figures) {
        let now = self.now();
        let mut state = self.lock();
        state.queue.set_figures(figures);
        state.queue.restart(now);
        state.due = state.due.map(|due| due.min(now));
        drop(state);
        self.shared.changed.notify_all();
    }

    /// The power goes, at once: what is unflushed is kept or lost by sector, and everybody gets errors.
    pub(crate) fn cut(&self, seed: u64) -> Survivors {
        let mut state = self.lock();
        let survivors = state.medium.cut(seed);
        state.powered = false;
        state.session += 1;
        state.stats.cuts += 1;
        drop(state);
        self.shared.changed.notify_all();
        survivors
    }

    /// The power is back: who opens the card from now on sees what survived.
    pub(crate) fn power_on(&self) {
        let now = self.now();
        let mut state = self.lock();
        state.queue.restart(now);
        state.powered = true;
    }

    pub(crate) fn is_powered(&self) -> bool {
        self.lock().powered
    }

    fn work(&self) {
        loop {
            let (answer, result) = self.take_one();
            answer(result);
        }
    }

    /// Does the next request, however long it takes.
    fn take_one(&self) -> (Answer, Result<Vec<u8>, NoPower>) {
        let mut state = self
            .shared
            .changed
            .wait_while(self.lock(), |state| state.waiting.is_empty())
            .expect("nobody panics while holding the card's lock");
        let request = state.waiting.pop_front().expect("waited for one");
        if !state.serves(request.session) {
            state.stats.errors += 1;
            return (request.answer, Err(NoPower));
        }
        // A write's sectors count as written from the first moment on: a cut in the middle tears it.
        if let Ask::Write { offset, data } = &request.ask {
            state.medium.write(*offset, data);
        }
        let begun = state.queue.accept(request.arrived, work_of(&request.ask));
        state.due = Some(begun.done_at);
        state = self.wait_until_due(state, request.session);
        state.due = None;
        if !state.serves(request.session) {
            state.stats.errors += 1;
            return (request.answer, Err(NoPower));
        }
        state.stats.pauses += begun.pauses;
        state.stats.busy_micros += u64::try_from(begun.cost.as_micros()).unwrap_or(u64::MAX);
        let read = state.complete(request.ask);
        (request.answer, Ok(read))
    }

    fn wait_until_due<'a>(&self, mut state: MutexGuard<'a, State>, session: u64) -> MutexGuard<'a, State> {
        while state.serves(session) {
            let left = state.due.unwrap_or_default().saturating_sub(self.now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.expect("nobody panics while holding the card's lock").0;
        }
        state
    }
}

impl State {
    fn serves(&self, session: u64) -> bool {
        self.powered && self.session == session
    }

    /// Counts finished work and makes it so.
    fn complete(&mut self, ask: Ask) -> Vec<u8> {
        let mut read = Vec::new();
        match ask {
            Ask::Read { offset, length } => {
                read.resize(length, 0);
                self.medium.read(offset, &mut read);
                self.stats.reads += 1;
                self.stats.bytes_read += bytes(length);
            }
            Ask::Write { data, .. } => {
                self.stats.writes += 1;
                self.stats.bytes_written += bytes(data.len());
            }
            Ask::Flush => {
                self.medium.flush();
                self.stats.flushes += 1;
            }
        }
        read
    }
}

fn work_of(ask: &Ask) -> Work {
    match ask {
        Ask::Read { length, .. } => Work::Read(bytes(*length)),
        Ask::Write { offset, data } => Work::Write { offset: bytes(*offset), length: bytes(data.len()) },
        Ask::Flush => Work::Flush,
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Model;
    use std::sync::mpsc;

    fn card() -> Device {
        Device::start(1 << 20, Model::Free.figures(), 1).unwrap()
    }

    fn ask(card: &Device, session: u64, ask: Ask) -> mpsc::Receiver<Result<Vec<u8>, NoPower>> {
        let (send, answer) = mpsc::channel();
        card.submit(session, ask, Box::new(move |result| send.send(result).expect("the test still listens")));
        answer
    }

    fn write(byte: u8) -> Ask {
        Ask::Write { offset: 4096, data: vec![byte; 4096] }
    }

    #[test]
    fn what_is_written_is_read_and_counted() {
        let card = card();
        let session = card.session();
        ask(&card, session, write(7)).recv().unwrap().unwrap();
        assert_eq!(card.stats().unflushed_sectors, 8);
        ask(&card, session, Ask::Flush).recv().unwrap().unwrap();
        let read = ask(&card, session, Ask::Read { offset: 4095, length: 2 }).recv().unwrap().unwrap();
        assert_eq!(read, [0, 7]);
        let stats = card.stats();
        assert_eq!((stats.writes, stats.bytes_written, stats.flushes), (1, 4096, 1));
        assert_eq!((stats.reads, stats.bytes_read, stats.unflushed_sectors), (1, 2, 0));
    }

    #[test]
    fn a_stalled_card_does_nothing_until_it_is_hurried() {
        let card = card();
        card.stall(Duration::from_secs(3600));
        let flush = ask(&card, card.session(), Ask::Flush);
        assert!(flush.recv_timeout(Duration::from_millis(50)).is_err());
        assert_eq!((card.stats().flushes, card.stats().waiting), (0, 1));
        card.hurry(Model::Free.figures());
        flush.recv().unwrap().unwrap();
    }

    #[test]
    fn a_cut_fails_what_waits_and_locks_old_openers_out_for_good() {
        let card = card();
        let before = card.session();
        ask(&card, before, write(1)).recv().unwrap().unwrap();
        ask(&card, before, Ask::Flush).recv().unwrap().unwrap();
        card.stall(Duration::from_secs(3600));
        let (torn, never) = (ask(&card, before, write(2)), ask(&card, before, Ask::Flush));
        while card.stats().unflushed_sectors == 0 {
            std::thread::yield_now();
        }
        card.cut(3);
        assert_eq!((torn.recv().unwrap(), never.recv().unwrap()), (Err(NoPower), Err(NoPower)));
        card.power_on();
        assert_eq!(ask(&card, before, write(9)).recv().unwrap(), Err(NoPower), "opened before the cut");
        let all =
            ask(&card, card.session(), Ask::Read { offset: 4096, length: 4096 }).recv().unwrap().unwrap();
        assert!(all.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]));
        assert_eq!(card.stats().cuts, 1);
    }
}
