//! HTTP pages, on both ports.

use crate::node::Served;
use quorate_store::{AlarmKind, Command};
use quorate_types::NodeId;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One HTTP/1 exchange: status, head, body.
pub(crate) async fn fetch(address: SocketAddr, method: &str, target: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

async fn get(served: &Served, target: &str) -> (u16, String) {
    let (status, _, body) = fetch(served.address, "GET", target).await;
    let (page_status, _, page_body) = fetch(served.pages, "GET", target).await;
    assert_eq!((status, &body), (page_status, &page_body), "both ports say the same");
    (status, body)
}

#[tokio::test]
async fn a_healthy_node_says_so_everywhere() {
    let served = Served::start().await;
    let ok = |body: &str| (200, body.to_owned());
    assert_eq!(get(&served, "/version").await, ok(r#"{"etcdserver":"3.5.24","etcdcluster":"3.5.0"}"#));
    assert_eq!(get(&served, "/health").await, ok(r#"{"health":"true","reason":""}"#));
    assert_eq!(get(&served, "/livez").await, ok("ok\n"));
    assert_eq!(get(&served, "/readyz").await, ok("ok\n"));
    let verbose =
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]card_sync ok\nok\n";
    assert_eq!(get(&served, "/readyz?verbose").await, ok(verbose));
    assert_eq!(get(&served, "/nothing").await, (404, "404 page not found\n".to_owned()));
    let (status, head, _) = fetch(served.address, "POST", "/health").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: get"), "{head}");
}

#[tokio::test]
async fn metrics_are_classic_prometheus_text() {
    let served = Served::start().await;
    let (status, head, body) = fetch(served.address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert_eq!(
        body,
        "# HELP quorate_syncs_total Syncs done.\n# TYPE quorate_syncs_total counter\nquorate_syncs_total 3\n"
    );
}

#[tokio::test]
async fn a_stuck_card_is_alive_but_not_ready() {
    let served = Served::start().await;
    served.node.state().card_stuck = true;
    assert_eq!(get(&served, "/livez").await, (200, "ok\n".to_owned()));
    let (status, body) = get(&served, "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("[-]card_sync failed: etcdserver: request timed out\n"), "{body}");
    assert!(body.ends_with("readyz check failed\n"), "{body}");
    assert_eq!(get(&served, "/readyz?exclude=card_sync").await.0, 200);
    let (status, body) = get(&served, "/health").await;
    assert_eq!(status, 503);
    assert_eq!(body, "{\"health\":\"false\",\"reason\":\"CARD:etcdserver: request timed out\"}\n");
}

#[tokio::test]
async fn a_lost_leader_is_unhealthy() {
    let served = Served::start().await;
    served.node.state().leader = 0;
    let (status, body) = get(&served, "/health").await;
    assert_eq!((status, body.as_str()), (503, "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"));
    assert_eq!(get(&served, "/health?serializable=true").await.0, 200);
    assert_eq!(get(&served, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_full_store_is_unhealthy_unless_excluded() {
    let served = Served::start().await;
    let raise = |kind| Command::AlarmRaise { node: NodeId(1), kind };
    served.node.state().store_command(&raise(AlarmKind::NoSpace));
    let (status, body) = get(&served, "/health").await;
    assert_eq!((status, body.as_str()), (503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"));
    assert_eq!(get(&served, "/health?exclude=NOSPACE").await.0, 200);
    assert_eq!(get(&served, "/readyz").await.0, 200);
    served.node.state().store_command(&raise(AlarmKind::Corrupt));
    let (status, body) = get(&served, "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.starts_with("[-]data_corruption failed: alarm activated: CORRUPT\n"), "{body}");
}
