//! The ports: accepting, TLS, HTTP, and a stop that loses no answer.

use crate::authority::Overwritten;
use crate::life::{Leadership, Life};
use crate::service::{ClientBody, ClientService, PageService};
use crate::tls::Tls;
use crate::{ApiMetrics, Backend};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A port for clients: gRPC and pages.
#[derive(Debug)]
pub struct ClientListener {
    /// Bound and listening.
    pub listener: TcpListener,
    /// None: plain text.
    pub tls: Option<Tls>,
}

/// Where a node listens.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For clients.
    pub client: Vec<ClientListener>,
    /// Metrics and health only, plain (`--listen-metrics-urls`).
    pub metrics: Vec<TcpListener>,
    /// For this board's administrator: the socket in the data folder, whose mode says who may.
    pub local: Option<UnixListener>,
}

/// Serves until `stop` resolves, then stops: nothing new is accepted, streams end with etcd's "server
/// stopped", calls under way get [`STOP_TIME_MAX`] to end. Returns when every connection is closed.
///
/// Runs in the calling task and spawns one task per connection and per watch stream.
pub async fn serve<B: Backend>(
    listeners: Listeners,
    backend: B,
    metrics: ApiMetrics,
    stop: impl Future<Output = ()> + Send,
) {
    let (stopping_sender, stopping) = watch::channel(false);
    let status = backend.status();
    let (leader_sender, leader) = watch::channel(Leadership { lost: false, term: status.term });
    let life = Life::new(stopping, leader);
    let clients = ClientService::new(backend.clone(), metrics, life.clone());
    let pages = PageService::new(backend.clone());
    let places = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));

    let mut ports = JoinSet::new();
    for ClientListener { listener, tls } in listeners.client {
        let places = Arc::clone(&places);
        ports.spawn(accept(listener, tls, places, clients.clone(), life.clone()));
    }
    let page_places = Arc::new(Semaphore::new(PAGE_CONNECTION_COUNT_MAX));
    for listener in listeners.metrics {
        ports.spawn(accept(listener, None, Arc::clone(&page_places), pages.clone(), life.clone()));
    }
    let mut observer = JoinSet::new();
    observer.spawn(observe_leader(backend, leader_sender));

    stop.await;
    stopping_sender.send_replace(true);
    while ports.join_next().await.is_some() {}
}

/// Longest a stop waits for calls under way; a put that takes longer is answered by nobody, as after a
/// power cut.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// Connections at once on the client ports. One Kubernetes API server takes about 64; each idle one
/// costs some 20 KiB.
pub const CONNECTION_COUNT_MAX: usize = 4_096;

/// Connections at once on the metrics ports.
const PAGE_CONNECTION_COUNT_MAX: usize = 64;

/// Looks at the leader once a second. A stream that needs one is ended only after it was missing for a
/// while, as in etcd: clients that come again at once cost more than waiting.
async fn observe_leader<B: Backend>(backend: B, leader: watch::Sender<Leadership>) {
    let mut looks_without = 0_u32;
    loop {
        tokio::time::sleep(LEADER_LOOK_INTERVAL).await;
        let status = backend.status();
        looks_without = if status.leader == 0 { looks_without.saturating_add(1) } else { 0 };
        let now = Leadership { lost: looks_without >= LEADER_LOOKS_MAX, term: status.term };
        leader.send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}

const LEADER_LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LEADER_LOOKS_MAX: u32 = 3;

/// Accepts on one port until the node stops, then waits for its connections.
async fn accept<S>(listener: TcpListener, tls: Option<Tls>, places: Arc<Semaphore>, service: S, life: Life)
where
    S: hyper::service::Service<
            http::Request<Incoming>,
            Response = http::Response<ClientBody>,
            Error = Infallible,
        > + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut stopping = Box::pin(life.clone().stopping());
    loop {
        let accepted = async {
            // A full house leaves new connections in the kernel's queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stopping => break,
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let tls = tls.clone();
                let service = service.clone();
                let life = life.clone();
                connections.spawn(async move {
                    connection(stream, tls, service, life).await;
                    drop(place);
                });
            }
            Err(error) => {
                // The other side gave up, or this process has no descriptor left: both pass.
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_TIME_MAX, all).await.is_err() {
        tracing::warn!("calls were still under way when the time to stop was over");
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest a connection may take to say its first byte, or to end its TLS handshake: a place is taken
/// meanwhile.
const GREETING_TIME_MAX: Duration = Duration::from_secs(20);

async fn connection<S>(stream: TcpStream, tls: Option<Tls>, service: S, life: Life)
where
    S: hyper::service::Service<
            http::Request<Incoming>,
            Response = http::Response<ClientBody>,
            Error = Infallible,
        > + Send
        + 'static,
    S::Future: Send + 'static,
{
    // Small answers must not wait for each other; failing to say so costs latency, not words.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    let mut stopping = Box::pin(life.clone().stopping());
    match tls {
        None => {
            let mut first = [0_u8; 1];
            let greeted = tokio::select! {
                greeted = timeout(GREETING_TIME_MAX, stream.peek(&mut first)) => greeted,
                () = &mut stopping => return,
            };
            if let Ok(Ok(1..)) = greeted {
                http(stream, service, life).await;
            }
        }
        Some(tls) => {
            let acceptor = TlsAcceptor::from(tls.current());
            let greeted = tokio::select! {
                greeted = timeout(GREETING_TIME_MAX, acceptor.accept(stream)) => greeted,
                () = &mut stopping => return,
            };
            match greeted {
                Ok(Ok(stream)) => http(stream, service, life).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        }
    }
}

/// Speaks HTTP until the client leaves or the node stops.
async fn http<S>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S, life: Life)
where
    S: hyper::service::Service<
            http::Request<Incoming>,
            Response = http::Response<ClientBody>,
            Error = Infallible,
        > + Send
        + 'static,
    S::Future: Send + 'static,
{
    let builder = builder();
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(Overwritten::new(stream)), service));
    let mut stopping = std::pin::pin!(life.stopping());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.as_mut() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended badly");
    }
}

/// Both versions of HTTP, by what the client speaks first. Windows are for boards: what one client can
/// make the node hold is bounded by its connection's window inwards and its streams' buffers outwards.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(GREETING_TIME_MAX).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAM_COUNT_MAX)
        .max_send_buf_size(STREAM_SEND_BYTES_MAX)
        .max_header_list_size(16 * 1024)
        // Clients that give up on many calls at once, as all do when a card stalls, are not attackers.
        .max_pending_accept_reset_streams(1_024)
        .max_local_error_reset_streams(1_024)
        // Finds clients that vanished without a word; theirs may ping as often as they like.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Bytes a client may send of one request before it is read: a quarter of the largest.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;

/// Bytes of all its requests together.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// Calls at once on one connection. etcd has no bound; no client comes near this one.
const STREAM_COUNT_MAX: u32 = 16_384;

/// Bytes of answers a stream may have waiting in its connection.
const STREAM_SEND_BYTES_MAX: usize = 128 * 1024;
