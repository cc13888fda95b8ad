//! The callback that decides: a signed question over HTTP, and its answer.

use std::time::{Duration, SystemTime};

use ingest::auth::Request;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use tracing::warn;

use super::terms::{Spelled, Terms};
use crate::config::Webhook;
use crate::signing;

/// The longest answer in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The question's fields, in the form that MediaMTX's users know.
#[derive(Serialize)]
struct Question<'a> {
    user: &'a str,
    password: &'a str,
    token: &'a str,
    ip: String,
    action: &'static str,
    path: &'a str,
    protocol: &'static str,
    id: &'a str,
    query: &'a str,
    #[serde(rename = "userAgent")]
    user_agent: &'a str,
}

/// It said no, or nothing that can be used.
pub(super) struct Refused {
    pub(super) reason: String,
    /// Other credentials may help.
    pub(super) ask_credentials: bool,
}

impl Refused {
    fn final_(reason: String) -> Self {
        Self { reason, ask_credentials: false }
    }
}

/// Asks. Any 2xx is a yes, unless its JSON says `"allowed": false`.
pub(super) async fn ask(
    client: &reqwest::Client,
    settings: &Webhook,
    request: &Request,
) -> Result<Terms, Refused> {
    let question = Question {
        user: &request.user,
        password: &request.password,
        token: &request.token,
        ip: request.ip.to_string(),
        action: request.action.as_str(),
        path: request.name.base(),
        protocol: request.protocol,
        id: &request.id,
        query: &request.query,
        user_agent: &request.user_agent,
    };
    let limit = Duration::from_millis(settings.timeout_ms);
    let answer = tokio::time::timeout(limit, post(client, settings, &question)).await;
    let (status, body) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            warn!(error, "the auth callback gave no answer");
            return Err(Refused::final_("the auth callback gave no answer".into()));
        }
        Err(_) => {
            warn!(?limit, "the auth callback gave no answer in time");
            return Err(Refused::final_("the auth callback gave no answer in time".into()));
        }
    };
    if !status.is_success() {
        let reason = format!("the auth callback answered {}", status.as_u16());
        return Err(Refused { reason, ask_credentials: status.as_u16() == 401 });
    }
    terms(&body)
}

/// What the body of a yes says.
pub(super) fn terms(body: &[u8]) -> Result<Terms, Refused> {
    // Callbacks that only know yes and no answer with anything or nothing.
    let Ok(spelled) = serde_json::from_slice::<Spelled>(body) else {
        return match body.trim_ascii_start().first() {
            Some(b'{') => Err(Refused::final_("the auth callback's answer cannot be read".into())),
            _ => Ok(Terms::default()),
        };
    };
    if spelled.allowed == Some(false) {
        return Err(Refused::final_(format!("the auth callback refused: {:?}", spelled.reason)));
    }
    spelled.terms().map_err(|error| Refused::final_(format!("the auth callback's answer: {error}")))
}

/// The status and the beginning of the body.
async fn post(
    client: &reqwest::Client,
    settings: &Webhook,
    question: &Question<'_>,
) -> Result<(reqwest::StatusCode, Vec<u8>), String> {
    let body = serde_json::to_vec(question).map_err(|error| error.to_string())?;
    let mut request = client.post(&settings.url).header(CONTENT_TYPE, "application/json");
    if !settings.secret.is_empty() {
        let value = signing::sign(&settings.secret, signing::seconds(SystemTime::now()), &body);
        request = request.header(signing::HEADER, value);
    }
    let fault = |error: reqwest::Error| error.without_url().to_string();
    let answer = request.body(body).send().await.map_err(fault)?;
    let status = answer.status();
    let body = crate::read_body(answer, ANSWER_BYTES_MAX).await?;
    Ok((status, body))
}
