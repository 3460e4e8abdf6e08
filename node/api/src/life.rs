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
    /// Looks so far that found it gone for so long that streams that need one should end. Such a stream
    /// ends when this rises: one that was opened after the leader came back is none of those.
    pub(crate) losses: u64,
    /// The term, for headers of events.
    pub(crate) term: u64,
}

impl Leadership {
    /// Takes in a look; whether it says anything new.
    pub(crate) fn note(&mut self, is_lost: bool, term: u64) -> bool {
        let before = std::mem::replace(self, Leadership { losses: self.losses + u64::from(is_lost), term });
        before != *self
    }
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
        let losses = leader.borrow().losses;
        Box::pin(async move {
            tokio::select! {
                () = turned_true(&mut stopping) => Err(stopped()),
                Ok(_) = leader.wait_for(|leader| leader.losses > losses) => Err(no_leader()),
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

#[cfg(test)]
mod tests {
    use super::{LEADER_KEY, Leadership, Life};
    use futures_util::FutureExt;
    use tokio::sync::watch;
    use tonic::{Code, Request};

    fn stream(needs_leader: bool) -> Request<()> {
        let mut request = Request::new(());
        if needs_leader {
            request.metadata_mut().insert(LEADER_KEY, "true".parse().unwrap());
        }
        request
    }

    #[test]
    fn a_lost_leader_ends_the_streams_that_need_one_and_were_open() {
        let (stopping_sender, stopping) = watch::channel(false);
        let (leader, leadership) = watch::channel(Leadership { losses: 0, term: 1 });
        let life = Life::new(stopping, leadership);
        let look = |is_lost, term| leader.send_if_modified(|leadership| leadership.note(is_lost, term));
        let mut needs = life.stream_end(&stream(true));
        let mut needs_not = life.stream_end(&stream(false));
        assert!(!look(false, 1) && look(false, 2), "a look that says nothing new wakes nobody");
        assert!(needs.as_mut().now_or_never().is_none(), "a new term is no loss");
        look(true, 2);
        let status = needs.now_or_never().unwrap().unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
        assert!(needs_not.as_mut().now_or_never().is_none());
        // The leader is back, and a client with it, before the next look.
        let mut late = life.stream_end(&stream(true));
        assert!(late.as_mut().now_or_never().is_none());
        look(false, 2);
        assert!(late.as_mut().now_or_never().is_none());
        look(true, 2);
        assert!(late.now_or_never().is_some());
        stopping_sender.send_replace(true);
        let status = needs_not.now_or_never().unwrap().unwrap_err();
        assert_eq!(status.message(), "etcdserver: server stopped");
    }
}
