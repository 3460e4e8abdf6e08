//! The ports: accepting, and a stop that loses no answer.

use crate::connection::Accepted;
use crate::life::{Leadership, Life};
use crate::service::ClientService;
use crate::tls::Tls;
use crate::{ApiMetrics, Backend};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

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
    let (leader_sender, leader) = watch::channel(Leadership { losses: 0, term: status.term });
    let life = Life::new(stopping, leader);
    let service = ClientService::new(backend.clone(), metrics, life.clone());

    let mut ports = JoinSet::new();
    let mut open = |port, places: &Arc<Semaphore>| {
        ports.spawn(accept(port, Arc::clone(places), service.clone(), life.clone()));
    };
    let places = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
    for ClientListener { listener, tls } in listeners.client {
        open(Port::Client(listener, tls), &places);
    }
    let page_places = Arc::new(Semaphore::new(PAGE_CONNECTION_COUNT_MAX));
    for listener in listeners.metrics {
        open(Port::Pages(listener), &page_places);
    }
    // Places of its own: a full house must not lock the administrator out.
    let local_places = Arc::new(Semaphore::new(LOCAL_CONNECTION_COUNT_MAX));
    if let Some(listener) = listeners.local {
        open(Port::Local(listener), &local_places);
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

/// Connections at once on the local socket: tools of one board's administrator.
const LOCAL_CONNECTION_COUNT_MAX: usize = 64;

/// Looks at the leader once a second. A stream that needs one is ended only after it was missing for a
/// while, as in etcd: clients that come again at once cost more than waiting.
async fn observe_leader<B: Backend>(backend: B, leader: watch::Sender<Leadership>) {
    let mut looks_without = 0_u32;
    loop {
        tokio::time::sleep(LEADER_LOOK_INTERVAL).await;
        let status = backend.status();
        looks_without = if status.leader == 0 { looks_without.saturating_add(1) } else { 0 };
        let is_lost = looks_without >= LEADER_LOOKS_MAX;
        leader.send_if_modified(|leadership| leadership.note(is_lost, status.term));
    }
}

const LEADER_LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LEADER_LOOKS_MAX: u32 = 3;

/// Where connections come in.
enum Port {
    Client(TcpListener, Option<Tls>),
    Pages(TcpListener),
    Local(UnixListener),
}

impl Port {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Port::Client(listener, tls) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Client(stream, peer.ip(), tls.clone()))
            }
            Port::Pages(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Pages(stream, peer.ip()))
            }
            Port::Local(listener) => Ok(Accepted::Local(listener.accept().await?.0)),
        }
    }
}

/// Accepts on one port until the node stops, then waits for its connections.
async fn accept<B: Backend>(port: Port, places: Arc<Semaphore>, service: ClientService<B>, life: Life) {
    let mut connections = JoinSet::new();
    let mut stopping = Box::pin(life.clone().stopping());
    loop {
        let accepted = async {
            // A full house leaves new connections in the kernel's queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, port.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stopping => break,
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(accepted) => {
                let served = accepted.serve(service.clone(), life.clone());
                connections.spawn(async move {
                    served.await;
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
    drop(port);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_TIME_MAX, all).await.is_err() {
        tracing::warn!("calls were still under way when the time to stop was over");
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
