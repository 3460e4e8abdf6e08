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
        // At exactly the compacted revision etcd 3.5 gives the hash it took while compacting, with the revision
        // compacted before that one; 3.4 counts the revision as compacted.
        (Question::HashKv(asked), _) => {
            let Told::HashKv(node) = node else { return false };
            let told_before = matches!(etcd, Told::HashKv(etcd) if etcd.header == node.header);
            let refused =
                version == Version::V3_4 && matches!(etcd, Told::Refused(tonic::Code::OutOfRange, _));
            node.compact_revision == asked.revision && (told_before || refused)
        }
        _ => false,
    }
}
