//! One file: its pages as a reader sees them, and what a power cut would leave of each.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const PAGE_BYTES: usize = 4_096;
const SECTOR_BYTES: usize = 512;

/// A page that is not there is all zeros: a prepared segment costs nothing.
type Page = Arc<[u8; PAGE_BYTES]>;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// A file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inode {
    pages: BTreeMap<u64, Page>,
    /// Pages that differ from what the card has.
    unsynced: BTreeMap<u64, Unsynced>,
    bytes: u64,
    bytes_durable: u64,
}

/// What the card has of a page, and which sectors of it differ in memory.
#[derive(Debug, Clone)]
struct Unsynced {
    durable: Option<Page>,
    /// To be written by the next sync.
    dirty: u8,
    /// Lost by a failed sync: clean to the kernel, and not on the card.
    ghost: u8,
}

impl Inode {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = into.len().min(left);
        let mut done = 0;
        while done < count {
            let (page, from, length) = piece(offset, done, count);
            match self.pages.get(&page) {
                Some(bytes) => into[done..done + length].copy_from_slice(&bytes[from..from + length]),
                None => into[done..done + length].fill(0),
            }
            done += length;
        }
        count
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, from, length) = piece(offset, done, bytes.len());
            self.write_page(page, from, &bytes[done..done + length]);
            done += length;
        }
        self.bytes = self.bytes.max(offset + u64::try_from(bytes.len()).expect("a write fits memory"));
    }

    fn write_page(&mut self, page: u64, from: usize, bytes: &[u8]) {
        let before = self.pages.get(&page).cloned();
        if before.is_none() && bytes == &ZEROS[..bytes.len()] && !self.unsynced.contains_key(&page) {
            // Zeros over zeros: there is nothing a power cut could take.
            return;
        }
        let mask = (from / SECTOR_BYTES..(from + bytes.len()).div_ceil(SECTOR_BYTES))
            .fold(0_u8, |mask, sector| mask | 1 << sector);
        let unsynced = self.unsynced.entry(page).or_insert(Unsynced { durable: before, dirty: 0, ghost: 0 });
        unsynced.dirty |= mask;
        unsynced.ghost &= !mask;
        let page = self.pages.entry(page).or_insert_with(|| Arc::new(ZEROS));
        Arc::make_mut(page)[from..from + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn allocate(&mut self, bytes: u64) {
        self.bytes = self.bytes.max(bytes);
    }

    pub(crate) fn sync(&mut self) {
        self.bytes_durable = self.bytes;
        for (page, mut unsynced) in core::mem::take(&mut self.unsynced) {
            if unsynced.ghost == 0 {
                continue;
            }
            let now = self.pages.get(&page).expect("what differs is there");
            unsynced.durable = Some(merged(unsynced.durable.as_ref(), now, unsynced.dirty));
            unsynced.dirty = 0;
            self.unsynced.insert(page, unsynced);
        }
    }

    /// The card refused: what was to be written stays readable, counts as clean, and is not on the card.
    pub(crate) fn sync_failed(&mut self) {
        for unsynced in self.unsynced.values_mut() {
            unsynced.ghost |= unsynced.dirty;
            unsynced.dirty = 0;
        }
    }

    /// Clean pages may be dropped from memory; `drops` says of each that a failed sync left whether it is.
    pub(crate) fn forget(&mut self, mut drops: impl FnMut() -> bool) {
        for (page, unsynced) in &mut self.unsynced {
            if unsynced.ghost != 0 && unsynced.dirty == 0 && drops() {
                let now = self.pages.get(page).expect("what differs is there");
                let back =
                    merged(Some(now), unsynced.durable.as_ref().unwrap_or(&Arc::new(ZEROS)), unsynced.ghost);
                self.pages.insert(*page, back);
                unsynced.ghost = 0;
            }
        }
        self.unsynced.retain(|_, unsynced| unsynced.dirty | unsynced.ghost != 0);
    }

    /// The power goes: `keep` says of each dirty sector whether it reached the card.
    pub(crate) fn cut(&mut self, mut keep: impl FnMut() -> bool) {
        let mut bytes = self.bytes_durable;
        for (page, unsynced) in core::mem::take(&mut self.unsynced) {
            let kept = (0..8).filter(|sector| unsynced.dirty & 1 << sector != 0 && keep());
            let kept = kept.fold(0_u8, |mask, sector| mask | 1 << sector);
            if kept == 0 {
                match unsynced.durable {
                    Some(durable) => self.pages.insert(page, durable),
                    None => self.pages.remove(&page),
                };
                continue;
            }
            let now = self.pages.get(&page).expect("what differs is there");
            let left = merged(unsynced.durable.as_ref(), now, kept);
            let sector_end = u64::from(8 - kept.leading_zeros()) * 512;
            bytes = bytes.max(self.bytes.min(page * 4_096 + sector_end));
            self.pages.insert(page, left);
        }
        self.bytes = bytes;
        self.bytes_durable = bytes;
        let pages = bytes.div_ceil(4_096);
        self.pages.retain(|page, _| *page < pages);
    }
}

/// `base` with the sectors of `mask` from `over`.
fn merged(base: Option<&Page>, over: &Page, mask: u8) -> Page {
    let mut page = base.map_or(ZEROS, |base| **base);
    for sector in (0..8).filter(|sector| mask & 1 << sector != 0) {
        let span = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        page[span.clone()].copy_from_slice(&over[span]);
    }
    Arc::new(page)
}

/// The page that the next piece of a transfer lies in, where in it, and how many bytes.
fn piece(offset: u64, done: usize, count: usize) -> (u64, usize, usize) {
    let at = offset + u64::try_from(done).expect("a transfer fits memory");
    let from = usize::try_from(at % 4_096).expect("below a page");
    (at / 4_096, from, (PAGE_BYTES - from).min(count - done))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inode: &Inode, offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![9; count];
        let read = inode.read(offset, &mut bytes);
        bytes.truncate(read);
        bytes
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may() {
        let mut inode = Inode::default();
        inode.write(0, &[1; 5_000]);
        inode.sync();
        inode.write(4_000, &[2; 2_000]);
        let mut kept = inode.clone();
        kept.cut(|| true);
        assert_eq!(read(&kept, 3_999, 3_000), [vec![1], vec![2; 2_000]].concat());
        inode.cut(|| false);
        assert_eq!(read(&inode, 0, 9_000), vec![1; 5_000]);
    }

    #[test]
    fn sectors_are_kept_one_by_one() {
        let mut inode = Inode::default();
        inode.write(0, &[1; 4_096]);
        inode.sync();
        inode.write(0, &[2; 4_096]);
        let mut turn = 0;
        inode.cut(|| {
            turn += 1;
            turn == 3
        });
        assert_eq!(read(&inode, 1_023, 514), [vec![1], vec![2; 512], vec![1]].concat());
    }

    #[test]
    fn a_failed_sync_leaves_what_is_readable_off_the_card() {
        let mut inode = Inode::default();
        inode.write(0, &[1; 4_096]);
        inode.sync();
        inode.write(0, &[2; 512]);
        inode.sync_failed();
        inode.write(512, &[3; 512]);
        inode.sync();
        assert_eq!(read(&inode, 0, 1_024), [vec![2; 512], vec![3; 512]].concat(), "readable all the same");
        let mut dropped = inode.clone();
        dropped.forget(|| true);
        assert_eq!(read(&dropped, 0, 1_024), [vec![1; 512], vec![3; 512]].concat());
        inode.cut(|| true);
        assert_eq!(read(&inode, 0, 1_024), [vec![1; 512], vec![3; 512]].concat());
    }

    #[test]
    fn a_prepared_file_reads_as_zeros_and_costs_nothing() {
        let mut inode = Inode::default();
        inode.write(0, &[0; 65_536]);
        assert_eq!((inode.bytes(), inode.pages.len()), (65_536, 0));
        assert_eq!(read(&inode, 65_530, 10), vec![0; 6]);
        inode.cut(|| true);
        assert_eq!(inode.bytes(), 0, "its length was not synced");
    }
}
