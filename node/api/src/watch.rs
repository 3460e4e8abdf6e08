//! Watch: one stream per call. A task of its own brings the client's wishes to the node; the connection
//! itself fetches deliveries, so that a slow client holds its own stream and nobody else.

mod encode;

use crate::convert::{self, OrStatus};
use crate::error::{COMPACTED_TEXT, MESSAGE_BYTES_MAX, in_etcd_words, stopped};
use crate::life::{End, Ending, Life, StreamOf};
use crate::{Backend, WatchCommand};
use bytes::Bytes;
use encode::{RunCache, WatchCodec, WatchFrame, fragments};
use futures_core::Stream;
use quorate_proto::etcdserverpb as pb;
use quorate_store::KeyRange;
use quorate_types::{Identity, Revision};
use quorate_watch::{CancelReason, Delivery, WatchId, WatchRequest};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};

/// etcd's Watch service over a node. Served by hand, not by generated code: its answers are encoded once
/// for all watchers that share them.
#[derive(Debug, Clone)]
pub(crate) struct WatchService<B> {
    backend: B,
    life: Life,
    runs: Arc<RunCache>,
}

impl<B: Backend> WatchService<B> {
    pub(crate) fn new(backend: B, life: Life) -> Self {
        Self { backend, life, runs: Arc::new(RunCache::default()) }
    }

    /// Serves one call of `/etcdserverpb.Watch/Watch`.
    pub(crate) async fn call<Body>(self, request: http::Request<Body>) -> http::Response<tonic::body::Body>
    where
        Body: hyper::body::Body + Send + 'static,
        Body::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        tonic::server::Grpc::new(WatchCodec)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX)
            .streaming(self, request)
            .await
    }

    fn open(self, request: Request<Streaming<pb::WatchRequest>>) -> Result<StreamOf<WatchFrame>, Status> {
        let mut end = self.life.stream_end(&request);
        let session = self.backend.watch().or_status()?;
        let credit = Arc::new(Credit::default());
        let (failed_sender, failed) = oneshot::channel();
        let wishes = receive(request.into_inner(), session.requests, Arc::clone(&credit));
        let task = tokio::spawn(async move {
            if let Err(status) = wishes.await {
                // The stream may have ended first; then nobody wants to know.
                drop(failed_sender.send(status));
            }
        });
        let end: End = Box::pin(async move {
            tokio::select! {
                how = &mut end => how,
                Ok(status) = failed => Err(status),
            }
        });
        let outbound = Outbound {
            deliveries: session.deliveries,
            frames: VecDeque::new(),
            bytes_underway: 0,
            credit,
            identity: self.backend.identity(),
            life: self.life,
            runs: self.runs,
            task,
        };
        Ok(Ending::boxed(outbound, end))
    }
}

impl<B: Backend> tonic::server::StreamingService<pb::WatchRequest> for WatchService<B> {
    type Response = WatchFrame;
    type ResponseStream = StreamOf<WatchFrame>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<pb::WatchRequest>>) -> Self::Future {
        std::future::ready(self.clone().open(request).map(Response::new))
    }
}

/// Brings the client's wishes and the connection's credit to the node, until either side is gone. That
/// the client has said all it wants (half-closed) does not end the watch, as in etcd.
async fn receive(
    mut inbound: Streaming<pb::WatchRequest>,
    requests: mpsc::Sender<WatchCommand>,
    credit: Arc<Credit>,
) -> Result<(), Status> {
    let mut listening = true;
    loop {
        let command = tokio::select! {
            message = inbound.message(), if listening => match message.map_err(in_etcd_words)? {
                Some(wire) => command(wire),
                None => {
                    listening = false;
                    None
                }
            },
            bytes = credit.given() => Some(WatchCommand::Credit(bytes)),
            () = requests.closed() => return Ok(()),
        };
        if let Some(command) = command
            && requests.send(command).await.is_err()
        {
            return Ok(());
        }
    }
}

/// What a client's message asks; an empty one asks nothing and is passed over, as etcd does.
fn command(wire: pb::WatchRequest) -> Option<WatchCommand> {
    use pb::watch_request::RequestUnion;
    match wire.request_union? {
        RequestUnion::CreateRequest(create) => Some(WatchCommand::Create(watch_request(create))),
        RequestUnion::CancelRequest(cancel) => Some(WatchCommand::Cancel(WatchId(cancel.watch_id))),
        RequestUnion::ProgressRequest(_) => Some(WatchCommand::Progress),
    }
}

fn watch_request(wire: pb::WatchCreateRequest) -> WatchRequest {
    use pb::watch_create_request::FilterType;
    // No key means the smallest one: with range end `\0` that is all keys.
    let key = if wire.key.is_empty() { vec![0] } else { wire.key.to_vec() };
    let filtered = |filter: FilterType| wire.filters.contains(&i32::from(filter));
    WatchRequest {
        id: (wire.watch_id != 0).then_some(WatchId(wire.watch_id)),
        range: KeyRange::from_wire(key, wire.range_end.to_vec()),
        revision_start: wire.start_revision,
        prev_kv: wire.prev_kv,
        progress_notify: wire.progress_notify,
        no_put: filtered(FilterType::Noput),
        no_delete: filtered(FilterType::Nodelete),
        fragment: wire.fragment,
    }
}

/// Bytes the connection took, on their way back to the node.
#[derive(Debug, Default)]
struct Credit {
    bytes: AtomicUsize,
    some: Notify,
}

impl Credit {
    fn give(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.some.notify_one();
    }

    /// Waits for credit and takes all there is. Giving it up half-way loses nothing.
    async fn given(&self) -> usize {
        loop {
            let bytes = self.bytes.swap(0, Ordering::Relaxed);
            if bytes > 0 {
                return bytes;
            }
            self.some.notified().await;
        }
    }
}

/// Deliveries as the connection fetches them.
struct Outbound {
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    /// Rest of a delivery that was split.
    frames: VecDeque<WatchFrame>,
    /// Bytes of the delivery handed out last. That the connection asks again tells that it took them.
    bytes_underway: usize,
    credit: Arc<Credit>,
    identity: Identity,
    life: Life,
    runs: Arc<RunCache>,
    task: JoinHandle<()>,
}

impl Stream for Outbound {
    type Item = Result<WatchFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let bytes = std::mem::take(&mut self.bytes_underway);
        if bytes > 0 {
            self.credit.give(bytes);
        }
        match self.deliveries.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            // The node lets go of a session it was not told to end only when it stops.
            Poll::Ready(None) => Poll::Ready(Some(Err(stopped()))),
            Poll::Ready(Some(delivery)) => Poll::Ready(Some(Ok(self.frame(delivery)))),
        }
    }
}

impl Outbound {
    /// The delivery's first frame; more of a split one wait in `frames`.
    fn frame(&mut self, delivery: Delivery) -> WatchFrame {
        match delivery {
            Delivery::Created { id, revision } => {
                WatchFrame::bare(pb::WatchResponse { created: true, ..self.head(id, revision) })
            }
            Delivery::Canceled { id, revision, reason } => {
                WatchFrame::bare(self.canceled(id, revision, reason))
            }
            Delivery::Progress { id, revision } => WatchFrame::bare(self.head(id, revision)),
            Delivery::Events { id, revision, events, bytes, fragment } => {
                self.bytes_underway = bytes;
                let frame = WatchFrame { head: self.head(id, revision), events: self.runs.encoded(&events) };
                if !fragment || events.len() < 2 || frame.encoded_len() < MESSAGE_BYTES_MAX {
                    return frame;
                }
                self.frames = fragments(frame, &events, MESSAGE_BYTES_MAX);
                self.frames.pop_front().unwrap_or_else(|| WatchFrame::bare(self.head(id, revision)))
            }
        }
    }

    fn head(&self, id: WatchId, revision: Revision) -> pb::WatchResponse {
        let header = convert::header(self.identity, revision, self.life.term());
        pb::WatchResponse { header: Some(header), watch_id: id.0, ..Default::default() }
    }

    /// A watcher that never was is told created and canceled at once, with the reason as a text. One
    /// that lost to compaction is told by `compact_revision` alone, in a header without a revision.
    fn canceled(&self, id: WatchId, revision: Revision, reason: CancelReason) -> pb::WatchResponse {
        let head = pb::WatchResponse { canceled: true, ..self.head(id, revision) };
        if id == WatchId::ALL {
            let cancel_reason = refusal_text(reason).to_owned();
            return pb::WatchResponse { created: true, cancel_reason, ..head };
        }
        match reason {
            CancelReason::Compacted(compacted) => {
                let without = self.head(id, Revision(0));
                pb::WatchResponse { canceled: true, compact_revision: compacted.0, ..without }
            }
            CancelReason::Requested
            | CancelReason::DuplicateId
            | CancelReason::TooMany
            | CancelReason::EmptyRange => head,
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a watcher was refused, in etcd's words where it has any.
fn refusal_text(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Requested => "",
        CancelReason::Compacted(_) => COMPACTED_TEXT,
        CancelReason::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        CancelReason::TooMany => "quorate: too many watchers on this stream",
        CancelReason::EmptyRange => "mvcc: watcher range is empty",
    }
}
