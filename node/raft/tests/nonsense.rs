//! A peer may say anything: nothing it says may stop a node, and what cannot be true is counted.

mod cluster;

use cluster::Cluster;
use cluster::dice::Dice;
use quorate_raft::{
    AppendAnswer, AppendEntries, AppendNumber, Body, Card, Heartbeat, HeartbeatAnswer, Message, Raft, ReadId,
    Role, VoteRequest,
};
use quorate_types::{Entry, EntryKind, Index, NodeId, Position, Start, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers near what the core holds, and those at the ends.
fn number(dice: &mut Dice, near: u64) -> u64 {
    match dice.roll(8) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX - 1,
        3 => dice.roll(u64::MAX),
        _ => near.saturating_add(dice.roll(5)).saturating_sub(2),
    }
}

fn position(dice: &mut Dice, raft: &Raft) -> Position {
    let index = number(dice, raft.last().index.0);
    let term = raft.position_of(Index(index)).filter(|_| !dice.one_in(3));
    Position { term: term.unwrap_or_else(|| Term(number(dice, raft.term().0))), index: Index(index) }
}

fn entries(dice: &mut Dice, raft: &Raft, previous: Position) -> Vec<Entry> {
    let mut index = previous.index.0;
    (0..dice.roll(4))
        .map(|_| {
            index = if dice.one_in(6) { number(dice, index) } else { index.saturating_add(1) };
            let kinds = [EntryKind::Noop, EntryKind::Command, EntryKind::Membership];
            let kind = dice.pick(&kinds).expect("there are kinds");
            let membership = quorate_raft::encode_membership(raft.membership());
            let payload = if dice.one_in(2) { membership } else { Arc::from(&b"nonsense"[..]) };
            let term = Term(number(dice, raft.term().0));
            Entry { position: Position { term, index: Index(index) }, kind, payload }
        })
        .collect()
}

fn card(dice: &mut Dice) -> Card {
    dice.pick(&[Card::Unknown, Card::Takes(0), Card::Takes(u16::MAX), Card::StandsStill])
        .expect("there are cards")
}

fn body(dice: &mut Dice, raft: &Raft) -> Body {
    let last = raft.last().index.0;
    let index = |dice: &mut Dice| Index(number(dice, last));
    match dice.roll(14) {
        0 => Body::PreVoteRequest(VoteRequest { last: position(dice, raft), is_hand_over: dice.one_in(2) }),
        1 => Body::PreVoteAnswer { granted: dice.one_in(2) },
        2 => Body::VoteRequest(VoteRequest { last: position(dice, raft), is_hand_over: dice.one_in(2) }),
        3 => Body::VoteAnswer { granted: dice.one_in(2) },
        4 => Body::Heartbeat(Heartbeat { committed: index(dice), round: number(dice, 3) }),
        5 => {
            let (verified, persisted) = (index(dice), index(dice));
            Body::HeartbeatAnswer(HeartbeatAnswer {
                round: number(dice, 3),
                verified,
                persisted,
                card: card(dice),
            })
        }
        6 | 7 => {
            let previous = position(dice, raft);
            let entries = entries(dice, raft, previous);
            Body::AppendEntries(AppendEntries { previous, entries, committed: index(dice) })
        }
        8 => Body::AppendAnswer(AppendAnswer::Taken { verified: index(dice), persisted: index(dice) }),
        9 => Body::AppendAnswer(AppendAnswer::Rejected { previous: index(dice), hint: position(dice, raft) }),
        10 => Body::AppendAnswer(AppendAnswer::Full),
        11 => Body::ReadRequest { number: dice.roll(10) },
        12 => Body::ReadAnswer { number: dice.roll(u64::MAX), index: Some(index(dice)) },
        _ => Body::CampaignNow,
    }
}

/// What an honest peer could say to this node now: it must get into every role to be tried in each.
fn plausible(dice: &mut Dice, raft: &Raft) -> Message {
    let (last, term) = (raft.last(), raft.term());
    let verified = Index(dice.roll(last.index.0 + 1));
    let entry = Position { term, index: last.index.next() };
    let entries =
        vec![Entry { position: entry, kind: EntryKind::Command, payload: Arc::from(&b"sense"[..]) }];
    let (term, body) = match raft.role() {
        Role::PreCandidate => (Term(term.0 + 1), Body::PreVoteAnswer { granted: true }),
        Role::Candidate => (term, Body::VoteAnswer { granted: true }),
        Role::Leader => (term, Body::AppendAnswer(AppendAnswer::Taken { verified, persisted: verified })),
        Role::Follower => {
            (term, Body::AppendEntries(AppendEntries { previous: last, entries, committed: verified }))
        }
    };
    Message { start: LIFE, term, body }
}

/// What the hall brings of spans and images, at any time and for anybody; sense only by chance.
fn bring(dice: &mut Dice, raft: &mut Raft) -> &'static str {
    let to = NodeId(1 + dice.roll(4));
    let position = position(dice, raft);
    match dice.roll(6) {
        0 | 1 => {
            let entries = entries(dice, raft, position);
            raft.fetched(to, position, entries);
            "fetched"
        }
        2 => {
            raft.fetch_failed(to, position.index);
            "fetch failed"
        }
        3 => {
            // An image is of what is committed: that is the hall's to keep, not a peer's.
            raft.image_sent(to, Position { index: position.index.min(raft.committed()), ..position });
            "image sent"
        }
        4 => {
            raft.image_failed(to);
            "image failed"
        }
        _ => {
            let mut membership = raft.membership().clone();
            membership.version = number(dice, membership.version);
            let is_taken = raft.install_image(position, membership);
            if is_taken { "image installed" } else { "image refused" }
        }
    }
}

/// Of every peer; a lower count is stale.
const LIFE: Start = Start { count: 2, incarnation: 7 };

/// A node among three that has committed a little, and then hears nonsense from both others and a stranger.
#[test]
fn nothing_a_peer_says_stops_a_node() {
    let mut ignored = 0;
    let mut applied = 0;
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    let mut brought: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..2_000 {
        let mut dice = Dice::new(seed);
        let mut cluster = Cluster::new(seed, &[1, 2, 3]);
        for id in 1..=3 {
            cluster.start(NodeId(id));
        }
        let node = cluster.nodes.get_mut(&NodeId(1)).expect("a node");
        let mut raft = node.raft.take().expect("it runs");
        let mut unacked: Vec<AppendNumber> = Vec::new();
        for _ in 0..400 {
            let start = if dice.one_in(20) { Start { count: 1, ..LIFE } } else { LIFE };
            let nonsense =
                Message { start, term: Term(number(&mut dice, raft.term().0)), body: body(&mut dice, &raft) };
            let message = if dice.one_in(3) { plausible(&mut dice, &raft) } else { nonsense };
            // A term far ahead once heard would make all that follows old.
            let is_far = message.term.0 > raft.term().0 + 3 && message.term.0 < u64::MAX >> 16;
            if !is_far {
                raft.step(NodeId(1 + dice.roll(4)), message);
            }
            match dice.roll(10) {
                0 => raft.tick(u32::try_from(dice.roll(100)).expect("small")),
                1 => raft.request_read(ReadId(dice.roll(u64::MAX))),
                2 => {
                    let taken = raft.propose(Arc::from(&b"sense"[..]));
                    assert!(taken.is_err() || raft.leader() == Some(NodeId(1)));
                }
                3 => *brought.entry(bring(&mut dice, &mut raft)).or_default() += 1,
                4 => {
                    unacked.drain(..).for_each(|number| raft.ack_append(number));
                }
                _ => {}
            }
            let role = format!("{:?} {}", raft.role(), raft.leader().is_some());
            *reached.entry(role).or_default() += 1;
            let ready = raft.take_ready();
            applied += ready.committed.len();
            unacked.extend(ready.append.map(|append| append.number));
            for fetch in ready.fetches {
                if dice.one_in(2) {
                    raft.fetch_failed(fetch.to, fetch.after);
                }
            }
        }
        ignored += raft.ignored();
    }
    println!("ignored {ignored} applied {applied} {reached:?} {brought:?}");
    assert!(ignored > 10_000, "what cannot be true is counted");
    assert!(applied > 1_000, "some of it could be true");
    assert!(reached.len() == 5 && reached.values().all(|count| *count > 500), "in every role: {reached:?}");
    assert!(brought.len() == 6 && brought.values().all(|count| *count > 100), "at every door: {brought:?}");
}
