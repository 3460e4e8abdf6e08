//! Admin: our own service, for what etcd's API has no words for: invites, hand-over through any member, and
//! how the members fare.

use crate::convert::OrStatus;
use crate::members::in_plain_words;
use crate::origin::may_change_cluster;
use crate::{Backend, CardState, Invite, InviteRequest, InviteView, MemberChange, PeerStatus, Read};
use quorate_proto::quorate as pb;
use quorate_types::{Member, NodeId};
use std::time::Duration;
use tonic::{Request, Response, Status};

/// `quorate.Admin` over a node.
#[derive(Debug, Clone)]
pub(crate) struct AdminService<B> {
    backend: B,
}

impl<B: Backend> AdminService<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend }
    }

    async fn change<T>(
        &self,
        request: &Request<T>,
        change: MemberChange,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        may_change_cluster(request.extensions())?;
        self.backend.change_members(change).await.map_err(in_plain_words)?;
        Ok(Response::new(self.view()))
    }

    fn view(&self) -> pb::MembersResponse {
        let status = self.backend.status();
        let membership = self.backend.membership();
        let members = membership.members.iter().map(|member| {
            let peer = status.peers.iter().find(|peer| peer.id == member.id);
            let own = (member.id == status.identity.node).then_some(status.card);
            pb::Member {
                is_voter: membership.voters.contains(&member.id),
                is_learner: membership.is_learner(member.id),
                ..wire_member(member, peer, own)
            }
        });
        pb::MembersResponse {
            cluster_id: status.identity.cluster.0,
            node_id: status.identity.node.0,
            leader: status.leader,
            term: status.term,
            role: status.role.to_owned(),
            removed: status.removed,
            change_under_way: !membership.voters_outgoing.is_empty(),
            members: members.collect(),
        }
    }
}

/// A member with what this node knows of it. A node knows of itself that it is active, and how its `own` card does.
fn wire_member(member: &Member, peer: Option<&PeerStatus>, own: Option<CardState>) -> pb::Member {
    let (card_write_ms, card_stands_still) = match own.or(peer.map(|peer| peer.card)).unwrap_or_default() {
        CardState::Unknown => (None, false),
        CardState::Takes { ms } => (Some(u32::from(ms)), false),
        CardState::StandsStill => (None, true),
    };
    pb::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_addresses: member.peer_addresses.clone(),
        client_urls: member.client_urls.clone(),
        is_voter: false,
        is_learner: false,
        stays_learner: member.stays_learner,
        is_active: if own.is_some() { Some(true) } else { peer.and_then(|peer| peer.is_active) },
        lag_entries: peer.and_then(|peer| peer.lag_entries),
        address: peer.map(|peer| peer.address.clone()).unwrap_or_default(),
        card_write_ms,
        card_stands_still,
    }
}

#[tonic::async_trait]
impl<B: Backend> pb::admin_server::Admin for AdminService<B> {
    async fn members(
        &self,
        request: Request<pb::MembersRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        if request.get_ref().linearizable {
            self.backend.read(Read::Alarms, true).await.or_status()?;
        }
        Ok(Response::new(self.view()))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        let id = NodeId(request.get_ref().id);
        self.change(&request, MemberChange::Remove(id)).await
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        let id = NodeId(request.get_ref().id);
        self.change(&request, MemberChange::Promote(id)).await
    }

    async fn member_transfer(
        &self,
        request: Request<pb::MemberRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        let id = NodeId(request.get_ref().id);
        self.change(&request, MemberChange::Transfer(id)).await
    }

    async fn invite(
        &self,
        request: Request<pb::InviteRequest>,
    ) -> Result<Response<pb::InviteResponse>, Status> {
        may_change_cluster(request.extensions())?;
        let ttl_seconds = request.get_ref().ttl_seconds;
        if !(1..=TTL_SECONDS_MAX).contains(&ttl_seconds) {
            return Err(Status::invalid_argument(format!(
                "an invite lasts from one second to a year ({TTL_SECONDS_MAX} s), not {ttl_seconds} s"
            )));
        }
        let request = InviteRequest { ttl: Duration::from_secs(ttl_seconds) };
        let Invite { token, id, expires_in } = self.backend.invite(request).await.or_status()?;
        Ok(Response::new(pb::InviteResponse { token, id, expires_in_seconds: expires_in.as_secs() }))
    }

    async fn invites(
        &self,
        request: Request<pb::InvitesRequest>,
    ) -> Result<Response<pb::InvitesResponse>, Status> {
        may_change_cluster(request.extensions())?;
        let invites = self.backend.invites().await.or_status()?;
        let wire = |InviteView { id, expires_in, used_by }| pb::InviteView {
            id,
            // Rounded up: zero is for those that have expired.
            expires_in_seconds: expires_in.as_secs() + u64::from(expires_in.subsec_nanos() > 0),
            used_by: used_by.unwrap_or_default(),
        };
        Ok(Response::new(pb::InvitesResponse { invites: invites.into_iter().map(wire).collect() }))
    }

    async fn invite_revoke(
        &self,
        request: Request<pb::InviteRevokeRequest>,
    ) -> Result<Response<pb::InviteRevokeResponse>, Status> {
        may_change_cluster(request.extensions())?;
        let id = request.into_inner().id;
        if !self.backend.invite_revoke(id.clone()).await.or_status()? {
            return Err(Status::not_found(format!("there is no invite {id} (quorate invite list)")));
        }
        Ok(Response::new(pb::InviteRevokeResponse {}))
    }
}

/// A year: longer than anybody means, short enough that a lost token dies.
const TTL_SECONDS_MAX: u64 = 365 * 24 * 3_600;
