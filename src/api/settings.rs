//! `/v1/settings`: all settings in our names, changed by JSON merge patch (RFC 7396): many streams in
//! one call, whole or not at all.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;
use serde_json::{Map, Value as Any};
use toml::{Table, Value};
use utoipa::ToSchema;

use super::answer::{Body, Problem};
use super::names;
use crate::config::{ChangeError, Edit};
use crate::status::Parts;

/// What is shown instead of a password, and never taken for one.
const HIDDEN: &str = "********";

/// Ends of names whose values are not shown.
const SECRETS: [&str; 8] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "bearer",
    // Of stores of recordings.
    "access_key",
    "account_key",
    "sas_key",
];

/// Levels of sections.
const DEPTH_MAX: usize = 16;

/// What a change did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Applied {
    /// Settings that have another value now.
    changed: Vec<String>,
    /// Those of them that count from the next start on.
    restart: Vec<String>,
}

/// The settings in force; passwords are hidden.
#[utoipa::path(get, path = "/v1/settings", tag = "settings", responses((status = 200, body = Object)))]
pub(super) async fn get(State(parts): State<Parts>) -> Json<Any> {
    let table = hidden(&parts.store.current().table);
    Json(names::json(&Value::Table(table)))
}

/// Changes settings: what is in the document is set, `null` forgets a change, and `null` for a stream
/// takes the stream away.
#[utoipa::path(
    patch,
    path = "/v1/settings",
    tag = "settings",
    request_body(content = Object, content_type = "application/merge-patch+json"),
    responses((status = 200, body = Applied), (status = 400, body = Problem))
)]
pub(super) async fn patch(
    State(parts): State<Parts>,
    Body(document): Body<Map<String, Any>>,
) -> Result<Json<Applied>, Problem> {
    let edits = edits_of(document).map_err(Problem::bad)?;
    let store = Arc::clone(&parts.store);
    let task = tokio::task::spawn_blocking(move || {
        refuse_hidden(&edits)?;
        store.change(|_| Ok(edits))
    });
    let applied = task.await.map_err(|error| Problem::internal(error.to_string()))??;
    tracing::info!(changed = ?applied.changed, restart = ?applied.restart, "settings changed by the API");
    Ok(Json(Applied { changed: applied.changed, restart: applied.restart }))
}

/// The edits that a document stands for.
pub(super) fn edits_of(document: Map<String, Any>) -> Result<Vec<Edit>, String> {
    let mut edits = Vec::new();
    collect(&mut edits, &mut Vec::new(), document)?;
    Ok(edits)
}

fn collect(
    edits: &mut Vec<Edit>,
    path: &mut Vec<String>,
    document: Map<String, Any>,
) -> Result<(), String> {
    if path.len() >= DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} levels"));
    }
    let stream = path.len() == 1 && path[0] == "streams";
    for (key, value) in document {
        path.push(key);
        match value {
            Any::Null if stream => {
                let stream = path.last().cloned().unwrap_or_default();
                edits.push(Edit::Remove { stream });
            }
            Any::Null => edits.push(Edit::Reset { path: path.clone() }),
            Any::Object(inner) => {
                // A stream without settings is one all the same.
                if stream && inner.is_empty() {
                    let value = Value::Table(Table::new());
                    edits.push(Edit::Set { path: path.clone(), value });
                }
                collect(edits, path, inner)?;
            }
            value => {
                let value = names::value_of(value)
                    .map_err(|error| format!("{}: {error}", path.join(".")))?;
                edits.push(Edit::Set { path: path.clone(), value });
            }
        }
        path.pop();
    }
    Ok(())
}

/// The settings without passwords.
pub(super) fn hidden(table: &Table) -> Table {
    let mut table = table.clone();
    hide(&mut table);
    table
}

fn hide(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::String(text) if is_secret(key, text) => HIDDEN.clone_into(text),
            Value::Table(inner) => hide(inner),
            Value::Array(list) => list.iter_mut().filter_map(Value::as_table_mut).for_each(hide),
            _ => {}
        }
    }
}

/// A secret with something in it.
fn is_secret(key: &str, text: &str) -> bool {
    !text.is_empty() && SECRETS.iter().any(|end| key.ends_with(end))
}

/// Refuses what [`hidden`] put in: a client that sends back what it got must not set passwords.
pub(super) fn refuse_hidden(edits: &[Edit]) -> Result<(), ChangeError> {
    fn holds(value: &Value) -> bool {
        match value {
            Value::String(text) => text == HIDDEN,
            Value::Table(table) => table.values().any(holds),
            Value::Array(list) => list.iter().any(holds),
            _ => false,
        }
    }
    for edit in edits {
        let found = match edit {
            Edit::Set { value, .. } => holds(value),
            Edit::Replace { table, .. } => table.values().any(holds),
            Edit::Reset { .. } | Edit::Remove { .. } => false,
        };
        if found {
            let names = edit.touches().join(", ");
            let reason = format!("{names}: {HIDDEN} stands for a hidden value, send the value");
            return Err(ChangeError::Refused(reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_many_edits_and_null_takes_away() {
        let document = json!({
            "streams": {"a": {"graph": "none"}, "b": {}, "c": null},
            "drain_seconds": null,
            "rtmp": {"take_over": true},
        });
        let edits = edits_of(document.as_object().unwrap().clone()).unwrap();
        let touched: Vec<String> = edits.iter().flat_map(Edit::touches).collect();
        let wanted =
            ["streams.a.graph", "streams.b", "streams.c", "drain_seconds", "rtmp.take_over"];
        assert_eq!(touched, wanted);
        assert!(matches!(&edits[2], Edit::Remove { stream } if stream == "c"));
    }

    #[test]
    fn passwords_are_hidden_and_what_hides_them_is_not_taken_back() {
        let table: Table = "[auth]\npublish_password = \"x\"\nread_password = \"\"\n\
             [[auth.users]]\nuser = \"ann\"\npassword = \"y\"\n"
            .parse()
            .unwrap();
        let text = hidden(&table).to_string();
        assert!(!text.contains("\"x\"") && !text.contains("\"y\""), "{text}");
        assert!(text.contains("read_password = \"\""), "{text}");
        let value = hidden(&table)["auth"].clone();
        let edit = Edit::Set { path: vec!["auth".into()], value };
        assert!(refuse_hidden(&[edit]).is_err());
    }
}
