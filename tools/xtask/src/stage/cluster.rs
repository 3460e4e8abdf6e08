//! Three members of one store, each with a folder of its own: started together, loaded together, killed and
//! started again one by one or all at once; a fourth may join.

use super::metrics;
use super::process::{self, Running};
use super::sides::{LOAD_LIMIT, number};
use super::{Kind, START_LIMIT, Stage, free_ports};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Keeps the peers of this cluster of etcds from those of another, should a port be taken over.
const ETCD_TOKEN: &str = "quorate-stage";
const POLL: Duration = Duration::from_millis(20);

/// Three members; they end with this.
pub(crate) struct Cluster<'a> {
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
    pub(crate) fn cluster(&self, kind: Kind, folders: &[PathBuf; 3]) -> Result<Cluster<'_>> {
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

    /// Adds one more member with its data below `folder` and starts it, without waiting; its number.
    pub(crate) fn join(&mut self, folder: &Path) -> Result<usize> {
        let (at, ports) = (self.members.len(), free_ports()?);
        let (name, data) = (format!("n{}", at + 1), folder.join("data"));
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let way_in = match self.kind {
            Kind::Quorate => vec!["--join".into(), self.invite()?],
            Kind::Etcd => {
                let first = self.members.first().context("somebody is there to join")?.ports[0];
                let asked = json!({ "peerURLs": [url(ports[1])] }).to_string();
                metrics::http_post(first, "/v3/cluster/member/add", &asked)?;
                let known = self.members.iter().map(|member| (member.name.clone(), member.ports[1]));
                let all = known.chain([(name.clone(), ports[1])]);
                let list: Vec<String> = all.map(|(name, port)| format!("{name}={}", url(port))).collect();
                let words = ["--initial-cluster-state", "existing", "--initial-cluster", &list.join(",")];
                words.map(str::to_owned).to_vec()
            }
        };
        let running = self.stage.start_member(self.kind, &name, &data, ports, &way_in)?;
        self.members.push(Member { name, data, ports, way_in, running });
        Ok(at)
    }

    /// All members' addresses for clients.
    pub(crate) fn endpoints(&self) -> String {
        self.members.iter().map(Member::endpoint).collect::<Vec<_>>().join(",")
    }

    /// One member's.
    pub(crate) fn endpoint(&self, member: usize) -> String {
        self.members[member].endpoint()
    }

    /// Members that were started, killed ones too.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Which program.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The process of a member.
    pub(crate) fn pid(&self, member: usize) -> u32 {
        self.members[member].running.pid()
    }

    /// Acknowledged puts of a record (`bench put --record`) that are not there.
    pub(crate) fn verify(&self, record: &str) -> Result<f64> {
        let mut command = self.stage.quorate();
        command.args(["bench", "verify", record, "--json", "--endpoints", &self.endpoints()]);
        // Its code says that something is missing.
        let mut running = Running::start(&mut command, "verify", self.stage.folder())?;
        running.wait(LOAD_LIMIT)?;
        let said = running.output()?;
        let found: Value = serde_json::from_str(&said).with_context(|| format!("not verified: {said}"))?;
        if let Some(problem) = found["problems"].get(0) {
            eprintln!("  {problem}");
        }
        number(&found, "/problem_count")
    }

    /// The last log entry a member has applied.
    pub(crate) fn applied(&self, member: usize) -> Result<f64> {
        self.metric(member, "etcd_server_proposals_applied_total")
    }

    /// The highest term any member knows: how much it rises is how many elections there were.
    pub(crate) fn term(&self) -> Result<f64> {
        let mut command = self.stage.quorate();
        command.args(["status", "--json", "--command-timeout", "5s", "--endpoints", &self.endpoints()]);
        // Its code says that a member does not answer; another one does.
        let mut running = Running::start(&mut command, "status", self.stage.folder())?;
        running.wait(START_LIMIT)?;
        let said = running.output()?;
        let views: Value = serde_json::from_str(&said).with_context(|| format!("no status: {said}"))?;
        let terms = views.as_array().into_iter().flatten().filter_map(|view| view["term"].as_f64());
        let term = terms.fold(0.0, f64::max);
        ensure!(term > 0.0, "no member tells its term: {said}");
        Ok(term)
    }

    /// `quorate bench WORDS… --json`, spread over all members; the report.
    pub(crate) fn bench(&self, words: &[&str], limit: Duration) -> Result<Value> {
        self.stage.bench(words, &self.endpoints(), limit)
    }

    /// The same, left running under a name of its own.
    pub(crate) fn bench_in_background(&self, name: &str, words: &[&str]) -> Result<Running> {
        self.stage.bench_in_background(name, words, &self.endpoints())
    }

    /// Waits until every member has prepared its log, so that the load alone is measured.
    pub(crate) fn settle(&self) -> Result<()> {
        metrics::settle(self.kind, || {
            self.members.iter().map(|member| metrics::zeroed_bytes(self.kind, member.ports[0])).sum()
        })
    }

    /// One number of a member's `/metrics`.
    pub(crate) fn metric(&self, member: usize, name: &str) -> Result<f64> {
        metrics::metric(self.members[member].ports[0], name)
    }

    /// Waits until three vote, one leads and all know it.
    pub(crate) fn wait_whole(&mut self) -> Result<()> {
        self.wait(|cluster| {
            let counted = |name, wanted: f64| {
                (0..cluster.len()).filter(|&member| cluster.metric(member, name).ok() == Some(wanted)).count()
            };
            counted("etcd_server_is_leader", 1.0) == 1
                && counted("etcd_server_has_leader", 1.0) == cluster.len()
                && counted("etcd_server_is_learner", 0.0) >= 3
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
    pub(crate) fn leader(&self) -> Result<usize> {
        (0..self.members.len())
            .find(|&member| self.metric(member, "etcd_server_is_leader").ok() == Some(1.0))
            .context("nobody leads")
    }

    /// Process numbers, the leader's first.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let leader = self.leader()?;
        let followers = (0..self.members.len()).filter(|&member| member != leader);
        Ok([leader].into_iter().chain(followers).map(|member| self.members[member].running.pid()).collect())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].running.kill()
    }

    /// kill -9 to all at once; all are gone when this returns.
    pub(crate) fn kill_all(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.running.strike()?;
        }
        self.members.iter_mut().try_for_each(|member| member.running.kill())
    }

    /// Starts a killed member again, without waiting.
    pub(crate) fn start(&mut self, member: usize) -> Result<()> {
        let member = &mut self.members[member];
        member.running =
            self.stage.start_member(self.kind, &member.name, &member.data, member.ports, &member.way_in)?;
        Ok(())
    }

    /// Starts a member that has ended by itself again, as a service manager does: a new etcd gives up when the one it asks
    /// has not heard of it yet.
    pub(crate) fn keep_running(&mut self, member: usize) -> Result<()> {
        let Err(error) = self.members[member].running.check_alive() else { return Ok(()) };
        eprintln!("  started again: {}", error.to_string().chars().take(200).collect::<String>());
        self.start(member)
    }

    /// Starts all killed members again; seconds until one of them acknowledges a write, and what `count` says then.
    pub(crate) fn start_all_to_first_write<T>(
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
