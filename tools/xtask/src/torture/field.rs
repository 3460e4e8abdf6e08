//! Three members on three cards, the loads on them, and what both tell.

use crate::stage::card::Card;
use crate::stage::cluster::Cluster;
use crate::stage::figure::Unit;
use crate::stage::process::Running;
use crate::stage::sides::{Seen, number, seen};
use crate::stage::{Kind, Stage};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No load here is longer: the longest lasts half an hour.
pub(super) const LIMIT: Duration = Duration::from_secs(45 * 60);

/// What every load of 256-byte puts says; spread over all three members.
pub(super) const PUT: [&str; 7] = ["put", "--value-size", "256", "--timeout", "10s", "--connections", "6"];

/// Three members on three cards; both end with this, the members first.
pub(super) struct Field<'a> {
    pub(super) cluster: Cluster<'a>,
    pub(super) cards: Vec<Card<'a>>,
    stage: &'a Stage,
    term: f64,
}

/// What a card had to do so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    pub(super) flushes: f64,
    pub(super) bytes: f64,
    /// Of these, bytes that prepare the log once.
    pub(super) zeroed: f64,
}

impl<'a> Field<'a> {
    /// New members on cards that become what `changes` say (`model=ordinary`, …) once the logs are prepared: that is
    /// waited for, not measured.
    pub(super) fn open(stage: &'a Stage, kind: Kind, changes: &[&str]) -> Result<Field<'a>> {
        let cards = stage.three_cards("free")?;
        let cluster = stage.cluster(kind, &cards.each_ref().map(Card::mount))?;
        cluster.settle()?;
        let mut field = Field { cluster, cards: cards.into(), stage, term: 0.0 };
        field.change(changes)?;
        field.mark_term()?;
        Ok(field)
    }

    /// Changes all cards.
    pub(super) fn change(&self, changes: &[&str]) -> Result<()> {
        self.cards.iter().try_for_each(|card| card.change(changes))
    }

    /// Elections count from here.
    pub(super) fn mark_term(&mut self) -> Result<()> {
        self.term = self.cluster.term()?;
        Ok(())
    }

    /// Terms begun since the last mark: elections and hand-overs.
    pub(super) fn elections(&self) -> Result<f64> {
        Ok(self.cluster.term()? - self.term)
    }

    /// Runs a load to its end; puts that fail are counted, not an error.
    pub(super) fn load(&self, words: &[&str]) -> Result<Load> {
        finish(self.start("load", words)?)
    }

    /// The same, left running.
    pub(super) fn start(&self, name: &str, words: &[&str]) -> Result<Running> {
        self.start_without(name, words, None)
    }

    /// The same, with nothing asked of one member.
    pub(super) fn start_without(
        &self,
        name: &str,
        words: &[&str],
        without: Option<usize>,
    ) -> Result<Running> {
        let members = (0..self.cluster.len()).filter(|member| Some(*member) != without);
        let endpoints: Vec<String> = members.map(|member| self.cluster.endpoint(member)).collect();
        self.stage.bench_in_background(name, words, &endpoints.join(","))
    }

    /// One more card; its folder.
    pub(super) fn add_card(&mut self, model: &str) -> Result<PathBuf> {
        let card = self.stage.card_number(u64::try_from(self.cards.len())? + 1, model)?;
        let folder = card.mount();
        self.cards.push(card);
        Ok(folder)
    }

    /// A file of this run, for records and timelines.
    pub(super) fn file(&self, name: &str) -> String {
        self.stage.folder().join(name).to_string_lossy().into_owned()
    }

    /// What each card had to do so far.
    pub(super) fn costs(&self) -> Result<Vec<Cost>> {
        let of = |(member, card): (usize, &Card<'_>)| {
            let stats = card.stats()?;
            let zeroed = match self.cluster.kind() {
                Kind::Quorate => self.cluster.metric(member, "quorate_zeroed_bytes_total")?,
                Kind::Etcd => 0.0,
            };
            Ok(Cost {
                flushes: number(&stats, "/flushes")?,
                bytes: number(&stats, "/bytes_written")?,
                zeroed,
            })
        };
        self.cards.iter().enumerate().map(of).collect()
    }

    /// Runs a load and says what it cost a card on average.
    pub(super) fn load_with_costs(&self, words: &[&str]) -> Result<(Load, Cost)> {
        let before = self.costs()?;
        let load = self.load(words)?;
        Ok((load, mean_cost(&before, &self.costs()?)))
    }

    /// Values of 4 KiB under keys of their own until so many MiB are there, all of them written through other members
    /// than `without`; the cards cost nothing meanwhile and are left so.
    pub(super) fn fill(&self, mebibytes: usize, without: Option<usize>) -> Result<()> {
        self.change(&["model=free"])?;
        let total = (mebibytes * 256).to_string();
        let words =
            ["put", "--clients", "64", "--connections", "6", "--keys", "0", "--prefix", "quorate-state/"];
        let words = [&words[..], &["--value-size", "4096", "--total", &total]].concat();
        let load = finish(self.start_without("fill", &words, without)?)?;
        ensure!(load.failed == 0.0, "filling failed: {}", load.errors);
        // Who is away tells nothing of its zeroing.
        if without.is_none() { self.cluster.settle() } else { Ok(()) }
    }

    /// Any member that does not lead.
    pub(super) fn follower(&self) -> Result<usize> {
        let leader = self.cluster.leader()?;
        (0..self.cluster.len()).find(|member| *member != leader).context("somebody follows")
    }
}

fn mean_cost(before: &[Cost], after: &[Cost]) -> Cost {
    let count = after.len().max(1) as f64;
    let mean = |of: fn(&Cost) -> f64| {
        after.iter().zip(before).map(|(after, before)| of(after) - of(before)).sum::<f64>() / count
    };
    Cost {
        flushes: mean(|cost| cost.flushes),
        bytes: mean(|cost| cost.bytes),
        zeroed: mean(|cost| cost.zeroed),
    }
}

/// What a load of puts tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) done: f64,
    pub(super) failed: f64,
    pub(super) per_second: f64,
    pub(super) seconds: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
    /// Seconds in which no put succeeded anywhere.
    pub(super) gap: f64,
    /// The longest such time of the clients of one member, in seconds.
    pub(super) gaps: Vec<f64>,
    pub(super) failed_p99: Option<f64>,
    pub(super) errors: String,
}

/// Waits for a load that was left running; its report.
pub(super) fn report(mut running: Running) -> Result<Value> {
    // Its code says that puts failed.
    running.wait(LIMIT)?;
    let text = running.output()?;
    serde_json::from_str(&text).with_context(|| format!("no report of the load: {text}"))
}

/// The same, read.
pub(super) fn finish(running: Running) -> Result<Load> {
    Load::read(&report(running)?)
}

/// Ends a load early; its figures.
pub(super) fn stop(running: Running) -> Result<Load> {
    running.interrupt()?;
    finish(running)
}

impl Load {
    pub(super) fn read(report: &Value) -> Result<Load> {
        // A load whose puts all failed has no latency.
        let latency = |what: &str| number(report, &format!("/latency/{what}_ms")).unwrap_or(f64::NAN);
        let gap = |value: &Value| Ok(number(value, "/gap_max_ms")? / 1_000.0);
        Ok(Load {
            done: number(report, "/done")?,
            failed: number(report, "/failed")?,
            per_second: number(report, "/per_second")?,
            seconds: number(report, "/elapsed_seconds")?,
            p50: latency("p50"),
            p99: latency("p99"),
            max: latency("max"),
            gap: gap(report)?,
            gaps: report["members"].as_array().into_iter().flatten().map(gap).collect::<Result<_>>()?,
            failed_p99: number(report, "/failed_latency/p99_ms").ok(),
            errors: report["errors"].to_string(),
        })
    }

    /// The longest time in which the clients of some member got nothing, in seconds.
    pub(super) fn worst_gap(&self) -> f64 {
        self.gaps.iter().copied().fold(self.gap, f64::max)
    }

    pub(super) fn latencies(&self) -> Vec<Seen> {
        vec![seen("p50", Unit::Milliseconds, self.p50), seen("p99", Unit::Milliseconds, self.p99)]
    }

    /// Failures, with their reasons to whoever runs this.
    pub(super) fn failures(&self) -> Seen {
        if self.failed > 0.0 {
            eprintln!("  {} puts failed: {}", self.failed, self.errors);
        }
        seen("failed puts", Unit::Count, self.failed)
    }
}

/// Elections since the field's last mark, as a figure.
pub(super) fn elections(field: &Field<'_>) -> Result<Seen> {
    Ok(seen("elections and hand-overs", Unit::Count, field.elections()?))
}

/// What a put cost each card, as figures.
pub(super) fn per_put(load: &Load, cost: Cost) -> Vec<Seen> {
    let puts = load.done.max(1.0);
    vec![
        seen("flushes per put and card", Unit::Times, cost.flushes / puts),
        seen("bytes per put and card", Unit::Bytes, (cost.bytes - cost.zeroed) / puts),
        seen("first zeroing, not counted above", Unit::Bytes, cost.zeroed / puts),
    ]
}

/// The lines of a load's `--timeline`: seconds from its start, milliseconds of latency, whether it went well.
pub(super) fn timeline(path: &Path) -> Result<Vec<(f64, f64, bool)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut next = || words.next().with_context(|| format!("a short line in the timeline: {line}"));
        let (intended, latency, _, outcome) = (next()?, next()?, next()?, next()?);
        Ok((intended.parse::<f64>()? / 1e6, latency.parse::<f64>()? / 1e3, outcome == "ok"))
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_read_even_if_every_put_failed() {
        let members = json!([{ "gap_max_ms": 500.0 }, { "gap_max_ms": 4_000.0 }]);
        let report = json!({ "done": 0, "failed": 9, "per_second": 0.0, "elapsed_seconds": 4.0, "gap_max_ms": 300.0,
            "latency": null, "failed_latency": { "p99_ms": 12.5 }, "errors": { "Unavailable": 9 },
            "members": members });
        let load = Load::read(&report).unwrap();
        assert!(load.p50.is_nan());
        assert_eq!((load.worst_gap(), load.failed_p99), (4.0, Some(12.5)));
    }

    #[test]
    fn costs_are_means_of_what_was_added() {
        let cost = |flushes, bytes, zeroed| Cost { flushes, bytes, zeroed };
        let before = [cost(1.0, 100.0, 100.0), cost(2.0, 0.0, 0.0)];
        let after = [cost(3.0, 300.0, 100.0), cost(6.0, 400.0, 50.0)];
        assert_eq!(mean_cost(&before, &after), cost(3.0, 300.0, 25.0));
    }

    #[test]
    fn timelines_are_read() {
        let path = std::env::temp_dir().join(format!("xtask-timeline-{}", std::process::id()));
        std::fs::write(&path, "1500000 2500 0 ok\n2000000 1000 2 Unavailable:_x\n").unwrap();
        assert_eq!(timeline(&path).unwrap(), [(1.5, 2.5, true), (2.0, 1.0, false)]);
        std::fs::write(&path, "15\n").unwrap();
        assert!(timeline(&path).unwrap_err().to_string().contains("short line"));
        std::fs::remove_file(&path).unwrap();
    }
}
