//! One seed from its beginning to its verdict.

use crate::board::{Slot, State};
use crate::ledger::Ledger;
use crate::queue::{Event, MS, Nanos, SECOND};
use crate::situation::{Situation, Situations};
use crate::world::World;
use quorate_store::{Command, Put};
use quorate_tests::linear;
use quorated::inbox::{Inbound, Reply};

/// The cluster forms within this, with whole boards and a whole network.
const FORMED_WITHIN: Nanos = 90 * SECOND;

/// After the last fault every node serves, and all are equal, within this: the slowest card reads, is sent an image
/// and writes it in that time.
const RECOVERED_WITHIN: Nanos = 60 * SECOND;

/// Every lease nobody keeps alive has ended by then: the longest time, and what a change of leaders adds.
const LEASES_OVER_WITHIN: Nanos = 25 * SECOND;

/// Every watcher has been told everything by then: the slowest looks twice a second, and may have to move first.
const WATCHERS_WITHIN: Nanos = 20 * SECOND;

/// How a seed went.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// What it came to.
    pub situations: Situations,
    /// Elections won.
    pub elections: usize,
    /// Entries committed.
    pub committed: usize,
    /// Operations in the clients' history.
    pub operations: usize,
    /// Deliveries to watchers.
    pub deliveries: u64,
    /// Turns of drivers.
    pub turns: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// From the last fault until every node served and all were equal, in virtual milliseconds.
    pub recovery_ms: u64,
    /// Of all events: equal for equal runs.
    pub trace: u64,
}

/// What a checker said of a seed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// At which virtual millisecond.
    pub at_ms: u64,
    /// The checker's words.
    pub words: String,
    /// The last lines of the story.
    pub story: String,
}

/// What to run a seed with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Print the story as it goes.
    pub tells: bool,
    /// Print each message between cores too.
    pub tells_messages: bool,
    /// A core broken in that way, on every board.
    #[cfg(feature = "mutants")]
    pub mutant: Option<quorate_raft::Mutant>,
}

/// Runs one seed.
///
/// # Errors
/// What a checker said.
pub fn run(seed: u64, options: Options) -> Result<Report, Box<Failure>> {
    let mut world = World::new(seed);
    world.story.is_told = options.tells;
    world.story.tells_messages = options.tells_messages;
    #[cfg(feature = "mutants")]
    {
        world.mutant = options.mutant;
    }
    let recovery = world.play();
    match world.broken.take() {
        None => Ok(world.report(seed, recovery)),
        Some(words) => {
            Err(Box::new(Failure { seed, at_ms: world.now / MS, words, story: world.story.last_lines() }))
        }
    }
}

impl World {
    /// All of it; how long the recovery took.
    fn play(&mut self) -> Nanos {
        self.tell(format!("{:?}", self.profile));
        self.form();
        self.trouble();
        let recovery = self.recover();
        self.judge_history();
        recovery
    }

    /// Founds the cluster and brings the first boards in.
    pub(crate) fn form(&mut self) {
        self.found();
        let wanted = self.profile.joined_first;
        let voters_wanted = wanted - usize::from(wanted.is_multiple_of(2));
        let deadline = self.now + FORMED_WITHIN;
        let is_formed = |world: &World| {
            let Some(members) = world.members() else { return false };
            world.leader().is_some()
                && members.members.len() == wanted
                && members.voters.len() == voters_wanted
                && !members.is_joint()
        };
        while self.broken.is_none() && !is_formed(self) {
            if self.now >= deadline {
                let members = self.members();
                return self.fail(format!("the cluster of {wanted} has not formed: {members:?}"));
            }
            let joined = self.boards.iter().filter(|board| board.state != State::Blank).count();
            if joined < wanted && !self.operator.is_joining() && self.leader().is_some() {
                self.begin_join(Slot(joined));
            }
            self.run_until(self.now + 50 * MS);
            self.follow_join();
        }
        self.tell("the cluster stands");
    }

    /// Clients at work while things break.
    fn trouble(&mut self) {
        for number in 0..self.clients.len() {
            self.queue.push(self.now + MS, Event::Client(number));
        }
        for number in 0..self.leases.actor_count() {
            self.queue.push(self.now + MS, Event::Lease(number));
        }
        for number in 0..self.watchers.len() {
            self.queue.push(self.now + MS, Event::Watcher(number));
        }
        self.queue.push(self.now + SECOND, Event::Operator);
        self.queue.push(self.now + SECOND, Event::Fault);
        let end = self.now + self.profile.trouble;
        while self.broken.is_none() && self.now < end {
            self.run_until(end.min(self.now + 5 * SECOND));
            self.compare_logs();
        }
    }

    fn compare_logs(&mut self) {
        let running = self.running();
        let mut found = None;
        for (at, one) in running.iter().enumerate() {
            for other in &running[at + 1..] {
                let core =
                    |slot: &Slot| self.boards[slot.0].process.as_ref().map(|process| &process.driver.core);
                if let (Some(one), Some(other)) = (core(one), core(other)) {
                    found = found.or(Ledger::do_logs_match(one, other).err());
                }
            }
        }
        if let Some(words) = found {
            self.fail(words);
        }
    }

    /// All faults end; the cluster must come back.
    fn recover(&mut self) -> Nanos {
        if self.broken.is_some() {
            return 0;
        }
        self.end_faults();
        let began = self.now;
        let mut asked = Vec::new();
        while self.broken.is_none() {
            self.run_until(self.now + 100 * MS);
            if self.broken.is_none() && self.has_recovered(&mut asked) {
                break;
            }
            if self.now - began > RECOVERED_WITHIN {
                let words = self.what_is_missing();
                let served: Vec<_> =
                    asked.iter().map(|(slot, written)| (slot.0, written.is_done())).collect();
                self.fail(format!(
                    "no recovery within {} s: served {served:?}, {words}",
                    RECOVERED_WITHIN / SECOND
                ));
            }
        }
        let recovery = self.now - began;
        self.tell(format!("recovered after {} ms", recovery / MS));
        let deadline = self.now + LEASES_OVER_WITHIN;
        while self.broken.is_none() && self.leases_standing() > 0 {
            self.run_until(self.now + 500 * MS);
            if self.now > deadline {
                let standing = self.leases_standing();
                self.fail(format!("{standing} leases live on that nobody keeps alive"));
            }
        }
        let deadline = self.now + WATCHERS_WITHIN;
        while self.broken.is_none()
            && let Some(words) = self.watchers_behind()
        {
            self.run_until(self.now + 500 * MS);
            if self.now > deadline {
                self.fail(words);
            }
        }
        self.compare_logs();
        recovery
    }

    /// Boards whose nodes belong to the cluster and can.
    fn expected_boards(&self) -> Vec<Slot> {
        let Some(members) = self.members() else { return Vec::new() };
        let is_expected = |slot: &Slot| {
            let board = &self.boards[slot.0];
            let is_member = board.node.is_some_and(|node| members.is_member(node));
            is_member && board.state != State::Refused && !board.is_restored
        };
        (0..self.boards.len()).map(Slot).filter(is_expected).collect()
    }

    /// A write through every node has been answered, and all states are equal.
    fn has_recovered(&mut self, asked: &mut Vec<(Slot, crate::client::Written)>) -> bool {
        let expected = self.expected_boards();
        if expected.is_empty() || self.leader().is_none() || self.is_asking() || self.operator.is_joining() {
            return false;
        }
        if !expected.iter().all(|slot| self.boards[slot.0].is_running()) {
            return false;
        }
        for slot in &expected {
            if !asked.iter().any(|(other, _)| other == slot) {
                let (reply, answer) = Reply::pair();
                let key = format!("last-{slot}").into_bytes();
                let put = Put { key, value: b"well".to_vec(), ..Put::default() };
                let inbound = Inbound::Propose { command: Command::Put(put), reply };
                if self.boards[slot.0]
                    .process
                    .as_ref()
                    .is_some_and(|process| process.inbox.offer(inbound).is_ok())
                {
                    asked.push((*slot, answer.into()));
                    self.wake_soon(*slot);
                }
            }
        }
        asked.retain_mut(|(_, written)| !written.has_failed());
        let served = expected
            .iter()
            .all(|slot| asked.iter().any(|(other, written)| other == slot && written.is_done()));
        served && self.are_equal(&expected)
    }

    fn are_equal(&mut self, slots: &[Slot]) -> bool {
        let applied =
            |slot: &Slot| self.boards[slot.0].process.as_ref().map(|process| process.driver.store.applied());
        let all: Vec<_> = slots.iter().map(applied).collect();
        if !all.windows(2).all(|pair| pair[0] == pair[1]) {
            return false;
        }
        for slot in slots {
            let Some(process) = &self.boards[slot.0].process else { return false };
            if let Err(words) = self.ledger.digest(process.identity.node, &process.driver.store) {
                self.fail(words);
                return false;
            }
        }
        true
    }

    fn leases_standing(&self) -> usize {
        self.leader().map_or(1, |slot| self.leases_left(slot))
    }

    fn what_is_missing(&self) -> String {
        let board = |slot: Slot| {
            let board = &self.boards[slot.0];
            match &board.process {
                Some(process) => format!(
                    "{slot} {:?}{}: term {} leads {} leader {:?} committed {} applied {} last {} members v{}; ",
                    board.state,
                    if process.observed.is_removed { " removed" } else { "" },
                    process.observed.term,
                    process.observed.leads,
                    process.observed.leader,
                    process.observed.committed,
                    process.observed.applied,
                    process.observed.last,
                    process.driver.core.membership().version,
                ),
                None => format!("{slot} {:?}; ", board.state),
            }
        };
        let boards: String = (0..self.boards.len()).map(Slot).map(board).collect();
        let (asking, joining) = (self.is_asking(), self.operator.is_joining());
        format!("expected {:?}, asking {asking}, joining {joining}; {boards}", self.expected_boards())
    }

    fn judge_history(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.close_history();
        match linear::check(&self.history) {
            Ok(checked) => {
                self.situations.reach_if(checked.unknown_happened > 0, Situation::UnknownHappened);
            }
            Err(violation) => self.fail(format!("not linearizable: {violation}")),
        }
    }

    fn report(&self, seed: u64, recovery: Nanos) -> Report {
        Report {
            seed,
            situations: self.situations.clone(),
            elections: self.ledger.election_count(),
            committed: self.ledger.committed_count(),
            operations: self.history.len(),
            deliveries: self.told_count(),
            turns: self.turn_count,
            virtual_ms: self.now / MS,
            recovery_ms: recovery / MS,
            trace: self.trace,
        }
    }
}
