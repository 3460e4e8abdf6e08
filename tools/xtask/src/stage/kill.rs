//! How long nobody takes writes when the leader is killed.

use super::cluster::Cluster;
use super::sides::{LOAD_LIMIT, number};
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

/// The longest time without a write in each round of killing the leader, in seconds.
pub(crate) fn leader_gaps(cluster: &mut Cluster<'_>, rounds: usize) -> Result<Vec<f64>> {
    // An open loop: a put that waits for a dead leader keeps no other waiting. What is not answered after two
    // seconds is given up, so that the load ends soon after its last put and its end is no gap.
    const PUTS: [&str; 9] =
        ["put", "--rate", "100", "--connections", "3", "--timeout", "2s", "--duration", "7s"];
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        let mut load = cluster.bench_in_background("bench", &PUTS)?;
        std::thread::sleep(Duration::from_secs(2));
        load.check_alive()?;
        let leader = cluster.leader()?;
        cluster.kill(leader)?;
        // Its code says that puts failed: those the dead member had.
        load.wait(LOAD_LIMIT)?;
        let report = load.output()?;
        let report: Value = serde_json::from_str(&report).with_context(|| format!("no report: {report}"))?;
        gaps.push(number(&report, "/gap_max_ms")? / 1_000.0);
        cluster.start(leader)?;
        cluster.wait_whole()?;
        // Votes count again, and what it missed is there.
        std::thread::sleep(Duration::from_secs(3));
    }
    Ok(gaps)
}
