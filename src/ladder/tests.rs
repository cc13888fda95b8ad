//! Stories of renditions before anything is decoded.

use bytes::Bytes;
use ingest::hub::{Limits, Publisher, Writer};
use pipeline::orientation::{Turn, with_turn};
use pipeline::{Codec, Packet, Pts, TrackKind, Tracks};

use super::*;
use crate::config::Settings;

/// Longer than any step takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A slice of a key picture, enough for who does not decode it.
const SLICE: &[u8] = &[0, 0, 0, 1, 0x65, 3, 4];

/// A node of which only the renditions run, with one of `cam`.
struct Node {
    hub: Hub,
    ladders: Ladders,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Node {
    fn start() -> Self {
        let text = "[streams.cam]\n\
            renditions = [{ name = \"low\", height = 720, bitrate_kbps = 700 }]\n";
        let settings: Settings = toml::from_str(text).unwrap();
        let streams = StreamSettings::new(&settings).unwrap();
        let (hub, tasks) = (Hub::new(Limits::default()), TaskTracker::new());
        let stop = CancellationToken::new();
        let ladders = Ladders::new(hub.clone(), streams, tasks.clone(), stop.clone());
        tasks.spawn(ladders.clone().run());
        Self { hub, ladders, tasks, stop }
    }

    fn publish(&self) -> Writer {
        let publisher = Publisher { protocol: "test", id: "1".into(), remote: String::new() };
        let mut writer = self.hub.publish(cam(), publisher, false).unwrap();
        let size = Size::new(1920, 1080);
        let video = VideoTrack { codec: Codec::H264, size, parameter_sets: Bytes::new() };
        writer.set_tracks(Tracks { video: Some(video), audio: None });
        writer
    }

    /// Waits for something of the node.
    async fn until<T>(&self, what: &str, find: impl Fn(&Self) -> Option<T>) -> T {
        let search = async {
            loop {
                match find(self) {
                    Some(found) => return found,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("no {what}"))
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.expect("its tasks end");
    }
}

fn cam() -> StreamName {
    StreamName::parse("cam").unwrap()
}

fn picture(seconds: i64, key: bool, data: Bytes) -> Packet {
    let (kind, pts) = (TrackKind::Video, Pts::from_millis(seconds * 1000));
    Packet { kind, pts, dts: pts, key, data, arrived: std::time::Instant::now() }
}

#[tokio::test]
async fn renditions_of_a_phone_held_upright_are_upright() {
    let node = Node::start();
    let mut writer = node.publish();
    let turned = with_turn(Codec::H264, SLICE, Turn::Quarter).unwrap();
    writer.write(picture(0, true, turned));
    let ladder = node.until("renditions", |node| node.ladders.of(&cam())).await;
    assert_eq!(ladder.rungs[0].size(), Size::new(406, 720));
    drop(writer);
    node.until("end of them", |node| node.ladders.of(&cam()).is_none().then_some(())).await;
    node.end().await;
}

#[tokio::test]
async fn the_source_is_asked_for_a_key_picture_where_none_is_kept() {
    let node = Node::start();
    let mut writer = node.publish();
    let slice = || Bytes::from_static(SLICE);
    writer.write(picture(0, true, slice()));
    // So much later that the key picture is forgotten.
    writer.write(picture(60, false, slice()));
    let low = cam().of_rendition("low");
    let reader = node.until("rendition", |node| node.hub.subscribe(&low, Start::Live)).await;
    let mut wishes = writer.key_requests();
    tokio::time::timeout(PATIENCE, wishes.next()).await.expect("a wish for a key picture");
    assert!(node.ladders.of(&cam()).is_some_and(|ladder| ladder.is_making()));
    drop(reader);
    node.end().await;
}
