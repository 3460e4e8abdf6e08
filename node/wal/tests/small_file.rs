//! Small files: the old content or the new one, never a byte of something else.

use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{
    DiskErrorKind, RealDisk, SMALL_FILE_BYTES_MAX, WalError, read_small_file, write_small_file,
};

#[test]
fn what_was_written_is_read_and_survives() {
    let disk = SimDisk::new();
    assert_eq!(read_small_file(&disk, "peers"), Ok(None));
    for bytes in [0, 1, 5_000, SMALL_FILE_BYTES_MAX] {
        let content = vec![7; bytes];
        write_small_file(&disk, "peers", &content).unwrap();
        write_small_file(&disk, "key", b"secret").unwrap();
        disk.power_cut(&mut |_, _| false);
        assert_eq!(read_small_file(&disk, "peers"), Ok(Some(content)));
        assert_eq!(read_small_file(&disk, "key"), Ok(Some(b"secret".to_vec())));
    }
    assert_eq!(disk.paths(), ["key", "peers"]);
}

#[test]
fn a_cut_or_a_failure_at_every_operation_leaves_the_old_content_or_the_new() {
    let disk = SimDisk::new();
    write_small_file(&disk, "peers", &[1; 3_000]).unwrap();
    let whole = disk.fork();
    write_small_file(&whole, "peers", &[2; 2_000]).unwrap();
    let (mut old, mut new) = (0, 0);
    for operation in disk.operations()..whole.operations() {
        for pattern in 0..4 {
            let cut = disk.fork();
            if pattern == 3 {
                cut.fail_at(operation, DiskErrorKind::NoSpace);
            } else {
                cut.cut_at(operation);
            }
            assert!(write_small_file(&cut, "peers", &[2; 2_000]).is_err());
            cut.power_cut(&mut |_, sector| sector % 3 < pattern);
            let found = read_small_file(&cut, "peers").unwrap().unwrap();
            old += usize::from(found == [1; 3_000]);
            new += usize::from(found == [2; 2_000]);
            // What a cut left behind is in nobody's way.
            write_small_file(&cut, "peers", b"next").unwrap();
            assert_eq!(read_small_file(&cut, "peers"), Ok(Some(b"next".to_vec())));
            assert_eq!(cut.paths(), ["peers"]);
        }
    }
    assert!(old > 0 && new > 0 && old + new == 4 * 5, "{old} old, {new} new");
}

#[test]
fn no_flipped_bit_passes() {
    let disk = SimDisk::new();
    write_small_file(&disk, "key", &[9; 64]).unwrap();
    let bytes = disk.contents("key").unwrap();
    for bit in 0..bytes.len() * 8 {
        disk.flip("key", bit);
        let error = read_small_file(&disk, "key").unwrap_err();
        assert!(
            matches!(error, WalError::FileDamaged { .. } | WalError::NewerFormat { .. }),
            "{bit}: {error}"
        );
        disk.flip("key", bit);
    }
    for end in 0..bytes.len() {
        disk.plant("key", &bytes[..end]);
        assert!(matches!(read_small_file(&disk, "key"), Err(WalError::FileDamaged { .. })), "{end} bytes");
    }
    disk.plant("key", &[&bytes[..], &[0]].concat());
    assert!(read_small_file(&disk, "key").is_err(), "a byte more");
    disk.plant("peers", &bytes);
    assert!(read_small_file(&disk, "peers").is_err(), "under another name");
}

#[test]
fn only_the_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    assert_eq!(read_small_file(&disk, "key"), Ok(None));
    for content in [&b"first"[..], b"second"] {
        write_small_file(&disk, "key", content).unwrap();
        assert_eq!(read_small_file(&disk, "key"), Ok(Some(content.to_vec())));
        let mode = std::fs::metadata(folder.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// To accept a change: QUORATE_GOLDEN=write, and a new format number.
#[test]
fn the_layout_is_the_one_in_the_golden_file() {
    let disk = SimDisk::new();
    write_small_file(&disk, "peers", b"content").unwrap();
    let bytes = disk.contents("peers").unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let text = format!(
        "small file, numbers little-endian, checksum CRC-32C\n\nprefix: \"quorates\", format u16, zero u16, bytes of \
         the content u32,\nchecksum u32 of the name, the prefix with zeros here, and the content\n  {}\n\ncontent\n  {}\n",
        hex(&bytes[..20]),
        hex(&bytes[20..])
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/wal-small-file.txt");
    if std::env::var_os("QUORATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}
