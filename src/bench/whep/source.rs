//! The sources of a run: publishers over WHIP in one thread, each with its own phase. Their packets
//! are protected like anybody's, and the moment at which a picture's last one went out is noted.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ingest::rtp::packet::{Header, RtpTime, Seq};
use parking_lot::Mutex;

use super::super::RATE;
use super::super::peer::{
    CHECK_EVERY, DATAGRAM_BYTES, H264, Identity, Keys, OPUS, Peer, Wants, connect,
};
use super::measured::Measured;
use super::picture::{self, GROUP, Pictures, SOUND_MS};

/// Where a picture's number ends and that of its source begins, in bits.
const SOURCE_SHIFT: u32 = 32;

/// The running sources. Dropping them ends them.
pub(super) struct Sources {
    /// While this is set they only say that they are there.
    paused: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sources {
    /// Publishes `count` streams; `whip` has `{}` for the number of the stream.
    ///
    /// # Errors
    /// The server takes one of them not.
    pub(super) async fn start(
        whip: &str,
        count: usize,
        audio: bool,
        identity: &Identity,
        measured: Arc<Mutex<Measured>>,
    ) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut sources = Vec::new();
        for number in 0..count {
            let url = whip.replace("{}", &number.to_string());
            let ssrcs = [number as u32 * 2 + 1001, number as u32 * 2 + 1002];
            let wants = Wants { publish: Some(ssrcs), audio, feedback: false };
            let peer = Peer::negotiate(&client, &url, identity, wants).await?;
            let (socket, peer, keys) = connect(peer).await.with_context(|| url)?;
            let socket = socket.into_std()?;
            sources.push(Source::new(number, ssrcs, audio, socket, peer, keys));
        }
        let (paused, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (pause, end) = (Arc::clone(&paused), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("sources".into());
        let thread = thread.spawn(move || run(sources, &measured, &pause, &end))?;
        Ok(Self { paused, stop, thread: Some(thread) })
    }

    /// Has them send, or not.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that gave way has said so itself.
            let _ = thread.join();
        }
    }
}

struct Source {
    number: usize,
    ssrcs: [u32; 2],
    audio: bool,
    socket: UdpSocket,
    peer: Peer,
    keys: Box<Keys>,
    pictures: u64,
    /// Since a key picture.
    running: bool,
    sounds: u64,
    seqs: [u16; 2],
    check_at: Instant,
}

impl Source {
    fn new(
        number: usize,
        ssrcs: [u32; 2],
        audio: bool,
        socket: UdpSocket,
        peer: Peer,
        keys: Box<Keys>,
    ) -> Self {
        Self {
            number,
            ssrcs,
            audio,
            socket,
            peer,
            keys,
            pictures: 0,
            running: false,
            sounds: 0,
            seqs: [0, 0],
            check_at: Instant::now(),
        }
    }

    fn send(&mut self, track: usize, marker: bool, time: u32, payload: &[u8]) {
        let header = Header {
            marker,
            payload_type: [H264, OPUS][track],
            seq: Seq(self.seqs[track]),
            time: RtpTime(time),
            ssrc: self.ssrcs[track],
        };
        self.seqs[track] = self.seqs[track].wrapping_add(1);
        let mut packet = Vec::with_capacity(DATAGRAM_BYTES);
        header.write(&[], &mut packet);
        packet.extend_from_slice(payload);
        // What is lost here shows as a picture that does not come.
        if let Ok(sealed) = self.keys.ours.encrypt_rtp(&packet) {
            let _ = self.socket.send_to(&sealed, self.peer.server);
        }
    }

    fn picture(&mut self, made: &Pictures, measured: &Mutex<Measured>) {
        let time = (self.pictures as u32).wrapping_mul(90_000 / RATE);
        let name = (self.number as u64) << SOURCE_SHIFT | self.pictures;
        let payloads = made.payloads(self.pictures, name);
        for (at, payload) in payloads.iter().enumerate() {
            let last = at + 1 == payloads.len();
            if last {
                measured.lock().source(Instant::now(), name);
            }
            self.send(0, last, time, payload);
        }
    }

    /// Reads what came, answers checks, and says now and then that it is there.
    fn keep_alive(&mut self, now: Instant) {
        let mut buffer = [0; DATAGRAM_BYTES];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let _ = self.peer.read(now, &buffer[..length]);
        }
        if now >= self.check_at {
            self.check_at = now + CHECK_EVERY;
            let _ = self.peer.check();
        }
        for datagram in self.peer.take_out() {
            let _ = self.socket.send_to(&datagram, self.peer.server);
        }
    }
}

/// Sends in real time until it is told to stop. Media time goes on while it is paused, and begins
/// again with a key picture.
fn run(
    mut sources: Vec<Source>,
    measured: &Mutex<Measured>,
    pause: &AtomicBool,
    stop: &AtomicBool,
) {
    let made = Pictures::new();
    let interval = Duration::from_secs(1) / RATE;
    let phase = interval / sources.len().max(1) as u32;
    let begun = Instant::now();
    let sound_interval = Duration::from_millis(SOUND_MS.into());
    let sound = picture::sound();
    while !stop.load(Ordering::Relaxed) {
        let paused = pause.load(Ordering::Relaxed);
        let mut next = Instant::now() + interval;
        for source in &mut sources {
            let start = begun + phase * source.number as u32;
            let now = Instant::now();
            if source.audio {
                let due = start + sound_interval * source.sounds as u32;
                if due <= now {
                    if !paused {
                        let time = source.sounds as u32 * SOUND_MS * 48;
                        source.send(1, false, time, &sound);
                    }
                    source.sounds += 1;
                }
                next = next.min(start + sound_interval * source.sounds as u32);
            }
            let due = start + interval * source.pictures as u32;
            if due <= now {
                source.running =
                    !paused && (source.running || source.pictures.is_multiple_of(u64::from(GROUP)));
                if source.running {
                    source.picture(&made, measured);
                }
                source.pictures += 1;
            }
            next = next.min(start + interval * source.pictures as u32);
            source.keep_alive(now);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
