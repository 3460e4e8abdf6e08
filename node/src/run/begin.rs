//! How a start begins: with what is in the folder, by founding a cluster, or by joining one.

mod card;

use super::{ExitReason, StartError, exit_reason};
use crate::config::Config;
use crate::peer_port::{PEER_PORT_DEFAULT, PeerPort};
use crate::recover::{self, Founding, Opened, RecoverError, random};
use core::time::Duration;
use quorate_peer::{JoinDetails, NodeKey, Token, join};
use quorate_types::{ClusterId, Identity, Member, Membership, NodeId, PeerKey};
use quorate_wal::RealDisk;
use std::time::Instant;
use tokio::runtime::Runtime;

/// How long a join tries again what may pass: a cluster between two leaders, another change under way.
const JOIN_TIME: Duration = Duration::from_secs(60);
const JOIN_PAUSE: Duration = Duration::from_secs(1);

/// A node with its folder, its key and its port.
pub(super) struct Begun {
    pub(super) opened: Opened<RealDisk>,
    pub(super) key: NodeKey,
    pub(super) port: Option<PeerPort>,
}

/// Opens the folder and brings the node to where its log is open.
pub(super) fn begin(config: &Config, runtime: &Runtime) -> Result<Begun, StartError> {
    let told = |error: RecoverError| (exit_reason(&error), error.to_string());
    if let Some(excess) = said(config).excess() {
        return Err((
            ExitReason::BadSettings,
            format!("--name, --advertise-peer, --advertise-client: {excess}"),
        ));
    }
    let disk = recover::open_disk(config).map_err(told)?;
    let found = recover::look(disk, random()).map_err(told)?;
    let is_new = found.identity().is_none();
    if is_new && !config.new_cluster && config.join.is_none() {
        return Err(told(RecoverError::Empty { folder: config.data_dir.display().to_string() }));
    }
    if !is_new && (config.new_cluster || config.join.is_some()) {
        let flag = if config.new_cluster { "--new-cluster" } else { "--join" };
        tracing::info!("the folder belongs to a cluster already: {flag} is ignored");
    }
    let key = recover::node_key(found.disk()).map_err(told)?;
    let mut port = bind(config)?;
    if is_new {
        card::look(&config.data_dir);
    }
    let founding = match (&config.join, is_new) {
        (_, false) => None,
        (None, true) => Some(found_cluster(config, &key, port.as_ref())),
        (Some(token), true) => {
            let bound = port.take().ok_or_else(|| {
                (
                    ExitReason::CannotStart,
                    "--join needs the peer port; give another one with --listen-peer".into(),
                )
            })?;
            let founding = join_cluster(config, runtime, &key, &bound, token)?;
            port = Some(bound);
            Some(founding)
        }
    };
    let opened = found.begin(founding, random()).map_err(told)?;
    Ok(Begun { opened, key, port })
}

/// What the settings say of this node, to be checked before anything is begun.
fn said(config: &Config) -> Member {
    Member {
        id: NodeId(0),
        name: config.name.clone(),
        peer_addresses: config.advertise_peer.clone(),
        client_urls: config.advertise_client.clone(),
        key: PeerKey::default(),
        stays_learner: config.stays_learner,
    }
}

/// How this node wants to be known.
pub(super) fn described(config: &Config, id: NodeId, key: &NodeKey, port: Option<&PeerPort>) -> Member {
    Member {
        id,
        name: config.name.clone(),
        peer_addresses: port.map(|port| port.advertise.clone()).unwrap_or_default(),
        client_urls: config.advertise_client.clone(),
        key: key.public(),
        stays_learner: config.stays_learner,
    }
}

/// A port asked for must be had. The default one may be taken, by a second node on one machine: then this one
/// stands alone until it is given another.
fn bind(config: &Config) -> Result<Option<PeerPort>, StartError> {
    match PeerPort::bind(config.listen_peer, &config.advertise_peer) {
        Ok(port) => Ok(Some(port)),
        Err(error) if config.listen_peer.is_none() && config.join.is_none() => {
            tracing::warn!(
                %error,
                "UDP {PEER_PORT_DEFAULT} is not to be had: no other node can join this one; give --listen-peer another \\
                 port"
            );
            Ok(None)
        }
        Err(error) => {
            let at =
                config.listen_peer.map_or_else(|| format!("UDP {PEER_PORT_DEFAULT}"), |at| at.to_string());
            Err((ExitReason::CannotStart, format!("--listen-peer: {at} cannot be listened on: {error}")))
        }
    }
}

fn found_cluster(config: &Config, key: &NodeKey, port: Option<&PeerPort>) -> Founding {
    let identity = Identity { cluster: ClusterId(random().max(1)), node: NodeId(random().max(1)) };
    let member = described(config, identity.node, key, port);
    tracing::info!(%identity, "founding a new cluster");
    Founding { identity, membership: Membership::founded_by(member) }
}

/// Joins; what may pass is tried again for a while.
fn join_cluster(
    config: &Config,
    runtime: &Runtime,
    key: &NodeKey,
    port: &PeerPort,
    token: &Token,
) -> Result<Founding, StartError> {
    let details = JoinDetails {
        name: config.name.clone(),
        peer_addresses: port.advertise.clone(),
        client_urls: config.advertise_client.clone(),
        stays_learner: config.stays_learner,
    };
    let deadline = Instant::now() + JOIN_TIME;
    loop {
        tracing::info!(cluster = %token.cluster, through = ?token.addresses, as = ?port.advertise, "joining");
        let socket = port.socket.try_clone();
        let socket = socket.map_err(|error| (ExitReason::CannotStart, format!("the peer port: {error}")))?;
        match runtime.block_on(join(key, socket, token, &details)) {
            Ok(answer) => {
                let identity = Identity { cluster: answer.cluster, node: answer.node };
                tracing::info!(%identity, "joined as a learner");
                return Ok(Founding { identity, membership: answer.membership });
            }
            Err(error) if error.is_passing() && Instant::now() < deadline => {
                tracing::warn!("{error}; trying again");
                std::thread::sleep(JOIN_PAUSE);
            }
            Err(error) => return Err((ExitReason::CannotStart, format!("--join: {error}"))),
        }
    }
}
