//! One core, its peers played by the test: what a real peer says only on a bad day, said at the worst moment.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of message")]

mod cluster;

use cluster::membership;
use quorate_raft::{
    AppendAnswer, AppendEntries, Body, Card, Config, Envelope, Fetch, Heartbeat, HeartbeatAnswer, Message,
    Raft, ReadId, Ready, Restored, Role, encode_membership,
};
use quorate_types::{Entry, EntryKind, HardState, Index, Membership, NodeId, Position, Start, Term, limits};
use std::sync::Arc;

const _: () = assert!(limits::EARLIER_STARTS_COUNT_MAX > 4, "what the stories here tell of a life's past");

/// Of every peer.
const LIFE: Start = Start { count: 5, incarnation: 9 };

fn at(index: u64, term: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn said(term: u64, body: Body) -> Message {
    Message { start: LIFE, term: Term(term), body }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { position: at(index, term), kind: EntryKind::Command, payload: Arc::from(vec![7; 100]) }
}

fn restore(id: u64, restored: Restored) -> Raft {
    let start = Start { count: 1, incarnation: id };
    let mut raft = Raft::restore(Config { node: NodeId(id), start, seed: id }, restored);
    take(&mut raft);
    raft
}

fn among(voters: &[u64], learners: &[u64]) -> Restored {
    Restored { membership: membership(voters, learners), ..Restored::default() }
}

/// Everything the core has to give; its card is at once done.
fn take(raft: &mut Raft) -> Ready {
    let mut all = Ready::default();
    while raft.has_ready() {
        let ready = raft.take_ready();
        if let Some(append) = &ready.append {
            raft.ack_append(append.number);
        }
        all.messages.extend(ready.messages);
        all.fetches.extend(ready.fetches);
        all.images.extend(ready.images);
    }
    all
}

/// Node 2 votes for it; the term it leads.
fn elect(raft: &mut Raft) -> u64 {
    while raft.role() == Role::Follower {
        raft.tick(1);
    }
    let term = raft.term().0 + 1;
    raft.step(NodeId(2), said(term, Body::PreVoteAnswer { granted: true }));
    take(raft);
    raft.step(NodeId(2), said(term, Body::VoteAnswer { granted: true }));
    assert_eq!(raft.role(), Role::Leader);
    take(raft);
    term
}

fn taken(upto: u64) -> Body {
    Body::AppendAnswer(AppendAnswer::Taken { verified: Index(upto), persisted: Index(upto) })
}

fn heard(round: u64, upto: u64) -> Body {
    Body::HeartbeatAnswer(HeartbeatAnswer {
        round,
        verified: Index(upto),
        persisted: Index(upto),
        card: Card::Unknown,
    })
}

fn append(previous: Position, entries: Vec<Entry>, committed: u64) -> Body {
    Body::AppendEntries(AppendEntries { previous, entries, committed: Index(committed) })
}

fn round(ready: &Ready) -> Option<u64> {
    let round = |envelope: &Envelope| match &envelope.message.body {
        Body::Heartbeat(heartbeat) => Some(heartbeat.round),
        _ => None,
    };
    ready.messages.iter().filter_map(round).max()
}

/// A leader that reads a span from its card for node 3, which got what follows 1 and has not said so.
fn fetching() -> (Raft, Fetch) {
    let mut raft = restore(1, among(&[1, 2, 3], &[]));
    let term = elect(&mut raft);
    raft.step(NodeId(2), said(term, taken(1)));
    raft.step(NodeId(3), said(term, taken(1)));
    take(&mut raft);
    for _ in 0..8 {
        raft.propose(Arc::from(vec![7; 1_000_000])).expect("it leads");
        take(&mut raft);
        raft.step(NodeId(2), said(term, taken(raft.last().index.0)));
        take(&mut raft);
    }
    assert!(raft.base().index > Index(2), "memory forgot what follows 1");
    for _ in 0..8 {
        raft.tick(10);
        let mut ready = take(&mut raft);
        if let Some(round) = round(&ready) {
            raft.step(NodeId(2), said(term, heard(round, raft.last().index.0)));
            raft.step(NodeId(3), said(term, heard(round, 1)));
        }
        ready.fetches.extend(take(&mut raft).fetches);
        if let [fetch] = ready.fetches[..] {
            assert_eq!((fetch.to, fetch.after), (NodeId(3), Index(1)));
            return (raft, fetch);
        }
    }
    panic!("it never reads its card");
}

#[test]
fn a_peer_that_says_what_it_has_while_its_span_is_read_goes_on_from_there() {
    let (mut raft, fetch) = fetching();
    let term = raft.term().0;
    raft.step(NodeId(3), said(term, heard(1, 3)));
    raft.fetched(NodeId(3), at(fetch.after.0, term), vec![entry(2, term)]);
    let ready = take(&mut raft);
    assert!(ready.images.is_empty() && ready.fetches.iter().all(|fetch| fetch.after == Index(3)));
}

#[test]
fn a_span_that_is_not_wanted_any_more_asks_for_no_image() {
    for is_found in [true, false] {
        let (mut raft, fetch) = fetching();
        let term = raft.term().0;
        raft.step(NodeId(3), said(term, taken(2)));
        let next = take(&mut raft).fetches;
        assert_eq!(next.iter().map(|fetch| fetch.after).collect::<Vec<_>>(), [Index(2)]);
        if is_found {
            raft.fetched(NodeId(3), at(1, term), vec![entry(2, term)]);
        } else {
            raft.fetch_failed(NodeId(3), fetch.after);
        }
        assert_eq!(take(&mut raft).images, []);
        raft.fetched(NodeId(3), at(2, term), vec![entry(3, term)]);
        let sent = take(&mut raft).messages;
        let is_third = |envelope: &Envelope| matches!(&envelope.message.body, Body::AppendEntries(append) if append.previous.index == Index(2));
        assert!(sent.iter().any(is_third), "the span that was wanted goes out");
    }
}

/// A follower whose log parts from the leader's far below what the leader has in memory.
#[test]
fn where_logs_part_below_memory_is_found_in_few_rounds() {
    let (parted, last) = (500_u64, 5_000_u64);
    let log: Vec<Entry> = (1..=last).map(|index| entry(index, if index <= parted { 1 } else { 2 })).collect();
    let hard_state = |term, vote| HardState { term: Term(term), vote };
    let mut leader = restore(
        1,
        Restored {
            hard_state: hard_state(2, None),
            base: at(last, 2),
            applied: Index(last),
            committed: Index(last),
            ..among(&[1, 2, 3], &[])
        },
    );
    let entries = (1..=1_000).map(|index| entry(index, 1)).collect();
    let hard_state = hard_state(3, Some(NodeId(1)));
    let mut follower =
        restore(3, Restored { hard_state, entries, committed: Index(parted), ..among(&[1, 2, 3], &[]) });
    let term = elect(&mut leader);
    let mut fetched = 0;
    for _ in 0..2_000 {
        leader.tick(1);
        let ready = take(&mut leader);
        assert!(ready.images.is_empty(), "the card has all of it");
        for fetch in ready.fetches {
            fetched += 1;
            let after = usize::try_from(fetch.after.0).expect("small");
            let upto = usize::try_from(fetch.last.0).expect("small").min(after + 1_500);
            let previous = after.checked_sub(1).map_or_else(Position::default, |at| log[at].position);
            leader.fetched(fetch.to, previous, log[after..upto].to_vec());
        }
        for Envelope { to, message } in ready.messages {
            match message.body {
                Body::Heartbeat(heartbeat) if to == NodeId(2) => {
                    leader.step(to, said(term, heard(heartbeat.round, 0)));
                }
                _ if to == NodeId(3) => {
                    follower.step(NodeId(1), Message { start: LIFE, ..message });
                }
                _ => {}
            }
        }
        for Envelope { message, .. } in take(&mut follower).messages {
            leader.step(NodeId(3), Message { start: LIFE, ..message });
        }
        if follower.last().index.0 > last {
            assert!(fetched < 30, "{fetched} spans were read from the card");
            return;
        }
    }
    panic!("never, with {fetched} spans read from the card");
}

#[test]
fn an_image_below_what_was_verified_takes_that_back() {
    let members = membership(&[1, 2, 3], &[]);
    let mut raft = restore(3, among(&[1, 2, 3], &[]));
    let entries = (1..=30).map(|index| entry(index, 5)).collect();
    raft.step(NodeId(1), said(5, append(Position::default(), entries, 0)));
    take(&mut raft);
    assert!(raft.install_image(at(25, 4), members));
    raft.step(NodeId(1), said(5, Body::Heartbeat(Heartbeat { committed: Index(30), round: 1 })));
    assert_eq!(raft.committed(), Index(25));
}

#[test]
fn an_older_image_does_not_take_a_newer_membership_from_the_card() {
    let base = Membership { version: 5, ..membership(&[1, 2, 3], &[4]) };
    let mut raft = restore(4, Restored { membership: base, ..Restored::default() });
    assert!(raft.install_image(at(25, 4), membership(&[1], &[])));
    assert_eq!(raft.membership_committed().version, 5);
    let append = raft.take_ready().append.expect("the log begins anew");
    assert_eq!(append.membership.map_or(5, |membership| membership.version), 5);
}

#[test]
fn versions_no_cluster_reaches_or_that_do_not_rise_are_ignored() {
    let entries = |versions: &[u64]| {
        (1..)
            .zip(versions)
            .map(|(index, version)| {
                let next = Membership { version: *version, ..membership(&[1, 2, 3], &[]) };
                Entry { kind: EntryKind::Membership, payload: encode_membership(&next), ..entry(index, 1) }
            })
            .collect::<Vec<_>>()
    };
    for versions in [&[u64::MAX][..], &[3, 2], &[2, 2]] {
        let mut raft = restore(1, among(&[1, 2, 3], &[]));
        raft.step(NodeId(2), said(1, append(Position::default(), entries(versions), 1)));
        assert_eq!((raft.last().index, raft.ignored()), (Index(0), 1), "{versions:?}");
        let term = elect(&mut raft);
        raft.step(NodeId(2), said(term, taken(1)));
        take(&mut raft);
        let next = cluster::with_learner(raft.membership(), 9);
        assert!(raft.propose_membership(next).is_ok());
    }
    let mut raft = restore(1, among(&[1, 2, 3], &[]));
    raft.step(NodeId(2), said(1, append(Position::default(), entries(&[2]), 0)));
    raft.step(
        NodeId(2),
        said(1, append(at(1, 1), vec![Entry { position: at(2, 1), ..entries(&[2]).remove(0) }], 0)),
    );
    assert_eq!((raft.last().index, raft.ignored()), (Index(1), 1), "nor in the next append");
}

#[test]
fn a_term_no_cluster_reaches_is_ignored() {
    let mut raft = restore(1, among(&[1, 2, 3], &[]));
    let far = (1 << 32) + 1;
    let heartbeat = |term| said(term, Body::Heartbeat(Heartbeat { committed: Index(0), round: 1 }));
    raft.step(NodeId(2), heartbeat(far));
    assert_eq!((raft.term(), raft.ignored()), (Term(0), 1));
    assert!(!raft.install_image(at(9, far), membership(&[1, 2, 3], &[])));
    raft.step(NodeId(2), heartbeat(far - 1));
    assert_eq!(raft.term(), Term(far - 1));
}

#[test]
fn a_late_refusal_of_a_pre_vote_ends_no_term_of_a_leader_that_is_heard() {
    let mut raft = restore(1, among(&[1, 2, 3], &[]));
    raft.step(NodeId(2), said(3, Body::Heartbeat(Heartbeat { committed: Index(0), round: 1 })));
    raft.step(NodeId(3), said(7, Body::PreVoteAnswer { granted: false }));
    assert_eq!((raft.term(), raft.leader()), (Term(3), Some(NodeId(2))));
    raft.tick(50);
    raft.step(NodeId(3), said(7, Body::PreVoteAnswer { granted: false }));
    assert_eq!(raft.term(), Term(7), "nobody is heard any more");
}

#[test]
fn a_removed_peer_behind_the_log_gets_no_image() {
    let (mut raft, fetch) = fetching();
    let term = raft.term().0;
    let next = raft.removal(NodeId(3)).or_else(|_| {
        let mut joint = raft.membership().clone();
        joint.voters_outgoing = std::mem::replace(&mut joint.voters, vec![NodeId(1)]);
        joint.learners = vec![];
        Ok::<_, ()>(joint)
    });
    raft.propose_membership(next.expect("made above")).expect("nothing else is under way");
    for _ in 0..3 {
        take(&mut raft);
        raft.step(NodeId(2), said(term, taken(raft.last().index.0)));
    }
    assert!(raft.membership().member(NodeId(3)).is_none(), "{:?}", raft.membership());
    raft.fetch_failed(NodeId(3), fetch.after);
    assert_eq!(take(&mut raft).images, []);
    assert!(raft.progress().all(|peer| peer.node != NodeId(3)));
}

#[test]
fn a_joint_membership_is_not_left_while_leadership_is_handed_over() {
    let mut raft = restore(1, among(&[1, 2, 3], &[]));
    let term = elect(&mut raft);
    raft.step(NodeId(2), said(term, taken(1)));
    take(&mut raft);
    let mut joint = raft.membership().clone();
    joint.voters_outgoing = std::mem::replace(&mut joint.voters, vec![NodeId(1), NodeId(2)]);
    raft.propose_membership(joint).expect("nothing else is under way");
    take(&mut raft);
    raft.transfer(NodeId(2)).expect("it votes and answers");
    raft.step(NodeId(2), said(term, taken(2)));
    let sent = take(&mut raft).messages;
    assert!(sent.iter().any(|envelope| envelope.message.body == Body::CampaignNow));
    assert_eq!((raft.committed(), raft.last().index), (Index(2), Index(2)), "its log is the heir's");
    for _ in 0..10 {
        raft.tick(10);
        let ready = take(&mut raft);
        if let Some(round) = round(&ready) {
            raft.step(NodeId(2), said(term, heard(round, 2)));
        }
    }
    assert_eq!(raft.last().index, Index(3), "the heir did not take it: now it is left");
    assert!(raft.membership().voters_outgoing.is_empty());
}

/// Node 3 was full once, 4 and 5 learn and keep up; a second of reads all the time.
#[test]
fn reads_without_end_keep_nobody_from_being_looked_after() {
    let mut raft = restore(1, among(&[1, 2, 3], &[4, 5]));
    let term = elect(&mut raft);
    for id in 2..=5 {
        raft.step(NodeId(id), said(term, taken(1)));
    }
    take(&mut raft);
    raft.propose(Arc::from(&b"x"[..])).expect("it leads");
    take(&mut raft);
    for id in [2, 4, 5] {
        raft.step(NodeId(id), said(term, taken(2)));
    }
    raft.step(NodeId(3), said(term, Body::AppendAnswer(AppendAnswer::Full)));
    take(&mut raft);
    let mut appends = 0;
    for step in 0..1_000 {
        raft.tick(1);
        if step % 5 == 0 {
            raft.request_read(ReadId(step));
        }
        for Envelope { to, message } in take(&mut raft).messages {
            match message.body {
                Body::Heartbeat(heartbeat) => {
                    let upto = if to == NodeId(3) { 1 } else { 2 };
                    raft.step(to, said(term, heard(heartbeat.round, upto)));
                }
                Body::AppendEntries(_) if to == NodeId(3) => appends += 1,
                _ => {}
            }
        }
    }
    assert!(appends > 3, "a full peer is sent to again");
    assert!(!raft.membership().voters_outgoing.is_empty(), "learners that keep up become voters");
}

#[test]
fn followers_know_each_others_lives_from_their_links() {
    let mut raft = restore(1, among(&[1, 2, 3], &[]));
    let life = |count, incarnation| Start { count, incarnation };
    raft.heard_start(NodeId(3), life(5, 1), &[life(4, 4)]);
    let vote = quorate_raft::VoteRequest { last: at(9, 9), is_hand_over: true };
    let request = Body::VoteRequest(vote);
    // An older copy of the card, and one that counted itself up: neither is listened to, and both are told.
    for (copy, earlier) in [(life(4, 4), vec![]), (life(7, 7), vec![life(6, 6), life(5, 2), life(4, 4)])] {
        raft.heard_start(NodeId(3), copy, &earlier);
        raft.step(NodeId(3), Message { start: copy, term: Term(1), body: request.clone() });
        let told = take(&mut raft).messages;
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|envelope| envelope.to == NodeId(3)));
        let seen = Body::StaleStart { seen: life(5, 1) };
        assert!(told.iter().all(|envelope| envelope.message.body == seen));
    }
    // The card itself, after more starts than anybody saw.
    raft.heard_start(NodeId(3), life(9, 9), &[life(5, 1), life(6, 8), life(7, 5), life(8, 1)]);
    raft.step(NodeId(3), Message { start: life(9, 9), term: Term(1), body: request });
    assert_eq!(raft.term(), Term(1));
}
