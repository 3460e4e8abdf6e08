//! Images: whole or not there, and never accepted with a byte changed.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{at, image};
use quorate_types::{Index, Start};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{
    DiskErrorKind, IMAGE_FORMAT, ImageEncoder, ImageHead, ImageReader, ImageWriter, StdRead, WalError,
    images, newest_image, open_image,
};

fn head(index: u64) -> ImageHead {
    image(at(1, index), Start { count: 1, incarnation: 1 })
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from(at * 7 % 251).expect("below 251")).collect()
}

fn write(disk: &SimDisk, index: u64, bytes: usize) -> Result<u64, WalError> {
    let mut writer = ImageWriter::create(disk.clone(), &head(index))?;
    for piece in content(bytes).chunks(10_000) {
        writer.write(piece)?;
    }
    writer.sync_so_far()?;
    writer.finish()
}

fn newest(disk: &SimDisk) -> Option<Index> {
    newest_image(disk).expect("a healthy card").image.map(|(head, _)| head.position.index)
}

#[test]
fn an_image_is_read_back_as_written() {
    for bytes in [0, 1, 65_535, 65_536, 65_537, 300_000] {
        let disk = SimDisk::new();
        let written = write(&disk, 5, bytes).unwrap();
        disk.power_cut(&mut |_, _| false);
        let found = images(&disk).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].head, Ok(head(5)));
        assert_eq!(disk.contents(&found[0].path).unwrap().len() as u64, written);
        let mut reader = open_image(&disk, &found[0].path).unwrap();
        let mut read = Vec::new();
        while let Some(block) = reader.next_block().unwrap() {
            assert!(block.len() <= 65_536);
            read.extend_from_slice(block);
        }
        assert_eq!(read, content(bytes));
    }
}

#[test]
fn a_stream_is_the_same_bytes() {
    let disk = SimDisk::new();
    write(&disk, 5, 200_000).unwrap();
    let mut stream = Vec::new();
    let mut encoder = ImageEncoder::new(&head(5), &mut stream);
    encoder.push(&content(200_000), &mut stream);
    encoder.finish(&mut stream);
    let path = disk.paths().pop().unwrap();
    assert_eq!(disk.contents(&path).unwrap(), stream);
    assert_eq!(ImageReader::open(StdRead(stream.as_slice()), "stream").unwrap().verify(), Ok(200_000));
}

#[test]
fn a_cut_at_every_operation_leaves_the_old_image_or_the_new_one() {
    let disk = SimDisk::new();
    write(&disk, 5, 70_000).unwrap();
    let whole = disk.fork();
    let first = whole.operations();
    write(&whole, 9, 140_000).unwrap();
    for operation in first..whole.operations() {
        for pattern in 0..3 {
            let cut = disk.fork();
            cut.cut_at(operation);
            let finished = write(&cut, 9, 140_000).is_ok();
            assert!(!finished, "the power went at operation {operation}");
            cut.power_cut(&mut |_, sector| sector % 3 < pattern);
            let found = newest(&cut).expect("one of them");
            assert!([Index(5), Index(9)].contains(&found));
            // The next image clears away what was left.
            write(&cut, 12, 10).unwrap();
            assert_eq!(newest(&cut), Some(Index(12)));
            assert_eq!(cut.paths().len(), 1, "{:?}", cut.paths());
        }
    }
}

#[test]
fn a_full_disk_leaves_the_old_image() {
    let disk = SimDisk::new();
    write(&disk, 5, 70_000).unwrap();
    disk.fail_at(disk.operations() + 4, DiskErrorKind::NoSpace);
    let error = write(&disk, 9, 700_000).unwrap_err();
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_eq!(newest(&disk), Some(Index(5)));
}

#[test]
fn no_flipped_bit_passes() {
    let disk = SimDisk::new();
    write(&disk, 5, 66_000).unwrap();
    let path = disk.paths().pop().unwrap();
    let bytes = disk.contents(&path).unwrap().len();
    for byte in (0..400).chain((400..bytes).step_by(97)).chain(bytes - 500..bytes) {
        disk.flip(&path, byte * 8 + byte % 8);
        let result = newest_image(&disk);
        match result {
            Ok(found) => assert_eq!((found.image, found.damaged.len()), (None, 1), "byte {byte}"),
            Err(WalError::NewerFormat { found, .. }) => {
                assert!(found > IMAGE_FORMAT && (8..10).contains(&byte))
            }
            Err(error) => panic!("byte {byte}: {error}"),
        }
        disk.flip(&path, byte * 8 + byte % 8);
    }
}

#[test]
fn a_damaged_image_gives_way_to_an_older_one() {
    let disk = SimDisk::new();
    write(&disk, 5, 1_000).unwrap();
    let old = disk.contents(&disk.paths()[0]).unwrap();
    write(&disk, 9, 1_000).unwrap();
    disk.plant("image/image-00000000000000000005", &old);
    disk.flip("image/image-00000000000000000009", 700 * 8);
    let found = newest_image(&disk).unwrap();
    assert_eq!(found.image.map(|(head, _)| head.position.index), Some(Index(5)));
    let [WalError::ImageDamaged { file, offset, .. }] = &found.damaged[..] else {
        panic!("{:?}", found.damaged)
    };
    assert!(file.ends_with('9') && *offset > 20, "{file} {offset}");
}

/// An image's bytes, one part a line. To accept a change: QUORATE_GOLDEN=write, and a new format number.
#[test]
fn the_layout_is_the_one_in_the_golden_file() {
    let mut text = "image, numbers little-endian, checksums CRC-32C\n".to_owned();
    let mut out = Vec::new();
    let mut part = |title: &str, out: &mut Vec<u8>| {
        let bytes: Vec<String> = out.drain(..).map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("\n{title}\n  {}\n", bytes.join(" ")));
    };
    let mut encoder = ImageEncoder::new(&head(300), &mut out);
    let mut head = out.split_off(18);
    part(
        "prefix: \"quoratei\", format u16, bytes of the head u32, checksum of prefix and head u32",
        &mut out,
    );
    part("head: postcard", &mut head);
    encoder.push(b"content", &mut out);
    encoder.finish(&mut out);
    let mut end = out.split_off(8 + 7);
    part(
        "block, at most 65536 of content: bytes u32, checksum of block number u64 and content u32, content",
        &mut out,
    );
    part(
        "end: zero u32, checksum of the rest u32, bytes of content u64, checksum of head and content u32",
        &mut end,
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/wal-image.txt");
    if std::env::var_os("QUORATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}
