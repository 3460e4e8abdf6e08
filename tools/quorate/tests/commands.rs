//! The commands as people and scripts run them, against a stand-in for a node.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use quorate_proto::local;
use quorate_proto::quorate as pb;
use quorate_proto::quorate::admin_server::{Admin, AdminServer};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// A node that notes what it is asked; two voters and a learner.
#[derive(Clone, Default)]
struct StandIn(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    calls: Vec<String>,
    refusal: Option<Status>,
}

impl StandIn {
    fn note(&self, call: String) -> Result<(), Status> {
        let mut asked = self.0.lock().unwrap();
        asked.calls.push(call);
        asked.refusal.clone().map_or(Ok(()), Err)
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }
}

fn seen() -> Response<pb::MembersResponse> {
    let member = |id, name: &str, is_voter| pb::Member {
        id,
        name: name.into(),
        is_voter,
        is_learner: !is_voter,
        ..pb::Member::default()
    };
    let members = vec![member(0xa1, "n1", true), member(0xb2, "n2", true), member(0xc3, "n3", false)];
    Response::new(pb::MembersResponse { node_id: 0xa1, leader: 0xa1, members, ..Default::default() })
}

#[tonic::async_trait]
impl Admin for StandIn {
    async fn members(
        &self,
        request: Request<pb::MembersRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        self.0.lock().unwrap().calls.push(format!("members {}", request.get_ref().linearizable));
        Ok(seen())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        self.note(format!("remove {:x}", request.get_ref().id)).map(|()| seen())
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        self.note(format!("promote {:x}", request.get_ref().id)).map(|()| seen())
    }

    async fn member_transfer(
        &self,
        request: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        self.note(format!("transfer {:x}", request.get_ref().id)).map(|()| seen())
    }

    async fn invite(
        &self,
        request: Request<pb::InviteRequest>,
    ) -> Result<Response<pb::InviteResponse>, Status> {
        let expires_in_seconds = request.get_ref().ttl_seconds;
        self.note(format!("invite {expires_in_seconds}"))?;
        let invite = pb::InviteResponse { token: "q1-token".into(), id: "3f2a".into(), expires_in_seconds };
        Ok(Response::new(invite))
    }

    async fn invites(&self, _: Request<pb::InvitesRequest>) -> Result<Response<pb::InvitesResponse>, Status> {
        self.note("invites".into())?;
        let invite = pb::InviteView { id: "3f2a".into(), expires_in_seconds: 60, used_by: String::new() };
        Ok(Response::new(pb::InvitesResponse { invites: vec![invite] }))
    }

    async fn invite_revoke(
        &self,
        request: Request<pb::InviteRevokeRequest>,
    ) -> Result<Response<pb::InviteRevokeResponse>, Status> {
        self.note(format!("revoke {}", request.get_ref().id))?;
        Ok(Response::new(pb::InviteRevokeResponse {}))
    }
}

fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(words.split_whitespace()).stdin(Stdio::null());
    for name in ["QUORATE_DATA_DIR", "ETCDCTL_ENDPOINTS", "ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"] {
        command.env_remove(name);
    }
    command
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// Runs it on a node's folder; what it printed, or its complaint.
async fn run(data_dir: &Path, words: &str) -> Result<String, String> {
    let mut command = command(words);
    command.arg("--data-dir").arg(data_dir);
    said(&output(command).await)
}

fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    if output.status.success() {
        assert_eq!(text(&output.stderr), "");
        return Ok(text(&output.stdout));
    }
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Err(text(&output.stderr))
}

fn serve_socket(data_dir: &Path) -> StandIn {
    let node = StandIn::default();
    let incoming = UnixListenerStream::new(local::bind(data_dir).unwrap());
    let service = AdminServer::new(node.clone());
    tokio::spawn(async move { Server::builder().add_service(service).serve_with_incoming(incoming).await });
    node
}

#[tokio::test]
async fn invites_go_through_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let node = serve_socket(folder.path());
    let run = |words| run(folder.path(), words);
    assert_eq!(run("invite --format token").await.unwrap(), "q1-token\n", "that line and no other");
    let text = run("invite --ttl 2h").await.unwrap();
    assert!(text.contains("quorated --name NAME") && text.contains("--join q1-token\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&run("invite --format json").await.unwrap()).unwrap();
    assert_eq!((&json["token"], &json["id"]), (&"q1-token".into(), &"3f2a".into()));
    assert_eq!(run("invite list").await.unwrap(), "3f2a  open for 1m\n");
    assert!(run("invite revoke 3f2a").await.unwrap().contains("3f2a"));
    assert!(run("invite --ttl 10ms").await.unwrap_err().contains("--ttl"));
    assert_eq!(node.calls(), ["invite 600", "invite 7200", "invite 600", "invites", "revoke 3f2a"]);
}

#[tokio::test]
async fn members_are_named_by_id_or_name() {
    let folder = tempfile::tempdir().unwrap();
    let node = serve_socket(folder.path());
    let run = |words| run(folder.path(), words);
    let list = run("member list --linearizable").await.unwrap();
    assert!(list.contains("n3    c3  standby learner") && list.contains("2 voters: none may fail"), "{list}");
    let json: serde_json::Value = serde_json::from_str(&run("member list --json").await.unwrap()).unwrap();
    assert_eq!(json["members"][0]["role"], "leader");
    assert_eq!(node.calls(), ["members true", "members false"]);
    assert!(run("member promote n3").await.unwrap().starts_with("n3 (c3) votes\n"));
    assert!(run("member transfer b2").await.unwrap().starts_with("n2 (b2) leads\n"));
    assert!(run("member remove n2").await.unwrap().starts_with("n2 (b2) is no member any more\n"));
    assert!(run("member remove moon").await.unwrap_err().contains("there are: n1 (a1), n2 (b2), n3 (c3)"));
    let changes: Vec<String> = node.calls().into_iter().filter(|call| !call.starts_with("members")).collect();
    assert_eq!(changes, ["promote c3", "transfer b2", "remove b2"]);
    node.0.lock().unwrap().refusal =
        Some(Status::failed_precondition("the members … no quorum: n3 is silent"));
    let refused = run("member remove n2").await.unwrap_err();
    assert!(
        refused.contains("no quorum: n3 is silent") && !refused.contains("FailedPrecondition"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_server_on_a_port_is_asked_as_well() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = StandIn::default();
    let service = AdminServer::new(node.clone());
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(async move { Server::builder().add_service(service).serve_with_incoming(incoming).await });
    // The first endpoint is dead; the folder in the environment counts less than the line.
    let mut list = command(&format!("member list --endpoints 127.0.0.1:1,{address}"));
    list.env("QUORATE_DATA_DIR", "/moon");
    assert!(said(&output(list).await).unwrap().contains("n1"));
    let mut invite = command("invite --format token");
    invite.env("ETCDCTL_ENDPOINTS", address.to_string());
    assert_eq!(said(&output(invite).await).unwrap(), "q1-token\n");
    // Environment against environment: the socket.
    let mut lost = command("invite list");
    lost.env("ETCDCTL_ENDPOINTS", address.to_string()).env("QUORATE_DATA_DIR", "/moon");
    assert!(said(&output(lost).await).unwrap_err().contains("/moon: there is no such folder"));
}

#[tokio::test]
async fn why_no_node_is_reached_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = run(folder.path(), "member list").await.unwrap_err();
    assert!(complaint.contains("no node serves this folder"), "{complaint}");
    drop(local::bind(folder.path()).unwrap());
    let complaint = run(folder.path(), "invite").await.unwrap_err();
    assert!(complaint.contains("is not running; start it: quorated --data-dir"), "{complaint}");
    let status = output(command(&format!("status --json --data-dir {}", folder.path().display()))).await;
    assert_eq!(status.status.code(), Some(1));
    let views: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(views[0]["error"].as_str().unwrap().contains("is not running"), "{views}");
}

#[tokio::test]
async fn dev_says_what_it_cannot_do_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = command("dev --quorated /moon/quorated");
    dev.env("TMPDIR", folder.path());
    assert!(said(&output(dev).await).unwrap_err().contains("/moon/quorated"));
    // A node that ends at once: its last words are shown, and the temporary folders go.
    let program = folder.path().join("quorated");
    std::fs::write(&program, "#!/bin/sh\necho the card is on fire\nexit 74\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // Below the ports that the system hands out by itself.
    let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut dev = command(&format!("dev --nodes 1 --base-port {port} --quorated {}", program.display()));
    dev.env("TMPDIR", folder.path());
    let crowded = output(dev).await;
    assert!(String::from_utf8_lossy(&crowded.stderr).contains("--base-port"), "{crowded:?}");
    drop(taken);
    let mut dev = command(&format!("dev --nodes 1 --base-port {port} --quorated {}", program.display()));
    dev.env("TMPDIR", folder.path());
    let burnt = output(dev).await;
    let words = String::from_utf8_lossy(&burnt.stderr).into_owned();
    assert!(words.contains("n1 ended (exit code 74)") && words.contains("the card is on fire"), "{words}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [program]);
}
