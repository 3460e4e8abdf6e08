//! What can be known of the storage under a folder without writing to it.

use super::{Device, Finding, Mount};
use core::time::Duration;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

/// The year this release was made in: a clock that shows an earlier one was never set.
const RELEASE_YEAR: u64 = 2026;

/// Files a node makes: log, images, spares and a few small ones, twice over.
const FILES_MIN: u64 = 64;

/// What a node needs to begin with: six files of 16 MiB for its log, and as much again for images and the
/// new log beside the old one.
pub const NODE_BYTES: u64 = 192 << 20;

/// Syncs of real cards and spinning disks take longer: 4 KiB alone are 39 µs on the fastest bus of an SD card
/// most boards have (104 MB/s), 10 µs on an eMMC's, and a disk has to turn.
const SYNC_MIN: Duration = Duration::from_micros(20);

/// The storage under a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where the folder lies.
    pub mount: Mount,
    /// What that lies on, where the kernel knows.
    pub device: Option<Device>,
    /// Bytes this user may still write.
    pub free_bytes: u64,
    /// Files this user may still make; none where the file system counts none.
    pub free_files: Option<u64>,
    /// What ZFS says of `sync`.
    pub zfs_sync: Option<String>,
    /// Swap on the same device.
    pub swap: Option<String>,
    /// The clock's year.
    pub year: u64,
}

impl Facts {
    /// Looks at a folder. Nothing is written.
    ///
    /// # Errors
    /// There is no such folder, or the system does not tell of it.
    pub fn of(folder: &Path) -> io::Result<Facts> {
        let folder = folder.canonicalize()?;
        let mountinfo = String::from_utf8_lossy(&std::fs::read("/proc/self/mountinfo")?).into_owned();
        let mount = Mount::of(&mountinfo, &folder)
            .ok_or_else(|| io::Error::other("/proc/self/mountinfo names no mount above it"))?;
        let room = rustix::fs::statvfs(&folder)?;
        let device = Device::of(&mount);
        let device_of_swap = |swap: &str| {
            let node = Mount { source: swap.to_owned(), device: (0, 0), ..mount.clone() };
            let device = match Path::new(swap).starts_with("/dev") {
                true => Device::of(&node),
                false => Device::of(&Mount::of(&mountinfo, Path::new(swap))?),
            };
            Some(device?.name)
        };
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        Ok(Facts {
            free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
            free_files: (room.f_files > 0).then_some(room.f_favail),
            zfs_sync: (mount.kind == "zfs").then(|| ask_zfs(&mount.source)).flatten(),
            swap: device.as_ref().and_then(|device| swap_on(&swaps, &device.name, device_of_swap)),
            year: year_of(SystemTime::now()),
            mount,
            device,
        })
    }

    /// What is wrong with it, the heaviest first, for a write of `needed` bytes.
    #[must_use]
    pub fn findings(&self, needed: u64) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.about_file_system().into_iter().collect();
        if self.mount.has("ro") {
            findings.push(Finding::ReadOnly);
        }
        if self.free_bytes < needed {
            findings.push(Finding::NoSpace { needed, free: self.free_bytes });
        } else if self.free_bytes < NODE_BYTES {
            findings.push(Finding::LittleSpace { needed: NODE_BYTES, free: self.free_bytes });
        }
        findings
            .extend(self.free_files.filter(|free| *free < FILES_MIN).map(|free| Finding::NoFiles { free }));
        if self.year < RELEASE_YEAR {
            findings.push(Finding::ClockNeverSet { year: self.year });
        }
        findings.extend(self.swap.clone().map(|swap| Finding::SwapOnCard { swap }));
        findings.extend(self.about_wear());
        findings.sort_by_key(|finding| core::cmp::Reverse(finding.weight()));
        findings
    }

    /// What its syncs say when they are known: that they cannot be what they claim.
    #[must_use]
    pub fn suspicion(&self, p50: Duration) -> Option<Finding> {
        let device = self.device.as_ref().filter(|device| device.card.is_some() || device.is_rotational)?;
        (p50 < SYNC_MIN).then(|| Finding::TooFast {
            p50,
            device: device.name.clone(),
            says_no_cache: device.has_cache == Some(false),
        })
    }

    fn about_file_system(&self) -> Option<Finding> {
        const BARRIERS_OFF: [&str; 4] = ["nobarrier", "barrier=0", "barrier=none", "fsync_mode=nobarrier"];
        let kind = self.mount.kind.clone();
        if let Some(option) = BARRIERS_OFF.iter().find(|option| self.mount.has(option)) {
            return Some(Finding::BarriersOff { option: (*option).to_owned() });
        }
        match kind.as_str() {
            "zfs" if self.zfs_sync.as_deref() == Some("disabled") => {
                Some(Finding::SyncDisabled { dataset: self.mount.source.clone() })
            }
            "overlay" => Some(Finding::Overlay {
                is_volatile: self.mount.has("volatile") || self.mount.has("fsync=volatile"),
            }),
            "tmpfs" | "ramfs" | "rootfs" | "devtmpfs" | "hugetlbfs" => Some(Finding::Memory { kind }),
            "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "9p" | "virtiofs" | "ceph" | "glusterfs" | "afs"
            | "fuse.sshfs" | "fuse.glusterfs" | "fuse.rclone" | "fuse.s3fs" | "fuse.ceph" => {
                Some(Finding::Network { kind })
            }
            "vfat" | "msdos" | "exfat" | "ext2" => Some(Finding::NoJournal { kind }),
            _ => {
                let memory = self.device.as_ref().filter(|device| device.is_memory())?;
                Some(Finding::Memory { kind: memory.name.clone() })
            }
        }
    }

    /// The estimates come in steps of 10 %: said from the step on that ends at 90 %.
    fn about_wear(&self) -> Option<Finding> {
        let card = self.device.as_ref()?.card.as_ref()?;
        let percent = card.life_used_tenths.map(|tenths| tenths.saturating_mul(10));
        let is_urgent = percent.is_some_and(|percent| percent > 100) || card.spare_blocks == Some(3);
        let is_worn = percent.is_some_and(|percent| percent >= 90) || card.spare_blocks == Some(2);
        (is_urgent || is_worn)
            .then(|| Finding::Worn { percent: percent.filter(|percent| *percent >= 90), is_urgent })
    }
}

/// None if there is no `zfs` or it does not know the dataset.
fn ask_zfs(dataset: &str) -> Option<String> {
    let line: [&OsStr; 6] = ["get", "-H", "-o", "value", "sync", dataset].map(OsStr::new);
    let output = Command::new("zfs").args(line).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first swap of /proc/swaps that lies on that device; compressed memory is none.
fn swap_on(swaps: &str, device: &str, device_of: impl Fn(&str) -> Option<String>) -> Option<String> {
    let names = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| !name.starts_with("/dev/zram"))
        .find(|name| device_of(name).as_deref() == Some(device))
        .map(str::to_owned)
}

/// To within a day.
fn year_of(now: SystemTime) -> u64 {
    const YEAR_SECONDS: u64 = 31_556_952;
    1970 + now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / YEAR_SECONDS)
}

#[cfg(test)]
#[path = "facts/tests.rs"]
mod tests;
