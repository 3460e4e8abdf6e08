//! What waits for one peer: four lanes, each bounded by count and bytes. Deterministic; knows no clock.

use quorate_raft::{Body, Message};
use quorate_types::limits;
use std::collections::VecDeque;

/// The ways to a peer, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Heartbeats and their answers: only the newest counts.
    Beat,
    /// Votes, answers, reads: small, and somebody waits.
    Urgent,
    /// What halls say to each other.
    Forward,
    /// Entries.
    Append,
}

/// Messages and forwards for one peer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    is_up: bool,
    heartbeat: Option<Message>,
    heartbeat_answer: Option<Message>,
    urgent: VecDeque<Message>,
    forwards: VecDeque<Vec<u8>>,
    forward_bytes: usize,
    appends: VecDeque<Message>,
    append_bytes: usize,
    dropped: u64,
}

impl Queue {
    /// Takes a message, or drops and counts one. The lane it went to, for its writer to be woken.
    ///
    /// While the peer is down, appends are dropped: raft probes when it hears the peer again. Of urgent
    /// messages the newest few stay, so that the first vote after a start need not be asked for twice.
    pub(crate) fn push(&mut self, message: Message) -> Lane {
        let lane = lane(&message);
        match lane {
            Lane::Beat => self.push_beat(message),
            Lane::Append => self.push_append(message),
            Lane::Urgent | Lane::Forward => {
                let count_max = if self.is_up { URGENT_COUNT_MAX } else { URGENT_DOWN_COUNT_MAX };
                while self.urgent.len() >= count_max {
                    self.urgent.pop_front();
                    self.dropped += 1;
                }
                self.urgent.push_back(message);
            }
        }
        lane
    }

    /// Takes a forward if there is room and the peer is up: a client waits for it, so no is better than late.
    pub(crate) fn push_forward(&mut self, bytes: Vec<u8>) -> bool {
        let has_room = self.forwards.len() < FORWARD_COUNT_MAX
            && (self.forwards.is_empty() || self.forward_bytes + bytes.len() <= FORWARD_QUEUE_BYTES_MAX);
        if !self.is_up || !has_room {
            return false;
        }
        self.forward_bytes += bytes.len();
        self.forwards.push_back(bytes);
        true
    }

    pub(crate) fn pop_beat(&mut self) -> Option<Message> {
        self.heartbeat.take().or_else(|| self.heartbeat_answer.take())
    }

    pub(crate) fn pop_urgent(&mut self) -> Option<Message> {
        self.urgent.pop_front()
    }

    pub(crate) fn pop_forward(&mut self) -> Option<Vec<u8>> {
        let bytes = self.forwards.pop_front()?;
        self.forward_bytes -= bytes.len();
        Some(bytes)
    }

    pub(crate) fn pop_append(&mut self) -> Option<Message> {
        let message = self.appends.pop_front()?;
        self.append_bytes -= payload_bytes(&message);
        Some(message)
    }

    /// The link came up or went down; what only a live link is good for is let go.
    pub(crate) fn set_up(&mut self, is_up: bool) {
        self.is_up = is_up;
        if is_up {
            return;
        }
        self.dropped += self.appends.len() as u64 + self.forwards.len() as u64;
        self.appends.clear();
        self.append_bytes = 0;
        self.forwards.clear();
        self.forward_bytes = 0;
        while self.urgent.len() > URGENT_DOWN_COUNT_MAX {
            self.urgent.pop_front();
            self.dropped += 1;
        }
    }

    /// Messages and forwards waiting.
    pub(crate) fn count(&self) -> usize {
        let beats = usize::from(self.heartbeat.is_some()) + usize::from(self.heartbeat_answer.is_some());
        beats + self.urgent.len() + self.forwards.len() + self.appends.len()
    }

    /// Bytes of payloads and forwards waiting.
    pub(crate) const fn bytes(&self) -> usize {
        self.append_bytes + self.forward_bytes
    }

    /// Messages dropped so far.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn push_beat(&mut self, message: Message) {
        let place = if matches!(message.body, Body::Heartbeat(_)) {
            &mut self.heartbeat
        } else {
            &mut self.heartbeat_answer
        };
        *place = Some(message);
    }

    fn push_append(&mut self, message: Message) {
        let bytes = payload_bytes(&message);
        let has_room = self.appends.len() < APPEND_COUNT_MAX
            && (self.appends.is_empty() || self.append_bytes + bytes <= limits::APPEND_IN_FLIGHT_BYTES_MAX);
        if !self.is_up || !has_room {
            self.dropped += 1;
            return;
        }
        self.append_bytes += bytes;
        self.appends.push_back(message);
    }
}

/// The lane a message takes.
fn lane(message: &Message) -> Lane {
    match message.body {
        Body::Heartbeat(_) | Body::HeartbeatAnswer(_) => Lane::Beat,
        Body::AppendEntries(_) => Lane::Append,
        Body::PreVoteRequest(_)
        | Body::PreVoteAnswer { .. }
        | Body::VoteRequest(_)
        | Body::VoteAnswer { .. }
        | Body::AppendAnswer(_)
        | Body::ReadRequest { .. }
        | Body::ReadAnswer { .. }
        | Body::CampaignNow
        | Body::StaleStart { .. } => Lane::Urgent,
    }
}

fn payload_bytes(message: &Message) -> usize {
    match &message.body {
        Body::AppendEntries(append) => append.entries.iter().map(|entry| entry.payload.len()).sum(),
        Body::PreVoteRequest(_)
        | Body::PreVoteAnswer { .. }
        | Body::VoteRequest(_)
        | Body::VoteAnswer { .. }
        | Body::Heartbeat(_)
        | Body::HeartbeatAnswer(_)
        | Body::AppendAnswer(_)
        | Body::ReadRequest { .. }
        | Body::ReadAnswer { .. }
        | Body::CampaignNow
        | Body::StaleStart { .. } => 0,
    }
}

/// About 100 bytes each.
const URGENT_COUNT_MAX: usize = 1_024;

/// What waits for a peer that is down: of an election or two.
const URGENT_DOWN_COUNT_MAX: usize = 16;

/// Appends waiting: raft bounds what is in flight in bytes, this bounds empty ones.
const APPEND_COUNT_MAX: usize = 1_024;

/// Forwards waiting, each a client's request or its answer.
const FORWARD_COUNT_MAX: usize = 4_096;

/// Bytes of forwards waiting; one that is larger waits alone.
pub(crate) const FORWARD_QUEUE_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
#[path = "queue/tests.rs"]
mod tests;
