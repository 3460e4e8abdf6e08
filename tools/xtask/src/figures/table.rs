//! What was measured, and how it is printed.

use serde_json::{Value, json};

/// What a figure counts; decides how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    PerSecond,
    Milliseconds,
    Seconds,
    Bytes,
    Mebibytes,
    GigabytesADay,
    MillionsADay,
    Years,
    Percent,
    Count,
    Times,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::PerSecond => "1/s",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Bytes => "bytes",
            Unit::Mebibytes => "MiB",
            Unit::GigabytesADay => "GB a day",
            Unit::MillionsADay => "million a day",
            Unit::Years => "years",
            Unit::Percent => "%",
            Unit::Count | Unit::Times => "",
        }
    }

    /// Three digits or so, and the unit.
    fn print(self, value: f64) -> String {
        let number = match self {
            Unit::Bytes | Unit::Count => grouped(value),
            Unit::PerSecond if value >= 100.0 => grouped(value),
            Unit::Milliseconds | Unit::Mebibytes if value >= 100.0 => grouped(value),
            Unit::PerSecond | Unit::Milliseconds | Unit::Mebibytes => format!("{value:.1}"),
            Unit::Times if value > 0.0 && value < 0.1 => format!("{value:.4}"),
            Unit::Seconds
            | Unit::GigabytesADay
            | Unit::MillionsADay
            | Unit::Years
            | Unit::Percent
            | Unit::Times => format!("{value:.2}"),
        };
        match self {
            Unit::Count | Unit::Times => number,
            Unit::PerSecond => format!("{number}/s"),
            Unit::Milliseconds
            | Unit::Seconds
            | Unit::Bytes
            | Unit::Mebibytes
            | Unit::GigabytesADay
            | Unit::MillionsADay
            | Unit::Years
            | Unit::Percent => format!("{number} {}", self.name()),
        }
    }
}

/// Whole, with a comma every three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len() - at;
        if at > 0 && left.is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) quorate: Option<f64>,
    pub(super) etcd: Option<f64>,
    /// Whether etcd's divided by ours says anything.
    pub(super) compared: bool,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        let (quorate, etcd) = (self.quorate?, self.etcd?);
        (self.compared && quorate > 0.0).then_some(etcd / quorate)
    }

    fn markdown(&self, row: &str) -> String {
        let cell = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| self.unit.print(value));
        let ratio = self.ratio().map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}"));
        format!("| {row} | {} | {} | {} | {ratio} |\n", self.what, cell(self.quorate), cell(self.etcd))
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit.name(),
            "quorate": self.quorate,
            "etcd": self.etcd,
            "etcd_by_quorate": self.ratio(),
        })
    }
}

/// One row's figures, and what was done to get them.
pub(super) struct Measured {
    pub(super) row: &'static str,
    pub(super) did: String,
    pub(super) figures: Vec<Figure>,
    pub(super) seconds: f64,
}

/// Which programs on which machine.
pub(super) struct Scene {
    pub(super) quorate: String,
    pub(super) etcd: Option<String>,
    pub(super) machine: String,
    pub(super) quick: bool,
    pub(super) seed: u64,
}

/// For the README.
pub(super) fn markdown(scene: &Scene, rows: &[Measured]) -> String {
    let quick = if scene.quick { " Quick: too short for figures to hold on to." } else { "" };
    let etcd = scene.etcd.as_deref().unwrap_or("etcd (not measured)");
    let mut text = format!("{}; cards of seed {}.{quick}\n\n", scene.machine, scene.seed);
    text.push_str(&format!("| Row | Figure | {} | {etcd} | etcd ÷ quorate |\n", scene.quorate));
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
    json!({
        "quorate": scene.quorate,
        "etcd": scene.etcd,
        "machine": scene.machine,
        "quick": scene.quick,
        "seed": scene.seed,
        "rows": rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn long_numbers_are_grouped() {
        for (value, text) in
            [(0.0, "0"), (999.0, "999"), (1_000.0, "1,000"), (12_345_678.0, "12,345,678"), (-100.0, "-100")]
        {
            assert_eq!(grouped(value), text);
        }
    }
}
