//! Rows in which nothing goes wrong: cards are merely slow.

use super::aim::{Aim, Aims};
use super::field::{Cost, Field, Load, PUT, elections, per_put};
use super::row::Outcome;
use crate::stage::card::bare_sync;
use crate::stage::figure::Unit;
use crate::stage::sides::{Seen, median, seen, side_by_side};
use crate::stage::{Kind, Stage};
use anyhow::Result;

/// The card that died, and what it had been written by then.
const CARD_LIFE_GIGABYTES: f64 = 823.0;
/// One flush of the middle card, 4 KiB of log.
const FLUSH_MS: f64 = 42.0;
const BLOCK_BYTES: f64 = 4_100.0;

/// A load on cards of that model after a warm-up by the same load: the load, its cost, the elections meanwhile.
fn steady(
    stage: &Stage,
    kind: Kind,
    model: &str,
    words: &[&str],
    seconds: &str,
) -> Result<(Load, Cost, Seen)> {
    let field = Field::open(stage, kind, &[&format!("model={model}")])?;
    let load = [&PUT[..], words].concat();
    field.load(&[&load[..], &["--duration", stage.pick("5s", "2s")]].concat())?;
    let (load, cost) = field.load_with_costs(&[&load[..], &["--duration", seconds]].concat())?;
    Ok((load, cost, elections(&field)?))
}

pub(super) fn one_client(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("60s", "8s");
    let bare = median(bare_sync(&stage.card("free")?, "ordinary", stage.pick(400, 60))?);
    let figures = side_by_side(stage, |kind| {
        let (load, cost, elections) = steady(stage, kind, "ordinary", &["--clients", "1"], seconds)?;
        let ratio = seen("p50 ÷ the bare card's", Unit::Times, load.p50 / bare);
        Ok([load.latencies(), vec![ratio], per_put(&load, cost), vec![load.failures(), elections]].concat())
    })?;
    let aims = Aims::new()
        .limit("p50", bare)
        .most("p50 ÷ the bare card's", 1.3)
        .limit("flushes per put and card", 1.0)
        .most("flushes per put and card", 1.05)
        .limit("bytes per put and card", BLOCK_BYTES)
        .most("bytes per put and card", 4_600.0);
    let did = format!(
        "ordinary cards, 1 client in a closed loop, 256-byte values, {seconds} after a warm-up; the limit of p50 is a bare \
         fdatasync of 4 KiB on a zero-filled file on such a card"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

/// One put every seventh of a second: seven clients out of phase.
const SEVEN: [&str; 2] = ["--rate", "7"];

pub(super) fn seven(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("60s", "8s");
    let figures = side_by_side(stage, |kind| {
        let (load, cost, elections) = steady(stage, kind, "ordinary", &SEVEN, seconds)?;
        Ok([load.latencies(), per_put(&load, cost), vec![load.failures(), elections]].concat())
    })?;
    let aims = Aims::new()
        .limit("p50", FLUSH_MS)
        .most("p50", 55.0)
        .most("p99", 160.0)
        .limit("flushes per put and card", 1.0)
        .most("flushes per put and card", 1.05)
        .limit("bytes per put and card", BLOCK_BYTES)
        .most("bytes per put and card", 4_700.0)
        .most("failed puts", 0.0)
        .most("elections and hand-overs", 0.0);
    let did = format!("ordinary cards, 7 puts/s of 256 bytes, evenly spaced, {seconds} after a warm-up");
    Ok(Outcome::of(did, aims.judge(figures)?))
}

pub(super) fn bad_seven(stage: &Stage) -> Result<Outcome> {
    let (seconds, length) = stage.pick(("120s", 120.0), ("10s", 10.0));
    let figures = side_by_side(stage, |kind| {
        let (load, _, elections) = steady(stage, kind, "bad", &SEVEN, seconds)?;
        // By the time in which they were sent: the last ones are waited for.
        let puts = seen("puts", Unit::PerSecond, load.done / length);
        Ok([vec![puts], load.latencies(), vec![load.failures(), elections]].concat())
    })?;
    let aims = Aims::new()
        .limit("puts", 7.0)
        .least("puts", 7.0)
        .limit("p50", 170.0)
        .most("p50", 210.0)
        .most("failed puts", 0.0)
        .most("elections and hand-overs", 0.0);
    let did = format!("bad cards, 7 puts/s of 256 bytes, evenly spaced, {seconds} after a warm-up");
    Ok(Outcome::of(did, aims.judge(figures)?))
}

pub(super) fn rest(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("180s", "10s");
    let words = ["--rate", "10", "--arrival", "poisson", "--value-size", "1024", "--keys", "1000"];
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=ordinary"])?;
        let load =
            [&["put", "--timeout", "10s", "--compact-every", "300s", "--connections", "6"], &words[..]];
        let (load, cost) = field.load_with_costs(&[&load.concat()[..], &["--duration", seconds]].concat())?;
        let days = load.seconds / 86_400.0;
        let gigabytes = (cost.bytes - cost.zeroed) / 1e9 / days;
        let mut figures = vec![
            seen("written to each card", Unit::GigabytesADay, gigabytes),
            seen("flushes of each card", Unit::MillionsADay, cost.flushes / 1e6 / days),
            seen("an 8 GB card lives", Unit::Years, CARD_LIFE_GIGABYTES / gigabytes / 365.0),
        ];
        figures.extend(load.latencies());
        figures.extend([load.failures(), elections(&field)?]);
        Ok(figures)
    })?;
    let aims = Aims::new()
        .limit("written to each card", 3.5)
        .most("written to each card", 5.0)
        .most("flushes of each card", 0.9)
        .most("failed puts", 0.0)
        .most("elections and hand-overs", 0.0);
    let did = format!(
        "ordinary cards, 10 puts/s of 1 KiB at random moments (poisson) to 1,000 keys, {seconds}, counted on the cards and \
         taken for a day; the card lives {CARD_LIFE_GIGABYTES} GB, as one did; the log's first zeroing left out"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

const SIXTY_FOUR: [&str; 2] = ["--clients", "64"];

pub(super) fn sixty_four(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("40s", "6s");
    let figures = side_by_side(stage, |kind| {
        let (load, cost, elections) = steady(stage, kind, "ordinary", &SIXTY_FOUR, seconds)?;
        let puts = seen("puts", Unit::PerSecond, load.per_second);
        let rest = [per_put(&load, cost), vec![load.failures(), elections]].concat();
        Ok([vec![puts], load.latencies(), rest].concat())
    })?;
    let aims = Aims::new()
        .limit("puts", 1_200.0)
        .least("puts", 1_000.0)
        .aim("puts", Aim::TimesEtcd(8.0))
        .limit("bytes per put and card", 300.0)
        .most("bytes per put and card", 400.0)
        .most("failed puts", 0.0)
        .most("elections and hand-overs", 0.0);
    let did =
        format!("ordinary cards, 64 clients in closed loops, 256-byte values, {seconds} after a warm-up");
    Ok(Outcome::of(did, aims.judge(figures)?))
}

pub(super) fn free(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("20s", "4s");
    let figures = side_by_side(stage, |kind| {
        let (load, _, elections) = steady(stage, kind, "free", &SIXTY_FOUR, seconds)?;
        let puts = seen("puts", Unit::PerSecond, load.per_second);
        Ok([vec![puts], load.latencies(), vec![load.failures(), elections]].concat())
    })?;
    let aims = Aims::new().aim("puts", Aim::TimesEtcd(3.0)).most("failed puts", 0.0);
    let did = format!(
        "cards that cost nothing, 64 clients in closed loops, 256-byte values, {seconds} after a warm-up; clients, \
         members and cards share the machine"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}
