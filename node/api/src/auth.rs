//! Auth: not in this release. Clients that ask whether it is on are told no, as etcd tells them.

use crate::Backend;
use crate::convert::header;
use quorate_proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

/// etcd's Auth service over a node without users.
#[derive(Debug, Clone)]
pub(crate) struct AuthService<B> {
    backend: B,
}

impl<B: Backend> AuthService<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend }
    }
}

/// The calls that need users: each is refused alike.
macro_rules! refused {
    ($($call:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl<B: Backend> pb::auth_server::Auth for AuthService<B> {
            async fn auth_status(
                &self,
                _request: Request<pb::AuthStatusRequest>,
            ) -> Result<Response<pb::AuthStatusResponse>, Status> {
                let status = self.backend.status();
                Ok(Response::new(pb::AuthStatusResponse {
                    header: Some(header(status.identity, status.revision, status.term)),
                    enabled: false,
                    auth_revision: AUTH_REVISION_FIRST,
                }))
            }

            async fn authenticate(
                &self,
                _request: Request<pb::AuthenticateRequest>,
            ) -> Result<Response<pb::AuthenticateResponse>, Status> {
                Err(Status::failed_precondition("etcdserver: authentication is not enabled"))
            }

            $(async fn $call(
                &self,
                _request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                Err(no_users())
            })*
        }
    };
}

refused! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse;
    auth_disable(AuthDisableRequest) -> AuthDisableResponse;
    user_add(AuthUserAddRequest) -> AuthUserAddResponse;
    user_get(AuthUserGetRequest) -> AuthUserGetResponse;
    user_list(AuthUserListRequest) -> AuthUserListResponse;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse;
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse;
    role_list(AuthRoleListRequest) -> AuthRoleListResponse;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
}

fn no_users() -> Status {
    Status::unimplemented(
        "quorate: users and roles are not in this release; restrict access with --client-cert-auth and \
         --trusted-ca-file",
    )
}

/// etcd's count of changes to users and roles before the first.
const AUTH_REVISION_FIRST: u64 = 1;
