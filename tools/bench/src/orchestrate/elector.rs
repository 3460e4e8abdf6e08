//! One leadership, held as client-go's leader election holds it.

use super::{PREFIX, World, ask};
use bytes::Bytes;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

/// Between two renewals, and between two tries of one.
const PERIOD: Duration = Duration::from_secs(2);
/// A leadership is given up so long after its last renewal.
const DEADLINE: Duration = Duration::from_secs(10);
/// Half of the deadline: what a renewal should never take.
const LATE: Duration = Duration::from_secs(5);
const OBJECT_BYTES: usize = 512;

pub(super) async fn hold(world: Arc<World>, number: u32) {
    let key = format!("{PREFIX}leases/lease-{number:05}");
    let mut server = usize::try_from(number).unwrap_or(0);
    let mut due = world.phase(u64::from(number), PERIOD);
    let (mut renewed, mut is_lost) = (Instant::now(), false);
    while world.wait_until(due).await {
        let mut tried = due;
        // Tries until it is through, each two seconds after the last, with another server.
        loop {
            let began = Instant::now();
            match renew(world.channel(server), &key).await {
                Ok(()) => {
                    renewed = began;
                    break;
                }
                Err(status) => world.failed("renewal", &status),
            }
            if renewed.elapsed() > DEADLINE && !is_lost {
                is_lost = true;
                world.count(|counts| counts.lost += 1);
            }
            server += 1;
            tried = Instant::now().max(tried + PERIOD);
            if !world.wait_until(tried).await {
                // It is late all the same, if only by what the run had left.
                break;
            }
        }
        let took = due.elapsed();
        is_lost = false;
        world.count(|counts| {
            counts.renewals.record(took);
            counts.late += u64::from(took > LATE);
        });
        due = Instant::now().max(due + PERIOD);
    }
}

/// Reads the object and replaces it if nobody else did meanwhile.
async fn renew(channel: Channel, key: &str) -> Result<(), Status> {
    let mut client = KvClient::new(channel);
    let key = Bytes::from(key.to_owned());
    let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let seen = ask(client.range(range)).await?.kvs.first().map_or(0, |kv| kv.mod_revision);
    let unchanged = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(seen)),
        ..Compare::default()
    };
    let put = PutRequest { key, value: Bytes::from(vec![b'l'; OBJECT_BYTES]), ..PutRequest::default() };
    let success = vec![RequestOp { request: Some(Request::RequestPut(put)) }];
    let txn = TxnRequest { compare: vec![unchanged], success, ..TxnRequest::default() };
    if ask(client.txn(txn)).await?.succeeded {
        return Ok(());
    }
    // Its own earlier try went through after it had been given up.
    Err(Status::aborted("replaced meanwhile"))
}
