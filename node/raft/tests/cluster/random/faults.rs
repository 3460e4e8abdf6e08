//! What goes wrong: power goes, links are cut, processes stand still.

use super::History;
use quorate_raft::Role;
use quorate_types::NodeId;
use std::collections::BTreeSet;

impl History {
    pub(super) fn faults(&mut self) {
        if self.dice.one_in(self.weather.crash) {
            self.crash_one();
        }
        if self.dice.one_in(40) {
            let down: Vec<NodeId> =
                self.ids().into_iter().filter(|id| self.cluster.raft(*id).is_none()).collect();
            if let Some(id) = self.dice.pick(&down) {
                self.cluster.start(id);
            }
        }
        if self.dice.one_in(self.weather.cut) {
            self.cut();
        } else if self.dice.one_in(60) {
            self.cuts.clear();
            self.alone = None;
        }
        if self.dice.one_in(100)
            && let Some(id) = self.dice.pick(&self.running())
        {
            let takes = self.dice.pick(&[None, Some(1), Some(40), Some(400), Some(4_000)]).flatten();
            self.cluster.input(id, |raft| raft.card_takes(takes));
            self.reached.count("card changed");
        }
        if self.dice.one_in(120)
            && let Some(id) = self.dice.pick(&self.running())
        {
            self.paused.insert(id, 0);
            self.reached.count("paused");
        } else if self.dice.one_in(30) {
            self.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        for (id, slept) in std::mem::take(&mut self.paused) {
            if self.dice.one_in(2) {
                // What waited in its queue comes before it learns how long it slept.
                self.numbers += 1;
                self.cluster.read(id, self.numbers);
                self.cluster.drain(id);
            }
            self.cluster.input(id, |raft| raft.tick(slept));
        }
    }

    fn crash_one(&mut self) {
        let Some(id) = self.dice.pick(&self.running()) else { return };
        let pending = self.cluster.nodes[&id].disk.pending.len();
        let kept = usize::try_from(self.dice.roll(u64::try_from(pending).expect("64 bits are enough") + 1))
            .expect("64 bits are enough");
        if kept < pending {
            self.reached.count("unsynced lost");
        }
        if self.cluster.raft(id).is_some_and(|raft| !raft.membership().voters_outgoing.is_empty()) {
            self.reached.count("crash in joint");
        }
        self.cluster.crash(id, kept);
        if self.alone.is_some_and(|(alone, _)| alone == id) {
            self.alone = None;
        }
    }

    fn cut(&mut self) {
        let ids = self.ids();
        let Some(id) = self.dice.pick(&ids) else { return };
        self.alone = None;
        self.alone_led_ticks = 0;
        match self.dice.roll(4) {
            0 => {
                let others = ids.iter().filter(|other| **other != id);
                self.cuts.extend(others.flat_map(|other| [(id, *other), (*other, id)]));
                self.alone = self.cluster.raft(id).map(|raft| (id, raft.term()));
                let leads = self.cluster.raft(id).is_some_and(|raft| raft.role() == Role::Leader);
                self.reached.count(if leads { "leader alone" } else { "node alone" });
            }
            1 => {
                let other = self.dice.pick(&ids).expect("there are nodes");
                self.cuts.insert((id, other));
                self.reached.count("one way");
            }
            2 => self.cuts.extend(ids.iter().map(|other| (id, *other))),
            _ => {
                let side: BTreeSet<NodeId> = ids.iter().copied().filter(|_| self.dice.one_in(2)).collect();
                let crosses = |a: &NodeId, b: &NodeId| side.contains(a) != side.contains(b);
                for a in &ids {
                    self.cuts.extend(ids.iter().filter(|b| crosses(a, b)).map(|b| (*a, *b)));
                }
                self.reached.count("split");
            }
        }
    }
}
