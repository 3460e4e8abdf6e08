//! What a figure is to be: a goal, the limit that physics sets, and whether the goal was met.

use crate::stage::figure::{Figure, Unit};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// What Quorate's figure shall be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aim {
    AtMost(f64),
    AtLeast(f64),
    /// So many times etcd's in the same run, at least.
    TimesEtcd(f64),
}

impl Aim {
    /// Whether it is met; nothing if that was not measured.
    fn is_met(self, figure: &Figure) -> Option<bool> {
        let ours = figure.quorate?;
        match self {
            Aim::AtMost(most) => Some(ours <= most),
            Aim::AtLeast(least) => Some(ours >= least),
            Aim::TimesEtcd(times) => figure.etcd.map(|etcd| ours >= times * etcd),
        }
    }

    fn print(self, unit: Unit) -> String {
        match self {
            Aim::AtMost(most) => format!("≤ {}", unit.print(most)),
            Aim::AtLeast(least) => format!("≥ {}", unit.print(least)),
            Aim::TimesEtcd(times) => format!("≥ {times} × etcd"),
        }
    }
}

/// A figure and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) figure: Figure,
    /// What no store could better on these cards.
    pub(super) limit: Option<f64>,
    pub(super) aims: Vec<Aim>,
}

impl Judged {
    /// Whether all aims that could be judged are met; nothing if there are none.
    pub(super) fn is_met(&self) -> Option<bool> {
        let verdicts: Vec<bool> = self.aims.iter().filter_map(|aim| aim.is_met(&self.figure)).collect();
        (!verdicts.is_empty()).then(|| verdicts.iter().all(|met| *met))
    }

    /// A line of the table that begins with `row`.
    pub(super) fn markdown(&self, row: &str) -> String {
        let unit = self.figure.unit;
        let cell = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| unit.print(value));
        let ratio = self.figure.ratio().map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}"));
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let (ours, etcd) = (cell(self.figure.quorate), cell(self.figure.etcd));
        let what = &self.figure.what;
        format!(
            "| {row} | {what} | {} | {} | {ours} | {etcd} | {ratio} | {met} |\n",
            cell(self.limit),
            self.goal()
        )
    }

    fn goal(&self) -> String {
        let aims: Vec<String> = self.aims.iter().map(|aim| aim.print(self.figure.unit)).collect();
        if aims.is_empty() { "–".into() } else { aims.join(", ") }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let mut value = self.figure.json();
        value["limit"] = json!(self.limit);
        value["goal"] = json!((!self.aims.is_empty()).then(|| self.goal()));
        value["met"] = json!(self.is_met());
        value
    }
}

/// What is wanted of the figures of a row, by their names.
#[derive(Default)]
pub(super) struct Aims {
    aims: Vec<(String, Aim)>,
    limits: Vec<(String, f64)>,
}

impl Aims {
    pub(super) fn new() -> Aims {
        Aims::default()
    }

    pub(super) fn most(self, what: &str, most: f64) -> Aims {
        self.aim(what, Aim::AtMost(most))
    }

    pub(super) fn least(self, what: &str, least: f64) -> Aims {
        self.aim(what, Aim::AtLeast(least))
    }

    pub(super) fn aim(mut self, what: &str, aim: Aim) -> Aims {
        self.aims.push((what.to_owned(), aim));
        self
    }

    pub(super) fn limit(mut self, what: &str, limit: f64) -> Aims {
        self.limits.push((what.to_owned(), limit));
        self
    }

    /// Sets them beside the figures; an aim of a figure that nobody measured is a mistake in the row.
    pub(super) fn judge(self, figures: Vec<Figure>) -> Result<Vec<Judged>> {
        for name in self.aims.iter().map(|(name, _)| name).chain(self.limits.iter().map(|(name, _)| name)) {
            ensure!(figures.iter().any(|figure| &figure.what == name), "no figure is called {name}");
        }
        let judge = |figure: Figure| Judged {
            limit: self.limits.iter().find(|(name, _)| *name == figure.what).map(|(_, limit)| *limit),
            aims: self.aims.iter().filter(|(name, _)| *name == figure.what).map(|(_, aim)| *aim).collect(),
            figure,
        };
        Ok(figures.into_iter().map(judge).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(quorate: f64, etcd: Option<f64>) -> Figure {
        Figure { what: "puts".into(), unit: Unit::PerSecond, quorate: Some(quorate), etcd, compared: true }
    }

    fn judged(quorate: f64, etcd: Option<f64>) -> Judged {
        let aims = Aims::new().least("puts", 1_000.0).aim("puts", Aim::TimesEtcd(8.0)).limit("puts", 1_200.0);
        aims.judge(vec![figure(quorate, etcd)]).unwrap().remove(0)
    }

    #[test]
    fn every_aim_counts_and_what_was_not_measured_does_not() {
        assert_eq!(judged(1_100.0, Some(120.0)).is_met(), Some(true));
        assert_eq!(judged(1_100.0, Some(140.0)).is_met(), Some(false));
        assert_eq!(judged(900.0, Some(100.0)).is_met(), Some(false));
        assert_eq!(judged(1_100.0, None).is_met(), Some(true));
        let none = Aims::new().judge(vec![figure(1.0, None)]).unwrap();
        assert_eq!(none[0].is_met(), None);
    }

    #[test]
    fn a_line_says_limit_goal_both_and_the_verdict() {
        assert_eq!(
            judged(1_100.0, Some(140.0)).markdown("sixty-four"),
            "| sixty-four | puts | 1,200/s | ≥ 1,000/s, ≥ 8 × etcd | 1,100/s | 140/s | 0.13 | **no** |\n"
        );
        let json = judged(1_100.0, None).json();
        assert_eq!((&json["met"], &json["limit"]), (&Value::Bool(true), &json!(1_200.0)));
    }

    #[test]
    fn an_aim_of_nothing_is_a_mistake() {
        let error = Aims::new().most("p50", 1.0).judge(vec![figure(1.0, None)]).unwrap_err();
        assert!(error.to_string().contains("p50"));
    }
}
