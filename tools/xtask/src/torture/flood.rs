//! Rows with more than the cards bear, and with what an orchestrator does to them.

use super::aim::Aims;
use super::field::{Field, elections, report};
use super::row::Outcome;
use crate::stage::Stage;
use crate::stage::figure::Unit;
use crate::stage::process::PeakMemory;
use crate::stage::sides::{number, seen, side_by_side};
use anyhow::Result;

pub(super) fn overload(stage: &Stage) -> Result<Outcome> {
    let seconds = stage.pick("30s", "5s");
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=bad"])?;
        // Values so large that bandwidth binds: small ones share their flushes, and no client here could send ten
        // times of those.
        let put =
            ["put", "--value-size", "16384", "--keys", "1000", "--timeout", "10s", "--connections", "6"];
        let load = |words: &[&str]| field.load(&[&put[..], words].concat());
        load(&["--clients", "64", "--duration", stage.pick("5s", "2s")])?;
        let sustained = load(&["--clients", "64", "--duration", stage.pick("20s", "4s")])?;
        let rate = format!("{:.0}", 10.0 * sustained.per_second);
        let leader = field.cluster.leader()?;
        let memory = PeakMemory::watch(field.cluster.pid(leader))?;
        let flood = load(&["--rate", &rate, "--duration", seconds])?;
        let mut figures = vec![
            seen("sustained by 64 clients", Unit::PerSecond, sustained.per_second),
            seen("accepted", Unit::PerSecond, flood.per_second),
        ];
        figures.extend(flood.latencies());
        figures.push(flood.failures());
        figures.push(seen("refused within, p99", Unit::Milliseconds, flood.failed_p99.unwrap_or(0.0)));
        figures.push(seen("the leader's memory grew by", Unit::Mebibytes, memory.grown_mebibytes()));
        figures.push(elections(&field)?);
        Ok(figures)
    })?;
    let aims = Aims::new()
        .most("p99", 5_000.0)
        .most("refused within, p99", 500.0)
        .most("the leader's memory grew by", 64.0)
        .most("elections and hand-overs", 0.0);
    let did = format!(
        "bad cards, an open loop of 16 KiB puts at ten times what 64 clients in closed loops got through, {seconds}; \
         latencies of what was accepted, from the moment each put was meant to start; `refused within` is how long what \
         failed took to fail, 10 s being the client's own patience"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}

pub(super) fn orchestrator(stage: &Stage) -> Result<Outcome> {
    let length = stage.pick("30m", "2m");
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=bad"])?;
        let seen_by_it = report(field.start("orchestrate", &["orchestrate", "--duration", length])?)?;
        let errors = seen_by_it["errors"].as_object().map_or(0, serde_json::Map::len);
        if errors > 0 {
            eprintln!("  {kind:?}: {}", seen_by_it["errors"]);
        }
        let of =
            |what: &str, unit, pointer: &str| anyhow::Ok(seen(what, unit, number(&seen_by_it, pointer)?));
        let mut figures = vec![
            of("leaderships lost", Unit::Count, "/lost")?,
            of("slowest renewal", Unit::Milliseconds, "/renewal/max_ms")?,
            of("p99 of renewals", Unit::Milliseconds, "/renewal/p99_ms")?,
            of("slowest list", Unit::Milliseconds, "/lists/max_ms")?,
            of("slowest write", Unit::Milliseconds, "/writes/max_ms")?,
            of("watches broken", Unit::Count, "/watches_broken")?,
        ];
        // etcd answers it only since 3.4.
        figures.extend(of("slowest progress of a watch", Unit::Milliseconds, "/progress/max_ms").ok());
        figures.push(elections(&field)?);
        anyhow::Ok(figures)
    })?;
    let aims = Aims::new()
        .most("leaderships lost", 0.0)
        .most("slowest renewal", 5_000.0)
        .most("watches broken", 0.0)
        .most("elections and hand-overs", 0.0);
    let did = format!(
        "bad cards, {length} of an orchestrator's load: 12 leaderships renewed every 2 s with a deadline of 10 s (read, then \
         replace if unchanged), 10 nodes that write 2 KiB every 10 s, an event of 1 KiB a second, 12 informers that list \
         all and watch with progress, compaction every 5 minutes"
    );
    Ok(Outcome::of(did, aims.judge(figures)?))
}
