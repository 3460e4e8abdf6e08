//! The other nodes: authenticated links over QUIC, joining, images in transit.
//!
//! Way in:   envelopes for members, images to send.   Way out: messages with a proven sender, by `Hall`.
//! May touch: UDP sockets, the key it is given.        Must not: disk, store, log; it moves, it does not judge.
//! Always:   a stranger is refused; every queue and window is bounded; what a peer says never panics.
//!
//! # How the hall uses it
//!
//! A node that belongs to a cluster binds its UDP socket, calls [`Peers::open`] with its key, identity and start,
//! then [`Peers::set_members`] with the membership in force and again at each change. From then on
//! [`Peers::send`] and [`Peers::forward`] take what is for a peer, and [`Hall`] is told what comes from one. The
//! sender is proven by its key; nothing else of what it says is checked here beyond its form.
//!
//! Links: each node dials each other member and sends on its own connections only, but for answers to heartbeats.
//! Heartbeats are datagrams on a connection of their own, their answers go back on it; the newest replaces one that
//! waits. Behind them, by priority: votes, answers and reads; what
//! halls say to each other; entries. What finds no room is dropped and counted, and nothing is kept for a peer
//! that is down but the newest few urgent messages. Addresses are resolved at every dial; where a peer's own
//! link comes from is dialled too.
//!
//! Images: [`Peers::send_image`] asks an [`ImageSource`] for chunks; on the other side [`Hall::image_begins`]
//! opens an [`ImageSink`] and tells from which byte on it wants the image. A connection of its own, paced, cut
//! and gone on with.
//!
//! Joining: a member's hall prints [`Token::generate`]d tokens and keeps their [`Token::invite_hash`]. A node
//! without identity calls [`join()`] on the socket it will keep. A member's [`Hall::join`] is asked once the
//! secret was proven; the leader's hall calls [`Peers::dial_back`] before it proposes anything.
#![forbid(unsafe_code)]

mod backoff;
mod beat;
mod bounded;
mod endpoint;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod goodbye;
mod hall;
mod image;
mod join;
mod key;
mod link;
mod pace;
mod peers;
mod queue;
mod quiet;
mod receive;
mod roster;
mod slot;
mod socket;
mod stats;
mod stream;
mod tls;
mod token;
mod window;
mod wire;

pub use error::{DialError, DialFailure, JoinError, PeerError};
pub use hall::{Hall, Refusal};
pub use image::{IMAGE_CHUNK_BYTES_MAX, ImageIntake, ImageOffer, ImageSendError, ImageSink, ImageSource};
pub use join::knock::join;
pub use join::{JOIN_ANSWER_MAX, JoinAnswer, JoinDetails, JoinRefusal, JoinRequest};
pub use key::{KeyError, NodeKey};
pub use peers::{FORWARD_BYTES_MAX, PeerConfig, Peers};
pub use stats::{ImageProgress, PeerStats, PeersStats};
pub use token::{Token, TokenError};
