//! Closed-loop clients over connections of their own, until the server is gone or they are told to end.

use super::op::{Attempt, Author, Fate, Op, value_of};
use crate::client::{Client, revision};
use quorate_proto::etcdserverpb as pb;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// Longest lease a load asks for: none ends by itself during a test.
const TTL_SECONDS: i64 = 100_000;

/// Keys a client writes to, over and over.
const KEYS_OF_CLIENT: u64 = 12;

/// Most keys of one transaction.
const TXN_KEYS_MAX: u64 = 6;

/// What a load looks like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Clients at once.
    pub clients: u64,
    /// Longest value in bytes; lengths are drawn below it.
    pub value_bytes_max: usize,
    /// Makes choices repeatable, as far as timing lets them be.
    pub seed: u64,
}

/// What has been promised so far, for a test that waits for it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Changes acknowledged.
    pub acknowledged: AtomicU64,
}

/// A running load.
pub struct Load {
    clients: JoinSet<Vec<Attempt>>,
    ending: Arc<AtomicBool>,
    /// Counts while it runs.
    pub tally: Arc<Tally>,
}

impl Load {
    /// Starts it: every client dials with its first change, so the server need not be ready. `round` keeps
    /// authors of different loads apart.
    #[must_use]
    pub fn start(endpoint: &str, round: u64, shape: Shape) -> Load {
        let (ending, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
        let mut clients = JoinSet::new();
        for number in 0..shape.clients {
            let worker = Worker {
                endpoint: endpoint.to_owned(),
                // Clients of all rounds share key ranges, so that rounds overwrite each other's values.
                slot: number,
                author: Author { client: round * 1_000 + number, sequence: 0 },
                random: SmallRng::seed_from_u64(shape.seed ^ (round << 16) ^ number),
                value_bytes_max: shape.value_bytes_max,
                leases: Vec::new(),
                attempts: Vec::new(),
            };
            clients.spawn(worker.run(Arc::clone(&ending), Arc::clone(&tally)));
        }
        Load { clients, ending, tally }
    }

    /// Lets each client finish what it asked for last, then ends it.
    pub fn end_soon(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// All attempts, once every client has ended: by `end_soon`, or because the server is gone.
    ///
    /// # Panics
    /// If a client was refused what a healthy server grants.
    pub async fn attempts(self) -> Vec<Attempt> {
        self.clients.join_all().await.concat()
    }
}

struct Worker {
    endpoint: String,
    slot: u64,
    author: Author,
    random: SmallRng,
    value_bytes_max: usize,
    /// Granted for sure and not yet asked to end.
    leases: Vec<i64>,
    attempts: Vec<Attempt>,
}

impl Worker {
    async fn run(mut self, ending: Arc<AtomicBool>, tally: Arc<Tally>) -> Vec<Attempt> {
        let mut client = Client::lazy(&self.endpoint).expect("a loopback URL");
        while !ending.load(Ordering::Relaxed) {
            let op = self.draw();
            let answer = self.ask(&mut client, &op).await;
            let fate = match answer {
                Ok(revision) => Fate::Acknowledged(revision),
                Err(status) => {
                    assert!(is_lost(&status), "{op:?} was refused: {status:?}");
                    Fate::Unknown
                }
            };
            self.note(&op, fate);
            self.attempts.push(Attempt { author: self.author, op, fate });
            self.author.sequence += 1;
            if fate == Fate::Unknown {
                break;
            }
            tally.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self.attempts
    }

    fn key(&mut self) -> String {
        format!("k/{:02}/{:02}", self.slot, self.random.random_range(0..KEYS_OF_CLIENT))
    }

    fn draw(&mut self) -> Op {
        let value_bytes = self.random.random_range(0..=self.value_bytes_max);
        match self.random.random_range(0..100) {
            0..60 => Op::Put { keys: vec![self.key()], lease: 0, value_bytes },
            60..80 => {
                let count = self.random.random_range(2..=TXN_KEYS_MAX);
                let first = self.random.random_range(0..KEYS_OF_CLIENT);
                let slot = self.slot;
                let key = |step| format!("k/{slot:02}/{:02}", (first + step) % KEYS_OF_CLIENT);
                Op::Put { keys: (0..count).map(key).collect(), lease: 0, value_bytes: value_bytes / 4 }
            }
            80..88 => {
                let (from, to) = (self.key(), format!("moved/{:02}", self.slot));
                Op::Move { from, to, value_bytes }
            }
            88..94 => match self.leases.last() {
                Some(&lease) => {
                    Op::Put { keys: vec![self.key(), self.key() + "/leased"], lease, value_bytes: 64 }
                }
                None => self.grant(),
            },
            94..97 => self.grant(),
            _ => match self.leases.pop() {
                Some(lease) => Op::Revoke { lease },
                None => self.grant(),
            },
        }
    }

    fn grant(&mut self) -> Op {
        Op::Grant { lease: self.random.random_range(1..i64::MAX) }
    }

    fn note(&mut self, op: &Op, fate: Fate) {
        if let (Op::Grant { lease }, Fate::Acknowledged(_)) = (op, fate) {
            self.leases.push(*lease);
        }
    }

    /// Asks for it; answers the revision the server promises.
    async fn ask(&self, client: &mut Client, op: &Op) -> Result<i64, Status> {
        let header = match op {
            Op::Put { keys, lease, value_bytes } if keys.len() == 1 => {
                let put = self.put(&keys[0], *lease, *value_bytes);
                client.kv.put(put).await?.into_inner().header
            }
            Op::Put { keys, lease, value_bytes } => {
                let puts = keys.iter().map(|key| in_txn(self.put(key, *lease, *value_bytes)));
                transact(client, puts.collect()).await?
            }
            Op::Move { from, to, value_bytes } => {
                let delete = pb::DeleteRangeRequest { key: from.clone().into(), ..Default::default() };
                let delete =
                    pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(delete)) };
                transact(client, vec![delete, in_txn(self.put(to, 0, *value_bytes))]).await?
            }
            Op::Revoke { lease } => {
                let revoke = pb::LeaseRevokeRequest { id: *lease };
                client.lease.lease_revoke(revoke).await?.into_inner().header
            }
            Op::Grant { lease } => {
                let grant = pb::LeaseGrantRequest { ttl: TTL_SECONDS, id: *lease };
                client.lease.lease_grant(grant).await?.into_inner().header
            }
        };
        Ok(revision(header))
    }

    fn put(&self, key: &str, lease: i64, value_bytes: usize) -> pb::PutRequest {
        let value = value_of(key, self.author, value_bytes);
        pb::PutRequest { key: key.to_owned().into(), value: value.into(), lease, ..Default::default() }
    }
}

fn in_txn(put: pb::PutRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

async fn transact(
    client: &mut Client,
    success: Vec<pb::RequestOp>,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let txn = pb::TxnRequest { success, ..Default::default() };
    Ok(client.kv.txn(txn).await?.into_inner().header)
}

/// Whether the answer was lost, as against refused: a dead server, or one that waited too long for its card.
fn is_lost(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
        || (status.code() == Code::DeadlineExceeded)
}
