//! The rows of a cluster of three members.

use crate::stage::card::Card;
use crate::stage::cluster::Cluster;
use crate::stage::figure::Unit;
use crate::stage::kill::leader_gaps;
use crate::stage::process;
use crate::stage::sides::{LOAD_LIMIT, Outcome, Seen, median, number, seen, side_by_side, speed};
use crate::stage::{Kind, Stage};
use anyhow::Result;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// 64 clients on two connections to each member.
const LOAD: [&str; 8] = ["put", "--clients", "64", "--connections", "6", "--value-size", "256", "--duration"];
/// Time for members to give memory back after a compaction.
const CALM: Duration = Duration::from_secs(5);

/// A folder for each member, in memory.
fn folders(stage: &Stage) -> Result<[PathBuf; 3]> {
    let folder = stage.memory_folder()?;
    Ok(["1", "2", "3"].map(|name| folder.join(name)))
}

/// A new cluster on free storage, its logs prepared.
fn free_cluster(stage: &Stage, kind: Kind) -> Result<Cluster<'_>> {
    let folders = folders(stage)?;
    for folder in &folders {
        std::fs::create_dir_all(folder)?;
    }
    let cluster = stage.cluster(kind, &folders)?;
    cluster.settle()?;
    Ok(cluster)
}

/// Likewise on cards that were free until then.
fn card_cluster<'a>(stage: &'a Stage, kind: Kind, cards: &[Card<'_>; 3], model: &str) -> Result<Cluster<'a>> {
    let cluster = stage.cluster(kind, &cards.each_ref().map(Card::mount))?;
    cluster.settle()?;
    cards.iter().try_for_each(|card| card.set_model(model))?;
    Ok(cluster)
}

pub(super) fn load(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("20s", "4s");
    let measure = |cluster: &Cluster<'_>, storage: &str| {
        cluster.bench(&[&LOAD[..], &[stage.pick("5s", "1s")]].concat(), LOAD_LIMIT)?;
        let figures = speed(&cluster.bench(&[&LOAD[..], &[seconds]].concat(), LOAD_LIMIT)?)?;
        let name = |(what, unit, value)| (format!("{storage}: {what}"), unit, value);
        anyhow::Ok(figures.into_iter().map(name).collect::<Vec<Seen>>())
    };
    let figures = side_by_side(stage, |kind| {
        let mut figures = measure(&free_cluster(stage, kind)?, "in memory")?;
        let cards = stage.three_cards("free")?;
        figures.extend(measure(&card_cluster(stage, kind, &cards, "free")?, "free cards")?);
        Ok(figures)
    })?;
    let did = format!(
        "three members, 64 clients in closed loops on 6 connections spread over the members, 256-byte values, 10,000 \
         keys, {seconds} after a warm-up; data in memory (/dev/shm), then on three simulated cards that cost nothing \
         but what simulating takes; clients and members share the machine"
    );
    Ok(Outcome { did, figures })
}

pub(super) fn memory(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("20s", "4s");
    let figures = side_by_side(stage, |kind| {
        let cluster = free_cluster(stage, kind)?;
        cluster.bench(&[&LOAD[..], &[seconds]].concat(), LOAD_LIMIT)?;
        let loaded = resident(&cluster)?;
        // One put more, and the compaction that follows it.
        cluster.bench(&["put", "--total", "1", "--compact-every", "1h"], LOAD_LIMIT)?;
        std::thread::sleep(CALM);
        Ok([residents(&loaded, "after the load"), residents(&resident(&cluster)?, "compacted")].concat())
    })?;
    let did = format!(
        "as `three`, {seconds} of load with no compaction; VmRSS then, and {} s after a compaction at the newest \
         revision; followers in no order",
        CALM.as_secs()
    );
    Ok(Outcome { did, figures })
}

/// Mebibytes of each member, the leader's first.
fn resident(cluster: &Cluster<'_>) -> Result<Vec<f64>> {
    let bytes = |pid: &u32| Ok(process::resident_bytes(*pid)? / 1_048_576.0);
    cluster.pids()?.iter().map(bytes).collect()
}

const ROLES: [&str; 3] = ["leader", "follower", "other follower"];

fn residents(mebibytes: &[f64], when: &str) -> Vec<Seen> {
    let of =
        |(role, value): (&&str, &f64)| seen(&format!("resident {when}, {role}"), Unit::Mebibytes, *value);
    ROLES.iter().zip(mebibytes).map(of).collect()
}

pub(super) fn idle(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick(30, 5);
    let figures = side_by_side(stage, |kind| {
        let cluster = free_cluster(stage, kind)?;
        let pids = cluster.pids()?;
        let cpu = || pids.iter().map(|pid| process::cpu_seconds(*pid)).collect::<Result<Vec<f64>>>();
        let (before, begun) = (cpu()?, Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        let (after, elapsed) = (cpu()?, begun.elapsed().as_secs_f64());
        let percent = |(after, before): (&f64, &f64)| (after - before) / elapsed * 100.0;
        let percents = after.iter().zip(&before).map(percent);
        let of = |(role, value): (&&str, f64)| seen(&format!("one core, {role}"), Unit::Percent, value);
        let mut figures: Vec<Seen> = ROLES.iter().zip(percents).map(of).collect();
        figures.extend(residents(&resident(&cluster)?, "idle"));
        Ok(figures)
    })?;
    let did = format!(
        "three new members that nobody asks, logs prepared, data in memory; processor time of {seconds} s \
         (/proc/PID/stat), VmRSS after it"
    );
    Ok(Outcome { did, figures })
}

pub(super) fn kill(stage: &Stage) -> Result<Outcome> {
    let rounds = stage.pick(5, 2);
    let figures = side_by_side(stage, |kind| {
        let free = leader_gaps(&mut free_cluster(stage, kind)?, rounds)?;
        let cards = stage.three_cards("free")?;
        let slow = leader_gaps(&mut card_cluster(stage, kind, &cards, "ordinary")?, rounds)?;
        let mut figures = Vec::new();
        for (storage, gaps) in [("free storage", free), ("ordinary cards", slow)] {
            let worst = gaps.iter().copied().fold(f64::NAN, f64::max);
            figures.push(seen(&format!("{storage}: median gap"), Unit::Seconds, median(gaps)));
            figures.push(seen(&format!("{storage}: worst gap"), Unit::Seconds, worst));
        }
        Ok(figures)
    })?;
    let did = format!(
        "100 puts/s of 256 bytes, sent in turn to all three members whether or not the last are answered; kill -9 of \
         the leader; the longest time in which no put succeeded, {rounds} rounds, default timers; in memory, then on \
         three ordinary simulated cards"
    );
    Ok(Outcome { did, figures })
}

pub(super) fn power(stage: &Stage) -> Result<Outcome> {
    let rounds = stage.pick(5, 2);
    let figures = side_by_side(stage, |kind| {
        let cards = stage.three_cards("free")?;
        let mut cluster = card_cluster(stage, kind, &cards, "ordinary")?;
        let (mut times, mut most, mut total, mut read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            cluster.bench(&["put", "--clients", "8", "--total", "200"], LOAD_LIMIT)?;
            std::thread::sleep(Duration::from_secs(2));
            cluster.kill_all()?;
            let before = counts(&cards)?;
            let (seconds, now) = cluster.start_all_to_first_write(|| counts(&cards))?;
            times.push(seconds);
            let each =
                |what: usize| now.iter().zip(&before).map(move |(now, before)| now[what] - before[what]);
            most.push(each(0).fold(0.0, f64::max));
            total.push(each(0).sum());
            read.push(each(1).fold(0.0, f64::max) / 1_048_576.0);
            cluster.wait_whole()?;
        }
        let worst = times.iter().copied().fold(f64::NAN, f64::max);
        Ok(vec![
            seen("first write, median", Unit::Seconds, median(times)),
            seen("first write, worst", Unit::Seconds, worst),
            seen("flushes until then, busiest card", Unit::Count, median(most)),
            seen("flushes until then, three cards", Unit::Count, median(total)),
            seen("read until then, busiest card", Unit::Mebibytes, median(read)),
        ])
    })?;
    let did = format!(
        "three ordinary simulated cards; all members killed (-9) at once and started again at once; from the start of \
         the processes to the first acknowledged put, asked at each member by new processes; the cards' own counters; \
         what the machine has cached is not read from the cards; median of {rounds}"
    );
    Ok(Outcome { did, figures })
}

/// Flushes and bytes read of each card so far.
fn counts(cards: &[Card<'_>; 3]) -> Result<Vec<[f64; 2]>> {
    let of = |card: &Card<'_>| {
        let stats = card.stats()?;
        Ok([number(&stats, "/flushes")?, number(&stats, "/bytes_read")?])
    };
    cards.iter().map(of).collect()
}
