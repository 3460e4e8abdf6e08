//! Suites of published clients against a node: what passes, and the short list of what cannot pass yet.

use quorate_tests::program::Program;
use quorate_tests::server::{Options, Server};
use quorate_tests::skip;
use quorate_tests::suites::{Exclusion, Expected, Report, aetcd, etcd_client, is_there};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

const fn excluded(test: &'static str, reason: &'static str) -> Exclusion {
    Exclusion { test, reason }
}

const AUTH: &str = "users and roles are not served yet";
const LOCK: &str = "the service v3lock is not served yet; `etcdctl lock` does without it";
const ELECTION: &str = "the service v3election is not served yet; `etcdctl elect` does without it";
const SNAPSHOT: &str = "our snapshot is no bbolt file, which `etcdctl snapshot status` opens";

const ETCD_CLIENT: Expected<'_> = Expected {
    passed_count: 23,
    // Two need etcd 3.7, one needs three nodes: the suite's own words.
    ignored: &["test_cluster", "test_get_stream", "test_get_stream_chunked"],
    excluded: &[
        excluded("test_auth", AUTH),
        excluded("test_auth_refresh_token", AUTH),
        excluded("test_auth_refresh_token_once_for_concurrent_calls", AUTH),
        excluded("test_role", AUTH),
        excluded("test_user", AUTH),
        excluded("test_lock", LOCK),
        excluded("test_election", ELECTION),
    ],
};

const AETCD: Expected<'_> = Expected {
    passed_count: 59,
    // Both need three nodes: `--with-cluster` in the suite's words.
    ignored: &[
        "tests/integration/test_cluster.py::test_member_list",
        "tests/integration/test_kv.py::test_get_key_with_serializable",
    ],
    excluded: &[
        excluded("tests/integration/test_auth.py::test_auth", AUTH),
        excluded("tests/integration/test_maintenance.py::test_snapshot", SNAPSHOT),
    ],
};

fn folder(suite: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("suites").join(suite)
}

fn node() -> Options {
    Options::new(Program::quorated()).in_memory()
}

#[test]
fn the_suite_of_crate_etcd_client_passes() {
    for exclusion in ETCD_CLIENT.excluded {
        eprintln!("excluded: {}: {}", exclusion.test, exclusion.reason);
    }
    let folder = folder("etcd-client");
    if !etcd_client::has_protoc(&folder) {
        skip!("no protoc with its standard files (Debian: protobuf-compiler, libprotobuf-dev)");
    }
    let suite = match etcd_client::Suite::prepare(&folder) {
        Ok(suite) => suite,
        Err(words) => skip!("crate etcd-client cannot be fetched and built: {words}"),
    };
    if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, etcd_client::PORT)) {
        skip!("the suite dials port {} only, and it is taken: {error}", etcd_client::PORT);
    }
    let address = format!("127.0.0.1:{}", etcd_client::PORT);
    let _node = Server::start(node().flags(["--listen-client", &address]));
    let main = suite.run_main(ETCD_CLIENT.excluded);
    let excluded = suite.run_excluded(ETCD_CLIENT.excluded);
    ETCD_CLIENT.check(&main, &excluded);
}

#[test]
fn the_suite_of_aetcd_passes() {
    for exclusion in AETCD.excluded {
        eprintln!("excluded: {}: {}", exclusion.test, exclusion.reason);
    }
    if !is_there("etcdctl", "version") {
        skip!("no etcdctl, which the suite calls (Debian: etcd-client)");
    }
    let suite = match aetcd::Suite::prepare(&folder("aetcd")) {
        Ok(suite) => suite,
        Err(words) => skip!("aetcd cannot be fetched and installed: {words}"),
    };
    let files = suite.files().expect("the sources are there");
    // Most of its time is sleeping, and it wipes the store: a node for each file, all at once.
    let mut main = Report::default();
    std::thread::scope(|scope| {
        let suite = &suite;
        let runs: Vec<_> = files
            .iter()
            .map(|file| {
                scope.spawn(move || {
                    let node = Server::start(node());
                    suite.run_file(file, &node.endpoint(), AETCD.excluded)
                })
            })
            .collect();
        for run in runs {
            main.merge(run.join().expect("a run reports"));
        }
    });
    let node = Server::start(node());
    let excluded = suite.run_excluded(&node.endpoint(), AETCD.excluded);
    AETCD.check(&main, &excluded);
}
