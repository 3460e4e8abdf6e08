//! `quorate doctor`: what is wrong with a board, in words, with the numbers it is judged by.

mod measure;
mod report;
mod words;

use crate::say::say;
use anyhow::Result;
use clap::{Args, Subcommand};
use measure::{Measured, NEEDED_BYTES, WRITE_BYTES_MAX};
use quorate_board::storage::{Facts, Finding, SampleFile};
use report::Report;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DISK_EXAMPLES: &str = "\
Writes at most 64 MiB to files of its own that have no name: nothing is left, however it ends.

Examples:
  quorate doctor disk /var/lib/quorate
  quorate doctor disk /mnt/card --seconds 120 --json

Exit codes: 0 the card is fine, or slow but safe; 1 it is not to be trusted as it is, or about to die;
2 the command line is wrong, or there is no such folder.";

#[derive(Debug, Subcommand)]
pub(crate) enum DoctorCommand {
    /// Measure a card as the log writes to it, and say what it will mean for a cluster
    #[command(after_help = DISK_EXAMPLES)]
    Disk(DiskArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DiskArgs {
    /// A folder on the card: the data folder of a node, or where it shall be
    #[arg(value_name = "DIR", value_parser = folder)]
    dir: PathBuf,
    /// About how long to measure; a fast card needs less, a stalled one more
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// The result as JSON
    #[arg(long)]
    json: bool,
}

fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err("it is no folder".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the card may carry a node.
pub(crate) fn run(command: &DoctorCommand) -> Result<bool> {
    let DoctorCommand::Disk(args) = command;
    let facts = Facts::of(&args.dir)?;
    if !args.json {
        say(report::heading(&args.dir, &facts))?;
        say(format_args!(
            "Measures for about {} s and writes at most {} MiB, to files of its own of which nothing is left.\n",
            args.seconds,
            WRITE_BYTES_MAX >> 20
        ))?;
    }
    let report = examine(&args.dir, facts, Duration::from_secs(args.seconds));
    if args.json {
        say(serde_json::to_string_pretty(&report)?)?;
    } else {
        say(report.print().trim_end())?;
    }
    Ok(report.is_trusted)
}

/// Measures, unless it is plain beforehand that nothing can be written.
fn examine(dir: &Path, facts: Facts, time: Duration) -> Report {
    let mut findings = facts.findings(NEEDED_BYTES);
    let is_hopeless = findings.iter().any(|finding| {
        matches!(finding, Finding::ReadOnly | Finding::NoSpace { .. } | Finding::NoFiles { free: 0 })
    });
    let mut measured = Measured::default();
    if !is_hopeless {
        match files(dir) {
            Ok((log, bulk)) => measured = measure::measure(log, bulk, &facts, time),
            Err(error) => findings.push(Finding::NotWritable { reason: error.to_string() }),
        }
    }
    findings.extend(measured.findings(&facts));
    Report::new(dir, &facts, findings, &measured)
}

/// The file to append to and the one for bandwidth and neighbour.
fn files(dir: &Path) -> io::Result<(SampleFile, SampleFile)> {
    let seed = || getrandom::u64().map_err(|error| io::Error::other(error.to_string()));
    Ok((SampleFile::create(dir, seed()?)?, SampleFile::create(dir, seed()?)?))
}
