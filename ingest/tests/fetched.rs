//! Files and HLS as sources, made by ffmpeg.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ingest::hub::{Hub, Item, Limits, Start};
use ingest::remote::{Ended, Error, Options, Sink, Status, Target};
use ingest::{StreamName, file, hls_pull};
use pipeline::{Codec, Packet, Ticks, TrackKind, Tracks};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// ffmpeg makes a moving picture of 25 a second with a tone.
fn ffmpeg(seconds: u32, options: &str, out: &Path) {
    let input = format!(
        "-hide_banner -loglevel error -y -f lavfi -i testsrc=size=160x120:rate=25:duration={seconds} \
         -f lavfi -i sine=frequency=440:sample_rate=48000:duration={seconds} -pix_fmt yuv420p \
         -c:v libx264 -preset ultrafast -g 25 -c:a aac -ac 2"
    );
    let mut command = Command::new("/usr/bin/ffmpeg");
    command.args(input.split_whitespace()).args(options.split_whitespace()).arg(out);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// What a reader gets of a stream that a pull writes, until `enough`.
async fn watch(hub: &Hub, enough: impl Fn(&[Packet]) -> bool) -> (Tracks, Vec<Packet>) {
    let name = StreamName::parse("cam").unwrap();
    let reader = hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await;
    let mut reader = reader.expect("the stream does not come");
    let (mut tracks, mut packets) = (Tracks::default(), Vec::new());
    let read = async {
        while !enough(&packets) {
            match reader.next().await {
                Item::Tracks(new) => tracks = (*new).clone(),
                Item::Packet(packet) => packets.push(packet),
                Item::Lagged(lost) => panic!("{lost} packets were lost"),
                Item::End => panic!("the stream ended after {} packets", packets.len()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("too few packets");
    (tracks, packets)
}

fn sink(hub: &Hub) -> Sink {
    Sink::new(hub.clone(), StreamName::parse("cam").unwrap(), false, Status::default())
}

fn of(packets: &[Packet], kind: TrackKind) -> Vec<&Packet> {
    packets.iter().filter(|packet| packet.kind == kind).collect()
}

fn pictures(packets: &[Packet]) -> usize {
    packets.iter().filter(|packet| packet.kind == TrackKind::Video).count()
}

/// Times of a track grow by steps within these milliseconds.
fn assert_steps(packets: &[Packet], kind: TrackKind, least: i64, most: i64) {
    for pair in of(packets, kind).windows(2) {
        let step = (pair[1].dts - pair[0].dts).0;
        assert!(
            (least * 90..=most * 90).contains(&step),
            "{kind:?}: {} ms from {} to {}",
            step / 90,
            pair[0].dts,
            pair[1].dts
        );
    }
}

/// Plays a file of one second for more than three turns.
async fn three_turns(options: &str, extension: &str, reorders: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("loop.{extension}"));
    ffmpeg(1, options, &path);
    let hub = Hub::new(Limits::default());
    let (target, stop) =
        (Target::parse(&format!("file://{}", path.display())).unwrap(), CancellationToken::new());
    let (ours, ending) = (sink(&hub), stop.clone());
    let pull = tokio::spawn(async move { file::pull(&target, &ours, &ending).await });
    let began = std::time::Instant::now();
    let (tracks, packets) = watch(&hub, |packets| pictures(packets) >= 80).await;
    assert!(began.elapsed() >= Duration::from_millis(2500), "{:?}", began.elapsed());
    let video = tracks.video.unwrap();
    assert_eq!((video.codec, video.size.width, video.size.height), (Codec::H264, 160, 120));
    assert_eq!(tracks.audio.unwrap().codec, Codec::Aac);
    // A turn is as long as its longer track, so a cut may be longer than a picture.
    assert_steps(&packets, TrackKind::Video, 1, 150);
    // Sound that begins before the pictures does so in each turn, and is put in order at the cut.
    assert_steps(&packets, TrackKind::Audio, 0, 150);
    let video = of(&packets, TrackKind::Video);
    assert!(video[0].key, "the first picture can be decoded");
    assert!(video.iter().filter(|packet| packet.key).count() >= 3);
    assert_eq!(video.iter().any(|packet| packet.pts != packet.dts), reorders);
    // Picture and sound stay together over the turns.
    let end = |kind| of(&packets, kind).last().unwrap().dts;
    let apart = (end(TrackKind::Video) - end(TrackKind::Audio)).0.abs();
    assert!(apart < Ticks::from_millis(300).0, "{} ms", apart / 90);
    stop.cancel();
    assert_eq!(pull.await.unwrap().unwrap(), Ended::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn mp4_with_b_frames_plays_over_and_over_with_times_that_go_on() {
    three_turns("-bf 2", "mp4", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fragmented_mp4_plays_over_and_over() {
    three_turns("-bf 0 -movflags frag_keyframe+empty_moov", "mp4", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mpeg_ts_plays_over_and_over() {
    three_turns("-bf 0", "ts", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn matroska_with_b_frames_plays_over_and_over() {
    three_turns("-bf 2", "mkv", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flv_with_b_frames_plays_over_and_over() {
    three_turns("-bf 2", "flv", true).await;
}

/// Size and checksum of each packet of a file as ffmpeg reads it, or of what it decodes, in the
/// order in which they come.
fn sums(input: &Path, options: &str) -> Vec<(usize, u32)> {
    let mut command = Command::new("/usr/bin/ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-i"]).arg(input);
    let done = command.args(options.split_whitespace()).args(["-f", "framecrc", "-"]).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let line = |line: &str| {
        let mut fields = line.split(',').map(str::trim).skip(4);
        let size = fields.next()?.parse().ok()?;
        let sum = fields.next()?.strip_prefix("0x")?;
        Some((size, u32::from_str_radix(sum, 16).ok()?))
    };
    text.lines().filter(|text| !text.starts_with('#')).map(|text| line(text).unwrap()).collect()
}

/// The same of a packet (Adler-32 from 0, as ffmpeg counts).
fn sum(packet: &Packet) -> (usize, u32) {
    let add = |(a, b): (u32, u32), byte: &u8| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    };
    let (a, b) = packet.data.iter().fold((0, 0), add);
    (packet.data.len(), b << 16 | a)
}

/// What comes of a file of a second in its first turn.
async fn first_turn(
    options: &str,
    extension: &str,
) -> (tempfile::TempDir, PathBuf, Tracks, Vec<Packet>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("loop.{extension}"));
    ffmpeg(1, options, &path);
    let hub = Hub::new(Limits::default());
    let target = Target::parse(&format!("file://{}", path.display())).unwrap();
    let (ours, stop) = (sink(&hub), CancellationToken::new());
    let ending = stop.clone();
    let pull = tokio::spawn(async move { file::pull(&target, &ours, &ending).await });
    let (tracks, packets) = watch(&hub, |packets| pictures(packets) >= 30).await;
    stop.cancel();
    assert_eq!(pull.await.unwrap().unwrap(), Ended::Stopped);
    (dir, path, tracks, packets)
}

/// Every picture and the sound are those of the file, byte by byte.
async fn copied(options: &str, extension: &str, codecs: (Codec, Codec)) {
    let (_dir, path, tracks, packets) = first_turn(options, extension).await;
    assert_eq!((tracks.video.unwrap().codec, tracks.audio.unwrap().codec), codecs);
    for (kind, map, least) in [(TrackKind::Video, "0:v", 25), (TrackKind::Audio, "0:a", 10)] {
        let there = sums(&path, &format!("-map {map} -c copy"));
        let here: Vec<_> = of(&packets, kind).into_iter().map(sum).collect();
        let count = there.len().min(here.len());
        assert!(count >= least, "{kind:?}: {} of {}", here.len(), there.len());
        assert_eq!(here[..count], there[..count], "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webm_of_vp9_and_opus_is_copied_byte_by_byte() {
    let options = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus";
    copied(options, "webm", (Codec::Vp9, Codec::Opus)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn matroska_of_vp8_and_flac_is_copied_byte_by_byte() {
    let options = "-c:v libvpx -deadline realtime -cpu-used 8 -c:a flac -sample_fmt s16";
    copied(options, "mkv", (Codec::Vp8, Codec::Flac)).await;
}

/// What the pictures show is what ffmpeg shows of the file, frame by frame.
async fn shown(options: &str, extension: &str, raw: &str, codec: Codec) {
    let (dir, path, tracks, packets) = first_turn(options, extension).await;
    assert_eq!(tracks.video.unwrap().codec, codec);
    let pictures = of(&packets, TrackKind::Video);
    let bytes: Vec<u8> = pictures[..25].iter().flat_map(|packet| packet.data.to_vec()).collect();
    let got = dir.path().join(format!("got.{raw}"));
    std::fs::write(&got, bytes).unwrap();
    let (here, there) = (sums(&got, "-map 0:v"), sums(&path, "-map 0:v"));
    assert_eq!((here.len(), here), (25, there));
    let mut times: Vec<_> = pictures[..25].iter().map(|packet| packet.pts.as_millis()).collect();
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| (39..=41).contains(&(pair[1] - pair[0]))), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_matroska_are_those_of_the_file() {
    shown("-bf 2", "mkv", "h264", Codec::H264).await;
    let hevc = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25";
    shown(hevc, "mkv", "hevc", Codec::Hevc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_flv_are_those_of_the_file() {
    shown("-bf 2", "flv", "h264", Codec::H264).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_media_file_is_refused_with_its_name_and_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(Limits::default());
    let pull = async |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let target = Target::parse(&format!("file://{}", path.display())).unwrap();
        let error = file::pull(&target, &sink(&hub), &CancellationToken::new()).await.unwrap_err();
        let Error::Protocol { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains(name), "{source}");
        source.to_string()
    };
    assert!(pull("a.txt", b"hello").await.contains("none of MP4, MPEG-TS"));
    assert!(pull("b.mkv", &[0x1A, 0x45, 0xDF, 0xA3, 0, 0]).await.contains("nothing in it"));
    let other = b"\x1A\x45\xDF\xA3\x88\x42\x82\x85movie";
    assert!(pull("d.mkv", other).await.contains("neither matroska nor webm"));
    let screen = b"FLV\x01\x01\0\0\0\x09\0\0\0\0\x09\0\0\x02\0\0\0\0\0\0\0\x13\0\0\0\0\x0d";
    assert!(pull("e.flv", screen).await.contains("Screen video"));
    assert!(pull("c.mp4", b"\0\0\0\x10ftypisomiso6\0\0\0\x08free").await.contains("no moov"));
    assert!(hub.list().is_empty(), "the name was not taken");
}

/// A folder over HTTP, on a free port.
async fn serve(folder: &Path) -> String {
    let folder = folder.to_owned();
    let router = axum::Router::new().fallback(async move |uri: axum::http::Uri| {
        let name = uri.path().trim_start_matches('/').to_owned();
        std::fs::read(folder.join(name)).map_err(|_| axum::http::StatusCode::NOT_FOUND)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Pulls `index.m3u8` of a folder into a hub.
async fn pulled(
    dir: &Path,
    hub: &Hub,
    stop: &CancellationToken,
) -> JoinHandle<Result<Ended, Error>> {
    let target = Target::parse(&format!("{}/index.m3u8", serve(dir).await)).unwrap();
    let (ours, ending) = (sink(hub), stop.clone());
    let options = Options::default();
    tokio::spawn(async move { hls_pull::pull(&target, &options, &ours, &ending).await })
}

/// Follows a playlist with an end from its beginning to its end.
async fn whole_playlist(options: &str) {
    let dir = tempfile::tempdir().unwrap();
    let hls = format!("-bf 0 -f hls -hls_time 1 -hls_list_size 0 {options}");
    ffmpeg(3, &hls, &dir.path().join("media.m3u8"));
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=200000\nmedia.m3u8\n";
    std::fs::write(dir.path().join("index.m3u8"), master).unwrap();
    let hub = Hub::new(Limits::default());
    let pull = pulled(dir.path(), &hub, &CancellationToken::new()).await;
    let (tracks, packets) = watch(&hub, |packets| pictures(packets) >= 40).await;
    assert_eq!(tracks.video.unwrap().codec, Codec::H264);
    assert_eq!(tracks.audio.unwrap().codec, Codec::Aac);
    assert_steps(&packets, TrackKind::Video, 39, 41);
    assert_steps(&packets, TrackKind::Audio, 15, 30);
    assert_eq!(pull.await.unwrap().unwrap(), Ended::ByPeer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_of_mpeg_ts_is_followed_to_its_end() {
    whole_playlist("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_of_fragmented_mp4_is_followed_to_its_end() {
    whole_playlist("-hls_segment_type fmp4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_playlist_is_followed_as_its_window_moves_on() {
    let dir = tempfile::tempdir().unwrap();
    let playlist = dir.path().join("index.m3u8");
    let live = "-hide_banner -loglevel error -y -re -f lavfi -i testsrc=size=160x120:rate=25 \
                -re -f lavfi -i sine=frequency=440:sample_rate=48000 -pix_fmt yuv420p \
                -c:v libx264 -preset ultrafast -g 25 -bf 0 -c:a aac -ac 2 \
                -f hls -hls_time 1 -hls_list_size 6 -hls_flags delete_segments+temp_file";
    let mut server = tokio::process::Command::new("/usr/bin/ffmpeg");
    server.args(live.split_whitespace()).arg(&playlist).stdin(Stdio::null()).kill_on_drop(true);
    let _server = server.spawn().unwrap();
    let made = async {
        while !playlist.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, made).await.expect("ffmpeg makes a playlist");
    let (hub, stop) = (Hub::new(Limits::default()), CancellationToken::new());
    let pull = pulled(dir.path(), &hub, &stop).await;
    // Longer than the window, which then no longer has the segment that it began with.
    let (_, packets) = watch(&hub, |packets| pictures(packets) >= 225).await;
    assert!(!dir.path().join("index0.ts").exists(), "the window moved on");
    assert_steps(&packets, TrackKind::Video, 39, 41);
    assert_steps(&packets, TrackKind::Audio, 15, 30);
    stop.cancel();
    assert_eq!(pull.await.unwrap().unwrap(), Ended::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_of_more_than_50_mb_end_the_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let large = std::fs::File::create(dir.path().join("large.ts")).unwrap();
    large.set_len(50_000_001).unwrap();
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n";
    let list = format!("{list}{}#EXT-X-ENDLIST\n", "#EXTINF:1,\nlarge.ts\n".repeat(3));
    std::fs::write(dir.path().join("index.m3u8"), list).unwrap();
    let target = Target::parse(&format!("{}/index.m3u8", serve(dir.path()).await)).unwrap();
    let (hub, stop) = (Hub::new(Limits::default()), CancellationToken::new());
    let pulled = hls_pull::pull(&target, &Options::default(), &sink(&hub), &stop).await;
    let text = format!("{:?}", pulled.unwrap_err());
    assert!(text.contains("more than 50000000 bytes"), "{text}");
    assert!(hub.list().is_empty(), "the name was not taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_that_is_none_is_refused_without_telling_the_token() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("page.m3u8"), "<html>").unwrap();
    let base = serve(dir.path()).await;
    let hub = Hub::new(Limits::default());
    let pull = async |path: &str| {
        let target = Target::parse(&format!("{base}/{path}?token=secret")).unwrap();
        let stop = CancellationToken::new();
        let pulled = hls_pull::pull(&target, &Options::default(), &sink(&hub), &stop).await;
        let error = pulled.unwrap_err();
        let text = format!("{error:?} {error} {target}");
        assert!(!text.contains("secret"), "{text}");
        text
    };
    assert!(pull("page.m3u8").await.contains("#EXTM3U"));
    assert!(pull("none.m3u8").await.contains("404"));
}
