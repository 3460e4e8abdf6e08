//! What a load cost the card: bytes and flushes, counted below the file system.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::path::Path;

/// Running totals of a block device or a simulated card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DeviceCounts {
    /// Write requests the device has done.
    pub writes: u64,
    /// Bytes written to it.
    pub bytes: u64,
    /// Flushes of its cache.
    pub flushes: u64,
}

impl DeviceCounts {
    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: DeviceCounts) -> DeviceCounts {
        DeviceCounts {
            writes: self.writes.saturating_sub(earlier.writes),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            flushes: self.flushes.saturating_sub(earlier.flushes),
        }
    }
}

/// Reads totals, before and after a load. A simulated card counts by itself; its owner passes the reading.
pub type Meter = Box<dyn Fn() -> Result<DeviceCounts> + Send + Sync>;

/// Reads the kernel's counters of a block device: `/dev/loop3`, `mmcblk0`, `/dev/mmcblk0p2`.
///
/// # Errors
/// The kernel knows no such device, or counts no flushes for it (before Linux 5.5).
pub fn block_device_meter(device: &str) -> Result<Meter> {
    let name = Path::new(device)
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("`{device}` is no block device; --device takes e.g. /dev/mmcblk0"))?;
    let path = Path::new("/sys/class/block").join(name).join("stat");
    let meter: Meter = Box::new(move || {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("no counters at {}; is it a block device?", path.display()))?;
        parse_stat(&text)
    });
    meter()?;
    Ok(meter)
}

/// The kernel's Documentation/block/stat.rst: fields 5 and 7 are writes and sectors written, 16 flushes.
fn parse_stat(text: &str) -> Result<DeviceCounts> {
    const SECTOR_BYTES: u64 = 512;
    let fields: Vec<u64> = text
        .split_whitespace()
        .map(|field| field.parse().with_context(|| format!("`{field}` among the device's counters")))
        .collect::<Result<_>>()?;
    let (Some(writes), Some(sectors), Some(flushes)) = (fields.get(4), fields.get(6), fields.get(15)) else {
        bail!("this kernel counts no flushes (Linux 5.5 does): {} fields", fields.len());
    };
    Ok(DeviceCounts { writes: *writes, bytes: sectors.saturating_mul(SECTOR_BYTES), flushes: *flushes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_read() {
        let text = "  11  22  33  44  55  66  770  88  99  100  101  0 0 0 0 166 177\n";
        assert_eq!(parse_stat(text).unwrap(), DeviceCounts { writes: 55, bytes: 770 * 512, flushes: 166 });
    }

    #[test]
    fn short_or_odd_counters_are_refused() {
        assert!(parse_stat("1 2 3 4 5 6 7 8 9 10 11").unwrap_err().to_string().contains("5.5"));
        assert!(parse_stat("1 2 x").is_err());
        assert!(block_device_meter("/dev/no-such-device").is_err());
    }

    #[test]
    fn totals_that_start_again_do_not_underflow() {
        let before = DeviceCounts { writes: 5, bytes: 5, flushes: 5 };
        assert_eq!(DeviceCounts::default().since(before), DeviceCounts::default());
    }
}
