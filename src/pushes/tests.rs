//! Pushes with remote ends that do what a test says, in virtual time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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

    fn states(&self) -> Vec<&'static str> {
        self.pushes.list().iter().map(|view| view.state).collect()
    }
}

fn to(url: &str) -> Push {
    Push { url: url.into(), ..Push::default() }
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
async fn a_destination_of_the_api_stays_until_it_is_removed_and_none_comes_twice() {
    let rig = Rig::new();
    let add = |url: &str| rig.pushes.add(name("cam"), to(url), Origin::Api);
    let id = add("srt://host:1").unwrap();
    assert!(matches!(add("srt://host:1"), Err(AddError::Twice { .. })));
    assert!(matches!(add("gopher://host:1"), Err(AddError::Wrong(_))));
    rig.apply("[streams.other]\ngraph = \"none\"");
    let writer = publish(&rig.hub, "cam", false);
    until("the push", || rig.states() == ["running"]).await;
    drop(writer);
    until("idle", || rig.states() == ["idle"]).await;
    assert!(rig.pushes.remove(&id) && !rig.pushes.remove(&id));
    assert!(rig.pushes.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_destination_of_a_callback_ends_with_its_publisher() {
    let rig = Rig::new();
    let add = || rig.pushes.add(name("cam"), to("srt://host:1"), Origin::Callback);
    add().unwrap();
    let again = add().unwrap();
    assert_eq!(rig.pushes.list().len(), 1, "asked again for the same");
    let writer = publish(&rig.hub, "cam", false);
    until("the push", || rig.states() == ["running"]).await;
    assert_eq!(rig.pushes.get(&again).unwrap().origin, Origin::Callback);
    drop(writer);
    until("the end", || rig.pushes.list().is_empty()).await;
    add().unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(rig.pushes.list().is_empty(), "the publisher never came");
}
