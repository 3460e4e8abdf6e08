//! Reading a snapshot file: nothing in it is believed before all of it was checked.

use super::save::{CHECKSUM_BYTES, TrailingChecksum};
use anyhow::{Context, Result, anyhow, ensure};
use quorate_store::{ImageLoader, Store};
use quorate_wal::{ImageHead, ImageReader, StdRead};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The file's length without its checksum is a multiple of this; etcd's clients look at that.
pub(super) const UNIT_BYTES: u64 = 512;
/// How much is read at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// What etcd's own snapshots have at byte 16: bbolt's magic number, little-endian.
const BBOLT_MAGIC: [u8; 4] = [0xed, 0xda, 0x0c, 0xed];

/// A snapshot file whose checksum is right.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    path: PathBuf,
    bytes: u64,
}

type Reader = ImageReader<StdRead<BufReader<File>>>;

impl SnapshotFile {
    /// Reads the whole file once and compares its checksum.
    pub(super) fn open(path: &Path, skip_hash_check: bool) -> Result<SnapshotFile> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = file.metadata()?.len();
        let snapshot = SnapshotFile { path: path.to_owned(), bytes };
        if !skip_hash_check {
            snapshot.check(file).with_context(|| format!("{} is no whole snapshot", path.display()))?;
        }
        Ok(snapshot)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn check(&self, mut file: File) -> Result<()> {
        let checksum_bytes = u64::try_from(CHECKSUM_BYTES)?;
        ensure!(
            self.bytes % UNIT_BYTES == checksum_bytes,
            "its length is not that of a snapshot, the end is missing (for an image from a node's folder: \
             --skip-hash-check)"
        );
        let mut checksum = TrailingChecksum::default();
        let mut piece = vec![0; PIECE_BYTES];
        let mut first = true;
        loop {
            let count = file.read(&mut piece)?;
            if first && piece.get(16..20) == Some(BBOLT_MAGIC.as_slice()) {
                return Err(anyhow!("it is a snapshot of etcd itself (bbolt): `etcdutl snapshot` reads it"));
            }
            first = false;
            if count == 0 {
                return checksum.check();
            }
            checksum.push(&piece[..count]);
        }
    }

    /// The image from its beginning.
    pub(super) fn image(&self) -> Result<Reader> {
        let file = File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let name = self.path.display().to_string();
        Ok(ImageReader::open(StdRead(BufReader::with_capacity(PIECE_BYTES, file)), &name)?)
    }

    /// The state in it: every block's checksum and every item's sense checked.
    pub(super) fn load(&self) -> Result<(ImageHead, Store)> {
        let mut image = self.image()?;
        let head = image.head().clone();
        let mut loader = ImageLoader::new();
        while let Some(block) = image.next_block()? {
            loader.push(block).map_err(|error| self.senseless(&error))?;
        }
        let store = loader.finish().map_err(|error| self.senseless(&error))?;
        ensure!(
            store.applied() == head.position.index,
            "{}: the image says index {} and its content {}: it was not written by quorated",
            self.path.display(),
            head.position.index,
            store.applied()
        );
        Ok((head, store))
    }

    fn senseless(&self, error: &quorate_store::ImageError) -> anyhow::Error {
        anyhow!(
            "{}: the blocks are whole, but {error}; a newer release may have written it",
            self.path.display()
        )
    }
}
