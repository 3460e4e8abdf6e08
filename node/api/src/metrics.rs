//! What clients' calls count: one line per method and code, under the names every gRPC server has.

use hyper::body::{Body, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tonic::{Code, Status};

/// Labels with their values, in the order they are printed.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Counters of the client port; cloning shares them.
#[derive(Debug, Clone)]
pub struct ApiMetrics {
    started: Family<Labels<3>, Counter>,
    handled: Family<Labels<4>, Counter>,
    methods: Arc<HashMap<&'static str, MethodCounters>>,
}

impl ApiMetrics {
    /// Counters at zero. A method stands in the text from its first call on.
    #[must_use]
    pub fn new() -> Self {
        let methods = METHODS.iter().map(|method| (method.path, MethodCounters::new(*method))).collect();
        Self { started: Family::default(), handled: Family::default(), methods: Arc::new(methods) }
    }

    /// Puts them into the node's registry: `grpc_server_started_total`, `grpc_server_handled_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("grpc_server_started", "Calls started on the server", self.started.clone());
        registry.register(
            "grpc_server_handled",
            "Calls completed on the server, whether they succeeded or not",
            self.handled.clone(),
        );
    }

    /// Counts a call's start; none for a path that is no method, so that clients cannot add lines.
    pub(crate) fn start(&self, path: &str) -> Option<Call> {
        let (path, counters) = self.methods.get_key_value(path)?;
        counters.started.get_or_init(|| self.started.get_or_create_owned(&counters.method.labels())).inc();
        Some(Call { metrics: self.clone(), path })
    }
}

impl Default for ApiMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A call under way: counted as cancelled unless its end is told.
#[derive(Debug)]
pub(crate) struct Call {
    metrics: ApiMetrics,
    /// Cleared once counted.
    path: &'static str,
}

impl Call {
    /// Counts its end.
    pub(crate) fn end(mut self, code: Code) {
        self.count(code);
    }

    fn count(&mut self, code: Code) {
        let path = std::mem::take(&mut self.path);
        let Some(counters) = self.metrics.methods.get(path) else { return };
        let name = code_name(code);
        let [kind, service, method] = counters.method.labels();
        let slot = usize::try_from(i32::from(code)).ok().and_then(|number| counters.handled.get(number));
        if let Some(slot) = slot {
            let labels = [("grpc_code", name), method, service, kind];
            slot.get_or_init(|| self.metrics.handled.get_or_create_owned(&labels)).inc();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.path.is_empty() {
            self.count(Code::Cancelled);
        }
    }
}

/// A call's answer on its way out; its trailers say how the call ended.
#[derive(Debug)]
pub(crate) struct CountedBody {
    inner: tonic::body::Body,
    call: Option<Call>,
}

impl CountedBody {
    /// The body of that response. One that has its status in the headers is counted at once.
    pub(crate) fn new(
        response: http::Response<tonic::body::Body>,
        call: Option<Call>,
    ) -> http::Response<Self> {
        let ended = Status::from_header_map(response.headers()).map(|status| status.code());
        let mut call = call;
        if let (Some(code), Some(open)) = (ended, call.take_if(|_| ended.is_some())) {
            open.end(code);
        }
        response.map(|inner| CountedBody { inner, call })
    }
}

impl Body for CountedBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
            && let Some(call) = self.call.take()
        {
            call.end(Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code()));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[derive(Debug)]
struct MethodCounters {
    method: Method,
    started: OnceLock<Counter>,
    /// By code.
    handled: [OnceLock<Counter>; CODE_COUNT],
}

impl MethodCounters {
    fn new(method: Method) -> Self {
        Self { method, started: OnceLock::new(), handled: Default::default() }
    }
}

/// gRPC has the codes 0 to 16.
const CODE_COUNT: usize = 17;

#[derive(Debug, Clone, Copy)]
struct Method {
    path: &'static str,
    service: &'static str,
    name: &'static str,
    kind: &'static str,
}

impl Method {
    fn labels(&self) -> Labels<3> {
        [("grpc_type", self.kind), ("grpc_service", self.service), ("grpc_method", self.name)]
    }
}

macro_rules! methods {
    ($($service:literal { $($name:literal $kind:ident)* })*) => {
        /// Every method a client can call.
        const METHODS: &[Method] = &[$($(Method {
            path: concat!("/", $service, "/", $name),
            service: $service,
            name: $name,
            kind: stringify!($kind),
        }),*),*];
    };
}

methods! {
    "etcdserverpb.KV" { "Range" unary "Put" unary "DeleteRange" unary "Txn" unary "Compact" unary }
    "etcdserverpb.Watch" { "Watch" bidi_stream }
    "etcdserverpb.Lease" {
        "LeaseGrant" unary "LeaseRevoke" unary "LeaseKeepAlive" bidi_stream "LeaseTimeToLive" unary
        "LeaseLeases" unary
    }
    "etcdserverpb.Cluster" {
        "MemberAdd" unary "MemberRemove" unary "MemberUpdate" unary "MemberList" unary "MemberPromote" unary
    }
    "etcdserverpb.Maintenance" {
        "Alarm" unary "Status" unary "Defragment" unary "Hash" unary "HashKV" unary
        "Snapshot" server_stream "MoveLeader" unary "Downgrade" unary
    }
    "etcdserverpb.Auth" {
        "AuthEnable" unary "AuthDisable" unary "AuthStatus" unary "Authenticate" unary "UserAdd" unary
        "UserGet" unary "UserList" unary "UserDelete" unary "UserChangePassword" unary
        "UserGrantRole" unary "UserRevokeRole" unary "RoleAdd" unary "RoleGet" unary "RoleList" unary
        "RoleDelete" unary "RoleGrantPermission" unary "RoleRevokePermission" unary
    }
    "grpc.health.v1.Health" { "Check" unary "Watch" server_stream }
}

/// The names Go's library gives the codes, which dashboards look for.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
