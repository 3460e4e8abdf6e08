//! The block device under a file system, as /sys shows it, and the wear a card reports.

use super::Mount;
use std::fs::read_to_string;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A whole block device: the card, not a partition of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// The kernel's name: `mmcblk0`, `sda`, `nvme0n1`, `loop3`.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether the kernel takes it for a spinning disk. Virtual disks claim it too.
    pub is_rotational: bool,
    /// Whether the kernel flushes its cache on a sync (`write back`); none if it does not say.
    pub has_cache: Option<bool>,
    /// What an SD card or an eMMC says of itself.
    pub card: Option<Card>,
}

/// What an SD card or an eMMC says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Card {
    /// `SD` or `MMC`; the kernel's word.
    pub kind: String,
    /// The maker's name for the product.
    pub name: String,
    /// The maker's number.
    pub maker: String,
    /// Month and year it was made.
    pub date: String,
    /// Share of its life that is used, in tenths: 1 is 0 to 10 %, 11 is past its end. The worse of the
    /// two kinds of its memory. eMMC 5.0 and newer only.
    pub life_used_tenths: Option<u8>,
    /// What is left of its spare blocks: 1 normal, 2 four fifths are used, 3 nearly none.
    pub spare_blocks: Option<u8>,
}

/// What a device was asked to do since it is there, by everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceCounts {
    /// Bytes written to it.
    pub written_bytes: u64,
    /// Flushes of its cache; none where the kernel does not count them (before Linux 5.5, or dm and md).
    pub flushes: Option<u64>,
}

impl Device {
    /// The device a folder lies on; none where it has none, or the system does not tell. Nothing is written.
    #[must_use]
    pub fn under(folder: &Path) -> Option<Device> {
        let folder = folder.canonicalize().ok()?;
        let mountinfo = std::fs::read("/proc/self/mountinfo").ok()?;
        Device::of(&Mount::of(&String::from_utf8_lossy(&mountinfo), &folder)?)
    }

    /// The device a mount lies on; none for file systems without one.
    #[must_use]
    pub fn of(mount: &Mount) -> Option<Device> {
        let (major, minor) = match mount.device {
            // btrfs numbers itself; its source is the device all the same.
            (0, _) => {
                let number =
                    std::fs::metadata(&mount.source).ok().filter(|_| mount.source.starts_with('/'))?.rdev();
                (rustix::fs::major(number), rustix::fs::minor(number))
            }
            numbers => numbers,
        };
        Device::in_folder(&std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?)
    }

    /// Reads a folder of /sys; a partition's leads to its device.
    pub(super) fn in_folder(folder: &Path) -> Option<Device> {
        let folder: PathBuf =
            if folder.join("partition").exists() { folder.parent()?.to_owned() } else { folder.to_owned() };
        let read = |name: &str| Some(read_to_string(folder.join(name)).ok()?.trim().to_owned());
        let card = read("device/type").filter(|kind| kind == "SD" || kind == "MMC").map(|kind| {
            let say = |name: &str| read(&format!("device/{name}")).unwrap_or_default();
            Card {
                kind,
                name: say("name"),
                maker: say("manfid"),
                date: say("date"),
                life_used_tenths: worst(&say("life_time"), 11),
                spare_blocks: worst(&say("pre_eol_info"), 3),
            }
        });
        Some(Device {
            name: folder.file_name()?.to_str()?.to_owned(),
            bytes: read("size")?.parse::<u64>().ok()?.saturating_mul(SECTOR_BYTES),
            is_rotational: read("queue/rotational").as_deref() == Some("1"),
            has_cache: read("queue/write_cache").map(|mode| mode == "write back"),
            card,
        })
    }

    /// What it was asked to do up to now. The kernel answers from memory: the device itself is not asked.
    #[must_use]
    pub fn counts(&self) -> Option<DeviceCounts> {
        let text = read_to_string(Path::new("/sys/class/block").join(&self.name).join("stat")).ok()?;
        let counts = parse_stat(&text)?;
        Some(DeviceCounts { flushes: counts.flushes.filter(|_| self.counts_flushes()), ..counts })
    }

    /// Whether the kernel counts what arrives at this device itself, flushes among it: of devices built on others
    /// (dm, md) it does not count flushes.
    #[must_use]
    pub fn counts_flushes(&self) -> bool {
        ["mmcblk", "sd", "vd", "xvd", "nvme", "loop"].iter().any(|kind| self.name.starts_with(kind))
    }

    /// Whether it is memory by another name.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        ["zram", "ram"].iter().any(|kind| self.name.starts_with(kind))
    }
}

/// What /sys counts in, whatever the device.
const SECTOR_BYTES: u64 = 512;

/// The kernel's Documentation/block/stat.rst: the seventh field is sectors written, the sixteenth flushes.
fn parse_stat(text: &str) -> Option<DeviceCounts> {
    let field = |at: usize| text.split_whitespace().nth(at)?.parse::<u64>().ok();
    Some(DeviceCounts { written_bytes: field(6)?.saturating_mul(SECTOR_BYTES), flushes: field(15) })
}

/// The largest of `0x01 0x02`; zero means that the card does not say.
fn worst(text: &str, most: u8) -> Option<u8> {
    let numbers =
        text.split_whitespace().filter_map(|word| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    numbers.filter(|number| (1..=most).contains(number)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    /// As a Pi Compute Module's eMMC shows itself.
    const EMMC: &[(&str, &str)] = &[
        ("mmcblk0/size", "61079552\n"),
        ("mmcblk0/queue/rotational", "0\n"),
        ("mmcblk0/queue/write_cache", "write back\n"),
        ("mmcblk0/device/type", "MMC\n"),
        ("mmcblk0/device/name", "BJTD4R\n"),
        ("mmcblk0/device/manfid", "0x000015\n"),
        ("mmcblk0/device/date", "06/2021\n"),
        ("mmcblk0/device/life_time", "0x01 0x03\n"),
        ("mmcblk0/device/pre_eol_info", "0x01\n"),
        ("mmcblk0/mmcblk0p2/partition", "2\n"),
        ("mmcblk0/mmcblk0p2/size", "1000\n"),
    ];

    #[test]
    fn a_partition_leads_to_its_card_and_the_card_tells_its_wear() {
        let root = folder(EMMC);
        let device = Device::in_folder(&root.path().join("mmcblk0/mmcblk0p2")).unwrap();
        assert_eq!((device.name.as_str(), device.bytes), ("mmcblk0", 61_079_552 * 512));
        assert_eq!((device.is_rotational, device.has_cache), (false, Some(true)));
        let card = device.card.unwrap();
        assert_eq!(
            (card.kind.as_str(), card.name.as_str(), card.date.as_str()),
            ("MMC", "BJTD4R", "06/2021")
        );
        assert_eq!((card.life_used_tenths, card.spare_blocks), (Some(3), Some(1)));
    }

    #[test]
    fn an_sd_card_says_nothing_of_its_wear() {
        let root = folder(&[
            ("mmcblk1/size", "1024"),
            ("mmcblk1/device/type", "SD\n"),
            ("mmcblk1/device/name", "SC32G\n"),
        ]);
        let card = Device::in_folder(&root.path().join("mmcblk1")).unwrap().card.unwrap();
        assert_eq!((card.life_used_tenths, card.spare_blocks), (None, None));
    }

    #[test]
    fn other_devices_are_no_cards() {
        // A SCSI disk's type is a number.
        let root = folder(&[("sda/size", "8"), ("sda/device/type", "0\n"), ("sda/queue/rotational", "1\n")]);
        let device = Device::in_folder(&root.path().join("sda")).unwrap();
        assert_eq!((device.card, device.has_cache, device.is_rotational), (None, None, true));
        assert_eq!(Device::in_folder(&root.path().join("gone")), None);
    }

    #[test]
    fn the_kernels_counters_are_read() {
        // Recorded of a loop device under a simulated card, and as a kernel before 5.5 would say it.
        let stat = "   39043     1807 11895276   101350   426637   190499 62569736  3641838        1  2535720  5655035 \
                           0        0        0        0   220713  1911846\n";
        let counts = DeviceCounts { written_bytes: 62_569_736 * 512, flushes: Some(220_713) };
        assert_eq!(parse_stat(stat), Some(counts));
        let older = "39043 1807 11895276 101350 426637 190499 62569736 3641838 1 2535720 5655035";
        assert_eq!(parse_stat(older), Some(DeviceCounts { flushes: None, ..counts }));
        assert_eq!(parse_stat("1 2 3"), None);
        assert_eq!(parse_stat("1 2 3 4 5 6 x"), None);
        let gone = Device { name: "no-such-device".into(), ..Device::default() };
        assert_eq!(gone.counts(), None);
    }

    #[test]
    fn odd_wear_is_none() {
        assert_eq!(worst("0x00 0x00", 11), None, "the card does not say");
        assert_eq!(worst("0x0b 0x02", 11), Some(11));
        assert_eq!(worst("0xff", 11), None);
        assert_eq!(worst("rubbish 7", 3), None);
    }
}
