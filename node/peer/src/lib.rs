//! The other nodes: authenticated links over QUIC, joining, images in transit.
//!
//! Way in:   envelopes for members, images to send.   Way out: messages with a proven sender, by `Hall`.
//! May touch: UDP sockets, the key it is given.        Must not: disk, store, log; it moves, it does not judge.
//! Always:   a stranger is refused; every queue and window is bounded; what a peer says never panics.
#![forbid(unsafe_code)]

mod backoff;
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
mod receive;
mod roster;
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
