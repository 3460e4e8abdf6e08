//! What a row of the torture table is and gives.

use super::aim::Judged;
use crate::stage::Stage;
use anyhow::Result;
use serde_json::{Value, json};

/// One row: the same work for both stores.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) run: fn(&Stage) -> Result<Outcome>,
}

/// What a row gives.
pub(super) struct Outcome {
    /// In one line what was done.
    pub(super) did: String,
    pub(super) figures: Vec<Judged>,
    /// What is drawn, if anything.
    pub(super) series: Vec<Series>,
}

impl Outcome {
    /// A row of figures alone.
    pub(super) fn of(did: String, figures: Vec<Judged>) -> Outcome {
        Outcome { did, figures, series: Vec::new() }
    }
}

/// Points of a plot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    /// `quorate`, `etcd` or `limit`.
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Points of what failed.
    pub(super) failed: Vec<(f64, f64)>,
    /// Where something was done to a card, from and to.
    pub(super) band: Option<(f64, f64)>,
}

impl Series {
    pub(super) fn line(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.to_owned(), points, failed: Vec::new(), band: None }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "name": self.name, "points": self.points, "failed": self.failed, "band": self.band })
    }
}
