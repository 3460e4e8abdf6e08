//! What was measured, and how it is printed.

use crate::stage::figure::Figure;
use crate::stage::scene::Scene;
use serde_json::{Value, json};

/// One row's figures, and what was done to get them.
pub(super) struct Measured {
    pub(super) row: &'static str,
    pub(super) did: String,
    pub(super) figures: Vec<Figure>,
    pub(super) seconds: f64,
}

/// For the README.
pub(super) fn markdown(scene: &Scene, rows: &[Measured]) -> String {
    let mut text = format!("{}\n\n", scene.headline());
    text.push_str(&format!(
        "| Row | Figure | {} | {} | etcd ÷ quorate |\n",
        scene.quorate,
        scene.etcd_name()
    ));
    text.push_str("| --- | --- | ---: | ---: | ---: |\n");
    for measured in rows {
        for (at, figure) in measured.figures.iter().enumerate() {
            text.push_str(&figure.markdown(if at == 0 { measured.row } else { "" }));
        }
    }
    text.push('\n');
    for measured in rows {
        text.push_str(&format!("- `{}` ({:.0} s): {}\n", measured.row, measured.seconds, measured.did));
    }
    text
}

/// For programs.
pub(super) fn json(scene: &Scene, rows: &[Measured]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|measured| {
            json!({
                "row": measured.row,
                "did": measured.did,
                "seconds": measured.seconds,
                "figures": measured.figures.iter().map(Figure::json).collect::<Vec<_>>(),
            })
        })
        .collect();
    scene.json(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::figure::Unit;

    fn measured() -> Vec<Measured> {
        let figure = |what: &str, unit, quorate, etcd, compared| Figure {
            what: what.into(),
            unit,
            quorate,
            etcd,
            compared,
        };
        let figures = vec![
            figure("puts", Unit::PerSecond, Some(1_234.4), Some(123.4), true),
            figure("the card itself", Unit::Milliseconds, Some(40.0), Some(40.0), false),
            figure("zeroed", Unit::Bytes, Some(0.0), None, true),
        ];
        vec![Measured { row: "put64", did: "64 clients".into(), figures, seconds: 61.4 }]
    }

    fn scene() -> Scene {
        let quorate = "quorated 0.1.0".into();
        Scene { quorate, etcd: Some("etcd 3.4".into()), machine: "2 cores".into(), quick: true, seed: 7 }
    }

    #[test]
    fn the_table_is_markdown() {
        let wanted = "\
2 cores; cards of seed 7. Quick: too short for figures to hold on to.

| Row | Figure | quorated 0.1.0 | etcd 3.4 | etcd ÷ quorate |
| --- | --- | ---: | ---: | ---: |
| put64 | puts | 1,234/s | 123/s | 0.10 |
|  | the card itself | 40.0 ms | 40.0 ms | – |
|  | zeroed | 0 bytes | – | – |

- `put64` (61 s): 64 clients
";
        assert_eq!(markdown(&scene(), &measured()), wanted);
    }

    #[test]
    fn programs_get_every_figure_unrounded() {
        let value = json(&scene(), &measured());
        let figures = &value["rows"][0]["figures"];
        assert_eq!(figures[0]["quorate"], 1_234.4);
        assert!((figures[0]["etcd_by_quorate"].as_f64().unwrap() - 123.4 / 1_234.4).abs() < 1e-9);
        assert!(figures[2]["etcd"].is_null() && figures[2]["etcd_by_quorate"].is_null());
    }
}
