//! Rows in which a member needs much at once: it comes back, or it is new.

use super::aim::Aims;
use super::field::{Field, Load, PUT, elections, finish, stop};
use super::row::Outcome;
use crate::stage::figure::Unit;
use crate::stage::process::PeakMemory;
use crate::stage::sides::{LOAD_LIMIT, Seen, seen, side_by_side};
use crate::stage::{Kind, Stage};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// What an ordinary card can take, pauses included: 8 MiB in 0.84 s, then half a second of rest.
const MEBIBYTES_A_SECOND: f64 = 8.0 / (0.839 + 0.5);
/// So few entries behind the leader is caught up: a fraction of a second at these rates.
const CLOSE: f64 = 10.0;
const TWENTY: [&str; 2] = ["--rate", "20"];

pub(super) fn back(stage: &Stage) -> Result<Outcome> {
    // Away while everything is written: nothing of it is there when it comes back.
    come_back(stage, false, Duration::ZERO)
}

pub(super) fn back_from_away(stage: &Stage) -> Result<Outcome> {
    come_back(stage, true, Duration::from_secs(stage.pick(600, 10)))
}

fn come_back(stage: &Stage, has_state: bool, away: Duration) -> Result<Outcome> {
    let mebibytes = stage.pick(96, 16);
    let figures = side_by_side(stage, |kind| {
        let mut field = Field::open(stage, kind, &["model=free"])?;
        let follower = field.follower()?;
        if has_state {
            field.fill(mebibytes, None)?;
            field.cluster.kill(follower)?;
        } else {
            field.cluster.kill(follower)?;
            field.fill(mebibytes, Some(follower))?;
        }
        field.change(&["model=ordinary"])?;
        field.mark_term()?;
        let calm = calm_load(stage, &field, Some(follower))?;
        // The state is overwritten meanwhile, as it is in a cluster that works.
        if !away.is_zero() {
            let seconds = format!("{}s", away.as_secs());
            let words = [&PUT[..], &TWENTY, &["--duration", &seconds]].concat();
            finish(field.start_without("load", &words, Some(follower))?)?;
        }
        let leader = field.cluster.leader()?;
        let memory = PeakMemory::watch(field.cluster.pid(leader))?;
        let puts = field.start_without("load", &endless(), Some(follower))?;
        field.cluster.start(follower)?;
        let caught_up = wait_caught_up(&mut field, follower)?;
        let load = stop(puts)?;
        let mut figures = vec![seen("caught up after", Unit::Seconds, caught_up)];
        figures.extend(beside(&calm, &load));
        figures.push(seen("the leader's memory grew by", Unit::Mebibytes, memory.grown_mebibytes()));
        figures.push(elections(&field)?);
        Ok(figures)
    })?;
    let limit = mebibytes as f64 / MEBIBYTES_A_SECOND;
    let mut aims = beside_aims().most("the leader's memory grew by", 8.0);
    if !has_state {
        aims = aims.limit("caught up after", limit).most("caught up after", limit * 25.0 / 16.0);
    }
    let story = if has_state {
        format!(
            "{mebibytes} MiB of state; a follower is away for {} s of 20 puts/s and comes back",
            away.as_secs()
        )
    } else {
        format!("a follower comes back to {mebibytes} MiB of state written while it was away")
    };
    let did = format!(
        "ordinary cards, 20 puts/s of 256 bytes at the other two members: {story}; compared with the same load before; \
         its limit is the card's own bandwidth and pauses"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

pub(super) fn join_fourth(stage: &Stage) -> Result<Outcome> {
    let mebibytes = stage.pick(96, 8);
    let figures = side_by_side(stage, |kind| {
        let mut field = Field::open(stage, kind, &["model=free"])?;
        field.fill(mebibytes, None)?;
        field.change(&["model=ordinary"])?;
        field.mark_term()?;
        let (figures, _) = join_one(stage, &mut field)?;
        Ok(figures)
    })?;
    let aims = beside_aims()
        .limit("caught up after", mebibytes as f64 / MEBIBYTES_A_SECOND)
        .most("the leader's memory grew by", 8.0);
    let did = format!(
        "ordinary cards, {mebibytes} MiB of state, 20 puts/s of 256 bytes at the first three members while a fourth joins; \
         compared with the same load before"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

pub(super) fn image_puts(stage: &Stage) -> Result<Outcome> {
    let mebibytes = stage.pick(256, 64);
    let figures = side_by_side(stage, |kind| {
        let mut field = Field::open(stage, kind, &["model=free"])?;
        field.fill(mebibytes, None)?;
        let (mut figures, calm) = match kind {
            Kind::Quorate => image_written(stage, &field).map(|(figures, calm)| (figures, Some(calm)))?,
            // It keeps its state in a file that it overwrites in place: there is no image to write.
            Kind::Etcd => (Vec::new(), None),
        };
        field.change(&["model=ordinary"])?;
        let (joined, before) = join_one(stage, &mut field)?;
        let calm = calm.unwrap_or(before);
        figures.push(seen("p99 without", Unit::Milliseconds, calm.p99));
        let of = |name: &str| joined.iter().find(|(what, ..)| what == name).cloned();
        figures
            .extend(["p99 ÷ without", "failed puts", "elections and hand-overs"].into_iter().filter_map(of));
        Ok(figures)
    })?;
    let aims = Aims::new()
        .most("p99 while written ÷ without", 1.5)
        .most("p99 ÷ without", 1.5)
        .most("failed puts", 0.0)
        .most("elections and hand-overs", 0.0);
    let did = format!(
        "ordinary cards, {mebibytes} MiB of state, 20 puts/s of 256 bytes: while each member writes an image (etcd writes \
         none), and while the state is sent to a new member (`p99 ÷ without`), each beside the same load without"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

/// Measures puts while each member writes an image, which is as long as all of its state.
fn image_written(stage: &Stage, field: &Field<'_>) -> Result<(Vec<Seen>, Load)> {
    // More than one of the loads that bring it there writes.
    const NEAR_BYTES: f64 = 12.0 * 1_048_576.0;
    bring_near_an_image(field, NEAR_BYTES)?;
    field.change(&["model=ordinary"])?;
    let calm = calm_load(stage, field, None)?;
    let images = || (0..3).map(|member| field.cluster.metric(member, IMAGES)).sum::<Result<f64>>();
    let (count, bytes) = (images()?, field.cluster.metric(0, IMAGE_BYTES)?);
    let begun = Instant::now();
    while field.cluster.metric(0, IMAGE_BYTES)? == bytes {
        ensure!(begun.elapsed() < LOAD_LIMIT, "no image is begun");
        rewrite(field, "256")?;
    }
    let puts = field.start("load", &endless())?;
    while images()? < count + 3.0 && begun.elapsed() < LOAD_LIMIT {
        std::thread::sleep(Duration::from_millis(200));
    }
    let load = stop(puts)?;
    let figures = vec![
        seen("images written", Unit::Count, images()? - count),
        seen("p99 while written", Unit::Milliseconds, load.p99),
        seen("p99 while written ÷ without", Unit::Times, load.p99 / calm.p99),
    ];
    Ok((figures, calm))
}

const IMAGES: &str = "quorate_images_total";
const IMAGE_BYTES: &str = "quorate_image_written_bytes_total";

/// Overwrites the same keys until so many bytes of log are left before the next image.
fn bring_near_an_image(field: &Field<'_>, near: f64) -> Result<()> {
    const SHORTEST_BYTES: f64 = 64.0 * 1_048_576.0;
    let metric = |name: &str| field.cluster.metric(0, name);
    let log = || metric("quorate_wal_written_bytes_total");
    let (begun, bytes, count) = (Instant::now(), metric(IMAGE_BYTES)?, metric(IMAGES)?);
    while metric(IMAGE_BYTES)? == bytes {
        ensure!(begun.elapsed() < LOAD_LIMIT, "no image is begun");
        rewrite(field, "2048")?;
    }
    let log_at_image = log()?;
    while metric(IMAGES)? == count {
        ensure!(begun.elapsed() < LOAD_LIMIT, "no image is finished");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The next is due when as much log is written as this one was long.
    let period = (metric(IMAGE_BYTES)? - bytes).max(SHORTEST_BYTES);
    while log()? - log_at_image < period - near {
        ensure!(begun.elapsed() < LOAD_LIMIT, "the log does not grow");
        rewrite(field, "2048")?;
    }
    field.cluster.settle()
}

/// Overwrites some keys of a thousand, and compacts, so that the state stays as large as it is.
fn rewrite(field: &Field<'_>, total: &str) -> Result<()> {
    let words = ["put", "--clients", "64", "--connections", "6", "--keys", "1000", "--prefix", "again/"];
    let rest = ["--value-size", "4096", "--total", total, "--compact-every", "1h"];
    field.load(&[&words[..], &rest].concat()).map(drop)
}

/// Lets a fourth member join under load; the figures, and the load before.
fn join_one(stage: &Stage, field: &mut Field<'_>) -> Result<(Vec<Seen>, Load)> {
    let folder = field.add_card("ordinary")?;
    let calm = calm_load(stage, field, None)?;
    let leader = field.cluster.leader()?;
    let memory = PeakMemory::watch(field.cluster.pid(leader))?;
    let puts = field.start("load", &endless())?;
    let fourth = field.cluster.join(&folder)?;
    let caught_up = wait_caught_up(field, fourth)?;
    let load = stop(puts)?;
    let mut figures = vec![seen("caught up after", Unit::Seconds, caught_up)];
    figures.extend(beside(&calm, &load));
    figures.push(seen("the leader's memory grew by", Unit::Mebibytes, memory.grown_mebibytes()));
    figures.push(elections(field)?);
    Ok((figures, calm))
}

/// Seconds from now until a member has applied what the leader has.
fn wait_caught_up(field: &mut Field<'_>, member: usize) -> Result<f64> {
    const LIMIT: Duration = Duration::from_secs(400);
    let begun = Instant::now();
    loop {
        let leaders = field.cluster.leader().and_then(|leader| field.cluster.applied(leader));
        if let (Ok(leaders), Ok(own)) = (leaders, field.cluster.applied(member))
            && own + CLOSE >= leaders
        {
            return Ok(begun.elapsed().as_secs_f64());
        }
        ensure!(begun.elapsed() < LIMIT, "member {member} is not caught up after {LIMIT:?}");
        field.cluster.keep_running(member)?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The load beside which all is measured, until it is stopped.
fn endless() -> Vec<&'static str> {
    [&PUT[..], &TWENTY, &["--duration", "1h"]].concat()
}

/// The same for a while with nothing beside it.
fn calm_load(stage: &Stage, field: &Field<'_>, without: Option<usize>) -> Result<Load> {
    let words = [&PUT[..], &TWENTY, &["--duration", stage.pick("30s", "4s")]].concat();
    finish(field.start_without("load", &words, without)?)
}

fn beside(calm: &Load, load: &Load) -> Vec<Seen> {
    vec![
        seen("p50", Unit::Milliseconds, load.p50),
        seen("p99", Unit::Milliseconds, load.p99),
        seen("p99 without", Unit::Milliseconds, calm.p99),
        seen("p99 ÷ without", Unit::Times, load.p99 / calm.p99),
        seen("longest gap", Unit::Seconds, load.worst_gap()),
        load.failures(),
    ]
}

fn beside_aims() -> Aims {
    let aims = Aims::new().most("p99 ÷ without", 1.5).most("longest gap", 0.8);
    aims.most("failed puts", 0.0).most("elections and hand-overs", 0.0)
}
