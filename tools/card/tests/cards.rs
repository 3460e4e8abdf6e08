//! Whole cards, from FUSE to ext4: counts, order, power cuts, and that nothing is ever left behind. Skipped, with
//! the reason printed, where cards cannot be started.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use quorate_card::{Card, CardOptions, Control, FileKind, Model, measure_appends, prepare_file};

const MIB: u64 = 1 << 20;
/// Longer than any test: a stall that only its end by command ends.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A folder for a card, or none (and a line saying why) where cards cannot run.
fn folder() -> Option<tempfile::TempDir> {
    match Card::available() {
        Ok(()) => Some(tempfile::tempdir().unwrap()),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

fn options(dir: &Path) -> CardOptions {
    CardOptions {
        size: 64 * MIB,
        seed: Some(1),
        program: Some(env!("CARGO_BIN_EXE_quorate-card").into()),
        ..CardOptions::new(dir)
    }
}

fn mounted(part: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(part.to_str().unwrap())
}

fn looped(dir: &Path) -> bool {
    let image = dir.join("card.img");
    fs::read_dir("/sys/block").unwrap().flatten().any(|entry| {
        fs::read_to_string(entry.path().join("loop/backing_file"))
            .is_ok_and(|name| name.trim_end() == image.to_str().unwrap())
    })
}

fn assert_nothing_left(dir: &Path) {
    assert!(!mounted(dir), "something is still mounted in {}", dir.display());
    assert!(!looped(dir), "a loop device is still attached to {}", dir.display());
    for file in ["card.img", "card.sock", "card.json"] {
        assert!(!dir.join(file).exists(), "{file} is still there");
    }
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

#[test]
fn one_flush_per_sync_of_a_zero_filled_file_and_two_of_the_others() {
    let Some(dir) = folder() else { return };
    let card = Card::start(&options(dir.path())).unwrap();
    // No commit by ext4's timer while this counts, however slow the machine.
    let remount = ["-o", "remount,commit=3600", card.mount_point().to_str().unwrap()];
    assert!(Command::new("mount").args(remount).status().unwrap().success());
    for kind in FileKind::ALL {
        let file = prepare_file(&card.mount_point().join(kind.name()), kind, 50).unwrap();
        rustix::fs::syncfs(&file).unwrap();
        let before = card.stats().unwrap();
        measure_appends(&file, 50).unwrap();
        let cost = card.stats().unwrap().since(&before);
        if kind == FileKind::ZeroFilled {
            assert_eq!((cost.flushes, cost.writes, cost.bytes_written), (50, 50, 50 * 4096));
            assert_eq!(cost.unflushed_sectors, 0);
        } else {
            // ext4 adds a flush of its own now and then, where a sync finds its commit already under way.
            assert!((100..=105).contains(&cost.flushes), "{}: {}", kind.name(), cost.flushes);
            assert!(cost.writes > 100, "a journal commit beside each append: {}", cost.writes);
        }
    }
    card.stop().unwrap();
    assert_nothing_left(dir.path());
}

#[test]
fn memory_is_taken_for_what_was_written_only() {
    let Some(dir) = folder() else { return };
    let card = Card::start(&CardOptions { size: 1 << 30, ..options(dir.path()) }).unwrap();
    prepare_file(&card.mount_point().join("zeros"), FileKind::ZeroFilled, 8 * 1024).unwrap();
    let zeros = card.stats().unwrap();
    assert!(zeros.bytes_written > 32 * MIB && zeros.resident_bytes < 4 * MIB, "{zeros:?}");
    let mut file = File::create(card.mount_point().join("data")).unwrap();
    for _ in 0..32 {
        file.write_all(&[7; 1 << 20]).unwrap();
    }
    file.sync_all().unwrap();
    let data = card.stats().unwrap();
    assert!((32 * MIB..40 * MIB).contains(&data.resident_bytes), "{data:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", card.ready().pid)).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 96 * 1024, "1 GiB card, 64 MiB written: {peak_kib} KiB");
}

#[test]
fn a_stall_holds_a_sync_and_nothing_of_the_keeper() {
    let Some(dir) = folder() else { return };
    let card = Card::start(&options(dir.path())).unwrap();
    let file = prepare_file(&card.mount_point().join("wal"), FileKind::ZeroFilled, 8).unwrap();
    rustix::fs::syncfs(&file).unwrap();
    let before = card.stats().unwrap().flushes;
    card.stall(FOR_EVER).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| {
            measure_appends(&file, 1).unwrap();
            assert!(ended.load(Ordering::SeqCst), "the sync was done before the stall ended");
        });
        eventually("the append reaches the card", || card.stats().unwrap().waiting > 0);
        assert_eq!(card.stats().unwrap().flushes, before);
        assert!(!sync.is_finished());
        // The stalled card still answers, cuts and revives: the append fails instead of waiting for an hour.
        ended.store(true, Ordering::SeqCst);
        card.cut(1).unwrap();
        assert!(sync.join().is_err(), "an append on a card without power fails");
    });
    drop(file);
    card.revive().unwrap();
    card.stop().unwrap();
    assert_nothing_left(dir.path());
}

#[test]
fn a_short_stall_ends_by_itself() {
    let Some(dir) = folder() else { return };
    let card = Card::start(&options(dir.path())).unwrap();
    let file = prepare_file(&card.mount_point().join("wal"), FileKind::ZeroFilled, 8).unwrap();
    let stall = Duration::from_millis(300);
    let begun = std::time::Instant::now();
    card.stall(stall).unwrap();
    measure_appends(&file, 1).unwrap();
    assert!(begun.elapsed() >= stall, "the sync did not wait");
}

/// Appends blocks of an own pattern, syncs every third, cuts the power: all synced blocks are there, every sector is
/// either old or new.
#[test]
fn a_cut_loses_only_unflushed_sectors() {
    let Some(dir) = folder() else { return };
    let card = Card::start(&options(dir.path())).unwrap();
    let path = card.mount_point().join("wal");
    for seed in 0..5u8 {
        let file = prepare_file(&path, FileKind::ZeroFilled, 90).unwrap();
        rustix::fs::syncfs(&file).unwrap();
        let pattern = |block: u8| [block + 1; 4096];
        for block in 0..60 {
            file.write_all_at(&pattern(block), u64::from(block) * 4096).unwrap();
            if block % 3 == 2 {
                file.sync_data().unwrap();
            }
        }
        // Written to the device but not flushed: a cut tears these sector by sector.
        for block in 60..90 {
            file.write_all_at(&pattern(block), u64::from(block) * 4096).unwrap();
        }
        write_back(&file, &card);
        let report = card.cut(u64::from(seed)).unwrap();
        assert!(report.kept > 0 && report.lost > 0, "{report:?}");
        assert!(file.sync_data().is_err() || File::open(&path).is_err(), "no power, no sync");
        drop(file);
        card.revive().unwrap();
        let mut after = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut after).unwrap();
        assert_eq!(after.len(), 90 * 4096);
        for (block, bytes) in (0u8..).zip(after.chunks(4096)) {
            if block < 60 {
                assert_eq!(bytes, pattern(block), "synced block {block}, seed {seed}");
            } else {
                let whole = |sector: &[u8]| sector == [0; 512] || sector == &pattern(block)[..512];
                assert!(bytes.chunks(512).all(whole), "block {block}, seed {seed}");
            }
        }
    }
    assert_eq!(card.stats().unwrap().cuts, 5);
    card.stop().unwrap();
    assert_nothing_left(dir.path());
}

/// Makes the kernel write the file's dirty pages to the card without a flush: reading with O_DIRECT does so.
fn write_back(file: &File, card: &Card) {
    let before = card.stats().unwrap();
    let direct = OpenOptions::new()
        .read(true)
        .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)))
        .unwrap();
    rustix::fs::fcntl_setfl(&direct, rustix::fs::OFlags::DIRECT).unwrap();
    let mut space = vec![0; 91 * 4096];
    let start = space.as_ptr().align_offset(4096);
    let read = direct.read_at(&mut space[start..start + 90 * 4096], 0).unwrap();
    assert_eq!(read, 90 * 4096);
    let cost = card.stats().unwrap().since(&before);
    assert_eq!(cost.flushes, 0, "a flush came in between");
    assert!(cost.unflushed_sectors >= 30 * 8, "{cost:?}");
}

/// Files grow, are renamed and synced with their folder, and the power goes: ext4 replays its journal, and what was
/// synced is there.
#[test]
fn ext4_survives_a_cut_and_keeps_what_was_synced() {
    let Some(dir) = folder() else { return };
    let card = Card::start(&options(dir.path())).unwrap();
    for round in 0..4u64 {
        let folder = card.mount_point().join(format!("round-{round}"));
        fs::create_dir(&folder).unwrap();
        File::open(card.mount_point()).unwrap().sync_all().unwrap();
        for number in 0..20 {
            let (new, name) = (folder.join("new"), folder.join(format!("file-{number}")));
            let mut file = File::create(&new).unwrap();
            file.write_all(format!("{round} {number}").repeat(700).as_bytes()).unwrap();
            file.sync_all().unwrap();
            fs::rename(&new, &name).unwrap();
            File::open(&folder).unwrap().sync_all().unwrap();
            fs::write(folder.join("unsynced"), vec![1; 100_000]).unwrap();
        }
        card.cut(round).unwrap();
        card.revive().unwrap();
        for old in 0..=round {
            for number in 0..20 {
                let name = card.mount_point().join(format!("round-{old}/file-{number}"));
                assert_eq!(
                    fs::read_to_string(&name).unwrap(),
                    format!("{old} {number}").repeat(700),
                    "{name:?}"
                );
            }
        }
    }
    card.stop().unwrap();
    assert_nothing_left(dir.path());
}

#[test]
fn four_cards_at_once_are_four_cards() {
    let Some(dir) = folder() else { return };
    let cards: Vec<Card> = (0..4)
        .map(|number| {
            let options = options(&dir.path().join(format!("card {number}")));
            Card::start(&CardOptions { seed: Some(number), ..options }.model(Model::Free)).unwrap()
        })
        .collect();
    cards[0].stall(FOR_EVER).unwrap();
    let before: Vec<_> = cards.iter().map(|card| card.stats().unwrap()).collect();
    std::thread::scope(|scope| {
        let stalled = scope.spawn(|| {
            let path = cards[0].mount_point().join("file");
            prepare_file(&path, FileKind::Growing, 1).and_then(|file| measure_appends(&file, 1))
        });
        for (card, number) in cards[1..].iter().zip(1u64..) {
            let file = prepare_file(&card.mount_point().join("file"), FileKind::ZeroFilled, 20).unwrap();
            rustix::fs::syncfs(&file).unwrap();
            let start = card.stats().unwrap();
            measure_appends(&file, 5 * usize::try_from(number).unwrap()).unwrap();
            assert_eq!(card.stats().unwrap().since(&start).flushes, 5 * number);
        }
        assert_eq!(cards[0].stats().unwrap().since(&before[0]).flushes, 0);
        cards[0].cut(1).unwrap();
        assert!(stalled.join().unwrap().is_err());
    });
    drop(cards);
    for number in 0..4 {
        assert_nothing_left(&dir.path().join(format!("card {number}")));
    }
}

#[test]
fn a_card_changes_while_it_runs() {
    let Some(dir) = folder() else { return };
    let card = Card::start(&options(dir.path())).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    card.control().change(&[pair("flush-median", "80ms"), pair("bandwidth", "10MB/s")]).unwrap();
    assert_eq!(card.control().figures().unwrap().flush_median, Duration::from_millis(80));
    let wrong = card.control().change(&[pair("seek", "1ms"), pair("speed", "fast")]).unwrap_err();
    assert!(wrong.to_string().contains("speed"), "{wrong:#}");
    assert_eq!(card.control().figures().unwrap().seek, Duration::ZERO, "all or none");
    card.set(Model::Bad.figures()).unwrap();
    assert_eq!(card.control().figures().unwrap(), Model::Bad.figures());
    assert!(card.revive().unwrap_err().to_string().contains("has power"));
    card.cut(1).unwrap();
    assert!(card.cut(1).unwrap_err().to_string().contains("off already"));
}

#[test]
fn a_panicking_test_leaves_nothing() {
    let Some(dir) = folder() else { return };
    let path = dir.path().to_path_buf();
    let (send, mounted_at) = channel();
    let ended = std::thread::spawn(move || {
        let card = Card::start(&options(&path)).unwrap();
        card.stall(FOR_EVER).unwrap();
        send.send(card.mount_point().to_path_buf()).unwrap();
        panic!("on purpose");
    })
    .join();
    assert!(ended.is_err());
    assert!(!mounted(&mounted_at.recv().unwrap()));
    assert_nothing_left(dir.path());
}

/// The keeper of a card is killed without a chance to clear up.
#[test]
fn a_killed_keeper_leaves_nothing() {
    let Some(dir) = folder() else { return };
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_quorate-card"))
        .args(["table", "--appends", "1000000"])
        .env("TMPDIR", dir.path())
        .spawn()
        .unwrap();
    let card = || fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path()).next();
    eventually("the keeper's card is in use", || {
        card().is_some_and(|card| card.join("mnt/growing").exists())
    });
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    let folder = card().unwrap();
    eventually("the card ends after its keeper", || !folder.join("card.json").exists());
    assert_nothing_left(&folder);
}

fn start_in_background(dir: &Path) -> (Control, PathBuf) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate-card"))
        .args(["start", "--background", "--size", "64MiB", "--model", "free", "--dir"])
        .arg(dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let mount = text.lines().find_map(|line| line.strip_prefix("mount ")).unwrap().trim().into();
    (Control::of(dir), mount)
}

fn process_of(dir: &Path) -> rustix::process::Pid {
    let owner: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("card.json")).unwrap()).unwrap();
    rustix::process::Pid::from_raw(owner["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
}

#[test]
fn a_crashed_card_is_cleared_away_by_stop() {
    let Some(dir) = folder() else { return };
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
        let (control, mount) = start_in_background(dir.path());
        fs::write(mount.join("file"), b"content").unwrap();
        rustix::process::kill_process(process_of(dir.path()), signal).unwrap();
        if signal == rustix::process::Signal::KILL {
            eventually("the card is gone", || control.stats().is_err());
            let again = Card::start(&options(dir.path())).unwrap_err().to_string();
            assert!(again.contains("card stop"), "{again}");
            control.stop().unwrap();
        } else {
            eventually("the card clears up itself", || !dir.path().join("card.json").exists());
        }
        assert_nothing_left(dir.path());
        assert!(control.stop().is_err(), "no card to stop");
    }
}

#[test]
fn a_card_in_use_is_stopped_all_the_same() {
    let Some(dir) = folder() else { return };
    let (control, mount) = start_in_background(dir.path());
    let open = File::create(mount.join("open")).unwrap();
    control.stop().unwrap();
    assert!(!mounted(dir.path()));
    assert!(open.sync_all().is_err(), "the card is gone under the open file");
    drop(open);
    eventually("the loop device goes with its last user", || !looped(dir.path()));
}

#[test]
fn a_card_that_is_no_card_is_refused() {
    let Some(dir) = folder() else { return };
    assert!(Card::start(&CardOptions { size: 1, ..options(dir.path()) }).is_err());
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(Card::start(&options(&file)).is_err());
    assert!(Control::of(dir.path()).stats().is_err());
}
