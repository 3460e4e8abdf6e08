//! Command lines: of the nodes, of `quorate` beside them, of `etcdctl`.

use super::{Cluster, WayIn};
use crate::program::{Program, build};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Keeps the peers of one cluster of etcds from those of another, should a port be taken over.
const ETCD_TOKEN: &str = "quorate-tests";

impl Cluster {
    /// The command line of a node, in its place.
    pub(super) fn command(&self, number: usize) -> Command {
        let node = self.node(number);
        let program = &node.program;
        let mut command = match node.wrapper.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(["--name", &node.name]).arg("--data-dir").arg(&node.data_dir);
        match &self.shape.program {
            Program::Quorated(_) => {
                command.args(["--listen-client", &node.client.to_string()]);
                command.args(["--listen-peer", &node.peer.to_string()]);
                if self.net.is_some() {
                    command.arg("--allow-insecure-client");
                }
            }
            Program::Etcd(_) => {
                let (client, peer) = (format!("http://{}", node.client), format!("http://{}", node.peer));
                command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
                command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            }
        }
        match &node.way_in {
            WayIn::None => panic!("{} was not told how to find its cluster", node.name),
            WayIn::First => {
                command.arg("--new-cluster");
            }
            // A service keeps its flags: with a folder that has a cluster they have to be ignored.
            WayIn::Token(token) => {
                command.args(["--join", token]);
            }
            WayIn::Peers { list, are_there } => {
                let state = if *are_there { "existing" } else { "new" };
                command.args(["--initial-cluster", list, "--initial-cluster-state", state]);
                command.args(["--initial-cluster-token", ETCD_TOKEN]);
            }
        }
        command.args(&self.shape.flags).args(&node.flags);
        command
    }

    /// A one-time token from a node, through its socket.
    ///
    /// # Panics
    /// If the node gives none.
    #[must_use]
    pub fn invite(&self, number: usize) -> String {
        let output = self.quorate(number, &["invite", "--format", "token"]);
        let said = String::from_utf8_lossy(&output.stdout);
        let token = said.lines().last().unwrap_or_default().trim();
        assert!(
            output.status.success() && !token.is_empty(),
            "no token from node {number}: {said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        token.to_owned()
    }

    /// Runs `quorate` on a node's folder.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn quorate(&self, number: usize, arguments: &[&str]) -> Output {
        let mut command = Command::new(quorate());
        command.arg("--data-dir").arg(&self.node(number).data_dir).args(arguments);
        command.stdin(Stdio::null()).output().expect("quorate starts")
    }

    /// Runs `etcdctl` against these nodes; what it printed, and whether it was content.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn etcdctl(&self, numbers: &[usize], arguments: &[&str]) -> (bool, String) {
        let endpoints: Vec<String> =
            numbers.iter().map(|number| self.node(*number).client.to_string()).collect();
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]).args(arguments);
        let output = command.stdin(Stdio::null()).output().expect("etcdctl starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }
}

/// The tool: named by `QUORATE`, or built now.
fn quorate() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || std::env::var_os("QUORATE").map_or_else(|| build("quorate", "quorate"), PathBuf::from);
    BUILT.get_or_init(build).clone()
}

/// Why our node cannot form a cluster yet; none if it can.
#[must_use]
pub fn missing(program: &Program) -> Option<String> {
    let Program::Quorated(path) = program else { return None };
    let help = Command::new(path).arg("--help").output().expect("our node starts");
    let says_join = String::from_utf8_lossy(&help.stdout).contains("--join");
    (!says_join).then(|| "this quorated has no --join yet".to_owned())
}
