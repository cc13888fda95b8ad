//! Pushes with remote ends that do what a test says, in virtual time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingest::Hub;
use ingest::hub::Limits;

use super::*;
use crate::config::Settings;
use crate::remote::testing::{Fake, name, publish, settings, until};

struct Rig {
    hub: Hub,
    fake: Arc<Fake>,
    streams: StreamSettings,
    pushes: Pushes,
    stop: CancellationToken,
}

impl Rig {
    fn new() -> Self {
        let hub = Hub::new(Limits::default());
        let fake = Fake::new(hub.clone());
        let streams = StreamSettings::new(&Settings::default()).unwrap();
        let stop = CancellationToken::new();
        let (ends, tasks): (SharedEnds, _) = (fake.clone(), TaskTracker::new());
        let pushes = Pushes::new(hub.clone(), streams.clone(), ends, tasks, stop.clone());
        tokio::spawn(pushes.clone().follow_streams());
        Self { hub, fake, streams, pushes, stop }
    }

    fn apply(&self, text: &str) {
        self.pushes.apply(&settings(&self.streams, text));
    }

    /// What a callback says of a stream when it lets its publisher in.
    fn answer(&self, stream: &str, said: Option<&str>) {
        let said = said.map(|text| text.parse::<toml::Table>().unwrap());
        self.streams.answer(&name(stream), said.as_ref(), |_| true).unwrap();
    }

    fn states(&self) -> Vec<&'static str> {
        self.pushes.list().iter().map(|view| view.state).collect()
    }

    fn targets(&self) -> Vec<String> {
        self.pushes.list().into_iter().map(|view| view.target).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_of_the_settings_runs_while_its_stream_does() {
    let rig = Rig::new();
    rig.apply("[streams.cam]\npushes = [{ url = \"srt://host:1?passphrase=abcdefghij\" }]");
    until("waiting for the stream", || rig.states() == ["idle"]).await;
    for _ in 0..2 {
        let writer = publish(&rig.hub, "cam", false);
        until("the push", || rig.states() == ["running"]).await;
        drop(writer);
        until("its end", || rig.states() == ["idle"]).await;
    }
    let view = rig.pushes.list().remove(0);
    assert_eq!((view.target.as_str(), view.retries), ("srt://host:1?passphrase=***", 0));
    assert_eq!(rig.fake.attempts().len(), 2);
    rig.stop.cancel();
    until("the node's end", || rig.pushes.list().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_tried_again_and_the_stream_does_not_notice() {
    let rig = Rig::new();
    rig.fake.broken.store(true, Ordering::Relaxed);
    let _writer = publish(&rig.hub, "cam", false);
    rig.apply("[streams.cam]\npushes = [{ url = \"srt://host:1\" }]");
    until("attempts", || rig.fake.attempts().len() == 3).await;
    let view = rig.pushes.list().remove(0);
    assert_eq!((view.state, view.retries), ("waiting", 2));
    assert!(view.last_error.unwrap().contains("no answer"));
    assert!(rig.hub.is_online(&name("cam")));
    rig.fake.broken.store(false, Ordering::Relaxed);
    until("the push", || rig.states() == ["running"]).await;
    rig.fake.hang_up.notify_waiters();
    until("the wait", || rig.states() == ["waiting"]).await;
    until("the push again", || rig.states() == ["running"]).await;
    assert_eq!(rig.hub.status(&name("cam")).unwrap().readers, 0, "a push is no viewer here");
}

#[tokio::test(start_paused = true)]
async fn changed_settings_start_and_stop_what_changed_and_nothing_else() {
    let rig = Rig::new();
    let _writer = publish(&rig.hub, "cam", false);
    rig.apply("[streams.cam]\npushes = [{ url = \"srt://a:1\" }, { url = \"srt://b:1\" }]");
    until("both", || rig.states() == ["running", "running"]).await;
    let kept = rig.pushes.list().remove(0).id;
    rig.apply("[streams.cam]\npushes = [{ url = \"srt://a:1\" }, { url = \"srt://c:1\" }]");
    until("both", || rig.states() == ["running", "running"]).await;
    let list = rig.pushes.list();
    assert_eq!((list[0].id.as_str(), list[1].target.as_str()), (kept.as_str(), "srt://c:1"));
    let attempts = ["push cam srt://a:1", "push cam srt://b:1", "push cam srt://c:1"];
    assert_eq!(rig.fake.attempts(), attempts);
    rig.apply("");
    assert!(rig.pushes.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn settings_for_many_streams_push_each_that_comes_and_forget_it_after() {
    let rig = Rig::new();
    rig.apply(
        "[streams.'~^cam(\\d+)$']\npushes = [{ url = \"srt://host:10$G1\", processed = true }]",
    );
    assert!(rig.pushes.list().is_empty());
    let source = publish(&rig.hub, "cam7", false);
    until("waiting for the processed stream", || rig.states() == ["idle"]).await;
    let out = publish(&rig.hub, "cam7-out", false);
    until("the push", || rig.states() == ["running"]).await;
    assert_eq!(rig.fake.attempts(), ["push cam7-out srt://host:107"]);
    drop((source, out));
    until("the end", || rig.pushes.list().is_empty()).await;
    let _writer = publish(&rig.hub, "cam7", false);
    until("the next", || rig.states() == ["idle"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_named_twice_is_begun_once() {
    let rig = Rig::new();
    let _writer = publish(&rig.hub, "cam", false);
    let again = "{ url = \"srt://a:1\", bearer = \"x\" }";
    rig.apply(&format!("[streams.cam]\npushes = [{{ url = \"srt://a:1\" }}, {again}]"));
    until("the push", || rig.states() == ["running"]).await;
    assert_eq!(rig.fake.attempts(), ["push cam srt://a:1"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_callback_answers_is_pushed_for_its_publisher_alone() {
    let rig = Rig::new();
    let plain = "[streams.cam]\npushes = [{ url = \"srt://own:1\" }]\n";
    rig.apply(plain);
    rig.answer("cam", Some("pushes = [{ url = \"srt://his:1\" }]"));
    until("those of the settings", || rig.targets() == ["srt://own:1"]).await;
    let writer = publish(&rig.hub, "cam", false);
    until("his instead", || rig.targets() == ["srt://his:1"]).await;
    until("the push", || rig.states() == ["running"]).await;
    rig.apply(&format!("{plain}take_over = true"));
    assert_eq!((rig.targets(), rig.states()), (vec!["srt://his:1".into()], vec!["running"]));
    drop(writer);
    until("those of the settings again", || rig.targets() == ["srt://own:1"]).await;
    // Settings that change while nobody writes do not bring his back, and neither does the next.
    rig.apply(plain);
    assert_eq!(rig.targets(), ["srt://own:1"]);
    rig.answer("cam", None);
    let _next = publish(&rig.hub, "cam", false);
    until("the push", || rig.states() == ["running"]).await;
    assert_eq!(rig.fake.attempts(), ["push cam srt://his:1", "push cam srt://own:1"]);
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_stream_over_is_not_pushed_where_the_one_before_was() {
    let rig = Rig::new();
    rig.answer("cam", Some("pushes = [{ url = \"srt://first:1\" }]"));
    let _first = publish(&rig.hub, "cam", false);
    until("the push", || rig.states() == ["running"]).await;
    rig.answer("cam", Some("pushes = [{ url = \"srt://second:1\" }]"));
    let _second = publish(&rig.hub, "cam", true);
    until("his own", || rig.targets() == ["srt://second:1"]).await;
    until("the push", || rig.states() == ["running"]).await;
    let attempts = rig.fake.attempts();
    assert_eq!(attempts.last().unwrap(), "push cam srt://second:1");
}
