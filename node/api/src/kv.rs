//! KV: keys.

use crate::convert::{self, OrStatus};
use crate::error::{answer_mismatch, request_too_large};
use crate::{Answer, Backend, Read, ReadOutcome};
use prost::Message;
use quorate_proto::etcdserverpb as pb;
use quorate_store::{Command, Outcome};
use quorate_types::{Revision, limits};
use tonic::{Request, Response, Status};

/// etcd's KV service over a node.
#[derive(Debug, Clone)]
pub(crate) struct KvService<B> {
    backend: B,
}

impl<B: Backend> KvService<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend }
    }

    fn header<T>(&self, answer: &Answer<T>) -> pb::ResponseHeader {
        convert::header(self.backend.identity(), answer.revision, answer.term)
    }
}

#[tonic::async_trait]
impl<B: Backend> pb::kv_server::Kv for KvService<B> {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let wire = request.into_inner();
        let linearizable = !wire.serializable;
        let range = convert::range_request(wire).or_status()?;
        let answer = self.backend.read(Read::Range(range), linearizable).await.or_status()?;
        let header = self.header(&answer);
        let ReadOutcome::Range(outcome) = answer.value else { return Err(answer_mismatch()) };
        Ok(Response::new(convert::range_response(outcome, header)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let wire = request.into_inner();
        let bytes = wire.encoded_len();
        let put = convert::put(wire);
        quorate_store::request_check::check_put(&put).or_status()?;
        check_size(bytes)?;
        let answer = self.backend.propose(Command::Put(put)).await.or_status()?;
        let header = self.header(&answer);
        let Outcome::Put { prev_kv } = answer.value else { return Err(answer_mismatch()) };
        Ok(Response::new(convert::put_response(prev_kv, header)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let wire = request.into_inner();
        let bytes = wire.encoded_len();
        let delete = convert::delete_range(wire);
        quorate_store::request_check::check_delete(&delete).or_status()?;
        check_size(bytes)?;
        let answer = self.backend.propose(Command::DeleteRange(delete)).await.or_status()?;
        let header = self.header(&answer);
        let Outcome::DeleteRange { deleted, prev_kvs } = answer.value else { return Err(answer_mismatch()) };
        Ok(Response::new(convert::delete_range_response(deleted, prev_kvs, header)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let wire = request.into_inner();
        let bytes = wire.encoded_len();
        let read_only = convert::txn_is_read_only(&wire);
        let linearizable = !convert::txn_is_serializable(&wire);
        let txn = convert::txn(wire).or_status()?;
        quorate_store::request_check::check_txn(&txn).or_status()?;
        if read_only {
            let answer = self.backend.read(Read::Txn(txn), linearizable).await.or_status()?;
            let header = self.header(&answer);
            let ReadOutcome::Txn(outcome) = answer.value else { return Err(answer_mismatch()) };
            return Ok(Response::new(convert::txn_response(outcome, header)?));
        }
        check_size(bytes)?;
        let answer = self.backend.propose(Command::Txn(txn)).await.or_status()?;
        let header = self.header(&answer);
        Ok(Response::new(convert::txn_response(answer.value, header)?))
    }

    /// `physical` asks to wait for the space: it is free at once here, bounded sweeps aside.
    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let revision = Revision(request.into_inner().revision);
        let answer = self.backend.propose(Command::Compact(revision)).await.or_status()?;
        let header = self.header(&answer);
        let Outcome::Compact = answer.value else { return Err(answer_mismatch()) };
        Ok(Response::new(pb::CompactionResponse { header: Some(header) }))
    }
}

/// etcd compares the limit with the request as it would enter the log, so it counts what it adds there.
fn check_size(request_bytes: usize) -> Result<(), Status> {
    if request_bytes + PROPOSAL_BYTES_ADDED > limits::REQUEST_BYTES_MAX {
        return Err(request_too_large());
    }
    Ok(())
}

/// Bytes etcd's own framing adds to a request on its way into the log: an id and lengths.
const PROPOSAL_BYTES_ADDED: usize = 18;
