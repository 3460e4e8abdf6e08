//! The fuzz targets of `tests/fuzz` on a few thousand inputs made here, the same in each run: random bytes, and
//! frames that mean something with bytes changed, cut, doubled and moved.

use quorate_peer::{Token, fuzz};
use quorate_raft::{AppendEntries, Body, Heartbeat, Message, VoteRequest};
use quorate_types::{ClusterId, Entry, EntryKind, Index, PeerKey, Position, Start, Term};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound as u64).max(1)).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, count_max: usize) -> Vec<u8> {
        (0..self.below(count_max)).map(|_| self.byte()).collect()
    }

    /// One of the ways bytes go wrong.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let (at, to) = (self.below(bytes.len()), self.below(bytes.len() + 1));
        match self.below(6) {
            0 if !bytes.is_empty() => bytes[at] = self.byte(),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            3 => bytes.truncate(to),
            4 => bytes.insert(to, 0xff),
            _ => bytes.extend_from_within(at.min(to)..at.max(to).min(bytes.len())),
        }
    }
}

fn messages() -> Vec<Message> {
    let position = |index| Position { term: Term(3), index: Index(index) };
    let entry = |index, bytes: usize| Entry {
        position: position(index),
        kind: EntryKind::Command,
        payload: vec![7; bytes].into(),
    };
    let entries = vec![entry(8, 3), entry(9, 0), entry(10, 200)];
    let message = |body| Message { start: Start { count: 4, incarnation: 99 }, term: Term(3), body };
    vec![
        message(Body::AppendEntries(AppendEntries { previous: position(7), entries, committed: Index(6) })),
        message(Body::Heartbeat(Heartbeat { committed: Index(9), round: 1_000 })),
        message(Body::VoteRequest(VoteRequest { last: position(10), is_hand_over: false })),
        message(Body::ReadAnswer { number: 5, index: Some(Index(3)) }),
    ]
}

fn run(seeds: &[Vec<u8>], target: fn(&[u8])) {
    let mut random = Random(42);
    for seed in seeds {
        target(seed);
        for _ in 0..2_000 {
            let mut bytes = seed.clone();
            for _ in 0..=random.below(4) {
                random.mutate(&mut bytes);
            }
            target(&bytes);
        }
    }
    for _ in 0..4_000 {
        target(&random.bytes(200));
    }
}

#[test]
fn frames() {
    let mut seeds = fuzz::seeds(&messages());
    seeds.push(seeds.concat());
    // Heads of the other kinds, as long as they may be and empty.
    for kind in 2..10 {
        seeds.push(vec![1, kind, 0, 0, 0, 0, 0, 0, 0, 0]);
        seeds.push([[1, kind, 64, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[2; 64]].concat());
    }
    assert!(seeds.len() > 10);
    run(&seeds, fuzz::frames);
}

#[test]
fn tokens() {
    let token = Token {
        cluster: ClusterId(7),
        issuer: PeerKey([5; 32]),
        addresses: vec!["a:1".into(), "[::1]:2380".into()],
        secret: [9; 16],
    };
    run(&[token.print().into_bytes(), b"quorate1-AAAA".to_vec()], fuzz::token);
}

#[test]
fn join_requests() {
    run(&fuzz::join_seeds(), fuzz::join_request);
}
