//! The README's figures: quorated beside real etcd, in one run. Each store runs alone, on a fresh card of the
//! same model and seed; everything that is started is ended, also after a failure.

mod rows;
mod table;
mod three;

use crate::stage::plan::{Grammar, Plan};
use crate::stage::scene::{self, target_folder};
use anyhow::Result;
use rows::ROWS;
use std::path::{Path, PathBuf};
use std::time::Instant;
use table::Measured;

/// What `cargo xtask figures` takes.
pub(crate) fn grammar() -> Grammar {
    let rows = ROWS.iter().map(|row| row.name).collect();
    Grammar { command: "figures", rows, etcd: true, plots: false }
}

/// Measures and prints; whether every row could be measured. A row that fails does not take the others along.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<bool> {
    if plan.list {
        for row in ROWS {
            println!("{:<12} {}", row.name, row.what);
        }
        return Ok(true);
    }
    let (stage, scene) = scene::open(root, plan)?;
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    for row in ROWS.iter().filter(|row| plan.chooses(row.name)) {
        eprintln!("{} … {}", row.name, row.what);
        let begun = Instant::now();
        match (row.run)(&stage) {
            Ok(outcome) => measured.push(Measured {
                row: row.name,
                did: outcome.did,
                figures: outcome.figures,
                seconds: begun.elapsed().as_secs_f64(),
            }),
            Err(error) => failed.push(format!("{}: {error:#}", row.name)),
        }
    }
    print!("{}", table::markdown(&scene, &measured));
    if let Some(path) = &plan.json {
        scene::write_json(path, &table::json(&scene, &measured))?;
    }
    for failure in &failed {
        eprintln!("not measured: {failure}");
    }
    Ok(failed.is_empty())
}

/// The static program of a board: named in `QUORATED_AARCH64`, or the smallest that cargo built.
fn board_program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("QUORATED_AARCH64") {
        return Some(path.into());
    }
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?).join("../..");
    let folder = target_folder(&root).join("aarch64-unknown-linux-musl");
    let programs = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path().join("quorated"));
    programs.filter(|path| path.is_file()).min_by_key(|path| path.metadata().map_or(u64::MAX, |of| of.len()))
}
