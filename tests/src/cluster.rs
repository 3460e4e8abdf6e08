//! A cluster of real processes of either program: started, broken and mended node by node, on loopback or in a
//! network that can be broken. Nodes are numbered from 1, as their hosts in the network are.

mod ask;
mod command;
mod control;
mod home;

use crate::client::Client;
use crate::net::Net;
use crate::process::{POLL, Process};
use crate::program::Program;
use crate::server::free_port;
pub use command::missing;
use home::Home;
use quorate_proto::etcdserverpb as pb;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a cluster may take for anything before the test is called broken; no test measures by it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Ports in a network of one's own are everybody's first choice.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// What a cluster is to be.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Which program.
    pub program: Program,
    /// Nodes at the start.
    pub nodes: usize,
    /// Nodes that may be added later.
    pub spares: usize,
    /// Whether each node gets a namespace, with a network between them that can be broken.
    pub has_net: bool,
    /// Flags of every node beyond folder, addresses and membership.
    pub flags: Vec<String>,
    /// Where the nodes' data lies, in their order; those it does not name lie in memory.
    pub folders: Vec<PathBuf>,
    /// Whether program and log output lie there as well, each node with a copy of its own.
    pub is_whole: bool,
    /// Command lines that start the nodes' command lines, in their order.
    pub wrappers: Vec<Vec<String>>,
}

impl Shape {
    /// So many nodes on loopback.
    #[must_use]
    pub fn new(program: Program, nodes: usize) -> Shape {
        Shape {
            program,
            nodes,
            spares: 0,
            has_net: false,
            flags: Vec::new(),
            folders: Vec::new(),
            is_whole: false,
            wrappers: Vec::new(),
        }
    }

    /// With room for more.
    #[must_use]
    pub fn spares(mut self, spares: usize) -> Shape {
        self.spares = spares;
        self
    }

    /// In a network that can be broken.
    #[must_use]
    pub fn in_net(mut self) -> Shape {
        self.has_net = true;
        self
    }

    /// With the nodes' data in these folders, say on cards.
    #[must_use]
    pub fn on(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Shape {
        self.folders = folders.into_iter().collect();
        self
    }

    /// With program and log output in those folders too, as on a board that has nothing else.
    #[must_use]
    pub fn whole(mut self) -> Shape {
        self.is_whole = true;
        self
    }

    /// With a command line of its own before each node's.
    #[must_use]
    pub fn wrapped(mut self, wrappers: impl IntoIterator<Item = Vec<String>>) -> Shape {
        self.wrappers = wrappers.into_iter().collect();
        self
    }

    /// With flags for every node.
    #[must_use]
    pub fn flags<S: Into<String>>(mut self, flags: impl IntoIterator<Item = S>) -> Shape {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }
}

/// One node's place: it keeps folder and addresses while its process comes and goes.
#[derive(Debug)]
struct Node {
    number: usize,
    name: String,
    process: Process,
    program: PathBuf,
    wrapper: Vec<String>,
    client: SocketAddr,
    peer: SocketAddr,
    data_dir: PathBuf,
    /// Flags of this node only.
    flags: Vec<String>,
    /// How it found its cluster when it was started first.
    way_in: WayIn,
    /// Whether it is meant to be a member: not before it is added, not after it is removed.
    is_member: bool,
    is_paused: bool,
}

/// How a node comes into its cluster.
#[derive(Debug, Clone)]
enum WayIn {
    /// It has not been told.
    None,
    /// It is the first one.
    First,
    /// With this token.
    Token(String),
    /// etcd: all peers by name, and whether they are there already.
    Peers { list: String, are_there: bool },
}

/// A cluster; dropping it kills every node and removes every folder.
#[derive(Debug)]
pub struct Cluster {
    shape: Shape,
    nodes: Vec<Node>,
    net: Option<Net>,
    _folder: TempDir,
}

impl Cluster {
    /// Starts one and waits until every node is a voter and one leads.
    ///
    /// # Panics
    /// If it does not come up; the last lines of each node are shown.
    pub async fn start(shape: Shape) -> Cluster {
        let mut cluster = Cluster::prepare(shape);
        match cluster.shape.program {
            Program::Quorated(_) => cluster.found_by_token().await,
            Program::Etcd(_) => cluster.found_by_list(),
        }
        cluster.wait_voters(cluster.shape.nodes).await;
        cluster.leader().await;
        cluster
    }

    /// All places, nothing started.
    fn prepare(shape: Shape) -> Cluster {
        let memory = Path::new("/dev/shm");
        // In memory: most tests are not about disks.
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder can be made");
        let places = shape.nodes + shape.spares;
        let net =
            shape.has_net.then(|| Net::new(places).unwrap_or_else(|error| panic!("no network: {error:#}")));
        let at = |number| place(number, net.as_ref(), Home::of(&shape, number, folder.path()));
        let nodes = (1..=places).map(at).collect();
        Cluster { shape, nodes, net, _folder: folder }
    }

    /// The first one alone, then one after the other by a token of its own.
    async fn found_by_token(&mut self) {
        self.node_mut(1).way_in = WayIn::First;
        self.node_mut(1).is_member = true;
        self.spawn(1);
        self.wait_serves(1).await;
        for number in 2..=self.shape.nodes {
            self.join(number).await;
        }
        if self.shape.nodes.is_multiple_of(2) {
            // Voters stay odd by themselves: the last one is a standby until somebody insists.
            let name = self.node(self.shape.nodes).name.clone();
            self.wait("the last one is promoted by hand", async || {
                self.quorate(1, &["member", "promote", &name]).status.success()
            })
            .await;
        }
    }

    /// Gives a place a token of node 1's and starts it; returns when it is a member of any kind.
    async fn join(&mut self, number: usize) {
        let issuer = self.members_running().next().expect("a node of the cluster runs");
        let token = self.invite(issuer);
        self.node_mut(number).way_in = WayIn::Token(token);
        self.node_mut(number).is_member = true;
        self.spawn(number);
        let name = self.node(number).name.clone();
        self.wait("it is a member", async || {
            let members = self.members(issuer).await.unwrap_or_default();
            members.iter().any(|member| member.name == name)
        })
        .await;
    }

    fn found_by_list(&mut self) {
        let numbers = 1..=self.shape.nodes;
        let list = self.peer_list(numbers.clone());
        for number in numbers {
            self.node_mut(number).way_in = WayIn::Peers { list: list.clone(), are_there: false };
            self.node_mut(number).is_member = true;
            self.spawn(number);
        }
    }

    fn peer_list(&self, numbers: impl Iterator<Item = usize>) -> String {
        let one = |number| format!("{}=http://{}", self.node(number).name, self.node(number).peer);
        numbers.map(one).collect::<Vec<_>>().join(",")
    }

    /// Adds the next spare place as a learner and starts it, without waiting for its promotion.
    ///
    /// # Panics
    /// If there is no spare place, or it does not become a member.
    pub async fn add(&mut self) -> usize {
        let is_spare = |node: &&Node| matches!(node.way_in, WayIn::None);
        let number = self.nodes.iter().find(is_spare).expect("a spare place").number;
        match self.shape.program {
            Program::Quorated(_) => self.join(number).await,
            Program::Etcd(_) => {
                let peer = format!("http://{}", self.node(number).peer);
                let members = self.members_running().collect::<Vec<_>>();
                self.add_to_etcd(&peer).await;
                let list = self.peer_list(members.into_iter().chain([number]));
                self.node_mut(number).way_in = WayIn::Peers { list, are_there: true };
                self.node_mut(number).is_member = true;
                self.spawn(number);
            }
        }
        number
    }

    /// The network.
    ///
    /// # Panics
    /// If the cluster was not made with one.
    #[must_use]
    pub fn net(&self) -> &Net {
        self.net.as_ref().expect("made with a network")
    }

    /// The numbers of all members whose process runs and is not paused.
    pub fn members_running(&self) -> impl Iterator<Item = usize> {
        let runs = |node: &&Node| node.is_member && node.process.is_running() && !node.is_paused;
        self.nodes.iter().filter(runs).map(|node| node.number)
    }

    /// Where clients dial a node.
    #[must_use]
    pub fn endpoint(&self, number: usize) -> String {
        format!("http://{}", self.node(number).client)
    }

    /// Where clients dial, of all members meant to be there.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let members = self.nodes.iter().filter(|node| node.is_member);
        members.map(|node| self.endpoint(node.number)).collect()
    }

    /// A client of one node, which dials with its first call.
    ///
    /// # Panics
    /// Never: the endpoint is a URL.
    #[must_use]
    pub fn client(&self, number: usize) -> Client {
        Client::lazy(&self.endpoint(number)).expect("a URL")
    }

    /// The name a node was given.
    #[must_use]
    pub fn name(&self, number: usize) -> &str {
        &self.node(number).name
    }

    /// A node's data folder.
    #[must_use]
    pub fn data_dir(&self, number: usize) -> &Path {
        &self.node(number).data_dir
    }

    /// All a node said since its first start.
    #[must_use]
    pub fn log(&self, number: usize) -> String {
        self.node(number).process.log()
    }

    /// The process id of a node.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self, number: usize) -> rustix::process::Pid {
        self.node(number).process.pid()
    }

    /// Which program it is.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.shape.program
    }

    fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// Asks again and again until it holds.
    ///
    /// # Panics
    /// If it never does.
    pub async fn wait(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !holds().await {
            if began.elapsed() > LIMIT {
                panic!("never: {what}\n{}", self.describe().await);
            }
            let ended = self.nodes.iter().find(|node| node.is_member && node.process.has_ended());
            assert!(ended.is_none(), "{} ended by itself", ended.map_or("", |node| &node.name));
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Members by name, as one node lists them.
pub type Members = Vec<pb::Member>;

/// Which node has which id.
pub type Ids = BTreeMap<u64, usize>;

fn place(number: usize, net: Option<&Net>, home: Home) -> Node {
    let name = format!("n{number}");
    let Home { data_dir, log, program, mut wrapper } = home;
    let process = Process::new(name.clone(), log);
    let (client, peer, in_net) = match net {
        Some(net) => {
            let address = net.address(number);
            ((address, CLIENT_PORT).into(), (address, PEER_PORT).into(), net.wrapper(number))
        }
        None => {
            let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            (local(free_port()), local(free_port()), Vec::new())
        }
    };
    wrapper.extend(in_net);
    let way_in = WayIn::None;
    Node {
        number,
        name,
        process,
        program,
        wrapper,
        client,
        peer,
        data_dir,
        flags: Vec::new(),
        way_in,
        is_member: false,
        is_paused: false,
    }
}
