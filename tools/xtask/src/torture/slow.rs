//! Rows in which one card is ten times slower than the others.

use super::aim::Aims;
use super::field::{Field, PUT, elections};
use super::row::Outcome;
use crate::stage::Stage;
use crate::stage::figure::Unit;
use crate::stage::sides::{seen, side_by_side};
use anyhow::Result;

/// An ordinary card in all respects ten times slower.
const TEN_TIMES: [&str; 5] =
    ["flush-median=400ms", "flush-sigma=0.4", "bandwidth=1MB/s", "seek=10ms", "pause=5s"];

pub(super) fn follower(stage: &Stage) -> Result<Outcome> {
    one_slow(stage, "one follower's", |field| field.follower(), 0.0)
}

pub(super) fn leader(stage: &Stage) -> Result<Outcome> {
    one_slow(stage, "the leader's", |field| field.cluster.leader(), 1.0)
}

fn one_slow(
    stage: &Stage,
    whose: &str,
    victim: impl Fn(&Field<'_>) -> Result<usize>,
    elections_most: f64,
) -> Result<Outcome> {
    let (warm, seconds) = (stage.pick("15s", "5s"), stage.pick("40s", "6s"));
    let figures = side_by_side(stage, |kind| {
        let mut field = Field::open(stage, kind, &["model=ordinary"])?;
        let load = |field: &Field<'_>, seconds| {
            field.load(&[&PUT[..], &["--clients", "64", "--duration", seconds]].concat())
        };
        load(&field, stage.pick("5s", "2s"))?;
        let equal = load(&field, seconds)?;
        field.mark_term()?;
        field.cards[victim(&field)?].change(&TEN_TIMES)?;
        // Time to see that the card is slow, and to hand over.
        let at_first = load(&field, warm)?;
        let slow = load(&field, seconds)?;
        let failed = seen("failed puts", Unit::Count, at_first.failed + slow.failed);
        let mut figures = vec![
            seen("puts, equal cards", Unit::PerSecond, equal.per_second),
            seen("puts", Unit::PerSecond, slow.per_second),
            seen("of those with equal cards", Unit::Times, slow.per_second / equal.per_second),
        ];
        figures.extend(slow.latencies());
        slow.failures();
        figures.extend([failed, elections(&field)?]);
        Ok(figures)
    })?;
    let aims = Aims::new()
        .limit("of those with equal cards", 0.9)
        .least("of those with equal cards", 0.8)
        .most("failed puts", 0.0)
        .most("elections and hand-overs", elections_most);
    let did = format!(
        "ordinary cards, 64 clients in closed loops, 256-byte values: first three equal cards, then {whose} is ten times \
         slower in all respects; {seconds} each, {warm} of load between; failures counted from the change on"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}
