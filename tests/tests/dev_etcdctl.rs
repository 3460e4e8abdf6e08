//! The first hour of a new user: `quorate dev --nodes 3`, and `etcdctl` with what it prints to be exported.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::program::{Program, build};
use quorate_tests::server::free_port_run;
use quorate_tests::skip;
use quorate_tests::suites::etcdctl::{Etcdctl, Running};
use quorate_tests::trial::turn;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The cluster; it ends, with all its nodes, when this is dropped.
struct Dev {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    nodes: Vec<DevNode>,
    /// As the user is told to export it.
    endpoints: String,
}

/// A row of its table.
struct DevNode {
    name: String,
    process: Pid,
    endpoint: String,
    folder: PathBuf,
}

impl Dev {
    fn start() -> Dev {
        let port = free_port_run(&[0, 1, 10, 11, 20, 21]).to_string();
        let mut command = Command::new(build("quorate", "quorate"));
        command.args(["dev", "--nodes", "3", "--base-port", &port, "--quorated"]);
        command.arg(Program::quorated().path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut dev = Dev { child, lines, nodes: Vec::new(), endpoints: String::new() };
        while dev.read_line() {}
        assert_eq!(dev.nodes.len(), 3);
        dev
    }

    /// Takes what it tells; false once it has told everything.
    fn read_line(&mut self) -> bool {
        let line = self.lines.next().expect("it tells how to end it").unwrap();
        println!("    {line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [name, process, endpoint, folder] = words[..]
            && let Some(process) = process.parse().ok().and_then(Pid::from_raw)
        {
            let (name, endpoint) = (name.to_owned(), endpoint.to_owned());
            self.nodes.push(DevNode { name, process, endpoint, folder: folder.into() });
        }
        if let Some(endpoints) = line.strip_prefix("export ETCDCTL_ENDPOINTS=") {
            self.endpoints = endpoints.to_owned();
        }
        line != "Ctrl-C stops all."
    }

    /// As a person ends it.
    fn stop(&mut self) -> bool {
        // It may have ended by itself.
        kill_process(Pid::from_child(&self.child), Signal::INT).ok();
        for line in self.lines.by_ref().map_while(Result::ok) {
            println!("    {line}");
        }
        self.child.wait().unwrap().success()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.stop();
        }
    }
}

/// A member as `endpoint status` tells of it.
struct Seen {
    endpoint: String,
    id: String,
    is_leader: bool,
    term: u64,
}

/// All members, asked by their own client URLs.
fn seen(tool: &Etcdctl) -> Vec<Seen> {
    let json = tool.ok(&["endpoint", "status", "--cluster", "-w", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let one = |entry: &serde_json::Value| {
        let status = &entry["Status"];
        let id = &status["header"]["member_id"];
        Seen {
            endpoint: entry["Endpoint"].as_str().unwrap().to_owned(),
            id: format!("{:x}", id.as_u64().unwrap()),
            is_leader: status["leader"] == *id,
            term: status["raftTerm"].as_u64().unwrap(),
        }
    };
    json.as_array().unwrap().iter().map(one).collect()
}

fn leader_of(seen: &[Seen]) -> &Seen {
    let leaders: Vec<&Seen> = seen.iter().filter(|one| one.is_leader).collect();
    assert_eq!(leaders.len(), 1, "each says itself or nobody");
    leaders[0]
}

fn told(watch: &mut Running) -> [String; 3] {
    [watch.line(), watch.line(), watch.line()]
}

fn put(key: &str, value: &str) -> [String; 3] {
    ["PUT", key, value].map(str::to_owned)
}

fn keys(tool: &Etcdctl) {
    assert_eq!(tool.ok(&["put", "greeting", "hello"]), "OK");
    assert_eq!(tool.ok(&["get", "greeting"]), "greeting\nhello");
    let txn = b"value(\"greeting\") = \"hello\"\n\nput greeting again\n\nget greeting\n\n";
    let said = tool.run(txn, &["txn"]);
    assert_eq!((said.words.as_str(), said.code), ("SUCCESS\n\nOK", 0));
    assert_eq!(tool.ok(&["get", "greeting", "--print-value-only"]), "again");
}

fn members(tool: &Etcdctl, dev: &Dev) {
    let table = tool.ok(&["member", "list", "-w", "table"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows[0], ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"], "{table}");
    assert_eq!(rows.len(), 4, "{table}");
    for node in &dev.nodes {
        let url = format!("http://{}", node.endpoint);
        let is_row = |row: &&Vec<&str>| row[2] == node.name && row[4] == url;
        let row = rows.iter().find(is_row).unwrap_or_else(|| panic!("no {} in\n{table}", node.name));
        assert_eq!((row[1], row[5]), ("started", "false"), "{table}");
    }
    let health = tool.ok(&["endpoint", "health", "--cluster"]);
    assert_eq!(health.matches("is healthy: successfully committed proposal").count(), 3, "{health}");
}

#[test]
fn three_nodes_on_one_machine_and_etcdctl() {
    let _turn = turn();
    if Etcdctl::new("").is_none() {
        skip!("no etcdctl (Debian: etcd-client)");
    }
    let mut dev = Dev::start();
    let tool = |endpoints: &str| Etcdctl::new(endpoints).unwrap();
    let all = tool(&dev.endpoints);
    keys(&all);
    members(&all, &dev);

    // A watch through a member that will neither lead nor fail, and a lease kept alive through all.
    let before = seen(&all);
    assert_eq!(before.len(), 3);
    let old = leader_of(&before);
    assert!(before.iter().all(|one| one.term == old.term));
    let [next, still] = [0, 1].map(|at| before.iter().filter(|one| !one.is_leader).nth(at).unwrap());
    let mut watch = tool(&still.endpoint).spawn(&["watch", "w", "--prefix"]);
    let granted = all.ok(&["lease", "grant", "6"]);
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    let lease_flag = format!("--lease={lease}");
    assert_eq!(all.ok(&["put", &lease_flag, "kept", "here"]), "OK");
    let mut keeper = all.spawn(&["lease", "keep-alive", &lease]);
    let kept = format!("lease {lease} keepalived with TTL(6)");
    assert_eq!(keeper.line(), kept);
    // The watch may begin with any of these; from then on none may be missing.
    let mut number = 0;
    let mut put_next = || {
        number += 1;
        assert_eq!(all.ok(&["put", "w", &number.to_string()]), "OK");
        put("w", &number.to_string())
    };
    put_next();
    let first = put_next();
    let mut last = told(&mut watch);
    while last != first {
        last = told(&mut watch);
    }

    let moved = all.ok(&["move-leader", &next.id]);
    assert_eq!(moved, format!("Leadership transferred from {} to {}", old.id, next.id));
    assert_eq!(leader_of(&seen(&all)).id, next.id);
    let expected = put_next();
    assert_eq!(told(&mut watch), expected);

    // As it is told to try: the leader is killed.
    let place = |seen: &Seen| dev.nodes.iter().find(|node| seen.endpoint.ends_with(&node.endpoint)).unwrap();
    kill_process(place(next).process, Signal::KILL).unwrap();
    let living = tool(&format!("{},{}", place(old).endpoint, place(still).endpoint));
    for _ in 0..2 {
        let expected = put_next();
        assert_eq!(told(&mut watch), expected);
    }
    for _ in 0..2 {
        assert_eq!(keeper.line(), kept, "a lease that is kept outlives its leader");
    }
    assert_eq!(all.ok(&["get", "kept", "--print-value-only"]), "here");

    // Who would add a member the old way is told the new one; who is dead can be let go.
    let add = living.run(b"", &["member", "add", "n4", "--peer-urls=http://127.0.0.1:1"]);
    assert!(add.code == 1 && add.words.contains("run `quorate --data-dir DIR invite`"), "{add:?}");
    let removed = living.ok(&["member", "remove", &next.id]);
    assert!(removed.starts_with(&format!("Member {:>16} removed from cluster ", next.id)), "{removed}");
    assert_eq!(living.ok(&["member", "list"]).lines().count(), 2);
    let file = place(still).folder.with_file_name("saved");
    let saved = tool(&place(still).endpoint).run(b"", &["snapshot", "save", file.to_str().unwrap()]);
    assert!(saved.code == 0 && saved.words.contains("Snapshot saved at"), "{saved:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().len() % 512, 32, "a body of whole sectors and its SHA-256");

    drop((watch, keeper));
    assert!(dev.stop(), "it ends content");
    for node in &dev.nodes {
        assert!(test_kill_process(node.process).is_err(), "{} still runs", node.name);
        assert!(!node.folder.exists(), "{} is left", node.folder.display());
    }
}
