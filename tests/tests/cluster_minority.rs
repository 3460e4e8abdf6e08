//! Two of three cards stand still: writes fail in bounded time, in bounded memory, nobody is elected, the leader still
//! answers reads, and all goes on by itself as soon as one of the two moves.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_bench::print_status;
use quorate_card::{Card, Figures, Model};
use quorate_tests::client::Client;
use quorate_tests::field::Field;
use quorate_tests::resident::{peak, reset_peak, resident};
use quorate_tests::skip;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// Longer than a request waits for its outcome.
const STALL: Duration = Duration::from_secs(9);
/// A request waits seven seconds; the rest is for a machine that is busy.
const REFUSED_WITHIN: Duration = Duration::from_secs(12);
const READ_WITHIN: Duration = Duration::from_secs(5);
const READ_COUNT: u64 = 50;
/// Clients of each node, all of which try again for ever.
const CLIENT_COUNT: u64 = 200;
const REST: Duration = Duration::from_secs(1);
const VALUE_BYTES: usize = 64 * 1024;
/// What a node may take for what cannot become durable: the log's 32 MiB, 32 MiB of proposals that wait, and as much
/// again for what is on its way between connections and queues. Less than what is offered meanwhile.
const GROWTH_BYTES_MAX: u64 = 96 << 20;

/// Clients that put values of their own under keys of their own, again and again, whatever they are told.
struct Flood {
    ending: Arc<AtomicBool>,
    counts: Arc<Counts>,
    tasks: Vec<JoinHandle<Seen>>,
}

#[derive(Default)]
struct Counts {
    asked: AtomicU64,
    timed_out: AtomicU64,
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<String>,
    /// By etcd's words.
    refused: BTreeMap<String, u64>,
    /// What etcd would not have said.
    strange: BTreeMap<String, u64>,
    slowest: Duration,
}

impl Flood {
    fn start(field: &Field, name: &str) -> Flood {
        let (ending, counts) = (Arc::<AtomicBool>::default(), Arc::<Counts>::default());
        let mut tasks = Vec::new();
        for number in 1..=3 {
            let client = field.cluster.client(number);
            for place in 0..CLIENT_COUNT {
                let (client, prefix) = (client.clone(), format!("{name}/{number}/{place}"));
                tasks.push(tokio::spawn(put_on(client, prefix, Arc::clone(&ending), Arc::clone(&counts))));
            }
        }
        Flood { ending, counts, tasks }
    }

    fn timed_out(&self) -> u64 {
        self.counts.timed_out.load(Ordering::Relaxed)
    }

    fn asked(&self) -> u64 {
        self.counts.asked.load(Ordering::Relaxed)
    }

    fn offered_bytes(&self) -> u64 {
        self.asked() * u64::try_from(VALUE_BYTES).unwrap()
    }

    /// Ends it; what was acknowledged, and how often.
    async fn end(self) -> Vec<String> {
        self.ending.store(true, Ordering::Relaxed);
        let (asked, mut all) = (self.asked(), Seen::default());
        for task in self.tasks {
            let seen = task.await.unwrap();
            all.acknowledged.extend(seen.acknowledged);
            all.slowest = all.slowest.max(seen.slowest);
            for (what, count) in seen.refused {
                *all.refused.entry(what).or_default() += count;
            }
            for (what, count) in seen.strange {
                *all.strange.entry(what).or_default() += count;
            }
        }
        let acknowledged = all.acknowledged.len();
        println!("  {asked} puts, {acknowledged} done, slowest answer {:?}, {:?}", all.slowest, all.refused);
        assert!(all.strange.is_empty(), "{:?}", all.strange);
        assert!(all.slowest < REFUSED_WITHIN, "an answer took {:?}", all.slowest);
        all.acknowledged
    }
}

async fn put_on(mut client: Client, prefix: String, ending: Arc<AtomicBool>, counts: Arc<Counts>) -> Seen {
    let (value, mut seen, mut number) = (vec![b'v'; VALUE_BYTES], Seen::default(), 0);
    while !ending.load(Ordering::Relaxed) {
        let (key, began) = (format!("{prefix}/{number}"), Instant::now());
        number += 1;
        counts.asked.fetch_add(1, Ordering::Relaxed);
        let put = tokio::time::timeout(REFUSED_WITHIN, client.put(key.clone(), value.clone())).await;
        let late = || Status::deadline_exceeded("the client's own patience");
        let answer = put.unwrap_or_else(|_| Err(late()));
        seen.slowest = seen.slowest.max(began.elapsed());
        match answer {
            Ok(_) => seen.acknowledged.push(key),
            Err(status) => {
                let said = (status.code(), status.message());
                let timed_out = said == (Code::Unavailable, "etcdserver: request timed out");
                let overloaded = said == (Code::ResourceExhausted, "etcdserver: too many requests");
                counts.timed_out.fetch_add(u64::from(timed_out), Ordering::Relaxed);
                let refused = if timed_out || overloaded { &mut seen.refused } else { &mut seen.strange };
                *refused.entry(print_status(&status)).or_default() += 1;
            }
        }
        tokio::time::sleep(REST).await;
    }
    seen
}

/// Linearizable, at a node that can prove its place without a card.
async fn reads(client: &mut Client, expected: &[u8]) {
    for read in 0..READ_COUNT {
        let value = tokio::time::timeout(READ_WITHIN, client.get("mark")).await;
        let value = value.unwrap_or_else(|_| panic!("read {read} was not answered"));
        assert_eq!(value.unwrap().as_deref(), Some(expected));
    }
}

async fn takes_puts(field: &Field, number: usize, name: &str) {
    let mut client = field.cluster.client(number);
    let key = format!("{name}/again/{number}");
    field
        .cluster
        .wait(&format!("node {number} takes puts again"), async || {
            let put = client.put(key.clone(), "");
            matches!(tokio::time::timeout(REFUSED_WITHIN, put).await, Ok(Ok(_)))
        })
        .await;
}

/// Until one of `stalled` moves again, the other staying as it is; `stalled[0]` moves first.
async fn two_stand_still(field: &Field, leader: usize, stalled: [usize; 2], name: &str) {
    println!("cards {stalled:?} stand still, node {leader} leads");
    let cluster = &field.cluster;
    let (term, hand_overs) = (field.term().await, field.hand_overs());
    let mut client = cluster.client(leader);
    client.put("mark", name).await.unwrap();
    let pids: Vec<_> = (1..=3).map(|number| cluster.pid(number)).collect();
    let before: Vec<u64> = pids.iter().map(|pid| resident(*pid)).collect();
    pids.iter().for_each(|pid| reset_peak(*pid).unwrap());

    let first = field.stall(stalled[0]);
    let second = field.stall(stalled[1]);
    let at_first = stalled.map(|number| field.stats(number).flushes);
    let (began, flood) = (Instant::now(), Flood::start(field, name));
    cluster
        .wait("puts are refused for their time", async || {
            reads(&mut client, name.as_bytes()).await;
            // Less than the bound offered would prove no bound.
            began.elapsed() > STALL && flood.timed_out() > 0 && flood.offered_bytes() > GROWTH_BYTES_MAX
        })
        .await;
    assert_eq!(stalled.map(|number| field.stats(number).flushes), at_first, "the cards did not stand still");
    let offered = flood.offered_bytes();
    for (pid, before) in pids.iter().zip(before) {
        let growth = peak(*pid).saturating_sub(before);
        println!("  {} MiB more at most, of {} MiB offered to all", growth >> 20, offered >> 20);
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more in memory");
    }
    assert_eq!(field.term().await, term, "nobody can be elected, so nobody is");
    assert_eq!(field.hand_overs(), hand_overs, "nobody is left to hand over to");

    drop(first);
    // The node whose card still stands still may have reached the end of what it may hold in memory.
    for number in (1..=3).filter(|number| *number != stalled[1]) {
        takes_puts(field, number, name).await;
    }
    let flushes = field.stats(stalled[1]).flushes;
    assert_eq!(flushes, at_first[1], "it went on with the other card only");
    let acknowledged = flood.end().await;
    drop(second);
    for number in 1..=3 {
        takes_puts(field, number, name).await;
    }
    for key in &acknowledged {
        let value = client.get(key.clone()).await.unwrap();
        assert!(value.is_some_and(|value| value.len() == VALUE_BYTES), "{key} was acknowledged and is gone");
    }
    cluster.wait("the card moves", async || field.stats(stalled[1]).flushes > flushes).await;
    cluster.wait_converged().await;
    let (moves, begun) = (field.term().await - term, field.hand_overs() - hand_overs);
    println!("  {} acknowledged are there; {moves} terms began, {begun} hand-overs", acknowledged.len());
    assert!(moves <= begun && begun <= 1, "{moves} terms began, {begun} hand-overs for a card");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cards_stand_still_and_all_goes_on_when_one_moves() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field =
        Field::open(Figures { flush_median: Duration::from_millis(5), ..Model::Free.figures() }).await;
    let leader = field.cluster.leader().await;
    let followers: Vec<usize> = (1..=3).filter(|number| *number != leader).collect();
    two_stand_still(&field, leader, [followers[0], followers[1]], "followers").await;
    let leader = field.cluster.leader().await;
    let follower = field.follower().await;
    two_stand_still(&field, leader, [follower, leader], "leader").await;
}
