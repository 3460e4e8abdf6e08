//! The single bounded queue by which anything reaches the driver.

use crate::pending::OutcomeReply;
use crate::wal_worker::Appended;
use quorate_api::{Answer, Read, ReadOutcome, Refusal, WatchCommand};
use quorate_store::Command;
use quorate_types::limits::INBOX_COUNT_MAX;
use quorate_types::{LeaseId, Position};
use quorate_watch::{Delivery, StreamId};
use std::sync::mpsc as thread_mpsc;
use tokio::sync::{mpsc, oneshot};

/// What the driver may be told.
#[derive(Debug)]
pub enum Inbound {
    /// A client's command.
    Propose {
        /// What.
        command: Command,
        /// Who waits.
        reply: OutcomeReply,
    },
    /// A client's read.
    Read {
        /// What.
        read: Read,
        /// Whether it needs a round with the quorum.
        linearizable: bool,
        /// Who waits.
        reply: Reply<Answer<ReadOutcome>>,
    },
    /// A client keeps its lease alive.
    LeaseKeepAlive {
        /// Which.
        id: LeaseId,
        /// Who waits.
        reply: Reply<Answer<i64>>,
    },
    /// A watch stream opens.
    WatchOpen {
        /// Its id, new.
        stream: StreamId,
        /// Where its deliveries go.
        deliveries: mpsc::UnboundedSender<Delivery>,
    },
    /// A watch stream asks.
    Watch {
        /// Which.
        stream: StreamId,
        /// What.
        command: WatchCommand,
    },
    /// A watch stream ended.
    WatchClose(StreamId),
    /// Somebody wants the whole state.
    ExportBegin(Reply<ExportStart>),
    /// The next slice of an export.
    ExportNext {
        /// Which.
        export: ExportId,
        /// Where to.
        reply: Reply<ExportSlice>,
    },
    /// An export is over, finished or not.
    ExportEnd(ExportId),
    /// A batch is durable.
    Appended(Appended),
    /// The card failed; nothing will ever be durable again.
    WalFailed(String),
    /// The wal thread has finished, as asked.
    WalStopped,
    /// An image is durable.
    ImageDone {
        /// Which export it was.
        export: ExportId,
        /// The log up to here is in it.
        position: Position,
        /// Images counted by this node.
        number: u64,
        /// Its size as a file.
        bytes: u64,
    },
    /// An image could not be written; the log is kept, and it is tried again later.
    ImageFailed {
        /// Which export it was.
        export: ExportId,
        /// What went wrong.
        reason: String,
    },
    /// Finish what is under way and end.
    Stop,
}

/// Names one running export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportId(pub u64);

/// What an export begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportStart {
    /// Its name.
    pub export: ExportId,
    /// The log up to here is in it.
    pub position: Position,
    /// About how many bytes it will be.
    pub bytes_estimate: u64,
}

/// Some bytes of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSlice {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether these were the last.
    pub is_last: bool,
}

/// One answer, to an async task or a blocking thread (`oneshot` serves both).
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<Result<T, Refusal>>);

impl<T> Reply<T> {
    /// A reply and where it arrives.
    #[must_use]
    pub fn pair() -> (Reply<T>, oneshot::Receiver<Result<T, Refusal>>) {
        let (sender, receiver) = oneshot::channel();
        (Reply(sender), receiver)
    }

    /// Answers. Whoever asked may have gone away; then nobody needs it.
    pub fn send(self, answer: Result<T, Refusal>) {
        drop(self.0.send(answer));
    }
}

/// The sending end.
#[derive(Debug, Clone)]
pub struct Inbox(thread_mpsc::SyncSender<Inbound>);

impl Inbox {
    /// The queue's two ends.
    #[must_use]
    pub fn bounded() -> (Inbox, thread_mpsc::Receiver<Inbound>) {
        let (sender, receiver) = thread_mpsc::sync_channel(INBOX_COUNT_MAX);
        (Inbox(sender), receiver)
    }

    /// For client work: refused at once when the queue is full.
    ///
    /// # Errors
    /// `Overloaded` when full, `Stopping` when the driver has ended.
    pub fn offer(&self, inbound: Inbound) -> Result<(), Refusal> {
        self.0.try_send(inbound).map_err(|error| match error {
            thread_mpsc::TrySendError::Full(_) => Refusal::Overloaded,
            thread_mpsc::TrySendError::Disconnected(_) => Refusal::Stopping,
        })
    }

    /// For the node's own threads, which may wait for a place: the driver always drains. False when the
    /// driver has ended.
    #[must_use]
    pub fn deliver(&self, inbound: Inbound) -> bool {
        self.0.send(inbound).is_ok()
    }
}
