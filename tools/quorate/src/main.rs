//! `quorate`: the tool beside the node. What etcdctl does well (get, put, del, watch, leases, members) it
//! leaves to etcdctl; it shows a node at a glance, invites and removes members, starts a local cluster, loads
//! and verifies any etcd v3 server, keeps snapshots, examines cards, and simulates slow ones.

mod bench;
mod card;
mod dev;
mod doctor;
mod invite;
mod member;
mod members;
mod metrics;
mod reach;
mod say;
mod snapshot;
mod status;
mod wear;

use anyhow::{Context, Result};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use reach::Reach;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Servers are found by --endpoints, then ETCDCTL_ENDPOINTS, then 127.0.0.1:2379. On a node's own board, status,
invite and member go through the socket in its folder if --data-dir (or QUORATE_DATA_DIR) names it. For keys
and leases use etcdctl: it speaks to quorated as it does to etcd.

Exit codes: 0 all is well, 1 something failed or a check did not pass, 2 the command line is wrong.";

#[derive(Debug, Parser)]
#[command(name = "quorate", version, about = "The tool beside quorated, a quorum store for slow cards.", after_help = AFTER_HELP)]
struct Arguments {
    /// Data folder of a node on this board: go through its local socket
    #[arg(long, global = true, env = "QUORATE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A node at a glance: role, members, data, card, memory, alarms
    Status(status::StatusArgs),
    /// Make a one-time token with which a new node may join
    Invite(invite::InviteArgs),
    /// List, remove and promote members, choose the leader
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Start a cluster of nodes on this machine, for trying out
    Dev(dev::DevArgs),
    /// Load any etcd v3 server and measure it
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Save a node's whole state to a file, look at it, restore it
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Say what is wrong with a board, before it hurts
    #[command(subcommand)]
    Doctor(doctor::DoctorCommand),
    /// Simulate a slow SD card: a mounted ext4 on it, stalls, power cuts, counters (Linux, root)
    Card(card::CardArgs),
    /// The release of this tool
    Version,
}

fn main() -> ExitCode {
    // clap itself answers a wrong command line, with exit code 2.
    let (command, reach) = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match run(command, &reach) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quorate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(line: impl IntoIterator<Item = OsString>) -> Result<(Command, Reach), clap::Error> {
    let matches = Arguments::command().try_get_matches_from(line)?;
    let arguments = Arguments::from_arg_matches(&matches)?;
    let reach = Reach::from_matches(arguments.data_dir, &matches)?;
    Ok((arguments.command, reach))
}

/// Whether all was well.
fn run(command: Command, reach: &Reach) -> Result<bool> {
    match command {
        Command::Status(args) => runtime()?.block_on(status::run(&args, reach)),
        Command::Invite(args) => runtime()?.block_on(invite::run(&args, reach)),
        Command::Member(command) => runtime()?.block_on(member::run(&command, reach)),
        Command::Dev(args) => runtime()?.block_on(dev::run(&args, reach)),
        Command::Bench(command) => runtime()?.block_on(bench::run(&command)),
        Command::Snapshot(command) => runtime()?.block_on(snapshot::run(&command)),
        Command::Doctor(command) => doctor::run(&command),
        Command::Card(args) => card::run(args).map(|()| true),
        Command::Version => say::say(format_args!("quorate {}", env!("CARGO_PKG_VERSION"))).map(|()| true),
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

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        ["quorate"].into_iter().chain(line.split(' ')).map(OsString::from)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lines_people_type_are_understood() {
        for line in [
            "status --endpoints a:1,b:2 --json",
            "--data-dir d status",
            "--data-dir d invite --ttl 10m --format token",
            "invite --endpoints a:1",
            "invite list --data-dir d --json",
            "invite revoke 3f2a",
            "member list --linearizable --endpoints a:1 --json",
            "member remove n1 --data-dir d",
            "member promote 8e9e05c52164694d",
            "member transfer n2 --command-timeout 3s",
            "dev --nodes 3",
            "dev --data-dir d --base-port 12379 --nodes 5",
            "bench put --clients 64 --total 1000 --value-size 256 --endpoints http://127.0.0.1:2379",
            "bench put --rate 7 --arrival poisson --duration 60s --device /dev/loop0",
            "bench put --record /r --keys 0",
            "bench get --clients 8 --fill --serializable",
            "bench watch --streams 10 --watches 100 --rate 1000 --total 10000",
            "bench keep --leases 50 --ttl 6 --duration 30s --endpoints a:1,b:2 --json",
            "bench orchestrate --duration 30m --electors 20",
            "bench verify /r",
            "snapshot save backup.db",
            "snapshot status backup.db --json",
            "snapshot restore backup.db --data-dir d --name n1",
            "doctor disk .",
            "doctor disk . --seconds 5 --json",
            "version",
        ] {
            if let Err(error) = parse(words(line)) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn mistakes_end_with_code_two() {
        for line in [
            "bench put --clients 0",
            "bench put --device a --card b",
            "snapshot restore f",
            "bench",
            "stat",
            "--data-dir d member list --endpoints a:1",
            "member remove",
            "invite --format poem",
            "invite revoke",
            "dev --nodes 0",
            "dev --nodes 17",
            "doctor",
            "doctor disk",
            "doctor disk no/such/folder",
            "doctor disk Cargo.toml",
            "doctor disk . --seconds 0",
            "doctor disk . --seconds 601",
        ] {
            let Err(error) = parse(words(line)) else { panic!("{line}") };
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_way_to_the_node_is_what_the_line_says() {
        let way = |line| {
            parse(words(line)).map(|(_, reach)| reach.socket_of).unwrap_or_else(|error| panic!("{error}"))
        };
        assert_eq!(way("--data-dir d member list"), Some("d".into()));
        assert_eq!(way("member list --data-dir d"), Some("d".into()));
        assert_eq!(way("member list --endpoints a:1"), None);
    }
}
