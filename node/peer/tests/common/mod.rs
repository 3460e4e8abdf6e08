//! A hall that writes down what it is told, and nodes on loopback to tell it.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

pub mod relay;

use quorate_peer::{
    Hall, ImageIntake, ImageOffer, ImageSink, JoinAnswer, JoinRefusal, JoinRequest, NodeKey, PeerConfig,
    Peers, Refusal,
};
use quorate_raft::{Body, Envelope, Heartbeat, Message};
use quorate_types::{ClusterId, Identity, Index, Member, Membership, NodeId, Start, Term};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub const CLUSTER: ClusterId = ClusterId(0xc1);

/// Nothing here takes long; what does not come within it does not come.
pub const PATIENCE: Duration = Duration::from_secs(30);

type Decide = dyn Fn(JoinRequest) -> Result<JoinAnswer, JoinRefusal> + Send + Sync;
type Begin = dyn Fn(ImageOffer) -> Option<u64> + Send + Sync;

/// What one hall was told, to be waited for.
pub struct Told {
    pub messages: mpsc::UnboundedReceiver<(NodeId, Message)>,
    pub forwards: mpsc::UnboundedReceiver<(NodeId, Vec<u8>)>,
    pub refusals: mpsc::UnboundedReceiver<(NodeId, Refusal)>,
    pub images: mpsc::UnboundedReceiver<(NodeId, ImageOffer, ImageIntake)>,
    pub knocks: mpsc::UnboundedReceiver<JoinRequest>,
    pub greetings: mpsc::UnboundedReceiver<(NodeId, Start, Vec<Start>)>,
    pub reachable: watch::Receiver<Vec<NodeId>>,
}

#[derive(Clone)]
pub struct FakeHall {
    messages: mpsc::UnboundedSender<(NodeId, Message)>,
    forwards: mpsc::UnboundedSender<(NodeId, Vec<u8>)>,
    refusals: mpsc::UnboundedSender<(NodeId, Refusal)>,
    images: mpsc::UnboundedSender<(NodeId, ImageOffer, ImageIntake)>,
    knocks: mpsc::UnboundedSender<JoinRequest>,
    greetings: mpsc::UnboundedSender<(NodeId, Start, Vec<Start>)>,
    reachable: Arc<watch::Sender<Vec<NodeId>>>,
    pub decide: Arc<Mutex<Arc<Decide>>>,
    pub begin: Arc<Mutex<Arc<Begin>>>,
}

impl FakeHall {
    pub fn new() -> (FakeHall, Told) {
        let (messages, messages_told) = mpsc::unbounded_channel();
        let (forwards, forwards_told) = mpsc::unbounded_channel();
        let (refusals, refusals_told) = mpsc::unbounded_channel();
        let (images, images_told) = mpsc::unbounded_channel();
        let (knocks, knocks_told) = mpsc::unbounded_channel();
        let (greetings, greetings_told) = mpsc::unbounded_channel();
        let (reachable, reachable_told) = watch::channel(Vec::new());
        let hall = FakeHall {
            messages,
            forwards,
            refusals,
            images,
            knocks,
            greetings,
            reachable: Arc::new(reachable),
            decide: Arc::new(Mutex::new(Arc::new(|_| Err(JoinRefusal::UnknownInvite)))),
            begin: Arc::new(Mutex::new(Arc::new(|_| Some(0)))),
        };
        let told = Told {
            messages: messages_told,
            forwards: forwards_told,
            refusals: refusals_told,
            images: images_told,
            knocks: knocks_told,
            greetings: greetings_told,
            reachable: reachable_told,
        };
        (hall, told)
    }
}

/// A test that ended does not listen any more; that is no matter.
fn tell<T>(to: &mpsc::UnboundedSender<T>, what: T) {
    drop(to.send(what));
}

impl Hall for FakeHall {
    fn message(&self, from: NodeId, message: Message) {
        tell(&self.messages, (from, message));
    }

    fn forward(&self, from: NodeId, bytes: Vec<u8>) {
        tell(&self.forwards, (from, bytes));
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinAnswer, JoinRefusal> {
        tell(&self.knocks, request.clone());
        let decide = Arc::clone(&self.decide.lock().expect("not poisoned"));
        tokio::task::spawn_blocking(move || decide(request)).await.expect("decides")
    }

    async fn image_begins(&self, from: NodeId, offer: ImageOffer) -> Option<ImageSink> {
        let begin = Arc::clone(&self.begin.lock().expect("not poisoned"));
        let (sink, intake) = ImageSink::open(begin(offer)?);
        tell(&self.images, (from, offer, intake));
        Some(sink)
    }

    fn greeted(&self, node: NodeId, start: Start, earlier: Vec<Start>) {
        tell(&self.greetings, (node, start, earlier));
    }

    fn reachable(&self, node: NodeId, is_up: bool) {
        self.reachable.send_modify(|up| {
            up.retain(|known| *known != node);
            if is_up {
                up.push(node);
            }
        });
    }

    fn refused(&self, by: NodeId, refusal: Refusal) {
        tell(&self.refusals, (by, refusal));
    }
}

/// That node's so many-th life.
pub fn start(id: NodeId, count: u64) -> Start {
    Start { count, incarnation: id.0 * 1_000 + count }
}

/// One node of a test.
pub struct Node {
    pub id: NodeId,
    pub key: NodeKey,
    pub address: SocketAddr,
    pub peers: Peers,
    pub hall: FakeHall,
    pub told: Told,
}

impl Node {
    pub fn start(id: u64) -> Node {
        Node::start_at(id, NodeKey::generate().expect("random"), "127.0.0.1:0", CLUSTER, 1)
    }

    /// The same node's next life, at its port, which its last one leaves when its tasks have ended.
    pub async fn restart(id: u64, key: NodeKey, address: SocketAddr) -> Node {
        eventually("the port is left", || UdpSocket::bind(address).is_ok()).await;
        Node::start_at(id, key, &address.to_string(), CLUSTER, 2)
    }

    pub fn start_at(id: u64, key: NodeKey, address: &str, cluster: ClusterId, count: u64) -> Node {
        let socket = UdpSocket::bind(address).expect("a free port");
        let address = socket.local_addr().expect("bound");
        let (hall, told) = FakeHall::new();
        let id = NodeId(id);
        let config = PeerConfig {
            key: key.clone(),
            socket,
            identity: Identity { cluster, node: id },
            start: start(id, count),
            earlier: (1..count).map(|count| start(id, count)).collect(),
        };
        let peers = Peers::open(config, hall.clone()).expect("opens");
        Node { id, key, address, peers, hall, told }
    }

    pub fn member(&self) -> Member {
        member(self.id, &self.key, self.address)
    }

    pub async fn until_up(&mut self, node: NodeId) {
        let up = self.told.reachable.wait_for(|up| up.contains(&node));
        timeout(PATIENCE, up).await.expect("the link comes up").expect("the hall lives");
    }

    pub async fn until_down(&mut self, node: NodeId) {
        let down = self.told.reachable.wait_for(|up| !up.contains(&node));
        timeout(PATIENCE, down).await.expect("the link goes down").expect("the hall lives");
    }

    pub async fn message(&mut self) -> (NodeId, Message) {
        next(&mut self.told.messages).await
    }

    pub fn stats_of(&self, node: NodeId) -> quorate_peer::PeerStats {
        let stats = self.peers.stats();
        stats.peers.into_iter().find(|peer| peer.node == node).expect("a member")
    }
}

pub async fn next<T>(from: &mut mpsc::UnboundedReceiver<T>) -> T {
    timeout(PATIENCE, from.recv()).await.expect("it comes").expect("the hall lives")
}

pub fn member(id: NodeId, key: &NodeKey, address: SocketAddr) -> Member {
    Member {
        id,
        name: format!("n{}", id.0),
        peer_addresses: vec![address.to_string()],
        client_urls: vec![],
        key: key.public(),
        stays_learner: false,
    }
}

pub fn membership(members: &[Member], version: u64) -> Membership {
    let mut members = members.to_vec();
    members.sort_by_key(|member| member.id);
    let voters = members.iter().map(|member| member.id).collect();
    Membership { members, voters, version, ..Membership::default() }
}

/// Lets all of them know each other.
pub fn introduce(nodes: &[&Node]) {
    let members: Vec<Member> = nodes.iter().map(|node| node.member()).collect();
    for node in nodes {
        node.peers.set_members(&membership(&members, 1), Index(1));
    }
}

/// Two nodes with links both ways.
pub async fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    introduce(&[&a, &b]);
    a.until_up(b.id).await;
    b.until_up(a.id).await;
    (a, b)
}

pub fn message(body: Body) -> Message {
    Message { start: Start { count: 1, incarnation: 7 }, term: Term(3), body }
}

pub fn heartbeat(round: u64) -> Message {
    message(Body::Heartbeat(Heartbeat { committed: Index(round), round }))
}

pub fn read_request(number: u64) -> Message {
    message(Body::ReadRequest { number })
}

pub fn send(from: &Node, to: NodeId, message: Message) {
    from.peers.send(Envelope { to, message });
}

/// Waits until `is` holds, looking again and again: for what only counters tell.
pub async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}
