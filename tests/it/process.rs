//! The node as processes of its own: the built program, its words on standard output, its log in
//! a file that is shown when the test fails.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::programs::PATIENCE;

/// A `millstream` process. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    said: Vec<String>,
    log: PathBuf,
}

impl Process {
    /// Runs `millstream {line}` with a data directory `{dir}/{name}`, all listeners on free ports,
    /// and waits until it says that it runs.
    pub(crate) async fn start(dir: &TempDir, name: &str, line: &str) -> Self {
        let log = dir.path().join(format!("{name}.log"));
        let out = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(line.split_whitespace());
        command.args(["--data-dir", dir.path().join(name).to_str().unwrap()]);
        for section in [
            "rtmp",
            "rtmps",
            "rtsp",
            "rtsps",
            "srt",
            "http",
            "webrtc",
            "playback",
            "admin",
            "metrics",
            "orchestrator",
        ] {
            if !line.contains(&format!("{section}.listen")) {
                command.args(["--set", &format!("{section}.listen=127.0.0.1:0")]);
            }
        }
        if !line.contains("rtsp.udp_listen") {
            command.args(["--set", "rtsp.udp_listen=127.0.0.1:0"]);
        }
        let ledger = dir.path().join("ledger.db");
        command.args(["--set", &format!("payments.ledger={}", ledger.display())]);
        // What is set for the tests is none of its settings.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLSTREAM_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(out).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let announced = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                // The first line is empty, and so is the last.
                if line.is_empty() && !said.is_empty() {
                    return true;
                }
                if !line.is_empty() {
                    said.push(line);
                }
            }
            false
        };
        let runs = tokio::time::timeout(PATIENCE, announced).await.unwrap_or(false);
        let process = Self { child, said, log };
        assert!(runs, "{name} does not start: {:?}", process.said);
        process
    }

    /// The address that it announced on the line with `word`.
    pub(crate) fn url(&self, word: &str) -> String {
        let line = self.said.iter().find(|line| line.contains(word));
        let line = line.unwrap_or_else(|| panic!("no {word:?} in {:?}", self.said));
        line.split_whitespace().last().unwrap().to_owned()
    }

    /// The same without scheme and path.
    pub(crate) fn address(&self, word: &str) -> String {
        let url = url::Url::parse(&self.url(word)).unwrap();
        format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
    }

    /// What `/v1/status` says.
    pub(crate) async fn status(&self) -> Value {
        let client = millstream::http_client().unwrap();
        let url = format!("{}v1/status", self.url("console"));
        client.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; gives how it ended.
    pub(crate) async fn terminate(&mut self, within: Duration) -> ExitStatus {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        ended.expect("it ends within its limit").unwrap()
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            let tail = String::from_utf8_lossy(&log.as_bytes()[from..]);
            eprintln!("--- {}\n{tail}", self.log.display());
        }
    }
}
