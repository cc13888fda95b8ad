//! Recordings into an object store and back: a small S3 server that fails when it is told to, and a
//! node that is killed in between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::process::Command;

use crate::card::Card;
use crate::node::alone;
use crate::process::Process;
use crate::programs::{self, PATIENCE};
use crate::push::{LIVE, Push};
use crate::record::segments;

/// The bytes that a body may have.
const BODY_MAX: usize = 64 << 20;

/// What the server has.
#[derive(Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Parts of uploads that are not complete, by upload and number.
    parts: Mutex<BTreeMap<(String, usize), Bytes>>,
    uploads: AtomicUsize,
    /// Uploads in parts that were completed.
    completed: AtomicUsize,
    /// It is not well.
    failing: AtomicBool,
    /// Bytes of each answer to a request for a part of an object.
    ranges: Mutex<Vec<usize>>,
}

/// Starts it.
async fn serve(bucket: Arc<Bucket>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router =
        Router::new().fallback(answer).layer(DefaultBodyLimit::max(BODY_MAX)).with_state(bucket);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// `PUT`, `HEAD`, ranges, lists, removals and multipart uploads after the API of S3.
async fn answer(State(bucket): State<Arc<Bucket>>, request: Request) -> Response {
    if bucket.failing.load(Ordering::Relaxed) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let (parts, body) = request.into_parts();
    if !is_signed(&parts.headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let key = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let body = axum::body::to_bytes(body, BODY_MAX).await.unwrap();
    let upload = query.get("uploadId").cloned();
    let xml = |text: String| ([("content-type", "application/xml")], text).into_response();
    match (&parts.method, upload) {
        (&Method::PUT, None) => {
            bucket.objects.lock().insert(key, body);
            [("etag", "\"whole\"")].into_response()
        }
        (&Method::PUT, Some(upload)) => {
            let number = query["partNumber"].parse().unwrap();
            bucket.parts.lock().insert((upload, number), body);
            [("etag", format!("\"{number}\""))].into_response()
        }
        (&Method::GET, None) if query.contains_key("list-type") => {
            let objects = bucket.objects.lock();
            let keys = objects.iter().map(|(key, object)| {
                let key = key.trim_start_matches("/archive/");
                let size = object.len();
                format!(
                    "<Contents><Key>{key}</Key><Size>{size}</Size>\
                     <LastModified>2026-11-21T16:00:00.000Z</LastModified></Contents>"
                )
            });
            let keys: String = keys.collect();
            xml(format!(
                "<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>"
            ))
        }
        (&Method::GET, None) => {
            let Some(object) = bucket.objects.lock().get(&key).cloned() else {
                return StatusCode::NOT_FOUND.into_response();
            };
            let range = parts.headers.get("range").and_then(|range| range.to_str().ok());
            let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
            let (first, last) = range.expect("nobody asks for a whole object");
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let last = last.min(object.len() - 1);
            let part = object.slice(first..=last);
            bucket.ranges.lock().push(part.len());
            let headers = [
                ("content-range", format!("bytes {first}-{last}/{}", object.len())),
                ("etag", "\"whole\"".into()),
                ("last-modified", "Sat, 21 Nov 2026 16:00:00 GMT".into()),
            ];
            (StatusCode::PARTIAL_CONTENT, headers, part).into_response()
        }
        (&Method::POST, None) if query.contains_key("delete") => {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let keys = text.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap());
            let removed = keys.map(|key| {
                bucket.objects.lock().remove(&format!("/archive/{key}"));
                format!("<Deleted><Key>{key}</Key></Deleted>")
            });
            let removed: String = removed.collect();
            xml(format!("<DeleteResult>{removed}</DeleteResult>"))
        }
        (&Method::POST, None) if query.contains_key("uploads") => {
            let id = bucket.uploads.fetch_add(1, Ordering::Relaxed);
            xml(format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            ))
        }
        (&Method::POST, Some(upload)) => {
            let mut parts = bucket.parts.lock();
            let own: Vec<_> = parts.keys().filter(|(id, _)| *id == upload).cloned().collect();
            let whole: Vec<u8> = own.iter().flat_map(|part| parts[part].to_vec()).collect();
            parts.retain(|(id, _), _| *id != upload);
            bucket.objects.lock().insert(key, whole.into());
            bucket.completed.fetch_add(1, Ordering::Relaxed);
            xml("<CompleteMultipartUploadResult><ETag>\"parts\"</ETag>\
                 </CompleteMultipartUploadResult>"
                .into())
        }
        (&Method::HEAD, _) => match bucket.objects.lock().get(&key) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some(object) => {
                let length = object.len().to_string();
                let mut response = StatusCode::OK.into_response();
                let headers = response.headers_mut();
                headers.insert("content-length", length.parse().unwrap());
                headers.insert("etag", "\"whole\"".parse().unwrap());
                headers.insert("last-modified", "Sat, 21 Nov 2026 16:00:00 GMT".parse().unwrap());
                response
            }
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// Whether a request is signed by the key of the settings.
fn is_signed(headers: &HeaderMap) -> bool {
    let found = headers.get("authorization").and_then(|value| value.to_str().ok());
    found.is_some_and(|text| text.starts_with("AWS4-HMAC-SHA256 Credential=lobby-key/"))
}

/// A file that was recorded before: more bytes than an upload of one part has.
async fn a_long_segment(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut command = Command::new(programs::ffmpeg());
    command.args(
        "-hide_banner -loglevel error -nostdin -f lavfi -i testsrc2=s=1280x720:r=30".split(' '),
    );
    command.args("-vf noise=alls=60:allf=t -t 4 -c:v libx264 -preset ultrafast -qp 18".split(' '));
    let ended = command.args(["-movflags", "+faststart"]).arg(path).status();
    assert!(tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap().success());
}

async fn until(node: &Process, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = node.status().await;
        if is(&status["uploads"]) {
            return status;
        }
        assert!(Instant::now() < end, "{what}: {status:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_reach_a_store_that_was_away_and_a_node_that_was_killed() {
    let _alone = alone().await;
    let bucket = Arc::<Bucket>::default();
    bucket.failing.store(true, Ordering::Relaxed);
    let store = serve(Arc::clone(&bucket)).await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("node/recordings/cam");
    let long = folder.join("2026-01-01_00-00-00-000000.mp4");
    a_long_segment(&long).await;
    let line = format!(
        "up --set pipeline.graph=none --set stream_defaults.record=true \
         --set stream_defaults.record_segment_seconds=1 \
         --set recordings.store.url=s3://archive/live \
         --set recordings.store.keep_local=false \
         --set recordings.store.options.endpoint=http://{store} \
         --set recordings.store.options.allow_http=true \
         --set recordings.store.options.access_key_id=lobby-key \
         --set recordings.store.options.secret_access_key=very-hush"
    );
    let mut node = Process::start(&dir, "node", &line).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &format!("rtmp://{}/cam", node.address("RTMP")));
    let away = until(&node, "segments wait", |uploads| {
        uploads["failures"].as_u64() > Some(0) && uploads["waiting"].as_u64() > Some(1)
    })
    .await;
    let problem = away["uploads"]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("403"), "{problem}");
    assert_eq!(away["uploads"]["segments"], 0, "{away:#}");
    node.kill().await;
    drop(push);
    let left = segments(&folder);
    assert!(left.len() >= 2, "{left:?}");
    let read = |path: &PathBuf| (path.clone(), std::fs::read(path).unwrap());
    // One that has no part yet is no recording.
    let left: Vec<_> = left.iter().map(read).filter(|(_, bytes)| bytes.len() > 4096).collect();

    bucket.failing.store(false, Ordering::Relaxed);
    let mut node = Process::start(&dir, "node", &line).await;
    let all = left.len() as u64;
    let done = until(&node, "all are sent", |uploads| uploads["segments"].as_u64() >= Some(all));
    let done = done.await;
    assert_eq!(done["uploads"]["problem"], Value::Null, "{done:#}");
    assert!(bucket.completed.load(Ordering::Relaxed) >= 1, "the long one goes in parts");
    for (path, bytes) in &left {
        let name = path.file_name().unwrap().to_str().unwrap();
        let object = bucket.objects.lock().get(&format!("/archive/live/cam/{name}")).cloned();
        let object = object.unwrap_or_else(|| panic!("{name} is not in the store"));
        // The segment that was open got its duration at the start: its length stays, its head not.
        let open = path == &left.last().unwrap().0;
        assert!(object.len() == bytes.len() || open, "{name}: {} bytes", object.len());
        assert!(object[..] == bytes[..] || open, "{name}");
        let copy = dir.path().join("copy.mp4");
        std::fs::write(&copy, &object).unwrap();
        let seconds = crate::record::seconds(&crate::record::probe(copy.to_str().unwrap()).await);
        assert!(seconds > 0.5, "{name}: {seconds} s");
        assert!(!path.exists(), "{name} is still here");
    }
    println!("{all} segments, the longest {} bytes", left[0].1.len());
    let log = node.log();
    assert!(!log.contains("very-hush"), "{log}");
    assert!(node.terminate(PATIENCE).await.success());
}

/// A node that sends what it records to the store and keeps none of it.
fn line(store: SocketAddr) -> String {
    format!(
        "up --set pipeline.graph=none --set playback.enabled=true \
         --set stream_defaults.record=true --set stream_defaults.record_segment_seconds=1 \
         --set recordings.store.url=s3://archive/live \
         --set recordings.store.keep_local=false \
         --set recordings.store.options.endpoint=http://{store} \
         --set recordings.store.options.allow_http=true \
         --set recordings.store.options.access_key_id=lobby-key \
         --set recordings.store.options.secret_access_key=very-hush"
    )
}

/// What a node answers under an address of its listener for recordings.
async fn playback(node: &Process, path: &str) -> (StatusCode, Bytes) {
    let url = format!("http://{}/{path}", node.address("recordings"));
    let answer = millstream::http_client().unwrap().get(url).send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap())
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(body)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_in_the_store_is_listed_played_back_shown_and_removed() {
    let _alone = alone().await;
    let bucket = Arc::<Bucket>::default();
    let store = serve(Arc::clone(&bucket)).await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("node/recordings/cam");
    let mut node = Process::start(&dir, "node", &line(store)).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &format!("rtmp://{}/cam", node.address("RTMP")));
    until(&node, "three segments", |uploads| uploads["segments"].as_u64() >= Some(3)).await;
    push.finish().await;
    let end = Instant::now() + PATIENCE;
    while !segments(&folder).is_empty() {
        assert!(Instant::now() < end, "still here: {:?}", segments(&folder));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What is remembered survives a kill, and takes next to no room.
    node.kill().await;
    let ghosts = segments(&dir.path().join("node/stored/cam"));
    assert_eq!(ghosts.len(), bucket.objects.lock().len(), "{ghosts:?}");
    let whole: usize = bucket.objects.lock().values().map(Bytes::len).sum();
    let room = |path: &PathBuf| std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap());
    let room = ghosts.iter().map(room).sum::<u64>() * 512;
    println!("{room} bytes on disk for {whole} in the store");

    bucket.failing.store(true, Ordering::Relaxed);
    let mut node = Process::start(&dir, "node", &line(store)).await;
    let (status, listed) = playback(&node, "list?path=cam").await;
    assert_eq!(status, StatusCode::OK, "the store is not asked");
    let listed = json(&listed);
    let [span] = &listed.as_array().unwrap()[..] else { panic!("{listed:#}") };
    let (start, seconds) = (span["start"].as_str().unwrap(), span["duration"].as_f64().unwrap());
    assert!(seconds > 5.0, "{span:#}");
    let range =
        |format: &str| format!("get?path=cam&start={start}&duration={seconds}&format={format}");
    let (status, why) = playback(&node, &range("mp4")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{why:?}");
    bucket.failing.store(false, Ordering::Relaxed);

    let file = dir.path().join("range.mp4");
    for format in ["mp4", "fmp4"] {
        let (status, bytes) = playback(&node, &range(format)).await;
        assert_eq!(status, StatusCode::OK);
        std::fs::write(&file, &bytes).unwrap();
        for program in [programs::ffmpeg(), programs::ffmpeg_9()] {
            let numbers = crate::record::decode(program, file.to_str().unwrap()).await;
            assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
            assert!(numbers.len() as f64 > seconds * 25.0, "{} of {seconds} s", numbers.len());
        }
    }
    let asked = bucket.ranges.lock().clone();
    assert!(asked.iter().all(|bytes| *bytes <= 4 << 20) && !asked.is_empty(), "{asked:?}");

    // The picture of a moment is the one that a range from there begins with.
    let moment = ingest::record::Moment::parse(start).unwrap().plus(Duration::from_millis(2500));
    let (status, clip) =
        playback(&node, &format!("get?path=cam&start={moment}&duration=0.5&format=mp4")).await;
    assert_eq!(status, StatusCode::OK);
    std::fs::write(&file, &clip).unwrap();
    let first = crate::record::decode(programs::ffmpeg(), file.to_str().unwrap()).await[0];
    let client = millstream::http_client().unwrap();
    let pages = url::Url::parse(&node.url("all streams")).unwrap();
    let still = pages.join(&format!("/cam/snapshot.jpg?time={moment}")).unwrap();
    let still = client.get(still).send().await.unwrap();
    assert_eq!(still.status(), StatusCode::OK);
    let picture = dir.path().join("still.jpg");
    std::fs::write(&picture, still.bytes().await.unwrap()).unwrap();
    let [shown] = crate::record::decode(programs::ffmpeg(), picture.to_str().unwrap()).await[..]
    else {
        panic!("one picture")
    };
    assert!(shown.abs_diff(first) <= 1, "{shown} is shown, the range begins with {first}");
    let before = pages.join("/cam/snapshot.jpg?time=2020-01-01T00:00:00Z").unwrap();
    assert_eq!(client.get(before).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let wrong = pages.join("/cam/snapshot.jpg?time=yesterday").unwrap();
    assert_eq!(client.get(wrong).send().await.unwrap().status(), StatusCode::BAD_REQUEST);

    // One is removed by the API, another by the store itself.
    let api = format!("http://{}/v3/recordings", node.address("console"));
    let got = client.get(format!("{api}/get/cam")).send().await.unwrap().bytes().await.unwrap();
    let count = bucket.objects.lock().len();
    assert_eq!(json(&got)["segments"].as_array().unwrap().len(), count);
    let url = format!("{api}/deletesegment?path=cam&start={start}");
    assert_eq!(client.delete(&url).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(bucket.objects.lock().len(), count - 1);
    assert_eq!(client.delete(&url).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    bucket.objects.lock().pop_first();
    let (status, bytes) = playback(&node, &range("fmp4")).await;
    assert_eq!(status, StatusCode::OK, "what is left plays");
    std::fs::write(&file, &bytes).unwrap();
    let numbers = crate::record::decode(programs::ffmpeg(), file.to_str().unwrap()).await;
    assert!(!numbers.is_empty());
    let got = client.get(format!("{api}/get/cam")).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(json(&got)["segments"].as_array().unwrap().len(), count - 2);
    assert!(node.terminate(PATIENCE).await.success());
}
