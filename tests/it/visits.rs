//! What clients do at a node that is soaked: they publish, play and manage by every way in, some to
//! the end, some until they are killed, some never say what they want, and some are rude.
//!
//! Every visit knows whether its client got what it came for: nothing is soaked where nobody is served.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::kinds::{Visit, Way};
use crate::process::Process;
use crate::programs::{PATIENCE, ffmpeg, ffmpeg_9};
use crate::rude::{Door, free_addresses};
use crate::soak::OFFER;
use crate::{peer, rtc_peer, rude};

/// How often a publisher's visit looks whether the node has its stream.
const LOOK: Duration = Duration::from_millis(150);

/// The stream that was recorded before anybody came.
const TAPED: &str = "taped";

/// The node and what visitors need.
pub(crate) struct Place {
    pub(crate) node: Process,
    pub(crate) client: Client,
    clip: PathBuf,
    rtmps: SocketAddr,
    rtsps: SocketAddr,
    doors: Vec<Door>,
}

impl Place {
    /// Starts the node, with a recording in it.
    pub(crate) async fn open(dir: &TempDir) -> Self {
        let [rtmps, rtsps, webrtc, udp] = free_addresses();
        let line = format!(
            "up --set hls.close_after_seconds=1 --set pipeline.graph=passthrough \
             --set playback.enabled=true --set srt.peer_timeout_seconds=2 \
             --set streams.{TAPED}.record=true --set streams.{TAPED}.graph=none \
             --set rtmps.listen={rtmps} --set rtsps.listen={rtsps} --set webrtc.listen={webrtc} \
             --set rtsp.udp_listen={udp}"
        );
        let node = Process::start(dir, "node", &line).await;
        let at = |word: &str| node.address(word).parse::<SocketAddr>().unwrap();
        let doors = vec![
            Door::connection("rtmp", at("publish by RTMP"), rude::HALF_RTMP),
            Door::connection("rtmps", rtmps, rude::HALF_TLS),
            Door::connection("rtsp", at("play by RTSP"), rude::HALF_RTSP),
            Door::connection("rtsps", rtsps, rude::HALF_TLS),
            Door::connection("http", at("all streams"), rude::HALF_HTTP),
            Door::connection("webrtc", webrtc, rude::HALF_FRAME),
            Door::connection("playback", at("recordings"), rude::HALF_HTTP),
            Door::connection("console", at("console"), rude::HALF_HTTP),
            Door::connection("metrics", at("metrics"), rude::HALF_HTTP),
            Door::connection("orchestrator", at("orchestrator for peers"), rude::HALF_TLS),
            Door::datagrams("srt datagrams", at("publish by SRT"), rude::HALF_SRT),
            Door::datagrams("rtp datagrams", udp, rude::HALF_RTP),
            Door::datagrams("webrtc datagrams", webrtc, rude::HALF_CHECK),
        ];
        let client = millstream::http_client().unwrap();
        let place = Self { node, client, clip: clip(dir.path()).await, rtmps, rtsps, doors };
        let publish = place.publishing(Way::Rtmp, TAPED);
        assert!(place.ffmpeg(&publish).wait().await.unwrap().success());
        let taped = async {
            while place.recording().await.is_none() {
                sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, taped).await.expect("the recording is there");
        place
    }

    /// Every kind of visit, each once.
    pub(crate) fn kinds(&self) -> Vec<Visit> {
        let mut kinds = vec![
            Visit::HttpPush,
            Visit::Whip,
            Visit::Whep,
            Visit::WhepUdp,
            Visit::WhepTcp,
            Visit::WhepDeleted,
            Visit::WhepSilent,
            Visit::Hls,
            Visit::Playback,
            Visit::Api,
            Visit::Destination,
        ];
        kinds.extend(Way::IN.map(Visit::Publish));
        kinds.extend(Way::IN.map(Visit::PublishKilled));
        kinds.extend(Way::OUT.map(Visit::Play));
        kinds.extend(self.doors.iter().map(|door| Visit::Rude(door.name)));
        kinds
    }

    /// Where `stream` is published or played.
    pub(crate) fn url(&self, way: Way, stream: &str) -> String {
        let at = |word: &str| self.node.address(word);
        match way {
            Way::Rtmp => format!("rtmp://{}/{stream}", at("publish by RTMP")),
            Way::Rtmps => format!("rtmps://{}/{stream}", self.rtmps),
            // The stream id says which of the two.
            Way::Srt => format!("srt://{}?streamid=", at("publish by SRT")),
            Way::RtspTcp | Way::RtspUdp => format!("rtsp://{}/{stream}", at("play by RTSP")),
            Way::Rtsps => format!("rtsps://{}/{stream}", self.rtsps),
        }
    }

    /// A page or endpoint for people.
    pub(crate) fn http(&self, path: &str) -> String {
        format!("{}{path}", self.node.url("all streams"))
    }

    /// What is answered with success.
    pub(crate) async fn get(&self, url: &str) -> Option<String> {
        let answer = self.client.get(url).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        answer.text().await.ok()
    }

    /// What `/v1/status` says.
    pub(crate) async fn status(&self) -> Value {
        let url = format!("{}v1/status", self.node.url("console"));
        let text = self.get(&url).await.expect("a status");
        serde_json::from_str(&text).unwrap()
    }

    /// The names of all streams.
    pub(crate) async fn streams(&self) -> Vec<String> {
        let status = self.status().await;
        let streams = status["streams"].as_array().into_iter().flatten();
        streams.filter_map(|stream| Some(stream["name"].as_str()?.to_owned())).collect()
    }

    /// The recording's address, once it is there.
    async fn recording(&self) -> Option<String> {
        let list = format!("http://{}/list?path={TAPED}", self.node.address("recordings"));
        let spans: Value = serde_json::from_str(&self.get(&list).await?).ok()?;
        let url = spans[0]["url"].as_str()?;
        Some(url::Url::parse(&list).unwrap().join(url).unwrap().into())
    }

    /// Sets a stream's settings; `null` takes them away.
    async fn set(&self, stream: &str, settings: Value) -> bool {
        let change = json!({ "streams": { stream: settings } }).to_string();
        let patch = self.client.patch(format!("{}v1/settings", self.node.url("console")));
        let patch = patch.header("content-type", "application/merge-patch+json").body(change);
        patch.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    fn ffmpeg(&self, words: &str) -> Child {
        spawn(ffmpeg(), words)
    }

    /// ffmpeg's words to publish the clip in its own time, copied.
    fn publishing(&self, way: Way, stream: &str) -> String {
        let (clip, url) = (self.clip.display(), self.url(way, stream));
        let to = match way {
            Way::Rtmp | Way::Rtmps => format!("-f flv {url}"),
            Way::Srt => format!("-f mpegts {url}publish:{stream}"),
            Way::RtspUdp => format!("-f rtsp -rtsp_transport udp {url}"),
            Way::RtspTcp | Way::Rtsps => format!("-f rtsp -rtsp_transport tcp {url}"),
        };
        format!("-re -i {clip} -c copy {to}")
    }

    /// Lets a publisher publish `stream`, and says whether the node had it. It ends by itself, or is
    /// killed a moment after its stream was there.
    async fn publish(
        &self,
        mut child: Child,
        stream: &str,
        killed_after: Option<Duration>,
    ) -> bool {
        let seen = loop {
            if self.streams().await.iter().any(|name| name == stream) {
                break true;
            }
            if child.try_wait().unwrap().is_some() {
                break false;
            }
            sleep(LOOK).await;
        };
        match killed_after {
            Some(moment) => {
                sleep(moment).await;
                let _ = child.kill().await;
            }
            None => {
                let _ = child.wait().await;
            }
        }
        seen
    }

    /// Carries out a visit and says whether its client got what it came for.
    pub(crate) async fn visit(&self, number: u32, kind: Visit, chance: StdRng) -> bool {
        tokio::time::timeout(PATIENCE, self.served(number, kind, chance)).await.unwrap_or(false)
    }

    async fn served(&self, number: u32, kind: Visit, mut chance: StdRng) -> bool {
        let moment = Duration::from_millis(chance.random_range(50..1000));
        let stream = format!("v{number}");
        match kind {
            Visit::Publish(way) => {
                self.publish(self.ffmpeg(&self.publishing(way, &stream)), &stream, None).await
            }
            Visit::PublishKilled(way) => {
                let child = self.ffmpeg(&self.publishing(way, &stream));
                self.publish(child, &stream, Some(moment)).await
            }
            Visit::Play(way) => {
                let url = self.url(way, "steady");
                let from = match way {
                    Way::Rtmp | Way::Rtmps => format!("-i {url}"),
                    Way::Srt => format!("-i {url}read:steady"),
                    Way::RtspUdp => format!("-rtsp_transport udp -i {url}"),
                    Way::RtspTcp | Way::Rtsps => format!("-rtsp_transport tcp -i {url}"),
                };
                let played = self.ffmpeg(&format!("{from} -t 0.5 -c copy -f null -")).wait().await;
                played.is_ok_and(|status| status.success())
            }
            Visit::HttpPush => {
                let (clip, url) = (self.clip.display(), self.http(&format!("{stream}/index.m3u8")));
                let push = format!("-re -i {clip} -c copy -f hls -method PUT -hls_time 1 {url}");
                self.publish(self.ffmpeg(&push), &stream, None).await
            }
            Visit::Whip => {
                let (clip, url) = (self.clip.display(), self.http(&format!("{stream}/whip")));
                // WebRTC has no AAC: the sound is encoded, and the small picture with it.
                let push = format!(
                    "-re -i {clip} -c:v libx264 -profile:v baseline -preset ultrafast \
                     -tune zerolatency -g 15 -c:a libopus -ar 48000 -ac 2 -f whip {url}"
                );
                self.publish(spawn(ffmpeg_9(), &push), &stream, None).await
            }
            Visit::Whep => {
                let watcher = peer::watch(&self.http("steady/whep")).await;
                watcher.until_pictures(None, 1).await;
                sleep(moment).await;
                if chance.random() {
                    watcher.finish().await;
                }
                true
            }
            Visit::WhepUdp => self.watch("steady/whep?transport=udp", false).await,
            Visit::WhepTcp => self.watch("steady/whep?transport=tcp", true).await,
            Visit::WhepDeleted | Visit::WhepSilent => {
                let Some((session, _)) = self.ask("steady/whep", OFFER.to_owned()).await else {
                    return false;
                };
                if kind == Visit::WhepSilent {
                    return true;
                }
                sleep(moment / 8).await;
                self.delete(session).await
            }
            Visit::Hls => self.hls().await.is_some(),
            Visit::Playback => {
                let Some(url) = self.recording().await else { return false };
                self.get(&url).await.is_some_and(|file| file.contains("ftyp"))
            }
            Visit::Api => {
                let console = self.node.url("console");
                for path in ["v3/paths/list", "v3/rtspsessions/list", "v3/config/global/get"] {
                    if self.get(&format!("{console}{path}")).await.is_none() {
                        return false;
                    }
                }
                self.set(&stream, json!({ "graph": "none" })).await
                    && self.set(&stream, Value::Null).await
            }
            Visit::Destination => self.destination(&stream, moment).await,
            Visit::Rude(name) => {
                let door = self.doors.iter().find(|door| door.name == name).unwrap();
                door.knock(moment, &mut chance).await
            }
        }
    }

    /// Offers by WHEP: the session's address and the answer.
    async fn ask(&self, path: &str, offer: String) -> Option<(url::Url, String)> {
        let post = self.client.post(self.http(path)).header("content-type", "application/sdp");
        let answer = post.body(offer).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let location = answer.headers().get("location")?.to_str().ok()?;
        Some((answer.url().join(location).ok()?, answer.text().await.ok()?))
    }

    async fn delete(&self, session: url::Url) -> bool {
        let answer = self.client.delete(session).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Watches by WHEP until a picture comes.
    async fn watch(&self, path: &str, tcp: bool) -> bool {
        let mut viewer = rtc_peer::Peer::new().await;
        let Some((session, answer)) = self.ask(path, viewer.offer("recvonly")).await else {
            return false;
        };
        viewer.answered(answer);
        if tcp {
            viewer.use_tcp().await;
        }
        viewer.connect().await;
        let seen = viewer.rtp(96, rtc_peer::PATIENCE).await.is_some();
        self.delete(session).await && seen
    }

    /// Reads both playlists and what the second one names last.
    async fn hls(&self) -> Option<()> {
        let list = self.get(&self.http("steady/index.m3u8")).await?;
        let media = list.lines().find(|line| !line.starts_with('#'))?;
        let list = self.get(&self.http(&format!("steady/{media}"))).await?;
        // A hint names a part that is not there yet: the answer to it waits.
        let part = list.lines().rfind(|line| line.contains(".mp4"))?;
        let name = part.split('"').find(|word| word.contains(".mp4"))?;
        self.get(&self.http(&format!("steady/{name}"))).await?;
        Some(())
    }

    /// A server that a stream is pushed to by SRT comes, takes a moment of it, and goes while it is there.
    async fn destination(&self, stream: &str, moment: Duration) -> bool {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("srt://{address}");
        if !self.set(stream, json!({ "graph": "none", "pushes": [{ "url": url }] })).await {
            return false;
        }
        let mut server = self.ffmpeg(&format!("-i {url}?mode=listener -t 0.5 -c copy -f null -"));
        let publish = self.publishing(Way::Rtmp, stream);
        let mut publisher = self.ffmpeg(&format!("-stream_loop -1 {publish}"));
        let taken = server.wait().await.is_ok_and(|status| status.success());
        sleep(moment).await;
        let _ = publisher.kill().await;
        self.set(stream, Value::Null).await && taken
    }
}

fn spawn(program: PathBuf, words: &str) -> Child {
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-loglevel", "quiet", "-nostdin"]);
    command.args(words.split_whitespace()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Two seconds of a small picture and a tone.
async fn clip(dir: &Path) -> PathBuf {
    let path = dir.join("visit.flv");
    let status = Command::new(ffmpeg())
        .args("-hide_banner -loglevel error -f lavfi -i testsrc2=size=160x90:rate=15".split(' '))
        .args("-f lavfi -i sine=frequency=440:sample_rate=48000 -t 2 -pix_fmt yuv420p".split(' '))
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -g 15 -c:a aac".split(' '))
        .arg(&path)
        .status();
    assert!(status.await.unwrap().success());
    path
}
