//! A client that keeps a lease alive through whichever member answers, as clients with several endpoints do.

use crate::client::Client;
use quorate_proto::etcdserverpb as pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// One renewal waits this long before another member is asked.
const PATIENCE: Duration = Duration::from_millis(700);
const REST: Duration = Duration::from_millis(300);

/// A lease, kept alive until this is dropped.
#[derive(Debug)]
pub struct Keeper {
    /// The lease.
    pub lease: i64,
    renewals: Arc<AtomicU64>,
    gone: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Grants a lease through the first member that answers and keeps it alive through all of them.
    ///
    /// # Errors
    /// If no member grants it.
    pub async fn grant(endpoints: Vec<String>, ttl: i64) -> Result<Keeper, Status> {
        let lease = grant(&endpoints, ttl).await?;
        let (renewals, gone) = (Arc::default(), Arc::default());
        let task = tokio::spawn(keep(lease, endpoints, Arc::clone(&renewals), Arc::clone(&gone)));
        Ok(Keeper { lease, renewals, gone, task })
    }

    /// Renewals answered with a time to live.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    /// Renewals answered with none: the lease is said to be gone.
    #[must_use]
    pub fn gone(&self) -> u64 {
        self.gone.load(Ordering::Relaxed)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A lease that nobody keeps alive.
///
/// # Errors
/// If no member grants it.
pub async fn grant(endpoints: &[String], ttl: i64) -> Result<i64, Status> {
    let mut last = Status::unavailable("no member to ask");
    for endpoint in endpoints {
        let mut client = Client::lazy(endpoint).expect("a URL");
        let grant = client.lease.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 });
        match tokio::time::timeout(PATIENCE * 4, grant).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner().id),
            Ok(Err(status)) => last = status,
            Err(_) => last = Status::deadline_exceeded(endpoint.clone()),
        }
    }
    Err(last)
}

async fn keep(lease: i64, endpoints: Vec<String>, renewals: Arc<AtomicU64>, gone: Arc<AtomicU64>) {
    let mut member = 0;
    loop {
        // A stream serves until it fails; then the next member's turn comes.
        let mut client = Client::lazy(&endpoints[member]).expect("a URL");
        let _ended: Option<Status> = renew(lease, &mut client, &renewals, &gone).await.err();
        member = (member + 1) % endpoints.len();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn renew(
    lease: i64,
    client: &mut Client,
    renewals: &AtomicU64,
    gone: &AtomicU64,
) -> Result<(), Status> {
    let (requests, outgoing) = mpsc::channel(1);
    let late = |_| Status::deadline_exceeded("a renewal was not answered");
    let send = async || requests.send(pb::LeaseKeepAliveRequest { id: lease }).await;
    let gave_up = |_| Status::unavailable("the stream is gone");
    send().await.map_err(gave_up)?;
    let open = client.lease.lease_keep_alive(ReceiverStream::new(outgoing));
    let mut answers = tokio::time::timeout(PATIENCE, open).await.map_err(late)??.into_inner();
    loop {
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.map_err(late)??;
        let Some(answer) = answer else { return Ok(()) };
        if answer.ttl > 0 {
            renewals.fetch_add(1, Ordering::Relaxed);
        } else {
            gone.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(REST).await;
        send().await.map_err(gave_up)?;
    }
}
