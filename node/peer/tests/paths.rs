//! Paths that change, stop and lose packets.

mod common;

use common::relay::Relay;
use common::{Node, eventually, heartbeat, membership, message, read_request, send};
use quorate_raft::{AppendEntries, Body};
use quorate_types::{Entry, EntryKind, Index, Position, Term, limits};

/// Two nodes; what `a` sends to `b` goes through the relay, what `b` sends goes straight.
async fn through_relay() -> (Node, Node, Relay) {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let relay = Relay::to(b.address).await;
    let mut seen = b.member();
    seen.peer_addresses = vec![relay.address.to_string()];
    // First b knows no way to a, so a cannot learn the straight way from it.
    let mut unreached = a.member();
    unreached.peer_addresses.clear();
    b.peers.set_members(&membership(&[unreached, b.member()], 1), Index(1));
    a.peers.set_members(&membership(&[a.member(), seen], 1), Index(1));
    a.until_up(b.id).await;
    b.peers.set_members(&membership(&[a.member(), b.member()], 1), Index(1));
    b.until_up(a.id).await;
    assert_eq!(a.stats_of(b.id).address, Some(relay.address));
    (a, b, relay)
}

fn append(index: u64, bytes: usize) -> Body {
    let position = |index| Position { term: Term(1), index: Index(index) };
    let entry = Entry { position: position(index), kind: EntryKind::Command, payload: vec![1; bytes].into() };
    Body::AppendEntries(AppendEntries {
        previous: position(index - 1),
        entries: vec![entry],
        committed: Index(0),
    })
}

#[tokio::test]
async fn a_link_lives_on_when_its_address_changes() {
    let (a, mut b, relay) = through_relay().await;
    send(&a, b.id, read_request(1));
    assert_eq!(b.message().await.1, read_request(1));
    relay.move_on().await;
    for number in 2..20 {
        send(&a, b.id, read_request(number));
        assert_eq!(b.message().await.1, read_request(number));
    }
    // The same link: it was neither dropped nor dialled anew.
    let stats = a.stats_of(b.id);
    assert!(stats.is_up && stats.dials_failed == 0);
    assert_eq!(stats.address, Some(relay.address));
    assert_eq!(*a.told.reachable.borrow(), [b.id]);
}

#[tokio::test]
async fn everything_arrives_in_order_over_a_path_that_loses() {
    let (a, mut b, relay) = through_relay().await;
    relay.lose_one_in(20);
    let (mut appends, mut reads) = (0, 0);
    for number in 1..=100 {
        send(&a, b.id, message(append(number, 10_000)));
        send(&a, b.id, read_request(number));
    }
    while appends < 100 || reads < 100 {
        let body = b.message().await.1.body;
        if let Body::AppendEntries(append) = body {
            appends += 1;
            assert_eq!(append.entries[0].position.index, Index(appends));
        } else {
            reads += 1;
            assert_eq!(body, Body::ReadRequest { number: reads });
        }
    }
    assert_eq!(a.stats_of(b.id).dropped, 0);
}

#[tokio::test]
async fn what_is_urgent_overtakes_entries() {
    let (a, mut b, relay) = through_relay().await;
    relay.set_cut(true);
    let (size, mut count) = (64 * 1024, 0);
    while a.stats_of(b.id).dropped == 0 {
        count += 1;
        send(&a, b.id, message(append(count, size)));
        tokio::task::yield_now().await;
    }
    assert!(a.stats_of(b.id).queued_bytes <= limits::APPEND_IN_FLIGHT_BYTES_MAX);
    send(&a, b.id, read_request(7));
    send(&a, b.id, heartbeat(9));
    relay.set_cut(false);
    let (mut before, mut urgent) = (0, 0);
    while urgent < 2 {
        let is_entries = matches!(b.message().await.1.body, Body::AppendEntries(_));
        *(if is_entries { &mut before } else { &mut urgent }) += 1;
    }
    assert!(before <= 4, "{before} of {count} appends came first");
}

#[tokio::test]
async fn a_path_that_stops_ends_the_link_and_comes_back() {
    let (mut a, mut b, relay) = through_relay().await;
    relay.set_cut(true);
    // Nobody says goodbye: the idle timeout finds out.
    a.until_down(b.id).await;
    for number in 0..1_000 {
        send(&a, b.id, message(append(number + 1, 10_000)));
    }
    assert_eq!(a.stats_of(b.id).queued_bytes, 0);
    // b's own link goes straight, and its address is known from it: that way is taken.
    a.until_up(b.id).await;
    assert_eq!(a.stats_of(b.id).address, Some(b.address));
    send(&a, b.id, read_request(3));
    assert_eq!(b.message().await.1, read_request(3));
    eventually("b hears a again", || b.stats_of(a.id).is_heard).await;
}
