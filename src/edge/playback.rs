//! The listener for recordings.

use axum::Router;
use ingest::record::Recordings;
use ingest::record::playback::{self, Config};

use super::Edge;

/// Its routes.
pub(crate) fn router(edge: &Edge, recordings: Recordings) -> Router {
    let settings = &edge.settings;
    let config = Config {
        origins: settings.http.allow_origins.clone(),
        transfers_max: settings.playback.transfers_max,
    };
    playback::router(recordings, edge.access.clone(), &config)
}
