//! The threads that wait for the card, as events: the wal, the background's jobs, the fetcher. Each does what the
//! real thread does, in the same steps, at the moments the simulated card allows.

use crate::board::{Board, Slot};
use crate::card::Card;
use crate::process::WalState;
use crate::queue::{Event, Life, MS, Nanos};
use crate::situation::Situation;
use crate::world::World;
use quorate_api::Refusal;
use quorate_types::{NodeId, Position, Start};
use quorate_wal::{ImageHead, ImageWriter, Preparer, remove_unfinished_images};
use quorated::background::Job;
use quorated::inbox::{ExportId, ExportSlice, Inbound, Reply};
use quorated::starts::write_seen;
use quorated::wal_worker::{Next, WalRequest};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// What the background thread is in the middle of.
pub(crate) enum Work {
    Spare(Preparer<Card>),
    Image(Box<ImageWork>),
    Seen(BTreeMap<NodeId, Start>),
}

/// An image being written.
pub(crate) struct ImageWork {
    export: ExportId,
    position: Position,
    number: u64,
    writer: Option<ImageWriter<Card>>,
    slice: Option<oneshot::Receiver<Result<ExportSlice, Refusal>>>,
    /// It is whole, of that size, and the card is at it.
    written: Option<u64>,
}

/// Steps of a segment's filling done in one go: half a MiB, then a rest as long as it took.
const SPARE_STEPS: u32 = 8;

impl World {
    /// Lets the wal thread begin its next batch, if it waits for one.
    pub(crate) fn pump_wal(&mut self, slot: Slot) {
        let now = self.now;
        self.give_wal(slot);
        let board = &mut self.boards[slot.0];
        let life = board.life;
        let Some(process) = board.process.as_mut() else { return };
        if process.wal_state != WalState::Idle || !process.wal.gather_waiting() {
            return;
        }
        if let Err(error) = process.wal.write() {
            process.wal.fail(&error);
            process.wal_state = WalState::Ended;
            return self.wake_soon(slot);
        }
        process.wal_state = WalState::Busy;
        let demand = board.card.take_demand() + board.card.flush_time();
        let done = board.card_done(now, demand);
        self.queue.push(done, Event::WalDone(slot, life));
    }

    /// Hands on what the driver gave the wal thread, and notes what of it touches the log.
    fn give_wal(&mut self, slot: Slot) {
        let Board { process, log, .. } = &mut self.boards[slot.0];
        let Some(process) = process else { return };
        let mut taken_back = Vec::new();
        for request in process.wal_given.try_iter() {
            if let WalRequest::Append(append) = &request {
                taken_back.extend(log.give(append));
            }
            drop(process.wal_requests.send(request));
        }
        for is_in_flight in taken_back {
            self.situations.reach(Situation::Truncated);
            self.situations.reach_if(is_in_flight, Situation::TakenBackInFlight);
        }
    }

    pub(crate) fn wal_done(&mut self, slot: Slot, life: Life) {
        let now = self.now;
        let board = &mut self.boards[slot.0];
        if board.life != life {
            return;
        }
        if let Some(until) = board.card_held_until(now) {
            return self.queue.push(until, Event::WalDone(slot, life));
        }
        let Some(process) = board.process.as_mut() else { return };
        process.wal_state = match process.wal.sync() {
            Ok(Next::Continue) => WalState::Idle,
            Ok(Next::Stop) => WalState::Ended,
            Err(error) => {
                process.wal.fail(&error);
                WalState::Ended
            }
        };
        // The sync's own time has passed already; what a new segment cost beside it is small.
        board.card.take_demand();
        self.wake_soon(slot);
        self.pump_wal(slot);
        self.pump_jobs(slot);
        self.pump_fetches(slot);
    }

    /// Takes what the fetcher is asked for; its reading takes a while.
    pub(crate) fn pump_fetches(&mut self, slot: Slot) {
        let latency = 2 * MS + self.rng.below(20) * MS;
        let board = &mut self.boards[slot.0];
        let (now, life) = (self.now, board.life);
        let Some(process) = board.process.as_mut() else { return };
        let mut is_asked = false;
        while let Ok(job) = process.fetches.try_recv() {
            is_asked = true;
            if board.unreadable_until > now {
                process.tell(Inbound::Fetched { to: job.fetch.to, after: job.fetch.after, span: None });
                self.situations.reach(Situation::FetchFailed);
            } else {
                process.fetch_give.send(job).expect("the fetcher lives as long as its process");
                self.situations.reach(Situation::FetchFromCard);
            }
        }
        if is_asked {
            self.queue.push(now + latency, Event::Fetched(slot, life));
            self.wake_soon(slot);
        }
    }

    pub(crate) fn fetched(&mut self, slot: Slot, life: Life) {
        let now = self.now;
        let board = &mut self.boards[slot.0];
        if board.life != life {
            return;
        }
        if let Some(until) = board.card_held_until(now) {
            return self.queue.push(until, Event::Fetched(slot, life));
        }
        if let Some(process) = board.process.as_mut() {
            process.fetcher.work();
            self.wake_soon(slot);
        }
    }

    /// Takes new jobs for the background, and begins the first if nothing is under way.
    pub(crate) fn pump_jobs(&mut self, slot: Slot) {
        let Some(process) = self.boards[slot.0].process.as_mut() else { return };
        process.job_queue.extend(process.jobs.try_iter());
        if process.work.is_none() {
            self.begin_job(slot);
        }
    }

    fn begin_job(&mut self, slot: Slot) {
        let (now, life) = (self.now, self.boards[slot.0].life);
        let card = self.boards[slot.0].card.clone();
        let Some(process) = self.boards[slot.0].process.as_mut() else { return };
        while let Some(job) = process.job_queue.pop_front() {
            let work = match job {
                Job::GiveBackMemory | Job::Drop(_) => continue,
                Job::Seen(seen) => Work::Seen(seen),
                Job::Spare(order) => match Preparer::new(card.clone(), order) {
                    Ok(preparer) => Work::Spare(preparer),
                    Err(_) => {
                        drop(process.wal_requests.send(WalRequest::SpareFailed));
                        continue;
                    }
                },
                Job::Image { start, hard_state, membership } => {
                    let number = 1 + process.image_number.fetch_add(1, Ordering::Relaxed);
                    let (position, export) = (start.position, start.export);
                    let head =
                        ImageHead { position, hard_state, membership, number, ..process.image_head.clone() };
                    let writer = ImageWriter::create(card.clone(), &head).ok();
                    let slice = None;
                    Work::Image(Box::new(ImageWork {
                        export,
                        position,
                        number,
                        writer,
                        slice,
                        written: None,
                    }))
                }
            };
            process.work = Some(work);
            self.queue.push(now + MS, Event::Background(slot, life));
            return;
        }
    }

    pub(crate) fn background(&mut self, slot: Slot, life: Life) {
        let now = self.now;
        if self.boards[slot.0].life != life {
            return;
        }
        if let Some(until) = self.boards[slot.0].card_held_until(now) {
            return self.queue.push(until, Event::Background(slot, life));
        }
        let Some(process) = self.boards[slot.0].process.as_mut() else { return };
        let Some(work) = process.work.take() else { return };
        let again = match work {
            Work::Seen(seen) => {
                self.keep_seen(slot, seen);
                None
            }
            Work::Spare(preparer) => self.go_on_filling(slot, preparer),
            Work::Image(image) => self.go_on_with_image(slot, image),
        };
        let board = &mut self.boards[slot.0];
        let demand = board.card.take_demand();
        let done = board.card_done(now, demand);
        let Some(process) = board.process.as_mut() else { return };
        if let Some(work) = again {
            process.work = Some(work);
            self.queue.push(done + demand + MS, Event::Background(slot, life));
        } else {
            self.pump_wal(slot);
            self.pump_jobs(slot);
        }
    }

    fn keep_seen(&mut self, slot: Slot, seen: BTreeMap<NodeId, Start>) {
        let board = &mut self.boards[slot.0];
        if write_seen(&board.card, &seen).is_ok() {
            board.seen_durable = seen;
        }
    }

    fn go_on_filling(&mut self, slot: Slot, mut preparer: Preparer<Card>) -> Option<Work> {
        let process = self.boards[slot.0].process.as_mut()?;
        let mut request = None;
        for _ in 0..SPARE_STEPS {
            match preparer.step() {
                Ok(None) => {}
                Ok(Some(spare)) => {
                    request = Some(WalRequest::Spare(spare));
                    break;
                }
                Err(_) => {
                    request = Some(WalRequest::SpareFailed);
                    break;
                }
            }
        }
        match request {
            Some(request) => {
                drop(process.wal_requests.send(request));
                None
            }
            None => Some(Work::Spare(preparer)),
        }
    }

    fn go_on_with_image(&mut self, slot: Slot, mut image: Box<ImageWork>) -> Option<Work> {
        let process = self.boards[slot.0].process.as_mut()?;
        let end = if let Some(bytes) = image.written {
            let ImageWork { export, position, number, .. } = *image;
            Ok(Inbound::ImageDone { export, position, number, bytes })
        } else {
            match image.step(process) {
                Ok(()) => return Some(Work::Image(image)),
                Err(reason) => Err(reason),
            }
        };
        let inbound = end.unwrap_or_else(|reason| {
            remove_unfinished_images(&self.boards[slot.0].card).ok();
            Inbound::ImageFailed { export: image.export, reason }
        });
        let process = self.boards[slot.0].process.as_ref()?;
        if matches!(inbound, Inbound::ImageDone { .. }) {
            self.situations.reach(Situation::ImageWritten);
        }
        process.tell(inbound);
        self.wake_soon(slot);
        None
    }

    /// When the card has done what was asked of it just now beside the threads' own work.
    pub(crate) fn card_time(&mut self, slot: Slot) -> Nanos {
        let now = self.now;
        let board = &mut self.boards[slot.0];
        let demand = board.card.take_demand();
        board.card_done(now, demand)
    }
}

impl ImageWork {
    /// Asks for a slice, or writes the one that came; whole once `written` is set.
    fn step(&mut self, process: &crate::process::Process) -> Result<(), String> {
        let Some(answer) = self.slice.as_mut() else {
            let (reply, answer) = Reply::pair();
            process.tell(Inbound::ExportNext { export: self.export, reply });
            self.slice = Some(answer);
            return Ok(());
        };
        let slice = match answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
            Ok(Ok(slice)) => slice,
            Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => return Err("its export ended".into()),
        };
        self.slice = None;
        let writer = self.writer.as_mut().ok_or("the card refused the file")?;
        writer.write(&slice.bytes).map_err(|error| error.to_string())?;
        if slice.is_last {
            let writer = self.writer.take().ok_or("the card refused the file")?;
            self.written = Some(writer.finish().map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}
