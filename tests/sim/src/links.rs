//! The hall's `Links` over the simulated network: what is sent waits in an outbox until the turn is over.

use crate::queue::Life;
use quorate_raft::Envelope;
use quorate_types::{Member, Membership, NodeId};
use quorated::forward::Forward;
use quorated::links::Links;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

/// Something the driver wants of the network.
#[derive(Debug)]
pub(crate) enum Sent {
    Message(Envelope),
    Forward(NodeId, Forward),
    Members,
    Image(NodeId),
    DialBack { ticket: u64, address: String },
}

/// What one process has sent and is yet to be carried.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    node: NodeId,
    sent: Vec<Sent>,
    roster: Membership,
    /// Peers to whom the link is believed to be up.
    up: BTreeSet<NodeId>,
}

impl Outbox {
    pub(crate) fn new(node: NodeId, _life: Life) -> Outbox {
        let inner = Inner { node, sent: Vec::new(), roster: Membership::default(), up: BTreeSet::new() };
        Outbox(Arc::new(Mutex::new(inner)))
    }

    pub(crate) fn take(&self) -> Vec<Sent> {
        core::mem::take(&mut self.lock().sent)
    }

    /// Whether that node is listened to and spoken to here.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.lock().roster.is_member(node)
    }

    pub(crate) fn roster_version(&self) -> u64 {
        self.lock().roster.version
    }

    pub(crate) fn set_up(&self, peer: NodeId, is_up: bool) {
        let mut inner = self.lock();
        if is_up {
            inner.up.insert(peer);
        } else {
            inner.up.remove(&peer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("a seed that panics while it sends has failed anyway")
    }
}

/// The driver's end.
pub(crate) struct SimLinks(pub(crate) Outbox);

impl Links for SimLinks {
    fn send(&mut self, envelope: Envelope) {
        let mut inner = self.0.lock();
        assert_ne!(envelope.to, inner.node, "no core writes to itself");
        // The peer room has a place for members only.
        if inner.roster.is_member(envelope.to) {
            inner.sent.push(Sent::Message(envelope));
        }
    }

    fn forward(&mut self, to: NodeId, forward: &Forward) -> bool {
        let mut inner = self.0.lock();
        let is_taken = inner.up.contains(&to) && inner.roster.is_member(to);
        if is_taken {
            inner.sent.push(Sent::Forward(to, forward.clone()));
        }
        is_taken
    }

    fn set_members(&mut self, membership: &Membership) {
        let mut inner = self.0.lock();
        inner.roster = membership.clone();
        inner.sent.push(Sent::Members);
    }

    fn send_image(&mut self, to: NodeId) {
        self.0.lock().sent.push(Sent::Image(to));
    }

    fn dial_back(&mut self, ticket: u64, joiner: &Member) {
        let address = joiner.peer_addresses.first().cloned().unwrap_or_default();
        self.0.lock().sent.push(Sent::DialBack { ticket, address });
    }
}
