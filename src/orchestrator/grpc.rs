//! The gRPC face.

use tonic::{Request, Response, Status};

use super::Orchestrator;
use crate::rpc::credentials::ID_BYTES_MAX;
use crate::rpc::net::orchestrator_server::{Orchestrator as Service, OrchestratorServer};
use crate::rpc::net::{
    EndTranscodingSessionRequest, EndTranscodingSessionResponse, OrchestratorInfo,
    OrchestratorRequest, PingPong,
};

/// The largest request in bytes.
const REQUEST_BYTES_MAX: usize = 256 << 10;

/// The routes of the service.
pub(super) fn router(orchestrator: Orchestrator) -> axum::Router {
    let service =
        OrchestratorServer::new(Face(orchestrator)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let mut routes = tonic::service::Routes::builder();
    routes.add_service(service);
    routes.routes().into_axum_router().reset_fallback()
}

struct Face(Orchestrator);

#[tonic::async_trait]
impl Service for Face {
    async fn get_orchestrator(
        &self,
        request: Request<OrchestratorRequest>,
    ) -> Result<Response<OrchestratorInfo>, Status> {
        let info = self.0.info(request.get_ref());
        info.map(Response::new).map_err(|error| Status::unknown(error.to_string()))
    }

    async fn end_transcoding_session(
        &self,
        _: Request<EndTranscodingSessionRequest>,
    ) -> Result<Response<EndTranscodingSessionResponse>, Status> {
        // Live jobs end with their input channel; there are no others here.
        Ok(Response::new(EndTranscodingSessionResponse {}))
    }

    async fn ping(&self, request: Request<PingPong>) -> Result<Response<PingPong>, Status> {
        let value = request.into_inner().value;
        if value.len() > ID_BYTES_MAX {
            return Err(Status::invalid_argument("ping value too long"));
        }
        let value = self.0.inner.parts.signer.sign_node(&value).to_vec();
        Ok(Response::new(PingPong { value }))
    }
}
