//! A cluster under load with a watch on every member, whatever is done to it; and all that has to hold at the end.

use crate::client::Client;
use crate::cluster::{Cluster, Shape, missing};
use crate::history::follow::{Changes, Follower, SENTINEL};
use crate::history::{History, Load, Plan};
use crate::linear::Checked;
use crate::program::Program;
use std::fs::File;

/// One cluster under trial.
#[derive(Debug)]
pub struct Trial {
    /// The cluster.
    pub cluster: Cluster,
    /// Its clients.
    pub load: Load,
    /// Their watches, by member.
    pub followers: Vec<Follower>,
    _turn: File,
}

impl Trial {
    /// Three of ours, with so many spares, under ordinary load; none where they cannot run, and the reason is printed.
    pub async fn of_three(spares: usize) -> Option<Trial> {
        let program = Program::quorated();
        if let Some(reason) = missing(&program) {
            eprintln!("skipped: {reason}");
            return None;
        }
        Some(Trial::start(Shape::new(program, 3).spares(spares), Plan::default()).await)
    }

    /// Starts both, and waits for the first writes.
    ///
    /// # Panics
    /// If the cluster does not come up or takes no writes.
    pub async fn start(shape: Shape, plan: Plan) -> Trial {
        let turn = turn();
        let cluster = Cluster::start(shape).await;
        let endpoints = cluster.endpoints();
        let load = Load::start(&endpoints, plan);
        let followers = endpoints.iter().map(|endpoint| Follower::start(endpoint, false)).collect();
        let trial = Trial { cluster, load, followers, _turn: turn };
        trial.load.fault("the cluster is whole");
        trial.load.wait_writes(20).await;
        trial
    }

    /// Adds the next spare node and clients of it; it is a learner then.
    ///
    /// # Panics
    /// If it does not become a member.
    pub async fn add(&mut self) -> usize {
        let number = self.cluster.add().await;
        self.load.fault(format!("node {number} added"));
        number
    }

    /// Clients and a watch on a node that was added.
    pub fn add_clients(&mut self, number: usize) {
        let endpoint = self.cluster.endpoint(number);
        self.load.add_member(&endpoint);
        self.followers.push(Follower::start(&endpoint, false));
    }

    /// Who leads, noted in the timeline.
    pub async fn leader(&self, why: &str) -> usize {
        let leader = self.cluster.leader().await;
        self.load.fault(format!("{why}: node {leader} leads"));
        leader
    }

    /// With all faults ended: all members hold the same, the history is linearizable, and every watch saw all of it
    /// once and in order. Gives back what was checked, the cluster and the history.
    ///
    /// # Panics
    /// If not so.
    pub async fn finish(self) -> (Checked, Cluster, History) {
        self.load.fault("all is well again");
        self.load.wait_writes(20).await;
        let Trial { cluster, load, followers, .. } = self;
        let history = load.end().await;
        let checked = history.check();
        put_sentinel(&cluster).await;
        // A member that was removed shows no end.
        let members = cluster.endpoints();
        let mut seen: Vec<(String, Changes)> = Vec::new();
        for follower in followers {
            if members.iter().any(|endpoint| endpoint == follower.endpoint()) {
                seen.push((follower.endpoint().to_owned(), follower.end().await));
            }
        }
        for other in &seen {
            same(&seen[0], other);
        }
        let changes = &seen[0].1;
        history.check_changes(changes);
        let revision = cluster.wait_converged().await;
        println!("{} changes, {} watches, all members equal at {revision}", changes.len(), seen.len());
        (checked, cluster, history)
    }
}

/// Two watches saw the same, wherever they were.
fn same((one_at, one): &(String, Changes), (other_at, other): &(String, Changes)) {
    let only = |these: &Changes, those: &Changes| -> Vec<_> {
        let differs = |(revision, change): &(&i64, _)| those.get(revision) != Some(*change);
        these.iter().filter(differs).map(|(revision, change)| (*revision, *change)).take(10).collect()
    };
    assert!(
        one == other,
        "two watches saw different changes:\n  only on {one_at}: {:?}\n  only on {other_at}: {:?}",
        only(one, other),
        only(other, one)
    );
}

async fn put_sentinel(cluster: &Cluster) {
    cluster
        .wait("a last write", async || {
            let through = cluster.members_running().next().expect("a member runs");
            let mut client: Client = cluster.client(through);
            client.put(SENTINEL, "").await.is_ok()
        })
        .await;
}

/// One cluster at a time on this machine: on two cores several would only starve each other's timers. The turn lasts
/// as long as the file is held.
///
/// # Panics
/// If the lock cannot be had at all.
#[must_use]
pub fn turn() -> File {
    let path = std::env::temp_dir().join("quorate-cluster-tests.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.expect("the lock file can be opened");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("one's turn comes");
    file
}

/// Makes each of these functions, which take a [`Program`](crate::program::Program), a test of our node, and one of a
/// real etcd that only runs when asked for (`--ignored`): it proves the harness, not us.
#[macro_export]
macro_rules! cluster_tests {
    ($($name:ident),+ $(,)?) => {
        mod quorate {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let program = quorate_tests::program::Program::quorated();
                    match quorate_tests::cluster::missing(&program) {
                        None => super::$name(program).await,
                        Some(reason) => eprintln!("skipped: {reason}"),
                    }
                }
            )+
        }
        mod etcd {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "proves the harness on a real etcd"]
                async fn $name() {
                    match quorate_tests::program::Program::etcd() {
                        Some(program) => super::$name(program).await,
                        None => quorate_tests::skip!("no etcd in /usr/bin, none named by ETCD"),
                    }
                }
            )+
        }
    };
}
