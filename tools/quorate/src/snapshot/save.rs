//! `snapshot save`: the stream of Maintenance.Snapshot into a file that is whole or not there.

use anyhow::{Context, Result, bail, ensure};
use quorate_bench::EndpointArgs;
use quorate_proto::etcdserverpb::SnapshotRequest;
use quorate_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes of the checksum at the end of a snapshot file.
pub(super) const CHECKSUM_BYTES: usize = 32;

/// Saves and answers the bytes of the file. It is written beside its place, checked, synced, and moved there.
pub(super) async fn save(endpoint: &EndpointArgs, url: &str, path: &Path) -> Result<u64> {
    let channel = endpoint.connect_to(url).await?;
    let mut client = MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut stream =
        client.snapshot(SnapshotRequest {}).await.context("the node gives no snapshot")?.into_inner();
    let part = beside(path);
    let mut target = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    let mut checksum = TrailingChecksum::default();
    let mut bytes = 0u64;
    let taken = async {
        while let Some(piece) = stream.message().await.context("the snapshot broke off")? {
            target.write_all(&piece.blob).with_context(|| format!("cannot write {}", part.display()))?;
            checksum.push(&piece.blob);
            bytes += u64::try_from(piece.blob.len())?;
        }
        checksum.check()?;
        target.sync_all().with_context(|| format!("cannot sync {}", part.display()))
    };
    if let Err(error) = taken.await {
        // What is there is of no use; that it is gone is a courtesy, not a promise.
        std::fs::remove_file(&part).unwrap_or_default();
        return Err(error);
    }
    std::fs::rename(&part, path)
        .with_context(|| format!("cannot move the snapshot to {}", path.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .context("the snapshot's folder cannot be synced")?;
    Ok(bytes)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    PathBuf::from(name)
}

/// SHA-256 over a stream but for its last 32 bytes, which must be that sum.
#[derive(Default)]
pub(super) struct TrailingChecksum {
    sum: Sha256,
    /// The last bytes so far: they may be the checksum.
    held: Vec<u8>,
}

impl TrailingChecksum {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let known = self.held.len().saturating_sub(CHECKSUM_BYTES);
        self.sum.update(&self.held[..known]);
        self.held.drain(..known);
    }

    /// At the end of the stream.
    pub(super) fn check(self) -> Result<()> {
        ensure!(self.held.len() == CHECKSUM_BYTES, "the snapshot is too short to have a checksum");
        if self.sum.finalize()[..] != self.held[..] {
            bail!("the snapshot's SHA-256 does not match: it is damaged, take another");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..=255).cycle().take(1_024).collect();
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn check(bytes: &[u8], piece_bytes: usize) -> Result<()> {
        let mut checksum = TrailingChecksum::default();
        bytes.chunks(piece_bytes).for_each(|piece| checksum.push(piece));
        checksum.check()
    }

    #[test]
    fn the_checksum_is_found_however_the_stream_is_cut() {
        for piece_bytes in [1, 7, 31, 32, 33, 512, 4_096] {
            assert!(check(&file(), piece_bytes).is_ok(), "{piece_bytes}");
        }
    }

    #[test]
    fn damage_anywhere_shows() {
        for at in [0, 500, 1_023, 1_024, 1_055] {
            let mut bytes = file();
            bytes[at] ^= 1;
            assert!(check(&bytes, 100).is_err(), "{at}");
        }
        assert!(check(&file()[..1_000], 100).is_err());
        assert!(check(&file()[..10], 100).unwrap_err().to_string().contains("too short"));
    }
}
