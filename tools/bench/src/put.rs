//! `bench put`.

use crate::compact;
use crate::device::{Meter, block_device_meter};
use crate::endpoint::EndpointArgs;
use crate::keys::KeySpace;
use crate::load::{self, LoadArgs};
use crate::record::RecordWriter;
use crate::report::Report;
use anyhow::Result;
use quorate_proto::etcdserverpb::PutRequest;
use quorate_proto::etcdserverpb::kv_client::KvClient;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// Arguments of `bench put`.
#[derive(Debug, Clone, clap::Args)]
pub struct PutArgs {
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
    /// Bytes of a value
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub value_size: usize,
    /// Number of keys, written at random; 0 gives each put a key of its own
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub keys: u64,
    /// Count bytes and flushes of the block device the server's folder is on, e.g. /dev/mmcblk0
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Append every attempt and every acknowledgement to FILE, for `quorate bench verify`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Compact the history that often up to the newest revision, and once more at the end
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub compact_every: Option<Duration>,
}

impl PutArgs {
    fn space(&self, seed: u64) -> KeySpace {
        KeySpace {
            prefix: self.prefix.clone(),
            key_bytes: self.key_size,
            value_bytes: self.value_size,
            key_count: self.keys,
            seed,
        }
    }
}

/// Puts, and reports. `meter` counts what the card does if `--device` is not given.
///
/// # Errors
/// No server answers at the start, or arguments that cannot work together. Puts that fail are counted.
pub async fn put(args: &PutArgs, meter: Option<Meter>) -> Result<Report> {
    let seed = args.load.seed();
    let space = Arc::new(args.space(seed));
    space.check()?;
    let meter = match &args.device {
        Some(device) => Some(block_device_meter(device)?),
        None => meter,
    };
    let record = args.record.as_deref().map(|path| RecordWriter::open(path, &space)).transpose()?;
    let channels = args.endpoint.connect(args.load.connection_count()).await?;
    let (connections, members) = (channels.len(), args.endpoint.urls()?.len());
    let before = meter.as_ref().map(|meter| meter()).transpose()?;
    let compactor = channels.first().cloned().zip(args.compact_every);
    let load = {
        let (space, record) = (Arc::clone(&space), Arc::new(record));
        load::run(&args.load, seed, channels, members, move |channel, number| {
            let (space, record) = (Arc::clone(&space), Arc::clone(&record));
            async move {
                let key_number = space.key_number(number);
                let request = PutRequest {
                    key: space.key(key_number).into(),
                    value: space.value(number),
                    ..PutRequest::default()
                };
                if let Some(record) = &*record {
                    record
                        .attempt(number, key_number)
                        .map_err(|error| Status::internal(error.to_string()))?;
                }
                let answer = KvClient::new(channel).put(request).await?.into_inner();
                if let Some(record) = &*record {
                    let header =
                        answer.header.ok_or_else(|| Status::internal("an answer without a header"))?;
                    record
                        .acknowledge(number, header.revision)
                        .map_err(|error| Status::internal(error.to_string()))?;
                }
                Ok(())
            }
        })
    };
    let tally = match compactor {
        Some((channel, period)) => compact::beside(channel, period, load).await??,
        None => load.await?,
    };
    let mut report = Report::new("put", args.endpoint.urls()?, &args.load, seed, &tally);
    report.connections = connections;
    (report.key_bytes, report.value_bytes, report.key_count) =
        (space.key_bytes, space.value_bytes, space.key_count);
    if let (Some(meter), Some(before)) = (&meter, before) {
        report.set_device(meter()?.since(before));
    }
    Ok(report)
}
