//! Publishers that send several renditions of the same pictures, and viewers that get one of them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use ingest::hub::{Item, Reader, Start};
use ingest::name::StreamName;
use ingest::rtmp;
use ingest::rtp::packet::{Header, RtpPacket, RtpTime, Seq};
use ingest::rtp::rtcp::{Message, messages};
use ingest::views::HubViews;
use pipeline::{Size, TrackKind};
use tokio_util::sync::CancellationToken;

use crate::harness::{Node, PPS, SPS, slice, text};
use crate::peer::{PATIENCE, Peer};

/// Of 320x180; the harness's own is of 640x360.
const SMALL_SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xda, 0x05, 0x06, 0x7e, 0x74];

/// The extension numbers of the offer.
const RID: u8 = 10;

/// One rendition at its sender.
struct Rendition {
    rid: &'static str,
    ssrc: u32,
    sps: &'static [u8],
    seq: u16,
    /// Random, as timestamps begin.
    time: u32,
}

impl Rendition {
    fn both() -> [Self; 2] {
        let of = |rid, ssrc, sps, time| Self { rid, ssrc, sps, seq: 100, time };
        [of("h", 0x1111, SPS, 1_000_000), of("l", 0x2222, SMALL_SPS, u32::MAX - 9000)]
    }

    /// Sends a picture 1/30 s after the one before.
    async fn picture(&mut self, peer: &mut Peer, key: bool, fill: u8) {
        self.time = self.time.wrapping_add(3000);
        let mut payloads = vec![slice(key, 300, fill)];
        if key {
            let mut stap = vec![0x78];
            for set in [self.sps, PPS] {
                stap.extend_from_slice(&(set.len() as u16).to_be_bytes());
                stap.extend_from_slice(set);
            }
            payloads.insert(0, stap);
        }
        let count = payloads.len();
        for (index, payload) in payloads.into_iter().enumerate() {
            let header = Header {
                marker: index + 1 == count,
                payload_type: 96,
                seq: Seq(self.seq),
                time: RtpTime(self.time),
                ssrc: self.ssrc,
            };
            // Senders name the rendition until they know that the receiver knows the source.
            let name = [(RID, self.rid.as_bytes())];
            let named = if self.seq < 103 { &name[..] } else { &[] };
            let mut packet = Vec::new();
            header.write(named, &mut packet);
            packet.extend_from_slice(&payload);
            peer.send_rtp(&packet).await;
            self.seq += 1;
        }
    }
}

async fn publishing(node: &Node) -> Peer {
    let mut peer = Peer::new().await;
    let ssrc = format!("a=ssrc:{} cname:peer\r\n", peer.ssrc);
    let renditions = format!(
        "a=extmap:{RID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
         a=rid:h send\r\na=rid:l send\r\na=simulcast:send h;l\r\n"
    );
    let offer = peer.offer("sendonly").replace(&ssrc, &renditions);
    let response = node.post("/cam/whip", offer).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    peer.answered(text(response).await);
    for line in ["a=rid:h recv", "a=rid:l recv", "a=simulcast:recv h;l"] {
        assert!(peer.answer.lines().any(|have| have == line), "{line} in {}", peer.answer);
    }
    peer.connect().await;
    peer
}

fn cam() -> StreamName {
    StreamName::parse("cam").unwrap()
}

/// The size of the pictures and the bytes of the next one.
async fn next(reader: &mut Reader, size: &mut Size) -> (bool, u8) {
    loop {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("a picture") {
            Item::Tracks(tracks) => *size = tracks.video.as_ref().unwrap().size,
            Item::Packet(packet) if packet.kind == TrackKind::Video => {
                return (packet.key, *packet.data.last().unwrap());
            }
            Item::End => panic!("the stream ended"),
            _ => {}
        }
    }
}

/// Waits for a picture loss indication for this source.
async fn asked(peer: &mut Peer, ssrc: u32) {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let rest = end.saturating_duration_since(std::time::Instant::now());
        let rtcp = peer.media(rest).await.expect("a picture loss indication");
        let pli =
            |message| matches!(message, Ok(Message::PictureLoss { media, .. }) if media == ssrc);
        if messages(&rtcp).any(pli) {
            return;
        }
    }
}

#[tokio::test]
async fn the_stream_is_the_largest_coding_that_comes_and_each_has_one_of_its_own() {
    let node = Node::new();
    let mut peer = publishing(&node).await;
    let [mut high, mut low] = Rendition::both();
    let (mut size, mut low_size) = (Size::default(), Size::default());
    // Encoders begin with the small one.
    low.picture(&mut peer, true, 1).await;
    let mut reader = node.hub.wait_subscribe(&cam(), Start::LastKey, PATIENCE).await.unwrap();
    let mut smaller = node.hub.subscribe(&cam().of_rendition("l"), Start::LastKey).unwrap();
    assert_eq!(next(&mut reader, &mut size).await, (true, 0x81));
    assert_eq!(size, Size::new(320, 180));
    assert_eq!(next(&mut smaller, &mut low_size).await, (true, 0x81));
    // The large one takes over with its key picture, and the small one goes on by itself.
    high.picture(&mut peer, true, 2).await;
    assert_eq!(next(&mut reader, &mut size).await, (true, 0x82));
    assert_eq!(size, Size::new(640, 360));
    for fill in 3..6 {
        low.picture(&mut peer, false, fill).await;
        high.picture(&mut peer, false, fill + 16).await;
        assert_eq!(next(&mut smaller, &mut low_size).await, (false, fill | 0x80));
        assert_eq!(next(&mut reader, &mut size).await, (false, (fill + 16) | 0x80));
    }
    assert_eq!(low_size, Size::new(320, 180));
    // A wish for one rendition goes to its source.
    smaller.request_key_frame();
    asked(&mut peer, low.ssrc).await;
    reader.request_key_frame();
    asked(&mut peer, high.ssrc).await;
    // When the large one stops, a key picture of the small one is asked for and taken.
    let mut waited = Duration::ZERO;
    loop {
        low.picture(&mut peer, false, 9).await;
        let pause = Duration::from_millis(50);
        if let Some(rtcp) = peer.media(pause).await
            && messages(&rtcp)
                .any(|m| matches!(m, Ok(Message::PictureLoss { media, .. }) if media == low.ssrc))
            && waited > Duration::from_secs(2)
        {
            break;
        }
        waited += pause;
        assert!(waited < PATIENCE * 2, "nobody asked for the small one");
    }
    low.picture(&mut peer, true, 10).await;
    assert_eq!(next(&mut reader, &mut size).await, (true, 0x8a));
    assert_eq!(size, Size::new(320, 180));
    let shown: Vec<String> = node.hub.list().iter().map(|s| s.name.to_string()).collect();
    assert_eq!(shown, ["cam"], "renditions are no streams of their own in listings");
}

#[tokio::test]
async fn a_viewer_that_asks_for_a_coding_gets_it_at_a_key_picture_in_one_sequence() {
    let node = Node::new();
    let mut peer = publishing(&node).await;
    let [mut high, mut low] = Rendition::both();
    high.picture(&mut peer, true, 1).await;
    low.picture(&mut peer, true, 1).await;
    node.hub.wait_subscribe(&cam(), Start::LastKey, PATIENCE).await.unwrap();

    let mut viewer = Peer::new().await;
    let response = node.post("/cam/whep", viewer.offer("recvonly")).await;
    let link = response.headers()["link"].to_str().unwrap().to_owned();
    assert!(link.ends_with("/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\""), "{link}");
    let layer = link[1..].split('>').next().unwrap().to_owned();
    viewer.answered(text(response).await);
    viewer.connect().await;

    let choose = |body: &'static str| {
        let request = Request::post(&layer).header("content-type", "application/json");
        node.request(request.body(Body::from(body)).unwrap())
    };
    assert_eq!(choose(r#"{"encodingId":"none"}"#).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(choose("[").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(choose(r#"{"mediaId":"v","encodingId":"l"}"#).await.status(), StatusCode::OK);

    let mut seen: Vec<(u16, u32, u32, usize)> = Vec::new();
    let mut wanted = false;
    let mut fills = Vec::new();
    for turn in 0..200_u8 {
        high.picture(&mut peer, false, 0x10).await;
        low.picture(&mut peer, wanted, 0x20).await;
        wanted = false;
        while let Some(packet) = viewer.rtp(96, Duration::from_millis(5)).await {
            let head = RtpPacket::parse(&packet).unwrap();
            let last = *head.payload.last().unwrap();
            seen.push((head.seq.0, head.time.0, head.ssrc, head.payload.len()));
            if head.marker {
                fills.push(last);
            }
        }
        while let Some(rtcp) = peer.media(Duration::from_millis(5)).await {
            let pli = |message| matches!(message, Ok(Message::PictureLoss { media, .. }) if media == low.ssrc);
            wanted |= messages(&rtcp).any(pli);
        }
        if fills.iter().filter(|fill| **fill == 0xa0).count() >= 5 {
            break;
        }
        assert!(turn < 199, "the small rendition never came: {fills:x?}");
    }
    let first = fills.iter().position(|fill| *fill == 0xa0).unwrap();
    assert!(fills[first..].iter().all(|fill| *fill == 0xa0), "{fills:x?}");
    for pair in seen.windows(2) {
        assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "one sequence: {seen:?}");
        assert!(pair[1].1.wrapping_sub(pair[0].1) < 1 << 31, "time goes on: {seen:?}");
        assert_eq!(pair[1].2, pair[0].2, "one source");
    }
    assert_eq!(choose("{}").await.status(), StatusCode::OK);
}

/// FFmpeg 9; `./x test` installs it.
fn ffmpeg_9() -> std::path::PathBuf {
    let python = std::env::var("MILLSTREAM_TEST_PYTHON").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../.deps/python/bin/python").to_owned()
    });
    let code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    let said = std::process::Command::new(python).args(["-c", code]).output();
    let said = said.expect("Python with imageio-ffmpeg is missing: run ./x test");
    String::from_utf8(said.stdout).unwrap().trim().into()
}

/// What FFmpeg sends by RTMP in two sizes and one connection, read by a WHEP viewer.
#[tokio::test]
async fn further_pictures_of_an_rtmp_publisher_are_renditions_that_a_viewer_may_choose() {
    let node = Node::new();
    let config = rtmp::Config { addr: ([127, 0, 0, 1], 0).into(), ..rtmp::Config::default() };
    let (views, counters) = (HubViews::new(node.hub.clone()), Arc::default());
    let access = Arc::new(ingest::auth::Open);
    let server = rtmp::Server::bind(config, node.hub.clone(), access, Arc::new(views), counters);
    let server = server.await.unwrap();
    let line = format!(
        "-v error -re -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -map 0 -map 0 -map 1 -pix_fmt yuv420p -g 25 -filter:v:1 scale=160:90 -c:v libx264 \
         -preset ultrafast -tune zerolatency -c:a libopus -f flv rtmp://{}/cam",
        server.local_addr()
    );
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(server.run(stop));
    let mut ffmpeg = tokio::process::Command::new(ffmpeg_9());
    let _ffmpeg = ffmpeg.args(line.split_whitespace()).kill_on_drop(true).spawn().unwrap();
    let small = cam().of_rendition("1");
    node.hub.wait_subscribe(&small, Start::LastKey, PATIENCE).await.expect("a rendition");

    let mut viewer = Peer::new().await;
    let response = node.post("/cam/whep", viewer.offer("recvonly")).await;
    let link = response.headers()["link"].to_str().unwrap().to_owned();
    let layer = link[1..].split('>').next().unwrap().to_owned();
    viewer.answered(text(response).await);
    viewer.connect().await;
    // The parameter sets tell which size comes.
    let sps = |name: &StreamName| {
        let sets = node.hub.status(name)?.tracks.video.clone()?.parameter_sets;
        Some(sets[4..].split(|byte| *byte == 0).next()?.to_vec())
    };
    let [large, small] = [sps(&cam()).unwrap(), sps(&small).unwrap()];
    assert_ne!(large, small);
    let mut came = async |wanted: &[u8]| {
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            let packet = viewer.rtp(96, Duration::from_millis(100)).await;
            let has = |packet: Vec<u8>| packet.windows(wanted.len()).any(|part| part == wanted);
            if packet.is_some_and(|packet| has(packet.to_vec())) {
                return true;
            }
        }
        false
    };
    let choose = |body: &'static str| {
        let request = Request::post(&layer).header("content-type", "application/json");
        node.request(request.body(Body::from(body)).unwrap())
    };
    assert!(came(&large).await, "the first picture is the stream");
    assert_eq!(choose(r#"{"encodingId":"1"}"#).await.status(), StatusCode::OK);
    assert!(came(&small).await, "the smaller one is chosen");
}
