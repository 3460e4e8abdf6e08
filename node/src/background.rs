//! The background thread: fills segments with zeros before they are needed, writes images. In small
//! pieces, each synced, each followed by a pause, so that the card is free for the wal's syncs.

use crate::disk_health::DiskHealth;
use crate::inbox::{ExportSlice, ExportStart, Inbound, Inbox, Reply};
use crate::metrics::Metrics;
use crate::pace::{Pace, Work};
use crate::starts::write_seen;
use crate::wal_worker::WalRequest;
use quorate_api::Refusal;
use quorate_store::Store;
use quorate_types::limits::SEGMENT_BYTES;
use quorate_types::{HardState, Membership, NodeId, Start};
use quorate_wal::{
    Disk, ImageHead, ImageWriter, Preparer, SMALL_FILE_SYNC_COUNT, Spare, SpareOrder, WalError,
    remove_unfinished_images,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

/// What the log may grow while an image is written: the two segments the pool has beyond the trigger. An image
/// that is behind that growth does not rest, else the log outruns its prepared segments and pays for new ones.
const LOG_GROWTH_BYTES_MAX: u64 = 2 * SEGMENT_BYTES;

/// What the background thread may be told.
pub enum Job {
    /// Prepare this segment file.
    Spare(SpareOrder),
    /// Give freed memory back to the system.
    GiveBackMemory,
    /// Write an image.
    Image {
        /// The export it is made of.
        start: ExportStart,
        /// Term and vote at its begin.
        hard_state: HardState,
        /// The members, as far as is committed.
        membership: Membership,
    },
    /// Free a state that is no longer needed.
    Drop(Box<Store>),
    /// Keep the starts seen of other nodes (protocol.md rule 12).
    Seen(BTreeMap<NodeId, Start>),
}

/// The thread's state.
pub struct Background<D: Disk> {
    /// The card.
    pub disk: D,
    /// What heads each image, but for what changes.
    pub image_head: ImageHead,
    /// Images counted by this node, those of peers among them.
    pub image_number: Arc<AtomicU64>,
    /// What to do.
    pub jobs: Receiver<Job>,
    /// The driver.
    pub inbox: Inbox,
    /// The wal thread.
    pub wal: Sender<WalRequest>,
    /// What the log's syncs say: whether anybody waits for the card.
    pub health: Arc<DiskHealth>,
    /// Counters.
    pub metrics: Metrics,
}

impl<D: Disk> Background<D> {
    /// Works until nobody can give it work.
    pub fn run(mut self) {
        // Lower than the workers, which have somebody waiting. Not allowed is no reason not to run.
        rustix::process::nice(10).ok();
        quorate_board::set_io_priority(quorate_board::IoPriority::Background);
        while let Ok(job) = self.jobs.recv() {
            match job {
                Job::Spare(order) => self.spare(order),
                Job::GiveBackMemory => quorate_board::give_back_memory(),
                Job::Image { start, hard_state, membership } => self.image(&start, hard_state, membership),
                Job::Drop(store) => {
                    drop(store);
                    quorate_board::give_back_memory();
                }
                Job::Seen(seen) => match write_seen(&self.disk, &seen) {
                    Ok(bytes) => {
                        self.metrics.written.small_files.inc_by(bytes);
                        self.metrics.written.syncs.inc_by(SMALL_FILE_SYNC_COUNT);
                    }
                    Err(error) => tracing::warn!(%error, "the starts of other nodes could not be kept"),
                },
            }
        }
    }

    /// A segment that could not be made costs speed, not safety: the log makes its own when it must.
    fn spare(&mut self, order: SpareOrder) {
        let request = match self.prepare(order) {
            Ok(spare) => WalRequest::Spare(spare),
            Err(error) => {
                tracing::warn!(%error, "a log segment could not be prepared ahead");
                WalRequest::SpareFailed
            }
        };
        drop(self.wal.send(request));
    }

    fn prepare(&self, order: SpareOrder) -> Result<Spare, WalError> {
        let mut preparer = Preparer::new(self.disk.clone(), order)?;
        let prepared = self.fill(&mut preparer);
        if prepared.is_err() {
            preparer.abandon();
        }
        prepared
    }

    fn fill(&self, preparer: &mut Preparer<D>) -> Result<Spare, WalError> {
        let mut pace = Pace::start(Work::Own);
        loop {
            if let Some(spare) = preparer.step()? {
                self.metrics.written.syncs.inc();
                return Ok(spare);
            }
            let bytes = u64::try_from(Preparer::<D>::STEP_BYTES).unwrap_or(u64::MAX);
            self.metrics.written.zeros.inc_by(bytes);
            if pace.is_piece_full(bytes) {
                preparer.sync_so_far()?;
                self.metrics.written.syncs.inc();
                pace.rest(&self.health);
            }
        }
    }

    fn image(&mut self, start: &ExportStart, hard_state: HardState, membership: Membership) {
        let number = 1 + self.image_number.fetch_add(1, Ordering::Relaxed);
        let head =
            ImageHead { position: start.position, hard_state, membership, number, ..self.image_head.clone() };
        let export = start.export;
        let inbound = match self.write_image(start, &head) {
            Ok(bytes) => Inbound::ImageDone { export, position: start.position, number, bytes },
            Err(reason) => {
                // What stands of it may be the room the log needs.
                remove_unfinished_images(&self.disk).ok();
                Inbound::ImageFailed { export, reason }
            }
        };
        // A driver that has ended needs to hear nothing.
        let _is_heard: bool = self.inbox.deliver(inbound);
    }

    fn write_image(&self, start: &ExportStart, head: &ImageHead) -> Result<u64, String> {
        let say = |error: WalError| error.to_string();
        let mut writer = ImageWriter::create(self.disk.clone(), head).map_err(say)?;
        let mut pace = Pace::start(Work::Own);
        let log_bytes_before = self.metrics.written.log.get();
        loop {
            let (reply, answer) = Reply::pair();
            if !self.inbox.deliver(Inbound::ExportNext { export: start.export, reply }) {
                return Err("its export ended".into());
            }
            let slice: ExportSlice = answer
                .blocking_recv()
                .unwrap_or(Err(Refusal::Stopping))
                .map_err(|_| "its export ended: the node stops, or space was short".to_owned())?;
            writer.write(&slice.bytes).map_err(say)?;
            let bytes = u64::try_from(slice.bytes.len()).unwrap_or(u64::MAX);
            self.metrics.written.images.inc_by(bytes);
            if slice.is_last {
                self.metrics.written.syncs.inc();
                return writer.finish().map_err(say);
            }
            if pace.is_piece_full(bytes) {
                writer.sync_so_far().map_err(say)?;
                self.metrics.written.syncs.inc();
                let log_growth = self.metrics.written.log.get() - log_bytes_before;
                if is_behind(writer.bytes_written(), start.bytes_estimate, log_growth) {
                    pace.begin_next();
                } else {
                    pace.rest(&self.health);
                }
            }
        }
    }
}

/// Whether an image has less of itself written than the log has used up of its room to grow.
fn is_behind(bytes_written: u64, bytes_estimate: u64, log_growth: u64) -> bool {
    let image = u128::from(bytes_written) * u128::from(LOG_GROWTH_BYTES_MAX);
    let log = u128::from(log_growth) * u128::from(bytes_estimate);
    image < log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_keeps_up_with_the_log() {
        let mib = 1024 * 1024;
        assert!(!is_behind(0, 100 * mib, 0), "nothing presses while the log stands");
        assert!(is_behind(10 * mib, 100 * mib, LOG_GROWTH_BYTES_MAX / 2));
        assert!(!is_behind(60 * mib, 100 * mib, LOG_GROWTH_BYTES_MAX / 2));
        assert!(is_behind(99 * mib, 100 * mib, LOG_GROWTH_BYTES_MAX));
    }
}
