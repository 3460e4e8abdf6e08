//! What a connection may hold in memory. quinn's own bounds are for servers: a megabyte for each of two
//! hundred streams, ten for what is sent, and no bound on what is received.
//!
//! Worst case for one peer, beside entries the log holds or is about to hold:
//!
//! | Where | Bytes |
//! | --- | --- |
//! | sent, not yet acknowledged (`SEND_WINDOW`) | 768 KiB |
//! | received, not yet read (`RECEIVE_WINDOW`), on the peer's own connection | 768 KiB |
//! | forwards waiting (`FORWARD_QUEUE_BYTES_MAX`) | 1 MiB |
//! | one forward being read: from followers alone | 1.6 MiB |
//! | datagrams, both ways | 24 KiB |
//!
//! An image adds two such windows and ten chunks of 256 KiB on the receiving side: below 5 MiB on either. A
//! stranger may make the node hold 64 KiB before it is refused. The socket's receive buffer in quinn is another
//! 3 MiB at most, once.
//!
//! A stream may never fill the connection's windows alone: neither end of a stream of entries that waits for a
//! lost packet, nor a second one of forwards, keeps a vote from being written or read.

use crate::tls::Purpose;
use quinn::{AckFrequencyConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;

/// How the acceptor's side of each connection begins: as for a stranger. `trust` widens it.
pub(crate) fn bound_server(server: &mut ServerConfig) {
    let mut transport = common();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(LANE_COUNT))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        // What the acceptor says in answer is acknowledged at once, by who is awake for it, not by a timer later:
        // it is seldom (answers to heartbeats, window updates), so this costs no packet more.
        .ack_frequency_config(Some(ack_at_once()));
    server.transport_config(Arc::new(transport));
    server
        .max_incoming(HANDSHAKES_WAITING_MAX)
        .incoming_buffer_size(8 * 1024)
        .incoming_buffer_size_total(HANDSHAKES_WAITING_MAX as u64 * 8 * 1024);
}

/// The dialling side: opens streams, is sent none.
pub(crate) fn client(purpose: Purpose) -> Arc<TransportConfig> {
    let mut transport = common();
    let keep_alive = match purpose {
        Purpose::Peer | Purpose::Join | Purpose::Image => Some(KEEP_ALIVE),
        // Between nodes of which none leads it ends by itself.
        Purpose::Beat => None,
    };
    transport
        .keep_alive_interval(keep_alive)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(match purpose {
            Purpose::Peer | Purpose::Beat | Purpose::Image => STRANGER_WINDOW,
            Purpose::Join => WELCOME_WINDOW,
        }))
        // Without any, quinn sends none either when this says "not at all".
        .datagram_receive_buffer_size(Some(match purpose {
            Purpose::Peer | Purpose::Join | Purpose::Image => 0,
            // The answers.
            Purpose::Beat => DATAGRAM_RECEIVE_BYTES,
        }));
    Arc::new(transport)
}

/// A member's connection may hold what a member needs.
pub(crate) fn trust(connection: &quinn::Connection) {
    connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
}

fn ack_at_once() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config.ack_eliciting_threshold(VarInt::from_u32(0));
    config
}

fn common() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        // Nodes stand near each other: a lost first packet is repeated sooner than across the world.
        .initial_rtt(Duration::from_millis(100))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES);
    transport
}

/// A link that hears nothing for so long is dialled anew: a changed address heals within it. Longer than the
/// pauses of Wi-Fi. Liveness is not judged by it; that is raft's.
const IDLE_MS: u32 = 4_000;

/// Keeps followers' links to each other open, on which nothing is said for hours. The dialling end's work.
const KEEP_ALIVE: Duration = Duration::from_millis(1_300);

/// One stream for each lane; heartbeats have one only where datagrams do not pass.
const LANE_COUNT: u32 = 4;

const STREAM_WINDOW: u32 = 320 * 1024;
const RECEIVE_WINDOW: u32 = 768 * 1024;
const STRANGER_WINDOW: u32 = 64 * 1024;
const WELCOME_WINDOW: u32 = 512 * 1024;
const SEND_WINDOW: u64 = 768 * 1024;
const DATAGRAM_SEND_BYTES: usize = 8 * 1024;
const DATAGRAM_RECEIVE_BYTES: usize = 16 * 1024;

/// Handshakes quinn holds for the acceptor to take.
const HANDSHAKES_WAITING_MAX: usize = 32;

const _: () = assert!(RECEIVE_WINDOW >= 2 * STREAM_WINDOW + 128 * 1024, "room beside entries and forwards");
const _: () = assert!(SEND_WINDOW >= RECEIVE_WINDOW as u64, "the same on the sending side");
