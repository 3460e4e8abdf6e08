//! One request: which service or page it is for, what it counts as, and whether a
//! leader must be known first.

use crate::admin::AdminService;
use crate::auth::AuthService;
use crate::cluster::ClusterService;
use crate::error::{MESSAGE_BYTES_MAX, in_etcd_words, no_leader};
use crate::health::HealthService;
use crate::http::{Page, page};
use crate::kv::KvService;
use crate::lease::LeaseService;
use crate::life::{LEADER_KEY, Life};
use crate::maintenance::MaintenanceService;
use crate::metrics::{Call, CountedBody};
use crate::origin::Origin;
use crate::watch::WatchService;
use crate::{ApiMetrics, Backend};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use quorate_proto::etcdserverpb::auth_server::AuthServer;
use quorate_proto::etcdserverpb::cluster_server::ClusterServer;
use quorate_proto::etcdserverpb::kv_server::KvServer;
use quorate_proto::etcdserverpb::lease_server::LeaseServer;
use quorate_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use quorate_proto::health::health_server::HealthServer;
use quorate_proto::quorate::admin_server::AdminServer;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tower_service::Service;

/// All services over one node; cloning shares them.
///
/// A learner serves all of them too, unlike etcd's ("rpc not supported for learner"): a board's programs talk
/// to the node on their own board, whatever it counts for; writes and linearizable reads go to the leader.
#[derive(Debug)]
pub(crate) struct ClientService<B> {
    rooms: Arc<Rooms<B>>,
}

#[derive(Debug)]
struct Rooms<B> {
    backend: B,
    metrics: ApiMetrics,
    kv: KvServer<KvService<B>>,
    watch: WatchService<B>,
    lease: LeaseServer<LeaseService<B>>,
    cluster: ClusterServer<ClusterService<B>>,
    maintenance: MaintenanceServer<MaintenanceService<B>>,
    auth: AuthServer<AuthService<B>>,
    health: HealthServer<HealthService>,
    admin: AdminServer<AdminService<B>>,
}

impl<B> Clone for ClientService<B> {
    fn clone(&self) -> Self {
        Self { rooms: Arc::clone(&self.rooms) }
    }
}

/// Sets the limits of a message on a generated service: inwards as etcd, outwards none, for a list may
/// be as long as the store.
macro_rules! limited {
    ($service:expr) => {
        $service.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(usize::MAX)
    };
}

impl<B: Backend> ClientService<B> {
    pub(crate) fn new(backend: B, metrics: ApiMetrics, life: Life) -> Self {
        let rooms = Rooms {
            kv: limited!(KvServer::new(KvService::new(backend.clone()))),
            watch: WatchService::new(backend.clone(), life.clone()),
            lease: limited!(LeaseServer::new(LeaseService::new(backend.clone(), life.clone()))),
            cluster: limited!(ClusterServer::new(ClusterService::new(backend.clone()))),
            maintenance: limited!(MaintenanceServer::new(MaintenanceService::new(
                backend.clone(),
                life.clone()
            ))),
            auth: limited!(AuthServer::new(AuthService::new(backend.clone()))),
            health: limited!(HealthServer::new(HealthService::new(life))),
            admin: limited!(AdminServer::new(AdminService::new(backend.clone()))),
            backend,
            metrics,
        };
        Self { rooms: Arc::new(rooms) }
    }

    /// All of it, to a connection from there.
    pub(crate) fn to_clients(&self, origin: Origin) -> ConnectionService<B> {
        ConnectionService { service: self.clone(), origin, pages_only: false }
    }

    /// The pages alone.
    pub(crate) fn pages_only(&self, origin: Origin) -> ConnectionService<B> {
        ConnectionService { service: self.clone(), origin, pages_only: true }
    }

    fn grpc(&self, request: http::Request<Incoming>) -> Answering {
        let rooms = &self.rooms;
        let path = request.uri().path();
        let call = rooms.metrics.start(path);
        if requires_leader(&request) && rooms.backend.status().leader == 0 {
            return Answering::refused(no_leader(), call);
        }
        let Some((service, _)) = path.get(1..).and_then(|path| path.split_once('/')) else {
            return Answering::refused(Status::unimplemented("malformed method name"), call);
        };
        let answer = match service {
            "etcdserverpb.KV" => rooms.kv.clone().call(request),
            "etcdserverpb.Watch" if call.is_some() => rooms.watch.clone().call(request).map(Ok).boxed(),
            "etcdserverpb.Lease" => rooms.lease.clone().call(request),
            "etcdserverpb.Cluster" => rooms.cluster.clone().call(request),
            "etcdserverpb.Maintenance" => rooms.maintenance.clone().call(request),
            "etcdserverpb.Auth" => rooms.auth.clone().call(request),
            "grpc.health.v1.Health" => rooms.health.clone().call(request),
            "quorate.Admin" => rooms.admin.clone().call(request),
            unknown => {
                return Answering::refused(Status::unimplemented(format!("unknown service {unknown}")), call);
            }
        };
        Answering::Grpc { answer, call }
    }

    fn page(&self, request: http::Request<Incoming>) -> Answering {
        let rooms = Arc::clone(&self.rooms);
        Answering::Page(
            async move {
                let uri = request.uri();
                page(&rooms.backend, request.method(), uri.path(), uri.query()).await
            }
            .boxed(),
        )
    }
}

/// The services as one connection is served them.
#[derive(Debug)]
pub(crate) struct ConnectionService<B> {
    service: ClientService<B>,
    origin: Origin,
    /// For the ports of `--listen-metrics-urls`.
    pages_only: bool,
}

impl<B: Backend> hyper::service::Service<http::Request<Incoming>> for ConnectionService<B> {
    type Response = http::Response<ClientBody>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: http::Request<Incoming>) -> Answering {
        let content_type = request.headers().get(http::header::CONTENT_TYPE);
        let grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if self.pages_only || !grpc {
            return self.service.page(request);
        }
        request.extensions_mut().insert(self.origin);
        self.service.grpc(request)
    }
}

fn requires_leader(request: &http::Request<Incoming>) -> bool {
    request.headers().get(LEADER_KEY).is_some_and(|value| value.as_bytes() == b"true")
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An answer in the making.
pub(crate) enum Answering {
    /// From a gRPC service.
    Grpc {
        /// The service's work.
        answer: Boxed<Result<http::Response<tonic::body::Body>, Infallible>>,
        /// What it counts as.
        call: Option<Call>,
    },
    /// A page.
    Page(Boxed<Page>),
}

impl Answering {
    fn refused(status: Status, call: Option<Call>) -> Answering {
        Answering::Grpc { answer: std::future::ready(Ok(status.into_http())).boxed(), call }
    }
}

impl Future for Answering {
    type Output = Result<http::Response<ClientBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Answering::Grpc { answer, call } => answer.as_mut().poll(context).map(|answer| {
                let response = answer.map(in_etcd_headers)?;
                Ok(CountedBody::new(response, call.take()).map(ClientBody::Grpc))
            }),
            Answering::Page(page) => page.as_mut().poll(context).map(|page| Ok(page.map(ClientBody::Page))),
        }
    }
}

/// A refusal by the gRPC library, before any of our code saw the call, stands in the headers.
fn in_etcd_headers(mut response: http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    if response.headers().contains_key(Status::GRPC_STATUS)
        && let Some(status) = Status::from_header_map(response.headers())
        && status.code() == tonic::Code::OutOfRange
    {
        let refused = in_etcd_words(status).into_http::<tonic::body::Body>();
        for name in [Status::GRPC_STATUS, Status::GRPC_MESSAGE] {
            if let Some(value) = refused.headers().get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    response
}

/// Bytes of an answer.
#[derive(Debug)]
pub(crate) enum ClientBody {
    /// Of a gRPC call.
    Grpc(CountedBody),
    /// Of a page.
    Page(Full<Bytes>),
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            ClientBody::Grpc(body) => Pin::new(body).poll_frame(context),
            ClientBody::Page(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ClientBody::Grpc(body) => body.is_end_stream(),
            ClientBody::Page(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ClientBody::Grpc(body) => body.size_hint(),
            ClientBody::Page(body) => body.size_hint(),
        }
    }
}
