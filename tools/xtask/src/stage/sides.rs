//! Both stores side by side: what a row gives, and how it reads its loads' reports.

use super::figure::{Figure, Unit};
use super::{Kind, Stage};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// A row's figures, and in one line what was done.
pub(crate) struct Outcome {
    pub(crate) did: String,
    pub(crate) figures: Vec<Figure>,
}

/// No load here is longer.
pub(crate) const LOAD_LIMIT: Duration = Duration::from_secs(900);

/// One figure of one store, before both stand side by side.
pub(crate) type Seen = (String, Unit, f64);

/// Measures each store alone, one after the other, and sets the figures side by side.
pub(crate) fn side_by_side(
    stage: &Stage,
    measure: impl Fn(Kind) -> Result<Vec<Seen>>,
) -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = Vec::new();
    for &kind in stage.kinds() {
        for (what, unit, value) in measure(kind).with_context(|| format!("{kind:?}"))? {
            let known = figures.iter_mut().find(|figure| figure.what == what);
            match (known, kind) {
                (Some(figure), Kind::Quorate) => figure.quorate = Some(value),
                (Some(figure), Kind::Etcd) => figure.etcd = Some(value),
                (None, Kind::Quorate) => {
                    figures.push(Figure { what, unit, quorate: Some(value), etcd: None, compared: true });
                }
                (None, Kind::Etcd) => {
                    figures.push(Figure { what, unit, quorate: None, etcd: Some(value), compared: true });
                }
            }
        }
    }
    Ok(figures)
}

/// A figure of a report, found by its JSON pointer.
pub(crate) fn number(report: &Value, pointer: &str) -> Result<f64> {
    report.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer} in {report}"))
}

pub(crate) fn seen(what: &str, unit: Unit, value: f64) -> Seen {
    (what.to_owned(), unit, value)
}

/// Puts a second and their latencies; a load that lost a put is no measurement.
pub(crate) fn speed(report: &Value) -> Result<Vec<Seen>> {
    let failed = number(report, "/failed")?;
    ensure!(failed == 0.0, "{failed} puts failed: {}", report["errors"]);
    Ok(vec![
        seen("puts", Unit::PerSecond, number(report, "/per_second")?),
        seen("p50", Unit::Milliseconds, number(report, "/latency/p50_ms")?),
        seen("p99", Unit::Milliseconds, number(report, "/latency/p99_ms")?),
    ])
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_load_that_lost_puts_is_no_figure() {
        let latency = json!({ "p50_ms": 1.5, "p99_ms": 2.0 });
        let good = json!({ "failed": 0, "per_second": 10.5, "latency": latency });
        assert_eq!(speed(&good).unwrap()[0], seen("puts", Unit::PerSecond, 10.5));
        let bad =
            json!({ "failed": 2, "errors": { "Unavailable": 2 }, "per_second": 10.5, "latency": latency });
        assert!(speed(&bad).unwrap_err().to_string().contains("Unavailable"));
        assert!(speed(&json!({ "failed": 0 })).unwrap_err().to_string().contains("per_second"));
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
