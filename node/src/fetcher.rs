//! Reads spans of the log back from the card, for peers that are behind what memory holds. A thread of its
//! own: a slow read delays neither the log nor an image.

use crate::inbox::{Inbound, Inbox};
use quorate_raft::Fetch;
use quorate_wal::{Disk, Fetched, Reader, WalError};
use std::sync::mpsc::Receiver;

/// One span to read.
pub struct FetchJob<D: Disk> {
    /// What.
    pub fetch: Fetch,
    /// The log as it stood when it was asked for.
    pub reader: Reader<D>,
}

/// The thread's state.
pub struct Fetcher<D: Disk> {
    /// What to read.
    pub jobs: Receiver<FetchJob<D>>,
    /// The driver.
    pub inbox: Inbox,
}

impl<D: Disk> Fetcher<D> {
    /// Works until nobody can give it work.
    pub fn run(self) {
        while let Ok(job) = self.jobs.recv() {
            self.fetch(&job);
        }
    }

    /// Does what waits, without waiting: for a simulator.
    pub fn work(&self) {
        while let Ok(job) = self.jobs.try_recv() {
            self.fetch(&job);
        }
    }

    fn fetch(&self, job: &FetchJob<D>) {
        let Fetch { to, after, last, bytes_max } = job.fetch;
        let span = match job.reader.fetch(after, last, bytes_max) {
            Ok(Fetched { after, entries }) => Some((after, entries)),
            // An image went over it meanwhile: the peer gets that instead.
            Err(WalError::Trimmed { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, %to, %after, "the log cannot be read back for a peer, which gets an image");
                None
            }
        };
        // A driver that has ended needs to hear nothing.
        let _is_heard: bool = self.inbox.deliver(Inbound::Fetched { to, after, span });
    }
}
