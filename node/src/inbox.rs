//! The single bounded queue by which anything reaches the driver. It has two lanes: what the node's own
//! threads and its peers say goes before what clients ask, so that no flood of requests delays a heartbeat.

use crate::forward::{Change, Forward, Joined, Joiner};
use crate::pending::OutcomeReply;
use crate::wal_worker::Appended;
use core::time::Duration;
use quorate_api::{Answer, MemberRefusal, Read, ReadOutcome, Refusal, WatchCommand};
use quorate_raft::Message;
use quorate_store::{Command, InviteView, Store};
use quorate_types::limits::INBOX_COUNT_MAX;
use quorate_types::{ClusterTime, Entry, Index, LeaseId, Membership, NodeId, Position, Start};
use quorate_wal::ImageHead;
use quorate_watch::{Delivery, StreamId};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Messages of peers that may wait. They are sent again when dropped: consensus expects loss.
const PEER_COUNT_MAX: usize = 8_192;

/// Client messages taken in one turn of the driver: enough to make batches, few enough that a sync's
/// acknowledgement or a heartbeat never waits long.
const TURN_CLIENT_COUNT_MAX: usize = 256;

/// What the driver may be told.
#[derive(Debug)]
pub enum Inbound {
    /// A client's command.
    Propose {
        /// What.
        command: Command,
        /// Who waits.
        reply: OutcomeReply,
    },
    /// A client's read.
    Read {
        /// What.
        read: Read,
        /// Whether it needs a round with the quorum.
        linearizable: bool,
        /// Who waits.
        reply: Reply<Answer<ReadOutcome>>,
    },
    /// The invites that stand, and cluster time now.
    Invites(Reply<(Vec<InviteView>, ClusterTime)>),
    /// A client keeps its lease alive.
    LeaseKeepAlive {
        /// Which.
        id: LeaseId,
        /// Who waits.
        reply: Reply<Answer<i64>>,
    },
    /// A watch stream opens.
    WatchOpen {
        /// Its id, new.
        stream: StreamId,
        /// Where its deliveries go.
        deliveries: mpsc::UnboundedSender<Delivery>,
    },
    /// A watch stream asks.
    Watch {
        /// Which.
        stream: StreamId,
        /// What.
        command: WatchCommand,
    },
    /// A watch stream ended.
    WatchClose(StreamId),
    /// Somebody wants the whole state.
    ExportBegin(Reply<ExportStart>),
    /// The next slice of an export.
    ExportNext {
        /// Which.
        export: ExportId,
        /// Where to.
        reply: Reply<ExportSlice>,
    },
    /// An export is over, finished or not.
    ExportEnd(ExportId),
    /// A batch is durable.
    Appended(Appended),
    /// The card failed; nothing will ever be durable again.
    WalFailed(String),
    /// The wal thread has finished, as asked.
    WalStopped,
    /// An image is durable.
    ImageDone {
        /// Which export it was.
        export: ExportId,
        /// The log up to here is in it.
        position: Position,
        /// Images counted by this node.
        number: u64,
        /// Its size as a file.
        bytes: u64,
    },
    /// An image could not be written; the log is kept, and it is tried again later.
    ImageFailed {
        /// Which export it was.
        export: ExportId,
        /// What went wrong.
        reason: String,
    },
    /// A peer's core says something; the link proved who.
    Peer {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A peer's hall says something.
    Forward {
        /// Who.
        from: NodeId,
        /// What.
        forward: Forward,
    },
    /// A span that consensus wanted for a peer, from the log on the card: the position before it, and the
    /// entries. None if the log no longer has it.
    Fetched {
        /// For whom.
        to: NodeId,
        /// After which index it was wanted.
        after: Index,
        /// What.
        span: Option<(Position, Vec<Entry>)>,
    },
    /// A peer has a whole image, up to there, or could not be given it.
    ImageSent {
        /// Who.
        to: NodeId,
        /// Up to where; none if it failed.
        position: Option<Position>,
    },
    /// An image came from a peer, is durable here, and is loaded beside the running state.
    ImageInstalled(Box<Installed>),
    /// Somebody wants to change who belongs.
    ChangeMembers {
        /// What.
        change: Change,
        /// Who waits.
        reply: MemberReply,
    },
    /// A new node has proved a token to this node and wants to join.
    Join {
        /// Who.
        joiner: Joiner,
        /// Who waits.
        reply: JoinReply,
    },
    /// The leader dialled a joining node back.
    DialledBack {
        /// Which join.
        ticket: u64,
        /// What was seen.
        seen: Result<(), String>,
    },
    /// A new link with a peer leads to this life of it. Comes before what is said over that link.
    Greeted {
        /// Who.
        peer: NodeId,
        /// Which life.
        start: Start,
        /// Those before it on its card.
        earlier: Vec<Start>,
    },
    /// A link to a peer came up or went down.
    Reachable {
        /// Who.
        peer: NodeId,
        /// Up.
        is_up: bool,
    },
    /// A member says that this node is none, by the membership of that version.
    NotMember(u64),
    /// Finish what is under way and end.
    Stop,
}

/// An image of a peer, durable and loaded.
pub struct Installed {
    /// Its head.
    pub head: ImageHead,
    /// The state in it.
    pub store: Store,
    /// Its size as a file.
    pub bytes: u64,
}

impl core::fmt::Debug for Installed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Installed")
            .field("head", &self.head)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Who waits for a change of members.
pub type MemberReply = oneshot::Sender<Result<Membership, MemberRefusal>>;

/// Who waits for a join.
pub type JoinReply = oneshot::Sender<Result<Joined, JoinFailure>>;

/// Why a node was not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinFailure {
    /// A sentence for the person at the new node.
    pub words: String,
    /// Whether the same may succeed a little later.
    pub is_passing: bool,
}

/// Names one running export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportId(pub u64);

/// What an export begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportStart {
    /// Its name.
    pub export: ExportId,
    /// The log up to here is in it.
    pub position: Position,
    /// About how many bytes it will be.
    pub bytes_estimate: u64,
}

/// Some bytes of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSlice {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether these were the last.
    pub is_last: bool,
}

/// One answer, to an async task or a blocking thread (`oneshot` serves both).
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<Result<T, Refusal>>);

impl<T> Reply<T> {
    /// A reply and where it arrives.
    #[must_use]
    pub fn pair() -> (Reply<T>, oneshot::Receiver<Result<T, Refusal>>) {
        let (sender, receiver) = oneshot::channel();
        (Reply(sender), receiver)
    }

    /// Answers. Whoever asked may have gone away; then nobody needs it.
    pub fn send(self, answer: Result<T, Refusal>) {
        drop(self.0.send(answer));
    }
}

/// The sending end.
#[derive(Clone)]
pub struct Inbox(Arc<Shared>);

/// The driver's end.
pub struct Arrivals(Arc<Shared>);

#[derive(Default)]
struct Shared {
    lanes: Mutex<Lanes>,
    arrived: Condvar,
}

#[derive(Default)]
struct Lanes {
    /// The node's own threads, and its peers.
    first: VecDeque<Inbound>,
    /// Of these, from peers.
    peer_count: usize,
    /// Clients.
    clients: VecDeque<Inbound>,
    /// The driver has ended.
    is_closed: bool,
    /// The driver sleeps.
    is_waiting: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Nothing in here panics while it holds the lock, and a panic ends the process anyway.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, lanes: MutexGuard<'_, Lanes>) {
        let is_waiting = lanes.is_waiting;
        drop(lanes);
        if is_waiting {
            self.arrived.notify_one();
        }
    }
}

impl Inbox {
    /// The queue's two ends.
    #[must_use]
    pub fn bounded() -> (Inbox, Arrivals) {
        let shared = Arc::new(Shared::default());
        (Inbox(Arc::clone(&shared)), Arrivals(shared))
    }

    /// For client work: refused at once when the queue is full.
    ///
    /// # Errors
    /// `Overloaded` when full, `Stopping` when the driver has ended.
    pub fn offer(&self, inbound: Inbound) -> Result<(), Refusal> {
        let mut lanes = self.0.lock();
        if lanes.is_closed {
            return Err(Refusal::Stopping);
        }
        if lanes.clients.len() >= INBOX_COUNT_MAX {
            return Err(Refusal::Overloaded);
        }
        lanes.clients.push_back(inbound);
        self.0.wake(lanes);
        Ok(())
    }

    /// For the node's own threads, whose work in flight is bounded by itself. False when the driver has ended.
    #[must_use]
    pub fn deliver(&self, inbound: Inbound) -> bool {
        let mut lanes = self.0.lock();
        let is_open = !lanes.is_closed;
        if is_open {
            lanes.first.push_back(inbound);
        }
        self.0.wake(lanes);
        is_open
    }

    /// For what peers say: dropped when too much waits. False if it was dropped.
    #[must_use]
    pub fn hear(&self, inbound: Inbound) -> bool {
        let mut lanes = self.0.lock();
        let has_room = !lanes.is_closed && lanes.peer_count < PEER_COUNT_MAX;
        if has_room {
            lanes.peer_count += 1;
            lanes.first.push_back(inbound);
        }
        self.0.wake(lanes);
        has_room
    }
}

impl Arrivals {
    /// Moves what has arrived into `into`, all of the first lane and some of the clients'. If nothing has,
    /// waits that long at most.
    pub fn take(&self, into: &mut Vec<Inbound>, wait: Duration) {
        let mut lanes = self.0.lock();
        if lanes.first.is_empty() && lanes.clients.is_empty() && !wait.is_zero() {
            lanes.is_waiting = true;
            let waited = self.0.arrived.wait_timeout(lanes, wait);
            lanes = waited.unwrap_or_else(PoisonError::into_inner).0;
            lanes.is_waiting = false;
        }
        into.extend(lanes.first.drain(..));
        lanes.peer_count = 0;
        let count = lanes.clients.len().min(TURN_CLIENT_COUNT_MAX);
        into.extend(lanes.clients.drain(..count));
    }
}

impl Drop for Arrivals {
    /// Whoever still waits in the queue is answered by its reply being dropped.
    fn drop(&mut self) {
        let mut lanes = self.0.lock();
        lanes.is_closed = true;
        let left = (core::mem::take(&mut lanes.first), core::mem::take(&mut lanes.clients));
        drop(lanes);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(arrivals: &Arrivals) -> Vec<Inbound> {
        let mut taken = Vec::new();
        arrivals.take(&mut taken, Duration::ZERO);
        taken
    }

    #[test]
    fn a_flood_of_clients_does_not_delay_the_card_or_the_peers() {
        let (inbox, arrivals) = Inbox::bounded();
        for number in 0..TURN_CLIENT_COUNT_MAX + 7 {
            inbox.offer(Inbound::ExportEnd(ExportId(u64::try_from(number).unwrap()))).unwrap();
        }
        assert!(inbox.deliver(Inbound::WalStopped));
        let first = take(&arrivals);
        assert!(matches!(first[0], Inbound::WalStopped));
        assert_eq!(first.len(), TURN_CLIENT_COUNT_MAX + 1);
        assert_eq!(take(&arrivals).len(), 7);
    }

    #[test]
    fn each_lane_is_bounded() {
        let (inbox, arrivals) = Inbox::bounded();
        for _ in 0..INBOX_COUNT_MAX {
            inbox.offer(Inbound::ExportEnd(ExportId(1))).unwrap();
        }
        assert_eq!(inbox.offer(Inbound::Stop).unwrap_err(), Refusal::Overloaded);
        for _ in 0..PEER_COUNT_MAX {
            assert!(inbox.hear(Inbound::NotMember(1)));
        }
        assert!(!inbox.hear(Inbound::NotMember(1)), "one more of a peer's messages is dropped");
        assert!(inbox.deliver(Inbound::WalStopped), "the own threads are always heard");
        drop(arrivals);
        assert_eq!(inbox.offer(Inbound::Stop).unwrap_err(), Refusal::Stopping);
        assert!(!inbox.deliver(Inbound::Stop));
    }
}
