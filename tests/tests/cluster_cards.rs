//! What the nodes of a real cluster tell of their cards.

use quorate_tests::cluster::{Cluster, Shape, missing};
use quorate_tests::program::Program;
use quorate_tests::trial::turn;
use serde_json::Value;

/// Enough appends for a median, of late.
const PUT_COUNT: u32 = 30;

/// What `quorate … --json` prints at that node.
fn quorate(cluster: &Cluster, number: usize, arguments: &[&str]) -> Value {
    let output = cluster.quorate(number, arguments);
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// The members whose cards that node knows, by name.
fn cards_known(cluster: &Cluster, number: usize) -> Vec<String> {
    let seen = quorate(cluster, number, &["member", "list", "--json"]);
    let members = seen["members"].as_array().expect("members are listed");
    let known = members.iter().filter(|member| member["card_write_ms"].is_u64());
    known.map(|member| member["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_knows_every_card_and_each_node_its_own() {
    let program = Program::quorated();
    if let Some(reason) = missing(&program) {
        eprintln!("skipped: {reason}");
        return;
    }
    let _turn = turn();
    let cluster = Cluster::start(Shape::new(program, 3)).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader);
    for number in 0..PUT_COUNT {
        client.put(format!("key/{number}"), vec![b'v'; 100]).await.unwrap();
    }
    cluster.wait("the leader knows three cards", async || cards_known(&cluster, leader).len() == 3).await;
    let follower = cluster.members_running().find(|number| *number != leader).unwrap();
    let own = cluster.name(follower).to_owned();
    cluster.wait("a follower knows its own", async || cards_known(&cluster, follower) == [own.clone()]).await;
    let status = quorate(&cluster, leader, &["status", "--json"]);
    let written = status[0]["card"]["bytes_written"].as_f64().unwrap();
    assert!(written >= f64::from(PUT_COUNT) * 100.0, "{status}");
    assert!(status[0]["wear"]["days_of_a_new_card"].is_null(), "it runs for less than an hour: {status}");
}
