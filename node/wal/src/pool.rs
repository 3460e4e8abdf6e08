//! Segment files that wait for their next use, and the making of new ones.
//!
//! A file is filled with zeros once in its life, in the background, so that later writes touch no
//! metadata: one flush instead of two (slow-cards.md, section 2). Its next uses need no zeros, since each
//! unit says whose it is.

use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::WalError;
use crate::segment::path_of;
use std::collections::VecDeque;

/// A new segment file to be made: for `Preparer`, on a thread that may wait for the card.
#[derive(Debug, PartialEq, Eq)]
pub struct SpareOrder {
    number: u32,
    bytes: u64,
}

/// A zero-filled segment file, durable under its final name.
#[derive(Debug, PartialEq, Eq)]
pub struct Spare {
    number: u32,
}

/// Makes one spare, a piece at a time; the caller paces it.
pub struct Preparer<D: Disk> {
    disk: D,
    order: SpareOrder,
    file: D::File,
    written: u64,
}

impl<D: Disk> Preparer<D> {
    /// Bytes one `step` writes.
    pub const STEP_BYTES: usize = 64 * 1024;

    /// Begins a file under a name that recovery removes.
    ///
    /// # Errors
    /// What the disk says. The log itself is not touched by it: it goes on with fewer spares.
    pub fn new(disk: D, order: SpareOrder) -> Result<Preparer<D>, WalError> {
        let file = disk.create(&temporary_path(order.number))?;
        Ok(Preparer { disk, order, file, written: 0 })
    }

    /// Writes the next piece of zeros; the last step syncs and names the file and answers it.
    ///
    /// # Errors
    /// What the disk says. Not to be called again after it.
    pub fn step(&mut self) -> Result<Option<Spare>, WalError> {
        let number = self.order.number;
        if self.written < self.order.bytes {
            let piece = (self.order.bytes - self.written).min(Self::STEP_BYTES as u64);
            fill_with_zeros(&mut self.file, &temporary_path(number), self.written, piece)?;
            self.written += piece;
            return Ok(None);
        }
        self.file.sync_data()?;
        self.disk.rename(&temporary_path(number), &path_of(number))?;
        self.disk.sync_dir("wal")?;
        Ok(Some(Spare { number }))
    }

    /// Takes the unfinished file away again, so that it does not keep the room the log itself may need. If that
    /// fails too, the next start does it.
    pub fn abandon(self) {
        let Preparer { disk, order, file, .. } = self;
        drop(file);
        disk.remove(&temporary_path(order.number)).ok();
    }

    /// Makes what was written so far durable, so that the last step need not flush it all at once.
    ///
    /// # Errors
    /// What the disk says. Not to be called again after it.
    pub fn sync_so_far(&mut self) -> Result<(), WalError> {
        Ok(self.file.sync_data()?)
    }
}

/// Writes that many zeros at `offset`, in pieces.
pub(crate) fn fill_with_zeros<F: DiskFile>(
    file: &mut F,
    path: &str,
    offset: u64,
    bytes: u64,
) -> Result<(), WalError> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut written = 0;
    while written < bytes {
        let piece = usize::try_from(bytes - written).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        write_all_at(file, path, offset + written, &ZEROS[..piece])?;
        written += piece as u64;
    }
    Ok(())
}

/// Files ready for use, oldest first, and how many there shall be.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: VecDeque<u32>,
    ordered: Option<u32>,
    next_number: u32,
    count: usize,
}

impl Pool {
    pub(crate) fn new(next_number: u32, count: usize) -> Pool {
        Pool { free: VecDeque::new(), ordered: None, next_number, count }
    }

    /// A new file to be made, if there are too few. One at a time: zeroing never crowds the card.
    pub(crate) fn order(&mut self, live_count: usize, bytes: u64) -> Option<SpareOrder> {
        if self.ordered.is_some() || (live_count + self.free.len() >= self.count && !self.free.is_empty()) {
            return None;
        }
        let number = self.name();
        self.ordered = Some(number);
        Some(SpareOrder { number, bytes })
    }

    pub(crate) fn set_count(&mut self, count: usize) {
        self.count = count;
    }

    pub(crate) fn give(&mut self, spare: &Spare) {
        assert_eq!(self.ordered.take(), Some(spare.number), "a spare was ordered from this pool");
        self.free.push_back(spare.number);
    }

    /// The order failed or was given up.
    pub(crate) fn give_up(&mut self) {
        self.ordered = None;
    }

    pub(crate) fn release(&mut self, number: u32) {
        self.free.push_back(number);
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop_front()
    }

    /// A number no file has.
    pub(crate) fn name(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }
}

/// Where a file stands until it is zero-filled.
fn temporary_path(number: u32) -> String {
    format!("wal/spare-{number:04}.tmp")
}
