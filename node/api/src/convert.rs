//! Wire messages to the store's words and back. Enum numbers the wire does not name are judged here;
//! everything else about a request is judged by the store room's checks, in etcd's order.

use crate::error::{answer_mismatch, status_of_store};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::{mvccpb, shared_bytes};
use quorate_store::{
    Compare, CompareOperator, CompareTarget, DeleteRange, KeyRange, KeyValue, Outcome, Put, RangeOutcome,
    RangeRequest, SortOrder, SortTarget, StoreError, Txn, TxnOperation,
};
use quorate_types::{Identity, LeaseId, Revision, limits};
use tonic::Status;

/// What stands in every answer.
pub(crate) fn header(identity: Identity, revision: Revision, term: u64) -> pb::ResponseHeader {
    pb::ResponseHeader {
        cluster_id: identity.cluster.0,
        member_id: identity.node.0,
        revision: revision.0,
        raft_term: term,
    }
}

/// A read. Refused: no key, an unknown sort number; in this order, as etcd.
pub(crate) fn range_request(wire: pb::RangeRequest) -> Result<RangeRequest, StoreError> {
    if wire.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    let order = match pb::range_request::SortOrder::try_from(wire.sort_order) {
        Ok(pb::range_request::SortOrder::None) => SortOrder::None,
        Ok(pb::range_request::SortOrder::Ascend) => SortOrder::Ascend,
        Ok(pb::range_request::SortOrder::Descend) => SortOrder::Descend,
        Err(_) => return Err(StoreError::InvalidSortOption),
    };
    let target = match pb::range_request::SortTarget::try_from(wire.sort_target) {
        Ok(pb::range_request::SortTarget::Key) => SortTarget::Key,
        Ok(pb::range_request::SortTarget::Version) => SortTarget::Version,
        Ok(pb::range_request::SortTarget::Create) => SortTarget::Create,
        Ok(pb::range_request::SortTarget::Mod) => SortTarget::Mod,
        Ok(pb::range_request::SortTarget::Value) => SortTarget::Value,
        Err(_) => return Err(StoreError::InvalidSortOption),
    };
    Ok(RangeRequest {
        range: KeyRange::from_wire(wire.key.to_vec(), wire.range_end.to_vec()),
        limit: wire.limit,
        revision: wire.revision,
        order,
        target,
        keys_only: wire.keys_only,
        count_only: wire.count_only,
        mod_revision_min: wire.min_mod_revision,
        mod_revision_max: wire.max_mod_revision,
        create_revision_min: wire.min_create_revision,
        create_revision_max: wire.max_create_revision,
    })
}

/// A write; the bytes are copied once, out of the connection's buffer.
pub(crate) fn put(wire: pb::PutRequest) -> Put {
    Put {
        key: wire.key.to_vec(),
        value: wire.value.to_vec(),
        lease: LeaseId(wire.lease),
        prev_kv: wire.prev_kv,
        ignore_value: wire.ignore_value,
        ignore_lease: wire.ignore_lease,
    }
}

/// A deletion.
pub(crate) fn delete_range(wire: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        range: KeyRange::from_wire(wire.key.to_vec(), wire.range_end.to_vec()),
        prev_kv: wire.prev_kv,
    }
}

/// A transaction. What is checked here, while walking it as etcd does: the number of operations, which
/// nested transactions share, then compares' keys, then each operation in order, an empty one among them.
/// Puts that meet are left to the store's check.
pub(crate) fn txn(wire: pb::TxnRequest) -> Result<Txn, StoreError> {
    txn_within(wire, limits::TXN_OPERATIONS_MAX)
}

fn txn_within(wire: pb::TxnRequest, operations_max: usize) -> Result<Txn, StoreError> {
    let operations = wire.compare.len().max(wire.success.len()).max(wire.failure.len());
    let left = operations_max.checked_sub(operations).ok_or(StoreError::TooManyOperations)?;
    let compares = wire.compare.into_iter().map(compare).collect::<Result<_, _>>()?;
    let branch = |branch: Vec<pb::RequestOp>| {
        branch.into_iter().map(|operation| txn_operation(operation, left)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Txn { compares, success: branch(wire.success)?, failure: branch(wire.failure)? })
}

fn txn_operation(wire: pb::RequestOp, operations_max: usize) -> Result<TxnOperation, StoreError> {
    match wire.request {
        Some(pb::request_op::Request::RequestRange(range)) => Ok(TxnOperation::Range(range_request(range)?)),
        Some(pb::request_op::Request::RequestPut(wire)) => {
            let put = put(wire);
            quorate_store::request_check::check_put(&put)?;
            Ok(TxnOperation::Put(put))
        }
        Some(pb::request_op::Request::RequestDeleteRange(wire)) => {
            let delete = delete_range(wire);
            quorate_store::request_check::check_delete(&delete)?;
            Ok(TxnOperation::DeleteRange(delete))
        }
        Some(pb::request_op::Request::RequestTxn(txn)) => {
            Ok(TxnOperation::Txn(txn_within(txn, operations_max)?))
        }
        // etcd's word for an operation that asks nothing.
        None => Err(StoreError::KeyNotFound),
    }
}

/// One condition. The target decides which figure counts; one that was not given counts as zero. Numbers
/// the wire does not name are no error in etcd: an unknown result always holds, an unknown target
/// compares equal. Both become a compare of the version, which is never negative, that has that outcome. An
/// unknown result still needs a value to be there to be compared.
fn compare(wire: pb::Compare) -> Result<Compare, StoreError> {
    use pb::compare::{CompareResult, CompareTarget as Target, TargetUnion};
    if wire.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    const HOLDS: (CompareOperator, CompareTarget) =
        (CompareOperator::Greater, CompareTarget::Version(i64::MIN));
    const FAILS: (CompareOperator, CompareTarget) = (CompareOperator::Less, CompareTarget::Version(i64::MIN));
    let operator = match CompareResult::try_from(wire.result) {
        Ok(CompareResult::Equal) => Some(CompareOperator::Equal),
        Ok(CompareResult::Greater) => Some(CompareOperator::Greater),
        Ok(CompareResult::Less) => Some(CompareOperator::Less),
        Ok(CompareResult::NotEqual) => Some(CompareOperator::NotEqual),
        Err(_) => None,
    };
    let given = wire.target_union;
    let target = match Target::try_from(wire.target) {
        Ok(Target::Version) => Some(CompareTarget::Version(match given {
            Some(TargetUnion::Version(number)) => number,
            _ => 0,
        })),
        Ok(Target::Create) => Some(CompareTarget::Create(match given {
            Some(TargetUnion::CreateRevision(number)) => number,
            _ => 0,
        })),
        Ok(Target::Mod) => Some(CompareTarget::Mod(match given {
            Some(TargetUnion::ModRevision(number)) => number,
            _ => 0,
        })),
        Ok(Target::Value) => Some(CompareTarget::Value(match given {
            Some(TargetUnion::Value(bytes)) => bytes.to_vec(),
            _ => Vec::new(),
        })),
        Ok(Target::Lease) => Some(CompareTarget::Lease(match given {
            Some(TargetUnion::Lease(number)) => number,
            _ => 0,
        })),
        Err(_) => None,
    };
    let (operator, target) = match (operator, target) {
        (Some(operator), Some(target)) => (operator, target),
        (None, Some(CompareTarget::Value(_))) => (CompareOperator::Greater, CompareTarget::Version(0)),
        (None, _) | (Some(CompareOperator::Equal), None) => HOLDS,
        (Some(CompareOperator::Greater | CompareOperator::Less | CompareOperator::NotEqual), None) => FAILS,
    };
    Ok(Compare { range: KeyRange::from_wire(wire.key.to_vec(), wire.range_end.to_vec()), operator, target })
}

/// Whether etcd would answer it without a word in the log: only ranges in both branches, none nested.
pub(crate) fn txn_is_read_only(wire: &pb::TxnRequest) -> bool {
    operations(wire)
        .all(|operation| matches!(operation.request, Some(pb::request_op::Request::RequestRange(_))))
}

/// Whether a read-only transaction may be answered without asking the other members: every range of it
/// says so. One without operations asks for nothing.
pub(crate) fn txn_is_serializable(wire: &pb::TxnRequest) -> bool {
    operations(wire).all(|operation| match &operation.request {
        Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

fn operations(wire: &pb::TxnRequest) -> impl Iterator<Item = &pb::RequestOp> {
    wire.success.iter().chain(&wire.failure)
}

/// A key, sharing the store's bytes.
pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: shared_bytes(kv.key),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value.into(),
        lease: kv.lease.0,
    }
}

pub(crate) fn range_response(outcome: RangeOutcome, header: pb::ResponseHeader) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: outcome.kvs.into_iter().map(key_value).collect(),
        more: outcome.more,
        count: outcome.count,
    }
}

pub(crate) fn put_response(prev_kv: Option<KeyValue>, header: pb::ResponseHeader) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: prev_kv.map(key_value) }
}

pub(crate) fn delete_range_response(
    deleted: i64,
    prev_kvs: Vec<KeyValue>,
    header: pb::ResponseHeader,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted,
        prev_kvs: prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// A transaction's answer. Inner headers carry a revision only, as etcd's do: that of the store as the
/// operation saw it, which is one more from the first change of the transaction on; a nested
/// transaction's is empty.
pub(crate) fn txn_response(outcome: Outcome, header: pb::ResponseHeader) -> Result<pb::TxnResponse, Status> {
    let Outcome::Txn { succeeded, outcomes } = outcome else { return Err(answer_mismatch()) };
    let changes = outcomes.iter().any(changes_a_key);
    let mut seen = Seen { before: header.revision - i64::from(changes), changed: false };
    let responses = outcomes.into_iter().map(|one| response_op(one, &mut seen)).collect::<Result<_, _>>()?;
    Ok(pb::TxnResponse { header: Some(header), succeeded, responses })
}

/// What the operations of a transaction see of the store's revision, one after the other.
struct Seen {
    /// The revision the transaction started from.
    before: i64,
    /// Whether one of its operations has changed a key by now.
    changed: bool,
}

impl Seen {
    fn header(&self) -> pb::ResponseHeader {
        pb::ResponseHeader { revision: self.before + i64::from(self.changed), ..Default::default() }
    }
}

fn response_op(outcome: Outcome, seen: &mut Seen) -> Result<pb::ResponseOp, Status> {
    use pb::response_op::Response;
    let response = match outcome {
        Outcome::Range(range) => Response::ResponseRange(range_response(range, seen.header())),
        Outcome::Put { prev_kv } => {
            seen.changed = true;
            Response::ResponsePut(put_response(prev_kv, seen.header()))
        }
        Outcome::DeleteRange { deleted, prev_kvs } => {
            seen.changed |= deleted > 0;
            Response::ResponseDeleteRange(delete_range_response(deleted, prev_kvs, seen.header()))
        }
        Outcome::Txn { succeeded, outcomes } => {
            let responses =
                outcomes.into_iter().map(|one| response_op(one, seen)).collect::<Result<_, _>>()?;
            let header = Some(pb::ResponseHeader::default());
            Response::ResponseTxn(pb::TxnResponse { header, succeeded, responses })
        }
        Outcome::Compact
        | Outcome::LeaseGrant { .. }
        | Outcome::LeaseRevoke
        | Outcome::LeaseExpire { .. }
        | Outcome::Alarms(_)
        | Outcome::InviteAdd { .. }
        | Outcome::InviteTake(_)
        | Outcome::InviteRevoke { .. } => return Err(answer_mismatch()),
    };
    Ok(pb::ResponseOp { response: Some(response) })
}

fn changes_a_key(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Put { .. } => true,
        Outcome::DeleteRange { deleted, .. } => *deleted > 0,
        Outcome::Txn { outcomes, .. } => outcomes.iter().any(changes_a_key),
        Outcome::Range(_)
        | Outcome::Compact
        | Outcome::LeaseGrant { .. }
        | Outcome::LeaseRevoke
        | Outcome::LeaseExpire { .. }
        | Outcome::Alarms(_)
        | Outcome::InviteAdd { .. }
        | Outcome::InviteTake(_)
        | Outcome::InviteRevoke { .. } => false,
    }
}

/// For `?` on the store's checks.
pub(crate) trait OrStatus<T> {
    /// The value, or the refusal as a status.
    fn or_status(self) -> Result<T, Status>;
}

impl<T> OrStatus<T> for Result<T, StoreError> {
    fn or_status(self) -> Result<T, Status> {
        self.map_err(status_of_store)
    }
}

impl<T> OrStatus<T> for Result<T, crate::Refusal> {
    fn or_status(self) -> Result<T, Status> {
        self.map_err(crate::error::status_of)
    }
}
