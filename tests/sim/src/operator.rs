//! Whoever looks after the cluster: takes boards in, sends nodes away, moves leadership, wants images, replaces what
//! is lost.

use crate::board::{Slot, State};
use crate::process::described;
use crate::queue::{Event, MS, Nanos, SECOND};
use crate::rng::Rng;
use crate::situation::Situation;
use crate::world::World;
use quorate_api::{Answer as Told, MemberRefusal, Refusal};
use quorate_store::{Command, Outcome};
use quorate_types::{Identity, Membership, NodeId};
use quorated::forward::{Change, Joined, Joiner};
use quorated::inbox::{Inbound, JoinFailure, Reply};
use quorated::recover::Founding;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::oneshot::{Receiver, channel};

/// A join that got no answer is asked again.
const JOIN_PATIENCE: Nanos = 35 * SECOND;

/// The operator's desk.
pub(crate) struct Operator {
    rng: Rng,
    joining: Option<Joining>,
    changing: Option<Changing>,
}

/// A board on its way in.
struct Joining {
    slot: Slot,
    invite: [u8; 32],
    began: Nanos,
    stage: Stage,
}

enum Stage {
    Inviting(Receiver<Result<Told<Outcome>, Refusal>>),
    Asking(Receiver<Result<Joined, JoinFailure>>),
}

struct Changing {
    change: Change,
    reply: Receiver<Result<Membership, MemberRefusal>>,
    began: Nanos,
    led: bool,
}

/// How a look at a reply went.
enum Look<T> {
    Waiting,
    Gone,
    Is(T),
}

fn look<T>(reply: &mut Receiver<T>) -> Look<T> {
    match reply.try_recv() {
        Ok(answer) => Look::Is(answer),
        Err(TryRecvError::Empty) => Look::Waiting,
        Err(TryRecvError::Closed) => Look::Gone,
    }
}

impl Operator {
    pub(crate) fn new(rng: Rng) -> Operator {
        Operator { rng, joining: None, changing: None }
    }

    pub(crate) fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// Whether anything is under way that may change who belongs.
    pub(crate) fn is_busy(&self) -> bool {
        self.joining.is_some() || self.changing.is_some()
    }
}

impl World {
    /// Founds the cluster on the first board.
    pub(crate) fn found(&mut self) {
        let slot = Slot(0);
        let node = NodeId(self.rng.next().max(1));
        let board = &mut self.boards[slot.0];
        let member = described(slot.0, node, board.key);
        let identity = Identity { cluster: self.cluster, node };
        board.founding = Some(Founding { identity, membership: Membership::founded_by(member) });
        board.state = State::Off;
        self.queue.push(self.now, Event::Start(slot));
    }

    /// Brings a board in; it goes on by itself.
    pub(crate) fn begin_join(&mut self, slot: Slot) {
        let running = self.running();
        let Some(at) = self.operator.rng.pick(&running).copied() else { return };
        let mut invite = [0; 32];
        for part in invite.chunks_exact_mut(8) {
            part.copy_from_slice(&self.operator.rng.next().to_le_bytes());
        }
        let (reply, answer) = Reply::pair();
        let command = Command::InviteAdd { hash: invite, ttl_ms: 600_000 };
        if self.offer(at, Inbound::Propose { command, reply }) {
            let stage = Stage::Inviting(answer);
            self.operator.joining = Some(Joining { slot, invite, began: self.now, stage });
        }
    }

    fn offer(&mut self, slot: Slot, inbound: Inbound) -> bool {
        let Some(process) = &self.boards[slot.0].process else { return false };
        let is_taken = process.inbox.offer(inbound).is_ok();
        self.wake_soon(slot);
        is_taken
    }

    /// Goes on with a join under way.
    pub(crate) fn follow_join(&mut self) {
        let Some(mut joining) = self.operator.joining.take() else { return };
        if self.now - joining.began > JOIN_PATIENCE {
            return;
        }
        match &mut joining.stage {
            Stage::Inviting(reply) => match look(reply) {
                Look::Waiting => self.operator.joining = Some(joining),
                Look::Is(Ok(_)) => self.ask_to_join(joining),
                Look::Is(Err(_)) | Look::Gone => {}
            },
            Stage::Asking(reply) => match look(reply) {
                Look::Waiting => self.operator.joining = Some(joining),
                Look::Is(Ok(joined)) => self.joined(joining.slot, joined),
                // Its token may still be good: asked again, at whatever node.
                Look::Is(Err(_)) | Look::Gone => self.ask_to_join(joining),
            },
        }
    }

    /// Asks some node; if none is to be had, with the next look.
    fn ask_to_join(&mut self, mut joining: Joining) {
        let running = self.running();
        let at = self.operator.rng.pick(&running).copied();
        let board = &self.boards[joining.slot.0];
        let member = described(joining.slot.0, NodeId(0), board.key);
        let (reply, answer) = channel();
        // An answer that is gone before it came: asked again.
        joining.stage = Stage::Asking(answer);
        if let Some(at) = at {
            let cut = |pair: (Slot, Slot)| self.net.cuts.contains(&pair);
            let joiner = Joiner { invite: joining.invite, member };
            if !cut((at, joining.slot)) && !cut((joining.slot, at)) {
                self.offer(at, Inbound::Join { joiner, reply });
            }
        }
        self.operator.joining = Some(joining);
    }

    fn joined(&mut self, slot: Slot, joined: Joined) {
        let board = &mut self.boards[slot.0];
        if board.state != State::Blank {
            return;
        }
        let identity = Identity { cluster: self.cluster, node: joined.node };
        board.founding = Some(Founding { identity, membership: joined.membership });
        board.state = State::Off;
        board.node = Some(joined.node);
        self.homes.insert(joined.node, slot);
        self.tell(format!("{slot} has joined as node {}", joined.node));
        self.start_later(slot, MS, 500 * MS);
    }

    /// The members, as the leader has them; else as any node has.
    pub(crate) fn members(&self) -> Option<Membership> {
        let slot = self.leader().or_else(|| self.running().first().copied())?;
        Some(self.boards[slot.0].process.as_ref()?.driver.core.membership().clone())
    }

    /// Does the next thing, and looks after what is under way.
    pub(crate) fn operate(&mut self) {
        let every = self.profile.operator_every;
        let pause = if self.operator.joining.is_some() || self.operator.changing.is_some() {
            50 * MS
        } else {
            MS + self.operator.rng.below(2 * every)
        };
        self.queue.push(self.now + pause, Event::Operator);
        self.follow_join();
        self.follow_change();
        self.tidy_up();
        if !self.faults.is_over && self.operator.joining.is_none() && self.operator.changing.is_none() {
            self.act();
        }
    }

    fn act(&mut self) {
        let running = self.running();
        let Some(slot) = self.operator.rng.pick(&running).copied() else { return };
        match self.operator.rng.below(100) {
            0..25 => {
                if let Some(process) = self.boards[slot.0].process.as_mut() {
                    process.driver.image.is_wanted = true;
                }
            }
            25..50 => self.ask_change(slot, Change::Transfer),
            50..75 if self.may_change_members() => self.join_somebody(),
            75..92 if self.may_change_members() => self.ask_change(slot, Change::Remove),
            92..100 if self.may_change_members() => self.ask_change(slot, Change::Promote),
            _ => {}
        }
    }

    /// While an older copy of a card tries to come back, nobody is taken in who has not seen the newer one.
    fn may_change_members(&self) -> bool {
        let is_back = |board: &crate::board::Board| board.is_restored && board.state != State::Refused;
        self.profile.changes_members && !self.boards.iter().any(is_back)
    }

    fn join_somebody(&mut self) {
        let blank = (0..self.boards.len()).map(Slot).find(|slot| self.boards[slot.0].state == State::Blank);
        if let Some(slot) = blank {
            self.begin_join(slot);
        }
    }

    fn ask_change(&mut self, at: Slot, change: impl Fn(NodeId) -> Change) {
        let Some(members) = self.members() else { return };
        let Some(member) = self.operator.rng.pick(&members.members).cloned() else { return };
        self.request_change(at, change(member.id));
    }

    /// Asks that node for a change.
    pub(crate) fn request_change(&mut self, at: Slot, change: Change) {
        let (reply, answer) = channel();
        let node = match &change {
            Change::Remove(node) | Change::Promote(node) | Change::Transfer(node) => *node,
            Change::Describe(member) => member.id,
        };
        let led = self.leader().is_some_and(|leader| self.boards[leader.0].node == Some(node));
        if self.offer(at, Inbound::ChangeMembers { change: change.clone(), reply }) {
            let home = self.homes.get(&node).map_or("?".into(), ToString::to_string);
            let what = match &change {
                Change::Remove(_) => "remove",
                Change::Promote(_) => "promote",
                Change::Transfer(_) => "transfer to",
                Change::Describe(_) => "describe",
            };
            self.tell(format!("{at} is asked to {what} {home}"));
            self.operator.changing = Some(Changing { change, reply: answer, began: self.now, led });
        }
    }

    pub(crate) fn follow_change(&mut self) {
        let Some(mut changing) = self.operator.changing.take() else { return };
        match look(&mut changing.reply) {
            Look::Waiting if self.now - changing.began < 60 * SECOND => {
                self.operator.changing = Some(changing)
            }
            Look::Waiting => self.fail(format!("nobody answers {:?} for a minute", changing.change)),
            Look::Gone | Look::Is(Err(_)) => {}
            Look::Is(Ok(membership)) => match changing.change {
                Change::Remove(node) => {
                    if membership.is_member(node) {
                        self.fail(format!("the removal of {node} is answered with {membership:?}"));
                    }
                    self.situations.reach(Situation::Removed);
                    self.situations.reach_if(changing.led, Situation::RemovedLeader);
                }
                Change::Transfer(_) => self.situations.reach_if(!changing.led, Situation::HandOver),
                Change::Promote(_) | Change::Describe(_) => {}
            },
        }
    }

    /// Boards whose node belongs to nobody get an empty card, some time; those refused for good are removed.
    fn tidy_up(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(process) = &self.boards[leader.0].process else { return };
        let members = process.driver.core.membership_committed().clone();
        for slot in (0..self.boards.len()).map(Slot) {
            let board = &self.boards[slot.0];
            let Some(node) = board.node else { continue };
            let is_refused = board.state == State::Refused;
            if !members.is_member(node) && self.is_out_for_all(node) {
                if is_refused || self.operator.rng.per_mille(100) {
                    self.situations.reach_if(is_refused, Situation::Replaced);
                    self.wipe(slot);
                }
            } else if is_refused && self.operator.changing.is_none() && self.operator.rng.per_mille(200) {
                self.request_change(leader, Change::Remove(node));
            }
        }
    }

    /// No running node counts it in any more: an old leader could yet have it as a learner just joined.
    fn is_out_for_all(&self, node: NodeId) -> bool {
        self.running().iter().all(|slot| {
            self.boards[slot.0].process.as_ref().is_none_or(|process| {
                process.identity.node == node || !process.driver.core.membership_committed().is_member(node)
            })
        })
    }
}
