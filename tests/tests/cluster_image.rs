//! An image to a follower that was away too long for the log: it costs the leader little memory and nobody else
//! anything, and goes on where it was cut.
//!
//! 128 MiB of state by default; `QUORATE_IMAGE_MIB=256` for the whole promise.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::cluster::{Cluster, LIMIT, Shape, missing};
use quorate_tests::gap::Writer;
use quorate_tests::program::Program;
use quorate_tests::resident::{peak, reset_peak, resident};
use quorate_tests::skip;
use quorate_tests::trial::turn;
use std::fs::DirEntry;
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;

/// What the leader may grow by while it sends, of which about 5 MiB are the link's window and the chunks under way.
const GROWTH_MAX: u64 = 8 * MIB;

/// What may stay of it: history of the writes meanwhile, the log's tail, and what the allocator keeps of it all. 3.5 MiB
/// was the most that was seen.
const KEPT_MAX: u64 = 6 * MIB;

const POLL: Duration = Duration::from_millis(5);

const VALUE_BYTES: usize = 64 * 1024;
const FILLERS: usize = 4;

/// Bytes of the largest of a node's images, of those that are whole or of those under way.
fn images(data_dir: &Path, are_whole: bool) -> u64 {
    let Ok(files) = std::fs::read_dir(data_dir.join("image")) else { return 0 };
    let is_meant = |file: &DirEntry| file.file_name().to_string_lossy().contains('.') != are_whole;
    let files = files.flatten().filter(is_meant).filter_map(|file| file.metadata().ok());
    files.map(|data| data.len()).max().unwrap_or(0)
}

/// Puts values under new keys until the leader has an image of that size; what was put, in bytes.
async fn fill(cluster: &Cluster, leader: usize, image_bytes: u64) -> u64 {
    let (mut filled, began) = (0_u64, Instant::now());
    while images(cluster.data_dir(leader), true) < image_bytes {
        assert!(filled < 2 * image_bytes && began.elapsed() < 3 * LIMIT, "no image after {filled} bytes");
        if filled > image_bytes && images(cluster.data_dir(leader), false) > 0 {
            // It is being written.
            tokio::time::sleep(POLL).await;
            continue;
        }
        let puts = (0..FILLERS).map(|_| {
            let number = filled / VALUE_BYTES as u64;
            filled += VALUE_BYTES as u64;
            let mut client = cluster.client(leader);
            tokio::spawn(async move { client.put(format!("fill/{number}"), vec![b'f'; VALUE_BYTES]).await })
        });
        for put in puts.collect::<Vec<_>>() {
            put.await.unwrap().unwrap();
        }
    }
    filled
}

/// The follower is killed in the middle of its image; returns what it had by then.
async fn cut_in_the_middle(cluster: &mut Cluster, away: usize, image_bytes: u64) -> u64 {
    let began = Instant::now();
    while images(cluster.data_dir(away), false) < image_bytes * 2 / 5 {
        assert!(began.elapsed() < LIMIT, "no image comes\n{}", cluster.log(away));
        tokio::time::sleep(POLL).await;
    }
    cluster.kill(away);
    images(cluster.data_dir(away), false)
}

/// Figures of that name in the lines that say so.
fn figures(said: &str, words: &str, name: &str) -> Vec<u64> {
    let figure = |line: &str| line.split(name).nth(1)?.split_whitespace().next()?.parse().ok();
    let lines = said.lines().filter(|line| line.contains(words));
    lines.map(|line| figure(line).unwrap_or_else(|| panic!("no {name} in {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_costs_the_leader_little_and_goes_on_where_it_was_cut() {
    let program = Program::quorated();
    if let Some(reason) = missing(&program) {
        skip!("{reason}");
    }
    if let Err(error) = reset_peak(rustix::process::getpid()) {
        skip!("peaks of memory cannot be counted anew: {error}");
    }
    let mib: u64 = std::env::var("QUORATE_IMAGE_MIB").map_or(128, |text| text.parse().unwrap());
    let _turn = turn();
    let mut cluster = Cluster::start(Shape::new(program, 3)).await;
    let leader = cluster.leader().await;
    let away = leader % 3 + 1;
    cluster.kill(away);
    // A sixteenth less: the log, by which images begin, holds a little more than they do.
    let filled = fill(&cluster, leader, mib * MIB * 15 / 16).await;
    assert_eq!(cluster.leader().await, leader, "it leads since the beginning");
    let image_bytes = images(cluster.data_dir(leader), true);
    let term = cluster.status(leader).await.unwrap().raft_term;

    let endpoints = cluster.members_running().map(|number| cluster.endpoint(number)).collect();
    let writer = Writer::start(endpoints, Duration::from_secs(5));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pid = cluster.pid(leader);
    let before = resident(pid);
    reset_peak(pid).unwrap();
    println!("{} MiB filled, an image of {}, {} resident", filled / MIB, image_bytes / MIB, before / MIB);
    // Growth must not hide in memory that was freed and not given back.
    assert!(before < filled + filled / 8 + 24 * MIB, "{before} resident for {filled} of state");

    cluster.spawn(away);
    let had = cut_in_the_middle(&mut cluster, away, image_bytes).await;
    cluster.spawn(away);
    cluster.wait_serves(away).await;
    let grown = peak(pid).saturating_sub(before);
    let gaps = writer.end().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = resident(pid).saturating_sub(before);
    println!(
        "cut at {} MiB; the leader grew by {} KiB, kept {} KiB; {gaps:?}",
        had / MIB,
        grown / 1024,
        after / 1024
    );

    // By their own words: where the receiver began each time, and how far the leader was when it was cut.
    let began = figures(&cluster.log(away), "image comes", "offset=");
    assert!(began.len() == 2 && began[0] == 0 && began[1] > 0, "it began at {began:?}");
    let said = cluster.log(leader);
    let reached = figures(&said, "an image was cut and goes on", "bytes=").into_iter().max().unwrap();
    let sent = reached + image_bytes - began[1];
    assert!(sent < image_bytes + image_bytes / 4, "{sent} bytes sent of {image_bytes}, from {began:?}");
    assert!(!said.contains("an image was not sent"), "one at a time, and it arrives:\n{said}");
    assert!(grown <= GROWTH_MAX, "the leader grew by {grown} bytes");
    assert!(after <= KEPT_MAX, "the leader kept {after} bytes");
    let status = cluster.status(leader).await.unwrap();
    assert_eq!((status.raft_term, cluster.leader().await), (term, leader), "there was an election");
    assert!(gaps.failed == 0 && gaps.writes > 100, "writes go on meanwhile: {gaps:?}");
    cluster.wait_converged().await;
}
