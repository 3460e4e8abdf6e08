//! Questions only the leader can answer, asked from here: the leader is this node itself or another one,
//! and the way is the same.

use super::answer::Answerer;
use super::propose::refusal_of;
use super::read::Purpose;
use super::{Driver, REQUEST_TIMEOUT, ReadReply};
use crate::forward::{Change, FarAnswer, FarMemberRefusal, FarRefusal, Forward, Joiner, Question};
use crate::inbox::{JoinFailure, JoinReply, MemberReply, Reply};
use core::time::Duration;
use quorate_api::{Answer, MemberRefusal, Read, Refusal};
use quorate_types::limits::INBOX_COUNT_MAX;
use quorate_types::{LeaseId, NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// A join waits for a dial and two entries; longer than a client's request.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A question that may be repeated is, after that long without an answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Questions under way.
#[derive(Default)]
pub(super) struct Asks {
    waiting: BTreeMap<u64, Asked>,
    /// Those that wait for a leader.
    ungiven: BTreeSet<u64>,
    last: u64,
}

struct Asked {
    question: Question,
    reply: AskReply,
    deadline: Duration,
    given: Option<(NodeId, Term)>,
    given_at: Duration,
}

/// Who waits.
enum AskReply {
    KeepAlive(Reply<Answer<i64>>),
    Remaining {
        keys: bool,
        reply: ReadReply,
    },
    Change(MemberReply),
    Join(JoinReply),
    /// The node itself: it looks again by itself.
    Nobody,
}

impl Question {
    /// Whether asking it twice is as good as once.
    fn may_be_repeated(&self) -> bool {
        match self {
            Question::KeepAlive(_) | Question::Remaining(_) => true,
            Question::Change(_) | Question::Join(_) => false,
        }
    }
}

impl Driver {
    pub(super) fn ask_keep_alive(&mut self, id: LeaseId, reply: Reply<Answer<i64>>) {
        match self.refusal() {
            Some(refusal) => reply.send(Err(refusal)),
            None => self.ask(Question::KeepAlive(id), AskReply::KeepAlive(reply), REQUEST_TIMEOUT),
        }
    }

    pub(super) fn ask_remaining(&mut self, id: LeaseId, keys: bool, reply: ReadReply) {
        self.ask(Question::Remaining(id), AskReply::Remaining { keys, reply }, REQUEST_TIMEOUT);
    }

    pub(super) fn ask_change(&mut self, change: Change, reply: MemberReply) {
        match self.refusal() {
            Some(refusal) => drop(reply.send(Err(MemberRefusal::Refused(refusal)))),
            None => self.ask(Question::Change(change), AskReply::Change(reply), REQUEST_TIMEOUT),
        }
    }

    pub(super) fn ask_join(&mut self, joiner: Joiner, reply: JoinReply) {
        self.ask(Question::Join(joiner), AskReply::Join(reply), JOIN_TIMEOUT);
    }

    /// Tells the leader how this node is reached now.
    pub(super) fn ask_describe(&mut self) {
        let question = Question::Change(Change::Describe(self.described.clone()));
        self.ask(question, AskReply::Nobody, REQUEST_TIMEOUT);
    }

    /// Whether the node itself is waiting for an answer.
    pub(super) fn is_describing(&self) -> bool {
        self.work.asks.waiting.values().any(|asked| matches!(asked.reply, AskReply::Nobody))
    }

    fn ask(&mut self, question: Question, reply: AskReply, time: Duration) {
        if self.work.asks.waiting.len() >= INBOX_COUNT_MAX {
            return self.refuse_asked(reply, &FarRefusal::Overloaded);
        }
        self.work.asks.last += 1;
        let number = self.work.asks.last;
        let deadline = self.clock.now() + time;
        self.work
            .asks
            .waiting
            .insert(number, Asked { question, reply, deadline, given: None, given_at: Duration::ZERO });
        self.work.asks.ungiven.insert(number);
    }

    /// Gives what waits for a leader to the one there is.
    pub(super) fn ask_again(&mut self) {
        let Some(leader) = self.core.leader() else { return };
        if self.is_giving_held() {
            return;
        }
        let (term, now) = (self.core.term(), self.clock.now());
        for number in core::mem::take(&mut self.work.asks.ungiven) {
            let Some(asked) = self.work.asks.waiting.get_mut(&number) else { continue };
            asked.given = Some((leader, term));
            asked.given_at = now;
            let question = asked.question.clone();
            if leader == self.identity.node {
                self.question(Answerer::Here(number), question);
            } else {
                let incarnation = self.incarnation;
                self.send_forward(leader, Forward::Ask { incarnation, number, question });
            }
        }
    }

    /// What another node was asked a while ago and may be asked twice is asked again: a link may have broken.
    pub(super) fn ask_unanswered(&mut self, now: Duration) {
        let here = self.identity.node;
        for (number, asked) in &mut self.work.asks.waiting {
            let is_old = asked.given_at + ASK_AGAIN <= now;
            if is_old && asked.question.may_be_repeated() && asked.given.is_some_and(|(to, _)| to != here) {
                asked.given = None;
                self.work.asks.ungiven.insert(*number);
            }
        }
    }

    /// Another leader: what was asked of the last one is asked again if that does no harm.
    pub(super) fn asks_follow_leader(&mut self) {
        let (leader, term) = (self.core.leader(), self.core.term());
        let lost: Vec<u64> = self
            .work
            .asks
            .waiting
            .iter()
            .filter(|(_, asked)| asked.given.is_some_and(|(to, at)| Some(to) != leader || at != term))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            match self.hand_over_target(number) {
                // Another leader is what was asked for: who it is shows soon.
                Some(_) if leader.is_none() => {}
                Some(target) if leader == Some(target) => {
                    let membership = self.core.membership().clone();
                    self.ask_answered(number, Ok(FarAnswer::Changed(membership)));
                }
                Some(_) | None => self.ask_answered(number, Err(FarRefusal::NotLeader)),
            }
        }
    }

    fn hand_over_target(&self, number: u64) -> Option<NodeId> {
        match self.work.asks.waiting.get(&number)?.question {
            Question::Change(Change::Transfer(target)) => Some(target),
            Question::Change(Change::Remove(_) | Change::Promote(_) | Change::Describe(_))
            | Question::KeepAlive(_)
            | Question::Remaining(_)
            | Question::Join(_) => None,
        }
    }

    /// The leader's answer.
    pub(super) fn ask_answered(&mut self, number: u64, answer: Result<FarAnswer, FarRefusal>) {
        let Some(asked) = self.work.asks.waiting.get_mut(&number) else { return };
        if answer == Err(FarRefusal::NotLeader) && asked.question.may_be_repeated() {
            if asked.given == self.core.leader().map(|leader| (leader, self.core.term())) {
                self.hold_giving();
            }
            let Some(asked) = self.work.asks.waiting.get_mut(&number) else { return };
            asked.given = None;
            self.work.asks.ungiven.insert(number);
            return;
        }
        let Some(Asked { question, reply, deadline, .. }) = self.take_ask(number) else { return };
        match (reply, answer) {
            (AskReply::KeepAlive(reply), Ok(FarAnswer::Renewed { ttl_seconds })) => {
                reply.send(Ok(self.answer(ttl_seconds)));
            }
            (AskReply::Remaining { keys, reply }, Ok(FarAnswer::Remaining(remaining_ms))) => {
                let Question::Remaining(id) = question else { return };
                // The keys are read here, as new as the leader's answer.
                let read = Read::Lease { id, keys };
                self.read_confirmed_until(Purpose::Client { read, remaining_ms, reply }, deadline);
            }
            (AskReply::Change(reply), Ok(FarAnswer::Changed(membership))) => {
                drop(reply.send(Ok(membership)));
            }
            (AskReply::Join(reply), Ok(FarAnswer::Joined(joined))) => drop(reply.send(Ok(joined))),
            (AskReply::Nobody, _) => {}
            (reply, Err(refusal)) => self.refuse_asked(reply, &refusal),
            (reply, Ok(_)) => self.refuse_asked(reply, &FarRefusal::Stopping),
        }
    }

    fn take_ask(&mut self, number: u64) -> Option<Asked> {
        self.work.asks.ungiven.remove(&number);
        self.work.asks.waiting.remove(&number)
    }

    /// Answers `TimedOut` to questions beyond their deadline; how many there were.
    pub(super) fn expire_asks(&mut self, now: Duration) -> usize {
        let asks = &self.work.asks.waiting;
        let overdue: Vec<u64> =
            asks.iter().filter(|(_, asked)| asked.deadline <= now).map(|(number, _)| *number).collect();
        for number in &overdue {
            if let Some(Asked { reply, .. }) = self.take_ask(*number) {
                refuse(reply, Refusal::TimedOut, not_now("no leader answered in time"));
            }
        }
        overdue.len()
    }

    /// Answers all questions with that refusal.
    pub(super) fn refuse_asks(&mut self, refusal: Refusal) {
        for number in self.work.asks.waiting.keys().copied().collect::<Vec<u64>>() {
            if let Some(Asked { reply, .. }) = self.take_ask(number) {
                refuse(reply, refusal, not_now("this node is a member no more"));
            }
        }
    }

    fn refuse_asked(&self, reply: AskReply, refusal: &FarRefusal) {
        match (reply, refusal) {
            (AskReply::Change(reply), FarRefusal::Member(refusal)) => {
                drop(reply.send(Err(member_refusal(refusal))));
            }
            // Its outcome is unknown: it was given to a leader that is none any more.
            (reply, FarRefusal::NotLeader) => {
                refuse(reply, Refusal::LeaderChanged, not_now("leadership changed meanwhile"));
            }
            (reply, FarRefusal::Words(words)) => {
                refuse(reply, Refusal::Stopping, JoinFailure { words: words.clone(), is_passing: false });
            }
            (reply, FarRefusal::NotNow(words)) => refuse(reply, Refusal::Stopping, not_now(words)),
            (reply, refusal) => {
                refuse(reply, refusal_of(refusal), not_now("the leader is overloaded or stopping"));
            }
        }
    }
}

fn not_now(words: &str) -> JoinFailure {
    JoinFailure { words: words.to_owned(), is_passing: true }
}

fn refuse(reply: AskReply, refusal: Refusal, failure: JoinFailure) {
    match reply {
        AskReply::KeepAlive(reply) => reply.send(Err(refusal)),
        AskReply::Remaining { reply, .. } => reply.send(Err(refusal)),
        AskReply::Change(reply) => drop(reply.send(Err(MemberRefusal::Refused(refusal)))),
        AskReply::Join(reply) => drop(reply.send(Err(failure))),
        AskReply::Nobody => {}
    }
}

fn member_refusal(refusal: &FarMemberRefusal) -> MemberRefusal {
    match refusal {
        FarMemberRefusal::NotFound => MemberRefusal::NotFound,
        FarMemberRefusal::NotLearner => MemberRefusal::NotLearner,
        FarMemberRefusal::LearnerNotReady => MemberRefusal::LearnerNotReady,
        FarMemberRefusal::WouldLoseQuorum(reason) => {
            MemberRefusal::WouldLoseQuorum { reason: reason.clone() }
        }
        FarMemberRefusal::BadTransferee => MemberRefusal::BadTransferee,
        FarMemberRefusal::ChangeUnderWay => MemberRefusal::ChangeUnderWay,
    }
}
