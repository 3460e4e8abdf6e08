//! Cluster: who belongs to it. A node that stands alone lists itself and changes nobody.

use crate::convert::header;
use crate::error::member_not_found;
use crate::{Backend, NodeStatus};
use quorate_proto::etcdserverpb as pb;
use quorate_types::{NodeId, Revision};
use tonic::{Request, Response, Status};

/// etcd's Cluster service over a node.
#[derive(Debug, Clone)]
pub(crate) struct ClusterService<B> {
    backend: B,
}

impl<B: Backend> ClusterService<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend }
    }

    /// Refuses what names a member that is not there, as etcd does before anything else.
    fn must_know(&self, id: u64) -> Result<NodeId, Status> {
        let id = NodeId(id);
        self.backend.membership().member(id).map(|member| member.id).ok_or_else(member_not_found)
    }
}

#[tonic::async_trait]
impl<B: Backend> pb::cluster_server::Cluster for ClusterService<B> {
    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(stands_alone())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.must_know(request.into_inner().id)?;
        Err(stands_alone())
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.must_know(request.into_inner().id)?;
        Err(stands_alone())
    }

    /// Every member is as fresh as this node's knowledge of it; with one member that is all there is.
    async fn member_list(
        &self,
        _request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let membership = self.backend.membership();
        let members = membership
            .members
            .iter()
            .map(|member| pb::Member {
                id: member.id.0,
                name: member.name.clone(),
                peer_ur_ls: member.peer_addresses.iter().map(|address| as_url(address)).collect(),
                client_ur_ls: member.client_urls.clone(),
                is_learner: membership.is_learner(member.id),
            })
            .collect();
        Ok(Response::new(pb::MemberListResponse {
            header: Some(member_header(&self.backend.status())),
            members,
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let id = self.must_know(request.into_inner().id)?;
        if !self.backend.membership().is_learner(id) {
            return Err(Status::failed_precondition("etcdserver: can only promote a learner member"));
        }
        Err(stands_alone())
    }
}

/// etcd's answers about members say nothing of the store's revision.
fn member_header(status: &NodeStatus) -> pb::ResponseHeader {
    header(status.identity, Revision(0), status.term)
}

/// Peers are kept as `host:port`; etcd's clients want URLs.
fn as_url(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("https://{address}") }
}

fn stands_alone() -> Status {
    Status::unimplemented(
        "quorate: this release runs one node by itself; members cannot be changed. To move it to another \
         board, save a snapshot and restore it there",
    )
}
