//! Publishers: ffmpeg by RTMP and SRT and FFmpeg 9 by WHIP, fed with cards in real time.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::card::{Card, clock_ms};
use crate::programs;

/// Pictures in a second.
pub(crate) const RATE: u32 = 30;

/// The tone that publishers play, in hertz.
pub(crate) const TONE: u32 = 1000;

/// How a broadcaster encodes: without delay, key frames each 2 s.
pub(crate) const LIVE: &str = "-c:v libx264 -preset veryfast -tune zerolatency -g 60 -c:a aac";

/// What ffmpeg does when nothing is said: B-frames, look-ahead, key frames each 250 pictures.
pub(crate) const DEFAULT: &str = "-c:v libx264 -c:a aac";

/// What WebRTC takes.
const WEBRTC: &str = "-c:v libx264 -profile:v baseline -preset veryfast -tune zerolatency -g 60 \
                      -c:a libopus -ar 48000 -ac 2";

/// A running publisher. Dropping it kills it.
pub(crate) struct Push {
    child: Child,
    stop: Arc<AtomicBool>,
    drawer: Option<JoinHandle<()>>,
}

impl Push {
    /// ffmpeg to an `rtmp://` address with these encoder options.
    pub(crate) fn rtmp(card: Card, options: &str, url: &str) -> Self {
        Self::start(programs::ffmpeg(), card, &format!("{options} -f flv {url}"))
    }

    /// ffmpeg to an `srt://` address with these encoder options.
    pub(crate) fn srt(card: Card, options: &str, url: &str) -> Self {
        Self::start(programs::ffmpeg(), card, &format!("{options} -f mpegts {url}"))
    }

    /// ffmpeg to an `rtsp://` address over `transport` (`tcp` or `udp`).
    pub(crate) fn rtsp(card: Card, options: &str, transport: &str, url: &str) -> Self {
        let output = format!("{options} -f rtsp -rtsp_transport {transport} {url}");
        Self::start(programs::ffmpeg(), card, &output)
    }

    /// FFmpeg 9 to a WHIP address; `flags` are further options of its muxer.
    pub(crate) fn whip(card: Card, flags: &str, url: &str) -> Self {
        Self::start(programs::ffmpeg_9(), card, &format!("{WEBRTC} -f whip {flags} {url}"))
    }

    /// A version of ffmpeg to the address of a playlist, each segment with a request of its own;
    /// `flags` are further options of its muxer.
    pub(crate) fn hls(program: PathBuf, card: Card, flags: &str, url: &str) -> Self {
        let output = format!("{LIVE} -f hls -method PUT -hls_time 1 {flags} {url}");
        Self::start(program, card, &output)
    }

    fn start(program: PathBuf, card: Card, output: &str) -> Self {
        let Card { width, height } = card;
        let input = format!(
            "-hide_banner -loglevel error -nostats \
             -re -f lavfi -i sine=frequency={TONE}:sample_rate=48000 \
             -f rawvideo -pix_fmt yuv420p -video_size {width}x{height} -framerate {RATE} -i pipe:0 \
             -map 1:v -map 0:a -pix_fmt yuv420p -threads 1 -shortest"
        );
        // Many are refused on purpose; what they say of it is only wanted with the log.
        let logged = std::env::var_os("MILLSTREAM_TEST_LOG").is_some();
        let words = if logged { Stdio::inherit() } else { Stdio::null() };
        let mut child = Command::new(program)
            .args(input.split_whitespace())
            .args(output.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(words)
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let drawer = std::thread::spawn(move || {
            let (began, mut picture) = (Instant::now(), Vec::new());
            for step in 0..u32::MAX {
                let due = Duration::from_secs(1) * step / RATE;
                std::thread::sleep(due.saturating_sub(began.elapsed()));
                if stopping.load(Ordering::Acquire) {
                    return;
                }
                // Numbers begin again after 36 minutes.
                card.draw(step as u16, clock_ms(), &mut picture);
                if pipe.write_all(&picture).is_err() {
                    return;
                }
            }
        });
        Self { child, stop, drawer: Some(drawer) }
    }

    /// Whether ffmpeg has ended, and whether it was content.
    pub(crate) fn ended(&mut self) -> Option<bool> {
        self.child.try_wait().unwrap().map(|status| status.success())
    }

    /// Waits until ffmpeg ends by itself.
    pub(crate) async fn until_ended(&mut self) -> bool {
        let end = Instant::now() + programs::PATIENCE;
        loop {
            if let Some(content) = self.ended() {
                return content;
            }
            assert!(Instant::now() < end, "ffmpeg goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The broadcaster stops: ffmpeg ends its stream as after `q`.
    pub(crate) async fn finish(mut self) {
        self.stop.store(true, Ordering::Release);
        self.until_ended().await;
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(drawer) = self.drawer.take() {
            let _ = drawer.join();
        }
    }
}
