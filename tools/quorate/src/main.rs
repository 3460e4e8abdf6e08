//! `quorate`: the tool beside the node. What etcdctl does well (get, put, del, watch, leases, members) it
//! leaves to etcdctl; it shows a node at a glance, loads and verifies any etcd v3 server, keeps snapshots,
//! and simulates slow cards.

mod bench;
mod card;
mod metrics;
mod snapshot;
mod status;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Servers are found by --endpoints, then ETCDCTL_ENDPOINTS, then 127.0.0.1:2379. For keys, leases and members
use etcdctl: it speaks to quorated as it does to etcd.

Exit codes: 0 all is well, 1 something failed or a check did not pass, 2 the command line is wrong.";

#[derive(Debug, Parser)]
#[command(name = "quorate", version, about = "The tool beside quorated, a quorum store for slow cards.", after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A node at a glance: data, card, memory, alarms
    Status(status::StatusArgs),
    /// Load any etcd v3 server and measure it
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Save a node's whole state to a file, look at it, restore it
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Simulate a slow SD card: a mounted ext4 on it, stalls, power cuts, counters (Linux, root)
    Card(card::CardArgs),
    /// The release of this tool
    Version,
}

fn main() -> ExitCode {
    // clap itself answers a wrong command line, with exit code 2.
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quorate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was well.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Status(args) => runtime()?.block_on(status::run(&args)),
        Command::Bench(command) => runtime()?.block_on(bench::run(&command)),
        Command::Snapshot(command) => runtime()?.block_on(snapshot::run(&command)),
        Command::Card(args) => card::run(args).map(|()| true),
        Command::Version => {
            println!("quorate {}", env!("CARGO_PKG_VERSION"));
            Ok(true)
        }
    }
}

/// Two workers at most: a load must leave the machine to the server it measures.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("the threads of this tool could not be started")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lines_people_type_are_understood() {
        for line in [
            "status --endpoints a:1,b:2 --json",
            "bench put --clients 64 --total 1000 --value-size 256 --endpoints http://127.0.0.1:2379",
            "bench put --rate 7 --arrival poisson --duration 60s --device /dev/loop0",
            "bench put --record /r --keys 0",
            "bench get --clients 8 --fill --serializable",
            "bench watch --streams 10 --watches 100 --rate 1000 --total 10000",
            "bench verify /r",
            "snapshot save backup.db",
            "snapshot status backup.db --json",
            "snapshot restore backup.db --data-dir d --name n1",
            "version",
        ] {
            let words = ["quorate"].into_iter().chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn mistakes_end_with_code_two() {
        for line in
            ["bench put --clients 0", "bench put --device a --card b", "snapshot restore f", "bench", "stat"]
        {
            let words = ["quorate"].into_iter().chain(line.split(' '));
            assert_eq!(Arguments::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
