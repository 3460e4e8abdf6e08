//! A file to measure with: written as the log is, one block after the other into zeros, each synced.
//!
//! It has no name while it is used: whatever ends the process, kill -9 and a power cut among it, the space is free
//! again and nothing is left in the folder.

use core::time::Duration;
use rustix::fs::{Advice, OFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

/// What the log writes for a small batch.
pub const BLOCK_BYTES: usize = 4_096;

const BLOCK: u64 = 4_096;

/// Blocks read or filled in one go.
const PIECE_BLOCKS: usize = 64;

/// A nameless file.
#[derive(Debug)]
pub struct SampleFile {
    file: File,
    /// Makes this file's bytes differ from any other's.
    seed: u64,
    /// Blocks below are filled with zeros, and synced.
    filled_blocks: u64,
    /// Blocks below are appended.
    next_block: u64,
}

/// What reading back showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBack {
    /// Bytes read.
    pub bytes: u64,
    /// In this time.
    pub took: Duration,
    /// Blocks that differ from what was written.
    pub wrong_blocks: u64,
    /// Whether it went past the page cache for certain: not every file system can.
    pub is_direct: bool,
}

impl SampleFile {
    /// Makes one in a folder, and takes its name away.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(folder: &Path, seed: u64) -> io::Result<SampleFile> {
        let path = folder.join(format!(".quorate-probe-{}-{seed:016x}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(SampleFile { file, seed, filled_blocks: 0, next_block: 0 })
    }

    /// Fills that many more blocks with zeros and syncs them.
    ///
    /// # Errors
    /// What the system says.
    pub fn fill(&mut self, blocks: u64) -> io::Result<()> {
        static ZEROS: [u8; BLOCK_BYTES * PIECE_BLOCKS] = [0; BLOCK_BYTES * PIECE_BLOCKS];
        let mut left = usize::try_from(blocks * BLOCK).map_err(io::Error::other)?;
        while left > 0 {
            let piece = left.min(ZEROS.len());
            self.file.write_all_at(&ZEROS[..piece], self.filled_blocks * BLOCK)?;
            self.filled_blocks += (piece / BLOCK_BYTES) as u64;
            left -= piece;
        }
        self.file.sync_data()
    }

    /// Blocks that are filled and not yet used.
    #[must_use]
    pub fn blocks_left(&self) -> u64 {
        self.filled_blocks - self.next_block
    }

    /// Writes the next filled block and syncs it, as the log does for one small batch; answers how long both took.
    ///
    /// # Errors
    /// What the system says. Final, as for the log.
    ///
    /// # Panics
    /// No block is filled.
    pub fn append(&mut self) -> io::Result<Duration> {
        assert!(self.blocks_left() > 0, "appends go to filled blocks");
        let block = self.block(self.next_block);
        let begun = Instant::now();
        self.file.write_all_at(&block, self.next_block * BLOCK)?;
        self.file.sync_data()?;
        self.next_block += 1;
        Ok(begun.elapsed())
    }

    /// Writes so many blocks in one go from `first_block` on, whether filled or not, and syncs them.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_bulk(&mut self, first_block: u64, blocks: u64) -> io::Result<Duration> {
        let bytes: Vec<u8> =
            (first_block..first_block + blocks).flat_map(|number| self.block(number)).collect();
        let begun = Instant::now();
        self.file.write_all_at(&bytes, first_block * BLOCK)?;
        self.file.sync_data()?;
        self.filled_blocks = self.filled_blocks.max(first_block + blocks);
        self.next_block = self.next_block.max(first_block + blocks);
        Ok(begun.elapsed())
    }

    /// Reads back all that was appended or written in bulk, past the page cache where the file system lets it, for at
    /// most `limit` and at least one piece, and compares.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_back(&self, limit: Duration) -> io::Result<ReadBack> {
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?;
        let direct = self.reopen_direct();
        let file = direct.as_ref().unwrap_or(&self.file);
        // Direct reads want memory aligned to the device's blocks.
        let mut space = vec![0; BLOCK_BYTES * (PIECE_BLOCKS + 1)];
        let start = space.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        let mut answer =
            ReadBack { bytes: 0, took: Duration::ZERO, wrong_blocks: 0, is_direct: direct.is_some() };
        let mut number = 0;
        while number < self.next_block && (number == 0 || answer.took < limit) {
            let blocks =
                usize::try_from(self.next_block - number).map_or(PIECE_BLOCKS, |left| left.min(PIECE_BLOCKS));
            let into = &mut space[start..start + blocks * BLOCK_BYTES];
            let begun = Instant::now();
            file.read_exact_at(into, number * BLOCK)?;
            answer.took += begun.elapsed();
            answer.bytes += into.len() as u64;
            for block in into.chunks(BLOCK_BYTES) {
                answer.wrong_blocks += u64::from(block != self.block(number));
                number += 1;
            }
        }
        Ok(answer)
    }

    /// The same file past the page cache; none where the file system cannot.
    fn reopen_direct(&self) -> Option<File> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
        let direct = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        // Some take the flag and refuse the reading.
        let mut space = vec![0; BLOCK_BYTES * 2];
        let start = space.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        direct.read_at(&mut space[start..start + BLOCK_BYTES], 0).ok().map(|_| direct)
    }

    /// What stands in a block: bytes no card can compress, of this file and this place.
    fn block(&self, number: u64) -> [u8; BLOCK_BYTES] {
        let mut state = self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut block = [0; BLOCK_BYTES];
        for word in block.chunks_exact_mut(8) {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn nothing_is_left_in_the_folder_even_while_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SampleFile::create(folder.path(), 1).unwrap();
        assert_eq!(names(folder.path()), 0);
        file.fill(2).unwrap();
        file.append().unwrap();
        file.append().unwrap();
        assert_eq!(file.blocks_left(), 0);
        assert_eq!(names(folder.path()), 0);
    }

    #[test]
    fn appends_overwrite_zeros_and_never_grow_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SampleFile::create(folder.path(), 1).unwrap();
        file.fill(3).unwrap();
        file.append().unwrap();
        assert_eq!(file.file.metadata().unwrap().len(), 3 * BLOCK);
        let mut block = [0; BLOCK_BYTES];
        file.file.read_exact_at(&mut block, 0).unwrap();
        assert_ne!(block, [0; BLOCK_BYTES]);
        file.file.read_exact_at(&mut block, BLOCK).unwrap();
        assert_eq!(block, [0; BLOCK_BYTES]);
    }

    #[test]
    fn what_was_written_reads_back_and_what_changed_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SampleFile::create(folder.path(), 7).unwrap();
        file.write_bulk(0, 100).unwrap();
        file.write_bulk(100, 50).unwrap();
        let read = file.read_back(Duration::MAX).unwrap();
        assert_eq!((read.bytes, read.wrong_blocks), (150 * BLOCK, 0));
        file.file.write_all_at(b"x", 70 * BLOCK + 5).unwrap();
        file.file.write_all_at(&file.block(8), 9 * BLOCK).unwrap();
        file.file.sync_data().unwrap();
        assert_eq!(
            file.read_back(Duration::MAX).unwrap().wrong_blocks,
            2,
            "another place's block is wrong too"
        );
    }

    #[test]
    fn reading_ends_in_time_and_reads_a_piece_at_least() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SampleFile::create(folder.path(), 7).unwrap();
        file.write_bulk(0, 256).unwrap();
        assert_eq!(file.read_back(Duration::ZERO).unwrap().bytes, 64 * BLOCK);
    }

    #[test]
    fn a_folder_that_takes_no_file_says_so() {
        assert!(SampleFile::create(Path::new("/proc/self"), 1).is_err());
    }
}
