//! A node without a log: commands are applied at once. What a test wants of it beyond that (refusals, a
//! lost leader, a stuck card) it is told.

use bytes::Bytes;
use quorate_api::{
    Answer, ApiMetrics, Backend, CardState, ClientListener, Invite, InviteRequest, InviteView, LeaseAnswer,
    Listeners, MemberChange, MemberRefusal, NodeStatus, PeerStatus, Read, ReadOutcome, Refusal, Tls,
    WatchCommand, WatchSession, bind_local, serve,
};
use quorate_proto::etcdserverpb as pb;
use quorate_store::{Command, LeaseClock, Outcome, Renewal, Store, StoreError};
use quorate_types::{ClusterId, ClusterTime, Identity, LeaseId, Member, Membership, NodeId, PeerKey};
use quorate_watch::{Delivery, Hub, StreamId};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

pub(crate) const NODE: u64 = 0x11;

/// A scripted node; cloning shares it.
#[derive(Clone)]
pub(crate) struct FakeNode(Arc<Mutex<State>>);

pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    clock: LeaseClock,
    sessions: HashMap<StreamId, mpsc::UnboundedSender<Delivery>>,
    session_last: u64,
    /// Refuses every proposal and read while set.
    pub(crate) refusal: Option<Refusal>,
    /// The leader's id.
    pub(crate) leader: u64,
    /// The card does not answer.
    pub(crate) card_stuck: bool,
    /// What an export hands out.
    pub(crate) image: Vec<Result<Bytes, Refusal>>,
    /// Whether reads asked for the quorum, in order.
    pub(crate) reads: Vec<bool>,
    /// Proposals so far.
    pub(crate) proposals: u64,
    /// Credit given back so far.
    pub(crate) credit: usize,
    pub(crate) errors: Vec<String>,
    /// Who belongs to the cluster.
    pub(crate) membership: Membership,
    /// How the others fare.
    pub(crate) peers: Vec<PeerStatus>,
    /// Refuses every change of members while set.
    pub(crate) member_refusal: Option<MemberRefusal>,
    /// Changes of members that came through, in order.
    pub(crate) changes: Vec<MemberChange>,
    /// Invites that stand.
    pub(crate) invites: Vec<InviteView>,
    /// Was removed.
    pub(crate) removed: bool,
}

const TIME: ClusterTime = ClusterTime(1_000);
const TERM: u64 = 7;

impl FakeNode {
    pub(crate) fn new() -> FakeNode {
        let store = Store::new();
        let hub = Hub::new(store.revision());
        FakeNode(Arc::new(Mutex::new(State {
            store,
            hub,
            clock: LeaseClock::default(),
            sessions: HashMap::new(),
            session_last: 0,
            refusal: None,
            leader: NODE,
            card_stuck: false,
            image: Vec::new(),
            reads: Vec::new(),
            proposals: 0,
            credit: 0,
            errors: Vec::new(),
            membership: Membership::founded_by(member(NODE, "n1")),
            peers: Vec::new(),
            member_refusal: None,
            changes: Vec::new(),
            invites: Vec::new(),
            removed: false,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// A member on a board of its own.
pub(crate) fn member(id: u64, name: &str) -> Member {
    Member {
        id: NodeId(id),
        name: name.to_owned(),
        peer_addresses: vec![format!("10.0.0.{id}:2380")],
        client_urls: vec![format!("http://10.0.0.{id}:2379")],
        key: PeerKey::default(),
        stays_learner: false,
    }
}

impl State {
    fn answer<T>(&self, value: T) -> Answer<T> {
        Answer { revision: self.store.revision(), term: TERM, value }
    }

    /// Hands out what is to be told; lagging watchers read on.
    fn tell(&mut self) {
        loop {
            let more = self.hub.catch_up(&self.store, 1_000);
            for (stream, delivery) in self.hub.take_deliveries() {
                if let Some(session) = self.sessions.get(&stream) {
                    // A stream that is gone is closed by its own task.
                    drop(session.send(delivery));
                }
            }
            if !more {
                return;
            }
        }
    }

    /// Applies a command that no client sent.
    pub(crate) fn store_command(&mut self, command: &Command) {
        self.propose(command).unwrap();
    }

    fn propose(&mut self, command: &Command) -> Result<Answer<Outcome>, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        self.proposals += 1;
        let index = self.store.applied().next();
        let applied = self.store.apply(index, TIME, command);
        if let Some(change) = applied.lease {
            self.clock.note(change, TIME);
        }
        if let Some(events) = &applied.events {
            self.hub.publish(events);
        }
        self.tell();
        let outcome = applied.outcome.map_err(Refusal::Store)?;
        Ok(self.answer(outcome))
    }

    fn read(&mut self, read: Read) -> Result<ReadOutcome, StoreError> {
        let store = &self.store;
        Ok(match read {
            Read::Range(range) => ReadOutcome::Range(store.range(&range)?),
            Read::Txn(txn) => ReadOutcome::Txn(store.txn_read(&txn)?),
            Read::Lease { id, keys } => ReadOutcome::Lease(store.lease(id, keys).map(|lease| {
                let remaining = self.clock.remaining_ms(id, TIME).unwrap_or(0) / 1_000;
                LeaseAnswer { lease, remaining_seconds: remaining.try_into().unwrap() }
            })),
            Read::Leases => ReadOutcome::Leases(store.leases().map(|lease| lease.id).collect()),
            Read::Alarms => ReadOutcome::Alarms(store.alarms()),
            Read::HashKv(revision) => {
                let hash = store.hash_kv(revision)?;
                ReadOutcome::HashKv {
                    hash: hash.hash,
                    compact_revision: hash.compact_revision,
                    hash_revision: hash.hash_revision,
                }
            }
        })
    }
}

impl Backend for FakeNode {
    fn identity(&self) -> Identity {
        Identity { cluster: ClusterId(0xc1), node: NodeId(NODE) }
    }

    fn status(&self) -> NodeStatus {
        let state = self.state();
        NodeStatus {
            identity: self.identity(),
            leader: state.leader,
            term: TERM,
            committed: state.store.applied().0,
            applied: state.store.applied().0,
            revision: state.store.revision(),
            bytes_total: state.store.bytes_total(),
            bytes_in_use: state.store.bytes_total(),
            bytes_quota: 1 << 30,
            is_learner: state.membership.is_learner(NodeId(NODE)),
            role: "leader",
            removed: state.removed,
            voters: state.membership.voters.clone(),
            learners: state.membership.learners.clone(),
            card: CardState::Takes { ms: 42 },
            peers: state.peers.clone(),
            errors: state.errors.clone(),
            alarms: state.store.alarms(),
        }
    }

    fn membership(&self) -> Membership {
        self.state().membership.clone()
    }

    async fn propose(&self, command: Command) -> Result<Answer<Outcome>, Refusal> {
        self.state().propose(&command)
    }

    async fn read(&self, read: Read, linearizable: bool) -> Result<Answer<ReadOutcome>, Refusal> {
        let mut state = self.state();
        state.reads.push(linearizable);
        if let Some(refusal) = state.refusal {
            return Err(refusal);
        }
        let outcome = state.read(read).map_err(Refusal::Store)?;
        Ok(state.answer(outcome))
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Answer<i64>, Refusal> {
        let mut state = self.state();
        if let Some(refusal) = state.refusal {
            return Err(refusal);
        }
        match state.clock.renew(id, TIME) {
            Renewal::Renewed { ttl_seconds } => Ok(state.answer(ttl_seconds)),
            Renewal::Unknown | Renewal::Expiring => Err(Refusal::Store(StoreError::LeaseNotFound)),
        }
    }

    fn watch(&self) -> Result<WatchSession, Refusal> {
        let (requests, mut inbox) = mpsc::channel(16);
        let (outbox, deliveries) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.session_last += 1;
        let stream = StreamId(state.session_last);
        state.hub.open(stream);
        state.sessions.insert(stream, outbox);
        let node = self.clone();
        tokio::spawn(async move {
            while let Some(command) = inbox.recv().await {
                let mut state = node.state();
                let State { hub, store, credit, .. } = &mut *state;
                match command {
                    WatchCommand::Create(request) => hub.create(stream, request, store),
                    WatchCommand::Cancel(id) => hub.cancel(stream, id),
                    WatchCommand::Progress => hub.progress(stream),
                    WatchCommand::Credit(bytes) => {
                        *credit += bytes;
                        hub.credit(stream, bytes);
                    }
                }
                state.tell();
            }
            let mut state = node.state();
            state.hub.close(stream);
            state.sessions.remove(&stream);
        });
        Ok(WatchSession { requests, deliveries })
    }

    async fn export(&self) -> Result<mpsc::Receiver<Result<Bytes, Refusal>>, Refusal> {
        let slices = self.state().image.clone();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for slice in slices {
                if sender.send(slice).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn change_members(&self, change: MemberChange) -> Result<Membership, MemberRefusal> {
        let mut state = self.state();
        if let Some(refusal) = &state.member_refusal {
            return Err(refusal.clone());
        }
        let membership = &mut state.membership;
        match &change {
            MemberChange::Remove(id) => {
                membership.members.retain(|member| member.id != *id);
                membership.voters.retain(|voter| voter != id);
                membership.learners.retain(|learner| learner != id);
            }
            MemberChange::Promote(id) => {
                membership.learners.retain(|learner| learner != id);
                membership.voters.push(*id);
            }
            MemberChange::Transfer(id) => state.leader = id.0,
            MemberChange::Update { id, peer_addresses } => {
                let member = membership.members.iter_mut().find(|member| member.id == *id);
                member.ok_or(MemberRefusal::NotFound)?.peer_addresses.clone_from(peer_addresses);
            }
        }
        state.changes.push(change);
        Ok(state.membership.clone())
    }

    async fn invite(&self, request: InviteRequest) -> Result<Invite, Refusal> {
        let mut state = self.state();
        if let Some(refusal) = state.refusal {
            return Err(refusal);
        }
        let id = format!("{:x}", 0xa0 + state.invites.len());
        let token = format!("token-{id}");
        state.invites.push(InviteView { id: id.clone(), expires_in: request.ttl, used_by: None });
        Ok(Invite { token, id, expires_in: request.ttl })
    }

    async fn invites(&self) -> Result<Vec<InviteView>, Refusal> {
        Ok(self.state().invites.clone())
    }

    async fn invite_revoke(&self, id: String) -> Result<bool, Refusal> {
        let invites = &mut self.state().invites;
        let before = invites.len();
        invites.retain(|invite| invite.id != id);
        Ok(invites.len() < before)
    }

    async fn probe(&self) -> Result<(), Refusal> {
        if self.state().card_stuck {
            return Err(Refusal::TimedOut);
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        "# HELP quorate_syncs Syncs done.\n# TYPE quorate_syncs counter\nquorate_syncs_total 3\n# EOF\n"
            .to_owned()
    }
}

/// A fake node behind real ports.
pub(crate) struct Served {
    pub(crate) node: FakeNode,
    pub(crate) metrics: ApiMetrics,
    pub(crate) address: SocketAddr,
    pub(crate) pages: SocketAddr,
    /// With the local socket.
    pub(crate) data_dir: TempDir,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) serving: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start() -> Served {
        Served::start_with(None).await
    }

    pub(crate) async fn start_with(tls: Option<Tls>) -> Served {
        Served::start_on("[::1]:0", tls).await
    }

    pub(crate) async fn start_on(listen: &str, tls: Option<Tls>) -> Served {
        let node = FakeNode::new();
        let metrics = ApiMetrics::new();
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let page_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pages = page_listener.local_addr().unwrap();
        let data_dir = tempfile::tempdir().unwrap();
        let (stop, stopped) = oneshot::channel();
        let listeners = Listeners {
            client: vec![ClientListener { listener, tls }],
            metrics: vec![page_listener],
            local: Some(bind_local(data_dir.path()).unwrap()),
        };
        let until = async move {
            // A test that is over lets go of the sender.
            drop(stopped.await);
        };
        let serving = tokio::spawn(serve(listeners, node.clone(), metrics.clone(), until));
        Served { node, metrics, address, pages, data_dir, stop, serving }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Through the local socket.
    pub(crate) async fn local(&self) -> Channel {
        quorate_proto::local::channel(self.data_dir.path()).await.unwrap()
    }

    pub(crate) async fn keys(&self) -> pb::kv_client::KvClient<Channel> {
        pb::kv_client::KvClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

pub(crate) fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

pub(crate) fn prefix(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { range_end: end.to_owned().into(), ..get(key) }
}
