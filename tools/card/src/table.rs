//! What a durable append costs, by kind of file: the table that says why the WAL overwrites zero-filled files.
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::device::Stats;
use crate::figures::{Figures, Model};

/// One append: what the WAL writes for a small batch, in bytes.
pub(crate) const APPEND_BYTES: usize = 4096;

/// How a file is before it is appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Empty: each append moves the end.
    Growing,
    /// Allocated by `fallocate`, unwritten: each append turns unwritten blocks into written ones.
    Fallocate,
    /// Written full of zeros and synced: an append only overwrites.
    ZeroFilled,
}

impl FileKind {
    /// In the table's order.
    pub const ALL: [FileKind; 3] = [FileKind::Growing, FileKind::Fallocate, FileKind::ZeroFilled];

    /// As the table names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FileKind::Growing => "growing",
            FileKind::Fallocate => "fallocate",
            FileKind::ZeroFilled => "zero-filled",
        }
    }
}

/// How long appends took and what they cost the card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Appends {
    /// The kind of file.
    pub kind: FileKind,
    /// How many appends of 4 KiB, each followed by `fdatasync`.
    pub appends: usize,
    /// Half of them (write and `fdatasync` together) were no slower.
    pub p50: Duration,
    /// 99 of 100 were no slower.
    pub p99: Duration,
    /// The slowest.
    pub longest: Duration,
    /// Flushes the card saw, for each append; the file system's own commits included.
    pub flushes_per_append: f64,
    /// Bytes the card was written, for each append.
    pub bytes_per_append: f64,
    /// Garbage-collection pauses in the time.
    pub pauses: u64,
}

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// Appends to each file.
    pub appends: usize,
    /// The card while it is measured; free in between.
    pub figures: Figures,
}

/// Makes the file for so many appends, synced.
///
/// # Errors
/// The file system's.
pub fn prepare_file(path: &Path, kind: FileKind, appends: usize) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let length = u64::try_from(appends * APPEND_BYTES)?;
    match kind {
        FileKind::Growing => {}
        FileKind::Fallocate => rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)?,
        FileKind::ZeroFilled => {
            let zeros = [0; APPEND_BYTES];
            for append in 0..appends {
                file.write_all_at(&zeros, u64::try_from(append * APPEND_BYTES)?)?;
            }
        }
    }
    file.sync_all()?;
    Ok(file)
}

/// Appends 4 KiB and syncs it, so many times from the start of the file; how long each took.
///
/// # Errors
/// The file system's.
pub fn measure_appends(file: &File, appends: usize) -> Result<Vec<Duration>> {
    let block = [0xA5; APPEND_BYTES];
    (0..appends)
        .map(|append| {
            let offset = u64::try_from(append * APPEND_BYTES)?;
            let begun = Instant::now();
            file.write_all_at(&block, offset)?;
            file.sync_data()?;
            Ok(begun.elapsed())
        })
        .collect()
}

/// Measures every kind of file on this card. The files are made and removed while the card is free.
///
/// # Errors
/// The card's or the file system's.
pub fn measure_table(
    card: &Card,
    options: TableOptions,
    mut progress: impl FnMut(FileKind),
) -> Result<Vec<Appends>> {
    FileKind::ALL
        .into_iter()
        .map(|kind| {
            progress(kind);
            measure_kind(card, options, kind).with_context(|| format!("{} file", kind.name()))
        })
        .collect()
}

fn measure_kind(card: &Card, options: TableOptions, kind: FileKind) -> Result<Appends> {
    card.set(Model::Free.figures())?;
    let path = card.mount_point().join(kind.name());
    let file = prepare_file(&path, kind, options.appends)?;
    rustix::fs::syncfs(&file)?;
    card.set(options.figures)?;
    let before = card.stats()?;
    let mut times = measure_appends(&file, options.appends)?;
    let cost = card.stats()?.since(&before);
    card.set(Model::Free.figures())?;
    drop(file);
    fs::remove_file(&path)?;
    times.sort();
    Ok(summary(kind, &times, &cost))
}

fn summary(kind: FileKind, sorted: &[Duration], cost: &Stats) -> Appends {
    let per_append = |count: u64| match u32::try_from(sorted.len()) {
        Ok(appends @ 1..) => f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / f64::from(appends),
        Ok(0) | Err(_) => 0.0,
    };
    Appends {
        kind,
        appends: sorted.len(),
        p50: quantile(sorted, 50),
        p99: quantile(sorted, 99),
        longest: quantile(sorted, 100),
        flushes_per_append: per_append(cost.flushes),
        bytes_per_append: per_append(cost.bytes_written),
        pauses: cost.pauses,
    }
}

/// The smallest time that `percent` of all do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 50), Duration::from_millis(100));
        assert_eq!(quantile(&times, 99), Duration::from_millis(198));
        assert_eq!(quantile(&times, 100), Duration::from_millis(200));
        assert_eq!(quantile(&times[..1], 50), Duration::from_millis(1));
        assert_eq!(quantile(&[], 50), Duration::ZERO);
    }
}
