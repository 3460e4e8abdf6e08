//! The wal thread: gathers what arrived, one write, one sync, one acknowledgement.
//!
//! Group commit: whatever arrives while a sync runs forms the next batch. Closed-loop clients would then
//! split into two groups that wait for each other's sync, so a batch lingers a few per cent of the recent
//! sync time before its own; ARCHITECTURE.md has the measurement.

use crate::background::Job;
use crate::disk_health::DiskHealth;
use crate::inbox::{Inbound, Inbox, Reply};
use crate::metrics::Metrics;
use crate::solo::AppendAck;
use core::time::Duration;
use quorate_types::limits::{BATCH_BYTES_MAX, BATCH_ENTRY_COUNT_MAX, IMAGE_TRIGGER_BYTES_MIN, SEGMENT_BYTES};
use quorate_types::{Entry, Index, Position};
use quorate_wal::{Batch, Disk, Record, Spare, WalError, Writer};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

/// The part of the recent sync time a batch waits for company: one in 24, about four per cent. On a card
/// of 40 ms that is 1.7 ms, enough for 64 clients to take their answers and ask again.
const LINGER_PART: u32 = 24;

/// Below this a linger is shorter than waking a thread twice, and joins nobody.
const LINGER_MIN: Duration = Duration::from_micros(200);

/// Longest linger: what one client alone may lose to company on the slowest card.
const LINGER_MAX: Duration = Duration::from_millis(10);

/// Idle time after which the last batch is sealed (protocol.md rule 1). One extra sync per pause.
const SEAL_IDLE: Duration = Duration::from_secs(10);

/// After a spare could not be made, the time until the next is tried.
const SPARE_RETRY: Duration = Duration::from_secs(60);

/// What the wal thread may be told.
#[derive(Debug)]
pub enum WalRequest {
    /// Entries to make durable, in order.
    Append {
        /// They follow what was appended before.
        entries: Vec<Entry>,
        /// Written beside them.
        commit_hint: Index,
    },
    /// Answer once a sync has completed.
    Probe(Reply<()>),
    /// An image is durable: the log up to there may be forgotten.
    Trim {
        /// The image's position.
        position: Position,
        /// Images counted by this node.
        number: u64,
        /// The image's size in bytes, for the log line.
        bytes: u64,
    },
    /// A segment file, filled with zeros, ready for use.
    Spare(Spare),
    /// A segment file could not be prepared.
    SpareFailed,
    /// Finish, seal and end.
    Stop,
}

/// That a batch is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Up to where.
    pub ack: AppendAck,
    /// Bytes this start has written to the log.
    pub bytes_written: u64,
}

/// The thread's state.
pub struct WalWorker<D: Disk> {
    writer: Writer<D>,
    requests: Receiver<WalRequest>,
    inbox: Inbox,
    background: Sender<Job>,
    health: Arc<DiskHealth>,
    metrics: Metrics,
    /// What of the writer's own counts the metrics have.
    bytes_counted: u64,
    filled_counted: u64,
    syncs_counted: u64,
    /// Written beside the next entries: it only spares a later start a look.
    image_mark: Option<Record>,
    /// A spare could not be made: the disk is full or failing. The next is not tried before this.
    spare_after: Option<Instant>,
}

/// Whether the thread goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

/// What was gathered for one batch.
#[derive(Default)]
struct Gathered {
    batch: Batch,
    entries: usize,
    bytes: usize,
    last: Option<Position>,
    commit_hint: Index,
    probes: Vec<Reply<()>>,
    trim: Option<Position>,
    stop: bool,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX / 2 || self.entries >= BATCH_ENTRY_COUNT_MAX
    }

    fn is_empty(&self) -> bool {
        self.last.is_none() && self.probes.is_empty()
    }
}

impl<D: Disk> WalWorker<D> {
    /// Around an opened log.
    #[must_use]
    pub fn new(
        writer: Writer<D>,
        requests: Receiver<WalRequest>,
        inbox: Inbox,
        background: Sender<Job>,
        health: Arc<DiskHealth>,
        metrics: Metrics,
    ) -> WalWorker<D> {
        WalWorker {
            writer,
            requests,
            inbox,
            background,
            health,
            metrics,
            bytes_counted: 0,
            filled_counted: 0,
            syncs_counted: 0,
            image_mark: None,
            spare_after: None,
        }
    }

    /// Runs until told to stop or until the card fails; tells the driver either way.
    pub fn run(mut self) {
        self.ask_for_spares();
        let mut is_sealed = false;
        let mut held: Option<WalRequest> = None;
        loop {
            let mut gathered = Gathered::default();
            let first = held.take().map_or_else(|| self.wait(is_sealed), Ok);
            match first {
                Ok(request) => held = self.take_in(&mut gathered, request),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.seal() {
                        return self.fail(&error);
                    }
                    is_sealed = true;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => gathered.stop = true,
            }
            if held.is_none() && !gathered.is_empty() {
                held = self.gather(&mut gathered);
            }
            if !gathered.is_empty() {
                is_sealed = false;
            }
            match self.make_durable(gathered) {
                Ok(Next::Continue) => {}
                Ok(Next::Stop) => return,
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn wait(&self, is_sealed: bool) -> Result<WalRequest, RecvTimeoutError> {
        if is_sealed {
            self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.requests.recv_timeout(SEAL_IDLE)
        }
    }

    /// Takes what has arrived, lingers, and takes what arrived meanwhile. Answers a request that has to
    /// wait for the next batch.
    fn gather(&mut self, gathered: &mut Gathered) -> Option<WalRequest> {
        let deadline = self.linger().map(|linger| Instant::now() + linger);
        loop {
            if gathered.is_full() || gathered.stop {
                return None;
            }
            let request = match (self.requests.try_recv(), deadline) {
                (Ok(request), _) => request,
                (Err(_), None) => return None,
                (Err(_), Some(deadline)) => {
                    let rest = deadline.saturating_duration_since(Instant::now());
                    match self.requests.recv_timeout(rest) {
                        Ok(request) => request,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
                    }
                }
            };
            let held = self.take_in(gathered, request);
            if held.is_some() {
                return held;
            }
        }
    }

    fn linger(&self) -> Option<Duration> {
        let linger = self.health.sync_mean() / LINGER_PART;
        (linger >= LINGER_MIN).then_some(linger.min(LINGER_MAX))
    }

    /// Adds a request to the batch; gives it back if the batch has no room for it.
    fn take_in(&mut self, gathered: &mut Gathered, request: WalRequest) -> Option<WalRequest> {
        match request {
            WalRequest::Append { entries, commit_hint } => {
                let bytes = entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
                let is_first = gathered.last.is_none();
                let count = gathered.entries + entries.len();
                if !is_first
                    && (gathered.bytes + bytes > BATCH_BYTES_MAX / 2 || count > BATCH_ENTRY_COUNT_MAX)
                {
                    return Some(WalRequest::Append { entries, commit_hint });
                }
                gathered.bytes += bytes;
                gathered.entries += entries.len();
                gathered.last = entries.last().map(|entry| entry.position).or(gathered.last);
                gathered.commit_hint = gathered.commit_hint.max(commit_hint);
                for entry in entries {
                    gathered.batch.push(Record::Entry(entry));
                }
            }
            WalRequest::Probe(reply) => gathered.probes.push(reply),
            WalRequest::Trim { position, number, bytes } => {
                gathered.trim = Some(position);
                // What lies between two images, and two segments more (protocol.md rule 7).
                let trigger = bytes.max(IMAGE_TRIGGER_BYTES_MIN).div_ceil(SEGMENT_BYTES);
                self.writer.set_pool_count(usize::try_from(trigger).unwrap_or(usize::MAX).saturating_add(2));
                self.image_mark = Some(Record::ImageMark { position, number });
                tracing::info!(%position, bytes, "image is durable");
            }
            WalRequest::Spare(spare) => self.writer.give_spare(&spare),
            WalRequest::SpareFailed => {
                self.writer.give_up_spare();
                self.spare_after = Some(Instant::now() + SPARE_RETRY);
            }
            WalRequest::Stop => gathered.stop = true,
        }
        None
    }
}

impl<D: Disk> WalWorker<D> {
    /// One write, one sync, then the answers. A stop seals what was written and ends.
    fn make_durable(&mut self, mut gathered: Gathered) -> Result<Next, WalError> {
        if let Some(position) = gathered.trim {
            let released = self.writer.trim(position)?;
            tracing::info!(%position, released, "log trimmed");
        }
        if let Some(last) = gathered.last {
            gathered.batch.push(Record::CommitHint(gathered.commit_hint));
            if let Some(mark) = self.image_mark.take() {
                gathered.batch.push(mark);
            }
            self.writer.write(&gathered.batch)?;
            self.sync(|writer| writer.sync().map(drop))?;
            self.metrics
                .batch_entries
                .observe(f64::from(u32::try_from(gathered.entries).unwrap_or(u32::MAX)));
            let ack = AppendAck { term: last.term, index: last.index };
            self.tell(Inbound::Appended(Appended { ack, bytes_written: self.writer.bytes_written() }));
        } else if !gathered.probes.is_empty() {
            self.sync(Writer::probe)?;
        }
        for probe in gathered.probes {
            probe.send(Ok(()));
        }
        self.ask_for_spares();
        if gathered.stop {
            self.seal()?;
            self.tell(Inbound::WalStopped);
            return Ok(Next::Stop);
        }
        Ok(Next::Continue)
    }

    /// One sync, measured.
    fn sync(&mut self, sync: impl FnOnce(&mut Writer<D>) -> Result<(), WalError>) -> Result<(), WalError> {
        self.health.sync_begins();
        sync(&mut self.writer)?;
        let took = self.health.sync_ended();
        self.metrics.sync_seconds.observe(took.as_secs_f64());
        self.count();
        Ok(())
    }

    /// Covers the last batch, so that a later start can tell damage from a torn tail.
    fn seal(&mut self) -> Result<(), WalError> {
        if self.writer.is_sealed() {
            return Ok(());
        }
        self.health.sync_begins();
        self.writer.seal()?;
        self.health.sync_ended();
        self.count();
        Ok(())
    }

    /// Brings the metrics up to what the writer counted.
    fn count(&mut self) {
        let (bytes, syncs) = (self.writer.bytes_written(), self.writer.sync_count());
        let filled = self.writer.bytes_filled();
        self.metrics.zeroed_bytes.inc_by(filled - self.filled_counted);
        self.filled_counted = filled;
        self.metrics.wal_bytes.inc_by(bytes - self.bytes_counted);
        self.metrics.syncs.inc_by(syncs - self.syncs_counted);
        (self.bytes_counted, self.syncs_counted) = (bytes, syncs);
    }

    fn ask_for_spares(&mut self) {
        if self.spare_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        if let Some(order) = self.writer.wants_spare() {
            drop(self.background.send(Job::Spare(order)));
        }
    }

    fn fail(&self, error: &WalError) {
        self.tell(Inbound::WalFailed(format!(
            "{error}. Nothing was acknowledged after it; this node stops. Replace the card, or free space on it, and \
             start again"
        )));
    }

    fn tell(&self, inbound: Inbound) {
        // A driver that has ended needs to hear nothing.
        let _is_heard: bool = self.inbox.deliver(inbound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;
    use quorate_types::{
        ClusterId, EntryKind, HardState, Identity, Member, Membership, NodeId, PeerKey, Term,
    };
    use quorate_wal::disk::sim::SimDisk;
    use quorate_wal::{Settings, recover};
    use std::sync::mpsc::channel;

    const TERM: Term = Term(1);

    fn writer(disk: &SimDisk) -> Writer<SimDisk> {
        let identity = Identity { cluster: ClusterId(1), node: NodeId(2) };
        let member = Member {
            id: identity.node,
            name: "n".into(),
            peer_addresses: Vec::new(),
            client_urls: Vec::new(),
            key: PeerKey::default(),
            stays_learner: false,
        };
        let hard_state = HardState { term: TERM, vote: Some(identity.node) };
        recover(disk.clone(), Settings::default(), None, None, 1)
            .unwrap()
            .opener
            .begin(identity, Membership::founded_by(member), hard_state)
            .unwrap()
    }

    fn append(indexes: core::ops::RangeInclusive<u64>) -> WalRequest {
        let entry = |index| Entry {
            position: Position { term: TERM, index: Index(index) },
            kind: EntryKind::Command,
            payload: Arc::from([7_u8; 10]),
        };
        WalRequest::Append { entries: indexes.map(entry).collect(), commit_hint: Index(0) }
    }

    /// More entries than a batch holds wait for the next one: pushing them into this one ended the process.
    #[test]
    fn a_crowd_of_small_entries_takes_two_batches() {
        let disk = SimDisk::new();
        let (inbox, inbound) = Inbox::bounded();
        let (requests, requests_out) = channel();
        let (background, _jobs) = channel();
        let metrics = Metrics::register(&mut Registry::default(), "3.5.24");
        let health = Arc::new(DiskHealth::default());
        let worker = WalWorker::new(writer(&disk), requests_out, inbox, background, health, metrics);
        requests.send(append(1..=4_000)).unwrap();
        requests.send(append(4_001..=4_200)).unwrap();
        requests.send(WalRequest::Stop).unwrap();
        worker.run();
        let mut acknowledged = Vec::new();
        let mut has_stopped = false;
        for told in inbound.try_iter() {
            if let Inbound::Appended(appended) = told {
                acknowledged.push(appended.ack.index.0);
            } else {
                assert!(matches!(told, Inbound::WalStopped), "the wal thread said {told:?}");
                has_stopped = true;
            }
        }
        assert_eq!(acknowledged, [4_000, 4_200]);
        assert!(has_stopped, "and it ended as asked");
    }
}
