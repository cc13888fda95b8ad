//! Links and tokens: made here, listed, taken back.

use std::time::{Duration, SystemTime};

use axum::extract::{Path as Named, State};
use axum::http::StatusCode;
use axum::response::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{Body, Done, Problem, done, time};
use crate::access::links::Made;
use crate::access::tokens::{Kept, TokenError};
use crate::config::{Permission, Right};
use crate::status::Parts;

/// The longest life of a token in seconds: ten years.
const TOKEN_SECONDS_MAX: u64 = 10 * 366 * 86_400;

/// The longest note of a token in bytes.
const NOTE_BYTES_MAX: usize = 256;

/// A link that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkWish {
    /// The stream.
    stream: String,
    /// `read`, `publish` or `playback`.
    #[serde(default = "read")]
    #[schema(default = "read")]
    action: String,
    /// How long it is good.
    seconds: u64,
    /// Where people reach the node; the HTTP listener's address otherwise.
    base: Option<String>,
}

fn read() -> String {
    "read".into()
}

/// A link.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Link {
    /// What is put behind an address of the stream.
    #[schema(example = "exp=1900000000&sig=...")]
    query: String,
    /// When it ends.
    end: String,
    /// Whole addresses by what they are for: `page`, `whep`, `hls`, `whip`.
    urls: std::collections::BTreeMap<String, String>,
}

/// Makes a link that lets somebody in until a time, without an account.
#[utoipa::path(
    post,
    path = "/v1/links",
    tag = "access",
    request_body = LinkWish,
    responses((status = 200, body = Link), (status = 400, body = Problem))
)]
pub(super) async fn link(
    State(parts): State<Parts>,
    Body(wish): Body<LinkWish>,
) -> Result<Json<Link>, Problem> {
    let edge = parts.edge.map(|address| format!("http://{address}"));
    let base = wish.base.or(edge).unwrap_or_default();
    let links = parts.access.links();
    let made =
        Made::new(&links, &wish.action, &wish.stream, wish.seconds, &base, SystemTime::now());
    let Made { query, end, urls } = made.map_err(Problem::bad)?;
    let urls = urls.into_iter().map(|(kind, url)| (kind.to_owned(), url)).collect();
    Ok(Json(Link { query, end: at(end), urls }))
}

/// A token that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenWish {
    /// What it is good for.
    permissions: Vec<PermissionView>,
    /// How long.
    seconds: u64,
    /// Who it is for, in words of yours.
    #[serde(default)]
    note: String,
}

/// Something that a bearer may do.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Permission)]
struct PermissionView {
    /// `publish`, `read`, `playback`, `api` or `metrics`.
    #[schema(value_type = String)]
    action: Right,
    /// A stream, or `~` and an expression; empty: all.
    #[serde(default)]
    path: String,
}

/// A token, as it is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Token {
    /// Its name when it is taken back.
    id: String,
    /// Who it is for.
    note: String,
    /// What it is good for.
    permissions: Vec<PermissionView>,
    /// When it ends.
    end: String,
}

/// A new token. It is told this once; only its hash is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewToken {
    /// The token.
    #[schema(example = "ms_Zm9yIGV4YW1wbGUgb25seQ")]
    token: String,
    /// What is kept of it.
    #[serde(flatten)]
    kept: Token,
}

impl Token {
    fn of(kept: Kept) -> Self {
        let view = |Permission { action, path }| PermissionView { action, path };
        let permissions = kept.permissions.into_iter().map(view).collect();
        Self { id: kept.id, note: kept.note, permissions, end: at(kept.end) }
    }
}

fn at(seconds: u64) -> String {
    time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// All tokens; those that end first come first.
#[utoipa::path(get, path = "/v1/tokens", tag = "access", responses((status = 200, body = [Token])))]
pub(super) async fn tokens(State(parts): State<Parts>) -> Json<Vec<Token>> {
    Json(parts.access.tokens().list().into_iter().map(Token::of).collect())
}

/// Makes a short token, for SRT's stream id say.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "access",
    request_body = TokenWish,
    responses((status = 201, body = NewToken), (status = 400, body = Problem))
)]
pub(super) async fn make_token(
    State(parts): State<Parts>,
    Body(wish): Body<TokenWish>,
) -> Result<(StatusCode, Json<NewToken>), Problem> {
    if wish.seconds == 0 || wish.seconds > TOKEN_SECONDS_MAX {
        return Err(Problem::bad(format!("seconds: 1 to {TOKEN_SECONDS_MAX} are allowed")));
    }
    if wish.note.len() > NOTE_BYTES_MAX {
        return Err(Problem::bad(format!("note: {NOTE_BYTES_MAX} bytes at most")));
    }
    let permission = |PermissionView { action, path }| Permission { action, path };
    let permissions = wish.permissions.into_iter().map(permission).collect();
    let lifetime = Duration::from_secs(wish.seconds);
    let access = parts.access.clone();
    let task = tokio::task::spawn_blocking(move || {
        access.tokens().make(&wish.note, permissions, lifetime, SystemTime::now())
    });
    let made = task.await.map_err(|error| Problem::internal(error.to_string()))?;
    let (token, kept) = made.map_err(|error| match error {
        TokenError::File(_) => Problem::internal(error.to_string()),
        _ => Problem::bad(error.to_string()),
    })?;
    Ok((StatusCode::CREATED, Json(NewToken { token, kept: Token::of(kept) })))
}

/// Takes a token back.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    tag = "access",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
pub(super) async fn take_back(
    State(parts): State<Parts>,
    Named(id): Named<String>,
) -> Result<Json<Done>, Problem> {
    let access = parts.access.clone();
    let task = tokio::task::spawn_blocking(move || access.tokens().take_back(&id));
    let taken = task.await.map_err(|error| Problem::internal(error.to_string()))?;
    match taken.map_err(|error| Problem::internal(format!("{error:#}")))? {
        true => Ok(done()),
        false => Err(Problem::not_found("token not found")),
    }
}

/// Fetches the identity provider's keys again.
#[utoipa::path(
    post,
    path = "/v3/auth/jwks/refresh",
    tag = "access",
    responses((status = 200, body = Done), (status = 500, body = Problem))
)]
pub(super) async fn refresh_keys(State(parts): State<Parts>) -> Result<Json<Done>, Problem> {
    parts.access.refresh_keys().await.map_err(Problem::internal)?;
    Ok(done())
}
