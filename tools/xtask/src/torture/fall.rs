//! Rows in which a node falls: killed, or its power cut.

use super::aim::Aims;
use super::field::{Field, PUT, elections, stop};
use super::row::Outcome;
use crate::stage::figure::Unit;
use crate::stage::kill::leader_gaps;
use crate::stage::sides::{Seen, median, seen, side_by_side};
use crate::stage::{Kind, Stage};
use anyhow::Result;
use std::time::{Duration, Instant};

pub(super) fn kill_leader(stage: &Stage) -> Result<Outcome> {
    let rounds = stage.pick(7, 1);
    let figures = side_by_side(stage, |kind| {
        let mut field = Field::open(stage, kind, &["model=ordinary"])?;
        let gaps = leader_gaps(&mut field.cluster, rounds)?;
        let worst = gaps.iter().copied().fold(f64::NAN, f64::max);
        Ok(vec![seen("median gap", Unit::Seconds, median(gaps)), seen("worst gap", Unit::Seconds, worst)])
    })?;
    let aims = Aims::new().most("median gap", 1.0).most("worst gap", 1.0);
    let did = format!(
        "ordinary cards, 100 puts/s of 256 bytes, sent in turn to all members whether or not the last are answered; \
         kill -9 of the leader; the longest time in which no put succeeded, {rounds} rounds, default timers"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

pub(super) fn power_cut(stage: &Stage) -> Result<Outcome> {
    let figures = side_by_side(stage, |kind| cut_once(stage, kind))?;
    let aims = Aims::new()
        .most("longest gap at the others", 1.0)
        .least("came back", 1.0)
        .most("acknowledged puts lost", 0.0);
    let did = "ordinary cards, 50 puts/s of 256 bytes; the leader's power is cut in mid-write: its card keeps or loses each \
               unflushed sector at random; power comes back after 3 s; at the end every acknowledged put is looked for"
        .to_owned();
    Ok(Outcome::of(did, aims.judge(figures)?))
}

fn cut_once(stage: &Stage, kind: Kind) -> Result<Vec<Seen>> {
    let calm = Duration::from_secs(stage.pick(10, 3));
    let mut field = Field::open(stage, kind, &["model=ordinary"])?;
    let record = field.file("record");
    drop(std::fs::remove_file(&record));
    let words = ["--rate", "50", "--keys", "0", "--prefix", "cut/", "--duration", "1h", "--record", &record];
    let puts = field.start("load", &[&PUT[..], &words].concat())?;
    std::thread::sleep(calm);
    let victim = field.cluster.leader()?;
    let said = field.cards[victim].cut()?;
    eprintln!("  {said}");
    // A node whose storage fails may have ended by itself.
    field.cluster.kill(victim)?;
    std::thread::sleep(Duration::from_secs(3));
    field.cards[victim].revive()?;
    let began = Instant::now();
    field.cluster.start(victim)?;
    let back = field.cluster.wait_whole();
    let came_back = f64::from(u8::from(back.is_ok()));
    if let Err(error) = back {
        eprintln!("  {kind:?} does not come back: {error:#}");
    }
    let back_after = began.elapsed().as_secs_f64();
    std::thread::sleep(calm);
    let load = stop(puts)?;
    let lost = field.cluster.verify(&record)?;
    let others = load.gaps.iter().enumerate().filter(|(member, _)| *member != victim);
    let gap = others.map(|(_, gap)| *gap).fold(0.0, f64::max);
    Ok(vec![
        seen("longest gap at the others", Unit::Seconds, gap),
        seen("gap of all members at once", Unit::Seconds, load.gap),
        seen("came back", Unit::Count, came_back),
        seen("whole again after", Unit::Seconds, back_after),
        seen("acknowledged puts lost", Unit::Count, lost),
        seen("failed puts, the fallen member's too", Unit::Count, load.failed),
        elections(&field)?,
    ])
}
