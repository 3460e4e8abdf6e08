//! Where the etcd beside us answers otherwise than etcd 3.5, our target: each with its reason.

use crate::ask::{Question, Told};
use quorate_proto::etcdserverpb as pb;
use quorate_tests::client::Client;

/// The etcd that is compared with, as far as its answers depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Debian bookworm's.
    V3_4,
    /// Our target.
    V3_5,
}

impl Version {
    pub(crate) async fn of(etcd: &mut Client) -> Version {
        let status = etcd.maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
        if status.version.starts_with("3.4.") { Version::V3_4 } else { Version::V3_5 }
    }
}

/// Whether both answers are right although they differ.
pub(crate) fn is_known(version: Version, question: &Question, node: &Told, etcd: &Told) -> bool {
    match (question, etcd) {
        // etcd up to 3.5.16 takes an unknown sort order for none; later ones have this error for it, as we do.
        (Question::Range(range), _) if range.sort_order > 2 => {
            *node == Told::Refused(tonic::Code::InvalidArgument, "etcdserver: invalid sort option".into())
        }
        // etcd 3.4 answers alarms without a header.
        (Question::Alarm(_), Told::Alarm(etcd)) if version == Version::V3_4 && etcd.header.is_none() => {
            matches!(node, Told::Alarm(node) if node.alarms == etcd.alarms)
        }
        // Of revisions it compacted at, etcd 3.5 keeps the hash taken while compacting, with the revision
        // compacted before that one; 3.4 counts the compacted revision itself as gone.
        (Question::HashKv(asked), _) => match (node, etcd) {
            (Told::HashKv(node), Told::HashKv(etcd)) => {
                node.compact_revision == asked.revision && node.header == etcd.header
            }
            (Told::HashKv(node), Told::Refused(tonic::Code::OutOfRange, _)) => {
                version == Version::V3_4 && node.compact_revision == asked.revision
            }
            (Told::Refused(tonic::Code::OutOfRange, _), Told::HashKv(etcd)) => {
                version == Version::V3_5 && etcd.compact_revision < asked.revision
            }
            _ => false,
        },
        _ => false,
    }
}
