//! Stories of writers and readers.

use bytes::Bytes;
use pipeline::Pts;

use super::*;

fn name(text: &str) -> StreamName {
    StreamName::parse(text).unwrap()
}

fn publisher(id: &str) -> Publisher {
    Publisher { protocol: "test", id: id.into(), remote: "127.0.0.1:1".into() }
}

fn picture(ms: i64, key: bool) -> Packet {
    let pts = Pts::from_millis(ms);
    let data = Bytes::from(vec![0; 1000]);
    Packet { kind: TrackKind::Video, pts, dts: pts, key, data, arrived: Instant::now() }
}

fn video_tracks() -> Tracks {
    let video = pipeline::packet::VideoTrack {
        codec: pipeline::Codec::H264,
        size: pipeline::Size::new(640, 360),
        parameter_sets: Bytes::new(),
    };
    Tracks { video: Some(video), audio: None }
}

fn hub(ring_bytes: usize) -> Hub {
    Hub::new(Limits { ring_bytes, ..Limits::default() })
}

#[tokio::test]
async fn a_late_reader_begins_at_the_last_key_picture() {
    let hub = hub(1 << 20);
    let mut writer = hub.publish(name("cam"), publisher("a"), false).unwrap();
    writer.set_tracks(video_tracks());
    for i in 0..10 {
        writer.write(picture(i * 33, i % 4 == 0));
    }
    let mut reader = hub.subscribe(&name("cam"), Start::LastKey).unwrap();
    assert!(matches!(reader.next().await, Item::Tracks(_)));
    let Item::Packet(first) = reader.next().await else { panic!("a packet") };
    assert!(first.key);
    assert_eq!(first.pts, Pts::from_millis(8 * 33));
}

#[tokio::test]
async fn a_reader_that_lags_is_told_and_resumes_at_a_key_picture() {
    let hub = hub(10_000);
    let mut writer = hub.publish(name("cam"), publisher("a"), false).unwrap();
    writer.set_tracks(video_tracks());
    writer.write(picture(0, true));
    let mut reader = hub.subscribe(&name("cam"), Start::LastKey).unwrap();
    for i in 1..40 {
        writer.write(picture(i * 33, i == 35));
    }
    assert!(matches!(reader.next().await, Item::Tracks(_)));
    assert!(matches!(reader.next().await, Item::Lagged(35)));
    let Item::Packet(next) = reader.next().await else { panic!("a packet") };
    assert!(next.key);
    assert_eq!(hub.status(&name("cam")).unwrap().lagged, 35);
}

#[tokio::test]
async fn a_reader_may_be_behind_by_the_span_of_the_ring_and_no_more() {
    let hub = Hub::new(Limits::default());
    let mut writer = hub.publish(name("cam"), publisher("a"), false).unwrap();
    writer.set_tracks(video_tracks());
    writer.write(picture(0, true));
    let mut early = hub.subscribe(&name("cam"), Start::LastKey).unwrap();
    let mut late = hub.subscribe(&name("cam"), Start::LastKey).unwrap();
    for second in 1..=20 {
        writer.write(picture(second * 1000, false));
    }
    assert!(matches!(early.next().await, Item::Tracks(_)));
    let Item::Packet(first) = early.next().await else { panic!("20 s are kept") };
    assert_eq!(first.pts, Pts::from_millis(0));
    for second in 21..=25 {
        writer.write(picture(second * 1000, second == 24));
    }
    assert!(matches!(late.next().await, Item::Tracks(_)));
    assert!(matches!(late.next().await, Item::Lagged(24)));
    let Item::Packet(next) = late.next().await else { panic!("a packet") };
    assert_eq!(next.pts, Pts::from_millis(24_000));
}

#[tokio::test]
async fn a_second_publisher_is_refused_or_takes_over() {
    let hub = hub(10_000);
    let mut first = hub.publish(name("cam"), publisher("a"), false).unwrap();
    first.set_tracks(video_tracks());
    assert!(matches!(
        hub.publish(name("cam"), publisher("b"), false),
        Err(PublishError::Taken { .. })
    ));
    let mut reader = hub.subscribe(&name("cam"), Start::Live).unwrap();
    let second = hub.publish(name("cam"), publisher("b"), true).unwrap();
    first.closed().await;
    assert!(matches!(reader.next().await, Item::Tracks(_)));
    assert!(matches!(reader.next().await, Item::End));
    drop(first);
    assert!(hub.subscribe(&name("cam"), Start::Live).is_some(), "the second one is still there");
    drop(second);
    assert!(hub.subscribe(&name("cam"), Start::Live).is_none());
}

#[tokio::test(start_paused = true)]
async fn wishes_for_a_key_frame_are_merged_and_forgotten_when_answered() {
    let hub = hub(1 << 20);
    let mut writer = hub.publish(name("cam"), publisher("a"), false).unwrap();
    writer.set_tracks(video_tracks());
    let reader = hub.subscribe(&name("cam"), Start::Live).unwrap();
    let mut wishes = writer.key_requests();
    for _ in 0..100 {
        reader.request_key_frame();
    }
    wishes.next().await;
    reader.request_key_frame();
    writer.write(picture(0, true));
    let idle = tokio::time::timeout(Duration::from_secs(5), wishes.next()).await;
    assert!(idle.is_err(), "the key picture answered the second wish");
    reader.request_key_frame();
    wishes.next().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let hub = Hub::new(Limits { streams: 1, ..Limits::default() });
    let _first = hub.publish(name("a"), publisher("a"), false).unwrap();
    assert!(matches!(hub.publish(name("b"), publisher("b"), false), Err(PublishError::TooMany(1))));
}

#[tokio::test]
async fn renditions_and_forms_of_a_stream_take_no_place_of_another() {
    let hub = Hub::new(Limits { streams: 2, ..Limits::default() });
    let _first = hub.publish(name("a"), publisher("a"), false).unwrap();
    let of = [name("a").of_rendition("360p"), name("a").derived("opus"), name("a").of_sound(1)];
    let _forms = of.map(|of| hub.publish(of, publisher("node"), true).unwrap());
    let _second = hub.publish(name("b"), publisher("b"), false).unwrap();
    assert!(matches!(hub.publish(name("c"), publisher("c"), false), Err(PublishError::TooMany(2))));
}

#[tokio::test]
async fn coming_and_going_is_announced_once() {
    let hub = hub(10_000);
    let mut events = hub.events();
    let mut writer = hub.publish(name("cam"), publisher("a"), false).unwrap();
    writer.set_tracks(video_tracks());
    writer.set_tracks(video_tracks());
    drop(writer);
    assert!(matches!(events.recv().await, Ok(Event::Online(n)) if n == name("cam")));
    assert!(matches!(events.recv().await, Ok(Event::Offline(n)) if n == name("cam")));
    assert!(events.try_recv().is_err());
}
