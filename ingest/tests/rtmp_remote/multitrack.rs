//! Publishers with several pictures and sounds: what becomes of the further ones, who can play them,
//! and how they get from one node to the next.

use std::path::Path;

use ingest::StreamName;
use ingest::hub::{Hub, Start};
use ingest::remote::{Ended, Options, Sink, Status, Target};
use pipeline::{Codec, Packet, TrackKind};
use tokio_util::sync::CancellationToken;

use crate::kit::*;

/// Pictures in two codecs and sizes, sound at two rates.
async fn clip_of_four_tracks(path: &Path) {
    let line = format!(
        "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -map 0 -map 0 -map 1 -map 1 -t 2 -pix_fmt yuv420p -g 25 -filter:v:1 scale=160:90 \
         -c:v:0 libx264 -preset:v:0 veryfast -tune:v:0 zerolatency -sc_threshold:v:0 0 \
         -c:v:1 libvpx-vp9 -deadline:v:1 realtime -cpu-used:v:1 8 -lag-in-frames:v:1 0 \
         -c:a aac -ar:a:1 44100 -f matroska {}",
        path.display()
    );
    let output = run(&ffmpeg_9(), &line).await;
    assert!(output.status.success(), "{}", words(&output));
}

fn publish(path: &Path, url: &str) -> tokio::process::Child {
    let line = format!("-v error -re -i {} -map 0 -c copy -f flv {url}", path.display());
    command(&ffmpeg_9(), &line).spawn().unwrap()
}

/// Everything of the stream, its rendition and its further sound, in this order.
async fn read_tracks(
    hub: &Hub,
    stream: &str,
) -> [(std::sync::Arc<pipeline::Tracks>, Vec<Packet>); 3] {
    let main = reader(hub, stream).await;
    let name = StreamName::parse(stream).unwrap();
    let rendition = hub.wait_subscribe(&name.of_rendition("1"), Start::LastKey, PATIENCE).await;
    let sound = hub.wait_subscribe(&name.of_sound(1), Start::LastKey, PATIENCE).await;
    let (rendition, sound) = (rendition.expect("a rendition"), sound.expect("a further sound"));
    tokio::join!(read_all(main), read_all(rendition), read_all(sound)).into()
}

fn pictures(packets: &[Packet]) -> Vec<&Packet> {
    packets.iter().filter(|packet| packet.kind == TrackKind::Video).collect()
}

#[tokio::test]
async fn further_tracks_become_a_rendition_and_a_stream_with_their_sound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mkv");
    clip_of_four_tracks(&path).await;
    let node = Node::start(|_| {}).await;
    let mut child = publish(&path, &node.url("rtmp", "cam"));
    let [(main, packets), (small, smaller), (other, spoken)] = read_tracks(&node.hub, "cam").await;
    assert!(child.wait().await.unwrap().success());

    let video = main.video.as_ref().unwrap();
    assert_eq!((video.codec, video.size.width), (Codec::H264, 320));
    assert_eq!(main.audio.as_ref().unwrap().sample_rate, 48_000);
    let video = small.video.as_ref().unwrap();
    assert_eq!((video.codec, video.size.width, &small.audio), (Codec::Vp9, 160, &main.audio));
    assert_eq!(other.video, main.video);
    let audio = other.audio.as_ref().unwrap();
    assert_eq!((audio.codec, audio.sample_rate), (Codec::Aac, 44_100));

    // The rendition is of the same pictures under the same times.
    assert_eq!(shown(&packets).len(), PICTURES);
    assert_eq!(shown(&smaller), shown(&packets));
    // The stream with the other sound has the very same pictures.
    let (own, copied) = (pictures(&packets), pictures(&spoken));
    assert_eq!(copied.len(), PICTURES);
    assert!(own.iter().zip(&copied).all(|(a, b)| a.data == b.data && a.pts == b.pts));
    let sound = |packets: &[Packet]| packets.len() - pictures(packets).len();
    assert!(sound(&spoken) >= 84, "2 s of 1,024 samples at 44.1 kHz: {}", sound(&spoken));
    assert_eq!(sound(&smaller), sound(&packets));
    let counted = node.counters.snapshot();
    assert_eq!((counted.media_errors, counted.further_tracks), (0, 0), "{counted:?}");
    assert!(node.hub.sounds(&StreamName::parse("cam").unwrap()).is_empty(), "all is over");
}

#[tokio::test]
async fn a_player_gets_one_picture_and_the_sound_that_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mkv");
    clip_of_four_tracks(&path).await;
    let node = Node::start(|_| {}).await;
    let url = node.url("rtmp", "cam");
    let line =
        format!("-v error -re -stream_loop -1 -i {} -map 0 -c copy -f flv {url}", path.display());
    let _live = command(&ffmpeg_9(), &line).spawn().unwrap();
    node.reader("cam").await;
    let shown = "-v error -show_entries stream=codec_name,width,sample_rate -of csv=p=0";
    for (url, rate) in [(url.clone(), "48000"), (format!("{url}~audio1"), "44100")] {
        let seen = run(Path::new("/usr/bin/ffprobe"), &format!("{shown} {url}")).await;
        let seen = String::from_utf8(seen.stdout).unwrap();
        let expected = ["h264,320".to_owned(), format!("aac,{rate}")];
        assert_eq!(seen.lines().collect::<Vec<_>>(), expected, "{url}");
    }
    let output = run(&ffmpeg_9(), &format!("-v error -i {url}~audio1 -t 1 -f null -")).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{}", words(&output));
}

#[tokio::test]
async fn a_node_that_pulls_from_another_gets_all_tracks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mkv");
    clip_of_four_tracks(&path).await;
    let node = Node::start(|_| {}).await;
    let line = format!(
        "-v error -re -stream_loop -1 -i {} -map 0 -c copy -f flv {}",
        path.display(),
        node.url("rtmp", "cam")
    );
    let mut live = command(&ffmpeg_9(), &line).spawn().unwrap();
    node.reader("cam").await;

    let (hub, status) = (Hub::new(ingest::hub::Limits::default()), Status::default());
    let here = StreamName::parse("here").unwrap();
    let sink = Sink::new(hub.clone(), here.clone(), false, status.clone());
    let (target, stop) =
        (Target::parse(&node.url("rtmp", "cam")).unwrap(), CancellationToken::new());
    let pull = tokio::spawn(async move {
        ingest::rtmp::pull(&target, &Options::default(), &sink, &stop).await
    });
    let read = tokio::spawn({
        let hub = hub.clone();
        async move { read_tracks(&hub, "here").await }
    });
    // Until some of each has come.
    let rendition = here.of_rendition("1");
    let came = |name: &StreamName| hub.status(name).is_some_and(|status| status.frames >= 60);
    let end = tokio::time::Instant::now() + PATIENCE;
    while !(came(&here) && came(&rendition) && came(&here.of_sound(1))) {
        assert!(tokio::time::Instant::now() < end, "{:?}", hub.status(&rendition));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    live.kill().await.unwrap();
    assert_eq!(pull.await.unwrap().unwrap(), Ended::ByPeer);
    let [(main, packets), (small, smaller), (other, spoken)] = read.await.unwrap();
    assert_eq!(main.video.as_ref().unwrap().size.width, 320);
    let video = small.video.as_ref().unwrap();
    assert_eq!((video.codec, video.size.width), (Codec::Vp9, 160));
    assert_eq!(other.audio.as_ref().unwrap().sample_rate, 44_100);
    assert_eq!(main.audio.as_ref().unwrap().sample_rate, 48_000);
    assert!(pictures(&spoken).len() >= 50 && pictures(&packets).len() >= 50);
    // Pictures that belong together have one time in both.
    let (times, others) = (shown(&packets), shown(&smaller));
    let common = others.iter().filter(|time| times.contains(time)).count();
    assert!(common >= 50, "{others:?} of {times:?}");
}

#[tokio::test]
async fn a_second_publisher_takes_the_further_tracks_over_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mkv");
    clip_of_four_tracks(&path).await;
    let node = Node::start(|config| config.take_over = true).await;
    let url = node.url("rtmp", "cam");
    let line =
        format!("-v error -re -stream_loop -1 -i {} -map 0 -c copy -f flv {url}", path.display());
    let _first = command(&ffmpeg_9(), &line).spawn().unwrap();
    let cam = StreamName::parse("cam").unwrap();
    let sound = node.hub.wait_subscribe(&cam.of_sound(1), Start::LastKey, PATIENCE).await;
    let before = node.hub.status(&cam.of_sound(1)).unwrap().publisher.id;
    let second = publish(&path, &url);
    read_all(sound.expect("a further sound")).await;
    let sound = node.hub.wait_subscribe(&cam.of_sound(1), Start::LastKey, PATIENCE).await;
    let after = node.hub.status(&cam.of_sound(1)).unwrap().publisher.id;
    assert_ne!(before, after);
    assert_eq!(node.hub.status(&cam).unwrap().publisher.id, after);
    let (_, packets) = read_all(sound.expect("the second's")).await;
    assert_eq!(pictures(&packets).len(), PICTURES);
    assert!(second.wait_with_output().await.unwrap().status.success());
}
