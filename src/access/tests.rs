//! The whole of the decision: users, callback, tokens, guesses.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ingest::hub::Limits;
use serde_json::{Value, json};

use super::*;
use crate::config::{Permission, User, Webhook};
use crate::signing;

fn request(action: Action, user: &str, password: &str, token: &str) -> Request {
    Request {
        action,
        name: StreamName::parse("cam").unwrap(),
        protocol: "rtmp",
        id: ingest::sessions::new_id(),
        ip: [192, 0, 2, 1].into(),
        user: user.into(),
        password: password.into(),
        token: token.into(),
        query: String::new(),
        user_agent: String::new(),
    }
}

/// Answers at once, so that only what is meant to be slow is.
fn quick() -> Auth {
    Auth { failure_delay_ms_max: 0, failures_max: 0, ..Auth::default() }
}

fn access(auth: &Auth) -> NodeAccess {
    access_to(auth, &Settings::default(), &Hub::new(Limits::default()))
}

/// As [`access`], for a hub and settings of its own.
fn access_to(auth: &Auth, settings: &Settings, hub: &Hub) -> NodeAccess {
    let streams = StreamSettings::new(settings).unwrap();
    let client = crate::http_client().unwrap();
    NodeAccess::new(auth, "own".into(), Tokens::in_memory(), streams, hub.clone(), client).unwrap()
}

fn user(name: &str, password: &str, permissions: &[(Right, &str)]) -> User {
    let permissions = permissions
        .iter()
        .map(|(action, path)| Permission { action: *action, path: (*path).into() })
        .collect();
    User { user: name.into(), password: password.into(), ips: Vec::new(), permissions }
}

#[tokio::test]
async fn publishers_need_their_password_and_viewers_theirs() {
    let auth = Auth {
        publish_user: "tom".into(),
        publish_password: passwords::hash("secret").unwrap(),
        ..quick()
    };
    let access = access(&auth);
    let check = async |user: &str, password: &str, token: &str| {
        access.check(request(Action::Publish, user, password, token)).await.is_ok()
    };
    assert!(check("tom", "secret", "").await);
    assert!(check("", "", "secret").await);
    assert!(check("tom", "secret", "tom:secret").await);
    assert!(!check("tom", "wrong", "").await);
    assert!(!check("eve", "secret", "").await);
    assert!(!check("", "", "").await);
    assert!(access.check(request(Action::Read, "", "", "")).await.is_ok());
}

#[tokio::test]
async fn a_user_does_what_the_permissions_say_and_is_told_apart_from_a_stranger() {
    let auth = Auth {
        users: vec![
            user("any", "", &[(Right::Read, "~^lobby")]),
            user("ann", "a", &[(Right::Publish, "cam"), (Right::Api, "")]),
            user("bob", "b", &[(Right::Read, ""), (Right::Metrics, "")]),
        ],
        ..quick()
    };
    let access = access(&auth);
    assert!(access.guards(Right::Api) && access.guards(Right::Metrics));
    let check = async |action, user: &str, password: &str| {
        let answer = access.check(request(action, user, password, "")).await;
        answer.map(|_| ()).map_err(|refusal| refusal.ask_credentials)
    };
    assert_eq!(check(Action::Publish, "ann", "a").await, Ok(()));
    assert_eq!(check(Action::Read, "bob", "b").await, Ok(()));
    // Known, so other credentials will not help.
    assert_eq!(check(Action::Read, "ann", "a").await, Err(false));
    assert_eq!(check(Action::Publish, "bob", "b").await, Err(false));
    assert_eq!(check(Action::Publish, "ann", "b").await, Err(true));
    assert_eq!(check(Action::Read, "", "").await, Err(true));
    let api = async |user: &str, password: &str| {
        let asked = Asked {
            right: Right::Api,
            stream: "",
            ip: [192, 0, 2, 1].into(),
            user,
            password,
            token: "",
            query: "",
        };
        access.allow(&asked).await.is_ok()
    };
    assert!(api("ann", "a").await && !api("bob", "b").await && !api("", "").await);
}

#[tokio::test]
async fn a_further_sound_may_be_read_by_whoever_may_read_its_stream() {
    let auth = Auth { users: vec![user("bob", "b", &[(Right::Read, "cam")])], ..quick() };
    let access = access(&auth);
    let read = async |name: &str, action| {
        let name = StreamName::parse(name).unwrap();
        let request = Request { name, ..request(action, "bob", "b", "") };
        access.check(request).await.map(|grant| grant.name.to_string()).map_err(|_| ())
    };
    assert_eq!(read("cam", Action::Read).await, Ok("cam".into()));
    assert_eq!(read("cam~audio2", Action::Read).await, Ok("cam~audio2".into()));
    assert_eq!(read("lobby~audio2", Action::Read).await, Err(()));
    assert_eq!(read("cam~audio2", Action::Publish).await, Err(()));
}

#[tokio::test]
async fn settings_that_change_count_for_the_next_question() {
    let access = access(&quick());
    assert!(access.check(request(Action::Publish, "", "", "")).await.is_ok());
    let mut settings = Settings { auth: quick(), ..Settings::default() };
    settings.auth.users = vec![user("ann", "a", &[(Right::Publish, "")])];
    access.prepare(&settings).unwrap()();
    assert!(access.check(request(Action::Publish, "", "", "")).await.is_err());
    assert!(access.check(request(Action::Publish, "ann", "a", "")).await.is_ok());
    settings.auth.users[0].password = "argon2:nonsense".into();
    assert!(access.prepare(&settings).is_err());
}

#[tokio::test]
async fn a_stream_takes_so_many_readers_and_others_when_one_goes() {
    let mut settings = Settings::default();
    let few = crate::config::Stream { readers_max: Some(2), ..Default::default() };
    settings.streams.insert("cam".into(), few);
    let hub = Hub::new(Limits::default());
    let access = access_to(&quick(), &settings, &hub);
    let ask = async |name: &str| {
        let asked = request(Action::Read, "", "", "");
        let asked = Request { name: StreamName::parse(name).unwrap(), ..asked };
        access.check(asked).await.map(drop).map_err(|refusal| refusal.reason)
    };
    let publish = |name: &str| {
        let publisher =
            ingest::hub::Publisher { protocol: "test", id: name.to_owned(), remote: String::new() };
        hub.publish(StreamName::parse(name).unwrap(), publisher, false).unwrap()
    };
    let _writers = [publish("cam"), publish("other")];
    let watch = |name: &str| {
        let name = StreamName::parse(name).unwrap();
        hub.subscribe(&name, ingest::hub::Start::Live).unwrap()
    };
    let first = watch("cam");
    assert_eq!(ask("cam").await, Ok(()));
    let _second = watch("cam");
    assert_eq!(ask("cam").await.unwrap_err(), "2 watch this stream, its limit");
    assert_eq!(ask("other").await, Ok(()), "others have no limit");
    assert!(access.check(request(Action::Publish, "", "", "")).await.is_ok(), "publishers neither");
    drop(first);
    assert_eq!(ask("cam").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_guesses_is_slowed_down_and_then_not_heard() {
    let auth = Auth {
        publish_password: "secret".into(),
        failures_max: 3,
        failure_delay_ms_max: 2000,
        ..Auth::default()
    };
    let access = access(&auth);
    let check = async |ip: [u8; 4], password: &str| {
        let mut request = request(Action::Publish, "", password, "");
        request.ip = ip.into();
        access.check(request).await.map_err(|refusal| refusal.reason)
    };
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(check([192, 0, 2, 1], "guess").await.unwrap_err(), "wrong credentials");
    }
    assert!(began.elapsed() > Duration::from_millis(1), "wrong ones are answered late");
    let told = check([192, 0, 2, 1], "secret").await.unwrap_err();
    assert_eq!(told, "too many wrong credentials from this address");
    assert!(check([192, 0, 2, 2], "secret").await.is_ok(), "others are not concerned");
    // Nothing given is no guess, and a proxy on this machine speaks for many.
    for _ in 0..5 {
        assert_eq!(check([192, 0, 2, 3], "").await.unwrap_err(), "credentials are needed");
        assert_eq!(check([127, 0, 0, 1], "guess").await.unwrap_err(), "wrong credentials");
    }
    assert!(check([192, 0, 2, 3], "secret").await.is_ok());
    assert!(check([127, 0, 0, 1], "secret").await.is_ok());
}

#[tokio::test]
async fn a_viewer_who_asks_whether_it_may_steer_is_no_guesser() {
    let auth = Auth {
        publish_password: "write".into(),
        read_password: "watch".into(),
        failures_max: 1,
        failure_delay_ms_max: 0,
        ..Auth::default()
    };
    let access = access(&auth);
    for _ in 0..4 {
        assert!(access.check(request(Action::Read, "", "watch", "")).await.is_ok());
        let steering = access.check(request(Action::Publish, "", "watch", "")).await;
        assert_eq!(steering.unwrap_err().reason, "this user may not do that");
    }
}

#[tokio::test]
async fn a_link_and_a_token_let_in_without_an_account() {
    let auth = Auth { read_password: "x".into(), publish_password: "y".into(), ..quick() };
    let access = access(&auth);
    let end = SystemTime::now() + Duration::from_secs(60);
    let name = StreamName::parse("cam").unwrap();
    let with = async |action, query: &str, password: &str| {
        let mut request = request(action, "", password, "");
        request.query = query.into();
        access.check(request).await.is_ok()
    };
    let link = access.links().query(Right::Read, &name, end);
    assert!(with(Action::Read, &link, "").await);
    assert!(!with(Action::Publish, &link, "").await);
    let permissions = vec![Permission { action: Right::Publish, path: "cam".into() }];
    let made = access.tokens().make("", permissions, Duration::from_secs(60), SystemTime::now());
    let (token, kept) = made.unwrap();
    assert!(with(Action::Publish, "", &token).await, "as SRT's password");
    assert!(with(Action::Publish, &format!("token={token}"), "").await);
    assert!(!with(Action::Read, "", &token).await);
    access.tokens().take_back(&kept.id).unwrap();
    assert!(!with(Action::Publish, "", &token).await);
}

/// A callback that keeps what it was asked and answers by the password.
struct Callback {
    url: String,
    seen: Arc<Mutex<(HeaderMap, Vec<u8>)>>,
    asked: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

async fn callback() -> Callback {
    let seen: Arc<Mutex<(HeaderMap, Vec<u8>)>> = Arc::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let (keep, count) = (Arc::clone(&seen), Arc::clone(&asked));
    let answer = async move |headers: HeaderMap, body: axum::body::Bytes| {
        count.fetch_add(1, Ordering::Relaxed);
        let question: Value = serde_json::from_slice(&body).unwrap();
        *keep.lock() = (headers, body.to_vec());
        match question["password"].as_str().unwrap() {
            "good" => (StatusCode::OK, "fine".to_owned()),
            "no" => (StatusCode::OK, json!({"allowed": false, "reason": "unpaid"}).to_string()),
            "terms" => (
                StatusCode::OK,
                json!({
                    "name": "studio/other",
                    "lifetime_seconds": 7,
                    "settings": {"graph": "passthrough", "take_over": true},
                })
                .to_string(),
            ),
            "unknown" => (StatusCode::OK, json!({"settings": {"grap": "x"}}).to_string()),
            "large" => (StatusCode::OK, "x".repeat(100_000)),
            _ => (StatusCode::UNAUTHORIZED, String::new()),
        }
    };
    let router = axum::Router::new().route("/auth", post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/auth", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Callback { url, seen, asked, server }
}

#[tokio::test]
async fn the_callback_gets_the_known_fields_signed_and_decides() {
    let callback = callback().await;
    let webhook = Webhook { url: callback.url.clone(), timeout_ms: 2000, secret: "shared".into() };
    let access = access(&Auth { webhook, ..quick() });
    assert!(access.check(request(Action::Publish, "u", "good", "")).await.is_ok());
    let (headers, body) = callback.seen.lock().clone();
    let question: Value = serde_json::from_slice(&body).unwrap();
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
        assert!(question.get(field).is_some(), "{field} is missing");
    }
    let given = headers[signing::HEADER].to_str().unwrap();
    let time = given.strip_prefix("t=").unwrap().split_once(',').unwrap().0.parse().unwrap();
    assert_eq!(given, signing::sign("shared", time, &body));

    let refused = async |password: &str| {
        access.check(request(Action::Publish, "u", password, "")).await.unwrap_err()
    };
    assert!(refused("bad").await.ask_credentials);
    let no = refused("no").await;
    assert!(no.reason.contains("unpaid") && !no.ask_credentials, "{no}");
    assert!(refused("unknown").await.reason.contains("grap"));
    assert!(refused("large").await.reason.contains("no answer"));
    assert!(callback.asked.load(Ordering::Relaxed) >= 5);
    callback.server.abort();
    let _ = callback.server.await;
    assert_eq!(refused("good").await.reason, "the auth callback gave no answer", "means no");
}

#[tokio::test]
async fn the_callback_may_give_another_name_an_end_and_settings() {
    let callback = callback().await;
    let webhook = Webhook { url: callback.url.clone(), timeout_ms: 2000, secret: String::new() };
    let access = access(&Auth { webhook, ..quick() });
    let grant = access.check(request(Action::Publish, "u", "terms", "")).await.unwrap();
    assert_eq!(
        (grant.name.as_str(), grant.lifetime),
        ("studio/other", Some(Duration::from_secs(7)))
    );
    let now = access.shared.streams.of(&grant.name);
    assert_eq!((now.graph.as_deref(), now.take_over), (Some("passthrough"), Some(true)));
    assert!(callback.seen.lock().0.get(signing::HEADER).is_none(), "there is no secret");
    callback.server.abort();
}

#[test]
fn the_header_forms_are_read() {
    let owned = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(from_header("Bearer abc"), owned("", "", "abc"));
    assert_eq!(from_header("Bearer tom:secret"), owned("tom", "secret", "tom:secret"));
    assert_eq!(from_header("Basic dG9tOnNlY3JldA=="), owned("tom", "secret", ""));
    assert_eq!(from_header("Basic !"), owned("", "", ""));
}
