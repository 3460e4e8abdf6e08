//! Cluster: who belongs to it, as etcd's clients ask. Members are removed, promoted and updated as in etcd;
//! they are added by invitation only, so that a mistyped address can never cost the quorum.

use crate::convert::{OrStatus, header};
use crate::members::in_etcd_words;
use crate::origin::may_change_cluster;
use crate::{Backend, MemberChange, NodeStatus, Read};
use quorate_proto::etcdserverpb as pb;
use quorate_types::{Membership, NodeId, Revision};
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

    /// Changes the members, if the caller may; answers the header and who they are then.
    async fn change<T>(
        &self,
        request: &Request<T>,
        change: MemberChange,
    ) -> Result<(Option<pb::ResponseHeader>, Vec<pb::Member>), Status> {
        may_change_cluster(request.extensions())?;
        let membership = self.backend.change_members(change).await.map_err(in_etcd_words)?;
        Ok((Some(member_header(&self.backend.status())), wire_members(&membership)))
    }

    /// The addresses of an update as they are kept. etcd's refusals for those that are none or another's.
    fn addresses(&self, id: NodeId, urls: &[String]) -> Result<Vec<String>, Status> {
        let bad = || Status::invalid_argument("etcdserver: given member URLs are invalid");
        if urls.is_empty() {
            return Err(bad());
        }
        let mut addresses = Vec::new();
        for url in urls {
            addresses.push(peer_address(url).ok_or_else(bad)?);
        }
        let membership = self.backend.membership();
        let mut others = membership.members.iter().filter(|member| member.id != id);
        if others.any(|other| addresses.iter().any(|address| other.peer_addresses.contains(address))) {
            return Err(Status::failed_precondition("etcdserver: Peer URLs already exists"));
        }
        Ok(addresses)
    }
}

#[tonic::async_trait]
impl<B: Backend> pb::cluster_server::Cluster for ClusterService<B> {
    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(Status::unimplemented(
            "quorate: a member is not added by its address, it is invited: run `quorate --data-dir DIR invite` \
             on a member's board (DIR is that node's data folder), then on the new board the line it prints: \
             `quorated --name NAME --data-dir DIR --join TOKEN`",
        ))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let id = NodeId(request.get_ref().id);
        let (header, members) = self.change(&request, MemberChange::Remove(id)).await?;
        Ok(Response::new(pb::MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        may_change_cluster(request.extensions())?;
        let wire = request.get_ref();
        let id = NodeId(wire.id);
        let peer_addresses = self.addresses(id, &wire.peer_ur_ls)?;
        let (header, members) = self.change(&request, MemberChange::Update { id, peer_addresses }).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header, members }))
    }

    /// A linearizable list is read after a round with the quorum: this node then knows every change that
    /// was through before it asked.
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.get_ref().linearizable {
            self.backend.read(Read::Alarms, true).await.or_status()?;
        }
        let header = Some(member_header(&self.backend.status()));
        let members = wire_members(&self.backend.membership());
        Ok(Response::new(pb::MemberListResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let id = NodeId(request.get_ref().id);
        let (header, members) = self.change(&request, MemberChange::Promote(id)).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header, members }))
    }
}

/// etcd's answers about members say nothing of the store's revision.
fn member_header(status: &NodeStatus) -> pb::ResponseHeader {
    header(status.identity, Revision(0), status.term)
}

fn wire_members(membership: &Membership) -> Vec<pb::Member> {
    let wire = |member: &quorate_types::Member| pb::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_addresses.iter().map(|address| as_url(address)).collect(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: membership.is_learner(member.id),
    };
    membership.members.iter().map(wire).collect()
}

/// Peers are kept as `host:port`; etcd's clients want URLs.
fn as_url(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("https://{address}") }
}

/// The `host:port` of a peer's URL; etcd's clients say it with `http` or `https`, ours may leave it out.
fn peer_address(url: &str) -> Option<String> {
    let address = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme)).unwrap_or(url);
    let authority: http::uri::Authority = address.parse().ok()?;
    let port = authority.port_u16().filter(|port| *port != 0)?;
    let is_plain = !authority.host().is_empty() && address == format!("{}:{port}", authority.host());
    is_plain.then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::peer_address;

    #[test]
    fn peers_urls_are_addresses_or_refused() {
        for (url, address) in [
            ("http://10.0.0.1:2380", Some("10.0.0.1:2380")),
            ("https://board-2.local:2380", Some("board-2.local:2380")),
            ("[fe80::1]:2380", Some("[fe80::1]:2380")),
            ("n2:1", Some("n2:1")),
            ("http://10.0.0.1", None),
            ("http://10.0.0.1:0", None),
            ("http://:2380", None),
            ("http://10.0.0.1:2380/path", None),
            ("http://user@10.0.0.1:2380", None),
            ("ftp://10.0.0.1:2380", None),
            ("unix:///run/x", None),
            ("10.0.0.1:65536", None),
            ("10.0.0.1:02380", None),
            ("a b:1", None),
            ("", None),
        ] {
            assert_eq!(peer_address(url).as_deref(), address, "{url}");
        }
    }
}
