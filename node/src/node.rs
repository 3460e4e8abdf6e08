//! The node as its clients' sessions see it: the api's `Backend` over the driver's inbox.

use crate::disk_health::DiskHealth;
use crate::forward::Change;
use crate::inbox::{ExportStart, Inbound, Inbox, Reply};
use crate::metrics::Metrics;
use crate::status::StatusView;
use crate::wal_worker::WalRequest;
use bytes::Bytes;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use prometheus_client::registry::Registry;
use quorate_api::{
    Answer, Backend, Invite, InviteRequest, InviteView, MemberChange, MemberRefusal, NodeStatus, Read,
    ReadOutcome, Refusal, WatchCommand, WatchSession,
};
use quorate_peer::Token;
use quorate_store::{Command, Outcome};
use quorate_types::{Identity, LeaseId, Member, Membership};
use quorate_wal::{ImageEncoder, ImageHead};
use quorate_watch::StreamId;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::{mpsc, oneshot};

/// Requests of one watch stream that may wait for the driver.
const WATCH_REQUEST_COUNT_MAX: usize = 64;

/// Pause before a watch request that found the inbox full is offered again.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// Bytes of an invite's hash that name it to people.
const INVITE_ID_BYTES: usize = 6;

/// Why a node makes no tokens.
const NO_PEER_PORT: Refusal = Refusal::Unsupported(
    "quorate: this node has no peer port, so nobody could join it: the log of its start says why; give --listen-peer",
);

/// A sync this recent answers a probe: no need to ask the card again.
const PROBE_FRESH: Duration = Duration::from_secs(1);

/// How long a probe waits for the card. Longer than the pauses of ordinary and bad cards (1.5 s).
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest a client's snapshot may leave a slice untaken: while it lasts, compaction cannot free space.
const EXPORT_STALL_MAX: Duration = Duration::from_secs(60);

/// Slices of a client's snapshot that wait for its connection.
const EXPORT_SLICE_COUNT_MAX: usize = 2;

/// The backend; cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    identity: Identity,
    described: Member,
    inbox: Inbox,
    wal: Sender<WalRequest>,
    status: StatusView,
    health: Arc<DiskHealth>,
    metrics: Metrics,
    registry: Registry,
    image_head: ImageHead,
    stream_last: AtomicU64,
}

/// What a node's backend is made of.
pub struct NodeParts {
    /// Who this is.
    pub identity: Identity,
    /// How this node is known.
    pub described: Member,
    /// The driver.
    pub inbox: Inbox,
    /// The wal thread, for probes only.
    pub wal: Sender<WalRequest>,
    /// The node at a glance.
    pub status: StatusView,
    /// What the syncs say.
    pub health: Arc<DiskHealth>,
    /// The node's counters, registered in `registry`.
    pub metrics: Metrics,
    /// All counters.
    pub registry: Registry,
    /// What heads a snapshot; its position is filled in for each.
    pub image_head: ImageHead,
}

impl Node {
    /// The backend of a running driver.
    #[must_use]
    pub fn new(parts: NodeParts) -> Node {
        Node(Arc::new(Inner {
            identity: parts.identity,
            described: parts.described,
            inbox: parts.inbox,
            wal: parts.wal,
            status: parts.status,
            health: parts.health,
            metrics: parts.metrics,
            registry: parts.registry,
            image_head: parts.image_head,
            stream_last: AtomicU64::new(0),
        }))
    }

    async fn ask<T>(&self, build: impl FnOnce(Reply<T>) -> Inbound) -> Result<T, Refusal> {
        let (reply, answer) = Reply::pair();
        self.0.inbox.offer(build(reply))?;
        // A driver that ended drops the replies it still held.
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Offers until the driver takes it: for what must not be lost, from a task that may wait.
    async fn insist(&self, build: impl Fn() -> Inbound) {
        while self.0.inbox.offer(build()) == Err(Refusal::Overloaded) {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn pump_watch(self, stream: StreamId, mut requests: mpsc::Receiver<WatchCommand>) {
        while let Some(command) = requests.recv().await {
            self.insist(|| Inbound::Watch { stream, command: command.clone() }).await;
        }
        self.insist(|| Inbound::WatchClose(stream)).await;
    }

    async fn pump_export(self, start: ExportStart, slices: mpsc::Sender<Result<Bytes, Refusal>>) {
        let mut bytes = Vec::new();
        let head = ImageHead { position: start.position, ..self.0.image_head.clone() };
        let mut encoder = Some(ImageEncoder::new(&head, &mut bytes));
        loop {
            let slice = self.ask(|reply| Inbound::ExportNext { export: start.export, reply }).await;
            let (bytes, is_last) = match slice {
                Ok(slice) => {
                    if let Some(encoder) = &mut encoder {
                        encoder.push(&slice.bytes, &mut bytes);
                    }
                    if slice.is_last
                        && let Some(encoder) = encoder.take()
                    {
                        encoder.finish(&mut bytes);
                    }
                    (Ok(core::mem::take(&mut bytes)), slice.is_last)
                }
                // A full inbox passes; the export waits.
                Err(Refusal::Overloaded) => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
                Err(refusal) => (Err(refusal), true),
            };
            let sent = tokio::time::timeout(EXPORT_STALL_MAX, slices.send(bytes.map(Bytes::from))).await;
            match sent {
                Ok(Ok(())) if !is_last => {}
                Ok(Ok(()) | Err(_)) => return self.insist(|| Inbound::ExportEnd(start.export)).await,
                Err(_) => break,
            }
        }
        // The client stopped taking: the hold ends now, and if it ever comes back it learns that the rest is missing,
        // for a stream that just ended would pass for whole.
        self.insist(|| Inbound::ExportEnd(start.export)).await;
        slices.send(Err(Refusal::TimedOut)).await.ok();
    }

    async fn wait_for_sync(&self) -> Result<(), Refusal> {
        let (reply, answer): (Reply<()>, oneshot::Receiver<_>) = Reply::pair();
        self.0.wal.send(WalRequest::Probe(reply)).map_err(|_| Refusal::Stopping)?;
        match tokio::time::timeout(PROBE_TIMEOUT, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Refusal::Stopping)),
            Err(_) => Err(Refusal::TimedOut),
        }
    }
}

impl Backend for Node {
    fn identity(&self) -> Identity {
        self.0.identity
    }

    fn status(&self) -> NodeStatus {
        self.0.status.get()
    }

    fn membership(&self) -> Membership {
        self.0.status.membership()
    }

    async fn propose(&self, command: Command) -> Result<Answer<Outcome>, Refusal> {
        self.ask(|reply| Inbound::Propose { command, reply }).await
    }

    async fn read(&self, read: Read, linearizable: bool) -> Result<Answer<ReadOutcome>, Refusal> {
        self.ask(|reply| Inbound::Read { read, linearizable, reply }).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Answer<i64>, Refusal> {
        self.ask(|reply| Inbound::LeaseKeepAlive { id, reply }).await
    }

    fn watch(&self) -> Result<WatchSession, Refusal> {
        let stream = StreamId(self.0.stream_last.fetch_add(1, Ordering::Relaxed));
        let (requests, requests_out) = mpsc::channel(WATCH_REQUEST_COUNT_MAX);
        let (deliveries_in, deliveries) = mpsc::unbounded_channel();
        self.0.inbox.offer(Inbound::WatchOpen { stream, deliveries: deliveries_in })?;
        tokio::spawn(self.clone().pump_watch(stream, requests_out));
        Ok(WatchSession { requests, deliveries })
    }

    async fn export(&self) -> Result<mpsc::Receiver<Result<Bytes, Refusal>>, Refusal> {
        let (slices, slices_out) = mpsc::channel(EXPORT_SLICE_COUNT_MAX);
        let (began, has_begun) = oneshot::channel();
        let node = self.clone();
        // A task of its own: a client that goes away ends this call at any point, and an export that began must end
        // all the same, for it holds compaction's sweep.
        tokio::spawn(async move {
            match node.ask(Inbound::ExportBegin).await {
                Ok(start) => {
                    began.send(Ok(())).ok();
                    node.pump_export(start, slices).await;
                }
                Err(refusal) => {
                    began.send(Err(refusal)).ok();
                }
            }
        });
        has_begun.await.unwrap_or(Err(Refusal::Stopping))?;
        Ok(slices_out)
    }

    async fn change_members(&self, change: MemberChange) -> Result<Membership, MemberRefusal> {
        let change = match change {
            MemberChange::Remove(id) => Change::Remove(id),
            MemberChange::Promote(id) => Change::Promote(id),
            MemberChange::Transfer(id) => Change::Transfer(id),
            MemberChange::Update { id, peer_addresses } => {
                let known = self.membership().member(id).cloned().ok_or(MemberRefusal::NotFound)?;
                Change::Describe(Member { peer_addresses, ..known })
            }
        };
        let (reply, answer) = oneshot::channel();
        self.0.inbox.offer(Inbound::ChangeMembers { change, reply }).map_err(MemberRefusal::Refused)?;
        answer.await.unwrap_or(Err(MemberRefusal::Refused(Refusal::Stopping)))
    }

    async fn invite(&self, request: InviteRequest) -> Result<Invite, Refusal> {
        let described = &self.0.described;
        if described.peer_addresses.is_empty() {
            return Err(NO_PEER_PORT);
        }
        let token = Token::generate(self.0.identity.cluster, described.key, described.peer_addresses.clone())
            .map_err(|_| Refusal::Unsupported("the system gave no randomness for a token"))?;
        let hash = token.invite_hash();
        let ttl_ms = u64::try_from(request.ttl.as_millis()).unwrap_or(u64::MAX);
        self.propose(Command::InviteAdd { hash, ttl_ms }).await?;
        Ok(Invite { token: token.print(), id: invite_id(&hash), expires_in: request.ttl })
    }

    async fn invites(&self) -> Result<Vec<InviteView>, Refusal> {
        let (invites, now) = self.ask(Inbound::Invites).await?;
        let view = |invite: &quorate_store::InviteView| InviteView {
            id: invite_id(&invite.hash),
            expires_in: Duration::from_millis(invite.expires.ms_since(now)),
            used_by: invite.used_by.map(|key| key.to_string()),
        };
        Ok(invites.iter().map(view).collect())
    }

    async fn invite_revoke(&self, id: String) -> Result<bool, Refusal> {
        let (invites, _) = self.ask(Inbound::Invites).await?;
        let Some(invite) = invites.iter().find(|invite| invite_id(&invite.hash) == id) else {
            return Ok(false);
        };
        let answer = self.propose(Command::InviteRevoke { hash: invite.hash }).await?;
        Ok(answer.value == Outcome::InviteRevoke { revoked: true })
    }

    async fn probe(&self) -> Result<(), Refusal> {
        let is_idle = self.0.health.in_flight().is_none();
        if is_idle && self.0.health.since_last_sync().is_some_and(|since| since < PROBE_FRESH) {
            return Ok(());
        }
        self.wait_for_sync().await
    }

    fn metrics(&self) -> String {
        self.0.metrics.refresh_process();
        let mut text = String::new();
        // Writing to a string cannot fail.
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry).ok();
        text
    }
}

/// What names an invite to people: the head of its hash.
fn invite_id(hash: &[u8; 32]) -> String {
    hash.iter().take(INVITE_ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}
