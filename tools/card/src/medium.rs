//! What the card holds: sparse pages in memory, and for each sector written since the last flush what it held
//! before, so that a power cut can lose it.
use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The unit a power cut keeps or loses whole, in bytes.
pub(crate) const SECTOR_BYTES: usize = 512;
/// The unit of memory, in bytes.
const PAGE_BYTES: usize = 4096;
const SECTORS_PER_PAGE: usize = PAGE_BYTES / SECTOR_BYTES;

type Page = [u8; PAGE_BYTES];

/// A page written since the last flush.
struct Unflushed {
    /// What the last flush made durable; none: zeros.
    before: Option<Box<Page>>,
    /// One bit for each sector written.
    sectors: u8,
}

/// How a power cut ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survivors {
    /// Unflushed sectors that kept their new content.
    pub(crate) kept: u64,
    /// Unflushed sectors that fell back to what the last flush had made durable.
    pub(crate) lost: u64,
}

/// Pages of zeros cost nothing: a zero-filled file is as cheap as none.
pub(crate) struct Medium {
    pages: Vec<Option<Box<Page>>>,
    unflushed: BTreeMap<usize, Unflushed>,
    resident: usize,
}

impl Medium {
    /// An empty card of at least `size` bytes.
    pub(crate) fn new(size: usize) -> Medium {
        let mut pages = Vec::new();
        pages.resize_with(size.div_ceil(PAGE_BYTES), || None);
        Medium { pages, unflushed: BTreeMap::new(), resident: 0 }
    }

    /// Pages held in memory for the current content, in bytes.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.resident * PAGE_BYTES
    }

    /// Sectors a power cut could lose now.
    pub(crate) fn unflushed_sectors(&self) -> u64 {
        self.unflushed.values().map(|page| u64::from(page.sectors.count_ones())).sum()
    }

    /// Writes within the card; the caller has checked the bounds.
    pub(crate) fn write(&mut self, mut offset: usize, mut data: &[u8]) {
        while !data.is_empty() {
            let (index, within) = (offset / PAGE_BYTES, offset % PAGE_BYTES);
            let (here, rest) = data.split_at(data.len().min(PAGE_BYTES - within));
            self.write_in_page(index, within, here);
            offset += here.len();
            data = rest;
        }
    }

    fn write_in_page(&mut self, index: usize, within: usize, data: &[u8]) {
        let slot = &mut self.pages[index];
        let unflushed =
            self.unflushed.entry(index).or_insert_with(|| Unflushed { before: slot.clone(), sectors: 0 });
        let last = (within + data.len() - 1) / SECTOR_BYTES;
        for sector in within / SECTOR_BYTES..=last {
            unflushed.sectors |= 1 << sector;
        }
        let mut page = slot.take().unwrap_or_else(|| {
            self.resident += 1;
            Box::new([0; PAGE_BYTES])
        });
        page[within..within + data.len()].copy_from_slice(data);
        self.place(index, page);
    }

    /// Keeps a page unless it is all zeros.
    fn place(&mut self, index: usize, page: Box<Page>) {
        if page.iter().all(|byte| *byte == 0) {
            self.resident -= 1;
            self.pages[index] = None;
        } else {
            self.pages[index] = Some(page);
        }
    }

    /// Fills `out` from the card; the caller has checked the bounds.
    pub(crate) fn read(&self, mut offset: usize, mut out: &mut [u8]) {
        while !out.is_empty() {
            let (index, within) = (offset / PAGE_BYTES, offset % PAGE_BYTES);
            let length = out.len().min(PAGE_BYTES - within);
            let (here, rest) = out.split_at_mut(length);
            match &self.pages[index] {
                Some(page) => here.copy_from_slice(&page[within..within + length]),
                None => here.fill(0),
            }
            offset += length;
            out = rest;
        }
    }

    /// Everything written is durable now.
    pub(crate) fn flush(&mut self) {
        self.unflushed.clear();
    }

    /// The power goes: each sector written since the last flush is kept or lost, as the seed says.
    pub(crate) fn cut(&mut self, seed: u64) -> Survivors {
        let mut random = StdRng::seed_from_u64(seed);
        let mut survivors = Survivors::default();
        for (index, unflushed) in std::mem::take(&mut self.unflushed) {
            let mut page = self.pages[index].take().unwrap_or_else(|| {
                self.resident += 1;
                Box::new([0; PAGE_BYTES])
            });
            for sector in (0..SECTORS_PER_PAGE).filter(|sector| unflushed.sectors & (1 << sector) != 0) {
                if random.random_bool(0.5) {
                    survivors.kept += 1;
                    continue;
                }
                survivors.lost += 1;
                let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                match &unflushed.before {
                    Some(before) => page[bytes.clone()].copy_from_slice(&before[bytes]),
                    None => page[bytes].fill(0),
                }
            }
            self.place(index, page);
        }
        survivors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 64 * 1024;

    fn content(medium: &Medium) -> Vec<u8> {
        let mut all = vec![0xEE; SIZE];
        medium.read(0, &mut all);
        all
    }

    #[test]
    fn a_cut_loses_and_keeps_only_unflushed_sectors() {
        let mut medium = Medium::new(SIZE);
        medium.write(0, &[1; 8192]);
        medium.flush();
        medium.write(4096, &[2; 4096]);
        medium.write(16384, &[3; 4096]);
        assert_eq!(medium.unflushed_sectors(), 16);
        let survivors = medium.cut(9);
        assert_eq!(survivors.kept + survivors.lost, 16);
        assert!(survivors.kept > 0 && survivors.lost > 0, "seed 9 shows both: {survivors:?}");
        let all = content(&medium);
        assert!(all[..4096].iter().all(|byte| *byte == 1), "flushed and not touched since");
        for sector in all[4096..8192].chunks(SECTOR_BYTES) {
            assert!(sector == [1; SECTOR_BYTES] || sector == [2; SECTOR_BYTES]);
        }
        for sector in all[16384..20480].chunks(SECTOR_BYTES) {
            assert!(sector == [0; SECTOR_BYTES] || sector == [3; SECTOR_BYTES]);
        }
        assert_eq!(medium.unflushed_sectors(), 0);
    }

    #[test]
    fn zeros_cost_no_memory() {
        let mut medium = Medium::new(SIZE);
        medium.write(0, &[0; 32768]);
        assert_eq!(medium.resident_bytes(), 0);
        medium.write(512, &[5; 512]);
        assert_eq!(medium.resident_bytes(), 4096);
        medium.write(512, &[0; 512]);
        assert_eq!(medium.resident_bytes(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, usize, u8),
        Flush,
        Cut(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..120usize, 1..9usize, any::<u8>()).prop_map(|(at, count, byte)| Step::Write(at, count, byte)),
            2 => Just(Step::Flush),
            1 => any::<u64>().prop_map(Step::Cut),
        ]
    }

    proptest! {
        /// Against two plain arrays, one durable and one current: after a cut each sector equals the one or the
        /// other, and both where nothing was written.
        #[test]
        fn agrees_with_two_plain_arrays(steps in prop::collection::vec(step(), 1..60)) {
            let mut medium = Medium::new(SIZE);
            let mut durable = vec![0u8; SIZE];
            let mut current = vec![0u8; SIZE];
            for step in steps {
                match step {
                    Step::Write(at, count, byte) => {
                        let bytes = at * SECTOR_BYTES..(at + count) * SECTOR_BYTES;
                        current[bytes.clone()].fill(byte);
                        medium.write(bytes.start, &current[bytes]);
                    }
                    Step::Flush => {
                        medium.flush();
                        durable.clone_from(&current);
                    }
                    Step::Cut(seed) => {
                        medium.cut(seed);
                        let after = content(&medium);
                        for sector in 0..SIZE / SECTOR_BYTES {
                            let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                            prop_assert!(
                                after[bytes.clone()] == durable[bytes.clone()]
                                    || after[bytes.clone()] == current[bytes]
                            );
                        }
                        durable.clone_from(&after);
                        current = after;
                    }
                }
                prop_assert_eq!(&content(&medium), &current);
                let held = current.chunks(PAGE_BYTES).filter(|page| page.iter().any(|byte| *byte != 0)).count();
                prop_assert_eq!(medium.resident_bytes(), held * PAGE_BYTES);
            }
        }
    }
}
