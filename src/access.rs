//! Who may publish and read: credentials from the settings, or a callback that decides.

use std::time::Duration;

use base64::Engine as _;
use futures_util::future::BoxFuture;
use ingest::auth::{Access, Action, Grant, Refusal, Request};
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use tracing::warn;

use crate::config;

/// Answers the listeners' questions.
pub struct NodeAccess {
    settings: config::Auth,
    client: reqwest::Client,
}

/// The callback's fields, in the form that MediaMTX's users know.
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

impl NodeAccess {
    /// Access by these settings.
    pub fn new(settings: config::Auth, client: reqwest::Client) -> Self {
        Self { settings, client }
    }

    /// User and password of those who may do this; an empty password asks nobody.
    fn expected(&self, action: Action) -> (&String, &String) {
        match action {
            Action::Publish => (&self.settings.publish_user, &self.settings.publish_password),
            Action::Read | Action::Playback => {
                (&self.settings.read_user, &self.settings.read_password)
            }
        }
    }

    fn check_credentials(&self, request: &Request) -> Result<(), Refusal> {
        let (user, password) = self.expected(request.action);
        if password.is_empty() {
            return Ok(());
        }
        // Takes the same time however much of it is right.
        let same = |a: &str, b: &str| bool::from(a.as_bytes().ct_eq(b.as_bytes()));
        let bearer =
            same(&request.token, password) || same(&request.token, &format!("{user}:{password}"));
        let pair =
            (user.is_empty() || same(&request.user, user)) && same(&request.password, password);
        if bearer || pair {
            return Ok(());
        }
        let nothing =
            request.password.is_empty() && request.token.is_empty() && request.user.is_empty();
        let reason = if nothing { "credentials are needed" } else { "wrong credentials" };
        Err(Refusal { reason: reason.into(), ask_credentials: true })
    }

    async fn ask(&self, request: &Request) -> Result<(), Refusal> {
        let question = Question {
            user: &request.user,
            password: &request.password,
            token: &request.token,
            ip: request.ip.to_string(),
            action: request.action.as_str(),
            path: request.name.as_str(),
            protocol: request.protocol,
            id: &request.id,
            query: &request.query,
            user_agent: &request.user_agent,
        };
        let answer = self
            .client
            .post(&self.settings.webhook.url)
            .timeout(Duration::from_millis(self.settings.webhook.timeout_ms))
            .json(&question)
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Refusal {
                reason: format!("the auth callback answered {}", answer.status().as_u16()),
                ask_credentials: answer.status().as_u16() == 401,
            }),
            Err(error) => {
                warn!(error = %error.without_url(), "the auth callback gave no answer");
                let reason = "the auth callback gave no answer".into();
                Err(Refusal { reason, ask_credentials: false })
            }
        }
    }
}

impl Access for NodeAccess {
    /// None where a callback decides: only it knows them.
    fn passwords(&self, action: Action) -> Vec<(String, String)> {
        let (user, password) = self.expected(action);
        match self.settings.webhook.url.is_empty() && !password.is_empty() {
            true => vec![(user.clone(), password.clone())],
            false => Vec::new(),
        }
    }

    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        Box::pin(async move {
            if self.settings.webhook.url.is_empty() {
                self.check_credentials(&request)?;
            } else {
                self.ask(&request).await?;
            }
            Ok(Grant::of(&request))
        })
    }
}

/// User and password, or token, from an `Authorization` header.
pub fn from_header(value: &str) -> (String, String, String) {
    if let Some(token) = value.strip_prefix("Bearer ") {
        let token = token.trim();
        let (user, password) = token.split_once(':').unwrap_or_default();
        return (user.into(), password.into(), token.into());
    }
    let decoded = value
        .strip_prefix("Basic ")
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) = pair.unwrap_or_default();
    (user.into(), password.into(), String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: Action, user: &str, password: &str, token: &str) -> Request {
        Request {
            action,
            name: ingest::StreamName::parse("cam").unwrap(),
            protocol: "rtmp",
            id: "1".into(),
            ip: [127, 0, 0, 1].into(),
            user: user.into(),
            password: password.into(),
            token: token.into(),
            query: String::new(),
            user_agent: String::new(),
        }
    }

    #[tokio::test]
    async fn publishers_need_their_password_and_viewers_theirs() {
        let settings = config::Auth {
            publish_user: "tom".into(),
            publish_password: "secret".into(),
            ..config::Auth::default()
        };
        let access = NodeAccess::new(settings, client());
        let check = async |user: &str, password: &str, token: &str| {
            access.check(request(Action::Publish, user, password, token)).await.is_ok()
        };
        assert!(check("tom", "secret", "").await);
        assert!(check("", "", "secret").await);
        assert!(check("", "", "tom:secret").await);
        assert!(!check("tom", "wrong", "").await);
        assert!(!check("eve", "secret", "").await);
        assert!(!check("", "", "").await);
        assert!(access.check(request(Action::Read, "", "", "")).await.is_ok());
    }

    #[tokio::test]
    async fn the_callback_gets_the_known_fields_and_decides() {
        let seen = std::sync::Arc::new(parking_lot::Mutex::new(serde_json::Value::Null));
        let keep = std::sync::Arc::clone(&seen);
        let router = axum::Router::new().route(
            "/auth",
            axum::routing::post(async move |axum::Json(body): axum::Json<serde_json::Value>| {
                let good = body["password"] == "good";
                *keep.lock() = body;
                if good { axum::http::StatusCode::OK } else { axum::http::StatusCode::UNAUTHORIZED }
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/auth", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let webhook = config::Webhook { url, timeout_ms: 2000 };
        let access = NodeAccess::new(config::Auth { webhook, ..Default::default() }, client());
        assert!(access.check(request(Action::Publish, "u", "good", "")).await.is_ok());
        let body = seen.lock().clone();
        for field in [
            "user",
            "password",
            "token",
            "ip",
            "action",
            "path",
            "protocol",
            "id",
            "query",
            "userAgent",
        ] {
            assert!(body.get(field).is_some(), "{field} is missing");
        }
        let refused = access.check(request(Action::Publish, "u", "bad", "")).await.unwrap_err();
        assert!(refused.ask_credentials);
        server.abort();
        let gone = access.check(request(Action::Publish, "u", "good", "")).await;
        assert!(gone.is_err(), "no answer means no");
    }

    fn client() -> reqwest::Client {
        crate::http_client().unwrap()
    }

    #[test]
    fn the_header_forms_are_read() {
        let owned = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(from_header("Bearer abc"), owned("", "", "abc"));
        assert_eq!(from_header("Bearer tom:secret"), owned("tom", "secret", "tom:secret"));
        assert_eq!(from_header("Basic dG9tOnNlY3JldA=="), owned("tom", "secret", ""));
        assert_eq!(from_header("Basic !"), owned("", "", ""));
    }
}
