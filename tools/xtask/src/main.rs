//! Chores of this workspace: one command each, the same for a person and for CI.
//!
//! `tidy` is code about code: what house rules say and no compiler checks. `ci` is what CI runs, step by
//! step. `golden` rewrites what tests print and compare, after a change that was meant. `figures` measures the
//! README's table, `torture` what slow cards do to three members. `sim` runs the simulator.

mod ci;
mod figures;
mod golden;
mod sim;
mod stage;
mod tidy;
mod torture;

use anyhow::{Context, Result, bail};
use stage::plan::Plan;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  tidy                     check what house rules say and no compiler checks
  ci [options] [STEP…]     run what CI runs, in order; with names, only those steps
      --list               print the steps and what each is for
      --from STEP          start there
      --keep-going         go on after a step that failed; still exits 1
      --no-skip            a step that cannot run here counts as failed
  golden                   rewrite tests/golden and generated code (read the diff before you commit it)
  sim [options]            the whole cluster simulated, from seeds
      --seed N             tell the story of one seed; with --verbose what its nodes say, with --messages all
      --seeds A..B         run those; with --all each situation must be reached
      --hours H            run on with new seeds until one fails
  figures [options] [ROW…] measure the README's table, quorated beside etcd, on simulated cards (Linux, root)
                           our programs: as cargo built them for release, or what QUORATED and QUORATE name
      --list               print the rows and what each is for
      --vs etcd            beside etcd: /usr/bin/etcd, or what ETCD names (the default)
      --no-etcd            quorated alone
      --quick              short loads, to see that all works
      --seed N             seed of the cards and the loads
      --json FILE          also as JSON
  torture [options] [SCENARIO…]
                           measure three members on three simulated cards that are slow, stall or lose power, each
                           figure with its goal; the options of `figures`, but etcd only with --vs etcd, and
      --plots DIR          draw the plots there (SVG)
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = workspace_root()?;
    match arguments.split_first() {
        Some((command, [])) if command == "tidy" => {
            Ok(if tidy::report(&root)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some((command, rest)) if command == "ci" => {
            let plan = ci::Plan::parse(rest)?;
            Ok(if ci::run(&root, &plan)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some((command, rest)) if command == "figures" => {
            let plan = Plan::parse(rest, &figures::grammar())?;
            Ok(if figures::run(&root, &plan)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some((command, rest)) if command == "torture" => {
            let plan = Plan::parse(rest, &torture::grammar())?;
            Ok(if torture::run(&root, &plan)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some((command, rest)) if command == "sim" => {
            Ok(if sim::run(&root, rest)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some((command, [])) if command == "golden" => {
            Ok(if golden::rewrite(&root)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some((command, _)) if matches!(command.as_str(), "help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some((command, _)) => bail!("`{command}` is no command, or takes no such argument\n\n{USAGE}"),
        None => bail!("which chore?\n\n{USAGE}"),
    }
}

/// The folder of the workspace's `Cargo.toml`: two above this package's own.
fn workspace_root() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").context("start me with `cargo xtask`")?;
    let root = PathBuf::from(package).join("../..");
    root.canonicalize().with_context(|| format!("no folder {}", root.display()))
}
