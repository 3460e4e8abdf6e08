//! The torture table: three members on three simulated cards that are slow, stop or lose power, under the same load
//! for quorated and for etcd; each figure stands beside its goal, and some are drawn. Each store runs alone on
//! cards of the same model and seed; everything that is started is ended, also after a failure.

mod aim;
mod back;
mod fall;
mod field;
mod flood;
mod neighbour;
mod plot;
mod row;
mod slow;
mod small;
mod stall;
mod steady;
mod sweep;
mod table;

use crate::stage::plan::{Grammar, Plan};
use crate::stage::scene;
use anyhow::Result;
use row::Row;
use std::path::Path;
use std::time::Instant;
use table::Done;

const ROWS: &[Row] = &[
    Row { name: "one-client", what: "one client in a closed loop, ordinary cards", run: steady::one_client },
    Row { name: "seven", what: "7 puts/s out of phase, ordinary cards", run: steady::seven },
    Row { name: "rest", what: "10 puts/s of 1 KiB: what a card lives through", run: steady::rest },
    Row { name: "sixty-four", what: "64 clients, ordinary cards", run: steady::sixty_four },
    Row { name: "bad-seven", what: "7 puts/s out of phase, bad cards", run: steady::bad_seven },
    Row { name: "leader-stall", what: "the leader's card stops for 10 s", run: stall::leader_stall },
    Row { name: "follower-stall", what: "a follower's card stops for 10 s", run: stall::follower_stall },
    Row { name: "all-pause", what: "all cards stop together", run: stall::all_pause },
    Row { name: "follower-slow", what: "a follower's card is ten times slower", run: slow::follower },
    Row { name: "leader-slow", what: "the leader's card is ten times slower", run: slow::leader },
    Row { name: "neighbour", what: "another program writes to each card", run: neighbour::neighbour },
    Row { name: "kill-leader", what: "kill -9 of the leader", run: fall::kill_leader },
    Row { name: "power-cut", what: "the leader loses its power under load", run: fall::power_cut },
    Row { name: "return", what: "a follower comes back to 96 MiB written without it", run: back::back },
    Row { name: "return-away", what: "a follower comes back after 10 minutes", run: back::back_from_away },
    Row { name: "join-fourth", what: "a fourth member joins under load", run: back::join_fourth },
    Row { name: "image-puts", what: "puts while 256 MiB are written or sent as one", run: back::image_puts },
    Row { name: "overload", what: "ten times what the cards bear", run: flood::overload },
    Row {
        name: "orchestrator",
        what: "half an hour of an orchestrator, bad cards",
        run: flood::orchestrator,
    },
    Row { name: "free", what: "64 clients, cards that cost nothing", run: steady::free },
    Row { name: "memory", what: "resident memory after that load", run: small::memory },
    Row { name: "idle", what: "processor and memory of members that do nothing", run: small::idle },
    Row { name: "clients", what: "throughput by number of clients", run: sweep::clients },
    Row { name: "rates", what: "bytes per put by rate", run: sweep::rates },
];

/// What `cargo xtask torture` takes.
pub(crate) fn grammar() -> Grammar {
    let rows = ROWS.iter().map(|row| row.name).collect();
    Grammar { command: "torture", rows, etcd: false, plots: true }
}

/// Measures, prints and draws; whether every row could be measured. Goals that are missed are told, not an error: a
/// timing on a busy machine proves nothing.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<bool> {
    if plan.list {
        for row in ROWS {
            println!("{:<15} {}", row.name, row.what);
        }
        return Ok(true);
    }
    let (stage, scene) = scene::open(root, plan)?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for row in ROWS.iter().filter(|row| plan.chooses(row.name)) {
        eprintln!("{} … {}", row.name, row.what);
        let begun = Instant::now();
        match (row.run)(&stage) {
            Ok(outcome) => done.push(Done { row: row.name, outcome, seconds: begun.elapsed().as_secs_f64() }),
            Err(error) => failed.push(format!("{}: {error:#}", row.name)),
        }
        // After each row: hours of measuring must not be lost with the last one.
        if let Some(path) = &plan.json {
            scene::write_json(path, &table::json(&scene, &done))?;
        }
    }
    print!("{}", table::markdown(&scene, &done));
    if let Some(folder) = &plan.plots {
        for path in plot::draw_all(folder, &scene, &done)? {
            eprintln!("drawn: {}", path.display());
        }
    }
    for failure in &failed {
        eprintln!("not measured: {failure}");
    }
    Ok(failed.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_unique() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(row.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            assert!(ROWS[at + 1..].iter().all(|other| other.name != row.name));
        }
    }
}
