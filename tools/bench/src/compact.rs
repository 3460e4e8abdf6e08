//! Compaction beside a load: what Kubernetes' API server does to its store every five minutes.

use anyhow::{Context, Result, anyhow};
use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::{CompactionRequest, RangeRequest};
use std::time::Duration;
use tonic::transport::Channel;

use crate::tally::print_status;

/// Compacts every `period` up to the newest revision, until `over` is done, and once more then. The last one
/// waits until the server has really removed the history.
///
/// # Errors
/// The server refused a compaction: figures taken with all the history would be others than were asked for.
pub(crate) async fn beside<T>(
    channel: Channel,
    period: Duration,
    over: impl Future<Output = T>,
) -> Result<T> {
    tokio::pin!(over);
    let mut compacted = 0;
    // Not a ticker: one that is late must not be followed by another at once.
    let outcome = loop {
        tokio::select! {
            outcome = &mut over => break outcome,
            () = tokio::time::sleep(period) => compacted = compact(&channel, compacted, false).await?,
        }
    };
    compact(&channel, compacted, true).await?;
    Ok(outcome)
}

/// Compacts up to the newest revision if that is above `compacted`; the revision it is compacted to now.
pub(crate) async fn compact(channel: &Channel, compacted: i64, physical: bool) -> Result<i64> {
    let mut client = KvClient::new(channel.clone());
    let newest = RangeRequest { key: vec![0].into(), count_only: true, ..RangeRequest::default() };
    let answer = client.range(newest).await.map_err(|status| anyhow!(print_status(&status)))?.into_inner();
    let revision = answer.header.context("an answer without a header")?.revision;
    if revision > compacted {
        let asked = client.compact(CompactionRequest { revision, physical }).await;
        asked.map_err(|status| anyhow!("compaction to revision {revision}: {}", print_status(&status)))?;
    }
    Ok(revision)
}
