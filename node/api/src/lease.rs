//! Lease: time-bounded ownership of keys.

use crate::convert::{self, OrStatus};
use crate::error::{answer_mismatch, in_etcd_words, status_of};
use crate::life::{Ending, Life, StreamOf};
use crate::{Answer, Backend, Read, ReadOutcome, Refusal};
use futures_util::stream;
use quorate_proto::etcdserverpb as pb;
use quorate_store::{Command, Outcome, StoreError};
use quorate_types::LeaseId;
use tonic::{Request, Response, Status, Streaming};

/// etcd's Lease service over a node.
#[derive(Debug, Clone)]
pub(crate) struct LeaseService<B> {
    backend: B,
    life: Life,
}

impl<B: Backend> LeaseService<B> {
    pub(crate) fn new(backend: B, life: Life) -> Self {
        Self { backend, life }
    }

    fn header<T>(&self, answer: &Answer<T>) -> pb::ResponseHeader {
        convert::header(self.backend.identity(), answer.revision, answer.term)
    }

    /// An id for a client that leaves the choice to us is drawn at random; that it is taken already is
    /// all but impossible and then not the client's matter.
    async fn grant(&self, id: LeaseId, ttl_seconds: i64) -> Result<Answer<Outcome>, Refusal> {
        if id.is_some() {
            return self.backend.propose(Command::LeaseGrant { id, ttl_seconds }).await;
        }
        let mut answer = Err(Refusal::Store(StoreError::LeaseExists));
        for _ in 0..DRAWS_MAX {
            answer = self.backend.propose(Command::LeaseGrant { id: draw()?, ttl_seconds }).await;
            if !matches!(answer, Err(Refusal::Store(StoreError::LeaseExists))) {
                break;
            }
        }
        answer
    }

    /// One renewal. A lease that is not there is no error: its time is zero.
    async fn keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        match self.backend.lease_keep_alive(LeaseId(id)).await {
            Ok(answer) => {
                Ok(pb::LeaseKeepAliveResponse { header: Some(self.header(&answer)), id, ttl: answer.value })
            }
            Err(Refusal::Store(StoreError::LeaseNotFound)) => {
                let status = self.backend.status();
                let header = convert::header(status.identity, status.revision, status.term);
                Ok(pb::LeaseKeepAliveResponse { header: Some(header), id, ttl: 0 })
            }
            Err(refusal) => Err(status_of(refusal)),
        }
    }
}

#[tonic::async_trait]
impl<B: Backend> pb::lease_server::Lease for LeaseService<B> {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let wire = request.into_inner();
        let answer = self.grant(LeaseId(wire.id), wire.ttl).await.or_status()?;
        let header = self.header(&answer);
        let Outcome::LeaseGrant { id, ttl_seconds } = answer.value else { return Err(answer_mismatch()) };
        Ok(Response::new(pb::LeaseGrantResponse {
            header: Some(header),
            id: id.0,
            ttl: ttl_seconds,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let id = LeaseId(request.into_inner().id);
        let answer = self.backend.propose(Command::LeaseRevoke(id)).await.or_status()?;
        let header = self.header(&answer);
        let Outcome::LeaseRevoke = answer.value else { return Err(answer_mismatch()) };
        Ok(Response::new(pb::LeaseRevokeResponse { header: Some(header) }))
    }

    type LeaseKeepAliveStream = StreamOf<pb::LeaseKeepAliveResponse>;

    /// Answers one request after the other, so that a client's renewals cannot fill the node's queue.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let end = self.life.stream_end(&request);
        let answers =
            stream::try_unfold((self.clone(), request.into_inner()), |(service, mut inbound)| async {
                let Some(wire) = inbound.message().await.map_err(in_etcd_words)? else { return Ok(None) };
                let answer = service.keep_alive(wire.id).await?;
                Ok(Some((answer, (service, inbound))))
            });
        Ok(Response::new(Ending::boxed(answers, end)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let wire = request.into_inner();
        let read = Read::Lease { id: LeaseId(wire.id), keys: wire.keys };
        let answer = self.backend.read(read, true).await.or_status()?;
        let header = Some(self.header(&answer));
        let ReadOutcome::Lease(found) = answer.value else { return Err(answer_mismatch()) };
        Ok(Response::new(match found {
            None => {
                pb::LeaseTimeToLiveResponse { header, id: wire.id, ttl: -1, granted_ttl: 0, keys: Vec::new() }
            }
            Some(found) => pb::LeaseTimeToLiveResponse {
                header,
                id: wire.id,
                ttl: found.remaining_seconds,
                granted_ttl: found.lease.ttl_seconds,
                keys: found.lease.keys.into_iter().map(quorate_proto::shared_bytes).collect(),
            },
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let answer = self.backend.read(Read::Leases, true).await.or_status()?;
        let header = self.header(&answer);
        let ReadOutcome::Leases(ids) = answer.value else { return Err(answer_mismatch()) };
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: Some(header), leases }))
    }
}

/// A random positive id.
fn draw() -> Result<LeaseId, Refusal> {
    let number =
        getrandom::u64().map_err(|_| Refusal::Unsupported("quorate: no random numbers to be had"))?;
    Ok(LeaseId(i64::try_from(number >> 1).unwrap_or(i64::MAX).max(1)))
}

/// Draws of a free lease id before the client is told that it exists already.
const DRAWS_MAX: usize = 8;
