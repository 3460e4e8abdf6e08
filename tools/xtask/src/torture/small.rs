//! Rows about the machine's own means: memory and processor.

use super::aim::Aims;
use super::field::{Field, PUT};
use super::row::Outcome;
use crate::stage::figure::Unit;
use crate::stage::process::{cpu_seconds, resident_bytes};
use crate::stage::sides::{Seen, seen, side_by_side};
use crate::stage::{Kind, Stage};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Time for members to give memory back after a compaction.
const CALM: Duration = Duration::from_secs(6);

/// The largest member's, in MiB.
fn resident(field: &Field<'_>) -> Result<f64> {
    let each = (0..3).map(|member| resident_bytes(field.cluster.pid(member)));
    Ok(each.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max) / 1_048_576.0)
}

pub(super) fn memory(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("20s", "4s");
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=free"])?;
        let empty = resident(&field)?;
        let load = field.load(&[&PUT[..], &["--clients", "64", "--duration", seconds]].concat())?;
        let loaded = resident(&field)?;
        let mut figures = vec![
            seen("puts made", Unit::Count, load.done),
            seen("resident with all history", Unit::Mebibytes, loaded),
        ];
        if kind == Kind::Quorate {
            figures.push(history(&field, empty, loaded)?);
        }
        // One put more, and the compaction that follows it.
        field.load(&["put", "--total", "1", "--compact-every", "1h"])?;
        std::thread::sleep(CALM);
        figures.push(seen("resident once compacted", Unit::Mebibytes, resident(&field)?));
        Ok(figures)
    })?;
    let aims =
        Aims::new().most("resident once compacted", 32.0).most("history's bytes beyond its own, each", 100.0);
    let did = format!(
        "cards that cost nothing, 64 clients put 256 bytes to 10,000 keys for {seconds}; VmRSS of the largest member then, \
         and {} s after a compaction at the newest revision",
        CALM.as_secs()
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

/// What a revision costs beyond its bytes.
fn history(field: &Field<'_>, empty: f64, loaded: f64) -> Result<Seen> {
    let leader = field.cluster.leader()?;
    let bytes = field.cluster.metric(leader, "etcd_mvcc_db_total_size_in_bytes")?;
    let revisions = field.cluster.metric(leader, "etcd_debugging_mvcc_current_revision")?;
    let beyond = (loaded - empty) * 1_048_576.0 - bytes;
    Ok(seen("history's bytes beyond its own, each", Unit::Bytes, beyond / revisions.max(1.0)))
}

pub(super) fn idle(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick(60, 5);
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=ordinary"])?;
        let cpu =
            || (0..3).map(|member| cpu_seconds(field.cluster.pid(member))).collect::<Result<Vec<f64>>>();
        let (before, begun) = (cpu()?, Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        let (after, elapsed) = (cpu()?, begun.elapsed().as_secs_f64());
        let busiest = after.iter().zip(&before).map(|(after, before)| after - before).fold(0.0, f64::max);
        Ok(vec![
            seen("one core, busiest member", Unit::Percent, busiest / elapsed * 100.0),
            seen("resident, largest member", Unit::Mebibytes, resident(&field)?),
        ])
    })?;
    let aims = Aims::new().most("one core, busiest member", 0.5).most("resident, largest member", 16.0);
    let did = format!(
        "ordinary cards, three new members that nobody asks, logs prepared; processor time of {seconds} s \
         (/proc/PID/stat), VmRSS after it"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}
