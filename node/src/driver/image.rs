//! When the log is long enough that writing the whole state once is cheaper than keeping it.

use super::Driver;
use crate::background::Job;
use crate::inbox::ExportId;
use crate::wal_worker::WalRequest;
use quorate_types::Position;
use quorate_types::limits::IMAGE_TRIGGER_BYTES_MIN;

/// The log kept for a peer that is being sent an image, in times of what starts an image.
const HELD_TIMES_MAX: u64 = 2;

/// Each voter writes its images so much of the trigger earlier than the one before it: their logs grow alike, and all
/// cards writing images at once is the one time when a put has to wait for them.
const STAGGER_PART: u64 = 8;

/// More places than that begin together with another.
const STAGGER_PLACES_MAX: u64 = 4;

/// Failed images in a row before each further try waits longer.
const RETRY_TICKS: u32 = 600;

/// An image is due when the log since the last one exceeds max(64 MiB, size of the last): then steady
/// overwrites cost at most about twice their payload, whatever the size of the state.
#[derive(Debug, Clone, Default)]
pub struct ImageTrigger {
    /// Bytes this start has written to the log.
    pub wal_bytes_written: u64,
    /// Bytes of log that recovery found above the last image.
    pub wal_bytes_recovered: u64,
    /// Size of the last image.
    pub image_bytes_last: u64,
    /// Position of the newest durable image.
    pub newest: Option<Position>,
    /// A peer needs one newer than that.
    pub is_wanted: bool,
    wal_bytes_at_last: u64,
    running: Option<(ExportId, u64)>,
    retry_ticks: u32,
}

impl ImageTrigger {
    /// From what recovery found.
    #[must_use]
    pub fn recovered(
        wal_bytes_recovered: u64,
        image_bytes_last: u64,
        newest: Option<Position>,
    ) -> ImageTrigger {
        ImageTrigger { wal_bytes_recovered, image_bytes_last, newest, ..ImageTrigger::default() }
    }

    /// An image of a peer stands in for all the log so far.
    pub(super) fn installed(&mut self, position: Position, bytes: u64) {
        self.newest = Some(position);
        self.is_wanted = false;
        self.wal_bytes_recovered = 0;
        self.wal_bytes_at_last = self.wal_bytes_written;
        self.image_bytes_last = bytes;
    }

    fn wal_bytes_since_last(&self) -> u64 {
        self.wal_bytes_recovered + self.wal_bytes_written - self.wal_bytes_at_last
    }

    /// `place` is this node's among the voters.
    fn is_due(&self, place: u64) -> bool {
        let trigger = self.image_bytes_last.max(IMAGE_TRIGGER_BYTES_MIN);
        let early = trigger / STAGGER_PART * place.min(STAGGER_PLACES_MAX);
        self.running.is_none()
            && self.retry_ticks == 0
            && (self.is_wanted || self.wal_bytes_since_last() > trigger - early)
    }
}

impl Driver {
    pub(super) fn start_image_if_due(&mut self) {
        self.release_trim_if_long();
        self.image.retry_ticks = self.image.retry_ticks.saturating_sub(1);
        let voters = &self.core.membership().voters;
        let place = voters.iter().position(|voter| *voter == self.identity.node).unwrap_or(0);
        if !self.image.is_due(u64::try_from(place).unwrap_or(0)) || self.refusal().is_some() {
            return;
        }
        let start = self.export_start();
        self.image.running = Some((start.export, self.image.wal_bytes_written));
        let hard_state = self.core.hard_state();
        let membership = self.core.membership_committed().clone();
        tracing::info!(position = %start.position, wal_bytes = self.image.wal_bytes_since_last(), "image begins");
        let job = Job::Image { start, hard_state, membership };
        if self.background.send(job).is_err() {
            tracing::warn!("the background thread is gone: no image");
        }
    }

    /// A peer that takes too long for its image must not fill this card: it gets a newer one.
    fn release_trim_if_long(&mut self) {
        let bound = HELD_TIMES_MAX * self.image.image_bytes_last.max(IMAGE_TRIGGER_BYTES_MIN);
        if self.image.wal_bytes_since_last() > bound
            && let Some(trim) = self.work.trim_held.take()
        {
            tracing::warn!("a peer takes long for its image: the log it would need after it is let go");
            self.tell_wal(trim);
        }
    }

    pub(super) fn image_done(&mut self, export: ExportId, position: Position, number: u64, bytes: u64) {
        self.export_end(export);
        if let Some((_, wal_bytes)) = self.image.running.take() {
            // What recovery found lies below the image now: only what came during it is left.
            self.image.wal_bytes_recovered = 0;
            self.image.wal_bytes_at_last = wal_bytes;
        }
        self.image.image_bytes_last = bytes;
        self.image.newest = Some(position);
        self.image.is_wanted = false;
        self.metrics.images.inc();
        let trim = WalRequest::Trim { position, number, bytes };
        if self.work.image_sending.is_empty() {
            self.tell_wal(trim);
        } else {
            // A peer is being sent an older one: what follows that is kept until it has it.
            self.work.trim_held = Some(trim);
        }
    }

    /// The log is kept; nothing is lost but space, and it is tried again in a minute.
    pub(super) fn image_failed(&mut self, export: ExportId, reason: &str) {
        tracing::warn!(reason, "the image could not be written; the log is kept and it is tried again");
        self.export_end(export);
        self.image.running = None;
        self.image.retry_ticks = RETRY_TICKS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_after_the_larger_of_floor_and_last_image() {
        let mut trigger = ImageTrigger::recovered(0, 0, None);
        trigger.wal_bytes_written = IMAGE_TRIGGER_BYTES_MIN;
        assert!(!trigger.is_due(0));
        trigger.wal_bytes_written += 1;
        assert!(trigger.is_due(0));
        trigger.image_bytes_last = 2 * IMAGE_TRIGGER_BYTES_MIN;
        assert!(!trigger.is_due(0));
        trigger.wal_bytes_written = 2 * IMAGE_TRIGGER_BYTES_MIN * 7 / 8 + 1;
        assert!(!trigger.is_due(0) && trigger.is_due(1), "the second voter begins earlier");
        let trigger = ImageTrigger::recovered(IMAGE_TRIGGER_BYTES_MIN + 1, 0, None);
        assert!(trigger.is_due(0), "a long log found at the start is worth an image");
    }
}
