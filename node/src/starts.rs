//! Small files beside the log by which cards that were copied or put back are known (protocol.md rule 12): the starts
//! of this node on this card, those seen of the others, and their verdict that this card is an older copy.

use quorate_types::limits::EARLIER_STARTS_COUNT_MAX;
use quorate_types::{NodeId, Start};
use quorate_wal::{Disk, WalError, read_small_file, write_small_file};
use std::collections::BTreeMap;

/// The file of the starts seen of other nodes (protocol.md rule 12).
const SEEN_PATH: &str = "peers";

/// The file of this node's starts on this card (protocol.md rule 12).
const STARTS_PATH: &str = "starts";

/// The file that says that this card is an older copy: the start of the node that others saw and this card does not
/// know.
const STALE_PATH: &str = "stale";

/// The starts seen of other nodes. What cannot be read counts as never seen: it guards against an operator's
/// mistake, and stands beside the log, not in it.
pub(crate) fn read_seen<D: Disk>(disk: &D) -> Result<BTreeMap<NodeId, Start>, WalError> {
    let bytes = match read_small_file(disk, SEEN_PATH) {
        Ok(bytes) => bytes,
        Err(WalError::Disk(error)) => return Err(WalError::Disk(error)),
        Err(error) => {
            tracing::warn!(%error, "the record of other nodes' starts is unreadable: it begins anew");
            None
        }
    };
    let seen = bytes.and_then(|bytes| postcard::from_bytes::<Vec<(NodeId, Start)>>(&bytes).ok());
    Ok(seen.unwrap_or_default().into_iter().collect())
}

/// Keeps the starts seen of other nodes for the next start. Answers how many bytes that took.
///
/// # Errors
/// What the card says; nothing else is lost by it.
pub fn write_seen<D: Disk>(disk: &D, seen: &BTreeMap<NodeId, Start>) -> Result<u64, WalError> {
    let seen: Vec<(NodeId, Start)> = seen.iter().map(|(node, start)| (*node, *start)).collect();
    let bytes = postcard::to_allocvec(&seen).expect("plain values always encode into a growing vector");
    write_small_file(disk, SEEN_PATH, &bytes)
}

/// Notes that `start` begins; answers the starts before it on this card, oldest first. What cannot be read counts as
/// none: the others then judge by the count alone.
pub(crate) fn note_start<D: Disk>(disk: &D, start: Start) -> Result<Vec<Start>, WalError> {
    let bytes = match read_small_file(disk, STARTS_PATH) {
        Ok(bytes) => bytes,
        Err(WalError::Disk(error)) => return Err(WalError::Disk(error)),
        Err(error) => {
            tracing::warn!(%error, "the record of this node's starts is unreadable: it begins anew");
            None
        }
    };
    let starts = bytes.and_then(|bytes| postcard::from_bytes::<Vec<Start>>(&bytes).ok());
    let mut starts = starts.unwrap_or_default();
    starts.retain(|earlier| earlier.count < start.count);
    starts.drain(..starts.len().saturating_sub(EARLIER_STARTS_COUNT_MAX));
    let earlier = starts.clone();
    starts.push(start);
    let bytes = postcard::to_allocvec(&starts).expect("plain values always encode into a growing vector");
    write_small_file(disk, STARTS_PATH, &bytes)?;
    Ok(earlier)
}

/// The start of this node that others saw and this card does not know, if it was refused for that.
pub(crate) fn read_stale<D: Disk>(disk: &D) -> Result<Option<Start>, WalError> {
    let damaged = || WalError::FileDamaged { file: STALE_PATH.to_owned(), what: "it names no start" };
    let bytes = read_small_file(disk, STALE_PATH)?;
    bytes.map(|bytes| postcard::from_bytes(&bytes).map_err(|_| damaged())).transpose()
}

/// Notes for every later start that this card is an older copy, by the start `seen` that others saw.
///
/// # Errors
/// What the card says: then only the others know.
pub fn write_stale<D: Disk>(disk: &D, seen: Start) -> Result<(), WalError> {
    let bytes = postcard::to_allocvec(&seen).expect("plain values always encode into a growing vector");
    write_small_file(disk, STALE_PATH, &bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::{RecoverError, look};
    use quorate_wal::RealDisk;

    fn start(count: u64) -> Start {
        Start { count, incarnation: count * 7 }
    }

    #[test]
    fn each_start_knows_those_before_it_on_its_card() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        assert_eq!(note_start(&disk, start(1)).unwrap(), []);
        assert_eq!(note_start(&disk, start(2)).unwrap(), [start(1)]);
        // It ended before anybody heard of it: the next has its number.
        let again = Start { count: 2, incarnation: 1 };
        assert_eq!(note_start(&disk, again).unwrap(), [start(1)]);
        assert_eq!(note_start(&disk, start(3)).unwrap(), [start(1), again]);
        for count in 4..200 {
            note_start(&disk, start(count)).unwrap();
        }
        let earlier = note_start(&disk, start(200)).unwrap();
        assert_eq!(earlier.len(), EARLIER_STARTS_COUNT_MAX);
        assert_eq!(earlier.last(), Some(&start(199)));
    }

    #[test]
    fn a_card_refused_as_an_older_copy_is_never_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        assert!(look(disk.clone(), 1).is_ok());
        write_stale(&disk, start(9)).unwrap();
        let refused = look(disk, 2).err().expect("it is refused");
        assert!(matches!(refused, RecoverError::OlderCopy { count: 9 }), "{refused}");
    }
}
