//! Start-up: image and log in, a store and a writer out. Nothing counts before it is durable again.

use crate::config::Config;
use crate::solo::Solo;
use core::time::Duration;
use quorate_store::{DecodeError, ImageError, ImageLoader, Store, decode};
use quorate_types::{
    ClusterId, ClusterTime, Entry, EntryKind, HardState, Identity, Index, Member, Membership, NodeId,
    PeerKey, Start, Term,
};
use quorate_wal::{
    DiskErrorKind, ImageHead, RealDisk, Recovered, Settings, Tail, WalError, Writer, images, open_image,
    recover, remove_unfinished_images,
};
use std::time::Instant;

/// How long a start waits for the folder: a process that was killed lets go of it only once the system has
/// taken its memory back.
const LOCK_WAIT: Duration = Duration::from_secs(3);
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// A node's folder, opened and made durable.
pub struct Opened {
    /// Who this is.
    pub identity: Identity,
    /// This start.
    pub start: Start,
    /// The members.
    pub membership: Membership,
    /// The card, for the background thread.
    pub disk: RealDisk,
    /// The log.
    pub writer: Writer<RealDisk>,
    /// The state as the newest image has it.
    pub store: Store,
    /// Consensus, with the entries above the image.
    pub core: Solo,
    /// Term at the image's index.
    pub applied_term: Term,
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
                "{folder} holds no node yet. To found a new cluster here, start once with --new-cluster; to go on with \
                 an existing node, name its folder with --data-dir"
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

/// Opens the folder: recovers what is there, or founds a cluster if it is empty and that was asked for.
///
/// # Errors
/// See `RecoverError`: each says whose fault it is and what to do.
pub fn open(config: &Config) -> Result<Opened, RecoverError> {
    let disk = open_disk(config)?;
    let Loaded { store, bytes: image_bytes, head, damaged } = load_newest(&disk)?;
    let head = head.as_ref();
    let mut recovered = recover(disk.clone(), Settings::default(), None, head, random())?;
    if recovered.identity.is_none() && head.is_none() {
        if let Some(error) = damaged.into_iter().next() {
            return Err(error.into());
        }
        if !config.new_cluster {
            return Err(RecoverError::Empty { folder: config.data_dir.display().to_string() });
        }
    } else {
        for error in damaged {
            tracing::warn!("{error}; an older image and the log hold everything, so it is passed over");
        }
        if config.new_cluster {
            tracing::info!("the folder belongs to a cluster already: --new-cluster is ignored");
        }
    }
    for line in recovered.report.drain(..) {
        tracing::info!("{line}");
    }
    remove_unfinished_images(&disk)?;
    begin(config, disk, (store, image_bytes), head, recovered)
}

fn open_disk(config: &Config) -> Result<RealDisk, RecoverError> {
    let folder = &config.data_dir;
    let is_there = folder.exists();
    if !is_there && !config.new_cluster {
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
fn load_newest(disk: &RealDisk) -> Result<Loaded, RecoverError> {
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
fn load_image(disk: &RealDisk, path: &str) -> Result<Result<(Store, u64), ImageError>, WalError> {
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

/// Makes what was recovered durable in a new start of this node, which leads by its own vote.
fn begin(
    config: &Config,
    disk: RealDisk,
    (store, image_bytes): (Store, u64),
    image: Option<&ImageHead>,
    recovered: Recovered<RealDisk>,
) -> Result<Opened, RecoverError> {
    let identity = recovered
        .identity
        .or(image.map(|head| head.identity))
        .unwrap_or_else(|| Identity { cluster: ClusterId(random().max(1)), node: NodeId(random().max(1)) });
    let membership =
        membership(config, identity, recovered.membership.or(image.map(|head| head.membership.clone())));
    let term_seen = recovered.hard_state.term.max(image.map_or(Term(0), |head| head.hard_state.term));
    let hard_state = HardState { term: Term(term_seen.0 + 1), vote: Some(identity.node) };
    let applied = store.applied();
    let entries = recovered.entries;
    let newest_time = check_entries(&entries)?.max(store.time());
    let writer = recovered.opener.begin(identity, membership.clone(), hard_state)?;
    let log_bytes = writer.bytes_since(recovered.base);
    Ok(Opened {
        identity,
        start: recovered.start,
        membership,
        disk,
        writer,
        store,
        core: Solo::restore(hard_state, identity.node, applied, entries),
        applied_term: recovered.base.term,
        image_bytes,
        image_number: recovered.image_number.max(image.map_or(0, |head| head.number)),
        log_bytes,
        newest_time,
        warning: warning(&recovered.tail),
    })
}

/// Decodes every command once, so that applying may rely on it; answers the newest cluster time.
fn check_entries(entries: &[Entry]) -> Result<ClusterTime, RecoverError> {
    let mut newest = ClusterTime::default();
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Command) {
        let fail = |error: DecodeError| RecoverError::Entry { index: entry.position.index, error };
        newest = newest.max(decode(&entry.payload).map_err(fail)?.time);
    }
    Ok(newest)
}

/// This node under its present name and addresses, alone.
fn membership(config: &Config, identity: Identity, recovered: Option<Membership>) -> Membership {
    let member = Member {
        id: identity.node,
        name: config.name.clone(),
        peer_addresses: Vec::new(),
        client_urls: config.advertise_client.clone(),
        key: PeerKey::default(),
        stays_learner: false,
    };
    match recovered {
        Some(membership) if membership.members.len() > 1 => membership,
        Some(_) | None => Membership::founded_by(member),
    }
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

fn random() -> u64 {
    getrandom::u64().expect("the system has randomness for its processes")
}
