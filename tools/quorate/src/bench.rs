//! `quorate bench …`: arguments and printing around the library of that name.

use crate::say::say;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use quorate_bench::{
    DeviceCounts, EndpointArgs, GetArgs, History, KeepArgs, Meter, OrchestrateArgs, PutArgs, Report,
    Verification, WatchArgs,
};
use quorate_card::Control;
use serde::Serialize;
use std::path::{Path, PathBuf};

const PUT_EXAMPLES: &str = "\
Examples:
  quorate bench put --clients 64                                64 clients, each waits for its answer
  quorate bench put --rate 7 --arrival poisson --duration 60s   7 a second, whatever the server does
  quorate bench put --device /dev/mmcblk0                       with bytes and flushes per put
  quorate bench put --keys 0 --record run.txt                   for `quorate bench verify run.txt` after a crash";

const GET_EXAMPLES: &str = "\
Examples:
  quorate bench get --fill --clients 64
  quorate bench get --rate 500 --duration 30s --serializable";

const WATCH_EXAMPLES: &str = "\
Examples:
  quorate bench watch --streams 10 --watches 100 --rate 1000 --total 10000
  quorate bench watch --streams 64 --clients 16 --total 5000";

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Write keys
    #[command(after_help = PUT_EXAMPLES)]
    Put(PutCommand),
    /// Read keys
    #[command(after_help = GET_EXAMPLES)]
    Get(GetArgs),
    /// Write keys while many watch them, and check what each watcher saw
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Keep leases alive, and check that none is lost
    Keep(KeepArgs),
    /// Ask what an orchestrator asks, and check that nobody would have lost leadership
    Orchestrate(OrchestrateArgs),
    /// Check after a crash that every acknowledged put of a record is there
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PutCommand {
    #[command(flatten)]
    put: PutArgs,
    /// Count bytes and flushes of the simulated card in that folder (`quorate card start --dir DIR`)
    #[arg(long, value_name = "DIR", conflicts_with = "device")]
    card: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// What `bench put --record` wrote
    record: PathBuf,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// The result as JSON
    #[arg(long)]
    json: bool,
}

/// Whether nothing failed.
pub(crate) async fn run(command: &BenchCommand) -> Result<bool> {
    match command {
        BenchCommand::Put(command) => {
            let meter = command.card.as_deref().map(card_meter).transpose()?;
            show(&quorate_bench::put(&command.put, meter).await?, command.put.load.json)
        }
        BenchCommand::Get(args) => show(&quorate_bench::get(args).await?, args.load.json),
        BenchCommand::Watch(args) => show(&quorate_bench::watch(args).await?, args.load.json),
        BenchCommand::Keep(args) => {
            let report = quorate_bench::keep(args).await?;
            show_as(args.json, &report, report.print())?;
            Ok(report.is_good())
        }
        BenchCommand::Orchestrate(args) => {
            let report = quorate_bench::orchestrate(args).await?;
            show_as(args.json, &report, report.print())?;
            Ok(report.is_good())
        }
        BenchCommand::Verify(args) => {
            let history = History::open(&args.record)?;
            let verification = quorate_bench::verify(&args.endpoint, &history).await?;
            show_as(args.json, &verification, print_verification(&verification))?;
            Ok(verification.is_good())
        }
    }
}

fn show(report: &Report, json: bool) -> Result<bool> {
    show_as(json, report, report.print())?;
    Ok(report.is_good())
}

fn show_as(json: bool, report: &impl Serialize, text: String) -> Result<()> {
    if json { say(serde_json::to_string_pretty(report)?) } else { say(text.trim_end()) }
}

/// Reads the counters of a simulated card by its control socket.
fn card_meter(folder: &Path) -> Result<Meter> {
    let control = Control::of(folder);
    control.stats().with_context(|| format!("no card runs in {}", folder.display()))?;
    Ok(Box::new(move || {
        let stats = control.stats()?;
        Ok(DeviceCounts { writes: stats.writes, bytes: stats.bytes_written, flushes: stats.flushes })
    }))
}

fn print_verification(verification: &Verification) -> String {
    let mut text = format!(
        "{} puts tried, {} acknowledged; {} keys found, {} of them by a put that was not acknowledged; {} replaced \
         puts still show at their revision, {} are compacted\n",
        verification.attempted,
        verification.acknowledged,
        verification.keys_found,
        verification.unacknowledged_found,
        verification.history_checked,
        verification.history_compacted
    );
    for problem in &verification.problems {
        text.push_str(&format!("WRONG: {problem}\n"));
    }
    let told = verification.problems.len();
    if verification.problem_count > told {
        text.push_str(&format!("… and {} more\n", verification.problem_count - told));
    }
    text.push_str(if verification.is_good() {
        "every acknowledged put is there, and no other is half there\n"
    } else {
        "the server did not keep its word\n"
    });
    text
}
