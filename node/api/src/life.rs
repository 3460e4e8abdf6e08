//! How long a stream may live: until its client leaves, the node stops, or (for clients that ask for it)
//! the leader has been gone for a while.

use crate::error::{in_etcd_words, no_leader, stopped};
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Server's side of a streaming call.
pub(crate) type StreamOf<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Resolves when a stream must end: quietly, or with a status.
pub(crate) type End = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// What ends streams from the node's side. Cloning watches the same node.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    stopping: watch::Receiver<bool>,
    leader: watch::Receiver<Leadership>,
}

/// What watching the node's leader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// None known for so long that streams that need one should end.
    pub(crate) lost: bool,
    /// The term, for headers of events.
    pub(crate) term: u64,
}

impl Life {
    /// `stopping` turns true once and for all; a leader may be lost and found.
    pub(crate) fn new(stopping: watch::Receiver<bool>, leader: watch::Receiver<Leadership>) -> Self {
        Self { stopping, leader }
    }

    /// The term, as old as the last look at the leader.
    pub(crate) fn term(&self) -> u64 {
        self.leader.borrow().term
    }

    /// The end of a stream opened by that request.
    pub(crate) fn stream_end<T>(&self, request: &tonic::Request<T>) -> End {
        let mut stopping = self.stopping.clone();
        if !requires_leader(request.metadata()) {
            return Box::pin(async move {
                turned_true(&mut stopping).await;
                Err(stopped())
            });
        }
        let mut leader = self.leader.clone();
        Box::pin(async move {
            tokio::select! {
                () = turned_true(&mut stopping) => Err(stopped()),
                Ok(_) = leader.wait_for(|leader| leader.lost) => Err(no_leader()),
            }
        })
    }

    /// Resolves when the node stops.
    pub(crate) async fn stopping(mut self) {
        turned_true(&mut self.stopping).await;
    }
}

/// Whether the client asked to be refused while there is no leader.
fn requires_leader(metadata: &MetadataMap) -> bool {
    metadata.get(LEADER_KEY).is_some_and(|value| value.as_bytes() == b"true")
}

/// etcd's metadata key for that wish.
pub(crate) const LEADER_KEY: &str = "hasleader";

/// Resolves once the value is true; a sender that is gone counts as never.
async fn turned_true(receiver: &mut watch::Receiver<bool>) {
    if receiver.wait_for(|value| *value).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A stream that ends early when its `End` resolves.
pub(crate) struct Ending<S> {
    inner: S,
    end: Option<End>,
}

impl<S> Ending<S> {
    pub(crate) fn boxed<T>(inner: S, end: End) -> StreamOf<T>
    where
        S: Stream<Item = Result<T, Status>> + Send + 'static,
    {
        Box::pin(Ending { inner: Box::pin(inner), end: Some(end) })
    }
}

impl<S, T> Stream for Ending<Pin<Box<S>>>
where
    S: Stream<Item = Result<T, Status>>,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(end) = self.end.as_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(how) = end.as_mut().poll(context) {
            self.end = None;
            return Poll::Ready(how.err().map(|status| Err(in_etcd_words(status))));
        }
        self.inner.as_mut().poll_next(context)
    }
}
