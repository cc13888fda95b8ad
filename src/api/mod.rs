//! The control API on 9997: MediaMTX's resources (`/v3`) and our own (`/v1`), with the document that
//! describes them made from the handlers themselves.
//!
//! Handlers translate only: what they show comes from [`Parts`], what they change goes through
//! [`crate::config::Store`], so that a change is whole or not at all and survives a restart.

mod access;
mod answer;
mod config;
mod connections;
mod forward;
pub(crate) mod fuzz;
mod muxers;
mod names;
mod node;
mod paths;
mod recordings;
mod session;
mod sessions;
mod settings;

use axum::Router;
use axum::http::Uri;
use axum::response::Json;
use axum::routing::{any, get};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::status::Parts;
use answer::Problem;

pub(crate) use node::update;
pub(crate) use sessions::{Reader, readers};

/// What the document says of the whole.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Millstream",
        description = "The control API of a node. `/v3` has the resources and shapes of MediaMTX's \
                       API; `/v1` is our own. See docs/api.md."
    ),
    tags(
        (name = "paths", description = "Streams"),
        (name = "sessions", description = "Who publishes and watches"),
        (name = "recordings", description = "What was recorded"),
        (name = "config", description = "Settings in MediaMTX's names"),
        (name = "settings", description = "Settings in our names"),
        (name = "access", description = "Links and tokens"),
        (name = "graphs", description = "What is done to the pictures of streams"),
        (name = "node", description = "The node itself"),
    )
)]
struct Described;

/// The routes, and the document that describes them.
fn described() -> (Router<Parts>, OpenApi) {
    let mut described = Described::openapi();
    described.merge(node::OfStreams::openapi());
    let routes = OpenApiRouter::with_openapi(described)
        .routes(routes!(paths::info))
        .routes(routes!(paths::list))
        .routes(routes!(paths::get))
        .routes(routes!(forward::list))
        .routes(routes!(forward::get))
        .merge(sessions::routes())
        .merge(connections::routes())
        .routes(routes!(recordings::list))
        .routes(routes!(recordings::get))
        .routes(routes!(recordings::delete_segment))
        .routes(routes!(config::global_get))
        .routes(routes!(config::global_patch))
        .routes(routes!(config::defaults_get))
        .routes(routes!(config::defaults_patch))
        .routes(routes!(config::list))
        .routes(routes!(config::get))
        .routes(routes!(config::add))
        .routes(routes!(config::patch))
        .routes(routes!(config::replace))
        .routes(routes!(config::delete))
        .routes(routes!(settings::get, settings::patch))
        .routes(routes!(access::refresh_keys))
        .routes(routes!(access::link))
        .routes(routes!(access::tokens, access::make_token))
        .routes(routes!(access::take_back))
        .routes(routes!(node::status))
        .routes(routes!(node::trace))
        .routes(routes!(node::object_info));
    let (router, document) = routes.split_for_parts();
    (router, finished(document))
}

/// The routes with the document at `/openapi.json`.
pub fn router() -> Router<Parts> {
    let (router, document) = described();
    let document = std::sync::Arc::new(document);
    let streams = get(node::stream_get).post(node::stream_post);
    let router = router.route("/v1/streams/{*path}", streams);
    router
        .route("/openapi.json", get(async move || Json((*document).clone())))
        .route("/v1/{*rest}", any(unknown))
        .route("/v3/{*rest}", any(unknown))
}

/// What is asked for where there is nothing, in the form of all other errors.
async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(format!("there is no {}; /openapi.json lists what there is", uri.path()))
}

/// The document, as `docs/openapi.json` has it.
pub fn document() -> OpenApi {
    described().1
}

/// Names of operations from their paths, and path parameters as the standard writes them.
fn finished(mut document: OpenApi) -> OpenApi {
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        let plain = path.replace("{*", "{");
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (verb, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(operation_id(verb, &plain));
            }
        }
        document.paths.paths.insert(plain, item);
    }
    document
}

/// `get` of `/v3/rtmpconns/list` is `getV3RtmpconnsList`.
fn operation_id(verb: &str, path: &str) -> String {
    let mut id = verb.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty() && !part.starts_with('{')) {
        let mut letters = part.chars();
        id.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        id.push_str(letters.as_str());
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `MILLSTREAM_TEST_WRITE` set, the file is written instead.
    #[test]
    fn the_document_in_docs_is_what_the_code_says() {
        let now = format!("{}\n", document().to_pretty_json().unwrap());
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        if std::env::var_os("MILLSTREAM_TEST_WRITE").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == now,
            "docs/openapi.json is old: run this test with MILLSTREAM_TEST_WRITE=1"
        );
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in document().paths.paths {
            for operation in [item.get, item.post, item.patch, item.delete].into_iter().flatten() {
                let name = operation.operation_id.unwrap();
                assert!(names.insert(name.clone()), "{path}: {name} is there twice");
            }
        }
        assert!(names.contains("postV3RtmpconnsKick"), "{names:?}");
    }
}
