//! Links between members, on loopback.

mod common;

use common::{
    CLUSTER, Node, eventually, heartbeat, introduce, membership, message, next, pair, read_request, send,
    start,
};
use quorate_peer::{FORWARD_BYTES_MAX, Refusal};
use quorate_raft::{AppendEntries, Body, Card, HeartbeatAnswer};
use quorate_types::{ClusterId, Entry, EntryKind, Index, NodeId, Position, Term, limits};

fn append(previous: u64, payloads: &[&[u8]]) -> Body {
    let entries = (previous + 1..)
        .zip(payloads)
        .map(|(index, payload)| Entry {
            position: Position { term: Term(2), index: Index(index) },
            kind: EntryKind::Command,
            payload: (*payload).into(),
        })
        .collect();
    let previous = Position { term: Term(2), index: Index(previous) };
    Body::AppendEntries(AppendEntries { previous, entries, committed: Index(1) })
}

#[tokio::test]
async fn messages_flow_both_ways_and_say_who_sent_them() {
    let (mut a, mut b) = pair().await;
    send(&a, b.id, heartbeat(1));
    assert_eq!(b.message().await, (a.id, heartbeat(1)));
    send(&b, a.id, message(Body::VoteAnswer { granted: true }));
    assert_eq!(a.message().await, (b.id, message(Body::VoteAnswer { granted: true })));
    assert!(b.peers.forward(a.id, b"halls only".to_vec()));
    assert_eq!(next(&mut a.told.forwards).await, (b.id, b"halls only".to_vec()));
}

/// The answers come back on the connection that carries the heartbeats: first none was read there.
#[tokio::test]
async fn heartbeats_are_answered_on_the_connection_of_their_own_too() {
    let (mut a, mut b) = pair().await;
    assert_eq!(next(&mut b.told.greetings).await.0, a.id);
    send(&a, b.id, heartbeat(0));
    assert_eq!(b.message().await, (a.id, heartbeat(0)));
    // The second greeting is that connection's.
    assert_eq!(next(&mut b.told.greetings).await.0, a.id);
    let answer = |round| {
        let (verified, persisted) = (Index(9), Index(8));
        message(Body::HeartbeatAnswer(HeartbeatAnswer { round, verified, persisted, card: Card::Unknown }))
    };
    for round in 1..50 {
        send(&a, b.id, heartbeat(round));
        assert_eq!(b.message().await, (a.id, heartbeat(round)));
        send(&b, a.id, answer(round));
        assert_eq!(a.message().await, (b.id, answer(round)));
    }
}

#[tokio::test]
async fn both_ends_of_a_link_hear_which_life_is_at_the_other() {
    let (mut a, mut b) = pair().await;
    assert_eq!(next(&mut a.told.greetings).await, (b.id, start(b.id, 1), vec![]));
    assert_eq!(next(&mut b.told.greetings).await, (a.id, start(a.id, 1), vec![]));
    let (id, key, address) = (b.id, b.key.clone(), b.address);
    b.peers.close().await;
    drop(b);
    let b = Node::restart(id.0, key, address).await;
    introduce(&[&a, &b]);
    let second = (id, start(id, 2), vec![start(id, 1)]);
    while next(&mut a.told.greetings).await != second {}
}

#[tokio::test]
async fn what_goes_one_way_arrives_in_order() {
    let (a, mut b) = pair().await;
    for number in 0..500 {
        send(&a, b.id, read_request(number));
    }
    for number in 0..500 {
        assert_eq!(b.message().await.1, read_request(number));
    }
}

#[tokio::test]
async fn the_largest_entry_and_the_largest_forward_pass() {
    let (a, mut b) = pair().await;
    let large = vec![7; limits::ENTRY_BYTES_MAX];
    let sent = message(append(9, &[&large]));
    send(&a, b.id, sent.clone());
    assert_eq!(b.message().await, (a.id, sent));
    let mixed = message(append(9, &[b"", b"small", &large[..100_000], b"small again"]));
    send(&a, b.id, mixed.clone());
    assert_eq!(b.message().await, (a.id, mixed));
    assert!(a.peers.forward(b.id, vec![1; FORWARD_BYTES_MAX]));
    assert_eq!(next(&mut b.told.forwards).await.1.len(), FORWARD_BYTES_MAX);
    assert!(!a.peers.forward(b.id, vec![1; FORWARD_BYTES_MAX + 1]));
}

#[tokio::test]
async fn an_append_that_cannot_be_sent_ends_no_link() {
    let (a, mut b) = pair().await;
    send(&a, b.id, message(append(9, &[&vec![7; limits::ENTRY_BYTES_MAX + 1]])));
    send(&a, b.id, message(append(9, &[b"next"])));
    assert_eq!(b.message().await.1, message(append(9, &[b"next"])));
    assert_eq!(a.stats_of(b.id).dropped, 1);
}

#[tokio::test]
async fn a_stranger_is_refused_and_told_by_which_membership() {
    let (a, mut stranger) = (Node::start(1), Node::start(9));
    a.peers.set_members(&membership(&[a.member()], 5), Index(41));
    stranger.peers.set_members(&membership(&[a.member(), stranger.member()], 4), Index(40));
    let told = next(&mut stranger.told.refusals).await;
    assert_eq!(told, (a.id, Refusal::NotAMember { at: Index(41), version: 5 }));
    assert!(a.peers.stats().strangers_refused > 0);
    assert!(stranger.told.reachable.borrow().is_empty());
}

#[tokio::test]
async fn a_removed_member_is_told() {
    let (mut a, mut b) = pair().await;
    a.peers.set_members(&membership(&[a.member()], 2), Index(50));
    a.until_down(b.id).await;
    assert_eq!(next(&mut b.told.refusals).await, (a.id, Refusal::NotAMember { at: Index(50), version: 2 }));
    b.until_down(a.id).await;
    assert!(a.peers.stats().peers.is_empty());
}

#[tokio::test]
async fn another_cluster_is_refused_in_words() {
    let a = Node::start(1);
    let key = quorate_peer::NodeKey::generate().unwrap();
    let mut b = Node::start_at(2, key, "127.0.0.1:0", ClusterId(0xbad), 1);
    introduce(&[&a, &b]);
    let (by, refusal) = next(&mut b.told.refusals).await;
    assert_eq!(by, a.id);
    assert_eq!(refusal, Refusal::Words("node of cluster bad, this is cluster c1".into()));
}

#[tokio::test]
async fn a_key_under_another_id_is_refused() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let mut posing = b.member();
    posing.id = NodeId(3);
    a.peers.set_members(&membership(&[a.member(), posing], 1), Index(1));
    b.peers.set_members(&membership(&[a.member(), b.member()], 1), Index(1));
    let (_, refusal) = next(&mut b.told.refusals).await;
    assert_eq!(refusal, Refusal::Words("it says it is node 2, its key is node 3's".into()));
}

#[tokio::test]
async fn a_restart_heals_on_both_sides() {
    let (mut a, b) = pair().await;
    let (key, address) = (b.key.clone(), b.address);
    let members = membership(&[a.member(), b.member()], 1);
    b.peers.close().await;
    let id = b.id;
    drop(b);
    a.until_down(id).await;
    let mut b = Node::restart(2, key, address).await;
    b.peers.set_members(&members, Index(1));
    a.until_up(id).await;
    b.until_up(a.id).await;
    send(&a, b.id, read_request(1));
    assert_eq!(b.message().await.1, read_request(1));
    send(&b, a.id, read_request(2));
    assert_eq!(a.message().await.1, read_request(2));
}

#[tokio::test]
async fn a_life_that_ended_without_a_word_is_noticed_when_the_next_one_speaks() {
    let (mut a, b) = pair().await;
    let (key, members) = (b.key.clone(), membership(&[a.member(), b.member()], 1));
    // The first life stays silent on its port, as after a power cut; the next one comes up elsewhere.
    let before = a.stats_of(b.id).address;
    let mut next_life = Node::start_at(2, key, "127.0.0.1:0", CLUSTER, 2);
    next_life.peers.set_members(&members, Index(1));
    next_life.until_up(a.id).await;
    eventually("a sends to the new life", || {
        a.stats_of(NodeId(2)).address == Some(next_life.address) && a.stats_of(NodeId(2)).is_up
    })
    .await;
    assert_ne!(before, Some(next_life.address));
    a.until_up(NodeId(2)).await;
    drop(b);
}

#[tokio::test]
async fn who_writes_to_a_life_that_was_killed_is_told_by_the_next_one() {
    let mut a = Node::start(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let b = {
        let _entered = runtime.enter();
        Node::start(2)
    };
    introduce(&[&a, &b]);
    a.until_up(b.id).await;
    let (key, address, id) = (b.key.clone(), b.address, b.id);
    let mut unreached = a.member();
    unreached.peer_addresses.clear();
    let members = membership(&[unreached, b.member()], 1);
    // Without its runtime it says no goodbye.
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(common::PATIENCE)).await.unwrap();
    drop(b);
    // The next life cannot dial a, it can only answer what comes in.
    let mut b = Node::restart(2, key, address).await;
    b.peers.set_members(&members, Index(1));
    eventually("a notices", || {
        send(&a, id, heartbeat(1));
        a.stats_of(id).last_end.is_some()
    })
    .await;
    assert_eq!(a.stats_of(id).last_end.unwrap(), "reset by peer");
    a.until_up(id).await;
    send(&a, id, read_request(8));
    while b.message().await.1 != read_request(8) {}
}

#[tokio::test]
async fn a_changed_address_heals_from_the_other_side() {
    let (mut a, b) = pair().await;
    let (key, members) = (b.key.clone(), membership(&[a.member(), b.member()], 1));
    let id = b.id;
    b.peers.close().await;
    drop(b);
    a.until_down(id).await;
    // The membership still names the address before: only b's own dial tells where it is now.
    let mut b = Node::start_at(2, key, "127.0.0.2:0", CLUSTER, 2);
    b.peers.set_members(&members, Index(1));
    b.until_up(a.id).await;
    a.until_up(id).await;
    assert_eq!(a.stats_of(id).address, Some(b.address));
    send(&a, id, read_request(5));
    assert_eq!(b.message().await.1, read_request(5));
}

#[tokio::test]
async fn a_new_advertised_address_is_dialled() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut wrong = b.member();
    wrong.peer_addresses = vec![nobody.local_addr().unwrap().to_string()];
    a.peers.set_members(&membership(&[a.member(), wrong.clone()], 1), Index(1));
    b.peers.set_members(&membership(&[b.member()], 1), Index(1));
    eventually("a dial in vain", || a.stats_of(b.id).dials_failed > 0).await;
    assert!(a.stats_of(b.id).last_failure.unwrap().contains("nothing answers"));
    introduce(&[&a, &b]);
    a.until_up(b.id).await;
    b.until_up(a.id).await;
}

#[tokio::test]
async fn names_and_ipv6_are_dialled() {
    let mut a = Node::start_at(1, quorate_peer::NodeKey::generate().unwrap(), "[::1]:0", CLUSTER, 1);
    let mut b = Node::start_at(2, quorate_peer::NodeKey::generate().unwrap(), "[::]:0", CLUSTER, 1);
    let mut named = b.member();
    named.peer_addresses = vec!["no-such-name.invalid:1".into(), format!("localhost:{}", b.address.port())];
    let members = membership(&[a.member(), named], 1);
    a.peers.set_members(&members, Index(1));
    b.peers.set_members(&members, Index(1));
    a.until_up(b.id).await;
    b.until_up(a.id).await;
    send(&a, b.id, heartbeat(3));
    assert_eq!(b.message().await, (a.id, heartbeat(3)));
}

#[tokio::test]
async fn nothing_grows_while_a_peer_is_down() {
    let a = Node::start(1);
    let absent = Node::start(2);
    introduce(&[&a, &absent]);
    let id = absent.id;
    absent.peers.close().await;
    drop(absent);
    eventually("the peer is down", || !a.stats_of(id).is_up).await;
    for number in 0..10_000 {
        send(&a, id, message(append(number, &[&[0; 10_000]])));
        send(&a, id, read_request(number));
        send(&a, id, heartbeat(number));
        assert!(!a.peers.forward(id, vec![0; 10_000]));
    }
    let stats = a.stats_of(id);
    assert_eq!(stats.queued_bytes, 0);
    assert!(stats.queued_count < 32, "{} wait", stats.queued_count);
    assert!(stats.dropped > 19_000);
    assert!(stats.forwards_refused >= 10_000);
}

#[tokio::test]
async fn who_is_no_member_is_sent_nothing() {
    let (a, _b) = pair().await;
    send(&a, NodeId(77), read_request(1));
    assert!(!a.peers.forward(NodeId(77), vec![1]));
    assert!(a.peers.stats().peers.iter().all(|peer| peer.node != NodeId(77)));
}
