//! The end of a history: faults stop, and the cluster must work.

use super::{History, Weather};
use quorate_types::{Index, NodeId};
use std::sync::Arc;

/// Steps within which a write is applied everywhere.
const HEALING_STEPS: u64 = 1_500;

impl History {
    /// Faults end: within a bounded time a write is applied everywhere, every read is answered, and whoever
    /// is a member agrees.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        self.alone = None;
        self.weather = Weather {
            loss: 0,
            delay: 2,
            disk_delay: 2,
            stall: u64::MAX,
            crash: u64::MAX,
            cut: u64::MAX,
            change: u64::MAX,
            propose: 5,
            payload_bytes: 8,
        };
        self.wake();
        for id in self.ids() {
            self.cluster.nodes.get_mut(&id).expect("a node").disk.ready_at = 0;
            if self.cluster.raft(id).is_none() {
                self.cluster.start(id);
            }
        }
        let mut goal: Option<Index> = None;
        for _ in 0..HEALING_STEPS {
            self.pass_time();
            self.deliver();
            self.disks();
            self.images();
            self.join();
            if let Some(leader) = self.cluster.leader()
                && goal
                    .is_none_or(|goal| self.cluster.raft(leader).is_some_and(|raft| raft.last().index < goal))
            {
                let proposed = self.cluster.input(leader, |raft| raft.propose(Arc::from(&b"end"[..])));
                goal = proposed.and_then(Result::ok).map(|position| position.index);
            }
            self.drain();
            if goal.is_some_and(|goal| self.is_settled(goal)) {
                self.reached.count("settled");
                self.reached.0.insert("read answered", self.cluster.checker.reads_answered);
                self.reached.0.insert("read refused", self.cluster.checker.reads_refused);
                self.reached.0.insert("fetched", self.cluster.fetched);
                return;
            }
        }
        panic!("the cluster does not settle: {}", self.describe());
    }

    fn is_settled(&self, goal: Index) -> bool {
        let Some(leader) = self.cluster.leader().and_then(|id| self.cluster.raft(id)) else { return false };
        let members = leader.membership_committed();
        let digest = self.cluster.nodes[&leader.node()].digest;
        let agrees = |id: NodeId| {
            // Who joins and has not started yet is waited for.
            let Some(node) = self.cluster.nodes.get(&id) else { return false };
            node.applied.index >= goal
                && node
                    .raft
                    .as_ref()
                    .is_some_and(|raft| raft.applied() == leader.applied() && raft.persisted() >= goal)
                && node.digest == digest
        };
        members.members.iter().all(|member| agrees(member.id)) && self.cluster.checker.open_reads() == 0
    }

    fn describe(&self) -> String {
        let nodes = self.cluster.nodes.values().filter_map(|node| node.raft.as_ref());
        nodes
            .map(|raft| {
                let ids = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
                let members = raft.membership();
                let progress: Vec<_> = raft.progress().collect();
                format!(
                    "\n{} {:?} term {} leader {:?} base {} applied {} committed {} persisted {} last {} voters {:?} {:?} learners {:?} v{} {progress:?}",
                    raft.node(), raft.role(), raft.term(), raft.leader(), raft.base().index, raft.applied(), raft.committed(),
                    raft.persisted(), raft.last(), ids(&members.voters), ids(&members.voters_outgoing), ids(&members.learners), members.version,
                )
            })
            .collect()
    }
}
