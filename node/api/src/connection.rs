//! One connection: greeting, TLS, HTTP, and its end with the node's.

use crate::Backend;
use crate::authority::Overwritten;
use crate::life::Life;
use crate::origin::Origin;
use crate::service::{ClientService, ConnectionService};
use crate::tls::Tls;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A connection that was accepted, and by which port.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A client port, with its TLS.
    Client(TcpStream, IpAddr, Option<Tls>),
    /// A metrics port.
    Pages(TcpStream, IpAddr),
    /// The local socket.
    Local(UnixStream),
}

impl Accepted {
    /// Serves it until the client leaves or the node stops.
    pub(crate) async fn serve<B: Backend>(self, service: ClientService<B>, life: Life) {
        match self {
            Accepted::Client(stream, peer, tls) => {
                keep_small_answers_fast(&stream);
                match tls {
                    Some(tls) => serve_tls(stream, peer, &tls, service, life).await,
                    None => serve_plain(stream, service.to_clients(Origin::Plain(peer)), life).await,
                }
            }
            Accepted::Pages(stream, peer) => {
                serve_plain(stream, service.pages_only(Origin::Plain(peer)), life).await;
            }
            Accepted::Local(stream) => {
                if in_time(stream.readable(), &life).await.is_some_and(|greeted| greeted.is_ok()) {
                    http(stream, service.to_clients(Origin::Local), life).await;
                }
            }
        }
    }
}

/// Longest a connection may take to say its first byte, or to end its TLS handshake: a place is taken
/// meanwhile.
const GREETING_TIME_MAX: Duration = Duration::from_secs(20);

/// Small answers must not wait for each other; failing to say so costs latency, not words.
fn keep_small_answers_fast(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
}

/// The greeting, unless it takes too long or the node stops first.
async fn in_time<T>(greeting: impl Future<Output = T>, life: &Life) -> Option<T> {
    tokio::select! {
        greeted = timeout(GREETING_TIME_MAX, greeting) => greeted.ok(),
        () = life.clone().stopping() => None,
    }
}

async fn serve_plain<B: Backend>(stream: TcpStream, service: ConnectionService<B>, life: Life) {
    let mut first = [0_u8; 1];
    if let Some(Ok(1..)) = in_time(stream.peek(&mut first), &life).await {
        http(stream, service, life).await;
    }
}

async fn serve_tls<B: Backend>(
    stream: TcpStream,
    peer: IpAddr,
    tls: &Tls,
    service: ClientService<B>,
    life: Life,
) {
    let acceptor = TlsAcceptor::from(tls.current());
    match in_time(acceptor.accept(stream), &life).await {
        Some(Ok(stream)) => {
            // A certificate that was shown was verified: without an authority none is asked for.
            let is_certified = stream.get_ref().1.peer_certificates().is_some();
            let origin = if is_certified { Origin::Certified } else { Origin::Plain(peer) };
            http(stream, service.to_clients(origin), life).await;
        }
        Some(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        None => tracing::debug!("a TLS handshake was not ended"),
    }
}

/// Speaks HTTP until the client leaves or the node stops.
async fn http<B: Backend>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: ConnectionService<B>,
    life: Life,
) {
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
