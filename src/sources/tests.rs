//! Sources with remote ends that do what a test says, in virtual time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ingest::Hub;
use ingest::hub::{Limits, Start};
use ingest::remote::State;
use ingest::views::{HubViews, Takes, Views as _};
use tokio::time::Instant;

use super::*;
use crate::remote::testing::{Fake, name, publish, settings, until};

struct Rig {
    hub: Hub,
    fake: Arc<Fake>,
    streams: StreamSettings,
    sources: Sources,
    stop: CancellationToken,
}

impl Rig {
    fn new() -> Self {
        let hub = Hub::new(Limits::default());
        let fake = Fake::new(hub.clone());
        let streams = StreamSettings::new(&Settings::default()).unwrap();
        let stop = CancellationToken::new();
        let ends: SharedEnds = fake.clone();
        let tasks = TaskTracker::new();
        let sources = Sources::new(hub.clone(), streams.clone(), ends, tasks, stop.clone());
        Self { hub, fake, streams, sources, stop }
    }

    fn apply(&self, text: &str) {
        self.sources.apply(&settings(&self.streams, text));
    }

    fn state(&self, stream: &str) -> Option<&'static str> {
        let list = self.sources.list();
        list.iter().find(|view| view.stream == name(stream)).map(|view| view.state)
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_tried_with_growing_waits_until_it_is_there() {
    let rig = Rig::new();
    rig.fake.broken.store(true, Ordering::Relaxed);
    let began = Instant::now();
    rig.apply("[streams.cam]\nsource = \"srt://u:secret@host:9000?streamid=x\"");
    until("four attempts", || rig.fake.attempts().len() == 4).await;
    // 1, 2 and 4 s, of which chance takes up to the half.
    assert!(began.elapsed() >= Duration::from_millis(3500), "{:?}", began.elapsed());
    let view = rig.sources.list().remove(0);
    assert_eq!((view.state, view.retries), ("waiting", 3));
    assert!(view.last_error.unwrap().contains("no answer within 10s"));
    assert_eq!(view.target, "srt://***@host:9000?streamid=***");
    rig.fake.broken.store(false, Ordering::Relaxed);
    until("the stream", || rig.hub.is_online(&name("cam"))).await;
    assert_eq!(rig.state("cam"), Some(State::Running.as_str()));
    assert_eq!(rig.sources.list()[0].last_error, None);
    rig.stop.cancel();
    until("its end", || rig.sources.list().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_or_ends_is_followed_by_another() {
    let rig = Rig::new();
    rig.fake.panics.store(true, Ordering::Relaxed);
    rig.apply("[streams.cam]\nsource = \"srt://host:1\"");
    until("an attempt", || !rig.fake.attempts().is_empty()).await;
    until("the wait", || rig.state("cam") == Some("waiting")).await;
    assert!(rig.sources.list()[0].last_error.as_ref().unwrap().contains("as the test says"));
    rig.fake.panics.store(false, Ordering::Relaxed);
    until("the stream", || rig.hub.is_online(&name("cam"))).await;
    let before = rig.fake.attempts().len();
    rig.fake.hang_up.notify_waiters();
    until("another attempt", || rig.fake.attempts().len() > before).await;
    until("the stream again", || rig.hub.is_online(&name("cam"))).await;
}

#[tokio::test(start_paused = true)]
async fn changed_settings_start_and_stop_what_changed_and_nothing_else() {
    let rig = Rig::new();
    rig.apply("[streams.a]\nsource = \"srt://a:1\"\n[streams.b]\nsource = \"srt://b:1\"");
    until("both", || rig.fake.running.load(Ordering::Relaxed) == 2).await;
    rig.apply(
        "[streams.a]\nsource = \"srt://a:1\"\n[streams.b]\nsource = \"srt://b:2\"\n\
         [streams.c]\nsource = \"srt://c:1\"\n",
    );
    until("three", || rig.fake.running.load(Ordering::Relaxed) == 3).await;
    rig.apply("[streams.a]\nsource = \"srt://a:1\"\ngraph = \"none\"");
    until("one", || rig.fake.running.load(Ordering::Relaxed) == 1).await;
    let mut attempts = rig.fake.attempts();
    attempts.sort();
    let wanted = ["pull a srt://a:1", "pull b srt://b:1", "pull b srt://b:2", "pull c srt://c:1"];
    assert_eq!(attempts, wanted);
    assert!(rig.hub.is_online(&name("a")) && !rig.hub.is_online(&name("b")));
}

#[tokio::test(start_paused = true)]
async fn viewers_start_a_source_on_demand_and_the_last_one_ends_it() {
    let rig = Rig::new();
    rig.apply(
        "[streams.'~^cam(\\d+)$']\nsource = \"srt://10.0.0.$G1:9000\"\n\
         source_on_demand = true\nsource_close_after_seconds = 5",
    );
    let views: Arc<dyn ingest::views::Views> = Arc::new(HubViews::new(rig.hub.clone()));
    let views = OnDemand { sources: rig.sources.clone(), views };
    assert!(rig.fake.attempts().is_empty(), "nobody watches");
    let reader = views.view(&name("cam7"), &Takes::WEBRTC).await.unwrap();
    assert_eq!(rig.fake.attempts(), ["pull cam7 srt://10.0.0.7:9000"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.hub.is_online(&name("cam7")), "somebody watches");
    drop(reader);
    let left = Instant::now();
    until("the end", || !rig.hub.is_online(&name("cam7"))).await;
    assert!(left.elapsed() >= Duration::from_secs(4), "{:?}", left.elapsed());
    assert!(left.elapsed() <= Duration::from_secs(6), "{:?}", left.elapsed());
    // The processed stream's viewers count as well.
    let wish = views.view(&name("cam7-out"), &Takes::WEBRTC).await;
    assert!(wish.is_err(), "nobody makes it here");
    assert!(rig.hub.is_online(&name("cam7")));
}

#[tokio::test(start_paused = true)]
async fn viewers_of_a_source_that_is_away_wait_for_their_time_and_no_longer() {
    let rig = Rig::new();
    rig.fake.broken.store(true, Ordering::Relaxed);
    rig.apply(
        "[streams.cam]\nsource = \"srt://host:1\"\nsource_on_demand = true\n\
         source_start_timeout_seconds = 3\nsource_close_after_seconds = 5",
    );
    let began = Instant::now();
    rig.sources.demand(&name("cam")).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    until("the end", || rig.sources.list().is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    // What is published by somebody is not fetched.
    let _writer = publish(&rig.hub, "cam", false);
    let attempts = rig.fake.attempts().len();
    rig.sources.demand(&name("cam")).await;
    assert_eq!(rig.fake.attempts().len(), attempts);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_who_takes_over_is_left_alone_until_he_goes() {
    let rig = Rig::new();
    rig.apply("[streams.cam]\nsource = \"srt://host:1\"");
    until("the stream", || rig.hub.is_online(&name("cam"))).await;
    let writer = publish(&rig.hub, "cam", true);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(rig.fake.attempts().len(), 1);
    assert_eq!(rig.hub.status(&name("cam")).unwrap().publisher.protocol, "rtmp");
    drop(writer);
    until("the source again", || rig.hub.is_online(&name("cam"))).await;
    assert!(rig.hub.subscribe(&name("cam"), Start::Live).is_some());
    assert_eq!(rig.hub.status(&name("cam")).unwrap().publisher.protocol, "fake");
}
