//! One turn of the driver: what arrived, what is ready, what is due.

use super::{Driver, DriverEnd, Phase};
use crate::background::Job;
use crate::clock::TICK;
use crate::inbox::Inbound;
use crate::wal_worker::WalRequest;
use core::time::Duration;
use quorate_api::{Refusal, WatchCommand};
use quorate_types::limits::{SWEEP_REVISION_COUNT, WATCH_CATCH_UP_EVENT_COUNT};
use quorate_watch::StreamId;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

/// Messages taken in one turn before consensus is stepped: enough to make batches, few enough that a
/// sync's acknowledgement never waits long.
const TURN_MESSAGE_COUNT_MAX: usize = 256;

/// Bytes freed by sweeps that are worth a walk over the heap.
const GIVE_BACK_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// etcd's default interval of progress notifications.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10 * 60);

impl Driver {
    /// Runs until stopped or until the card fails.
    pub fn run(mut self, inbox: &Receiver<Inbound>) -> DriverEnd {
        let mut is_busy = false;
        loop {
            if let Some(inbound) = self.next(inbox, is_busy) {
                self.take_in(inbound);
                for inbound in inbox.try_iter().take(TURN_MESSAGE_COUNT_MAX) {
                    self.take_in(inbound);
                }
            }
            self.advance();
            if self.clock.now() >= self.tick_next {
                self.tick();
            }
            is_busy = self.background_slices();
            self.deliver();
            self.publish_status();
            match self.phase {
                Phase::Running | Phase::Stopping => {}
                Phase::Stopped => return DriverEnd::Stopped,
                Phase::Failed => return DriverEnd::CardFailed,
            }
        }
    }

    fn next(&self, inbox: &Receiver<Inbound>, is_busy: bool) -> Option<Inbound> {
        if is_busy {
            return inbox.try_recv().ok();
        }
        match inbox.recv_timeout(self.tick_next.saturating_duration_since(self.clock.now())) {
            Ok(inbound) => Some(inbound),
            Err(RecvTimeoutError::Timeout) => None,
            // The api and the threads are gone: nobody can ask for anything any more.
            Err(RecvTimeoutError::Disconnected) => Some(Inbound::Stop),
        }
    }

    fn take_in(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Propose { command, reply } => self.propose(command, reply),
            Inbound::Read { read, linearizable: _, reply } => self.read(read, reply),
            Inbound::LeaseKeepAlive { id, reply } => self.keep_alive(id, reply),
            Inbound::WatchOpen { stream, deliveries } => {
                self.hub.open(stream);
                self.streams.insert(stream, deliveries);
            }
            Inbound::Watch { stream, command } => self.watch(stream, command),
            Inbound::WatchClose(stream) => self.close_stream(stream),
            Inbound::ExportBegin(reply) => self.export_begin(reply),
            Inbound::ExportNext { export, reply } => self.export_next(export, reply),
            Inbound::ExportEnd(export) => self.export_end(export),
            Inbound::Appended(appended) => {
                self.core.ack_append(appended.ack);
                self.image.wal_bytes_written = appended.bytes_written;
            }
            Inbound::WalFailed(words) => self.fail(&words),
            Inbound::WalStopped => self.phase = Phase::Stopped,
            Inbound::ImageDone { export, position, number, bytes } => {
                self.image_done(export, position, number, bytes);
            }
            Inbound::ImageFailed { export, reason } => self.image_failed(export, &reason),
            Inbound::Stop => self.stop(),
        }
    }

    fn watch(&mut self, stream: StreamId, command: WatchCommand) {
        match command {
            WatchCommand::Create(request) => self.hub.create(stream, request, &self.store),
            WatchCommand::Cancel(id) => self.hub.cancel(stream, id),
            WatchCommand::Progress => self.hub.progress(stream),
            WatchCommand::Credit(bytes) => self.hub.credit(stream, bytes),
        }
    }

    fn close_stream(&mut self, stream: StreamId) {
        self.hub.close(stream);
        self.streams.remove(&stream);
    }

    /// Hands every delivery to its stream. A stream whose task is gone is closed.
    pub(super) fn deliver(&mut self) {
        let mut gone = Vec::new();
        for (stream, delivery) in self.hub.take_deliveries() {
            let sent = self.streams.get(&stream).is_some_and(|sender| sender.send(delivery).is_ok());
            if !sent {
                gone.push(stream);
            }
        }
        for stream in gone {
            self.close_stream(stream);
        }
    }

    /// Work that may be cut anywhere: one slice each. True while there is more.
    fn background_slices(&mut self) -> bool {
        let sweep_more = self.sweep_slice(SWEEP_REVISION_COUNT);
        let catch_up_more = self.hub.catch_up(&self.store, WATCH_CATCH_UP_EVENT_COUNT);
        let hash_more = self.hash_slice();
        sweep_more || catch_up_more || hash_more
    }

    /// Frees what compaction took; once all is free, the compactions are answered. While an export
    /// holds the history they are answered at once: they are in force, and the space follows.
    pub(super) fn sweep_slice(&mut self, count_max: usize) -> bool {
        let before = self.store.bytes_total();
        let more = self.store.sweep(count_max);
        self.bytes_swept += before.saturating_sub(self.store.bytes_total());
        if !more {
            for (reply, answer) in self.sweeping.drain(..) {
                reply.send(Ok(answer));
            }
            if self.bytes_swept >= GIVE_BACK_BYTES_MIN {
                self.bytes_swept = 0;
                drop(self.background.send(Job::GiveBackMemory));
            }
        }
        more
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        // After a stall of this thread ticks are not made up for: nothing counts them. But keep-alives may stand in
        // the inbox that came in time: leases get one more tick.
        let was_stalled = now > self.tick_next + 2 * TICK && !self.was_stalled;
        self.was_stalled = was_stalled;
        self.tick_next = now + TICK;
        let timed_out = self.pending.expire(now);
        self.metrics.failed.inc_by(u64::try_from(timed_out).unwrap_or(u64::MAX));
        if !was_stalled {
            self.expire_leases();
        }
        if let Some(revision) = self.auto_compactor.tick(self.clock.cluster_time(), self.store.revision()) {
            self.compact_by_itself(revision);
        }
        if self.clock.uptime() >= self.progress_next {
            self.progress_next = self.clock.uptime() + PROGRESS_INTERVAL;
            self.hub.notify_progress();
        }
        self.start_image_if_due();
        self.advance();
    }

    fn stop(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
            self.advance();
            if self.wal.send(WalRequest::Stop).is_err() {
                self.phase = Phase::Stopped;
            }
        }
    }

    /// The first failed write or sync is final: whoever waits is told, nothing is acknowledged again.
    fn fail(&mut self, words: &str) {
        // What became durable before is answered as such.
        self.advance();
        tracing::error!("{words}");
        self.last_words.say(words);
        self.status.update(|status| status.errors.push(words.to_owned()));
        self.pending.refuse_all(Refusal::Stopping);
        self.phase = Phase::Failed;
    }

    pub(super) fn publish_status(&self) {
        let committed = self.core.committed().0;
        let applied = self.core.applied().0;
        let bytes = self.store.bytes_total();
        self.metrics.pending.set(i64::try_from(self.pending.count()).unwrap_or(i64::MAX));
        self.metrics.committed.set(i64::try_from(committed).unwrap_or(i64::MAX));
        self.metrics.applied.set(i64::try_from(applied).unwrap_or(i64::MAX));
        self.metrics.bytes_total.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.bytes_in_use.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.revision.set(self.store.revision().0);
        self.metrics.compacted.set(self.store.compacted().0);
        self.metrics.keys.set(i64::try_from(self.store.key_count()).unwrap_or(i64::MAX));
        self.metrics.watch_streams.set(i64::try_from(self.streams.len()).unwrap_or(i64::MAX));
        let (watchers, lagging) = self.hub.watcher_counts();
        self.metrics.watchers.set(i64::try_from(watchers).unwrap_or(i64::MAX));
        self.metrics.watchers_slow.set(i64::try_from(lagging).unwrap_or(i64::MAX));
        self.status.update(|status| {
            status.committed = committed;
            status.applied = applied;
            status.revision = self.store.revision();
            status.bytes_total = bytes;
            status.bytes_in_use = bytes;
            status.alarms = self.store.alarms();
        });
    }
}
