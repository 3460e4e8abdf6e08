//! One figure: what it counts, how it is printed.

use serde_json::{Value, json};

/// What a figure counts; decides how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
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
    pub(crate) fn name(self) -> &'static str {
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
    pub(crate) fn print(self, value: f64) -> String {
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
pub(crate) fn grouped(value: f64) -> String {
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
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) quorate: Option<f64>,
    pub(crate) etcd: Option<f64>,
    /// Whether etcd's divided by ours says anything.
    pub(crate) compared: bool,
}

impl Figure {
    /// etcd's divided by ours, where that says anything.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (quorate, etcd) = (self.quorate?, self.etcd?);
        (self.compared && quorate > 0.0).then_some(etcd / quorate)
    }

    /// A line of the table that begins with `row`.
    pub(crate) fn markdown(&self, row: &str) -> String {
        let cell = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| self.unit.print(value));
        let ratio = self.ratio().map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}"));
        format!("| {row} | {} | {} | {} | {ratio} |\n", self.what, cell(self.quorate), cell(self.etcd))
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit.name(),
            "quorate": self.quorate,
            "etcd": self.etcd,
            "etcd_by_quorate": self.ratio(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_grouped() {
        for (value, text) in
            [(0.0, "0"), (999.0, "999"), (1_000.0, "1,000"), (12_345_678.0, "12,345,678"), (-100.0, "-100")]
        {
            assert_eq!(grouped(value), text);
        }
    }
}
