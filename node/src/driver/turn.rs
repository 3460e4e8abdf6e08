//! One turn of the driver: what arrived, what is ready, what is due.

use super::read::Purpose;
use super::{Driver, DriverEnd, Phase};
use crate::background::Job;
use crate::clock::TICK;
use crate::inbox::{Arrivals, Inbound};
use crate::wal_worker::{AppendRequest, WalRequest};
use core::time::Duration;
use quorate_api::{Refusal, WatchCommand};
use quorate_raft::{Ready, Role};
use quorate_store::LeaseClock;
use quorate_types::limits::{SWEEP_REVISION_COUNT, WATCH_CATCH_UP_EVENT_COUNT};
use quorate_watch::StreamId;

/// etcd's default interval of progress notifications.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Between two looks at deadlines, leases, compaction, images.
const HOUSEKEEPING: Duration = Duration::from_millis(110);

/// So much earlier it goes along with a turn that there is anyway: a node that only heartbeats wakes once for both.
const HOUSEKEEPING_EARLY: Duration = Duration::from_millis(30);

/// After a housekeeping this late the thread was stopped (a paused machine, a debugger): what clients said
/// meanwhile may still stand in some buffer.
const STALLED_AFTER: Duration = Duration::from_millis(400);

/// Ticks consensus is told of at once at most. More were lost by a stopped thread, whose peers' messages may
/// still be in the socket: to make up for them would start an election for nothing.
const TICK_COUNT_MAX: u32 = 10;

/// Longest a stop waits for another node to take the lead.
const LEAVE_TIME_MAX: Duration = Duration::from_millis(1_500);

impl Driver {
    /// Runs until stopped or until the card fails.
    pub fn run(mut self, arrivals: &Arrivals) -> DriverEnd {
        self.begin();
        let mut arrived = Vec::new();
        let mut is_busy = false;
        loop {
            let wait = if is_busy { Duration::ZERO } else { self.rest() };
            arrivals.take(&mut arrived, wait);
            is_busy = self.turn(arrived.drain(..));
            if let Some(end) = self.end() {
                return end;
            }
        }
    }

    /// Takes up what recovery found. Called once, before the first turn.
    pub fn begin(&mut self) {
        let now = self.clock.now();
        self.work.hub = quorate_watch::Hub::new(self.store.revision());
        self.work.leases = LeaseClock::start(self.store.leases(), self.clock.cluster_time());
        self.work.core_ticked = now;
        self.work.tick_next = now + HOUSEKEEPING;
        self.work.progress_next = now + PROGRESS_INTERVAL;
        // Recovery held the log a second time.
        drop(self.background.send(Job::GiveBackMemory));
        self.advance();
        self.publish_status();
    }

    /// One turn. True if there is more to do at once.
    pub fn turn(&mut self, arrived: impl Iterator<Item = Inbound>) -> bool {
        for inbound in arrived {
            self.take_in(inbound);
        }
        if matches!(self.work.phase, Phase::Ended(_)) {
            return false;
        }
        // What arrived goes first: a message that waits for this thread shows that its sender lives.
        self.tick_core();
        self.advance();
        if self.clock.now() + HOUSEKEEPING_EARLY >= self.work.tick_next {
            self.housekeeping();
            self.advance();
        }
        if self.end().is_some() {
            return false;
        }
        let is_busy = self.background_slices();
        self.deliver();
        self.publish_status();
        is_busy
    }

    /// How long there is nothing to do unless something arrives.
    #[must_use]
    pub fn rest(&self) -> Duration {
        let core_due = self.work.core_ticked + TICK * self.core.ticks_until_due().max(1);
        core_due.min(self.work.tick_next).saturating_sub(self.clock.now())
    }

    fn tick_core(&mut self) {
        let elapsed = self.clock.now().saturating_sub(self.work.core_ticked);
        let ticks = elapsed.as_millis() / TICK.as_millis();
        let count = u32::try_from(ticks).unwrap_or(u32::MAX);
        if count > TICK_COUNT_MAX {
            self.work.core_ticked = self.clock.now();
        } else {
            self.work.core_ticked += TICK * count;
        }
        if count > 0 {
            self.core.tick(count.min(TICK_COUNT_MAX));
        }
    }

    fn take_in(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Propose { command, reply } => self.propose(command, reply),
            Inbound::Read { read, linearizable, reply } => self.read(read, linearizable, reply),
            Inbound::Invites(reply) => self.read_confirmed(Purpose::Invites(reply)),
            Inbound::LeaseKeepAlive { id, reply } => self.ask_keep_alive(id, reply),
            Inbound::WatchOpen { stream, deliveries } => {
                self.work.hub.open(stream);
                self.work.streams.insert(stream, deliveries);
            }
            Inbound::Watch { stream, command } => self.watch(stream, command),
            Inbound::WatchClose(stream) => self.close_stream(stream),
            Inbound::ExportBegin(reply) => self.export_begin(reply),
            Inbound::ExportNext { export, reply } => self.export_next(export, reply),
            Inbound::ExportEnd(export) => self.export_end(export),
            Inbound::Appended(appended) => {
                if let Some(number) = appended.number {
                    self.work.card_pace.ends(number, self.clock.now());
                    self.core.ack_append(number);
                }
                self.image.wal_bytes_written = appended.bytes_written;
            }
            Inbound::WalFailed(words) => self.fail(&words, DriverEnd::CardFailed),
            Inbound::WalStopped => self.work.phase = Phase::Ended(DriverEnd::Stopped),
            Inbound::ImageDone { export, position, number, bytes } => {
                self.image_done(export, position, number, bytes);
            }
            Inbound::ImageFailed { export, reason } => self.image_failed(export, &reason),
            Inbound::Peer { from, message } => self.core.step(from, message),
            Inbound::Forward { from, forward } => self.hear(from, forward),
            Inbound::Fetched { to, after, span: Some((at, entries)) } if at.index == after => {
                self.core.fetched(to, at, entries);
            }
            Inbound::Fetched { to, after, .. } => self.core.fetch_failed(to, after),
            Inbound::ImageSent { to, position } => self.image_sent(to, position),
            Inbound::ImageInstalled(installed) => self.install(*installed),
            Inbound::ChangeMembers { change, reply } => self.ask_change(change, reply),
            Inbound::Join { joiner, reply } => self.ask_join(joiner, reply),
            Inbound::DialledBack { ticket, seen } => self.dialled_back(ticket, seen),
            Inbound::Greeted { peer, start, earlier } => self.core.heard_start(peer, start, &earlier),
            Inbound::Reachable { peer, is_up } => self.reachable(peer, is_up),
            Inbound::NotMember(index) => self.told_no_member(index),
            Inbound::Stop => self.stop(),
        }
    }

    /// Hands on what consensus has ready, until there is nothing more.
    pub(super) fn advance(&mut self) {
        self.work.reads.refused_may_ask();
        while !matches!(self.work.phase, Phase::Ended(_)) {
            self.give_proposals();
            self.ask_again();
            self.read_again();
            let ready = self.core.take_ready();
            let Ready { messages, append, committed, reads, fetches, images } = ready;
            let is_idle = messages.is_empty() && append.is_none() && committed.is_empty() && reads.is_empty();
            if is_idle && fetches.is_empty() && images.is_empty() {
                break;
            }
            for envelope in messages {
                self.links.send(envelope);
            }
            if let Some(append) = &append {
                self.work.card_pace.begins(append.number, self.clock.now());
            }
            for part in append.into_iter().flat_map(AppendRequest::parts_of) {
                self.tell_wal(WalRequest::Append(part));
            }
            for entry in committed {
                self.apply(&entry);
                if matches!(self.work.phase, Phase::Ended(_)) {
                    return;
                }
            }
            for done in reads {
                self.read_done(done);
            }
            for fetch in fetches {
                self.tell_wal(WalRequest::Fetch(fetch));
            }
            for wanted in images {
                self.image_wanted(wanted);
            }
            self.read_applied();
        }
        self.read_applied();
        self.follow_core();
        self.flush_forwards();
    }

    /// A wal thread that has ended said why through the inbox; the driver stops when it reads that.
    pub(super) fn tell_wal(&self, request: WalRequest) {
        drop(self.wal.send(request));
    }

    fn watch(&mut self, stream: StreamId, command: WatchCommand) {
        match command {
            WatchCommand::Create(request) => self.work.hub.create(stream, request, &self.store),
            WatchCommand::Cancel(id) => self.work.hub.cancel(stream, id),
            WatchCommand::Progress => self.work.hub.progress(stream),
            WatchCommand::Credit(bytes) => self.work.hub.credit(stream, bytes),
        }
    }

    fn close_stream(&mut self, stream: StreamId) {
        self.work.hub.close(stream);
        self.work.streams.remove(&stream);
    }

    /// Hands every delivery to its stream. A stream whose task is gone is closed.
    fn deliver(&mut self) {
        let mut gone = Vec::new();
        for (stream, delivery) in self.work.hub.take_deliveries() {
            let sent = self.work.streams.get(&stream).is_some_and(|sender| sender.send(delivery).is_ok());
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
        let catch_up_more = self.work.hub.catch_up(&self.store, WATCH_CATCH_UP_EVENT_COUNT);
        let hash_more = self.hash_slice();
        sweep_more || catch_up_more || hash_more
    }

    /// Frees what compaction took; once all is free, the compactions are answered. While an export
    /// holds the history they are answered at once: they are in force, and the space follows.
    pub(super) fn sweep_slice(&mut self, count_max: usize) -> bool {
        let before = self.store.bytes_total();
        let more = self.store.sweep(count_max);
        let freed = before.saturating_sub(self.store.bytes_total());
        // An export may hold the sweep: then it has stopped, and is not through.
        let is_through = !self.store.is_sweep_due();
        if self.work.give_back.freed(freed, is_through, self.clock.now()) {
            drop(self.background.send(Job::GiveBackMemory));
        }
        if !more {
            for (reply, answer) in self.work.sweeping.drain(..) {
                reply.send(Ok(answer));
            }
        }
        more
    }

    fn housekeeping(&mut self) {
        let now = self.clock.now();
        let is_stalled = now > self.work.tick_next + STALLED_AFTER;
        self.work.tick_next = now + HOUSEKEEPING;
        self.work.held_from = None;
        self.work.pending.sample(now);
        self.ask_unanswered(now);
        let timed_out = self.work.pending.expire(now) + self.expire_reads(now) + self.expire_asks(now);
        self.metrics.failed.inc_by(u64::try_from(timed_out).unwrap_or(u64::MAX));
        if is_stalled {
            // Keep-alives may have come in time and wait in a buffer: every lease has its full time again. It may
            // live longer than promised, never shorter.
            self.work.leases.renew_all(self.clock.cluster_time());
        }
        if self.work.give_back.is_due_later(now) {
            drop(self.background.send(Job::GiveBackMemory));
        }
        self.expire_leases();
        if self.core.role() == Role::Leader {
            let due = self.auto_compactor.tick(self.clock.cluster_time(), self.store.revision());
            if let Some(revision) = due {
                self.compact_by_itself(revision);
            }
        }
        if now >= self.work.progress_next {
            self.work.progress_next = now + PROGRESS_INTERVAL;
            self.work.hub.notify_progress();
        }
        self.core.card_takes(self.work.card_pace.typical_ms(now));
        self.expire_joins(now);
        self.describe_if_changed();
        self.start_image_if_due();
        self.publish_peers();
        self.leave_if_due();
    }

    /// Asked to stop: another node leads first, so that nobody waits for an election.
    fn stop(&mut self) {
        if self.work.phase == Phase::Running {
            self.work.phase = Phase::Leaving(self.clock.now() + LEAVE_TIME_MAX);
            let successor = self.successor();
            if self.core.role() == Role::Leader
                && let Some(successor) = successor
                && self.core.transfer(successor).is_ok()
            {
                tracing::info!(%successor, "handing leadership over before stopping");
            }
            self.leave_if_due();
        }
    }

    fn leave_if_due(&mut self) {
        let Phase::Leaving(deadline) = self.work.phase else { return };
        let leads_others = self.core.role() == Role::Leader && self.successor().is_some();
        if leads_others && self.clock.now() < deadline {
            return;
        }
        self.work.phase = Phase::Stopping;
        self.advance();
        if self.wal.send(WalRequest::Stop).is_err() {
            self.work.phase = Phase::Ended(DriverEnd::Stopped);
        }
    }

    /// The first failed write or sync is final: whoever waits is told, nothing is acknowledged again.
    pub(super) fn fail(&mut self, words: &str, end: DriverEnd) {
        // What became durable before is answered as such.
        if end == DriverEnd::CardFailed {
            self.advance();
        }
        tracing::error!("{words}");
        self.last_words.say(words);
        self.status.update(|status| status.errors.push(words.to_owned()));
        self.work.pending.refuse_all(Refusal::Stopping);
        self.work.phase = Phase::Ended(end);
    }
}
