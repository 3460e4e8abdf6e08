//! What the api asks of the node behind it. The hall implements it; tests fake it.

mod members;

use bytes::Bytes;
use core::future::Future;
pub use members::{CardState, Invite, InviteRequest, InviteView, MemberChange, MemberRefusal, PeerStatus};
use quorate_store::{Alarm, Command, LeaseView, Outcome, RangeOutcome, RangeRequest, StoreError};
use quorate_types::{Identity, LeaseId, Membership, NodeId, Revision};
use quorate_watch::{Delivery, WatchId, WatchRequest};
use tokio::sync::mpsc;

/// The node, as its clients' sessions see it. No method blocks the thread.
pub trait Backend: Clone + Send + Sync + 'static {
    /// What every answer's header says.
    fn identity(&self) -> Identity;

    /// The node at a glance; never waits for the driver or the card.
    fn status(&self) -> NodeStatus;

    /// The members, as this node knows them.
    fn membership(&self) -> Membership;

    /// Brings a command through the log; answers after it is durable on a quorum and applied.
    fn propose(&self, command: Command) -> impl Future<Output = Result<Answer<Outcome>, Refusal>> + Send;

    /// Reads; `linearizable` costs a round with the quorum, otherwise this node answers at once.
    fn read(
        &self,
        read: Read,
        linearizable: bool,
    ) -> impl Future<Output = Result<Answer<ReadOutcome>, Refusal>> + Send;

    /// Gives a lease its full time again; answers its time to live in seconds.
    fn lease_keep_alive(&self, id: LeaseId) -> impl Future<Output = Result<Answer<i64>, Refusal>> + Send;

    /// Opens a watch stream. Dropping the session ends its watchers.
    fn watch(&self) -> Result<WatchSession, Refusal>;

    /// The whole state at one revision, as the bytes of an image file (see `quorate-wal`), in order.
    /// Dropping the receiver ends the export.
    fn export(&self) -> impl Future<Output = Result<mpsc::Receiver<Result<Bytes, Refusal>>, Refusal>> + Send;

    /// Changes who belongs to the cluster, or who leads it; answers after the change is in force and, for
    /// the membership, committed. Works on any node: the leader is asked.
    fn change_members(
        &self,
        change: MemberChange,
    ) -> impl Future<Output = Result<Membership, MemberRefusal>> + Send;

    /// Makes a one-time token with which one new node may join.
    fn invite(&self, request: InviteRequest) -> impl Future<Output = Result<Invite, Refusal>> + Send;

    /// The invites that stand, those used or expired among them until they are swept.
    fn invites(&self) -> impl Future<Output = Result<Vec<InviteView>, Refusal>> + Send;

    /// Takes an invite back by its id; false if there is none (any more).
    fn invite_revoke(&self, id: String) -> impl Future<Output = Result<bool, Refusal>> + Send;

    /// Asks the card itself, within two seconds, whether a sync still completes; no data is written.
    fn probe(&self) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// The node's counters as Prometheus text, the api's own among them.
    fn metrics(&self) -> String;
}

/// An answer with what its header says of the store at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The store's revision.
    pub revision: Revision,
    /// The term it was given in.
    pub term: u64,
    /// The answer.
    pub value: T,
}

/// What can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Keys.
    Range(RangeRequest),
    /// A transaction that changes nothing.
    Txn(quorate_store::Txn),
    /// One lease, with its keys if asked for.
    Lease {
        /// Which.
        id: LeaseId,
        /// With its keys.
        keys: bool,
    },
    /// All leases.
    Leases,
    /// Standing alarms.
    Alarms,
    /// Hash over all keys at a revision (zero: now), as etcd's HashKV.
    HashKv(i64),
}

/// What reading answers, variant for variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// For `Read::Range`.
    Range(RangeOutcome),
    /// For `Read::Txn`; always `Outcome::Txn`.
    Txn(Outcome),
    /// For `Read::Lease`; none if there is no such lease.
    Lease(Option<LeaseAnswer>),
    /// For `Read::Leases`, ordered by id.
    Leases(Vec<LeaseId>),
    /// For `Read::Alarms`.
    Alarms(Vec<Alarm>),
    /// For `Read::HashKv`.
    HashKv {
        /// CRC-32C over keys, values and revisions.
        hash: u32,
        /// The compacted revision it starts from.
        compact_revision: i64,
        /// The revision it was taken at.
        hash_revision: i64,
    },
}

/// A lease with the time it has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAnswer {
    /// As the replicated state has it.
    pub lease: LeaseView,
    /// Seconds left, rounded as etcd rounds.
    pub remaining_seconds: i64,
}

/// Why the node did not answer. Whose fault: the client's for `Store`, the node's or the cluster's else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The store refused; nothing changed.
    Store(StoreError),
    /// The command is larger in the log than an entry may be: etcd's "request is too large".
    TooLarge,
    /// Too much waits already: etcd's "too many requests". Nothing entered the log.
    Overloaded,
    /// No leader is known.
    NoLeader,
    /// Leadership moved while the proposal was under way; its outcome is unknown.
    LeaderChanged,
    /// No outcome within the request timeout; it may still come to pass.
    TimedOut,
    /// The node is stopping.
    Stopping,
    /// This node was removed from its cluster; another must be asked.
    Removed,
    /// This build of the cluster cannot do that (for example: change of members).
    Unsupported(&'static str),
}

/// For Maintenance.Status and the health pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// This node's id.
    pub identity: Identity,
    /// Leader's node id, zero if none is known.
    pub leader: u64,
    /// What this node is at the moment: "leader", "follower", "candidate", "pre-candidate" or "learner".
    pub role: &'static str,
    /// Current term.
    pub term: u64,
    /// Last log index durable on a quorum.
    pub committed: u64,
    /// Last log index applied.
    pub applied: u64,
    /// Store revision.
    pub revision: Revision,
    /// Logical bytes held, history included: what the quota is compared with.
    pub bytes_total: u64,
    /// Logical bytes that are in use; the same here, for there is no fragmentation.
    pub bytes_in_use: u64,
    /// The quota.
    pub bytes_quota: u64,
    /// Does not vote.
    pub is_learner: bool,
    /// Was removed from its cluster: serves nobody any more.
    pub removed: bool,
    /// Who votes, ordered.
    pub voters: Vec<NodeId>,
    /// Who receives the log without a vote, ordered.
    pub learners: Vec<NodeId>,
    /// How its own card does.
    pub card: CardState,
    /// The other members as this node sees them, ordered by id.
    pub peers: Vec<PeerStatus>,
    /// What stands in the way: alarms and last words, in etcd's texts where it has one.
    pub errors: Vec<String>,
    /// Standing alarms.
    pub alarms: Vec<Alarm>,
}

/// One client's watch stream, as the hub sees it. Requests that find the node overloaded wait here,
/// in the api's task, never in the driver.
#[derive(Debug)]
pub struct WatchSession {
    /// Requests in; bounded.
    pub requests: mpsc::Sender<WatchCommand>,
    /// Deliveries out. Unbounded in form only: the hub stops at `limits::WATCH_STREAM_BYTES_MAX` of
    /// bytes not given back by `WatchCommand::Credit`.
    pub deliveries: mpsc::UnboundedReceiver<Delivery>,
}

/// What a watch stream may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchCommand {
    /// Register.
    Create(WatchRequest),
    /// End one watcher. Etcd answers `canceled` only for one that exists.
    Cancel(WatchId),
    /// Tell the revision once every watcher of the stream is up to date.
    Progress,
    /// That many bytes of events have gone to the client's connection.
    Credit(usize),
}
