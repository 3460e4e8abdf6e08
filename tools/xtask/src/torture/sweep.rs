//! Rows that go through many loads, for the plots: clients in closed loops, and rates.

use super::aim::Aims;
use super::field::{Field, PUT, per_put};
use super::row::{Outcome, Series};
use crate::stage::figure::Unit;
use crate::stage::sides::{seen, side_by_side};
use crate::stage::{Kind, Stage};
use anyhow::Result;
use std::cell::RefCell;

/// Mean of the middle of three ordinary cards' flushes: the median of three log-normals of 40 ms and σ 0.4.
const FLUSH_SECONDS: f64 = 0.0415;
/// What an ordinary card writes in a second.
const BANDWIDTH: f64 = 10e6;
/// A batch starts on a block of its own; a put of 256 bytes takes about so much of it.
const BLOCK_BYTES: f64 = 4_096.0;
const PUT_BYTES: f64 = 300.0;

/// Puts a second if all clients shared each flush of the middle card.
fn limit_of(clients: f64) -> f64 {
    clients / (FLUSH_SECONDS + batch_bytes(clients) / BANDWIDTH)
}

/// Bytes of one batch of so many puts: whole blocks.
fn batch_bytes(puts: f64) -> f64 {
    (puts * PUT_BYTES / BLOCK_BYTES).ceil() * BLOCK_BYTES
}

pub(super) fn clients(stage: &Stage) -> Result<Outcome> {
    const CLIENTS: [&str; 8] = ["1", "2", "4", "8", "16", "32", "64", "128"];
    let counts = stage.pick(&CLIENTS[..], &CLIENTS[..4]);
    let seconds = stage.pick("15s", "2s");
    let series = RefCell::new(Vec::new());
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=ordinary"])?;
        let (mut figures, mut points) = (Vec::new(), Vec::new());
        for clients in counts {
            let words = [&PUT[..], &["--clients", clients, "--duration", seconds]].concat();
            let load = field.load(&words)?;
            points.push((clients.parse()?, load.per_second));
            figures.push(seen(&format!("puts, {clients} clients"), Unit::PerSecond, load.per_second));
        }
        series.borrow_mut().push(Series::line(name_of(kind), points));
        Ok(figures)
    })?;
    let mut aims = Aims::new();
    let mut limit = Vec::new();
    for clients in counts {
        let count: f64 = clients.parse()?;
        limit.push((count, limit_of(count)));
        aims = aims.limit(&format!("puts, {clients} clients"), limit_of(count));
    }
    let mut series = series.into_inner();
    series.push(Series::line("limit", limit));
    let did = format!(
        "ordinary cards, so many clients in closed loops, 256-byte values, {seconds} each; the limit is all clients sharing \
         each flush of the middle card, {:.1} ms and the batch's bytes at 10 MB/s, pauses left out",
        FLUSH_SECONDS * 1_000.0
    );
    Ok(Outcome { did, figures: aims.judge(figures)?, series })
}

pub(super) fn rates(stage: &Stage) -> Result<Outcome> {
    const RATES: [&str; 9] = ["1", "2", "5", "10", "20", "50", "100", "200", "500"];
    let rates = stage.pick(&RATES[..], &["2", "10", "50"]);
    let seconds = stage.pick("20s", "3s");
    let series = RefCell::new(Vec::new());
    let figures = side_by_side(stage, |kind| {
        let field = Field::open(stage, kind, &["model=ordinary"])?;
        let (mut figures, mut points) = (Vec::new(), Vec::new());
        for rate in rates {
            let words = [&PUT[..], &["--rate", rate, "--duration", seconds]].concat();
            let (load, cost) = field.load_with_costs(&words)?;
            let costs = per_put(&load, cost);
            let bytes = costs.iter().find(|(what, ..)| what.starts_with("bytes")).map_or(f64::NAN, |of| of.2);
            points.push((load.per_second, bytes));
            figures.push(seen(&format!("bytes per put and card, {rate} puts/s"), Unit::Bytes, bytes));
        }
        series.borrow_mut().push(Series::line(name_of(kind), points));
        Ok(figures)
    })?;
    let mut series = series.into_inner();
    // A batch takes one flush: what arrives meanwhile shares the next.
    let least =
        |rate: f64| (rate, batch_bytes((rate * FLUSH_SECONDS).max(1.0)) / (rate * FLUSH_SECONDS).max(1.0));
    let limit: Vec<(f64, f64)> = rates.iter().filter_map(|rate| rate.parse().ok()).map(least).collect();
    series.push(Series::line("limit", limit));
    let did = format!(
        "ordinary cards, that many puts/s of 256 bytes, evenly spaced, {seconds} each; bytes written to a card on average, \
         the log's first zeroing left out; the dashed line is one 4 KiB block for what arrives during a flush"
    );
    Ok(Outcome { did, figures: Aims::new().judge(figures)?, series })
}

/// A store's name in plots.
pub(super) fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Quorate => "quorate",
        Kind::Etcd => "etcd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_clients_share_a_flush() {
        assert!((limit_of(1.0) - 23.9).abs() < 0.2, "{}", limit_of(1.0));
        assert!((1_200.0..1_600.0).contains(&limit_of(64.0)), "{}", limit_of(64.0));
        assert_eq!((batch_bytes(1.0), batch_bytes(14.0)), (4_096.0, 8_192.0));
    }
}
