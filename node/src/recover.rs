//! Start-up: image and log in, a store and a writer out. Nothing counts before it is durable again.

use crate::config::Config;
use crate::starts::{note_start, read_seen, read_stale};
use core::time::Duration;
use quorate_peer::{KeyError, NodeKey};
use quorate_raft::{Config as CoreConfig, Raft, Restored, decode_membership};
use quorate_store::{DecodeError, ImageError, ImageLoader, Store, decode};
use quorate_types::{
    ClusterTime, Entry, EntryKind, HardState, Identity, Index, Membership, NodeId, Position, Start, Term,
};
use quorate_wal::{
    Disk, DiskErrorKind, ImageHead, RealDisk, Recovered, Settings, Tail, WalError, Writer, images,
    open_image, read_small_file, recover, remove_unfinished_images, write_small_file,
};
use std::time::Instant;

/// How long a start waits for the folder: a process that was killed lets go of it only once the system has
/// taken its memory back.
const LOCK_WAIT: Duration = Duration::from_secs(3);
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// The file of this node's key.
const KEY_PATH: &str = "key";

/// What the folder holds, read and not yet made durable.
pub struct Found<D: Disk> {
    disk: D,
    loaded: Loaded,
    recovered: Recovered<D>,
}

/// What a node begins with that has no log yet: it founds a cluster, or has joined one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// Who it is.
    pub identity: Identity,
    /// The members as it was told.
    pub membership: Membership,
}

/// A node's folder, opened and made durable.
pub struct Opened<D: Disk> {
    /// Who this is.
    pub identity: Identity,
    /// This start.
    pub start: Start,
    /// The starts before it on this card, oldest first.
    pub earlier: Vec<Start>,
    /// The members, as far as is committed.
    pub membership: Membership,
    /// The card, for the background thread.
    pub disk: D,
    /// The log.
    pub writer: Writer<D>,
    /// The state as the newest image has it.
    pub store: Store,
    /// Consensus, with the entries above the image.
    pub core: Raft,
    /// Term at the image's index.
    pub applied_term: Term,
    /// Position of the newest image, if there is one.
    pub image_position: Option<Position>,
    /// Size of the newest image.
    pub image_bytes: u64,
    /// Images counted so far.
    pub image_number: u64,
    /// Bytes of log above the newest.
    pub log_bytes: u64,
    /// Newest cluster time the image or the log knows.
    pub newest_time: ClusterTime,
    /// What the operator should know of the log's end.
    pub warning: Option<String>,
}

/// Why a folder cannot be opened.
#[derive(Debug)]
pub enum RecoverError {
    /// It is empty, and nobody said to found a cluster.
    Empty {
        /// The folder.
        folder: String,
    },
    /// It cannot be made or used.
    Folder {
        /// The folder.
        folder: String,
        /// The system's words.
        reason: String,
    },
    /// The log or the image says no.
    Wal(WalError),
    /// The image's blocks are whole and its content does not load.
    Image {
        /// The image's index.
        index: Index,
        /// What is wrong.
        error: ImageError,
    },
    /// The node's key cannot be read.
    Key(KeyError),
    /// The other members refused this card as an older copy of the node.
    OlderCopy {
        /// Starts of the node that they had seen.
        count: u64,
    },
    /// An entry's bytes are whole and do not decode.
    Entry {
        /// Where.
        index: Index,
        /// What is wrong.
        error: DecodeError,
    },
}

impl core::fmt::Display for RecoverError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RecoverError::Empty { folder } => write!(
                f,
                "{folder} holds no node yet. To found a new cluster here, start once with --new-cluster; to join one, \
                 with --join and a token of `quorate invite`; to go on with an existing node, name its folder with \
                 --data-dir"
            ),
            RecoverError::Folder { folder, reason } => {
                write!(f, "{folder}: {reason}. Name a folder this user may write with --data-dir")
            }
            RecoverError::Wal(error) => write!(f, "{error}"),
            RecoverError::Image { index, error } => write!(
                f,
                "the image at index {index} does not load: {error}. A newer release may have written it: start that \
                 one, or restore a snapshot into an empty folder"
            ),
            RecoverError::Key(error) => write!(
                f,
                "the file 'key' in the folder: {error}. It is what the other nodes know this one by: bring it back \
                 from a copy of the card, or remove the member and join anew from an empty folder"
            ),
            RecoverError::OlderCopy { count } => write!(
                f,
                "the other members refused this card: they had seen start {count} of this node, which it does not \
                 know, so it is an older copy, or one of two. It may have forgotten votes and acknowledged writes. \
                 Remove the member, empty the folder, and join it anew"
            ),
            RecoverError::Entry { index, error } => write!(
                f,
                "entry {index} of the log does not decode: {error}. A newer release may have written it: start that \
                 one, or restore a snapshot into an empty folder"
            ),
        }
    }
}

impl core::error::Error for RecoverError {}

impl From<WalError> for RecoverError {
    fn from(error: WalError) -> RecoverError {
        RecoverError::Wal(error)
    }
}

/// Opens the folder itself, made if a node is to begin in it.
///
/// # Errors
/// `Empty` if it is not there, or what the system says.
pub fn open_disk(config: &Config) -> Result<RealDisk, RecoverError> {
    let folder = &config.data_dir;
    let may_begin = config.new_cluster || config.join.is_some();
    if !folder.exists() && !may_begin {
        return Err(RecoverError::Empty { folder: folder.display().to_string() });
    }
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match RealDisk::open(folder) {
            Err(error) if error.kind == DiskErrorKind::Locked && Instant::now() < deadline => {
                std::thread::sleep(LOCK_LOOK);
            }
            Err(error) if error.kind == DiskErrorKind::Io && !folder.is_dir() => {
                let folder = folder.display().to_string();
                return Err(RecoverError::Folder { folder, reason: error.to_string() });
            }
            opened => return Ok(opened.map_err(WalError::from)?),
        }
    }
}

/// Reads what the folder holds. `incarnation` is random for each start.
///
/// # Errors
/// See `RecoverError`: each says whose fault it is and what to do.
pub fn look<D: Disk>(disk: D, incarnation: u64) -> Result<Found<D>, RecoverError> {
    if let Some(seen) = read_stale(&disk)? {
        return Err(RecoverError::OlderCopy { count: seen.count });
    }
    let mut loaded = load_newest(&disk)?;
    let mut recovered = recover(disk.clone(), Settings::default(), None, loaded.head.as_ref(), incarnation)?;
    let damaged = core::mem::take(&mut loaded.damaged);
    if recovered.identity.is_none() && loaded.head.is_none() {
        if let Some(error) = damaged.into_iter().next() {
            return Err(error.into());
        }
    } else {
        for error in damaged {
            tracing::warn!("{error}; an older image and the log hold everything, so it is passed over");
        }
    }
    for line in recovered.report.drain(..) {
        tracing::info!("{line}");
    }
    remove_unfinished_images(&disk)?;
    Ok(Found { disk, loaded, recovered })
}

impl<D: Disk> Found<D> {
    /// Who wrote it; none if no node has begun here.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.recovered.identity.or(self.loaded.head.as_ref().map(|head| head.identity))
    }

    /// The card.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Makes what was found durable in a new start of this node, or begins with `founding` in an empty folder.
    /// `seed` is random: it spreads the election timeouts of the nodes.
    ///
    /// # Errors
    /// See `RecoverError`.
    ///
    /// # Panics
    /// If the folder is empty and nothing is founded.
    pub fn begin(self, founding: Option<Founding>, seed: u64) -> Result<Opened<D>, RecoverError> {
        let Found { disk, loaded: Loaded { store, bytes: image_bytes, head, .. }, recovered } = self;
        let (found, image) = (recovered.identity, head.as_ref());
        let identity =
            found.or(image.map(|head| head.identity)).or(founding.as_ref().map(|new| new.identity));
        let identity = identity.expect("a node begins with what it found or with a founding");
        // The image's is the newer one if the log ends before it; both are committed.
        let memberships = [
            recovered.membership,
            image.map(|head| head.membership.clone()),
            founding.map(|new| new.membership),
        ];
        let membership = memberships.into_iter().flatten().max_by_key(|membership| membership.version);
        let membership = membership.unwrap_or_default();
        let hard_state = hard_state(identity.node, recovered.hard_state, image);
        let newest_time = check_entries(&recovered.entries)?.max(store.time());
        // Before the start counts: one that nobody heard of is forgotten by the next, which has its number again.
        let earlier = note_start(&disk, recovered.start)?;
        let writer = recovered.opener.begin(identity, membership.clone(), hard_state)?;
        let log_bytes = writer.bytes_since(recovered.base);
        let restored = Restored {
            hard_state,
            membership: membership.clone(),
            base: recovered.base,
            entries: recovered.entries,
            committed: recovered.commit_hint,
            applied: store.applied(),
            seen: read_seen(&disk)?,
            earlier: earlier.clone(),
        };
        let config = CoreConfig { node: identity.node, start: recovered.start, seed };
        Ok(Opened {
            identity,
            start: recovered.start,
            earlier,
            membership,
            disk,
            writer,
            store,
            core: Raft::restore(config, restored),
            applied_term: recovered.base.term,
            image_position: image.map(|head| head.position),
            image_bytes,
            image_number: recovered.image_number.max(image.map_or(0, |head| head.number)),
            log_bytes,
            newest_time,
            warning: warning(&recovered.tail),
        })
    }
}

/// The newest term and vote. A peer's image says nothing of this node's vote, but its entries' term was seen.
fn hard_state(node: NodeId, recovered: HardState, image: Option<&ImageHead>) -> HardState {
    let own = image.filter(|head| head.identity.node == node).map(|head| head.hard_state);
    let hard_state = own.filter(|own| own.term > recovered.term).unwrap_or(recovered);
    let seen = image.map_or(hard_state.term, |head| head.position.term);
    if seen > hard_state.term { HardState { term: seen, vote: None } } else { hard_state }
}

/// This node's key, made at its first start.
///
/// # Errors
/// What the card says, or that the file is no key.
pub fn node_key<D: Disk>(disk: &D) -> Result<NodeKey, RecoverError> {
    if let Some(bytes) = read_small_file(disk, KEY_PATH)? {
        return NodeKey::from_bytes(&bytes).map_err(RecoverError::Key);
    }
    let key = NodeKey::generate().map_err(RecoverError::Key)?;
    write_small_file(disk, KEY_PATH, &key.to_bytes())?;
    Ok(key)
}

/// What the newest whole image holds.
struct Loaded {
    store: Store,
    bytes: u64,
    head: Option<ImageHead>,
    /// What is wrong with newer ones. The log must then reach back to the one that was taken, or recovery
    /// finds a gap.
    damaged: Vec<WalError>,
}

/// Loads the newest image that is whole, reading each block once.
fn load_newest<D: Disk>(disk: &D) -> Result<Loaded, RecoverError> {
    let mut damaged = Vec::new();
    for file in images(disk)? {
        match file.head.and_then(|head| load_image(disk, &file.path).map(|loaded| (head, loaded))) {
            Ok((head, Ok((store, bytes)))) => {
                return Ok(Loaded { store, bytes, head: Some(head), damaged });
            }
            Ok((head, Err(error))) => return Err(RecoverError::Image { index: head.position.index, error }),
            Err(error @ WalError::ImageDamaged { .. }) => damaged.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Loaded { store: Store::new(), bytes: 0, head: None, damaged })
}

/// The outer result is the card's fault, the inner one that of whoever wrote the image.
fn load_image<D: Disk>(disk: &D, path: &str) -> Result<Result<(Store, u64), ImageError>, WalError> {
    let mut reader = open_image(disk, path)?;
    let mut loader = ImageLoader::new();
    let mut bytes = 0;
    while let Some(block) = reader.next_block()? {
        bytes += u64::try_from(block.len()).unwrap_or(u64::MAX);
        if let Err(error) = loader.push(block) {
            return Ok(Err(error));
        }
    }
    Ok(loader.finish().map(|store| (store, bytes)))
}

/// Decodes every command once, so that applying may rely on it; answers the newest cluster time.
fn check_entries(entries: &[Entry]) -> Result<ClusterTime, RecoverError> {
    let mut newest = ClusterTime::default();
    for entry in entries {
        let fail = |error: DecodeError| RecoverError::Entry { index: entry.position.index, error };
        match entry.kind {
            EntryKind::Noop => {}
            EntryKind::Command => newest = newest.max(decode(&entry.payload).map_err(fail)?.time),
            EntryKind::Membership => {
                decode_membership(entry).ok_or(DecodeError::Malformed).map_err(fail)?;
            }
        }
    }
    Ok(newest)
}

/// What the operator should know of the log's end.
fn warning(tail: &Tail) -> Option<String> {
    match tail {
        Tail::Clean | Tail::Torn { .. } => None,
        Tail::PossiblyAcknowledged { file, offset, first } => Some(format!(
            "the last write to the log, in {file} at byte {offset}, cannot be read: entries from index {first} on may \
             have been acknowledged and are lost. The card may be failing"
        )),
    }
}

/// A number nobody can guess.
#[must_use]
pub fn random() -> u64 {
    getrandom::u64().expect("the system has randomness for its processes")
}
