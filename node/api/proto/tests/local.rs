//! The local socket: found in its folder however long the folder's name, for nobody but its owner.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use quorate_proto::local::{SOCKET_NAME, bind, connect};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn names(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

async fn is_reached(folder: &Path) {
    let listener = bind(folder).unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), connect(folder));
    accepted.unwrap();
    connected.unwrap();
    let socket = fs::metadata(folder.join(SOCKET_NAME)).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(names(folder), [folder.join(SOCKET_NAME)], "nothing else is left");
}

#[tokio::test]
async fn a_socket_is_found_in_folders_of_any_length() {
    let base = tempfile::tempdir().unwrap();
    let start = base.path().as_os_str().len();
    // Around the longest path that an address holds, with and without the socket's name, and far beyond.
    for length in (80..=112).chain([255, 1_000]) {
        let mut folder = base.path().join(length.to_string());
        while folder.as_os_str().len() < length {
            let missing = length.saturating_sub(folder.as_os_str().len() + 1);
            folder.push("d".repeat(missing.clamp(1, 200)));
        }
        assert!(start < 80 && folder.as_os_str().len().abs_diff(length) <= 1);
        fs::create_dir_all(&folder).unwrap();
        is_reached(&folder).await;
    }
}

#[tokio::test]
async fn what_an_earlier_start_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    drop(bind(folder.path()).unwrap());
    assert!(folder.path().join(SOCKET_NAME).exists());
    assert_eq!(connect(folder.path()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // A start that was killed half-way.
    fs::create_dir(folder.path().join("quorated.sock.new")).unwrap();
    fs::write(folder.path().join("quorated.sock.new").join(SOCKET_NAME), "").unwrap();
    is_reached(folder.path()).await;
}

#[tokio::test]
async fn why_there_is_no_node_shows() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(connect(folder.path()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(connect(&folder.path().join("moon")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bind(&folder.path().join("moon")).unwrap_err().kind(), ErrorKind::NotFound);
}
