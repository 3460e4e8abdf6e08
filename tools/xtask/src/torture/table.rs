//! The table for people, and the same for programs.

use super::row::Outcome;
use crate::stage::scene::Scene;
use serde_json::{Value, json};

/// One row, done.
pub(super) struct Done {
    pub(super) row: &'static str,
    pub(super) outcome: Outcome,
    pub(super) seconds: f64,
}

pub(super) fn markdown(scene: &Scene, rows: &[Done]) -> String {
    let mut text = format!("{}\n\n", scene.headline());
    text.push_str("| Row | Figure | Limit | Goal | ");
    text.push_str(&format!("{} | {} | etcd ÷ quorate | Met |\n", scene.quorate, scene.etcd_name()));
    text.push_str("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n");
    for done in rows {
        for (at, judged) in done.outcome.figures.iter().enumerate() {
            text.push_str(&judged.markdown(if at == 0 { done.row } else { "" }));
        }
    }
    text.push('\n');
    for done in rows {
        text.push_str(&format!("- `{}` ({:.0} s): {}\n", done.row, done.seconds, done.outcome.did));
    }
    text
}

pub(super) fn json(scene: &Scene, rows: &[Done]) -> Value {
    let row = |done: &Done| {
        json!({
            "row": done.row,
            "did": done.outcome.did,
            "seconds": done.seconds,
            "figures": done.outcome.figures.iter().map(super::aim::Judged::json).collect::<Vec<_>>(),
            "series": done.outcome.series.iter().map(super::row::Series::json).collect::<Vec<_>>(),
        })
    };
    scene.json(rows.iter().map(row).collect())
}
