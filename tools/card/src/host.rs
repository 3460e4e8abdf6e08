//! The machine around the card: loop devices, ext4 and mounts, by the system's own programs; each with a time
//! limit, so that a card in trouble never holds its keeper.
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Any of the programs below; mkfs of a large card is the longest.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);
/// How long processes may take to leave a card that is to be unmounted.
const BUSY_LIMIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(5);
const BUSY_POLL: Duration = Duration::from_millis(50);
/// CAP_SYS_ADMIN: mounting and loop devices.
const CAPABILITY_SYS_ADMIN: u64 = 1 << 21;

/// Whether simulated cards can be started here.
///
/// # Errors
/// The reason why not, for the line a skipped test prints.
pub(crate) fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".into());
    }
    let status = fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc: {error}"))?;
    let capable = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & CAPABILITY_SYS_ADMIN != 0);
    if !capable {
        return Err("no CAP_SYS_ADMIN (a container without the right to mount)".into());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(device)
            .map_err(|error| format!("{device}: {error}"))?;
    }
    for program in ["losetup", "mkfs.ext4", "mount", "umount"] {
        let found = search_path()
            .to_string_lossy()
            .split(':')
            .any(|folder| Path::new(folder).join(program).is_file());
        if !found {
            return Err(format!("no program {program}"));
        }
    }
    Ok(())
}

/// Root's programs, even where a service's PATH leaves them out.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// Runs a program to its end; what it printed.
fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > PROGRAM_LIMIT {
            // It may sit in the kernel, waiting for the card: not waited for.
            child.kill().with_context(|| format!("{program} hangs"))?;
            bail!("{program} took more than {PROGRAM_LIMIT:?}");
        }
        std::thread::sleep(POLL);
    };
    let (mut out, mut errors) = (String::new(), String::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut out)?;
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut errors)?;
    }
    if !status.success() {
        bail!("{program}: {} ({status})", errors.trim());
    }
    Ok(out)
}

/// Attaches a loop device to the image. Direct I/O: no second cache, and requests arrive as they were issued.
pub(crate) fn attach_loop(image: &Path) -> Result<PathBuf> {
    let arguments = [
        OsStr::new("--find"),
        OsStr::new("--show"),
        OsStr::new("--direct-io=on"),
        OsStr::new("--sector-size=512"),
        image.as_os_str(),
    ];
    let device = PathBuf::from(run("losetup", &arguments)?.trim());
    if direct_io(&device) {
        return Ok(device);
    }
    let refused = format!("{} gives no direct I/O on a FUSE file; a newer kernel does", device.display());
    detach_loop(&device)?;
    bail!(refused)
}

fn direct_io(device: &Path) -> bool {
    sysfs_of(device).is_some_and(|folder| {
        fs::read_to_string(folder.join("loop/dio")).is_ok_and(|text| text.trim() == "1")
    })
}

fn sysfs_of(device: &Path) -> Option<PathBuf> {
    Some(Path::new("/sys/block").join(device.file_name()?))
}

fn detach_loop(device: &Path) -> Result<()> {
    run("losetup", &[OsStr::new("--detach"), device.as_os_str()]).map(|_| ())
}

/// Loop devices attached to this image.
fn loops_of(image: &Path) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir("/sys/block") else { return Vec::new() };
    folder
        .flatten()
        .filter(|entry| {
            fs::read(entry.path().join("loop/backing_file"))
                .is_ok_and(|name| name.trim_ascii_end() == image.as_os_str().as_bytes())
        })
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect()
}

/// ext4 as on a card, but complete from the start: no background initialisation that would write later, at a time
/// of its own. 4 KiB blocks whatever the size.
pub(crate) fn make_ext4(device: &Path) -> Result<()> {
    let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
    let arguments = ["-q", "-F", "-b", "4096", "-L", "card", "-E", options]
        .map(OsStr::new)
        .into_iter()
        .chain([device.as_os_str()]);
    run("mkfs.ext4", &arguments.collect::<Vec<_>>()).map(|_| ())
}

/// Mounts as Raspberry Pi OS does: defaults and `noatime`.
pub(crate) fn mount_ext4(device: &Path, mount: &Path) -> Result<()> {
    let arguments = [
        OsStr::new("-t"),
        OsStr::new("ext4"),
        OsStr::new("-o"),
        OsStr::new("noatime"),
        device.as_os_str(),
        mount.as_os_str(),
    ];
    run("mount", &arguments).map(|_| ())
}

/// Writes everything of that file system to the card.
pub(crate) fn sync(mount: &Path) -> Result<()> {
    let folder = fs::File::open(mount)?;
    rustix::fs::syncfs(&folder).with_context(|| format!("cannot sync {}", mount.display()))
}

/// Whether something is mounted there.
pub(crate) fn is_mounted(place: &Path) -> bool {
    let Ok(table) = fs::read("/proc/self/mountinfo") else { return false };
    table.split(|byte| *byte == b'\n').any(|line| {
        let place_field = line.split(|byte| *byte == b' ').nth(4).unwrap_or_default();
        unescape(place_field) == place
    })
}

/// The mount table writes blanks and the like as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if byte == b'\\' => {
                plain.push(code);
                rest = &tail[3..];
            }
            Some(_) | None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

/// Unmounts, waiting a little for processes that are just leaving.
pub(crate) fn unmount(place: &Path) -> Result<()> {
    let begun = Instant::now();
    while is_mounted(place) {
        match run("umount", &[place]) {
            Ok(_) => {}
            Err(error) if begun.elapsed() > BUSY_LIMIT => return Err(error),
            Err(_) => std::thread::sleep(BUSY_POLL),
        }
    }
    Ok(())
}

/// Unmounts, if need be lazily: the place is free afterwards, although someone may still hold the file system.
fn unmount_surely(place: &Path) -> Result<()> {
    if unmount(place).is_ok() {
        return Ok(());
    }
    eprintln!("{} is in use: unmounted lazily", place.display());
    unmount_lazily(place)
}

fn unmount_lazily(place: &Path) -> Result<()> {
    while is_mounted(place) {
        run("umount", &[OsStr::new("--lazy"), place.as_os_str()])?;
    }
    Ok(())
}

/// Takes the ext4 mount and the loop devices of a card away; after this only the image is left.
///
/// # Errors
/// When a process still uses the file system.
pub(crate) fn detach(image: &Path, mount: &Path) -> Result<()> {
    unmount(mount)?;
    for device in loops_of(image) {
        detach_loop(&device)?;
    }
    Ok(())
}

/// Takes away whatever is left of a card, whether its process is alive or not. Goes on over errors and answers the
/// first.
pub(crate) fn clear_away(image: &Path, mount: &Path) -> Result<()> {
    let mut first = unmount_surely(mount);
    for device in loops_of(image) {
        first = first.and(detach_loop(&device));
    }
    // A loop device that is still there goes with its last user; it holds the image until then.
    let held = !loops_of(image).is_empty();
    first.and(if held { unmount_lazily(image) } else { unmount_surely(image) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read_with_blanks() {
        assert_eq!(unescape(b"/tmp/a\\040card"), Path::new("/tmp/a card"));
        assert_eq!(unescape(b"/plain\\"), Path::new("/plain\\"));
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(Path::new("/proc/self")));
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let error = run("sh", &["-c", "echo no card >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("no card") && error.contains('3'), "{error}");
        assert_eq!(run("echo", &["yes"]).unwrap(), "yes\n");
    }
}
