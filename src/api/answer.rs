//! Answers of `/v3` in MediaMTX's form: pages of lists, `{"status":"ok"}`, errors with their status.

use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts as Head;
use axum::response::{IntoResponse, Json, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::config::ChangeError;

/// The longest page in items.
const PAGE_ITEMS_MAX: usize = 1000;

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageOf {
    /// The page, from 0.
    #[serde(default)]
    page: usize,
    /// Items of a page, 1 to 1000.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    items_per_page: usize,
}

fn hundred() -> usize {
    100
}

impl<S: Send + Sync> FromRequestParts<S> for PageOf {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, _: &S) -> Result<Self, Problem> {
        let page = Query::<Self>::try_from_uri(&head.uri);
        page.map(|Query(page)| page).map_err(|error| Problem::bad(error.body_text()))
    }
}

/// A document in a request, whatever its content type says it is.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| Problem::new(error.status(), error.body_text()))?;
        let document = serde_json::from_slice(&bytes);
        document.map(Self).map_err(|error| Problem::bad(error.to_string()))
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<T> {
    /// Items on all pages.
    item_count: usize,
    /// Pages.
    page_count: usize,
    /// Those of this page.
    items: Vec<T>,
}

impl PageOf {
    /// This page of all items.
    pub(super) fn of<T>(self, all: Vec<T>) -> Result<Json<List<T>>, Problem> {
        let size = self.items_per_page;
        if size == 0 || size > PAGE_ITEMS_MAX {
            return Err(Problem::bad(format!("itemsPerPage: 1 to {PAGE_ITEMS_MAX} are allowed")));
        }
        let item_count = all.len();
        let skip = self.page.saturating_mul(size);
        let items = all.into_iter().skip(skip).take(size).collect();
        Ok(Json(List { item_count, page_count: item_count.div_ceil(size), items }))
    }
}

/// Done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// The answer to what was done.
pub(super) fn done() -> Json<Done> {
    Json(Done { status: "ok" })
}

/// Why something was not done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    #[serde(skip)]
    code: StatusCode,
    /// `error`.
    #[schema(example = "error")]
    status: &'static str,
    /// For a person.
    error: String,
}

impl Problem {
    fn new(code: StatusCode, error: String) -> Self {
        Self { code, status: "error", error }
    }

    /// 400.
    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.into())
    }

    /// 404.
    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error.into())
    }

    /// 409.
    pub(super) fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error.into())
    }

    /// 500.
    pub(super) fn internal(error: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.code, Json(self)).into_response()
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound(text) => Self::not_found(text),
            ChangeError::Journal(error) => Self::internal(format!("{error:#}")),
            error => Self::bad(error.to_string()),
        }
    }
}

/// A time as RFC 3339 has it.
pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_in_pages_and_a_page_behind_the_end_is_empty() {
        let page = |page, items_per_page| {
            let list = PageOf { page, items_per_page }.of((0..5).collect::<Vec<_>>());
            list.map(|Json(list)| (list.item_count, list.page_count, list.items)).ok()
        };
        assert_eq!(page(0, 2), Some((5, 3, vec![0, 1])));
        assert_eq!(page(2, 2), Some((5, 3, vec![4])));
        assert_eq!(page(3, 2), Some((5, 3, vec![])));
        assert_eq!(page(usize::MAX, 1000), Some((5, 1, vec![])));
        assert_eq!(page(0, 0), None);
        assert_eq!(page(0, 1001), None);
    }
}
