//! `bench get`.

use crate::endpoint::EndpointArgs;
use crate::keys::KeySpace;
use crate::load::{self, LoadArgs};
use crate::report::Report;
use anyhow::{Context, Result};
use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::{PutRequest, RangeRequest};
use std::sync::Arc;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Clients that write the keys before they are read.
const FILLER_COUNT: u64 = 64;

/// Arguments of `bench get`.
#[derive(Debug, Clone, clap::Args)]
pub struct GetArgs {
    /// Where the servers are.
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// How hard, how long.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What every key begins with
    #[arg(long, default_value = "quorate-bench/", value_name = "TEXT")]
    pub prefix: String,
    /// Bytes of a key, the prefix included
    #[arg(long, default_value_t = 32, value_name = "BYTES")]
    pub key_size: usize,
    /// Bytes of a value that --fill writes
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub value_size: usize,
    /// Number of keys, read at random
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub keys: u64,
    /// Write all keys first; without it, reads of keys that are not there are fast and say little
    #[arg(long)]
    pub fill: bool,
    /// Let any node answer from what it has, without asking whether it is the newest
    #[arg(long)]
    pub serializable: bool,
}

/// Gets, and reports.
///
/// # Errors
/// No server answers at the start, or a key cannot be written. Gets that fail are counted.
pub async fn get(args: &GetArgs) -> Result<Report> {
    let seed = args.load.seed();
    let space = Arc::new(KeySpace {
        prefix: args.prefix.clone(),
        key_bytes: args.key_size,
        value_bytes: args.value_size,
        key_count: args.keys,
        seed,
    });
    space.check()?;
    let channels = args.endpoint.connect(args.load.connection_count()).await?;
    let (connections, members) = (channels.len(), args.endpoint.urls()?.len());
    if args.fill {
        fill(&space, &channels).await.context("the keys could not be written")?;
    }
    let serializable = args.serializable;
    let tally = {
        let space = Arc::clone(&space);
        load::run(&args.load, seed, channels, members, move |channel, number| {
            let key = space.key(space.key_number(number)).into();
            async move {
                let request = RangeRequest { key, serializable, ..RangeRequest::default() };
                KvClient::new(channel).max_decoding_message_size(usize::MAX).range(request).await?;
                Ok(())
            }
        })
        .await?
    };
    let mut report = Report::new("get", args.endpoint.urls()?, &args.load, seed, &tally);
    report.connections = connections;
    (report.key_bytes, report.value_bytes, report.key_count) =
        (space.key_bytes, space.value_bytes, space.key_count);
    Ok(report)
}

/// Writes every key of the space once.
async fn fill(space: &Arc<KeySpace>, channels: &[Channel]) -> Result<()> {
    let mut fillers = JoinSet::new();
    for (first, channel) in (0..FILLER_COUNT).zip(channels.iter().cycle()) {
        let (space, channel) = (Arc::clone(space), channel.clone());
        fillers.spawn(async move {
            let mut client = KvClient::new(channel);
            let mut key_number = first;
            while key_number < space.key_count {
                let (key, value) = (space.key(key_number).into(), space.value(key_number));
                client.put(PutRequest { key, value, ..PutRequest::default() }).await?;
                key_number += FILLER_COUNT;
            }
            Ok::<(), tonic::Status>(())
        });
    }
    while let Some(filler) = fillers.join_next().await {
        filler??;
    }
    Ok(())
}
