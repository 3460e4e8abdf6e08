//! The first start in a folder, as its log tells it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Starts a node, and answers what it logs until it serves; then it is killed.
fn log_of_start(folder: &Path) -> Vec<String> {
    let mut node = Command::new(env!("CARGO_BIN_EXE_quorated"))
        .args(["--new-cluster", "--listen-client-urls", "http://127.0.0.1:0", "--listen-peer", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(folder)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(node.stderr.take().unwrap()).lines().map_while(Result::ok) {
        let serves = line.contains("serving clients");
        lines.push(line);
        if serves {
            break;
        }
    }
    node.kill().unwrap();
    node.wait().unwrap();
    lines
}

/// One line of what eight syncs say, before anybody is served; later starts leave the card alone.
#[test]
fn the_first_start_looks_at_the_card_and_no_other_does() {
    let folder = tempfile::tempdir().unwrap();
    let is_told = |line: &&String| line.contains("the card is ") && line.contains("syncs of 4 KiB");
    let first = log_of_start(folder.path());
    assert!(first.last().is_some_and(|line| line.contains("serving clients")), "{first:#?}");
    let told: Vec<&String> = first.iter().filter(is_told).collect();
    assert_eq!(told.len(), 1, "{first:#?}");
    assert!(told[0].contains("p50=") && told[0].contains("longest="), "{told:?}");
    let second = log_of_start(folder.path());
    assert!(second.last().is_some_and(|line| line.contains("serving clients")), "{second:#?}");
    assert_eq!(second.iter().filter(is_told).count(), 0, "{second:#?}");
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.map(|name| name.to_string_lossy().into_owned()).any(|name| name.contains("probe")));
}
