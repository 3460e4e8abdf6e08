//! `snapshot restore`: a folder from which a node starts as the founder of a new cluster.

use super::file::SnapshotFile;
use anyhow::{Context, Result, anyhow, ensure};
use quorate_types::{ClusterId, HardState, Identity, Member, Membership, NodeId, PeerKey};
use quorate_wal::{ImageHead, ImageWriter, RealDisk, Settings, recover};
use std::path::Path;

/// Makes the folder and answers who the node in it will be.
///
/// The image is durable before the log begins. A power cut in between leaves an image without a log, which
/// quorated refuses; the other way round it would leave what looks like an empty cluster.
pub(super) fn restore(snapshot: &SnapshotFile, folder: &Path, name: &str) -> Result<Identity> {
    // All of it must make sense before anything is written.
    let (head, _) = snapshot.load()?;
    ensure!(
        is_empty(folder)?,
        "{} is not empty: restore into a new folder, and move the old one away yourself",
        folder.display()
    );
    let identity = Identity { cluster: ClusterId(random()?), node: NodeId(random()?) };
    let member = Member {
        id: identity.node,
        name: name.to_owned(),
        peer_addresses: Vec::new(),
        client_urls: Vec::new(),
        key: PeerKey::default(),
        stays_learner: false,
    };
    let membership = Membership::founded_by(member);
    // The log position goes on from the snapshot's; its votes belong to another cluster.
    let hard_state = HardState { term: head.position.term, vote: None };

    let disk = RealDisk::open(folder)?;
    let recovered = recover(disk.clone(), Settings::default(), None, None, random()?)?;
    let head = ImageHead {
        identity,
        membership: membership.clone(),
        hard_state,
        start: recovered.start,
        number: 1,
        ..head
    };
    let mut target = ImageWriter::create(disk, &head)?;
    let mut image = snapshot.image()?;
    while let Some(block) = image.next_block()? {
        target.write(block)?;
    }
    target.finish()?;
    recovered.opener.begin(identity, membership, hard_state)?;
    Ok(identity)
}

/// Whether nothing is there but what a fresh file system has.
fn is_empty(folder: &Path) -> Result<bool> {
    if !folder.exists() {
        return Ok(true);
    }
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot look into {}", folder.display()))?;
    for entry in entries {
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Never zero: that is nobody's identity.
fn random() -> Result<u64> {
    loop {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system has no random numbers: {error}"))?;
        let number = u64::from_le_bytes(bytes);
        if number != 0 {
            return Ok(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::UNIT_BYTES;
    use super::*;
    use quorate_store::{Command, KeyRange, Put, RangeRequest, Store};
    use quorate_types::{ClusterTime, Index, Position, Start, Term};
    use quorate_wal::{ImageEncoder, newest_image};
    use sha2::{Digest, Sha256};
    use std::path::PathBuf;

    const KEY_COUNT: u64 = 1_000;

    fn store() -> Store {
        let mut store = Store::new();
        for index in 1..=KEY_COUNT {
            let put = Put { key: format!("key-{index}").into_bytes(), value: vec![7; 200], ..Put::default() };
            store.apply(Index(index), ClusterTime(index), &Command::Put(put));
        }
        store
    }

    /// The bytes `Maintenance.Snapshot` sends.
    fn snapshot_bytes(store: &mut Store) -> Vec<u8> {
        let old = Identity { cluster: ClusterId(1), node: NodeId(2) };
        let head = ImageHead {
            identity: old,
            position: Position { term: Term(3), index: Index(KEY_COUNT) },
            membership: Membership::default(),
            hard_state: HardState { term: Term(3), vote: Some(NodeId(2)) },
            start: Start { count: 9, incarnation: 9 },
            number: 4,
        };
        let mut bytes = Vec::new();
        let mut encoder = ImageEncoder::new(&head, &mut bytes);
        let mut export = store.begin_export();
        loop {
            let mut slice = Vec::new();
            let more = store.export_next(&mut export, 10_000, &mut slice);
            encoder.push(&slice, &mut bytes);
            if export.is_done() || !more {
                break;
            }
        }
        store.end_export(export);
        encoder.finish(&mut bytes);
        bytes.resize(bytes.len().next_multiple_of(usize::try_from(UNIT_BYTES).unwrap()), 0);
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
        let path = folder.join("backup.snap");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_restored_folder_recovers_with_new_identities_and_the_same_keys() {
        let temporary = tempfile::tempdir().unwrap();
        let mut store = store();
        let path = write(temporary.path(), &snapshot_bytes(&mut store));
        let folder = temporary.path().join("data");
        let snapshot = SnapshotFile::open(&path, false).unwrap();
        let identity = restore(&snapshot, &folder, "n1").unwrap();

        let disk = RealDisk::open(&folder).unwrap();
        let newest = newest_image(&disk).unwrap();
        assert_eq!(newest.damaged, []);
        let (head, image) = newest.image.unwrap();
        let recovered = recover(disk.clone(), Settings::default(), Some(identity), Some(&head), 77).unwrap();
        assert_eq!(recovered.identity, Some(identity));
        assert_eq!(recovered.base, Position { term: Term(3), index: Index(KEY_COUNT) });
        assert_eq!((recovered.hard_state.term, recovered.entries.len()), (Term(3), 0));
        assert_eq!(recovered.membership.as_ref().unwrap().members[0].name, "n1");
        assert_ne!(identity.cluster, ClusterId(1));
        let membership = recovered.membership.unwrap();
        recovered.opener.begin(identity, membership, recovered.hard_state).unwrap();

        let restored = SnapshotFile::open(&folder.join(image), true).unwrap().load().unwrap().1;
        assert_eq!(restored.digest(), store.digest());
        let everything = RangeRequest::all(KeyRange::from_wire(b"k".to_vec(), b"l".to_vec()));
        assert_eq!(u64::try_from(restored.range(&everything).unwrap().kvs.len()).unwrap(), KEY_COUNT);
    }

    #[test]
    fn a_folder_that_holds_anything_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = write(temporary.path(), &snapshot_bytes(&mut store()));
        let snapshot = SnapshotFile::open(&path, false).unwrap();
        let error = restore(&snapshot, temporary.path(), "n1").unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        assert!(!temporary.path().join("wal").exists());
    }

    #[test]
    fn damage_is_found_with_and_without_the_checksum() {
        let temporary = tempfile::tempdir().unwrap();
        let good = snapshot_bytes(&mut store());
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        let path = write(temporary.path(), &bad);
        let error = format!("{:#}", SnapshotFile::open(&path, false).unwrap_err());
        assert!(error.contains("SHA-256"), "{error}");
        assert!(SnapshotFile::open(&path, true).unwrap().load().is_err());

        let path = write(temporary.path(), &good[..good.len() - 100]);
        let error = format!("{:#}", SnapshotFile::open(&path, false).unwrap_err());
        assert!(error.contains("the end is missing"), "{error}");
    }
}
