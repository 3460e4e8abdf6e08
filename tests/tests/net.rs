//! The breakable network itself: what it lets pass, what not, and that it leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::net::Net;
use quorate_tests::skip;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// How long a packet that comes may take before the test is called broken.
const COMES: Duration = Duration::from_secs(20);
/// How long one is waited for that does not come.
const STAYS_AWAY: Duration = Duration::from_millis(100);

/// A UDP socket on each host, the test's own first.
fn sockets(net: &Net, nodes: usize) -> Vec<UdpSocket> {
    let own = UdpSocket::bind((net.address(0), 7_000)).unwrap();
    let inside = |host| net.inside(host, || UdpSocket::bind((net.address(host), 7_000)).unwrap()).unwrap();
    std::iter::once(own).chain((1..=nodes).map(inside)).collect()
}

fn send(net: &Net, sockets: &[UdpSocket], from: usize, to: usize, number: u32) {
    // A device that is down refuses at once; that too is a packet that does not arrive.
    sockets[from].send_to(&number.to_le_bytes(), (net.address(to), 7_000)).ok();
}

fn receive(sockets: &[UdpSocket], to: usize, limit: Duration) -> Option<u32> {
    let mut bytes = [0; 4];
    sockets[to].set_read_timeout(Some(limit)).unwrap();
    let (count, _) = sockets[to].recv_from(&mut bytes).ok()?;
    assert_eq!(count, 4);
    Some(u32::from_le_bytes(bytes))
}

/// The pairs of hosts between which a packet arrives.
fn reach(net: &Net, sockets: &[UdpSocket]) -> BTreeSet<(usize, usize)> {
    let pairs = (0..sockets.len()).flat_map(|from| (0..sockets.len()).map(move |to| (from, to)));
    let mut reached = BTreeSet::new();
    for (from, to) in pairs.filter(|(from, to)| from != to) {
        let before = net.passed(from, to);
        send(net, sockets, from, to, 7);
        let began = Instant::now();
        // The switch says whether it passed, so that nothing here is decided by waiting.
        while net.passed(from, to) == before && began.elapsed() < STAYS_AWAY {
            std::thread::sleep(Duration::from_millis(1));
        }
        let after = net.passed(from, to);
        if after.delivered > before.delivered {
            assert_eq!(receive(sockets, to, COMES), Some(7));
            reached.insert((from, to));
        }
    }
    reached
}

fn all(hosts: usize) -> BTreeSet<(usize, usize)> {
    (0..hosts).flat_map(|from| (0..hosts).map(move |to| (from, to))).filter(|(from, to)| from != to).collect()
}

fn without(hosts: usize, cut: &[(usize, usize)]) -> BTreeSet<(usize, usize)> {
    all(hosts).into_iter().filter(|pair| !cut.contains(pair)).collect()
}

#[test]
fn links_are_cut_and_healed() {
    if let Some(reason) = Net::missing() {
        skip!("{reason}");
    }
    let net = Net::new(4).unwrap();
    let sockets = sockets(&net, 4);
    assert_eq!(reach(&net, &sockets), all(5));
    net.cut_one_way(1, 2);
    assert_eq!(reach(&net, &sockets), without(5, &[(1, 2)]));
    net.heal();
    net.cut(2, 3);
    assert_eq!(reach(&net, &sockets), without(5, &[(2, 3), (3, 2)]));
    net.heal();
    net.isolate(&[1, 2]);
    let halves = [(1, 3), (3, 1), (1, 4), (4, 1), (2, 3), (3, 2), (2, 4), (4, 2)];
    assert_eq!(reach(&net, &sockets), without(5, &halves));
    net.heal();
    net.set_up(4, false).unwrap();
    let down = [(0, 4), (4, 0), (1, 4), (4, 1), (2, 4), (4, 2), (3, 4), (4, 3)];
    assert_eq!(reach(&net, &sockets), without(5, &down));
    net.set_up(4, true).unwrap();
    assert_eq!(reach(&net, &sockets), all(5));
}

#[test]
fn wires_lose_delay_and_hold() {
    const PACKETS: u32 = 2_000;
    if let Some(reason) = Net::missing() {
        skip!("{reason}");
    }
    let net = Net::new(2).unwrap();
    let sockets = sockets(&net, 2);
    net.change(1, 2, |wire| wire.loss_per_thousand = 100);
    for number in 0..PACKETS {
        send(&net, &sockets, 1, 2, number);
        // Not faster than the receiver's buffer is emptied.
        while receive(&sockets, 2, Duration::from_millis(1)).is_some_and(|got| got < number) {}
    }
    let lost = net.passed(1, 2).dropped;
    println!("{lost} of {PACKETS} lost");
    assert!((100..=320).contains(&lost), "{lost} of {PACKETS} lost at one in ten");
    net.heal();
    while receive(&sockets, 2, STAYS_AWAY).is_some() {}
    // Late, but in order, and not before its time.
    let delay = Duration::from_millis(30);
    net.change(1, 2, |wire| wire.delay = delay);
    let began = Instant::now();
    for number in 0..20 {
        send(&net, &sockets, 1, 2, number);
    }
    for number in 0..20 {
        assert_eq!(receive(&sockets, 2, COMES), Some(number));
        assert!(began.elapsed() >= delay);
    }
    net.heal();
    let until = Instant::now() + Duration::from_millis(300);
    net.change(1, 2, |wire| wire.held_until = Some(until));
    send(&net, &sockets, 1, 2, 1);
    assert_eq!(receive(&sockets, 2, COMES), Some(1));
    assert!(Instant::now() >= until);
    // The other direction never noticed.
    assert_eq!(net.passed(2, 1).dropped, 0);
}

#[test]
fn nothing_is_left_behind() {
    if let Some(reason) = Net::missing() {
        skip!("{reason}");
    }
    let is_there = |name: &String| std::path::Path::new("/run/netns").join(name).exists();
    let name_of = |net: &Net, host| net.wrapper(host).pop().unwrap();
    let (made, told) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let net = Net::new(3).unwrap();
        (1..=3).for_each(|host| made.send(name_of(&net, host)).unwrap());
        assert!(net.address(1).is_loopback(), "a panic on purpose, with the network up");
    });
    assert!(panicked.join().is_err());
    let names: Vec<String> = told.iter().collect();
    assert!(names.len() == 3 && !names.iter().any(is_there), "{names:?}");
    let net = Net::new(1).unwrap();
    let name = name_of(&net, 1);
    assert!(is_there(&name));
    drop(net);
    assert!(!is_there(&name));
}
