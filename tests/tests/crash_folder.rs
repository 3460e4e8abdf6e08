//! Folders as their users meet them: damaged, torn, mixed, shared, full. The real process says what is wrong
//! and what to do, by words and by its exit code, and never serves less than was acknowledged.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_card::{Card, CardOptions};
use quorate_tests::client::Client;
use quorate_tests::program::{Program, build};
use quorate_tests::server::{Options, Server};
use quorate_tests::skip;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const BAD_FOLDER: Option<i32> = Some(3);
const BAD_DATA: Option<i32> = Some(65);
const CARD_FAILED: Option<i32> = Some(74);

/// Puts of `filled`.
const COUNT: usize = 40;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Three blocks of the log, so that a write of it can be torn.
fn value(number: usize) -> String {
    format!("value-{number:03}-").repeat(1_000)
}

/// A stopped node with `COUNT` acknowledged keys.
fn filled(end: impl FnOnce(&mut Server)) -> Server {
    let mut server = Server::start(Options::new(Program::quorated()).in_memory());
    runtime().block_on(async {
        let mut client = Client::connect(&server.endpoint()).await.unwrap();
        for number in 0..COUNT {
            client.put(format!("key-{number:03}"), value(number)).await.unwrap();
        }
    });
    end(&mut server);
    server
}

fn stopped() -> Server {
    filled(|server| assert_eq!(server.terminate().code(), Some(0)))
}

fn killed() -> Server {
    filled(Server::kill)
}

/// How many of the keys are there, each whole.
fn count_keys(server: &Server) -> usize {
    runtime().block_on(async {
        let mut client = Client::connect(&server.endpoint()).await.unwrap();
        let mut count = 0;
        for number in 0..COUNT {
            if let Some(found) = client.get(format!("key-{number:03}")).await.unwrap() {
                assert_eq!(found, value(number).into_bytes());
                count += 1;
            }
        }
        count
    })
}

fn wal(server: &Server) -> Vec<PathBuf> {
    let list = fs::read_dir(server.data_dir().join("wal")).unwrap();
    let mut files: Vec<PathBuf> = list.map(|item| item.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("segment-"));
    files.sort();
    files
}

/// Segment and byte where a key's value stands last.
fn find(server: &Server, text: &str) -> (PathBuf, u64) {
    let mut found = wal(server).into_iter().filter_map(|path| {
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(text.len()).rposition(|window| window == text.as_bytes())?;
        Some((path, at as u64))
    });
    found.next_back().unwrap()
}

fn flip((path, at): &(PathBuf, u64)) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, *at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], *at).unwrap();
}

/// Starts it, expects it to end by itself with that code, and gives what it said in this start.
fn refused(server: &mut Server, code: Option<i32>) -> String {
    let before = server.log().len();
    server.spawn_again();
    let status = server.wait_exit();
    let said = server.log()[before..].to_owned();
    assert_eq!(status.code(), code, "{said}");
    said
}

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

#[test]
fn damage_in_the_acknowledged_middle_is_refused_with_file_and_offset() {
    let mut server = killed();
    let place = find(&server, "value-020-");
    flip(&place);
    let said = refused(&mut server, BAD_DATA);
    let file = place.0.file_name().unwrap().to_string_lossy().into_owned();
    assert_says(&said, &[&file, "damaged at byte", "replace it and restore this node"]);
    let offset: u64 =
        said.split("damaged at byte ").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
    assert!(offset <= place.1 && place.1 < offset + 16_384, "flipped at {}, said {offset}", place.1);
    // It touched nothing: with the byte mended, everything is there.
    flip(&place);
    server.restart();
    assert_eq!(count_keys(&server), COUNT);
}

#[test]
fn damage_in_the_last_batch_of_a_clean_stop_is_refused() {
    let mut server = stopped();
    let place = find(&server, "value-039-");
    flip(&place);
    let said = refused(&mut server, BAD_DATA);
    assert_says(&said, &["damaged at byte", "acknowledged"]);
    flip(&place);
    server.restart();
    assert_eq!(count_keys(&server), COUNT);
}

#[test]
fn damage_in_the_last_batch_of_a_kill_is_owned_up_to() {
    let mut server = killed();
    flip(&find(&server, "value-039-"));
    server.restart();
    assert_eq!(count_keys(&server), COUNT - 1);
    assert_says(&server.log(), &["may have been acknowledged", "at byte"]);
    let status = runtime().block_on(async {
        let mut client = Client::connect(&server.endpoint()).await.unwrap();
        client.maintenance.status(quorate_proto::etcdserverpb::StatusRequest {}).await.unwrap().into_inner()
    });
    assert!(
        status.errors.iter().any(|error| error.contains("may have been acknowledged")),
        "{:?}",
        status.errors
    );
}

#[test]
fn a_torn_tail_is_cut_and_the_node_starts() {
    let mut server = killed();
    let (path, at) = find(&server, "value-039-");
    // From the block in which the last value ends, the file was never written.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(at / 4096 * 4096).unwrap();
    server.restart();
    assert_eq!(count_keys(&server), COUNT - 1);
    assert_says(&server.log(), &["never acknowledged"]);
    // The same as zeros, once the node has gone on behind the cut.
    runtime().block_on(async {
        let mut client = Client::connect(&server.endpoint()).await.unwrap();
        client.put("after", "the cut-".repeat(1_500)).await.unwrap();
    });
    server.kill();
    let (path, at) = find(&server, "the cut-");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 4096], at / 4096 * 4096).unwrap();
    server.restart();
    assert_eq!(count_keys(&server), COUNT - 1);
}

#[test]
fn a_segment_of_another_node_is_refused() {
    // Both ways, since one of the two is the newer by its numbers and the other looks like a spare.
    let mut servers = [killed(), stopped()];
    for (own, other) in [(0, 1), (1, 0)] {
        let foreign = wal(&servers[other]).into_iter().next().unwrap();
        let server = &mut servers[own];
        let planted = server.data_dir().join("wal/segment-0099");
        fs::copy(&foreign, &planted).unwrap();
        let said = refused(server, BAD_DATA);
        assert_says(&said, &["was written by", "give each node a folder of its own"]);
        fs::remove_file(&planted).unwrap();
    }
    for mut server in servers {
        server.restart();
        assert_eq!(count_keys(&server), COUNT);
    }
}

#[test]
fn an_image_that_a_kill_left_unfinished_goes_with_the_next_start() {
    let mut server = killed();
    let left = server.data_dir().join("image/image-00000000000000000007.tmp");
    fs::write(&left, vec![1; 1 << 20]).unwrap();
    server.restart();
    assert!(!left.exists(), "it would lie on the card until the next image, which may be long");
    assert_eq!(count_keys(&server), COUNT);
}

/// The program on a folder, to its end: code and words.
fn run(folder: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(Program::quorated().path());
    command.arg("--data-dir").arg(folder).args(["--listen-client", "127.0.0.1:0"]).args(flags);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_empty_folder_wants_to_be_told() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("not-there")] {
        let (code, said) = run(&path, &[]);
        assert_eq!(code, BAD_FOLDER, "{said}");
        assert_says(&said, &["--new-cluster", &path.display().to_string()]);
    }
    assert!(!folder.path().join("not-there").exists(), "a refusal makes no folder");
}

#[test]
fn a_second_process_on_the_folder_is_refused() {
    let server = Server::start(Options::new(Program::quorated()).in_memory());
    let (code, said) = run(server.data_dir(), &["--new-cluster"]);
    assert_eq!(code, BAD_FOLDER, "{said}");
    assert_says(&said, &[&server.data_dir().display().to_string(), "another process"]);
    assert!(server.page("/health").contains("true"), "the first one does not mind");
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, said) = run(&file, &["--new-cluster"]);
    assert_eq!(code, BAD_FOLDER, "{said}");
    assert_says(&said, &["--data-dir"]);
}

#[test]
fn a_full_card_ends_the_node_and_room_brings_it_back() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Some(build("quorate-card", "quorate-card"));
    let options = CardOptions { size: 48 << 20, program, ..CardOptions::new(folder.path().join("card")) };
    let card = Card::start(&options).unwrap();
    let ballast = card.mount_point().join("ballast");
    fs::write(&ballast, vec![7; 16 << 20]).unwrap();
    let mut server =
        Server::start(Options::new(Program::quorated()).data_dir(card.mount_point().join("data")));
    let acknowledged = runtime().block_on(fill_up(&server));
    let status = server.wait_exit();
    assert_eq!(status.code(), CARD_FAILED, "{}", server.last_lines());
    assert_says(&server.log(), &["No space left", "free space on it", "Nothing was acknowledged after it"]);
    assert!(acknowledged > 0);
    fs::remove_file(&ballast).unwrap();
    server.restart();
    runtime().block_on(async {
        let mut client = Client::connect(&server.endpoint()).await.unwrap();
        for number in 0..acknowledged {
            let value = client.get(format!("fill-{number}")).await.unwrap();
            assert_eq!(value.map(|value| value.len()), Some(400_000), "fill-{number} of {acknowledged}");
        }
        client.put("room", "again").await.unwrap();
    });
    assert_says(&server.log(), &["the start before this one ended with"]);
    server.kill();
    card.stop().unwrap();
}

/// Puts until the node gives up; how many were acknowledged.
async fn fill_up(server: &Server) -> usize {
    let mut client = Client::connect(&server.endpoint()).await.unwrap();
    let began = Instant::now();
    for number in 0.. {
        if client.put(format!("fill-{number}"), vec![9; 400_000]).await.is_err() {
            return number;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "a card of 48 MiB holds more than that");
    }
    unreachable!("the numbers do not end")
}

#[test]
fn a_read_only_folder_is_named() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Some(build("quorate-card", "quorate-card"));
    let options = CardOptions { size: 64 << 20, program, ..CardOptions::new(folder.path().join("card")) };
    let card = Card::start(&options).unwrap();
    let data = card.mount_point().join("data");
    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", how]).arg(card.mount_point()).status().unwrap();
        assert!(status.success());
    };
    let mut server = Server::start(Options::new(Program::quorated()).data_dir(&data));
    assert_eq!(server.terminate().code(), Some(0));
    remount("remount,ro");
    let said = refused(&mut server, CARD_FAILED);
    assert_says(&said, &[&data.display().to_string(), "Read-only file system"]);
    remount("remount,rw");
    server.restart();
    server.kill();
    card.stop().unwrap();
}
