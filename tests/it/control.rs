//! The control API as tools for MediaMTX and go-livepeer use it: streams, sessions, kicks, settings
//! that change and stay changed.

use millstream::Node;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::card::Card;
use crate::node::{Running, alone, settings};
use crate::openapi::Document;
use crate::push::{LIVE, Push};

/// One request with its answer, checked against the document.
pub(crate) struct Api {
    client: reqwest::Client,
    base: String,
    document: Document,
    token: &'static str,
}

impl Api {
    pub(crate) async fn of(node: &Node, token: &'static str) -> Self {
        let client = millstream::http_client().unwrap();
        let base = format!("http://{}", node.addresses().admin.unwrap());
        let request = client.get(format!("{base}/openapi.json")).basic_auth("admin", Some(token));
        let document = Document(request.send().await.unwrap().json().await.unwrap());
        Self { client, base, document, token }
    }

    /// `path` as the document writes it; `name` stands for its parameter.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        name: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let (plain, _) = path.split_once('?').unwrap_or((path, ""));
        let url = path.replace("{name}", name).replace("{id}", name);
        let verb = method.as_str().to_ascii_lowercase();
        let mut request = self.client.request(method, format!("{}{url}", self.base));
        if !self.token.is_empty() {
            request = request.basic_auth("admin", Some(self.token));
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        let faults = self.document.faults(&verb, plain, status.as_u16(), &body);
        assert!(faults.is_empty(), "{faults:#?}\n{body:#}");
        (status, body)
    }

    pub(crate) async fn get(&self, path: &str, name: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, name, None).await
    }

    /// A change that is done.
    async fn done(&self, method: Method, path: &str, name: &str, body: Option<Value>) {
        let (status, body) = self.call(method, path, name, body).await;
        assert_eq!((status, &body), (StatusCode::OK, &json!({"status": "ok"})));
    }

    /// A change that is refused, and why.
    async fn refused(
        &self,
        method: Method,
        path: &str,
        name: &str,
        body: Option<Value>,
    ) -> (StatusCode, String) {
        let (status, body) = self.call(method, path, name, body).await;
        assert_eq!(body["status"], "error");
        (status, body["error"].as_str().unwrap().to_owned())
    }
}

/// Waits until no stream is left.
async fn emptied(node: &Running) {
    let end = std::time::Instant::now() + crate::programs::PATIENCE;
    while !node.node.parts().hub.list().is_empty() {
        assert!(std::time::Instant::now() < end, "streams stay");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_listed_found_by_its_id_and_kicked_as_go_livepeer_does() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.admin.token = "secret".into()).await;
    let api = Api::of(&node.node, "secret").await;
    let mut push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("live1/cam"));
    let end = std::time::Instant::now() + crate::programs::PATIENCE;
    let path = loop {
        let (status, path) = api.get("/v3/paths/get/{name}", "live1/cam").await;
        if status == StatusCode::OK && path["tracks2"].as_array().is_some_and(|all| all.len() == 2)
        {
            break path;
        }
        assert!(std::time::Instant::now() < end, "the stream does not come: {path}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!((&path["confName"], &path["ready"]), (&json!("all_others"), &json!(true)));
    assert_eq!(path["source"]["type"], "rtmpConn");
    assert_eq!(path["tracks"], json!(["H264", "MPEG-4 Audio"]));
    assert_eq!(path["tracks2"][0]["codecProps"]["width"], 320);
    let id = path["source"]["id"].as_str().unwrap().to_owned();
    let (_, list) = api.get("/v3/paths/list?itemsPerPage=1", "").await;
    assert_eq!(
        (&list["pageCount"], list["items"].as_array().unwrap().len()),
        (&list["itemCount"], 1)
    );

    let (status, conn) = api.get("/v3/rtmpconns/get/{id}", &id).await;
    assert_eq!(
        (status, &conn["state"], &conn["path"]),
        (StatusCode::OK, &json!("publish"), &json!("live1/cam"))
    );
    assert_eq!(api.get("/v3/webrtcsessions/get/{id}", &id).await.0, StatusCode::NOT_FOUND);
    api.done(Method::POST, "/v3/rtmpconns/kick/{id}", &id, None).await;
    push.until_ended().await;
    emptied(&node).await;
    let gone = api.refused(Method::POST, "/v3/rtmpconns/kick/{id}", &id, None).await;
    assert_eq!(gone, (StatusCode::NOT_FOUND, "connection not found".into()));
    assert_eq!(api.get("/v3/paths/get/{name}", "live1/cam").await.0, StatusCode::NOT_FOUND);

    let answer = node.client.get(node.admin("v3/paths/list")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], "error");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webrtc_publisher_is_found_by_its_id_and_kicked_as_go_livepeer_does() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let api = Api::of(&node.node, "").await;
    let _push = Push::whip(Card::SMALL, "", &node.http("studio/web/whip"));
    node.until_pictures("studio/web", 5).await;
    let (_, path) = api.get("/v3/paths/get/{name}", "studio/web").await;
    assert_eq!(path["source"]["type"], "webRTCSession");
    let id = path["source"]["id"].as_str().unwrap().to_owned();
    let (status, session) = api.get("/v3/webrtcsessions/get/{id}", &id).await;
    assert_eq!(
        (status, &session["state"], &session["path"]),
        (StatusCode::OK, &json!("publish"), &json!("studio/web"))
    );
    assert_eq!(session["peerConnectionEstablished"], true, "{session:#}");
    assert!(session["inboundRTPPackets"].as_u64() > Some(0), "{session:#}");
    assert_eq!(api.get("/v3/rtmpconns/get/{id}", &id).await.0, StatusCode::NOT_FOUND);
    let kick = "/v3/webrtcsessions/kick/{id}";
    api.done(Method::POST, kick, &id, None).await;
    emptied(&node).await;
    node.until_idle().await;
    let gone = api.refused(Method::POST, kick, &id, None).await;
    assert_eq!(gone.0, StatusCode::NOT_FOUND, "{}", gone.1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_there_and_answers_as_the_document_says() {
    let node = Running::start(|settings| {
        settings.streams.insert("cam".into(), millstream::config::Stream::default());
    })
    .await;
    let api = Api::of(&node.node, "").await;
    let written = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let written: Value = serde_json::from_slice(&std::fs::read(written).unwrap()).unwrap();
    assert_eq!(api.document.0, written);
    let paths = api.document.0["paths"].as_object().unwrap().clone();
    for (path, item) in paths.iter().filter(|(path, _)| !path.contains('{')) {
        let Some(get) = item.get("get") else { continue };
        let mut asked = get["parameters"].as_array().into_iter().flatten();
        if asked.all(|parameter| parameter["required"] != true) {
            assert_eq!(api.get(path, "").await.0, StatusCode::OK, "{path}");
        }
    }
    for kind in [
        "rtmpconns",
        "rtmpsconns",
        "srtconns",
        "rtspsessions",
        "rtspssessions",
        "webrtcsessions",
        "hlssessions",
    ] {
        let get = format!("/v3/{kind}/get/{{id}}");
        assert_eq!(api.get(&get, "nobody").await.0, StatusCode::NOT_FOUND, "{kind}");
        let kick = format!("/v3/{kind}/kick/{{id}}");
        let kicked = api.refused(Method::POST, &kick, "nobody", None).await;
        assert_eq!(kicked.0, StatusCode::NOT_FOUND, "{kind}");
    }
    for kind in ["rtspconns", "rtspsconns"] {
        let get = format!("/v3/{kind}/get/{{id}}");
        assert_eq!(api.get(&get, "nobody").await.0, StatusCode::NOT_FOUND, "{kind}");
    }
    assert_eq!(api.get("/v3/paths/list?itemsPerPage=0", "").await.0, StatusCode::BAD_REQUEST);
    for nothing in ["v3/nothing", "v1/nothing/at/all"] {
        let answer = node.client.get(node.admin(nothing)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let said: Value = answer.json().await.unwrap();
        assert!(said["error"].as_str().unwrap().contains(nothing), "{said}");
    }
    let (_, cam) = api.get("/v3/paths/get/{name}", "cam").await;
    assert_eq!((&cam["confName"], &cam["ready"]), (&json!("cam"), &json!(false)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_changed_by_the_api_count_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut chosen = settings(&dir);
    chosen.auth.publish_password = "secret".into();
    let node = Node::start(chosen.clone(), CancellationToken::new()).await.unwrap();
    let api = Api::of(&node, "").await;
    let (add, get) = ("/v3/config/paths/add/{name}", "/v3/config/paths/get/{name}");
    let patch = "/v3/config/paths/patch/{name}";
    let conf = json!({"name": "cam", "source": "publisher", "overridePublisher": true});
    api.done(Method::POST, add, "cam", Some(conf)).await;
    let twice = api.refused(Method::POST, add, "cam", Some(json!({}))).await;
    assert_eq!(twice, (StatusCode::BAD_REQUEST, "path already exists".into()));
    api.done(Method::PATCH, patch, "cam", Some(json!({"graph": "none"}))).await;
    let (_, cam) = api.get(get, "cam").await;
    assert_eq!((&cam["graph"], &cam["overridePublisher"]), (&json!("none"), &json!(true)));
    api.done(Method::POST, add, "~%5Estudio", Some(json!({"graph": "passthrough"}))).await;
    let lost = api.refused(Method::PATCH, patch, "nowhere", Some(json!({}))).await;
    assert_eq!(lost, (StatusCode::NOT_FOUND, "path configuration not found".into()));
    let wrong = api.refused(Method::PATCH, patch, "cam", Some(json!({"grap": 1}))).await;
    assert!(wrong.0 == StatusCode::BAD_REQUEST && wrong.1.contains("grap"), "{wrong:?}");
    api.done(
        Method::PATCH,
        "/v3/config/pathdefaults/patch",
        "",
        Some(json!({"overridePublisher": false})),
    )
    .await;
    let global = "/v3/config/global/patch";
    api.done(Method::PATCH, global, "", Some(json!({"hlsPartDuration": "500ms"}))).await;
    let wrong = api.refused(Method::PATCH, global, "", Some(json!({"pprof": true}))).await;
    assert!(wrong.1.contains("pprof"), "{wrong:?}");

    // Many in one call; one that is wrong, and nothing is done.
    let many = json!({"streams": {"a": {"graph": "none"}, "b": {}, "c/d": {"grap": "x"}}});
    let wrong = api.refused(Method::PATCH, "/v1/settings", "", Some(many)).await;
    assert!(wrong.1.contains("grap"), "{wrong:?}");
    assert_eq!(api.get(get, "a").await.0, StatusCode::NOT_FOUND);
    let many = json!({"streams": {"a": {"graph": "none"}, "b": {}, "cam": {"take_over": null}}});
    let (status, applied) = api.call(Method::PATCH, "/v1/settings", "", Some(many)).await;
    assert_eq!(status, StatusCode::OK, "{applied}");
    assert!(
        applied["changed"].as_array().unwrap().contains(&json!("streams.a.graph")),
        "{applied}"
    );
    let (_, all) = api.get("/v1/settings", "").await;
    assert_eq!(all["auth"]["publish_password"], "********");
    node.drain(std::time::Duration::from_secs(30)).await;

    let node = Node::start(chosen, CancellationToken::new()).await.unwrap();
    let api = Api::of(&node, "").await;
    let (_, list) = api.get("/v3/config/paths/list", "").await;
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["cam", "~^studio", "a", "b"]);
    assert_eq!(api.get("/v3/config/global/get", "").await.1["hlsPartDuration"], "500ms");
    let (_, cam) = api.get(get, "cam").await;
    assert_eq!((&cam["graph"], &cam["overridePublisher"]), (&json!("none"), &json!(false)));
    api.done(Method::DELETE, "/v3/config/paths/delete/{name}", "cam", None).await;
    api.done(
        Method::POST,
        "/v3/config/paths/replace/{name}",
        "a",
        Some(json!({"overridePublisher": true})),
    )
    .await;
    assert_eq!(api.get(get, "cam").await.0, StatusCode::NOT_FOUND);
    let (_, a) = api.get(get, "a").await;
    assert_eq!((&a["graph"], &a["overridePublisher"]), (&json!("passthrough"), &json!(true)));
    node.drain(std::time::Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_more_than_a_mebibyte_is_refused_and_changes_nothing() {
    let node = Running::start(|_| {}).await;
    let send = async |bytes: usize| {
        let note = "x".repeat(bytes);
        let body = json!({ "streams": { "cam": { "always_available_picture": note } } });
        let patch = node.client.patch(node.admin("v1/settings")).body(body.to_string());
        let patch = patch.header("content-type", "application/merge-patch+json");
        patch.send().await.unwrap().status()
    };
    assert_eq!(send(1 << 20).await, StatusCode::PAYLOAD_TOO_LARGE);
    let settings = node.client.get(node.admin("v1/settings")).send().await.unwrap();
    let settings: Value = settings.json().await.unwrap();
    assert!(settings["streams"].get("cam").is_none(), "{settings:#}");
    assert_eq!(send(1000).await, StatusCode::OK);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_links_and_tokens_are_let_in_and_others_are_not() {
    use millstream::config::{Permission, Right, User};

    let _alone = alone().await;
    let node = Running::start(|settings| {
        let may = |action| Permission { action, path: String::new() };
        let hash = millstream::access::passwords::hash("x").unwrap();
        let ann = User {
            user: "ann".into(),
            password: hash,
            ips: vec!["127.0.0.0/8".into()],
            permissions: vec![may(Right::Publish), may(Right::Api), may(Right::Metrics)],
        };
        settings.auth.users.push(ann);
        settings.auth.failure_delay_ms_max = 0;
    })
    .await;
    let ask = async |url: String, user: &str, password: &str| {
        let request = node.client.get(url).basic_auth(user, Some(password));
        request.send().await.unwrap().status()
    };
    let metrics = node.metrics("metrics");
    assert_eq!(node.client.get(&metrics).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(metrics, "ann", "x").await, StatusCode::OK);
    assert_eq!(ask(node.metrics("healthz"), "", "").await, StatusCode::OK);
    assert_eq!(ask(node.admin("v3/paths/list"), "ann", "y").await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(node.admin("v3/paths/list"), "ann", "x").await, StatusCode::OK);

    let post = async |path: &str, body: Value| -> Value {
        let request = node.client.post(node.admin(path)).basic_auth("ann", Some("x")).json(&body);
        request.send().await.unwrap().json().await.unwrap()
    };
    let wish = json!({"permissions": [{"action": "publish", "path": "cam"}], "seconds": 60});
    let token = post("v1/tokens", wish).await["token"].as_str().unwrap().to_owned();
    let mut refused = Push::rtmp(Card::SMALL, LIVE, &node.rtmp(&format!("studio?pass={token}")));
    assert!(!refused.until_ended().await);
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp(&format!("cam?pass={token}")));
    let name = ingest::StreamName::parse("cam").unwrap();
    let limit = crate::programs::PATIENCE;
    let hub = &node.node.parts().hub;
    assert!(hub.wait_subscribe(&name, ingest::hub::Start::LastKey, limit).await.is_some());

    let plain = node.client.get(node.http("cam/index.m3u8")).send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::UNAUTHORIZED);
    let link = post("v1/links", json!({"stream": "cam", "seconds": 60})).await;
    let url = link["urls"]["hls"].as_str().unwrap();
    assert_eq!(node.client.get(url).send().await.unwrap().status(), StatusCode::OK, "{link}");
    let other = url.replace("/cam/", "/cam-out/");
    assert_eq!(node.client.get(other).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    push.finish().await;
    emptied(&node).await;
    node.stop().await;
}
