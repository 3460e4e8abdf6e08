//! The life of the process: opens the rooms in order, starts the workers, waits, ends.

mod begin;

use crate::assembly::{Assembly, AssemblyParts, Counters, STACK_BYTES};
use crate::config::{Config, Listen};
use crate::disk_health::DiskHealth;
use crate::driver::DriverEnd;
use crate::inbox::{Inbound, Inbox};
use crate::links::Links;
use crate::peer_port::PeerPort;
use crate::peering::{NoLinks, PeerEar, QuicLinks};
use crate::receiver::ImageReceiving;
use crate::recover::{Opened, RecoverError};
use crate::starts::write_stale;
use crate::status::LastWords;
use crate::{log, memory};
use begin::Begun;
use core::time::Duration;
use quorate_api::{ClientListener, Listeners, Tls};
use quorate_board::storage::Device;
use quorate_peer::{NodeKey, PeerConfig, Peers};
use quorate_wal::{DiskErrorKind, RealDisk, WalError};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// After the card failed, how long the status page still tells why before the process ends.
const LAST_WORDS_TIME: Duration = Duration::from_secs(2);

/// Longest a stop waits for the card.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// Threads that serve clients.
const API_THREAD_COUNT: usize = 2;

/// Why the process ended; each has an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It was asked to.
    Stopped,
    /// A port, a file or a thread was not to be had.
    CannotStart,
    /// The settings do not hold.
    BadSettings,
    /// The folder needs a decision: it is empty, or another process has it.
    BadFolder,
    /// What is on the card is damaged, foreign or newer than this release.
    BadData,
    /// The card failed under way.
    CardFailed,
}

impl ExitReason {
    /// The code: sysexits.h where it has one.
    #[must_use]
    pub fn code(self) -> ExitCode {
        ExitCode::from(match self {
            ExitReason::Stopped => 0,
            ExitReason::CannotStart => 1,
            ExitReason::BadSettings => 2,
            ExitReason::BadFolder => 3,
            ExitReason::BadData => 65,
            ExitReason::CardFailed => 74,
        })
    }
}

/// Runs a node until it is told to stop (SIGTERM, SIGINT) or its card fails.
#[must_use]
pub fn run(config: &Config) -> ExitReason {
    // Before any thread: what is mapped now is read in whole, and a thread's stack should cost what it uses.
    let locked = memory::lock();
    let guard = match log::start(config.log_format, &config.log_filter) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("quorated: {error}");
            return ExitReason::BadSettings;
        }
    };
    for words in [locked.err(), memory::swap_warning()].into_iter().flatten() {
        tracing::warn!("{words}");
    }
    let reason = match start(config) {
        Ok(workers) => workers.wait(),
        Err((reason, words)) => {
            tracing::error!("{words}");
            reason
        }
    };
    drop(guard);
    reason
}

/// What runs.
struct Workers {
    runtime: Runtime,
    peer_runtime: Runtime,
    serving: tokio::task::JoinHandle<()>,
    stop_serving: oneshot::Sender<()>,
    driver_end: oneshot::Receiver<DriverEnd>,
    inbox: Inbox,
    threads: Vec<JoinHandle<()>>,
    disk: RealDisk,
}

pub(crate) type StartError = (ExitReason, String);

fn start(config: &Config) -> Result<Workers, StartError> {
    let cannot = |what: &'static str| {
        move |error: std::io::Error| (ExitReason::CannotStart, format!("{what}: {error}"))
    };
    let runtime =
        open_runtime("api", API_THREAD_COUNT).map_err(cannot("the api threads cannot be started"))?;
    let peer_runtime = open_runtime("peer", 1).map_err(cannot("the peer thread cannot be started"))?;
    let Begun { opened, key, port } = begin::begin(config, &runtime)?;
    let last_words = LastWords::in_folder(&config.data_dir);
    let mut errors: Vec<String> = Vec::new();
    errors.extend(last_words.take().map(|words| format!("the start before this one ended with: {words}")));
    errors.extend(opened.warning.clone());
    for error in &errors {
        tracing::warn!("{error}");
    }
    let listeners = bind(config, &runtime)?;
    let (inbox, arrivals) = Inbox::bounded();
    let described = begin::described(config, opened.identity.node, &key, port.as_ref());
    let image_number = Arc::new(AtomicU64::new(opened.image_number));
    let health = Arc::new(DiskHealth::default());
    let mut counters = Counters::register();
    let wear = counters.account_for(Device::under(&config.data_dir));
    let receiving = ImageReceiving::new(
        opened.disk.clone(),
        opened.identity,
        Arc::clone(&image_number),
        inbox.clone(),
        Arc::clone(&health),
        counters.metrics.written.clone(),
    );
    let links = open_links(&peer_runtime, key, port, &opened, &inbox, receiving)?;
    let disk = opened.disk.clone();
    let to_node = inbox.clone();
    let parts = AssemblyParts {
        counters,
        opened,
        described,
        inbox: to_node,
        links,
        image_number,
        health,
        last_words,
        errors,
    };
    let node = Assembly::of(config, parts);
    let (stop_serving, stop) = oneshot::channel::<()>();
    let stop = async { drop(stop.await) };
    let serving =
        runtime.spawn(quorate_api::serve(listeners, node.backend(), node.api_metrics.clone(), stop));
    runtime.spawn(wear.watch());
    let (driver_end, threads) = node.spawn(arrivals).map_err(cannot("a thread cannot be started"))?;
    for listen in &config.listen_client {
        if !listen.tls && !listen.address.ip().is_loopback() {
            tracing::warn!(
                url = listen.url,
                "serving without TLS beyond loopback: anybody there may read and write"
            );
        }
        tracing::info!(url = listen.url, "serving clients");
    }
    Ok(Workers { runtime, peer_runtime, serving, stop_serving, driver_end, inbox, threads, disk })
}

/// Opens the peer room, if there is a port for it.
fn open_links(
    runtime: &Runtime,
    key: NodeKey,
    port: Option<PeerPort>,
    opened: &Opened<RealDisk>,
    inbox: &Inbox,
    receiving: ImageReceiving<RealDisk>,
) -> Result<Box<dyn Links>, StartError> {
    let Some(port) = port else { return Ok(Box::new(NoLinks { inbox: inbox.clone() })) };
    let identity = opened.identity;
    let ear = PeerEar { identity, inbox: inbox.clone(), receiving };
    let config = PeerConfig {
        key,
        socket: port.socket,
        identity,
        start: opened.start,
        earlier: opened.earlier.clone(),
    };
    let _inside = runtime.enter();
    let peers = Peers::open(config, ear).map_err(|error| (ExitReason::CannotStart, error.to_string()))?;
    tracing::info!(addresses = ?port.advertise, "listening for peers");
    let links = QuicLinks {
        peers,
        disk: opened.disk.clone(),
        inbox: inbox.clone(),
        runtime: runtime.handle().clone(),
    };
    Ok(Box::new(links))
}

impl Workers {
    /// Waits for a signal or for the driver's end; then ends everything in order.
    fn wait(self) -> ExitReason {
        let Workers { runtime, peer_runtime, serving, stop_serving, mut driver_end, inbox, threads, disk } =
            self;
        let end = runtime.block_on(async {
            tokio::select! {
                end = &mut driver_end => Some(end),
                () = stop_signal() => None,
            }
        });
        if let Some(end) = end {
            if let Ok(DriverEnd::OlderCopy(seen)) = end
                && let Err(error) = write_stale(&disk, seen)
            {
                tracing::error!(%error, "that this card is an older copy could not be noted on it: do not start it again");
            }
            // The status page tells why for a moment; nothing is acknowledged meanwhile.
            std::thread::sleep(LAST_WORDS_TIME);
            return exit_reason_of(end.unwrap_or(DriverEnd::CardFailed));
        }
        tracing::info!("stopping: no new clients, what is under way ends");
        stop_serving.send(()).ok();
        if runtime.block_on(serving).is_err() {
            tracing::warn!("the api ended on its own");
        }
        let _is_heard: bool = inbox.deliver(Inbound::Stop);
        drop(inbox);
        let end = runtime.block_on(async { tokio::time::timeout(STOP_TIME_MAX, driver_end).await });
        let Ok(end) = end else {
            tracing::error!(
                "the card does not finish the last batch: stopping without; nothing acknowledged is lost"
            );
            return ExitReason::CardFailed;
        };
        let end = end.unwrap_or(DriverEnd::CardFailed);
        // The background thread may be in the middle of a long piece; what it does needs no ending.
        drop((threads, peer_runtime));
        tracing::info!("stopped");
        exit_reason_of(end)
    }
}

const fn exit_reason_of(end: DriverEnd) -> ExitReason {
    match end {
        DriverEnd::Stopped => ExitReason::Stopped,
        DriverEnd::CardFailed => ExitReason::CardFailed,
        DriverEnd::BadData | DriverEnd::OlderCopy(_) => ExitReason::BadData,
    }
}

async fn stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened to");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be listened to");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

pub(crate) fn exit_reason(error: &RecoverError) -> ExitReason {
    match error {
        RecoverError::Empty { .. } | RecoverError::Folder { .. } => ExitReason::BadFolder,
        RecoverError::Wal(WalError::Disk(disk)) if disk.kind == DiskErrorKind::Locked => {
            ExitReason::BadFolder
        }
        RecoverError::Wal(WalError::Disk(_)) => ExitReason::CardFailed,
        RecoverError::Wal(_)
        | RecoverError::Image { .. }
        | RecoverError::Entry { .. }
        | RecoverError::OlderCopy { .. }
        | RecoverError::Key(_) => ExitReason::BadData,
    }
}

/// Few threads serve clients: more would take cores from the driver and the card's own work. The links to the peers
/// have one of their own: a heartbeat waits for no client, and wakes one thread, not two that hand it over.
fn open_runtime(name: &str, thread_count: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(thread_count)
        .thread_name(name)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
}

fn bind(config: &Config, runtime: &Runtime) -> Result<Listeners, StartError> {
    let tls = match config.tls.clone().map(Tls::open).transpose() {
        Ok(tls) => tls,
        Err(error) => return Err((ExitReason::BadSettings, error.to_string())),
    };
    let listen = |listen: &Listen| {
        runtime.block_on(TcpListener::bind(listen.address)).map_err(|error| {
            let words = format!(
                "{} cannot be listened on: {error}. Is another node or etcd running there?",
                listen.url
            );
            (ExitReason::CannotStart, words)
        })
    };
    let mut listeners = Listeners::default();
    for one in &config.listen_client {
        let tls = if one.tls { tls.clone() } else { None };
        listeners.client.push(ClientListener { listener: listen(one)?, tls });
    }
    for one in &config.listen_metrics {
        listeners.metrics.push(listen(one)?);
    }
    let _inside = runtime.enter();
    let local = quorate_proto::local::bind(&config.data_dir).map_err(|error| {
        (ExitReason::CannotStart, format!("the socket for this node's own tools in its folder: {error}"))
    })?;
    listeners.local = Some(local);
    Ok(listeners)
}
