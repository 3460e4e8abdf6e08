//! `quorate doctor disk` on simulated cards: ordinary, bad, stalled, without barriers, without power. Skipped, with
//! the reason printed, where cards cannot be started; never in CI.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use quorate_card::{Card, CardOptions, Model};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Whether cards run here; where CI runs they have to.
fn has_cards() -> bool {
    match Card::available() {
        Ok(()) => true,
        Err(reason) => {
            let is_required = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!is_required, "this test has to run in CI: {reason}");
            eprintln!("skipped: {reason}");
            false
        }
    }
}

fn card(dir: &Path, mib: u64) -> Card {
    let program = Some(env!("CARGO_BIN_EXE_quorate").into());
    Card::start(&CardOptions { size: mib * MIB, seed: Some(1), program, ..CardOptions::new(dir) }).unwrap()
}

fn doctor(dir: &Path, seconds: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command
        .args(["doctor", "disk", "--seconds", &seconds.to_string()])
        .arg(dir)
        .env_remove("QUORATE_DATA_DIR");
    command
}

fn judge(output: &Output) -> (Option<i32>, Value) {
    let words = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"));
    (output.status.code(), report)
}

fn examine(dir: &Path, seconds: u32) -> (Option<i32>, Value) {
    judge(&doctor(dir, seconds).arg("--json").output().unwrap())
}

fn codes(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {report:#}"))
}

/// Waits for what another process does at its own pace; the limit only ends a broken run.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

fn mount(options: &str, point: &Path) {
    assert!(Command::new("mount").args(["-o", options]).arg(point).status().unwrap().success(), "{options}");
}

/// Starts an examination and waits until it appends: the bulk writes and the zeros before cost some ten flushes.
fn start_and_wait_for_appends(card: &Card) -> Child {
    card.set(Model::Ordinary.figures()).unwrap();
    let before = card.stats().unwrap().flushes;
    let child = doctor(card.mount_point(), 6)
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it appends", || card.stats().unwrap().flushes >= before + 20);
    child
}

#[test]
fn cards_are_told_apart_and_nothing_is_left_on_them() {
    if !has_cards() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let card = card(dir.path(), 512);
    let mut medians = Vec::new();
    for model in [Model::Free, Model::Ordinary, Model::Bad] {
        card.set(model.figures()).unwrap();
        let before = card.stats().unwrap();
        let (code, report) = examine(card.mount_point(), 6);
        let written = card.stats().unwrap().since(&before).bytes_written;
        assert_eq!(code, Some(0), "{report:#}");
        assert!(["fine", "slow-but-safe"].contains(&report["verdict"].as_str().unwrap()), "{report:#}");
        assert_eq!(codes(&report), [""; 0], "{report:#}");
        assert!(number(&report, "/flushes_per_append") > 0.99, "{report:#}");
        assert!(number(&report, "/device_bytes_per_append") >= 4096.0);
        assert!(
            number(&report, "/appends/count") >= 8.0 && number(&report, "/beside_neighbour/count") >= 8.0
        );
        // What the file system adds is its journal.
        assert!(number(&report, "/bytes_written") <= 64.0 * 1_048_576.0);
        assert!(written <= 72 * MIB, "{written}");
        medians.push(number(&report, "/appends/p50_ms"));
    }
    assert!(medians.is_sorted(), "free, ordinary, bad: {medians:?}");
    assert!(medians[1] > 25.0, "no flush of an ordinary card is free: {medians:?}");
    let left: Vec<_> =
        std::fs::read_dir(card.mount_point()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lost+found"]);
    card.stop().unwrap();
}

#[test]
fn a_card_that_stalls_loses_the_lead_and_one_without_power_is_dead() {
    if !has_cards() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let card = card(dir.path(), 512);
    let child = start_and_wait_for_appends(&card);
    card.stall(Duration::from_secs(4)).unwrap();
    let (code, report) = judge(&child.wait_with_output().unwrap());
    assert_eq!((code, &report["verdict"]), (Some(0), &"slow-but-safe".into()), "{report:#}");
    assert!(report["reasons"].to_string().contains("leadership moves away"), "{report:#}");

    let child = start_and_wait_for_appends(&card);
    card.cut(1).unwrap();
    let (code, report) = judge(&child.wait_with_output().unwrap());
    assert_eq!((code, &report["verdict"]), (Some(1), &"about-to-die".into()), "{report:#}");
    assert!(report["reasons"][0].as_str().unwrap().contains("the card refused"), "{report:#}");
}

/// No barriers: the file system says so, and the device sees no flush.
#[test]
fn a_card_without_barriers_is_not_trusted() {
    if !has_cards() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let card = card(dir.path(), 512);
    mount("remount,nobarrier", card.mount_point());
    let before = card.stats().unwrap().flushes;
    let (code, report) = examine(card.mount_point(), 2);
    assert_eq!((code, &report["verdict"]), (Some(1), &"not-trusted".into()), "{report:#}");
    assert_eq!(codes(&report), ["barriers-off", "syncs-do-not-arrive"], "{report:#}");
    assert_eq!(card.stats().unwrap().flushes, before);
}

#[test]
fn a_card_that_takes_nothing_is_not_measured() {
    if !has_cards() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let card = card(dir.path(), 64);
    let point = card.mount_point();
    let attribute = |change: &str| Command::new("chattr").arg(change).arg(point).status().unwrap().success();
    assert!(attribute("+i"));
    let (code, report) = examine(point, 2);
    assert!(attribute("-i"));
    assert_eq!((code, codes(&report)), (Some(1), vec!["not-writable", "little-space"]), "{report:#}");

    std::fs::write(point.join("large"), vec![1; 20 << 20]).unwrap();
    let (code, report) = examine(point, 2);
    assert_eq!((code, codes(&report)), (Some(1), vec!["no-space"]), "{report:#}");
    assert_eq!(report["bytes_written"], 0);
    std::fs::remove_file(point.join("large")).unwrap();

    mount("remount,ro", point);
    let text = doctor(point, 2).output().unwrap();
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("SERIOUS: the file system is mounted read-only"), "{text}");
    assert!(text.contains("This card is not to be trusted as it is."), "{text}");
}

#[test]
fn it_says_first_what_it_writes_and_a_signal_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = doctor(dir.path(), 60).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with(&dir.path().display().to_string()));
    assert!(lines.next().unwrap().unwrap().contains("writes at most 64 MiB"));
    let holds_file = |pid: u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|path| path.starts_with(dir.path()))
    };
    eventually("it has its files open", || holds_file(child.id()));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "the signal ended it, not its own end");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_is_none_is_a_wrong_command_line() {
    for folder in ["no/such/folder", "Cargo.toml"] {
        let output = doctor(Path::new(folder), 2).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{folder}");
    }
}
