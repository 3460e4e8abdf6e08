//! Three members of one store, each with a folder of its own: started together, loaded together, killed and
//! started again one by one or all at once.

use super::metrics;
use super::process::{self, Running};
use super::stage::{Kind, START_LIMIT, Stage, free_ports};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Keeps the peers of this cluster of etcds from those of another, should a port be taken over.
const ETCD_TOKEN: &str = "quorate-figures";
const POLL: Duration = Duration::from_millis(20);

/// Three members; they end with this.
pub(super) struct Cluster<'a> {
    stage: &'a Stage,
    kind: Kind,
    members: Vec<Member>,
}

/// One member: it keeps folder, addresses and flags while its process comes and goes.
struct Member {
    name: String,
    data: PathBuf,
    ports: [u16; 2],
    /// How it finds its cluster; kept ever after, as a service keeps its flags.
    way_in: Vec<String>,
    running: Running,
}

impl Stage {
    /// Starts a member in each of these folders and waits until all three vote and answer.
    pub(super) fn cluster(&self, kind: Kind, folders: &[PathBuf; 3]) -> Result<Cluster<'_>> {
        let mut ports = Vec::new();
        for _ in folders {
            ports.push(free_ports()?);
        }
        let peers: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(at, [_, peer])| format!("n{}=http://127.0.0.1:{peer}", at + 1))
            .collect();
        let mut cluster = Cluster { stage: self, kind, members: Vec::new() };
        for (at, (folder, ports)) in folders.iter().zip(ports).enumerate() {
            let way_in = match (kind, at) {
                (Kind::Quorate, 0) => vec!["--new-cluster".into()],
                (Kind::Quorate, _) => vec!["--join".into(), cluster.invite()?],
                (Kind::Etcd, _) => {
                    let words =
                        ["--initial-cluster-token", ETCD_TOKEN, "--initial-cluster", &peers.join(",")];
                    words.map(str::to_owned).to_vec()
                }
            };
            let (name, data) = (format!("n{}", at + 1), folder.join("data"));
            let running = self.start_member(kind, &name, &data, ports, &way_in)?;
            cluster.members.push(Member { name, data, ports, way_in, running });
            // Who invites must serve; a list needs all its members first.
            if kind == Kind::Quorate {
                cluster.wait(|cluster| cluster.metric(at, "etcd_server_has_leader").ok() == Some(1.0))?;
            }
        }
        cluster.wait_whole()?;
        Ok(cluster)
    }

    fn start_member(
        &self,
        kind: Kind,
        name: &str,
        data: &Path,
        [client, peer]: [u16; 2],
        way_in: &[String],
    ) -> Result<Running> {
        let mut command = match kind {
            Kind::Quorate => {
                let mut command = self.quorated();
                command
                    .args(["--log-level", "error", "--listen-client", &format!("127.0.0.1:{client}")])
                    .args(["--listen-peer", &format!("127.0.0.1:{peer}")]);
                command
            }
            Kind::Etcd => {
                let (client, peer) =
                    (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
                let mut command = self.etcd()?;
                command
                    .args(["--logger", "zap", "--log-level", "error"])
                    .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                    .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
                command
            }
        };
        command.args(["--name", name, "--data-dir"]).arg(data).args(way_in);
        Running::start(&mut command, name, self.folder())
    }
}

impl Cluster<'_> {
    /// A token for one more member, from the first.
    fn invite(&self) -> Result<String> {
        let first = self.members.first().context("somebody invites")?;
        let mut command = self.stage.quorate();
        command.arg("--data-dir").arg(&first.data).args(["invite", "--format", "token"]);
        let said = process::run(&mut command, self.stage.folder(), START_LIMIT)?;
        Ok(said.lines().last().context("invite prints a token")?.trim().to_owned())
    }

    fn endpoints(&self) -> String {
        let all: Vec<String> = self.members.iter().map(Member::endpoint).collect();
        all.join(",")
    }

    /// `quorate bench WORDS… --json`, spread over all members; the report.
    pub(super) fn bench(&self, words: &[&str], limit: Duration) -> Result<Value> {
        self.stage.bench(words, &self.endpoints(), limit)
    }

    /// The same, left running.
    pub(super) fn bench_in_background(&self, words: &[&str]) -> Result<Running> {
        self.stage.bench_in_background(words, &self.endpoints())
    }

    /// Waits until every member has prepared its log, so that the load alone is measured.
    pub(super) fn settle(&self) -> Result<()> {
        metrics::settle(self.kind, || {
            self.members.iter().map(|member| metrics::zeroed_bytes(self.kind, member.ports[0])).sum()
        })
    }

    fn metric(&self, member: usize, name: &str) -> Result<f64> {
        metrics::metric(self.members[member].ports[0], name)
    }

    /// Waits until all three vote and one of them leads.
    pub(super) fn wait_whole(&mut self) -> Result<()> {
        self.wait(|cluster| {
            let counted = |name, wanted: f64| {
                (0..3).filter(|&member| cluster.metric(member, name).ok() == Some(wanted)).count()
            };
            counted("etcd_server_is_leader", 1.0) == 1
                && counted("etcd_server_has_leader", 1.0) == 3
                && counted("etcd_server_is_learner", 0.0) == 3
        })
    }

    fn wait(&mut self, is_there: impl Fn(&Self) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is_there(self) {
            for member in &mut self.members {
                member.running.check_alive()?;
            }
            ensure!(begun.elapsed() < START_LIMIT, "the members are no cluster after {START_LIMIT:?}");
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// The member that leads, by its number from 0.
    pub(super) fn leader(&self) -> Result<usize> {
        (0..self.members.len())
            .find(|&member| self.metric(member, "etcd_server_is_leader").ok() == Some(1.0))
            .context("nobody leads")
    }

    /// Process numbers, the leader's first.
    pub(super) fn pids(&self) -> Result<Vec<u32>> {
        let leader = self.leader()?;
        let followers = (0..self.members.len()).filter(|&member| member != leader);
        Ok([leader].into_iter().chain(followers).map(|member| self.members[member].running.pid()).collect())
    }

    /// kill -9.
    pub(super) fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].running.kill()
    }

    /// kill -9 to all at once; all are gone when this returns.
    pub(super) fn kill_all(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.running.strike()?;
        }
        self.members.iter_mut().try_for_each(|member| member.running.kill())
    }

    /// Starts a killed member again, without waiting.
    pub(super) fn start(&mut self, member: usize) -> Result<()> {
        let member = &mut self.members[member];
        member.running =
            self.stage.start_member(self.kind, &member.name, &member.data, member.ports, &member.way_in)?;
        Ok(())
    }

    /// Starts all killed members again; seconds until one of them acknowledges a write, and what `count` says then.
    pub(super) fn start_all_to_first_write<T>(
        &mut self,
        count: impl FnOnce() -> Result<T>,
    ) -> Result<(f64, T)> {
        let begun = Instant::now();
        for member in 0..self.members.len() {
            self.start(member)?;
        }
        let (stage, is_over) = (self.stage, &AtomicBool::new(false));
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            // One asks at each member: none of them may be slow for the others.
            for member in &self.members {
                let send = send.clone();
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) && begun.elapsed() < START_LIMIT {
                        if member.takes_write(stage) {
                            // A late one finds nobody who listens.
                            return send.send(begun.elapsed()).unwrap_or(());
                        }
                        std::thread::sleep(POLL);
                    }
                });
            }
            drop(send);
            let first = receive.recv().ok().with_context(|| format!("no write within {START_LIMIT:?}"));
            is_over.store(true, Ordering::Relaxed);
            Ok((first?.as_secs_f64(), count()?))
        })
    }
}

impl Member {
    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Whether it acknowledges a put, asked by a process of its own.
    fn takes_write(&self, stage: &Stage) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports[0]));
        // Cheap until somebody listens, so that asking does not slow the start it measures.
        if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            return false;
        }
        let mut command = stage.quorate();
        command
            .args(["bench", "put", "--quiet", "--total", "1", "--keys", "1", "--timeout", "3s"])
            .args(["--endpoints", &self.endpoint()]);
        process::run_as(&mut command, &format!("{}-put", self.name), stage.folder(), START_LIMIT).is_ok()
    }
}
