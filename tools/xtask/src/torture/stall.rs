//! Rows in which a card stops for a while.

use super::aim::Aims;
use super::field::{Field, PUT, elections, finish, report, timeline};
use super::row::{Outcome, Series};
use super::sweep::name_of;
use crate::stage::figure::Unit;
use crate::stage::sides::{Seen, number, seen, side_by_side};
use crate::stage::{Kind, Stage};
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

/// The cards of the rows with one stall: nothing but a flush's time.
const CALM_CARD: [&str; 2] = ["model=free", "flush-median=5ms"];

/// How long all is well before and after a stall, and the stall itself.
struct Times {
    before: Duration,
    stall: Duration,
    after: Duration,
}

impl Times {
    fn of(stage: &Stage) -> Times {
        let [before, stall, after] = stage.pick([10, 10, 20], [3, 6, 6]).map(Duration::from_secs);
        Times { before, stall, after }
    }

    fn total(&self) -> String {
        format!("{}s", (self.before + self.stall + self.after).as_secs())
    }
}

/// Whose card stops.
#[derive(Clone, Copy)]
enum Whose {
    Leaders,
    Followers,
}

pub(super) fn leader_stall(stage: &Stage) -> Result<Outcome> {
    let aims = Aims::new()
        .most("failed puts", 0.0)
        .most("longest gap", 0.3)
        .most("leases lost", 0.0)
        .most("elections and hand-overs", 1.0);
    one_stall(stage, Whose::Leaders, aims)
}

pub(super) fn follower_stall(stage: &Stage) -> Result<Outcome> {
    let aims = Aims::new()
        .most("failed puts", 0.0)
        .most("longest gap", 0.3)
        .most("leases lost", 0.0)
        .most("elections and hand-overs", 0.0);
    one_stall(stage, Whose::Followers, aims)
}

fn one_stall(stage: &Stage, whose: Whose, aims: Aims) -> Result<Outcome> {
    let times = Times::of(stage);
    let series = RefCell::new(Vec::new());
    let figures = side_by_side(stage, |kind| {
        let (figures, drawn) = stall_once(stage, kind, whose, &times)?;
        series.borrow_mut().push(drawn);
        Ok(figures)
    })?;
    let whom = match whose {
        Whose::Leaders => "the leader's",
        Whose::Followers => "a follower's",
    };
    let did = format!(
        "flushes of 5 ms, no pauses; 50 puts/s of 256 bytes spread over all members and 50 leases of 6 s kept alive; {whom} \
         card stops for {} s after {} s; the longest gap is that of the clients of any one member",
        times.stall.as_secs(),
        times.before.as_secs()
    );
    Ok(Outcome { did, figures: aims.judge(figures)?, series: series.into_inner() })
}

fn stall_once(stage: &Stage, kind: Kind, whose: Whose, times: &Times) -> Result<(Vec<Seen>, Series)> {
    let field = Field::open(stage, kind, &CALM_CARD)?;
    let total = times.total();
    let keep = field.start("keep", &["keep", "--leases", "50", "--ttl", "6", "--duration", &total])?;
    let lines = field.file("timeline");
    let words = [&PUT[..], &["--rate", "50", "--duration", &total, "--timeline", &lines]].concat();
    let begun = Instant::now();
    let puts = field.start("load", &words)?;
    std::thread::sleep(times.before);
    let victim = match whose {
        Whose::Leaders => field.cluster.leader()?,
        Whose::Followers => field.follower()?,
    };
    let from = begun.elapsed().as_secs_f64();
    field.cards[victim].stall(times.stall)?;
    let load = finish(puts)?;
    let kept = report(keep)?;
    let slowest = kept.pointer("/renewal/max_ms").and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
    let figures = vec![
        load.failures(),
        seen("longest gap", Unit::Seconds, load.worst_gap()),
        seen("gap of all members at once", Unit::Seconds, load.gap),
        seen("p50", Unit::Milliseconds, load.p50),
        seen("slowest put", Unit::Milliseconds, load.max),
        seen("leases lost", Unit::Count, number(&kept, "/lost")?),
        seen("slowest renewal", Unit::Milliseconds, slowest),
        elections(&field)?,
    ];
    let mut drawn = Series::line(name_of(kind), Vec::new());
    drawn.band = Some((from, from + times.stall.as_secs_f64()));
    for (at, milliseconds, is_good) in timeline(Path::new(&lines))? {
        let points = if is_good { &mut drawn.points } else { &mut drawn.failed };
        points.push((at, milliseconds));
    }
    Ok((figures, drawn))
}

pub(super) fn all_pause(stage: &Stage) -> Result<Outcome> {
    const PAUSE: Duration = Duration::from_secs(2);
    let rounds: u32 = stage.pick(5, 2);
    let every = Duration::from_secs(stage.pick(10, 6));
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=ordinary"])?;
        let total = format!("{}s", (every * (rounds + 1)).as_secs());
        let words = [&PUT[..], &["--rate", "20", "--duration", &total]].concat();
        let puts = field.start("load", &words)?;
        for _ in 0..rounds {
            std::thread::sleep(every);
            stall_all(&field, PAUSE)?;
        }
        let load = finish(puts)?;
        let gap = seen("longest gap", Unit::Seconds, load.worst_gap());
        Ok([load.latencies(), vec![gap, load.failures(), elections(&field)?]].concat())
    })?;
    let pause = PAUSE.as_secs_f64();
    let aims = Aims::new()
        .limit("longest gap", pause)
        .most("longest gap", pause + 0.5)
        .most("failed puts", 0.0)
        .most("elections and hand-overs", 0.0);
    let did = format!(
        "ordinary cards, 20 puts/s of 256 bytes; all three cards stop together for {pause} s, {rounds} times, beside their \
         own pauses"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

/// Stops all cards at the same moment, as near as three processes come to it.
fn stall_all(field: &Field<'_>, length: Duration) -> Result<()> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = field.cards.iter().map(|card| scope.spawn(move || card.stall(length))).collect();
        asked.into_iter().try_for_each(|one| one.join().ok().context("a card could not be asked")?)
    })
}
