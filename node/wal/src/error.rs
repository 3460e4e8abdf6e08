//! What can go wrong, whose fault it is, and what may be done about it.

use crate::DiskError;
use core::fmt;
use quorate_types::{Identity, Index, Start};

/// Every way the log says no. After the first one from a `Writer` each later call answers the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalError {
    /// The disk refused a read, a write or a sync. Final: a failed sync is never tried again, since the
    /// kernel marks the lost pages clean.
    Disk(DiskError),
    /// Bytes this node has promised to keep are not what was written.
    Corrupt {
        /// The file, below the data folder.
        file: String,
        /// Byte in it where the damage begins.
        offset: u64,
        /// Last index that is still whole.
        after: Index,
        /// What is wrong there.
        what: &'static str,
    },
    /// A part of the log between the image and its end is not there.
    Gap {
        /// Last index that is there.
        after: Index,
        /// What misses.
        what: &'static str,
    },
    /// The folder holds files of another cluster or node.
    Foreign {
        /// The file that does not belong.
        file: String,
        /// Who should have written it.
        expected: Identity,
        /// Who did.
        found: Identity,
    },
    /// Files of two lives of this node that exclude each other: a card was copied or restored.
    OlderIncarnation {
        /// The file that shows it.
        file: String,
        /// The start known before.
        known: Start,
        /// The start found after it.
        found: Start,
    },
    /// A newer release wrote this.
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u16,
        /// The newest this release reads.
        known: u16,
    },
    /// An image cannot be read back whole.
    ImageDamaged {
        /// The file or stream.
        file: String,
        /// Byte in it where the damage shows.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A small file beside the log is not what was written.
    FileDamaged {
        /// The file, below the data folder.
        file: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The span asked for is no longer in the log: an image covers it.
    Trimmed {
        /// First index asked for.
        first: Index,
    },
    /// The index asked for is not in the log as far as it is synced: not yet, or no more.
    Beyond {
        /// That index.
        index: Index,
    },
    /// A batch or a membership does not fit a segment of the size this log was set up with.
    TooLarge {
        /// Its bytes.
        bytes: u64,
        /// What a segment holds.
        bytes_max: u64,
    },
}

impl From<DiskError> for WalError {
    fn from(error: DiskError) -> WalError {
        WalError::Disk(error)
    }
}

impl core::error::Error for WalError {}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalError::Disk(error) => write!(f, "{error}"),
            WalError::Corrupt { file, offset, after, what } => write!(
                f,
                "{file} is damaged at byte {offset}: {what}. The log is whole up to index {after}; entries \
                 after it may have been acknowledged. The card returned other bytes than were written: replace \
                 it and restore this node from a snapshot or from its peers"
            ),
            WalError::Gap { after, what } => write!(
                f,
                "the log has a gap after index {after}: {what}. A file was removed or an image is missing: put \
                 it back, or restore this node from a snapshot or from its peers"
            ),
            WalError::Foreign { file, expected, found } => write!(
                f,
                "{file} was written by {found}, this folder belongs to {expected}: give each node a folder of \
                 its own"
            ),
            WalError::OlderIncarnation { file, known, found } => write!(
                f,
                "{file} was written in start {} ({:x}), after start {} ({:x}): the folder mixes a copy or a \
                 backup of itself with a later state. Restore this node from a snapshot or from its peers",
                found.count, found.incarnation, known.count, known.incarnation
            ),
            WalError::NewerFormat { file, found, known } => write!(
                f,
                "{file} was written by a newer release (format {found}, this one reads up to {known}): start \
                 that release, or restore a snapshot into an empty folder"
            ),
            WalError::ImageDamaged { file, offset, what } => write!(
                f,
                "image {file} is damaged at byte {offset}: {what}. Restore this node from a snapshot or from its \
                 peers"
            ),
            WalError::FileDamaged { file, what } => write!(
                f,
                "{file} is damaged: {what}. The card returned other bytes than were written: restore the file, or \
                 join the cluster anew from an empty folder"
            ),
            WalError::Trimmed { first } => {
                write!(f, "index {first} is no longer in the log, an image covers it: send the image instead")
            }
            WalError::Beyond { index } => {
                write!(f, "index {index} is not in the log, as far as it is on the card")
            }
            WalError::TooLarge { bytes, bytes_max } => {
                write!(f, "{bytes} bytes in one piece do not fit a segment, which holds {bytes_max}")
            }
        }
    }
}
