//! The board's own binary, static aarch64, run by an emulator: put, kill -9, start again, read; the clients
//! are native. Building it takes minutes, so a step of its own runs this: `cargo xtask ci board`.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::client::Client;
use quorate_tests::program::Program;
use quorate_tests::server::{Options, Server};
use quorate_tests::skip;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const EMULATOR: &str = "/usr/bin/qemu-aarch64-static";
const TARGET: &str = "aarch64-unknown-linux-musl";
const COUNT: usize = 50;

/// ELF: what the loader reads of a program header.
const PROGRAM_HEADER_LOAD: u32 = 1;
const PROGRAM_HEADER_INTERPRETER: u32 = 3;
const MACHINE_AARCH64: u16 = 183;

/// The binary: named by `QUORATED_BOARD`, or built now.
fn board() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || std::env::var_os("QUORATED_BOARD").map_or_else(build, PathBuf::from);
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap();
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.args(["build", "--locked", "--package", "quorated", "--profile", "board", "--target", TARGET]);
    let built = command.args(["--message-format", "json"]).stderr(Stdio::inherit()).output().unwrap();
    String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "quorated")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo builds the board's binary")
}

#[test]
#[ignore = "builds for minutes: `cargo xtask ci board`"]
fn put_kill_restart_read_on_the_boards_binary() {
    if !Path::new(EMULATOR).is_file() {
        skip!("no {EMULATOR}");
    }
    let board = board();
    println!("{} bytes: {}", std::fs::metadata(&board).unwrap().len(), board.display());
    let options = Options { wrapper: vec![EMULATOR.into()], ..Options::new(Program::Quorated(board)) };
    let mut server = Server::start(options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(&server.endpoint()).await.unwrap();
        for number in 0..COUNT {
            client.put(format!("key-{number}"), format!("value-{number}-").repeat(200)).await.unwrap();
        }
    });
    for _ in 0..2 {
        server.kill();
        server.restart();
    }
    runtime.block_on(async {
        let mut client = Client::connect(&server.endpoint()).await.unwrap();
        for number in 0..COUNT {
            let value = client.get(format!("key-{number}")).await.unwrap();
            assert_eq!(value, Some(format!("value-{number}-").repeat(200).into_bytes()));
        }
    });
    assert_eq!(server.terminate().code(), Some(0), "{}", server.last_lines());
}

#[test]
#[ignore = "builds for minutes: `cargo xtask ci board`"]
fn the_boards_binary_is_static_and_fits_pages_of_64_kib() {
    let bytes = std::fs::read(board()).unwrap();
    let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(u16_at(18), MACHINE_AARCH64);
    let (table, size, count) =
        (usize::try_from(u64_at(32)).unwrap(), usize::from(u16_at(54)), usize::from(u16_at(56)));
    let headers = (0..count).map(|number| table + number * size);
    let mut loads = 0;
    for header in headers {
        assert_ne!(u32_at(header), PROGRAM_HEADER_INTERPRETER, "it needs a loader: not static");
        if u32_at(header) == PROGRAM_HEADER_LOAD {
            // A kernel with larger pages than a segment's alignment cannot map it: a Pi 5 has 16 KiB.
            assert!(u64_at(header + 48) >= 64 * 1024, "aligned to {} bytes", u64_at(header + 48));
            loads += 1;
        }
    }
    assert!(loads > 0);
}
