//! `quorate dev` from the first node to the last folder, with stand-ins for the nodes' processes: what is told
//! to whom in which order, and that nothing is left behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use quorate_proto::local;
use quorate_proto::quorate as pb;
use quorate_proto::quorate::admin_server::{Admin, AdminServer};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Carries a stand-in's command line to this program, which then is the node.
const ARGUMENTS: &str = "STAND_IN_ARGUMENTS";

/// A node that knows its cluster by a folder all of them share: a file for each member.
#[derive(Clone)]
struct StandIn {
    members: PathBuf,
    invites: PathBuf,
}

impl StandIn {
    fn seen(&self) -> pb::MembersResponse {
        let files = fs::read_dir(&self.members).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let voters = names.len() - usize::from(names.len().is_multiple_of(2));
        let members = names.into_iter().enumerate().map(|(at, name)| pb::Member {
            id: at as u64 + 1,
            name,
            is_voter: at < voters,
            is_learner: at >= voters,
            ..pb::Member::default()
        });
        pb::MembersResponse { node_id: 1, leader: 1, members: members.collect(), ..Default::default() }
    }
}

#[tonic::async_trait]
impl Admin for StandIn {
    async fn members(&self, _: Request<pb::MembersRequest>) -> Result<Response<pb::MembersResponse>, Status> {
        Ok(Response::new(self.seen()))
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn member_transfer(
        &self,
        _: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn invite(&self, _: Request<pb::InviteRequest>) -> Result<Response<pb::InviteResponse>, Status> {
        let number = fs::read_dir(&self.invites).unwrap().count();
        let token = format!("token-{number}");
        fs::write(self.invites.join(&token), "").unwrap();
        Ok(Response::new(pb::InviteResponse { token, ..Default::default() }))
    }

    async fn invites(&self, _: Request<pb::InvitesRequest>) -> Result<Response<pb::InvitesResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn invite_revoke(
        &self,
        _: Request<pb::InviteRevokeRequest>,
    ) -> Result<Response<pb::InviteRevokeResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

#[test]
#[ignore = "the stand-in itself: started by the other test, as a node's program"]
fn stand_in_node() {
    let line = std::env::var(ARGUMENTS).expect("only the other test starts this");
    let words: Vec<&str> = line.split(' ').collect();
    let value = |flag: &str| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
    let (name, data_dir) = (value("--name").unwrap(), Path::new(value("--data-dir").unwrap()));
    let home = data_dir.parent().unwrap().parent().unwrap();
    let node = StandIn { members: home.join("members"), invites: home.join("invites") };
    for folder in [&node.members, &node.invites] {
        fs::create_dir_all(folder).unwrap();
    }
    let mark = node.members.join(name);
    match value("--join") {
        // Used up by joining.
        Some(token) => fs::rename(node.invites.join(token), &mark).expect("a token that was given out"),
        None if words.contains(&"--new-cluster") => fs::write(&mark, "").unwrap(),
        None => assert!(mark.exists(), "it must belong to the cluster already"),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let incoming = UnixListenerStream::new(local::bind(data_dir).unwrap());
        Server::builder().add_service(AdminServer::new(node)).serve_with_incoming(incoming).await.unwrap();
    });
}

/// A program that is this one, as the stand-in.
fn program(folder: &Path) -> PathBuf {
    let path = folder.join("quorated");
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nexport {ARGUMENTS}=\"$*\"\nexec {} --exact stand_in_node --ignored --nocapture\n",
        own.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

struct Dev {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Dev {
    fn start(folder: &Path, home: &Path) -> Dev {
        // Below the ports that the system hands out by itself.
        let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(["dev", "--nodes", "4", "--base-port", &port.to_string(), "--data-dir"]).arg(home);
        command.arg("--quorated").arg(program(folder)).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Dev { child, lines }
    }

    /// All up to the first line with that in it.
    fn text_until(&mut self, last: &str) -> String {
        let mut text = String::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            text.push_str(&line);
            text.push('\n');
            if line.contains(last) {
                return text;
            }
        }
        panic!("no `{last}` in\n{text}");
    }

    fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let text = self.text_until("kept: ");
        assert!(self.child.wait().unwrap().success());
        text
    }
}

/// A test that failed leaves no nodes behind either: dev stops them when it is told to end.
impl Drop for Dev {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// The process of a node, from dev's table.
fn process(text: &str, name: &str) -> Pid {
    let row = text.lines().find(|line| line.starts_with(&format!("{name}  "))).unwrap();
    Pid::from_raw(row.split_whitespace().nth(1).unwrap().parse().unwrap()).unwrap()
}

#[test]
fn a_cluster_is_started_told_of_stopped_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut dev = Dev::start(folder.path(), &home);
    let text = dev.text_until("Ctrl-C");
    for part in
        ["n2 joins\nn3 joins\nn4 joins\n", "3 voters: 1 may fail.", "export ETCDCTL_ENDPOINTS=127.0.0.1:"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let nodes: Vec<Pid> = ["n1", "n2", "n3", "n4"].iter().map(|name| process(&text, name)).collect();
    assert!(nodes.iter().all(|node| test_kill_process(*node).is_ok()));
    kill_process(nodes[1], Signal::KILL).unwrap();
    dev.text_until("n2 ended: killed by signal 9");
    dev.stop();
    assert!(nodes.iter().all(|node| test_kill_process(*node).is_err()), "no node is left");
    // Again, on the same folders: nobody joins twice, and nobody is invited.
    let mut dev = Dev::start(folder.path(), &home);
    let text = dev.text_until("Ctrl-C");
    assert!(!text.contains("joins") && text.contains("3 voters: 1 may fail."), "{text}");
    dev.stop();
    assert_eq!(fs::read_dir(home.join("invites")).unwrap().count(), 0);
}
