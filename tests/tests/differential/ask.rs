//! One question to one server, and its answer without what each server has of its own.

use quorate_proto::etcdserverpb as pb;
use quorate_tests::client::Client;

/// A unary request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Question {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    TimeToLive(pb::LeaseTimeToLiveRequest),
    Leases,
    Alarm(pb::AlarmRequest),
    HashKv(pb::HashKvRequest),
    MemberCount,
}

/// What came back, without ids, terms and hashes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    Grant(pb::LeaseGrantResponse),
    Revoke(pb::LeaseRevokeResponse),
    TimeToLive(pb::LeaseTimeToLiveResponse),
    Leases(pb::LeaseLeasesResponse),
    Alarm(pb::AlarmResponse),
    HashKv(pb::HashKvResponse),
    MemberCount(usize),
    Refused(tonic::Code, String),
}

impl Told {
    /// The revision in the header, if there is one.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Told::Range(answer) => answer.header,
            Told::Put(answer) => answer.header,
            Told::DeleteRange(answer) => answer.header,
            Told::Txn(answer) => answer.header,
            Told::Compact(answer) => answer.header,
            Told::Grant(answer) => answer.header,
            Told::Revoke(answer) => answer.header,
            Told::TimeToLive(answer) => answer.header,
            Told::Leases(answer) => answer.header,
            Told::Alarm(answer) => answer.header,
            Told::HashKv(answer) => answer.header,
            Told::MemberCount(_) | Told::Refused(..) => None,
        };
        header.map(|header| header.revision)
    }
}

/// Asks one server.
pub(crate) async fn ask(client: &mut Client, question: &Question) -> Told {
    let told = match question.clone() {
        Question::Range(range) => client.kv.range(range).await.map(|a| Told::Range(a.into_inner())),
        Question::Put(put) => client.kv.put(put).await.map(|a| Told::Put(a.into_inner())),
        Question::DeleteRange(delete) => {
            client.kv.delete_range(delete).await.map(|a| Told::DeleteRange(a.into_inner()))
        }
        Question::Txn(txn) => client.kv.txn(txn).await.map(|a| Told::Txn(a.into_inner())),
        Question::Compact(compact) => client.kv.compact(compact).await.map(|a| Told::Compact(a.into_inner())),
        Question::Grant(grant) => return ask_grant(client, grant).await,
        Question::Revoke(revoke) => {
            client.lease.lease_revoke(revoke).await.map(|a| Told::Revoke(a.into_inner()))
        }
        Question::TimeToLive(ask) => {
            client.lease.lease_time_to_live(ask).await.map(|a| Told::TimeToLive(a.into_inner()))
        }
        Question::Leases => {
            let answer = client.lease.lease_leases(pb::LeaseLeasesRequest {}).await;
            answer.map(|a| Told::Leases(a.into_inner()))
        }
        Question::Alarm(alarm) => client.maintenance.alarm(alarm).await.map(|a| Told::Alarm(a.into_inner())),
        Question::HashKv(ask) => client.maintenance.hash_kv(ask).await.map(|a| Told::HashKv(a.into_inner())),
        Question::MemberCount => {
            let answer = client.cluster.member_list(pb::MemberListRequest { linearizable: true }).await;
            answer.map(|a| Told::MemberCount(a.into_inner().members.len()))
        }
    };
    told.map_or_else(refused, comparable)
}

/// A lease whose id the server drew is given back at once: no later question could name it on both.
async fn ask_grant(client: &mut Client, grant: pb::LeaseGrantRequest) -> Told {
    let drawn = grant.id == 0;
    let mut answer = match client.lease.lease_grant(grant).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return refused(status),
    };
    if drawn {
        assert!(answer.id > 0, "a drawn lease id is positive");
        client.lease.lease_revoke(pb::LeaseRevokeRequest { id: answer.id }).await.unwrap();
        answer.id = 0;
    }
    comparable(Told::Grant(answer))
}

fn refused(status: tonic::Status) -> Told {
    Told::Refused(status.code(), status.message().to_owned())
}

fn comparable(mut told: Told) -> Told {
    match &mut told {
        Told::Range(answer) => bare(&mut answer.header),
        Told::Put(answer) => bare(&mut answer.header),
        Told::DeleteRange(answer) => bare(&mut answer.header),
        Told::Txn(answer) => bare_txn(answer),
        Told::Compact(answer) => bare(&mut answer.header),
        Told::Grant(answer) => bare(&mut answer.header),
        Told::Revoke(answer) => bare(&mut answer.header),
        Told::TimeToLive(answer) => {
            bare(&mut answer.header);
            // Clocks run on: whether it lives is compared, not how long. etcd lists its keys in random order.
            answer.ttl = answer.ttl.signum();
            answer.keys.sort();
        }
        Told::Leases(answer) => bare(&mut answer.header),
        Told::Alarm(answer) => bare(&mut answer.header),
        Told::HashKv(answer) => {
            bare(&mut answer.header);
            answer.hash = 0;
            // A field of etcd 3.6, which we answer and the etcd beside us does not have.
            answer.hash_revision = 0;
        }
        Told::MemberCount(_) | Told::Refused(..) => {}
    }
    told
}

fn bare_txn(answer: &mut pb::TxnResponse) {
    use pb::response_op::Response;
    bare(&mut answer.header);
    for response in &mut answer.responses {
        match response.response.as_mut() {
            Some(Response::ResponseRange(answer)) => bare(&mut answer.header),
            Some(Response::ResponsePut(answer)) => bare(&mut answer.header),
            Some(Response::ResponseDeleteRange(answer)) => bare(&mut answer.header),
            Some(Response::ResponseTxn(answer)) => bare_txn(answer),
            None => {}
        }
    }
}

/// Keeps of a header what both servers must agree on.
pub(crate) fn bare(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = 0;
        header.member_id = 0;
        header.raft_term = 0;
    }
}
