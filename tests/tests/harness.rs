//! The harness itself: servers start, are killed, stopped and started again, and keep what they promised.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::client::Client;
use quorate_tests::program::Program;
use quorate_tests::server::{Options, Server};
use quorate_tests::skip;

async fn put_and_get_again(options: Options) {
    let mut server = Server::start(options);
    let mut client = Client::lazy(&server.endpoint()).unwrap();
    client.put("k", "1").await.unwrap();
    server.kill();
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await.unwrap();
    assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"1"[..]));
    client.put("k", "2").await.unwrap();
    let status = server.terminate();
    assert!(!server.log().is_empty());
    if matches!(status.code(), Some(code) if code != 0) {
        panic!("{status}\n{}", server.last_lines());
    }
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await.unwrap();
    assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert!(server.metric("process_resident_memory_bytes").unwrap() > 0.0);
}

#[tokio::test]
async fn a_node_starts_again_where_it_was() {
    put_and_get_again(Options::new(Program::quorated())).await;
}

#[tokio::test]
async fn an_etcd_starts_again_where_it_was() {
    let Some(etcd) = Program::etcd() else { skip!("no etcd in /usr/bin, none named by ETCD") };
    put_and_get_again(Options::new(etcd).in_memory()).await;
}
