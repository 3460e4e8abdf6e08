//! The storage under a data folder: what it is, what is wrong with it, how long its syncs take and what that means.
//!
//! Measures as the log writes: a zero-filled file, 4 KiB blocks never written twice, an `fdatasync` after each.
//! `quorate doctor disk` asks at length, `quorated` at its first start with a glance.

mod device;
mod facts;
mod finding;
mod glance;
mod life;
mod mount;
mod sample;
mod verdict;

pub use device::{Card, Device, DeviceCounts};
pub use facts::{Facts, NODE_BYTES};
pub use finding::{Finding, Weight};
pub use glance::{GLANCE_COUNT, Glance};
pub use life::{DIED_AFTER_BYTES, DIED_CARD_BYTES};
pub use mount::Mount;
pub use sample::{BLOCK_BYTES, ReadBack, SampleFile};
pub use verdict::{P50_FINE, PAUSE_FINE, PAUSE_LAST, PAUSE_SAFE, Verdict};

#[cfg(test)]
mod tests {
    use super::{Card, Device, Facts, Mount};

    /// A healthy SD card with nothing to complain about.
    pub(super) fn sd_card() -> Facts {
        let line = "27 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw";
        let card = Card { kind: "SD".into(), name: "SC32G".into(), ..Card::default() };
        Facts {
            mount: Mount::of(line, "/var/lib/quorate".as_ref()).expect("the line is recorded"),
            device: Some(Device {
                name: "mmcblk0".into(),
                bytes: 32_000_000_000,
                has_cache: Some(true),
                card: Some(card),
                ..Device::default()
            }),
            free_bytes: 20_000_000_000,
            free_files: Some(1_000_000),
            zfs_sync: None,
            swap: None,
            year: 2026,
        }
    }
}
