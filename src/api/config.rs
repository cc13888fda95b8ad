//! `/v3/config`: settings in MediaMTX's names. Changes are checked as a whole, written to the journal
//! and applied while the node runs.

use std::sync::Arc;

use axum::extract::{Path as Named, State};
use axum::response::Json;
use serde_json::{Map, Value as Any};
use toml::{Table, Value};

use super::answer::{Body, Done, List, PageOf, Problem, done};
use super::names::{self, Change, GLOBAL, STREAM};
use super::settings::{hidden, refuse_hidden};
use crate::config::{ChangeError, Edit, Loaded, Store};
use crate::status::Parts;

/// Settings in MediaMTX's names.
pub(super) type Settings = Map<String, Any>;

/// Settings of the node.
#[utoipa::path(
    get,
    path = "/v3/config/global/get",
    tag = "config",
    responses((status = 200, body = Object))
)]
pub(super) async fn global_get(State(parts): State<Parts>) -> Json<Settings> {
    let loaded = parts.store.current();
    let mut map = names::theirs(GLOBAL, &hidden(&loaded.table), false);
    for listener in ["api", "metrics", "webrtc"] {
        map.insert(listener.into(), true.into());
    }
    map.insert("authMethod".into(), method(&loaded).into());
    Json(map)
}

/// MediaMTX's word for what decides who may do what.
fn method(loaded: &Loaded) -> &'static str {
    let auth = &loaded.settings.auth;
    match (auth.webhook.url.is_empty(), auth.jwt.jwks.is_empty()) {
        (false, _) => "http",
        (_, false) => "jwt",
        _ => "internal",
    }
}

/// Changes settings of the node; those that need a restart count from the next start on.
#[utoipa::path(
    patch,
    path = "/v3/config/global/patch",
    tag = "config",
    request_body = Object,
    responses((status = 200, body = Done), (status = 400, body = Problem))
)]
pub(super) async fn global_patch(
    State(parts): State<Parts>,
    Body(map): Body<Settings>,
) -> Result<Json<Done>, Problem> {
    let changes = names::ours(GLOBAL, map, false).map_err(Problem::bad)?;
    change(&parts.store, move |_| Ok(edits(Vec::new(), changes))).await
}

/// What streams have that say nothing else.
#[utoipa::path(
    get,
    path = "/v3/config/pathdefaults/get",
    tag = "config",
    responses((status = 200, body = Object))
)]
pub(super) async fn defaults_get(State(parts): State<Parts>) -> Json<Settings> {
    let loaded = parts.store.current();
    let mut all = basis(&loaded);
    all.extend(section(&loaded.table, "stream_defaults"));
    Json(names::theirs(STREAM, &hidden(&all), true))
}

/// Changes them.
#[utoipa::path(
    patch,
    path = "/v3/config/pathdefaults/patch",
    tag = "config",
    request_body = Object,
    responses((status = 200, body = Done), (status = 400, body = Problem))
)]
pub(super) async fn defaults_patch(
    State(parts): State<Parts>,
    Body(map): Body<Settings>,
) -> Result<Json<Done>, Problem> {
    let changes = names::ours(STREAM, map, true).map_err(Problem::bad)?;
    change(&parts.store, move |_| Ok(edits(vec!["stream_defaults".into()], changes))).await
}

/// Streams and expressions that have settings.
#[utoipa::path(
    get,
    path = "/v3/config/paths/list",
    tag = "config",
    params(PageOf),
    responses((status = 200, body = List<Object>), (status = 400, body = Problem))
)]
pub(super) async fn list(
    State(parts): State<Parts>,
    page: PageOf,
) -> Result<Json<List<Settings>>, Problem> {
    let loaded = parts.store.current();
    page.of(loaded.settings.streams.keys().map(|name| shown(&loaded, name)).collect())
}

/// The settings of one, with what it does not say itself.
#[utoipa::path(
    get,
    path = "/v3/config/paths/get/{*name}",
    tag = "config",
    params(("name" = String, Path, description = "Its key in the settings")),
    responses((status = 200, body = Object), (status = 404, body = Problem))
)]
pub(super) async fn get(
    State(parts): State<Parts>,
    Named(name): Named<String>,
) -> Result<Json<Settings>, Problem> {
    let loaded = parts.store.current();
    match loaded.settings.streams.contains_key(&name) {
        true => Ok(Json(shown(&loaded, &name))),
        false => Err(Problem::not_found(NOT_FOUND)),
    }
}

/// Adds one.
#[utoipa::path(
    post,
    path = "/v3/config/paths/add/{*name}",
    tag = "config",
    params(("name" = String, Path, description = "A stream, `~` and an expression, or all_others")),
    request_body = Object,
    responses((status = 200, body = Done), (status = 400, body = Problem))
)]
pub(super) async fn add(
    State(parts): State<Parts>,
    Named(name): Named<String>,
    Body(map): Body<Settings>,
) -> Result<Json<Done>, Problem> {
    let table = whole(map)?;
    change(&parts.store, move |loaded| {
        if loaded.settings.streams.contains_key(&name) {
            return Err(ChangeError::Refused("path already exists".into()));
        }
        let path = vec!["streams".into(), name];
        Ok(vec![Edit::Set { path, value: Value::Table(table) }])
    })
    .await
}

/// Changes one; `null` forgets a setting.
#[utoipa::path(
    patch,
    path = "/v3/config/paths/patch/{*name}",
    tag = "config",
    params(("name" = String, Path, description = "Its key in the settings")),
    request_body = Object,
    responses(
        (status = 200, body = Done),
        (status = 400, body = Problem),
        (status = 404, body = Problem)
    )
)]
pub(super) async fn patch(
    State(parts): State<Parts>,
    Named(name): Named<String>,
    Body(map): Body<Settings>,
) -> Result<Json<Done>, Problem> {
    let changes = names::ours(STREAM, without_name(map), true).map_err(Problem::bad)?;
    change(&parts.store, move |loaded| {
        there(loaded, &name)?;
        Ok(edits(vec!["streams".into(), name], changes))
    })
    .await
}

/// Gives one these settings and no others; it is added where it is not there.
#[utoipa::path(
    post,
    path = "/v3/config/paths/replace/{*name}",
    tag = "config",
    params(("name" = String, Path, description = "Its key in the settings")),
    request_body = Object,
    responses((status = 200, body = Done), (status = 400, body = Problem))
)]
pub(super) async fn replace(
    State(parts): State<Parts>,
    Named(stream): Named<String>,
    Body(map): Body<Settings>,
) -> Result<Json<Done>, Problem> {
    let table = whole(map)?;
    change(&parts.store, move |_| Ok(vec![Edit::Replace { stream, table }])).await
}

/// Takes one away.
#[utoipa::path(
    delete,
    path = "/v3/config/paths/delete/{*name}",
    tag = "config",
    params(("name" = String, Path, description = "Its key in the settings")),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
pub(super) async fn delete(
    State(parts): State<Parts>,
    Named(stream): Named<String>,
) -> Result<Json<Done>, Problem> {
    change(&parts.store, move |loaded| {
        there(loaded, &stream)?;
        Ok(vec![Edit::Remove { stream }])
    })
    .await
}

const NOT_FOUND: &str = "path configuration not found";

fn there(loaded: &Loaded, name: &str) -> Result<(), ChangeError> {
    match loaded.settings.streams.contains_key(name) {
        true => Ok(()),
        false => Err(ChangeError::NotFound(NOT_FOUND.into())),
    }
}

/// What a stream has of the settings for all.
fn basis(loaded: &Loaded) -> Table {
    let settings = &loaded.settings;
    let mut table = Table::new();
    table.insert("graph".into(), settings.pipeline.graph.clone().into());
    table.insert("take_over".into(), settings.rtmp.take_over.into());
    table
}

fn shown(loaded: &Loaded, name: &str) -> Settings {
    let mut all = basis(loaded);
    all.extend(section(&loaded.table, "stream_defaults"));
    let streams = section(&loaded.table, "streams");
    all.extend(streams.get(name).and_then(Value::as_table).cloned().unwrap_or_default());
    let mut map = Settings::from_iter([("name".to_owned(), name.into())]);
    map.extend(names::theirs(STREAM, &hidden(&all), true));
    map
}

fn section(table: &Table, name: &str) -> Table {
    table.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
}

/// Clients send the name along with what `get` gave them.
fn without_name(mut map: Settings) -> Settings {
    map.remove("name");
    map
}

/// All settings of a stream.
fn whole(map: Settings) -> Result<Table, Problem> {
    let changes = names::ours(STREAM, without_name(map), true).map_err(Problem::bad)?;
    let set = |(path, value): Change| Some((path.concat(), value?));
    Ok(changes.into_iter().filter_map(set).collect())
}

fn edits(below: Vec<String>, changes: Vec<Change>) -> Vec<Edit> {
    let edit = |(path, value): Change| {
        let path = below.iter().cloned().chain(path).collect();
        match value {
            Some(value) => Edit::Set { path, value },
            None => Edit::Reset { path },
        }
    };
    changes.into_iter().map(edit).collect()
}

/// Changes settings where waiting for the disk keeps nobody waiting.
async fn change(
    store: &Arc<Store>,
    edits: impl FnOnce(&Loaded) -> Result<Vec<Edit>, ChangeError> + Send + 'static,
) -> Result<Json<Done>, Problem> {
    let store = Arc::clone(store);
    let task = tokio::task::spawn_blocking(move || {
        store.change(|loaded| {
            let edits = edits(loaded)?;
            refuse_hidden(&edits)?;
            Ok(edits)
        })
    });
    let applied = task.await.map_err(|error| Problem::internal(error.to_string()))??;
    tracing::info!(changed = ?applied.changed, restart = ?applied.restart, "settings changed by the API");
    Ok(done())
}
