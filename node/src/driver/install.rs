//! An image from a peer becomes this node's state; and images this node sends.

use super::Driver;
use crate::inbox::Installed;
use crate::wal_worker::WalRequest;
use quorate_raft::ImageWanted;
use quorate_store::LeaseClock;
use quorate_types::{NodeId, Position};

impl Driver {
    /// The image is on the card and loaded beside the running state: it is swapped in.
    pub(super) fn install(&mut self, installed: Installed) {
        let Installed { head, mut store, bytes } = installed;
        let position = head.position;
        if !self.core.install_image(position, head.membership) {
            tracing::info!(%position, "the image came too late: the log here is as new");
            return;
        }
        core::mem::swap(&mut self.store, &mut store);
        // What the old one held is freed on another thread: it may be a few hundred megabytes.
        drop(self.background.send(crate::background::Job::Drop(Box::new(store))));
        self.applied_term = self.applied_term.max(position.term);
        self.clock.raise(self.store.time());
        self.work.leases = LeaseClock::start(self.store.leases(), self.clock.cluster_time());
        self.work.exports.clear();
        self.work.hashing.clear();
        // They are in force all the same.
        for (reply, answer) in self.work.sweeping.drain(..) {
            reply.send(Ok(answer));
        }
        self.work.hub.restart(&self.store);
        // Some of what was given to a leader may be in the image; nobody can tell.
        self.work.pending.forget_given();
        self.image.installed(position, bytes);
        self.tell_wal(WalRequest::Trim { position, number: head.number, bytes });
        tracing::info!(%position, bytes, "an image from a peer was installed");
    }

    /// A peer is behind what the log holds.
    pub(super) fn image_wanted(&mut self, wanted: ImageWanted) {
        let ImageWanted { to, at_least } = wanted;
        if self.work.image_sending.contains_key(&to) {
            // A peer that started again is asked for anew, and the image on its way goes on by itself. A second one would
            // be refused, and its end taken for the end of the first: the log kept for that would be let go.
            return;
        }
        match self.image.newest {
            Some(position) if position.index >= at_least => {
                tracing::info!(%to, %position, "sending an image");
                self.work.image_sending.insert(to, position);
                self.links.send_image(to);
            }
            // Until one is written the peer waits; consensus asks again.
            Some(_) | None => {
                self.image.is_wanted = true;
                self.core.image_failed(to);
            }
        }
    }

    /// A peer has it, or could not be given it.
    pub(super) fn image_sent(&mut self, to: NodeId, position: Option<Position>) {
        self.work.image_sending.remove(&to);
        match position {
            // The folder's newest image may have come from a peer, and this node not yet be as far itself.
            Some(position) if position.index <= self.core.committed() => self.core.image_sent(to, position),
            Some(_) | None => self.core.image_failed(to),
        }
        if self.work.image_sending.is_empty()
            && let Some(trim) = self.work.trim_held.take()
        {
            self.tell_wal(trim);
        }
    }
}
