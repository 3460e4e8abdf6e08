//! `etcdctl` against a node: the commands people type, what they print, and how they end. The texts are those
//! seen with etcd 3.5.16 and etcdctl 3.4.23 and 3.5.16; what we answer otherwise says so.

use quorate_tests::program::Program;
use quorate_tests::server::{Options, Server};
use quorate_tests::skip;
use quorate_tests::suites::etcdctl::{Etcdctl, Said};

const COMPACTED: &str = "Error: etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "Error: etcdserver: mvcc: required revision is a future revision";
const NO_LEASE: &str = "Error: etcdserver: requested lease not found";
const NO_KEY: &str = "Error: etcdserver: key is not provided";
const NO_SPACE: &str = "Error: etcdserver: mvcc: database space exceeded";

fn node(flags: &[&str]) -> Server {
    Server::start(Options::new(Program::quorated()).in_memory().flags(flags.iter().copied()))
}

/// A node and the tool; the test ends here where there is no tool.
macro_rules! node_and_tool {
    ($($flag:expr),*) => {{
        let node = node(&[$($flag),*]);
        let Some(tool) = Etcdctl::new(&node.address().to_string()) else { skip!("no etcdctl (Debian: etcd-client)") };
        (node, tool)
    }};
}

/// Runs commands, one a line and split at spaces, one after the other, and compares what they print.
fn type_all(tool: &Etcdctl, table: &[(&str, i32, &str)]) {
    for (line, code, words) in table {
        let (stdin, line) = line.split_once('|').map_or(("", *line), |(stdin, line)| (stdin, line.trim()));
        let args: Vec<&str> =
            line.split_whitespace().map(|arg| if arg == "\"\"" { "" } else { arg }).collect();
        let said = tool.run(stdin.as_bytes(), &args);
        assert_eq!(said, Said { words: (*words).to_owned(), code: *code }, "etcdctl {line}");
    }
}

#[test]
fn keys_are_put_read_and_deleted() {
    let (_node, tool) = node_and_tool!();
    type_all(
        &tool,
        &[
            ("put a 1", 0, "OK"),
            ("put a 2 --prev-kv", 0, "OK\na\n1"),
            ("put a --ignore-value", 0, "OK"),
            ("put zz --ignore-value", 1, "Error: etcdserver: key not found"),
            ("put a 3 --lease=1234", 1, NO_LEASE),
            ("put \"\" 3", 1, NO_KEY),
            ("put b 1", 0, "OK"),
            ("put c 3", 0, "OK"),
            ("put d 2", 0, "OK"),
            ("get \"\"", 1, NO_KEY),
            ("get a", 0, "a\n2"),
            ("get a --hex", 0, "\\x61\n\\x32"),
            ("get a --print-value-only", 0, "2"),
            ("get a d --consistency=s", 0, "a\n2\nb\n1\nc\n3"),
            ("get --prefix \"\" --sort-by=VALUE --order=DESCEND", 0, "c\n3\na\n2\nd\n2\nb\n1"),
            ("get --prefix \"\" --sort-by=CREATE", 0, "a\n2\nb\n1\nc\n3\nd\n2"),
            ("get --prefix \"\" --sort-by=MODIFY --order=DESCEND --limit 2", 0, "d\n2\nc\n3"),
            ("get --prefix \"\" --sort-by=VERSION --keys-only", 0, "b\n\nc\n\nd\n\na"),
            ("get --from-key b --keys-only", 0, "b\n\nc\n\nd"),
            ("get a --rev=2", 0, "a\n1"),
            ("get a --rev=99", 1, FUTURE),
            ("get a --rev=-1", 0, "a\n2"),
            ("del nothing", 0, "0"),
            ("del d --prefix", 0, "1"),
            ("del --from-key x", 0, "0"),
            ("compaction 4", 0, "compacted revision 4"),
            ("compaction 4", 1, COMPACTED),
            ("compaction 999", 1, FUTURE),
            ("compaction 5 --physical", 0, "compacted revision 5"),
            ("get a --rev=3", 1, COMPACTED),
            ("get a --rev=5", 0, "a\n2"),
        ],
    );
    let json = tool.ok(&["get", "--prefix", "", "--limit", "1", "-w", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let kv = serde_json::json!({
        "key": "YQ==", "create_revision": 2, "mod_revision": 4, "version": 3, "value": "Mg==",
    });
    assert_eq!((&json["kvs"], &json["more"]), (&serde_json::json!([kv]), &serde_json::json!(true)));
    assert_eq!((&json["count"], &json["header"]["revision"]), (&3.into(), &8.into()));
}

#[test]
fn transactions_take_one_branch() {
    let (_node, tool) = node_and_tool!();
    type_all(
        &tool,
        &[
            ("put a 2", 0, "OK"),
            ("put b 1", 0, "OK"),
            (
                "mod(\"a\") > \"0\"\nval(\"a\") = \"2\"\n\nput a 5\nget a\ndel zz\n\nget b\n\n| txn",
                0,
                "SUCCESS\n\nOK\n\na\n5\n\n0",
            ),
            ("create(\"a\") = \"0\"\n\nput a 9\n\nget a\nput q 1\n\n| txn", 0, "FAILURE\n\na\n5\n\nOK"),
            ("ver(\"q\") != \"1\"\n\n\nget q\n\n| txn", 0, "FAILURE\n\nq\n1"),
            ("create(\"q\") < \"9\"\n\nput q 2\n\n\n| txn", 0, "SUCCESS\n\nOK"),
            ("\nput a 1\nput a 2\n\n\n| txn", 1, "Error: etcdserver: duplicate key given in txn request"),
        ],
    );
}

#[test]
fn watches_tell_the_past_and_what_comes() {
    let (_node, tool) = node_and_tool!();
    for value in ["1", "2", "3"] {
        assert_eq!(tool.ok(&["put", "k", value]), "OK");
    }
    assert_eq!(tool.ok(&["compaction", "3"]), "compacted revision 3");
    let mut watch = tool.spawn(&["watch", "k", "--rev=3", "--prev-kv"]);
    // What was there before the first is compacted.
    for line in ["PUT", "k", "2", "PUT", "k", "2", "k", "3"] {
        assert_eq!(watch.line(), line);
    }
    assert_eq!(tool.ok(&["del", "k"]), "1");
    for line in ["DELETE", "k", "3", "k", ""] {
        assert_eq!(watch.line(), line);
    }
    assert_eq!(tool.ok(&["put", "k2", "4"]), "OK");
    let mut prefix = tool.spawn(&["watch", "--prefix", "k", "--rev=5"]);
    for line in ["DELETE", "k", "", "PUT", "k2", "4"] {
        assert_eq!(prefix.line(), line);
    }
    let lost = tool.run(b"", &["watch", "k", "--rev=2"]);
    assert_eq!(lost.code, 5);
    assert!(
        lost.words.contains("watch was canceled (etcdserver: mvcc: required revision has been compacted)"),
        "{lost:?}"
    );
}

#[test]
fn leases_take_their_keys_along() {
    let (_node, tool) = node_and_tool!();
    let granted = tool.ok(&["lease", "grant", "100"]);
    let id = granted.split(' ').nth(1).unwrap();
    assert_eq!(granted, format!("lease {id} granted with TTL(100s)"));
    let lease = format!("--lease={id}");
    assert_eq!(tool.ok(&["put", "l1", "v", &lease]), "OK");
    assert_eq!(tool.ok(&["put", "l2", "v", &lease]), "OK");
    let left = tool.ok(&["lease", "timetolive", id, "--keys"]);
    assert!(left.starts_with(&format!("lease {id} granted with TTL(100s), remaining(")), "{left}");
    assert!(left.ends_with("attached keys([l1 l2])"), "{left}");
    assert_eq!(tool.ok(&["lease", "list"]), format!("found 1 leases\n{id}"));
    let kept = tool.ok(&["lease", "keep-alive", "--once", id]);
    assert_eq!(kept, format!("lease {id} keepalived with TTL(100)"));
    assert_eq!(tool.ok(&["lease", "revoke", id]), format!("lease {id} revoked"));
    assert_eq!(tool.ok(&["get", "--prefix", "l"]), "");
    type_all(
        &tool,
        &[
            ("lease grant 9000000001", 1, "Error: failed to grant lease (etcdserver: too large lease TTL)"),
            ("lease revoke 77", 1, "Error: failed to revoke lease (etcdserver: requested lease not found)"),
            ("lease timetolive 77", 0, "lease 0000000000000077 already expired"),
            ("lease keep-alive 77", 0, "lease 0000000000000077 expired or revoked."),
        ],
    );
    // Too short for any clock: etcd's least is two seconds.
    assert!(tool.ok(&["lease", "grant", "1"]).ends_with("granted with TTL(2s)"));
}

/// Repeats a command until its words are as wished.
fn until(tool: &Etcdctl, args: &[&str], is_wished: impl Fn(&str) -> bool) -> String {
    let mut words = String::new();
    for _ in 0..2_000 {
        words = tool.ok(args);
        if is_wished(&words) {
            return words;
        }
    }
    panic!("{args:?} never came to what was wished, at last: {words}");
}

#[test]
fn a_lock_has_one_holder() {
    let (_node, tool) = node_and_tool!();
    assert_eq!(tool.ok(&["lock", "l", "echo", "held"]), "held");
    assert_eq!(tool.run(b"", &["lock", "l", "false"]).code, 1);
    let mut first = tool.spawn(&["lock", "l"]);
    let holder = first.line();
    assert!(holder.starts_with("l/"), "{holder}");
    let mut second = tool.spawn(&["lock", "l", "echo", "mine"]);
    // The second waits in line: its key is there, and the first still has the lock.
    let keys = ["get", "--prefix", "l/", "--keys-only", "--sort-by=CREATE"];
    let waiting = until(&tool, &keys, |keys| keys.matches("l/").count() == 2);
    assert!(waiting.starts_with(&holder), "{waiting}");
    first.interrupt();
    assert_eq!(second.line(), "mine");
    drop(second);
    assert_eq!(tool.ok(&["get", "--prefix", "l/", "--keys-only"]), "");
}

#[test]
fn an_election_has_one_leader() {
    let (_node, tool) = node_and_tool!();
    let mut first = tool.spawn(&["elect", "e", "one"]);
    let leader = first.line();
    assert!(leader.starts_with("e/"), "{leader}");
    assert_eq!(first.line(), "one");
    let mut observer = tool.spawn(&["elect", "-l", "e"]);
    assert_eq!((observer.line(), observer.line()), (leader, "one".to_owned()));
    let mut second = tool.spawn(&["elect", "e", "two"]);
    first.interrupt();
    let next = second.line();
    assert!(next.starts_with("e/"), "{next}");
    assert_eq!(second.line(), "two");
    assert_eq!((observer.line(), observer.line()), (next, "two".to_owned()));
}

/// Given a URL, etcdctl 3.4 sends that as `:authority` in calls to one named member.
#[test]
fn an_endpoint_may_be_a_url() {
    let node = node(&[]);
    let url = format!("http://{}", node.address());
    let Some(tool) = Etcdctl::new(&url) else { skip!("no etcdctl (Debian: etcd-client)") };
    assert_eq!(tool.ok(&["put", "a", "1"]), "OK");
    let status = tool.ok(&["endpoint", "status"]);
    assert!(status.starts_with(&format!("{url}, ")), "{status}");
    let hash = tool.ok(&["endpoint", "hashkv"]);
    assert!(hash.starts_with(&format!("{url}, ")), "{hash}");
    assert_eq!(tool.ok(&["endpoint", "status", "--cluster"]), status);
    assert_eq!(tool.ok(&["endpoint", "hashkv", "--cluster"]), hash);
    assert_eq!(tool.ok(&["defrag"]), format!("Finished defragmenting etcd member[{url}]"));
    let members = tool.ok(&["member", "list"]);
    let (id, _) = members.split_once(", ").unwrap();
    assert_eq!(tool.ok(&["move-leader", id]), format!("Leadership transferred from {id} to {id}"));
}

#[test]
fn a_node_is_looked_after() {
    let (node, tool) = node_and_tool!();
    let endpoint = node.address().to_string();
    assert_eq!(tool.ok(&["put", "a", "1"]), "OK");
    let status = tool.ok(&["endpoint", "status", "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let status = &status[0]["Status"];
    assert_eq!(status["leader"], status["header"]["member_id"]);
    assert_eq!(status["header"]["revision"], 2);
    assert!(status["dbSize"].as_i64().unwrap() > 0 && status["raftTerm"].as_i64().unwrap() > 0);
    assert!(status["version"].as_str().unwrap().starts_with("3.5."));
    for cluster in [&["endpoint", "health"][..], &["endpoint", "health", "--cluster"]] {
        let health = tool.run(b"", cluster);
        assert!(health.words.contains("is healthy: successfully committed proposal"), "{health:?}");
        assert_eq!(health.code, 0);
    }
    let hash = tool.ok(&["endpoint", "hashkv"]);
    assert_eq!(hash, tool.ok(&["endpoint", "hashkv"]));
    assert_eq!(tool.ok(&["put", "a", "1"]), "OK");
    assert_ne!(hash, tool.ok(&["endpoint", "hashkv"]));
    assert_eq!(tool.ok(&["alarm", "list"]), "");
    assert!(tool.ok(&["defrag"]).starts_with("Finished defragmenting etcd member["));
    let file = node.data_dir().with_file_name("saved");
    let saved = tool.run(b"", &["snapshot", "save", file.to_str().unwrap()]);
    assert_eq!((saved.code, saved.words.contains("Snapshot saved at")), (0, true), "{saved:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().len() % 512, 32, "a body of whole sectors and its SHA-256");
    let members = tool.ok(&["member", "list"]);
    let (id, rest) = members.split_once(", ").unwrap();
    assert!(
        rest.starts_with("started, n1, ") && rest.ends_with(&format!("http://{endpoint}, false")),
        "{rest}"
    );
    assert_eq!(tool.ok(&["move-leader", id]), format!("Leadership transferred from {id} to {id}"));
    type_all(
        &tool,
        &[
            ("move-leader abc", 1, "Error: etcdserver: bad leader transferee"),
            ("member remove abc", 1, "Error: etcdserver: member not found"),
            ("member promote abc", 1, "Error: etcdserver: member not found"),
        ],
    );
    // What a node by itself does not do is said, not left to a time-out. etcd does both.
    let refused: [&[&str]; 2] =
        [&["member", "add", "n2", "--peer-urls=http://127.0.0.1:1"], &["user", "list"]];
    for args in refused {
        let said = tool.run(b"", args);
        assert_eq!(said.code, 1);
        assert!(said.words.contains("code = Unimplemented desc = quorate: "), "{said:?}");
    }
}

#[test]
fn a_full_store_says_so_and_can_be_emptied() {
    let (_node, tool) = node_and_tool!("--quota-backend-bytes", "4194304");
    let too_large = tool.run(&vec![b'x'; 1_600_000], &["put", "big"]);
    assert_eq!(too_large.words, "Error: etcdserver: request is too large");
    let megabyte = vec![b'x'; 1_000_000];
    let mut said = Said { words: "OK".to_owned(), code: 0 };
    let mut keys = 0;
    while said.code == 0 {
        assert_eq!(said.words, "OK");
        keys += 1;
        assert!(keys < 20, "the quota is 4 MiB");
        said = tool.run(&megabyte, &["put", &format!("big{keys}")]);
    }
    assert_eq!((said.words.as_str(), said.code), (NO_SPACE, 1));
    assert!(tool.ok(&["alarm", "list"]).ends_with(" alarm:NOSPACE"));
    assert_eq!(tool.ok(&["del", "--prefix", "big"]), (keys - 1).to_string());
    let json = tool.ok(&["get", "big", "-w", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let revision = json["header"]["revision"].to_string();
    assert_eq!(tool.ok(&["compaction", &revision]), format!("compacted revision {revision}"));
    assert_eq!(tool.run(b"", &["put", "a", "1"]).words, NO_SPACE);
    assert!(tool.ok(&["alarm", "disarm"]).ends_with(" alarm:NOSPACE"));
    assert_eq!(tool.ok(&["put", "a", "1"]), "OK");
}

#[test]
fn a_mirror_follows() {
    let (_node, tool) = node_and_tool!();
    let (target_node, target) = node_and_tool!();
    assert_eq!(tool.ok(&["put", "m/1", "v1"]), "OK");
    let address = target_node.address().to_string();
    let mirror = tool.spawn(&["make-mirror", "--prefix", "m/", "--dest-prefix", "copy/", &address]);
    let copied = |expected: &str| until(&target, &["get", "--prefix", "copy/"], |keys| keys == expected);
    copied("copy/1\nv1");
    assert_eq!(tool.ok(&["put", "m/2", "v2"]), "OK");
    copied("copy/1\nv1\ncopy/2\nv2");
    assert_eq!(tool.ok(&["del", "m/1"]), "1");
    copied("copy/2\nv2");
    drop(mirror);
}
