//! What the driver asks of the links to the other nodes. Two users: QUIC, and the simulator.

use crate::forward::Forward;
use quorate_raft::Envelope;
use quorate_types::{Member, Membership, NodeId};

/// The links. No method waits; what cannot be sent is dropped, and consensus sends again what matters.
pub trait Links: Send {
    /// A message of the core.
    fn send(&mut self, envelope: Envelope);

    /// A message of the hall: arrives once or never, in the order sent while the link holds. False if it was
    /// dropped for certain.
    fn forward(&mut self, to: NodeId, forward: &Forward) -> bool;

    /// Who is believed and dialled from now on.
    fn set_members(&mut self, membership: &Membership);

    /// Sends the newest durable image; `Inbound::ImageSent` says how that ended.
    fn send_image(&mut self, to: NodeId);

    /// Dials a node that wants to join at the addresses it claims; `Inbound::DialledBack` says what was
    /// seen.
    fn dial_back(&mut self, ticket: u64, joiner: &Member);
}
