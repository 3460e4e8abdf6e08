//! Maintenance: what an operator asks of one member.

use crate::convert::{self, OrStatus};
use crate::error::{REMOVED_TEXT, answer_mismatch, status_of};
use crate::life::{Ending, Life, StreamOf};
use crate::members::transfer_in_etcd_words;
use crate::origin::may_change_cluster;
use crate::{API_VERSION, Answer, Backend, MemberChange, NodeStatus, Read, ReadOutcome, Refusal};
use bytes::Bytes;
use futures_util::stream;
use quorate_proto::etcdserverpb as pb;
use quorate_store::{Alarm, AlarmKind, Command, Outcome};
use quorate_types::NodeId;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

/// etcd's Maintenance service over a node.
#[derive(Debug, Clone)]
pub(crate) struct MaintenanceService<B> {
    backend: B,
    life: Life,
}

impl<B: Backend> MaintenanceService<B> {
    pub(crate) fn new(backend: B, life: Life) -> Self {
        Self { backend, life }
    }

    fn header<T>(&self, answer: &Answer<T>) -> pb::ResponseHeader {
        convert::header(self.backend.identity(), answer.revision, answer.term)
    }

    /// Changes an alarm; etcd answers a kind it does not know, or none, with nothing done.
    async fn change_alarm(&self, command: Option<Command>) -> Result<pb::AlarmResponse, Status> {
        let Some(command) = command else {
            let status = self.backend.status();
            let header = convert::header(status.identity, status.revision, status.term);
            return Ok(pb::AlarmResponse { header: Some(header), alarms: Vec::new() });
        };
        let answer = self.backend.propose(command).await.or_status()?;
        let header = self.header(&answer);
        let Outcome::Alarms(alarms) = answer.value else { return Err(answer_mismatch()) };
        let alarms = alarms.iter().map(alarm_member).collect();
        Ok(pb::AlarmResponse { header: Some(header), alarms })
    }

    async fn hash_at(&self, revision: i64) -> Result<pb::HashKvResponse, Status> {
        let answer = self.backend.read(Read::HashKv(revision), false).await.or_status()?;
        let header = Some(self.header(&answer));
        let ReadOutcome::HashKv { hash, compact_revision, hash_revision } = answer.value else {
            return Err(answer_mismatch());
        };
        Ok(pb::HashKvResponse { header, hash, compact_revision, hash_revision })
    }
}

#[tonic::async_trait]
impl<B: Backend> pb::maintenance_server::Maintenance for MaintenanceService<B> {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        use pb::alarm_request::AlarmAction;
        let wire = request.into_inner();
        let kind = alarm_kind(wire.alarm);
        let node = NodeId(wire.member_id);
        let response = match AlarmAction::try_from(wire.action) {
            Ok(AlarmAction::Get) => {
                let answer = self.backend.read(Read::Alarms, true).await.or_status()?;
                let header = Some(self.header(&answer));
                let ReadOutcome::Alarms(standing) = answer.value else { return Err(answer_mismatch()) };
                let wanted = |alarm: &&Alarm| wire.alarm == 0 || kind == Some(alarm.kind);
                pb::AlarmResponse {
                    header,
                    alarms: standing.iter().filter(wanted).map(alarm_member).collect(),
                }
            }
            Ok(AlarmAction::Activate) => {
                self.change_alarm(kind.map(|kind| Command::AlarmRaise { node, kind })).await?
            }
            Ok(AlarmAction::Deactivate) => {
                self.change_alarm(kind.map(|kind| Command::AlarmClear { node, kind })).await?
            }
            Err(_) => self.change_alarm(None).await?,
        };
        Ok(Response::new(response))
    }

    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let status = self.backend.status();
        Ok(Response::new(pb::StatusResponse {
            header: Some(convert::header(status.identity, status.revision, status.term)),
            version: API_VERSION.to_owned(),
            db_size: saturated(status.bytes_total),
            leader: status.leader,
            raft_index: status.committed,
            raft_term: status.term,
            raft_applied_index: status.applied,
            errors: error_texts(&status),
            db_size_in_use: saturated(status.bytes_in_use),
            is_learner: status.is_learner,
            db_size_quota: saturated(status.bytes_quota),
        }))
    }

    /// Freed space is free at once: there is nothing to do.
    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let response = self.hash_at(0).await?;
        Ok(Response::new(pb::HashResponse { header: response.header, hash: response.hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        Ok(Response::new(self.hash_at(request.into_inner().revision).await?))
    }

    type SnapshotStream = StreamOf<pb::SnapshotResponse>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let end = self.life.stream_end(&request);
        let slices = self.backend.export().await.or_status()?;
        let file = SnapshotFile::new(slices, self.backend.status().bytes_total);
        let blobs = stream::try_unfold(file, |mut file| async {
            Ok(file.next().await?.map(|response| (response, file)))
        });
        Ok(Response::new(Ending::boxed(blobs, end)))
    }

    /// As in etcd to be asked of the leader itself; `quorate member transfer` works anywhere.
    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        may_change_cluster(request.extensions())?;
        let status = self.backend.status();
        if status.leader != status.identity.node.0 {
            return Err(Status::failed_precondition("etcdserver: not leader"));
        }
        let target = NodeId(request.get_ref().target_id);
        self.backend.change_members(MemberChange::Transfer(target)).await.map_err(transfer_in_etcd_words)?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        use pb::downgrade_request::DowngradeAction;
        if let Ok(DowngradeAction::Cancel) = DowngradeAction::try_from(request.into_inner().action) {
            return Err(Status::failed_precondition("etcdserver: no inflight downgrade job"));
        }
        Err(Status::unimplemented(
            "quorate: there is no downgrade job; an older release that can read the data folder just starts on it",
        ))
    }
}

/// The snapshot on its way to a client, as etcd's tools want it: the image's bytes, zeros up to a
/// multiple of 512, then the SHA-256 of all that.
struct SnapshotFile {
    slices: mpsc::Receiver<Result<Bytes, Refusal>>,
    /// Rest of the slice being sent.
    slice: Bytes,
    hash: Sha256,
    bytes_sent: u64,
    /// What the whole may come to: told as the remainder, a figure for progress bars only.
    bytes_expected: u64,
    stage: SnapshotStage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SnapshotStage {
    Image,
    Hash,
    Done,
}

impl SnapshotFile {
    fn new(slices: mpsc::Receiver<Result<Bytes, Refusal>>, bytes_expected: u64) -> Self {
        Self {
            slices,
            slice: Bytes::new(),
            hash: Sha256::new(),
            bytes_sent: 0,
            bytes_expected,
            stage: SnapshotStage::Image,
        }
    }

    async fn next(&mut self) -> Result<Option<pb::SnapshotResponse>, Status> {
        match self.stage {
            SnapshotStage::Image => {
                while self.slice.is_empty() {
                    match self.slices.recv().await {
                        Some(slice) => self.slice = slice.map_err(status_of)?,
                        None => return Ok(Some(self.padding())),
                    }
                }
                let blob = self.slice.split_to(self.slice.len().min(SNAPSHOT_BLOB_BYTES));
                Ok(Some(self.hashed(blob)))
            }
            SnapshotStage::Hash => {
                self.stage = SnapshotStage::Done;
                let digest = Bytes::copy_from_slice(&self.hash.finalize_reset());
                Ok(Some(pb::SnapshotResponse { header: None, remaining_bytes: 0, blob: digest }))
            }
            SnapshotStage::Done => Ok(None),
        }
    }

    /// Zeros that make the image a multiple of the unit; none if it is one already.
    fn padding(&mut self) -> pb::SnapshotResponse {
        self.stage = SnapshotStage::Hash;
        let short = (SNAPSHOT_UNIT_BYTES - self.bytes_sent % SNAPSHOT_UNIT_BYTES) % SNAPSHOT_UNIT_BYTES;
        self.bytes_expected = self.bytes_sent;
        self.hashed((0..short).map(|_| 0_u8).collect())
    }

    fn hashed(&mut self, blob: Bytes) -> pb::SnapshotResponse {
        self.hash.update(&blob);
        self.bytes_sent += blob.len() as u64;
        let remaining_bytes = self.bytes_expected.saturating_sub(self.bytes_sent);
        pb::SnapshotResponse { header: None, remaining_bytes, blob }
    }
}

/// etcd's tools take a file for a snapshot if its size is a multiple of this plus a SHA-256.
const SNAPSHOT_UNIT_BYTES: u64 = 512;

/// Bytes hashed and sent in one go, as etcd: half a millisecond of a slow core between other calls.
const SNAPSHOT_BLOB_BYTES: usize = 32 * 1024;

fn alarm_kind(wire: i32) -> Option<AlarmKind> {
    match pb::AlarmType::try_from(wire) {
        Ok(pb::AlarmType::Nospace) => Some(AlarmKind::NoSpace),
        Ok(pb::AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
        Ok(pb::AlarmType::None) | Err(_) => None,
    }
}

fn alarm_member(alarm: &Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember { member_id: alarm.node.0, alarm: kind.into() }
}

/// What `Status.errors` says: etcd's texts for a missing leader and for alarms, then the node's own.
fn error_texts(status: &NodeStatus) -> Vec<String> {
    let mut texts = Vec::new();
    if status.removed {
        // That it has no leader any more follows from it, and would send people looking for a network fault.
        texts.push(REMOVED_TEXT.to_owned());
    } else if status.leader == 0 {
        texts.push("etcdserver: no leader".to_owned());
    }
    texts.extend(status.alarms.iter().map(|alarm| {
        // The trailing space is etcd's: the text form of the message.
        format!("memberID:{} alarm:{} ", alarm.node.0, alarm_name(alarm.kind))
    }));
    for text in &status.errors {
        if !texts.contains(text) {
            texts.push(text.clone());
        }
    }
    texts
}

/// etcd's name of an alarm.
pub(crate) fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

fn saturated(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
