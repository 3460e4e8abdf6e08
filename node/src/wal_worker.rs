//! The wal thread: gathers what arrived, one write, one sync, one acknowledgement.
//!
//! Group commit: whatever arrives while a sync runs forms the next batch. Closed-loop clients would then
//! split into two groups that wait for each other's sync, so a batch lingers a part of the recent sync time before
//! its own: a few per cent, or more if the batch before had company. ARCHITECTURE.md has the measurement.

use crate::background::Job;
use crate::disk_health::DiskHealth;
use crate::fetcher::FetchJob;
use crate::inbox::{Inbound, Inbox, Reply};
use crate::metrics::Metrics;
use core::time::Duration;
use quorate_raft::{Append, AppendNumber, Fetch, LogChange};
use quorate_types::Position;
use quorate_types::limits::{BATCH_BYTES_MAX, BATCH_ENTRY_COUNT_MAX, IMAGE_TRIGGER_BYTES_MIN, SEGMENT_BYTES};
use quorate_wal::{Batch, Disk, Record, Spare, WalError, Writer};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

/// The part of the recent sync time a batch waits for company: one in 24, about four per cent. On a card
/// of 40 ms that is 1.7 ms, enough for 64 clients to take their answers and ask again.
const LINGER_PART: u32 = 24;

/// The same after a batch of many: the cards of a quorum do not end their syncs together, so those who wait for the
/// second of three come back late for the first. A quarter of 40 ms brings most of them into one batch.
const LINGER_PART_SHARED: u32 = 4;

/// So many entries in a batch are company.
const SHARED_ENTRY_COUNT: usize = 8;

/// Below this a linger is shorter than waking a thread twice, and joins nobody.
const LINGER_MIN: Duration = Duration::from_micros(200);

/// Longest linger: what one client alone may lose to company on the slowest card.
const LINGER_MAX: Duration = Duration::from_millis(10);

/// Idle time after which the last batch is sealed (protocol.md rule 1). One extra sync per pause.
const SEAL_IDLE: Duration = Duration::from_secs(10);

/// After a spare could not be made, the time until the next is tried.
const SPARE_RETRY: Duration = Duration::from_secs(60);

/// Payload bytes of one request to append: half a batch, so that two always fit.
const REQUEST_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;

/// What the wal thread may be told.
#[derive(Debug)]
pub enum WalRequest {
    /// Records to make durable, in order.
    Append(AppendRequest),
    /// Answer once a sync has completed.
    Probe(Reply<()>),
    /// A peer needs a span of the log that memory no longer holds.
    Fetch(Fetch),
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

/// A part of consensus's durable work, small enough for one batch.
#[derive(Debug, Default)]
pub struct AppendRequest {
    records: Vec<Record>,
    bytes: usize,
    entry_count: usize,
    /// The append that is durable with it; none if more of it follows.
    number: Option<AppendNumber>,
}

impl AppendRequest {
    /// Cuts an append into parts that fit a batch each; its acknowledgement comes with the last. A power cut
    /// between two of them leaves a prefix of the entries, which is as good as any.
    #[must_use]
    pub fn parts_of(append: Append) -> Vec<AppendRequest> {
        let mut parts = Vec::new();
        let mut part = AppendRequest::default();
        part.records.extend(append.hard_state.map(Record::HardState));
        part.records.extend(append.membership.map(Record::Membership));
        match append.change {
            LogChange::None => {}
            LogChange::Truncate { last, leader_term } => {
                part.records.push(Record::Truncate { last, leader_term });
            }
            LogChange::Reset { position } => part.records.push(Record::Reset { position }),
        }
        for entry in append.entries {
            let bytes = entry.payload.len();
            let is_full = part.bytes + bytes > REQUEST_BYTES_MAX || part.entry_count == BATCH_ENTRY_COUNT_MAX;
            if is_full && part.entry_count > 0 {
                parts.push(core::mem::take(&mut part));
            }
            part.bytes += bytes;
            part.entry_count += 1;
            part.records.push(Record::Entry(entry));
        }
        if part.entry_count > 0 {
            part.records.push(Record::CommitHint(append.committed));
        }
        part.number = Some(append.number);
        parts.push(part);
        parts
    }

    /// What is to be durable, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The append that is durable with it; none if more of it follows.
    #[must_use]
    pub fn number(&self) -> Option<AppendNumber> {
        self.number
    }
}

/// That appends are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// All up to this one; none if the batch ends within one.
    pub number: Option<AppendNumber>,
    /// Bytes this start has written to the log.
    pub bytes_written: u64,
}

/// The thread's state.
pub struct WalWorker<D: Disk> {
    writer: Writer<D>,
    requests: Receiver<WalRequest>,
    gathered: Gathered,
    /// Entries of the batch before.
    entry_count_last: usize,
    /// Did not fit the batch: opens the next.
    held: Option<WalRequest>,
    inbox: Inbox,
    background: Sender<Job>,
    fetcher: Sender<FetchJob<D>>,
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

/// Whom a wal worker works with.
pub struct WalParts<D: Disk> {
    /// What it is told.
    pub requests: Receiver<WalRequest>,
    /// The driver.
    pub inbox: Inbox,
    /// The background thread, for new segments.
    pub background: Sender<Job>,
    /// The thread that reads spans back.
    pub fetcher: Sender<FetchJob<D>>,
    /// What the syncs say.
    pub health: Arc<DiskHealth>,
    /// Counters.
    pub metrics: Metrics,
}

/// Whether the thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It does.
    Continue,
    /// It was asked to stop, and has told the driver.
    Stop,
}

/// What was gathered for one batch.
#[derive(Default)]
struct Gathered {
    batch: Batch,
    bytes: usize,
    number: Option<AppendNumber>,
    probes: Vec<Reply<()>>,
    trim: Option<Position>,
    stop: bool,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.bytes >= REQUEST_BYTES_MAX || self.batch.entry_count() >= BATCH_ENTRY_COUNT_MAX
    }

    fn needs_sync(&self) -> bool {
        !self.batch.is_empty() || !self.probes.is_empty()
    }

    fn has_room(&self, request: &AppendRequest) -> bool {
        self.batch.is_empty()
            || (self.bytes + request.bytes <= REQUEST_BYTES_MAX
                && self.batch.entry_count() + request.entry_count <= BATCH_ENTRY_COUNT_MAX)
    }
}

impl<D: Disk> WalWorker<D> {
    /// Around an opened log.
    #[must_use]
    pub fn new(writer: Writer<D>, parts: WalParts<D>) -> WalWorker<D> {
        let WalParts { requests, inbox, background, fetcher, health, metrics } = parts;
        WalWorker {
            writer,
            requests,
            gathered: Gathered::default(),
            entry_count_last: 0,
            held: None,
            inbox,
            background,
            fetcher,
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
        quorate_board::set_io_priority(quorate_board::IoPriority::Log);
        self.ask_for_spares();
        loop {
            let worked = match self.wait() {
                Ok(()) => self.make_durable(),
                Err(RecvTimeoutError::Timeout) => self.seal().map(|()| Next::Continue),
                Err(RecvTimeoutError::Disconnected) => {
                    self.gathered.stop = true;
                    self.make_durable()
                }
            };
            match worked {
                Ok(Next::Continue) => {}
                Ok(Next::Stop) => return,
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// Waits for work and gathers it.
    fn wait(&mut self) -> Result<(), RecvTimeoutError> {
        let first = match self.held.take() {
            Some(held) => held,
            None if self.writer.is_sealed() => {
                self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected)?
            }
            None => self.requests.recv_timeout(SEAL_IDLE)?,
        };
        self.take_in(first);
        if self.gathered.needs_sync() {
            let deadline = self.linger().map(|linger| Instant::now() + linger);
            self.gather(deadline);
        }
        Ok(())
    }

    /// Takes what has arrived, lingers, and takes what arrived meanwhile.
    fn gather(&mut self, deadline: Option<Instant>) {
        while self.held.is_none() && !self.gathered.is_full() && !self.gathered.stop {
            let request = match (self.requests.try_recv(), deadline) {
                (Ok(request), _) => request,
                (Err(_), None) => return,
                (Err(_), Some(deadline)) => {
                    let rest = deadline.saturating_duration_since(Instant::now());
                    match self.requests.recv_timeout(rest) {
                        Ok(request) => request,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
                    }
                }
            };
            self.take_in(request);
        }
    }

    /// Gathers what waits, without waiting: for a simulator, which is the thread. True if a write or a sync
    /// is due.
    pub fn gather_waiting(&mut self) -> bool {
        if let Some(held) = self.held.take() {
            self.take_in(held);
        }
        self.gather(None);
        self.gathered.needs_sync() || self.gathered.stop || self.gathered.trim.is_some()
    }

    fn linger(&self) -> Option<Duration> {
        let is_shared = self.entry_count_last >= SHARED_ENTRY_COUNT;
        let linger = self.health.sync_mean() / if is_shared { LINGER_PART_SHARED } else { LINGER_PART };
        (linger >= LINGER_MIN).then_some(linger.min(LINGER_MAX))
    }

    /// Adds a request to the batch, or holds it for the next one if this one has no room for it.
    fn take_in(&mut self, request: WalRequest) {
        match request {
            WalRequest::Append(part) => {
                if !self.gathered.has_room(&part) {
                    self.held = Some(WalRequest::Append(part));
                    return;
                }
                self.gathered.bytes += part.bytes;
                self.gathered.number = part.number.or(self.gathered.number);
                for record in part.records {
                    self.gathered.batch.push(record);
                }
            }
            WalRequest::Probe(reply) => self.gathered.probes.push(reply),
            WalRequest::Fetch(fetch) => {
                drop(self.fetcher.send(FetchJob { fetch, reader: self.writer.reader() }));
            }
            WalRequest::Trim { position, number, bytes } => {
                self.gathered.trim = Some(position);
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
            WalRequest::Stop => self.gathered.stop = true,
        }
    }
}

impl<D: Disk> WalWorker<D> {
    fn make_durable(&mut self) -> Result<Next, WalError> {
        self.write()?;
        self.sync()
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// What the card says: final.
    pub fn write(&mut self) -> Result<(), WalError> {
        if let Some(position) = self.gathered.trim.take() {
            let released = self.writer.trim(position)?;
            tracing::info!(%position, released, "log trimmed");
        }
        if !self.gathered.batch.is_empty() {
            if let Some(mark) = self.image_mark.take() {
                self.gathered.batch.push(mark);
            }
            self.writer.write(&self.gathered.batch)?;
        }
        Ok(())
    }

    /// Syncs what was written, then answers. A stop seals and ends.
    ///
    /// # Errors
    /// What the card says: final; nothing of it is answered.
    pub fn sync(&mut self) -> Result<Next, WalError> {
        let gathered = core::mem::take(&mut self.gathered);
        if !gathered.batch.is_empty() {
            self.measured(|writer| writer.sync().map(drop))?;
            self.entry_count_last = gathered.batch.entry_count();
            let count = u32::try_from(gathered.batch.entry_count()).unwrap_or(u32::MAX);
            self.metrics.batch_entries.observe(f64::from(count));
            let bytes_written = self.writer.bytes_written();
            self.tell(Inbound::Appended(Appended { number: gathered.number, bytes_written }));
        } else if !gathered.probes.is_empty() {
            self.measured(Writer::probe)?;
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
    fn measured(
        &mut self,
        sync: impl FnOnce(&mut Writer<D>) -> Result<(), WalError>,
    ) -> Result<(), WalError> {
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
        self.metrics.written.zeros.inc_by(filled - self.filled_counted);
        self.filled_counted = filled;
        self.metrics.written.log.inc_by(bytes - self.bytes_counted);
        self.metrics.written.syncs.inc_by(syncs - self.syncs_counted);
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

    /// The first failure is final: the driver is told why.
    pub fn fail(&self, error: &WalError) {
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
        ClusterId, Entry, EntryKind, HardState, Identity, Index, Member, Membership, NodeId, PeerKey, Term,
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

    fn append(number: u64, indexes: core::ops::RangeInclusive<u64>) -> WalRequest {
        let entry = |index| Entry {
            position: Position { term: TERM, index: Index(index) },
            kind: EntryKind::Command,
            payload: Arc::from([7_u8; 10]),
        };
        let mut parts = AppendRequest::parts_of(Append {
            number: AppendNumber(number),
            hard_state: None,
            membership: None,
            change: LogChange::None,
            entries: indexes.map(entry).collect(),
            committed: Index(0),
        });
        assert_eq!(parts.len(), 1);
        WalRequest::Append(parts.remove(0))
    }

    /// More entries than a batch holds wait for the next one: pushing them into this one ended the process.
    #[test]
    fn a_crowd_of_small_entries_takes_two_batches() {
        let disk = SimDisk::new();
        let (inbox, arrivals) = Inbox::bounded();
        let (requests, requests_out) = channel();
        let (background, _jobs) = channel();
        let metrics = Metrics::register(&mut Registry::default(), "3.5.24");
        let health = Arc::new(DiskHealth::default());
        let (fetcher, _fetches) = channel();
        let parts = WalParts { requests: requests_out, inbox, background, fetcher, health, metrics };
        let worker = WalWorker::new(writer(&disk), parts);
        requests.send(append(1, 1..=4_000)).unwrap();
        requests.send(append(2, 4_001..=4_200)).unwrap();
        requests.send(WalRequest::Stop).unwrap();
        worker.run();
        let mut acknowledged = Vec::new();
        let mut has_stopped = false;
        let mut told = Vec::new();
        arrivals.take(&mut told, Duration::ZERO);
        for told in told {
            if let Inbound::Appended(appended) = told {
                acknowledged.push(appended.number.unwrap().0);
            } else {
                assert!(matches!(told, Inbound::WalStopped), "the wal thread said {told:?}");
                has_stopped = true;
            }
        }
        assert_eq!(acknowledged, [1, 2]);
        assert!(has_stopped, "and it ended as asked");
    }

    #[test]
    fn a_large_append_is_acknowledged_with_its_last_part() {
        let entry = |index| Entry {
            position: Position { term: TERM, index: Index(index) },
            kind: EntryKind::Command,
            payload: Arc::from(vec![7_u8; REQUEST_BYTES_MAX / 2]),
        };
        let parts = AppendRequest::parts_of(Append {
            number: AppendNumber(9),
            hard_state: Some(HardState { term: TERM, vote: None }),
            membership: None,
            change: LogChange::None,
            entries: (1..=5).map(entry).collect(),
            committed: Index(0),
        });
        let numbers: Vec<Option<AppendNumber>> = parts.iter().map(|part| part.number).collect();
        assert_eq!(numbers, [None, None, Some(AppendNumber(9))]);
        assert!(
            matches!(parts[0].records[0], Record::HardState(_)),
            "a term's hard state precedes its entries"
        );
    }
}
