//! What commonly goes wrong with the storage under a data folder, and what to do about it.

use core::fmt;
use core::time::Duration;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Good to know; acknowledged writes are safe.
    Warning,
    /// Acknowledged writes can be lost, or none can be made.
    Serious,
}

/// One thing that is wrong, or looks so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The file system does not flush the card's cache on a sync.
    BarriersOff {
        /// The mount option that says so.
        option: String,
    },
    /// ZFS answers syncs without doing them.
    SyncDisabled {
        /// The dataset.
        dataset: String,
    },
    /// A container's writable layer.
    Overlay {
        /// It is told to leave out syncs.
        is_volatile: bool,
    },
    /// Memory, not a card.
    Memory {
        /// The file system or device.
        kind: String,
    },
    /// Another machine's disk.
    Network {
        /// The file system.
        kind: String,
    },
    /// A file system without a journal.
    NoJournal {
        /// The file system.
        kind: String,
    },
    /// Mounted to be read only.
    ReadOnly,
    /// The folder takes no file.
    NotWritable {
        /// The system's words.
        reason: String,
    },
    /// Too little room even to measure.
    NoSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Room to measure, and too little for a node.
    LittleSpace {
        /// Bytes a node needs to begin.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Too few files can be made.
    NoFiles {
        /// How many can.
        free: u64,
    },
    /// The clock stands before this release was made.
    ClockNeverSet {
        /// The clock's year.
        year: u64,
    },
    /// Memory is swapped to the same card.
    SwapOnCard {
        /// The swap device or file.
        swap: String,
    },
    /// Syncs are faster than the device can be.
    TooFast {
        /// Median.
        p50: Duration,
        /// The device.
        device: String,
        /// The kernel sends it no flushes, because it says that it has no cache.
        says_no_cache: bool,
    },
    /// Syncs succeed, and the device with a cache is not flushed.
    SyncsDoNotArrive {
        /// Appends synced.
        appends: u64,
        /// Flushes the device saw meanwhile.
        flushes: u64,
    },
    /// Reading back gave other bytes than were written.
    WrongBytes {
        /// Blocks of 4 KiB that differ.
        blocks: u64,
    },
    /// The card says that its life is nearly used up, or is.
    Worn {
        /// Per cent of its life that may be used by its own estimate; more than 100 is past its end.
        percent: Option<u8>,
        /// Its spare blocks are nearly gone.
        is_urgent: bool,
    },
}

impl Finding {
    /// How much it weighs.
    #[must_use]
    pub fn weight(&self) -> Weight {
        match self {
            Finding::BarriersOff { .. }
            | Finding::SyncDisabled { .. }
            | Finding::Overlay { is_volatile: true }
            | Finding::Memory { .. }
            | Finding::ReadOnly
            | Finding::NotWritable { .. }
            | Finding::NoSpace { .. }
            | Finding::NoFiles { .. }
            | Finding::TooFast { .. }
            | Finding::SyncsDoNotArrive { .. }
            | Finding::WrongBytes { .. }
            | Finding::Worn { is_urgent: true, .. } => Weight::Serious,
            Finding::Overlay { is_volatile: false }
            | Finding::Network { .. }
            | Finding::NoJournal { .. }
            | Finding::LittleSpace { .. }
            | Finding::ClockNeverSet { .. }
            | Finding::SwapOnCard { .. }
            | Finding::Worn { is_urgent: false, .. } => Weight::Warning,
        }
    }

    /// Whether the card itself is failing, rather than set up wrongly.
    #[must_use]
    pub fn is_failing_card(&self) -> bool {
        matches!(self, Finding::WrongBytes { .. } | Finding::Worn { is_urgent: true, .. })
    }

    /// A name for programs; never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Finding::BarriersOff { .. } => "barriers-off",
            Finding::SyncDisabled { .. } => "sync-disabled",
            Finding::Overlay { .. } => "overlay",
            Finding::Memory { .. } => "memory",
            Finding::Network { .. } => "network",
            Finding::NoJournal { .. } => "no-journal",
            Finding::ReadOnly => "read-only",
            Finding::NotWritable { .. } => "not-writable",
            Finding::NoSpace { .. } => "no-space",
            Finding::LittleSpace { .. } => "little-space",
            Finding::NoFiles { .. } => "no-files",
            Finding::ClockNeverSet { .. } => "clock-never-set",
            Finding::SwapOnCard { .. } => "swap-on-card",
            Finding::TooFast { .. } => "too-fast",
            Finding::SyncsDoNotArrive { .. } => "syncs-do-not-arrive",
            Finding::WrongBytes { .. } => "wrong-bytes",
            Finding::Worn { .. } => "worn",
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Finding::BarriersOff { .. } => "take that option out of /etc/fstab and mount again",
            Finding::SyncDisabled { .. } => "`zfs set sync=standard` for it",
            Finding::Overlay { is_volatile: true } => "mount a volume for the data folder",
            Finding::Overlay { is_volatile: false } => {
                "mount a volume for the data folder, so that it outlives the container"
            }
            Finding::Memory { .. } => "name a folder on the card",
            Finding::Network { .. } => "name a folder on a card or disk of this board",
            Finding::NoJournal { .. } => "format it with ext4, or rely on the other boards after a power cut",
            Finding::ReadOnly => {
                "mount it to be written; if the kernel made it read-only after errors (`dmesg`), replace the card"
            }
            Finding::NotWritable { .. } => "give this user the right to write there, or name another folder",
            Finding::NoSpace { .. } | Finding::LittleSpace { .. } => {
                "make room, or name a folder on a larger card"
            }
            Finding::NoFiles { .. } => "remove files, or format it with more inodes",
            Finding::ClockNeverSet { .. } => {
                "set the clock (NTP): Quorate does without, TLS certificates of clients and log lines do not"
            }
            Finding::SwapOnCard { .. } => "turn it off (`swapoff`), or swap to zram",
            Finding::TooFast { .. } => {
                "trust it only if you know why (a virtual disk, a controller with a battery); else use another card"
            }
            Finding::SyncsDoNotArrive { .. } => {
                "look for a mount option, a library or a hypervisor that leaves syncs out"
            }
            Finding::WrongBytes { .. } | Finding::Worn { is_urgent: true, .. } => "replace the card now",
            Finding::Worn { is_urgent: false, .. } => "have another card ready",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::BarriersOff { option } => write!(
                f,
                "the file system is mounted with {option}: a sync does not reach the card, a power cut loses what was \
                 acknowledged"
            ),
            Finding::SyncDisabled { dataset } => {
                write!(f, "ZFS has sync=disabled for {dataset}: a power cut loses what was acknowledged")
            }
            Finding::Overlay { is_volatile: true } => {
                f.write_str("an overlay with the option volatile leaves out syncs")
            }
            Finding::Overlay { is_volatile: false } => {
                f.write_str("this is a container's own layer: it goes with the container")
            }
            Finding::Memory { kind } => write!(f, "{kind} is memory: it does not survive a power cut"),
            Finding::Network { kind } => {
                write!(
                    f,
                    "{kind} is another machine's disk: boards that share it fail together, and with the network"
                )
            }
            Finding::NoJournal { kind } => {
                write!(f, "{kind} has no journal: a power cut can damage the folder itself")
            }
            Finding::ReadOnly => f.write_str("the file system is mounted read-only"),
            Finding::NotWritable { reason } => write!(f, "the folder takes no file: {reason}"),
            Finding::NoSpace { needed, free } => {
                write!(f, "no space: measuring needs {} MiB, {} MiB are free", mib(*needed), free >> 20)
            }
            Finding::LittleSpace { needed, free } => {
                write!(
                    f,
                    "little space: a node needs {} MiB to begin with, {} MiB are free",
                    mib(*needed),
                    free >> 20
                )
            }
            Finding::NoFiles { free } => write!(f, "only {free} more files can be made (inodes)"),
            Finding::ClockNeverSet { year } => write!(f, "the clock was never set: it shows the year {year}"),
            Finding::SwapOnCard { swap } => {
                write!(
                    f,
                    "memory is swapped out to {swap} on the same card: when it pauses, every program does"
                )
            }
            Finding::TooFast { p50, device, says_no_cache } => {
                f.write_str(&too_fast(*p50, device, *says_no_cache))
            }
            Finding::SyncsDoNotArrive { appends, flushes } => {
                write!(
                    f,
                    "syncs do not reach the card: {appends} of them, {flushes} flushes of a device with a cache"
                )
            }
            Finding::WrongBytes { blocks } => {
                write!(f, "the card gave back other bytes than were written, in {blocks} blocks of 4 KiB")
            }
            Finding::Worn { percent, is_urgent } => f.write_str(&worn(*percent, *is_urgent)),
        }
    }
}

fn too_fast(p50: Duration, device: &str, says_no_cache: bool) -> String {
    let cache = if says_no_cache { "; it says it has no cache, so the kernel never flushes it" } else { "" };
    let micros = p50.as_micros();
    format!(
        "a suspicion: {device} answers a sync in {micros} µs, faster than such a device can write{cache}. It may lie, \
         and lose in a power cut what was acknowledged"
    )
}

fn worn(percent: Option<u8>, is_urgent: bool) -> String {
    match (percent, is_urgent) {
        (Some(percent), _) if percent > 100 => "the card says it is past the end of its life".into(),
        (_, true) => "the card says its spare blocks are nearly gone".into(),
        (Some(percent), false) => format!("the card says that up to {percent} % of its life are used"),
        (None, false) => "the card says that four fifths of its spare blocks are used".into(),
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
