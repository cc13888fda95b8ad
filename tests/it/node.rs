//! A node in the test's process: all roles, all ports free ones, a data directory of its own.

use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

use ingest::StreamName;
use ingest::hub::{Reader, Start};
use millstream::Node;
use millstream::config::Settings;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::programs::PATIENCE;

/// One story with pictures at a time: several at once would only measure each other.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    static STAGE: OnceLock<Mutex<()>> = OnceLock::new();
    STAGE.get_or_init(Mutex::default).lock().await
}

/// Settings with free ports and a directory.
pub(crate) fn settings(dir: &TempDir) -> Settings {
    let mut settings = Settings { data_dir: dir.path().join("node"), ..Settings::default() };
    let free = "127.0.0.1:0".parse().unwrap();
    settings.rtmp.listen = free;
    settings.srt.listen = free;
    settings.rtmps.listen = free;
    settings.rtsp.listen = free;
    settings.rtsp.udp_listen = free;
    settings.rtsps.listen = free;
    settings.http.listen = free;
    settings.webrtc.listen = free;
    settings.playback.listen = free;
    settings.admin.listen = free;
    settings.metrics.listen = free;
    settings.orchestrator.listen = free;
    settings.orchestrator.sessions_max = 4;
    settings.payments.ledger = dir.path().join("ledger.db").display().to_string();
    settings.pipeline.graph = "passthrough".into();
    settings
}

/// Prints the node's log when `MILLSTREAM_TEST_LOG` holds a filter.
pub(crate) fn logging() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        if let Ok(filter) = std::env::var("MILLSTREAM_TEST_LOG") {
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        }
    });
}

/// The running node. [`Self::stop`] shows that it ends; dropping it only ends it.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) client: reqwest::Client,
    stop: CancellationToken,
    _dir: TempDir,
}

impl Running {
    pub(crate) async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        logging();
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(&dir);
        change(&mut settings);
        let client = millstream::http_client().unwrap();
        let stop = CancellationToken::new();
        let node = Node::start(settings, stop.clone()).await.unwrap();
        Self { node, client, stop, _dir: dir }
    }

    /// A page or endpoint for people.
    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}/{path}", self.node.addresses().http.unwrap())
    }

    /// An endpoint of the operator.
    pub(crate) fn admin(&self, path: &str) -> String {
        format!("http://{}/{path}", self.node.addresses().admin.unwrap())
    }

    /// Metrics and health.
    pub(crate) fn metrics(&self, path: &str) -> String {
        format!("http://{}/{path}", self.node.addresses().metrics.unwrap())
    }

    /// Recordings.
    pub(crate) fn playback(&self, path: &str) -> String {
        format!("http://{}/{path}", self.node.addresses().playback.unwrap())
    }

    /// Where `stream` is published by RTMP.
    pub(crate) fn rtmp(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.node.addresses().rtmp.unwrap())
    }

    /// Where SRT is spoken, for this stream id.
    pub(crate) fn srt(&self, stream_id: &str) -> String {
        format!("srt://{}?streamid={stream_id}", self.node.addresses().srt.unwrap())
    }

    /// The same in TLS.
    pub(crate) fn rtmps(&self, stream: &str) -> String {
        format!("rtmps://{}/{stream}", self.node.addresses().rtmps.unwrap())
    }

    /// Where `stream` is published and played by RTSP.
    pub(crate) fn rtsp(&self, stream: &str) -> String {
        format!("rtsp://{}/{stream}", self.node.addresses().rtsp.unwrap())
    }

    /// A reader of a stream that is there or comes.
    pub(crate) async fn reader(&self, stream: &str, start: Start) -> Reader {
        let name = StreamName::parse(stream).unwrap();
        let reader = self.node.parts().hub.wait_subscribe(&name, start, PATIENCE).await;
        match reader {
            Some(reader) => reader,
            None => panic!("{stream} does not come: {:#}", self.status().await),
        }
    }

    /// What `/v1/status` says.
    pub(crate) async fn status(&self) -> Value {
        let answer = self.client.get(self.admin("v1/status")).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Asks until the status is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < end, "{what} never came: {}", brief(status));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until `stream` has so many pictures.
    pub(crate) async fn until_pictures(&self, stream: &str, count: u64) -> Value {
        let what = format!("{count} pictures of {stream}");
        self.until(&what, |status| {
            find(status, stream).is_some_and(|found| found["frames"].as_u64() >= Some(count))
        })
        .await
    }

    /// Waits until no stream, viewer, publisher or job is left.
    pub(crate) async fn until_idle(&self) {
        self.until("an idle node", |status| {
            let none = |list: &str| status[list].as_array().is_some_and(Vec::is_empty);
            none("streams") && none("jobs")
        })
        .await;
        let sessions = self.node.parts().webrtc.clone().unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            let left = sessions.sessions().await;
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "WebRTC sessions stay: {left:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Drains the node; it must end by itself within its limit.
    pub(crate) async fn stop(self) {
        let limit = Duration::from_secs(30);
        let began = Instant::now();
        self.node.drain(limit).await;
        assert!(began.elapsed() < limit, "something did not end");
        drop(self.stop);
    }
}

/// A status without the figures that say nothing about what went wrong.
pub(crate) fn brief(mut status: Value) -> String {
    status.as_object_mut().map(|all| all.remove("hops"));
    format!("{status:#}")
}

/// A stream in a status.
pub(crate) fn find<'a>(status: &'a Value, stream: &str) -> Option<&'a Value> {
    status["streams"].as_array()?.iter().find(|view| view["name"] == stream)
}
