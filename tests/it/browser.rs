//! Chromium, driven by `tests/clients/browser.js`, and Firefox, driven by `tests/clients/firefox.js`.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::Client;
use crate::programs;

/// A browser with any number of pages.
pub(crate) struct Browser {
    pub(crate) client: Client,
}

impl Browser {
    /// Chromium.
    pub(crate) async fn start() -> Self {
        Self::run("browser.js", ("CHROMIUM", programs::chromium())).await.0
    }

    /// Firefox, and the codings of pictures that it has (`video/VP8`).
    pub(crate) async fn firefox() -> (Self, Vec<String>) {
        let (browser, said) = Self::run("firefox.js", ("FIREFOX", programs::firefox())).await;
        let codings = said["codings"].as_array().expect("a list").iter();
        (browser, codings.map(|coding| coding.as_str().unwrap().to_owned()).collect())
    }

    async fn run(script: &str, (variable, program): (&str, PathBuf)) -> (Self, Value) {
        let mut command = Command::new(programs::node_js());
        command
            .arg(programs::script(script))
            .env("NODE_PATH", programs::node_modules())
            .env(variable, program);
        let client = Client::start(command);
        let ready = |events: &[Value]| events.iter().find(|e| !e["ready"].is_null()).cloned();
        let said = client.until(script, ready).await;
        (Self { client }, said)
    }

    /// Does `verb` on `page`; panics when it cannot be done.
    pub(crate) async fn ask(&mut self, verb: &str, page: &str, mut more: Value) {
        more["do"] = verb.into();
        more["page"] = page.into();
        let answers = |events: &[Value]| {
            let to_it = |event: &&Value| {
                event["page"] == page && (event["done"] == verb || event["failed"] == verb)
            };
            events.iter().filter(to_it).cloned().collect::<Vec<_>>()
        };
        let before = self.client.until("", |events| Some(answers(events).len())).await;
        self.client.send(more).await;
        let answer = self
            .client
            .until(&format!("{verb} on {page}"), |events| answers(events).get(before).cloned())
            .await;
        assert_eq!(answer["done"], verb, "{answer:#}");
    }

    /// Watches over WHEP without a page of the product.
    pub(crate) async fn watch(&mut self, page: &str, whep: &str) {
        self.ask("watch", page, json!({ "whep": whep })).await;
    }

    /// The same in this coding of pictures and no other.
    pub(crate) async fn watch_in(&mut self, page: &str, whep: &str, codec: &str) {
        self.ask("watch", page, json!({ "whep": whep, "codec": codec })).await;
    }

    /// Opens a page of the product that shows a stream.
    pub(crate) async fn open(&mut self, page: &str, url: &str) {
        self.ask("open", page, json!({ "url": url })).await;
    }

    /// Publishes camera and microphone over WHIP.
    pub(crate) async fn publish(&mut self, page: &str, whip: &str) {
        self.ask("publish", page, json!({ "whip": whip })).await;
    }

    /// The same with pictures in this coding and no other.
    pub(crate) async fn publish_in(&mut self, page: &str, whip: &str, codec: &str) {
        self.ask("publish", page, json!({ "whip": whip, "codec": codec })).await;
    }

    /// Ends the page's session and closes it.
    pub(crate) async fn close(&mut self, page: &str) {
        self.ask("close", page, json!({})).await;
    }

    /// Takes a picture of the page when `MILLSTREAM_TEST_SHOTS` names a folder.
    pub(crate) async fn shot(&mut self, page: &str, name: &str) {
        if let Some(folder) = std::env::var_os("MILLSTREAM_TEST_SHOTS") {
            let path = std::path::Path::new(&folder).join(format!("{name}.png"));
            self.ask("shot", page, json!({ "path": path })).await;
        }
    }
}
