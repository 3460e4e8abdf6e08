//! Refused changes of members: in etcd's exact words for etcd's clients, and in words for people who use our
//! own tool.

use crate::error::{member_not_found, status_of};
use crate::{MemberRefusal, Refusal};
use tonic::{Code, Status};

/// For etcd's clients. Codes and texts as etcd's; what it has no word for says what to do.
///
/// Where the live members would be no quorum, the reason follows etcd's text: nobody could act on "unhealthy
/// cluster" alone.
pub(crate) fn in_etcd_words(refusal: MemberRefusal) -> Status {
    let (code, text) = match refusal {
        MemberRefusal::NotFound => return member_not_found(),
        MemberRefusal::Refused(refusal) => return status_of(refusal),
        MemberRefusal::WouldLoseQuorum { reason } => {
            return Status::unavailable(format!("etcdserver: unhealthy cluster: {reason}"));
        }
        MemberRefusal::NotLearner => {
            (Code::FailedPrecondition, "etcdserver: can only promote a learner member")
        }
        MemberRefusal::LearnerNotReady => (
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        MemberRefusal::BadTransferee => (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
        MemberRefusal::ChangeUnderWay => (Code::Unavailable, UNDER_WAY_TEXT),
    };
    Status::new(code, text)
}

/// For MoveLeader: a hand-over that does not come to pass has a text of its own; etcd gives it no code.
pub(crate) fn transfer_in_etcd_words(refusal: MemberRefusal) -> Status {
    if refusal == MemberRefusal::Refused(Refusal::TimedOut) {
        return Status::unknown("etcdserver: request timed out, leader transfer took too long");
    }
    // A member that is not there cannot lead either.
    let is_unknown = refusal == MemberRefusal::NotFound;
    in_etcd_words(if is_unknown { MemberRefusal::BadTransferee } else { refusal })
}

/// For people: what stands in the way and what to do. Codes are those etcd's clients get, but for a lost
/// quorum, which trying again does not mend.
pub(crate) fn in_plain_words(refusal: MemberRefusal) -> Status {
    let (code, text) = match refusal {
        MemberRefusal::Refused(refusal) => return status_of(refusal),
        MemberRefusal::WouldLoseQuorum { reason } => {
            return Status::failed_precondition(format!(
                "the members that answer would be no quorum afterwards: {reason}. Bring a member back, or \
                 let another join, first"
            ));
        }
        MemberRefusal::NotFound => (Code::NotFound, "there is no such member (quorate member list)"),
        MemberRefusal::NotLearner => (Code::FailedPrecondition, "it votes already"),
        MemberRefusal::LearnerNotReady => (
            Code::FailedPrecondition,
            "it is too far behind the leader to vote; wait until its lag is small (quorate member list)",
        ),
        MemberRefusal::BadTransferee => {
            (Code::FailedPrecondition, "it cannot lead: only a voter that answers and has caught up can")
        }
        MemberRefusal::ChangeUnderWay => (Code::Unavailable, UNDER_WAY_TEXT),
    };
    Status::new(code, text)
}

const UNDER_WAY_TEXT: &str = "quorate: another change of members is under way; try again when it is through";
