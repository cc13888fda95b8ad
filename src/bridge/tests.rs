//! Which forms are made at the same time.

use std::time::Instant;

use bytes::Bytes;
use ingest::hub::Limits;
use pipeline::Size;

use super::*;

fn publish(hub: &Hub, name: &StreamName) -> Writer {
    let publisher = Publisher { protocol: "rtmp", id: "1".into(), remote: String::new() };
    let mut writer = hub.publish(name.clone(), publisher, false).unwrap();
    let (size, parameter_sets) = (Size::new(320, 180), Bytes::new());
    let video = Some(VideoTrack { codec: Codec::Hevc, size, parameter_sets });
    writer.set_tracks(Tracks { video, audio: None });
    writer
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_streams_are_re_encoded_and_a_reader_of_another_is_told_why_not() {
    let hub = Hub::new(Limits::default());
    let bridges = Bridges::new(hub.clone());
    let name = |number: usize| StreamName::parse(&format!("cam{number}")).unwrap();
    let writers: Vec<Writer> = (0..=REENCODES_MAX).map(|n| publish(&hub, &name(n))).collect();
    let begin = |number: usize| {
        let name = name(number);
        let tracks = hub.status(&name).unwrap().tracks;
        let needs = Needs::of(&tracks, false, &Takes::WEBRTC);
        bridges.begin(&name, &name.derived(&needs.kind()), needs)
    };
    for number in 0..REENCODES_MAX {
        begin(number).unwrap();
    }
    let refused = begin(REENCODES_MAX).unwrap_err().to_string();
    assert!(refused.contains("8 streams are re-encoded already"), "{refused}");
    begin(0).expect("what somebody has already costs nothing more");
    let list = bridges.list();
    assert_eq!(list.len(), REENCODES_MAX);
    let video = list[0].video.as_ref().unwrap();
    assert_eq!((list[0].stream.as_str(), list[0].form.as_str()), ("cam0", "h264"));
    assert_eq!((video.from, video.into, video.frames_in), (Some("H265"), "H264", 0));
    assert!(video.why.contains("WebRTC"), "{}", video.why);
    drop(writers);
    let end = Instant::now() + Duration::from_secs(30);
    while !bridges.list().is_empty() {
        assert!(Instant::now() < end, "forms stay without their streams");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
