//! What a cluster is asked while a test runs: who leads, who belongs, do all hold the same.

use super::{Cluster, Ids, LIMIT, Members};
use crate::client::Client;
use crate::process::POLL;
use crate::program::Program;
use quorate_proto::etcdserverpb as pb;
use std::time::{Duration, Instant};
use tonic::Status;

/// One question waits this long for a node that may stand still.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A call that ends even if the node stands still.
async fn limited<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(ANSWER_LIMIT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

impl Cluster {
    /// The members, as one node lists them.
    ///
    /// # Errors
    /// What the node says.
    pub async fn members(&self, number: usize) -> Result<Members, Status> {
        let mut client = self.client(number);
        Ok(limited(client.cluster.member_list(pb::MemberListRequest::default())).await?.members)
    }

    /// A node's own view.
    ///
    /// # Errors
    /// What the node says.
    pub async fn status(&self, number: usize) -> Result<pb::StatusResponse, Status> {
        limited(self.client(number).maintenance.status(pb::StatusRequest::default())).await
    }

    /// What each running member says of itself, a line each; for a report.
    pub async fn describe(&self) -> String {
        let mut lines = Vec::new();
        for number in self.members_running() {
            lines.push(match self.status(number).await {
                Ok(status) => format!(
                    "node {number} ({:x}): leader {:x} in term {}, log to {}, applied to {}{} {:?}",
                    status.header.map_or(0, |header| header.member_id),
                    status.leader,
                    status.raft_term,
                    status.raft_index,
                    status.raft_applied_index,
                    if status.is_learner { ", a learner" } else { "" },
                    status.errors,
                ),
                Err(error) => format!("node {number}: {error}"),
            });
        }
        if matches!(self.shape.program, Program::Quorated(_)) {
            for number in self.members_running() {
                let said = self.quorate(number, &["member", "list"]);
                lines.push(String::from_utf8_lossy(&said.stdout).into_owned());
            }
        }
        lines.join("\n")
    }

    /// A node's id.
    ///
    /// # Panics
    /// If it never says.
    pub async fn id(&self, number: usize) -> u64 {
        let mut id = 0;
        self.wait("a node tells its id", async || {
            let status = self.status(number).await;
            id = status.ok().and_then(|status| status.header).map_or(0, |header| header.member_id);
            id != 0
        })
        .await;
        id
    }

    /// Which of the running members has which id.
    pub async fn ids(&self) -> Ids {
        let mut ids = Ids::new();
        for number in self.members_running() {
            ids.insert(self.id(number).await, number);
        }
        ids
    }

    /// Waits until every running member lists exactly so many voters and no learner.
    ///
    /// # Panics
    /// If that never comes.
    pub async fn wait_voters(&self, voters: usize) {
        for number in self.members_running() {
            self.wait(&format!("node {number} lists {voters} voters"), async || {
                let members = self.members(number).await.unwrap_or_default();
                members.len() == voters && members.iter().all(|member| !member.is_learner)
            })
            .await;
        }
    }

    /// Waits until a linearizable read on the node is answered: it is up, and has a leader.
    ///
    /// # Panics
    /// If that never comes.
    pub async fn wait_serves(&self, number: usize) {
        let mut client = self.client(number);
        self.wait(&format!("node {number} serves"), async || {
            let range = pb::RangeRequest { key: "health".into(), ..Default::default() };
            limited(client.kv.range(range)).await.is_ok()
        })
        .await;
    }

    /// Who leads: what a majority of all members that are meant to be there says of one that runs.
    ///
    /// # Panics
    /// If nobody ever does.
    pub async fn leader(&self) -> usize {
        let running: Vec<usize> = self.members_running().collect();
        self.leader_among(&running).await
    }

    /// Who leads among these, by the word of all of them that answer and at least more than half of them; for a
    /// network in parts.
    ///
    /// # Panics
    /// If nobody ever does.
    pub async fn leader_among(&self, numbers: &[usize]) -> usize {
        let began = Instant::now();
        loop {
            if let Some(leader) = self.leader_now(numbers).await {
                return leader;
            }
            assert!(began.elapsed() < LIMIT, "nobody leads among {numbers:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn leader_now(&self, numbers: &[usize]) -> Option<usize> {
        let mut words = Vec::new();
        for &number in numbers {
            let Ok(status) = self.status(number).await else { continue };
            let id = status.header.as_ref().map_or(0, |header| header.member_id);
            words.push((number, id, status.leader, status.raft_term));
        }
        let (_, _, leader, term) = *words.iter().max_by_key(|(_, _, _, term)| *term)?;
        let agreed = words.iter().filter(|word| (word.2, word.3) == (leader, term)).count();
        let (number, ..) = *words.iter().find(|word| word.1 == leader)?;
        (leader != 0 && agreed * 2 > numbers.len()).then_some(number)
    }

    /// Waits until all running members hold the same: equal hashes of all keys at one revision that each of
    /// them reached by a linearizable read. The revision.
    ///
    /// # Panics
    /// If they do not.
    pub async fn wait_converged(&self) -> i64 {
        let numbers: Vec<usize> = self.members_running().collect();
        let mut revision = 0;
        for &number in &numbers {
            self.wait_serves(number).await;
            let range = pb::RangeRequest { key: "health".into(), ..Default::default() };
            let answer = self.client(number).kv.range(range).await.map(tonic::Response::into_inner);
            revision = revision.max(crate::client::revision(answer.ok().and_then(|answer| answer.header)));
        }
        assert!(revision > 0, "no node told its revision");
        let mut hashes = Vec::new();
        for &number in &numbers {
            let mut client = self.client(number);
            let mut told = None;
            self.wait(&format!("node {number} has revision {revision}"), async || {
                told = limited(client.maintenance.hash_kv(pb::HashKvRequest { revision })).await.ok();
                told.is_some()
            })
            .await;
            let told = told.expect("waited for");
            hashes.push((told.hash, told.compact_revision));
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "at {revision}: {numbers:?} hold {hashes:?}");
        revision
    }

    /// Removes a member through another one, and counts it out.
    ///
    /// # Panics
    /// If the cluster refuses for ever.
    pub async fn remove(&mut self, number: usize) {
        let id = self.id(number).await;
        self.remove_id(number, id).await;
    }

    /// As `remove`, of a member that cannot be asked for its id.
    ///
    /// # Panics
    /// If the cluster refuses for ever.
    pub async fn remove_id(&mut self, number: usize, id: u64) {
        self.forget(number);
        let through = self.members_running().next().expect("another member runs");
        // Refused while the cluster is not whole; unknown if the leader that took it is the one that goes.
        self.wait("the member is removed", async || {
            let has_done = match self.shape.program {
                // Clients of a network come from elsewhere: only the socket in the folder may change the cluster.
                Program::Quorated(_) => {
                    let said = self.quorate(through, &["member", "remove", self.name(number)]);
                    println!("{}", String::from_utf8_lossy(&said.stderr));
                    said.status.success()
                }
                Program::Etcd(_) => {
                    let remove = pb::MemberRemoveRequest { id };
                    limited(self.client(through).cluster.member_remove(remove)).await.is_ok()
                }
            };
            has_done || self.is_gone(through, id).await
        })
        .await;
        self.wait("the member is no longer listed", async || self.is_gone(through, id).await).await;
    }

    async fn is_gone(&self, through: usize, id: u64) -> bool {
        let members = self.members(through).await;
        members.is_ok_and(|members| members.iter().all(|member| member.id != id))
    }

    /// etcd: names a learner by its peer address.
    pub(super) async fn add_to_etcd(&self, peer: &str) {
        let through = self.members_running().next().expect("a member runs");
        self.wait("the member is added", async || {
            let add = pb::MemberAddRequest { peer_ur_ls: vec![peer.to_owned()], is_learner: true };
            let answer = limited(self.client(through).cluster.member_add(add)).await;
            let members = self.members(through).await.unwrap_or_default();
            answer.is_ok() || members.iter().any(|member| member.peer_ur_ls.iter().any(|url| url == peer))
        })
        .await;
    }

    /// Waits until the node is a voter. An etcd does not promote by itself: it is asked to.
    ///
    /// # Panics
    /// If that never comes.
    pub async fn wait_promoted(&self, number: usize) {
        let name = self.name(number).to_owned();
        let through = self.members_running().find(|other| *other != number).expect("another member runs");
        self.wait(&format!("node {number} is a voter"), async || {
            let members = self.members(through).await.unwrap_or_default();
            let Some(member) = members.iter().find(|member| member.name == name) else { return false };
            if member.is_learner && matches!(self.shape.program, Program::Etcd(_)) {
                let promote = pb::MemberPromoteRequest { id: member.id };
                // Refused until it has caught up.
                limited(self.client(through).cluster.member_promote(promote)).await.ok();
            }
            !member.is_learner
        })
        .await;
    }

    /// Hands leadership over, through the leader.
    ///
    /// # Errors
    /// What the leader says.
    pub async fn move_leader(&self, from: usize, to: usize) -> Result<(), Status> {
        let target_id = self.id(to).await;
        let mut client: Client = self.client(from);
        limited(client.maintenance.move_leader(pb::MoveLeaderRequest { target_id })).await.map(|_| ())
    }
}
