//! Each thing that goes wrong, from recorded input.

use super::*;
use crate::storage::tests::sd_card;
use crate::storage::{Card, Weight};
use std::collections::HashMap;

const ENOUGH: u64 = 40 << 20;

/// Codes of what is found where a line of mountinfo is as given.
fn codes_of(line: &str) -> Vec<&'static str> {
    let mount = Mount::of(line, Path::new("/data/q")).expect("the line is recorded");
    codes(&Facts { mount, ..sd_card() })
}

fn codes(facts: &Facts) -> Vec<&'static str> {
    facts.findings(ENOUGH).iter().map(Finding::code).collect()
}

#[test]
fn a_healthy_card_has_nothing() {
    assert_eq!(sd_card().findings(ENOUGH), []);
    assert_eq!(
        codes_of("1 1 8:1 / /data rw,relatime shared:9 - ext4 /dev/sda1 rw,discard,barrier=1"),
        [""; 0]
    );
    assert_eq!(codes_of("1 1 0:43 / /data rw,relatime - btrfs /dev/sda1 rw,ssd,space_cache=v2"), [""; 0]);
}

#[test]
fn barriers_switched_off_are_found_in_each_file_systems_words() {
    for line in [
        "1 1 179:2 / /data rw,noatime - ext4 /dev/mmcblk0p2 rw,nobarrier",
        "1 1 179:2 / /data rw,noatime - ext3 /dev/mmcblk0p2 rw,errors=continue,barrier=0,data=ordered",
        "1 1 179:2 / /data rw - xfs /dev/mmcblk0p2 rw,attr2,nobarrier,inode64",
        "1 1 0:40 / /data rw - btrfs /dev/mmcblk0p2 rw,nobarrier,space_cache",
        "1 1 179:2 / /data rw - reiserfs /dev/mmcblk0p2 rw,barrier=none",
        "1 1 179:2 / /data rw - f2fs /dev/mmcblk0p2 rw,lazytime,fsync_mode=nobarrier",
    ] {
        assert_eq!(codes_of(line), ["barriers-off"], "{line}");
    }
}

#[test]
fn zfs_is_asked_for_sync() {
    let line = "1 1 0:51 / /data rw,relatime - zfs tank/data rw,xattr,noacl";
    let mount = Mount::of(line, Path::new("/data")).unwrap();
    let with =
        |sync: Option<&str>| Facts { mount: mount.clone(), zfs_sync: sync.map(str::to_owned), ..sd_card() };
    assert_eq!(codes(&with(Some("disabled"))), ["sync-disabled"]);
    assert_eq!(codes(&with(Some("standard"))), [""; 0]);
    assert_eq!(codes(&with(Some("always"))), [""; 0]);
    assert_eq!(codes(&with(None)), [""; 0], "no zfs program: nothing is known");
    let words = with(Some("disabled")).findings(ENOUGH)[0].to_string();
    assert!(words.contains("tank/data"), "{words}");
}

#[test]
fn what_is_no_card_is_said() {
    for (line, code) in [
        ("1 1 0:26 / /data rw,nosuid - tmpfs tmpfs rw,size=185668k", "memory"),
        ("1 1 0:26 / /data rw - ramfs none rw", "memory"),
        ("1 1 0:60 / /data rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w", "overlay"),
        ("1 1 0:61 / /data rw,relatime - nfs4 nas:/export rw,vers=4.2,hard", "network"),
        ("1 1 0:62 / /data rw,relatime - cifs //nas/share rw,vers=3.1.1", "network"),
        ("1 1 0:63 / /data rw - fuse.sshfs pi@nas:/ rw,user_id=0", "network"),
        ("1 1 179:1 / /data rw - vfat /dev/mmcblk0p1 rw,fmask=0022", "no-journal"),
    ] {
        assert_eq!(codes_of(line), [code], "{line}");
    }
    let memory = Device { name: "zram1".into(), ..Device::default() };
    assert_eq!(codes(&Facts { device: Some(memory), ..sd_card() }), ["memory"]);
}

#[test]
fn an_overlay_that_leaves_out_syncs_weighs_more() {
    let weight = |options: &str| {
        let line = format!("1 1 0:60 / /data rw - overlay overlay rw,upperdir=/u{options}");
        let mount = Mount::of(&line, Path::new("/data")).unwrap();
        Facts { mount, ..sd_card() }.findings(ENOUGH)[0].weight()
    };
    assert_eq!(weight(""), Weight::Warning);
    assert_eq!(weight(",volatile"), Weight::Serious);
}

#[test]
fn a_read_only_mount_is_found_in_either_half() {
    assert_eq!(codes_of("1 1 179:2 / /data ro,noatime - ext4 /dev/mmcblk0p2 rw"), ["read-only"]);
    assert_eq!(
        codes_of("1 1 179:2 / /data rw,noatime - ext4 /dev/mmcblk0p2 ro,errors=remount-ro"),
        ["read-only"]
    );
    assert_eq!(codes_of("1 1 179:2 / /data rw,noatime - ext4 /dev/mmcblk0p2 rw,errors=remount-ro"), [""; 0]);
}

#[test]
fn room_is_counted_for_measuring_and_for_a_node() {
    let with = |free_bytes| Facts { free_bytes, ..sd_card() };
    assert_eq!(codes(&with(ENOUGH - 1)), ["no-space"]);
    assert_eq!(codes(&with(ENOUGH)), ["little-space"]);
    assert_eq!(codes(&with(NODE_BYTES)), [""; 0]);
    let words = with(3 << 20).findings(ENOUGH)[0].to_string();
    assert!(words.contains("needs 40 MiB, 3 MiB are free"), "{words}");
}

#[test]
fn inodes_may_run_short_where_they_are_counted() {
    assert_eq!(codes(&Facts { free_files: Some(63), ..sd_card() }), ["no-files"]);
    assert_eq!(codes(&Facts { free_files: Some(64), ..sd_card() }), [""; 0]);
    assert_eq!(codes(&Facts { free_files: None, ..sd_card() }), [""; 0], "btrfs counts none");
}

#[test]
fn a_clock_before_this_release_was_never_set() {
    let at = |seconds| year_of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!((at(0), at(31_535_000), at(1_767_300_000)), (1970, 1970, 2026));
    assert_eq!(year_of(SystemTime::UNIX_EPOCH - Duration::from_secs(9)), 1970);
    assert_eq!(codes(&Facts { year: 1970, ..sd_card() }), ["clock-never-set"]);
    assert_eq!(codes(&Facts { year: RELEASE_YEAR - 1, ..sd_card() }), ["clock-never-set"]);
    assert_eq!(codes(&Facts { year: RELEASE_YEAR + 9, ..sd_card() }), [""; 0]);
}

#[test]
fn swap_counts_on_the_same_card_only() {
    let swaps = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
        /dev/zram0                              partition\t102396\t0\t100\n\
        /dev/sda3                               partition\t102396\t0\t-2\n\
        /var/swap                               file\t\t102396\t\t0\t\t-3\n";
    let lies_on = HashMap::from([("/dev/zram0", "mmcblk0"), ("/dev/sda3", "sda"), ("/var/swap", "mmcblk0")]);
    let device_of = |swap: &str| lies_on.get(swap).map(|name| (*name).to_owned());
    assert_eq!(swap_on(swaps, "mmcblk0", device_of).as_deref(), Some("/var/swap"));
    assert_eq!(swap_on(swaps, "sda", device_of).as_deref(), Some("/dev/sda3"));
    assert_eq!(swap_on(swaps, "nvme0n1", device_of), None);
    assert_eq!(codes(&Facts { swap: Some("/var/swap".into()), ..sd_card() }), ["swap-on-card"]);
}

#[test]
fn a_sync_faster_than_physics_is_suspected_of_cards_and_disks() {
    let [fast, slow] = [5, 25].map(Duration::from_micros);
    let code = |facts: &Facts, p50| facts.suspicion(p50).map(|finding| finding.code());
    assert_eq!(code(&sd_card(), fast), Some("too-fast"));
    assert_eq!(code(&sd_card(), slow), None);
    let with = |device| Facts { device: Some(device), ..sd_card() };
    let disk =
        Device { name: "sda".into(), is_rotational: true, has_cache: Some(false), ..Device::default() };
    let words = with(disk).suspicion(fast).unwrap().to_string();
    assert!(words.contains("suspicion") && words.contains("never flushes it"), "{words}");
    let flash = Device { name: "nvme0n1".into(), ..Device::default() };
    assert_eq!(code(&with(flash), fast), None, "some have a capacitor");
    assert_eq!(code(&Facts { device: None, ..sd_card() }, fast), None);
}

#[test]
fn a_card_near_its_end_is_told_by_its_own_estimate() {
    let with = |life_used_tenths, spare_blocks| {
        let card = Card { kind: "MMC".into(), life_used_tenths, spare_blocks, ..Card::default() };
        Facts { device: Some(Device { card: Some(card), ..Device::default() }), ..sd_card() }.findings(ENOUGH)
    };
    assert_eq!(with(Some(8), Some(1)), []);
    assert_eq!(with(Some(9), Some(1)), [Finding::Worn { percent: Some(90), is_urgent: false }]);
    assert_eq!(with(None, Some(2)), [Finding::Worn { percent: None, is_urgent: false }]);
    assert_eq!(with(Some(2), Some(3)), [Finding::Worn { percent: None, is_urgent: true }]);
    assert!(with(Some(11), None)[0].is_failing_card());
}

#[test]
fn the_heaviest_comes_first_and_every_finding_says_what_to_do() {
    let mount = Mount::of("1 1 179:2 / / ro - ext4 /dev/mmcblk0p2 ro,nobarrier", Path::new("/")).unwrap();
    let facts = Facts { mount, year: 1970, swap: Some("/swap".into()), free_bytes: 0, ..sd_card() };
    let findings = facts.findings(ENOUGH);
    let weights: Vec<Weight> = findings.iter().map(Finding::weight).collect();
    assert!(weights.is_sorted_by(|one, other| one >= other), "{findings:?}");
    assert_eq!(findings.len(), 5);
    assert!(findings.iter().all(|finding| !finding.to_string().is_empty() && !finding.remedy().is_empty()));
}

#[test]
fn a_real_folder_has_facts() {
    let folder = tempfile::tempdir().unwrap();
    let facts = Facts::of(folder.path()).unwrap();
    assert!(folder.path().canonicalize().unwrap().starts_with(&facts.mount.point));
    assert!(!facts.mount.kind.is_empty());
    assert!(Facts::of(&folder.path().join("gone")).is_err());
}
