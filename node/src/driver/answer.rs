//! Questions to this node as the leader, and where the answers go; and what other halls say at all.

use super::Driver;
use crate::forward::{FarAnswer, FarRefusal, Forward, Question};
use quorate_api::Refusal;
use quorate_raft::Role;
use quorate_types::NodeId;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answerer {
    /// This node, under that number.
    Here(u64),
    /// Another one.
    There {
        /// Who.
        node: NodeId,
        /// In which of its lives.
        incarnation: u64,
        /// Under which number.
        number: u64,
    },
}

impl Driver {
    /// Another node's hall says something.
    pub(super) fn hear(&mut self, from: NodeId, forward: Forward) {
        let is_for_now = |incarnation: u64| incarnation == self.incarnation;
        match forward {
            Forward::Propose { term, payloads } => self.proposed_from(from, term, payloads),
            Forward::NotTaken { term, incarnation, numbers } if is_for_now(incarnation) => {
                for number in numbers {
                    self.work.pending.take_back(number, term);
                }
                if term == self.core.term() {
                    self.hold_giving();
                }
            }
            Forward::Refused { term, incarnation, number, refusal } if is_for_now(incarnation) => {
                self.metrics.failed.inc();
                self.work.pending.refuse(number, term, super::propose::refusal_of(&refusal));
            }
            Forward::Ask { incarnation, number, question } => {
                self.question(Answerer::There { node: from, incarnation, number }, question);
            }
            Forward::Answer { incarnation, number, answer } if is_for_now(incarnation) => {
                self.ask_answered(number, answer);
            }
            Forward::Members(members) => self.told_members(members),
            // Said to an earlier life of this node.
            Forward::NotTaken { .. } | Forward::Refused { .. } | Forward::Answer { .. } => {}
        }
    }

    /// A question to the leader.
    pub(super) fn question(&mut self, answerer: Answerer, question: Question) {
        if self.core.role() != Role::Leader || self.refusal().is_some() {
            return self.reply_question(answerer, Err(FarRefusal::NotLeader));
        }
        match question {
            Question::KeepAlive(id) => self.keep_alive(id, answerer),
            Question::Remaining(id) => self.read_confirmed(super::read::Purpose::Remaining(id, answerer)),
            Question::Change(change) => self.change_members(change, answerer),
            Question::Join(joiner) => self.join(joiner, answerer),
        }
    }

    pub(super) fn reply_question(&mut self, answerer: Answerer, answer: Result<FarAnswer, FarRefusal>) {
        match answerer {
            Answerer::Here(number) => self.ask_answered(number, answer),
            Answerer::There { node, incarnation, number } => {
                self.send_forward(node, Forward::Answer { incarnation, number, answer });
            }
        }
    }

    pub(super) fn refuse_question(&mut self, answerer: Answerer, refusal: Refusal) {
        let refusal = match refusal {
            Refusal::Overloaded => FarRefusal::Overloaded,
            Refusal::TooLarge => FarRefusal::TooLarge,
            // The asker's own deadline is as near: it may try elsewhere.
            Refusal::TimedOut | Refusal::LeaderChanged | Refusal::NoLeader => FarRefusal::NotLeader,
            Refusal::Store(_) | Refusal::Stopping | Refusal::Removed | Refusal::Unsupported(_) => {
                FarRefusal::Stopping
            }
        };
        self.reply_question(answerer, Err(refusal));
    }

    /// Gathers a message; they go out at the end of the turn.
    pub(super) fn send_forward(&mut self, to: NodeId, forward: Forward) {
        self.work.forwards.entry(to).or_default().push(forward);
    }

    /// Sends what was gathered. What is dropped for certain waits for a leader again.
    pub(super) fn flush_forwards(&mut self) {
        for (to, forwards) in core::mem::take(&mut self.work.forwards) {
            for forward in forwards {
                if !self.links.forward(to, &forward) {
                    self.not_sent(forward);
                }
            }
        }
    }

    fn not_sent(&mut self, forward: Forward) {
        match forward {
            Forward::Ask { number, .. } => {
                self.hold_giving();
                self.ask_answered(number, Err(FarRefusal::NotLeader));
            }
            // The asker's deadline answers. Proposals are not gathered here.
            Forward::Propose { .. }
            | Forward::Members(_)
            | Forward::NotTaken { .. }
            | Forward::Refused { .. }
            | Forward::Answer { .. } => {}
        }
    }
}
