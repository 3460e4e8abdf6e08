//! The plots: what is drawn of which row.

mod axis;
mod svg;

use super::row::Series;
use super::table::Done;
use crate::stage::scene::Scene;
use anyhow::{Context, Result};
use axis::Axis;
use std::path::{Path, PathBuf};
use svg::{Curve, Look, Panel};

/// Draws what the measured rows give, into files named after the rows.
pub(super) fn draw_all(folder: &Path, scene: &Scene, rows: &[Done]) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut drawn = Vec::new();
    for done in rows.iter().filter(|done| !done.outcome.series.is_empty()) {
        let Some(text) = draw(done.row, scene, &done.outcome.series) else { continue };
        let path = folder.join(format!("{}.svg", done.row));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        drawn.push(path);
    }
    Ok(drawn)
}

fn draw(row: &str, scene: &Scene, series: &[Series]) -> Option<String> {
    match row {
        "leader-stall" => {
            Some(stall("The leader's card stops for a while: latency of each put", scene, series))
        }
        "follower-stall" => {
            Some(stall("A follower's card stops for a while: latency of each put", scene, series))
        }
        "clients" => Some(clients(scene, series)),
        "rates" => Some(rates(scene, series)),
        _ => None,
    }
}

/// One store above the other, on the same axes.
fn stall(title: &str, scene: &Scene, series: &[Series]) -> String {
    let all = || series.iter().flat_map(|one| one.points.iter().chain(&one.failed));
    let end = all().map(|(at, _)| *at).fold(1.0, f64::max);
    let longest = all().map(|(_, latency)| *latency).fold(100.0, f64::max);
    let panel = |one: &Series| {
        let (done, failed) = (one.points.len(), one.failed.len());
        Panel {
            title: format!("{}: {done} puts answered, {failed} failed", full_name(&one.name, scene)),
            x: Axis::linear("time (s)", 0.0, end),
            y: Axis::log("latency of a put (ms)", 1.0, longest),
            band: one.band.map(|(from, to)| (from, to, "the card stands still".to_owned())),
            curves: vec![
                Curve::new(&one.name, "answered", Look::Dots, one.points.clone()),
                Curve::new("failed", "failed", Look::Crosses, one.failed.clone()),
            ],
        }
    };
    svg::draw(title, &series.iter().map(panel).collect::<Vec<_>>())
}

fn clients(scene: &Scene, series: &[Series]) -> String {
    let most =
        |of: fn(&(f64, f64)) -> f64| series.iter().flat_map(|one| &one.points).map(of).fold(1.0, f64::max);
    let panel = Panel {
        title: "256-byte puts in closed loops, three members on three ordinary cards".to_owned(),
        x: Axis::log("clients", 1.0, most(|point| point.0)),
        y: Axis::log("puts a second", 5.0, most(|point| point.1)),
        band: None,
        curves: curves(scene, series, "limit: all clients share each flush of the middle card"),
    };
    svg::draw("More clients share a flush, up to what the card can do", &[panel])
}

fn rates(scene: &Scene, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|one| &one.points);
    let least = points().map(|point| point.0).fold(f64::MAX, f64::min);
    let panel = Panel {
        title: "256-byte puts at a given rate, three members on three ordinary cards".to_owned(),
        x: Axis::log("puts a second", least, points().map(|point| point.0).fold(1.0, f64::max)),
        y: Axis::log("bytes per put and card", 100.0, points().map(|point| point.1).fold(1e4, f64::max)),
        band: None,
        curves: curves(scene, series, "one 4 KiB block per flush of 42 ms"),
    };
    svg::draw("What a put costs the card: fewer bytes are more years", &[panel])
}

fn curves(scene: &Scene, series: &[Series], limit: &str) -> Vec<Curve> {
    let curve = |one: &Series| match one.name.as_str() {
        "limit" => Curve::new("limit", limit, Look::Dashes, one.points.clone()),
        name => Curve::new(name, full_name(name, scene), Look::Line, one.points.clone()),
    };
    series.iter().map(curve).collect()
}

/// The program and its release, as the table's heading names it.
fn full_name<'a>(name: &'a str, scene: &'a Scene) -> &'a str {
    match name {
        "quorate" => &scene.quorate,
        "etcd" => scene.etcd_name(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Scene {
        let quorate = "quorated 0.1.0".into();
        Scene { quorate, etcd: Some("etcd 3.4".into()), machine: "2 cores".into(), quick: true, seed: 7 }
    }

    #[test]
    fn both_stores_stand_on_the_same_axes() {
        let stall = |name: &str, longest| Series {
            name: name.into(),
            points: vec![(0.0, 5.0), (30.0, longest)],
            failed: vec![(12.0, 9_000.0)],
            band: Some((10.0, 20.0)),
        };
        let text = draw("leader-stall", &scene(), &[stall("quorate", 40.0), stall("etcd", 4_000.0)]).unwrap();
        assert!(text.contains("quorated 0.1.0: 2 puts answered, 1 failed") && text.contains("etcd 3.4: 2"));
        assert_eq!(text.matches("the card stands still").count(), 2);
        assert_eq!(text.matches(">10,000<").count(), 2, "both reach as high: {text}");
        assert!(draw("seven", &scene(), &[]).is_none());
    }

    #[test]
    fn sweeps_have_their_limit_drawn_in() {
        let lines =
            ["quorate", "etcd", "limit"].map(|name| Series::line(name, vec![(1.0, 20.0), (64.0, 900.0)]));
        for row in ["clients", "rates"] {
            let text = draw(row, &scene(), &lines).unwrap();
            assert!(
                text.contains("class=\"line dash limit\"")
                    && text.contains("etcd 3.4")
                    && text.contains("puts a second"),
                "{text}"
            );
        }
    }
}
