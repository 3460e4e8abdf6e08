//! Where a folder lies: its line of /proc/self/mountinfo.

use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The kernel's name of the kind: `ext4`, `tmpfs`, `nfs4`.
    pub kind: String,
    /// What is mounted: `/dev/mmcblk0p2`, `tank/data`, `server:/export`.
    pub source: String,
    /// Major and minor number of the device; major 0 where the file system has none of its own.
    pub device: (u32, u32),
    /// Options of this mount and of the file system, as the kernel tells them.
    pub options: Vec<String>,
}

impl Mount {
    /// The mount a path lies on: the longest mount point above it, and of several on one point the newest.
    ///
    /// `path` is absolute, without links.
    #[must_use]
    pub fn of(mountinfo: &str, path: &Path) -> Option<Mount> {
        let mut found: Option<Mount> = None;
        for mount in mountinfo.lines().filter_map(parse) {
            let depth = |mount: &Mount| mount.point.components().count();
            if path.starts_with(&mount.point)
                && found.as_ref().is_none_or(|older| depth(&mount) >= depth(older))
            {
                found = Some(mount);
            }
        }
        found
    }

    /// Whether an option stands there word for word.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|held| held == option)
    }
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/root rw,errors=continue`: proc(5).
fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let (major, minor) = left.get(2)?.split_once(':')?;
    // Some file systems (9p, fuse) may name no source: then the last field stands alone.
    let words = [left.get(5), right.get(2)].into_iter().flatten();
    Some(Mount {
        point: unescape(left.get(4)?).into(),
        kind: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
        device: (major.parse().ok()?, minor.parse().ok()?),
        options: words.flat_map(|word| word.split(',')).map(str::to_owned).collect(),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                plain.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded on a Raspberry Pi OS card, in a container, and around a simulated card.
    const RECORDED: &str = "\
22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
27 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
31 27 0:26 / /run rw,nosuid,nodev shared:11 - tmpfs tmpfs rw,size=185668k,nr_inodes=819200,mode=755
40 27 7:0 / /media/my\\040card rw,relatime - ext4 /dev/loop0 rw,nobarrier
41 27 0:44 / /tank rw,relatime - zfs tank/data rw,xattr,noacl
42 27 8:1 / /data rw,relatime - ext4 /dev/sda1 rw
43 42 8:17 / /data rw,relatime - xfs /dev/sdb1 rw,attr2
44 27 0:50 / /host rw - fuse.bindfs  rw,user_id=0
broken line
";

    fn of(path: &str) -> Mount {
        Mount::of(RECORDED, Path::new(path)).unwrap()
    }

    #[test]
    fn the_longest_mount_point_above_a_path_has_it() {
        assert_eq!(of("/var/lib/quorate").source, "/dev/mmcblk0p2");
        assert_eq!(of("/var/lib/quorate").device, (179, 2));
        assert_eq!(of("/run/q").kind, "tmpfs");
        assert_eq!(of("/runner").kind, "ext4", "not a part of a name");
    }

    #[test]
    fn spaces_in_names_and_options_of_both_kinds_are_read() {
        let mount = of("/media/my card/q");
        assert_eq!(mount.point, Path::new("/media/my card"));
        assert!(mount.has("nobarrier") && mount.has("relatime") && !mount.has("barrier"));
    }

    #[test]
    fn of_two_mounts_on_one_point_the_newer_is_seen() {
        assert_eq!(of("/data/q").kind, "xfs");
    }

    #[test]
    fn odd_lines_are_passed_over_and_odd_escapes_kept() {
        assert_eq!(of("/host/x").source, "");
        assert_eq!(unescape("a\\040b\\134c\\9\\"), "a b\\c\\9\\");
        assert_eq!(Mount::of("nothing here", Path::new("/")), None);
    }
}
