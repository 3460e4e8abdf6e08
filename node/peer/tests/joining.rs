//! Joining by token: the way in, and each way to be turned away.

mod common;

use common::{CLUSTER, Node, PATIENCE, member, membership, next};
use quorate_peer::{
    DialFailure, JoinAnswer, JoinDetails, JoinError, JoinRefusal, NodeKey, PeerConfig, Peers, Token, join,
};
use quorate_types::{ClusterId, Identity, Index, NodeId, Start};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

fn token_of(issuer: &Node) -> Token {
    Token::generate(CLUSTER, issuer.key.public(), vec![issuer.address.to_string()]).expect("random")
}

fn details(address: SocketAddr) -> JoinDetails {
    JoinDetails {
        name: "new".into(),
        peer_addresses: vec![address.to_string()],
        client_urls: vec!["http://new:2379".into()],
        stays_learner: true,
    }
}

/// A joiner that stands before the door.
struct Joiner {
    key: NodeKey,
    socket: UdpSocket,
    address: SocketAddr,
}

impl Joiner {
    fn new() -> Joiner {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        Joiner { key: NodeKey::generate().expect("random"), socket, address }
    }

    fn knock(&self, token: Token) -> JoinHandle<Result<JoinAnswer, JoinError>> {
        let (key, socket) = (self.key.clone(), self.socket.try_clone().expect("a handle is left"));
        let details = details(self.address);
        tokio::spawn(async move { join(&key, socket, &token, &details).await })
    }

    async fn error(&self, token: Token) -> JoinError {
        let joined = timeout(PATIENCE, self.knock(token)).await.expect("an answer comes");
        joined.expect("no panic").expect_err("it is turned away")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_is_let_in_after_the_dial_back_and_becomes_a_peer() {
    let mut a = Node::start(1);
    let joiner = Joiner::new();
    let (peers, handle) = (a.peers.clone(), tokio::runtime::Handle::current());
    let founder = a.member();
    *a.hall.decide.lock().unwrap() = Arc::new(move |request| {
        // What a leader does: dial back first, then propose.
        let address = handle.block_on(peers.dial_back(&request.peer_addresses, request.key)).unwrap();
        let mut new = founder.clone();
        new.id = NodeId(2);
        new.key = request.key;
        new.peer_addresses = request.peer_addresses;
        assert_eq!(address.to_string(), new.peer_addresses[0]);
        let membership = membership(&[founder.clone(), new], 2);
        Ok(JoinAnswer { cluster: CLUSTER, node: NodeId(2), membership, at: Index(7) })
    });
    let token = token_of(&a);
    let answer = joiner.knock(token.clone()).await.unwrap().unwrap();
    assert_eq!((answer.cluster, answer.node, answer.at), (CLUSTER, NodeId(2), Index(7)));
    assert_eq!(answer.membership.version, 2);
    assert_eq!(answer.membership.members.len(), 2);

    let request = next(&mut a.told.knocks).await;
    assert_eq!(request.invite_hash, token.invite_hash());
    assert_eq!(request.key, joiner.key.public());
    assert_eq!(request.seen_at, joiner.address.ip());
    assert_eq!((request.name.as_str(), request.stays_learner), ("new", true));
    assert_eq!(request.client_urls, ["http://new:2379"]);

    // The same socket, now as a peer.
    let (hall, mut told) = common::FakeHall::new();
    let identity = Identity { cluster: answer.cluster, node: answer.node };
    let start = Start { count: 1, incarnation: 3 };
    let config = PeerConfig { key: joiner.key, socket: joiner.socket, identity, start, earlier: Vec::new() };
    let b = Peers::open(config, hall).unwrap();
    b.set_members(&answer.membership, answer.at);
    a.peers.set_members(&answer.membership, answer.at);
    a.until_up(NodeId(2)).await;
    common::send(&a, NodeId(2), common::heartbeat(1));
    assert_eq!(next(&mut told.messages).await, (NodeId(1), common::heartbeat(1)));
}

#[tokio::test]
async fn each_refusal_of_the_cluster_arrives_as_it_was_said() {
    let a = Node::start(1);
    let refusals = [
        JoinRefusal::UnknownInvite,
        JoinRefusal::Expired,
        JoinRefusal::Used,
        JoinRefusal::OtherCluster,
        JoinRefusal::NotReachedBack("10.0.0.9:2380: nothing answers".into()),
        JoinRefusal::Full,
        JoinRefusal::NotNow("no leader".into()),
        JoinRefusal::Other("because".into()),
    ];
    for refusal in refusals {
        let said = refusal.clone();
        *a.hall.decide.lock().unwrap() = Arc::new(move |_| Err(said.clone()));
        let error = Joiner::new().error(token_of(&a)).await;
        assert!(matches!(&error, JoinError::Refused(heard) if *heard == refusal), "{error}");
        assert_eq!(error.is_passing(), matches!(refusal, JoinRefusal::NotNow(_)));
    }
}

#[tokio::test]
async fn a_token_of_another_cluster_never_reaches_the_hall() {
    let mut a = Node::start(1);
    let token = Token { cluster: ClusterId(99), ..token_of(&a) };
    let error = Joiner::new().error(token).await;
    assert!(matches!(error, JoinError::Refused(JoinRefusal::OtherCluster)), "{error}");
    assert!(a.told.knocks.try_recv().is_err());
}

#[tokio::test]
async fn another_key_at_the_address_is_told_as_such() {
    let a = Node::start(1);
    let wrong = Token { issuer: NodeKey::generate().unwrap().public(), ..token_of(&a) };
    let error = Joiner::new().error(wrong).await;
    assert!(matches!(error, JoinError::OtherKey(_)), "{error}");
    assert!(error.to_string().contains(&a.key.public().to_string()), "{error}");
    assert!(!error.is_passing());
}

#[tokio::test]
async fn silence_asks_about_the_firewall() {
    let a = Node::start(1);
    // A socket that never answers, as a firewall that drops.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let token = Token { addresses: vec![silent.local_addr().unwrap().to_string()], ..token_of(&a) };
    let error = Joiner::new().error(token).await;
    assert!(matches!(error, JoinError::NoAnswer { .. }), "{error}");
    assert!(error.to_string().contains(&format!("is UDP {port} blocked")), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_as_such() {
    let a = Node::start(1);
    let token = Token { addresses: vec!["no-such-name.invalid:2380".into()], ..token_of(&a) };
    let error = Joiner::new().error(token).await;
    assert!(matches!(error, JoinError::NotResolved(_)), "{error}");
    assert!(error.to_string().contains("no-such-name.invalid:2380"), "{error}");
    let nowhere = Token { addresses: vec![], ..token_of(&a) };
    assert!(matches!(Joiner::new().error(nowhere).await, JoinError::NotReached(_)));
}

#[tokio::test]
async fn one_address_that_lives_is_enough() {
    let a = Node::start(1);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = vec![
        "no-such-name.invalid:1".into(),
        silent.local_addr().unwrap().to_string(),
        a.address.to_string(),
    ];
    let error = Joiner::new().error(Token { addresses, ..token_of(&a) }).await;
    assert!(matches!(error, JoinError::Refused(JoinRefusal::UnknownInvite)), "{error}");
}

#[tokio::test]
async fn knocks_beyond_the_rate_are_turned_away_and_may_come_again() {
    let a = Node::start(1);
    let knocks: Vec<_> = (0..60).map(|_| Joiner::new().knock(token_of(&a))).collect();
    let mut turned_away = 0;
    for knock in knocks {
        let error = knock.await.unwrap().unwrap_err();
        if !matches!(error, JoinError::Refused(JoinRefusal::UnknownInvite)) {
            assert!(error.is_passing(), "{error}");
            turned_away += 1;
        }
    }
    assert!(turned_away > 0);
}

#[tokio::test]
async fn a_dial_back_fails_at_a_wrong_address_and_with_a_wrong_key() {
    let (a, b) = (Node::start(1), Node::start(2));
    let address = [b.address.to_string()];
    // A node of the cluster answers too: a joiner whose answer was lost has become one.
    assert_eq!(a.peers.dial_back(&address, b.key.public()).await, Ok(b.address));

    let stranger = NodeKey::generate().unwrap().public();
    let error = a.peers.dial_back(&address, stranger).await.unwrap_err();
    assert_eq!(error.tried, [(address[0].clone(), DialFailure::OtherKey(b.key.public()))]);

    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = [silent.local_addr().unwrap().to_string()];
    let error = a.peers.dial_back(&nobody, b.key.public()).await.unwrap_err();
    assert_eq!(error.tried, [(nobody[0].clone(), DialFailure::NoAnswer)]);
    assert_eq!(error.to_string(), format!("{}: nothing answers", nobody[0]));

    let error = a.peers.dial_back(&[], b.key.public()).await.unwrap_err();
    assert!(error.tried.is_empty());
}

#[tokio::test]
async fn a_dial_back_to_a_node_of_another_cluster_fails() {
    let a = Node::start(1);
    let other = Node::start_at(2, NodeKey::generate().unwrap(), "127.0.0.1:0", ClusterId(5), 1);
    let error = a.peers.dial_back(&[other.address.to_string()], other.key.public()).await.unwrap_err();
    assert!(error.to_string().contains("this is cluster 5"), "{error}");
}

#[tokio::test]
async fn a_joiner_listens_to_no_peer() {
    let mut a = Node::start(1);
    let joiner = Joiner::new();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    *a.hall.decide.lock().unwrap() = Arc::new(move |_| {
        held.lock().unwrap().recv().unwrap();
        Err(JoinRefusal::Full)
    });
    let knock = joiner.knock(token_of(&a));
    next(&mut a.told.knocks).await;
    let new = member(NodeId(2), &joiner.key, joiner.address);
    a.peers.set_members(&membership(&[a.member(), new], 2), Index(2));
    let (by, refusal) = next(&mut a.told.refusals).await;
    assert_eq!(by, NodeId(2));
    assert_eq!(refusal, quorate_peer::Refusal::NotAMember { at: Index(0), version: 0 });
    release.send(()).unwrap();
    assert!(matches!(knock.await.unwrap(), Err(JoinError::Refused(JoinRefusal::Full))));
}
