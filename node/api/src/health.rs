//! grpc.health.v1: whether the process serves. It does as long as it runs; what its card or its quorum
//! makes of calls is told by the calls themselves and by `/readyz`, as etcd has it.

use crate::life::{Ending, Life, StreamOf};
use futures_util::{StreamExt, stream};
use quorate_proto::health as pb;
use quorate_proto::health::health_check_response::ServingStatus;
use tonic::{Request, Response, Status};

/// The health service.
#[derive(Debug, Clone)]
pub(crate) struct HealthService {
    life: Life,
}

impl HealthService {
    pub(crate) fn new(life: Life) -> Self {
        Self { life }
    }
}

#[tonic::async_trait]
impl pb::health_server::Health for HealthService {
    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        if !request.into_inner().service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(answer(ServingStatus::Serving)))
    }

    type WatchStream = StreamOf<pb::HealthCheckResponse>;

    async fn watch(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let end = self.life.stream_end(&request);
        let known = request.into_inner().service.is_empty();
        let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        let answers = stream::iter([Ok(answer(status))]).chain(stream::pending());
        Ok(Response::new(Ending::boxed(answers, end)))
    }
}

fn answer(status: ServingStatus) -> pb::HealthCheckResponse {
    pb::HealthCheckResponse { status: status.into() }
}
