//! The listener's side of the handshake (draft-sharabayko-srt-01, section 4.3.1).
//!
//! A first request is answered without keeping anything: the answer holds a cookie that only who
//! receives at the stated address can return, so forged addresses cost nothing. The answer is as
//! long as the question and of no use for amplification.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::hmac;

use super::connection::Terms;
use super::crypto::{Crypto, KeyError, KeyLength};
use super::handshake::{
    CONCLUSION, Extensions, Handshake, INDUCTION, Latencies, MAGIC, Reject, SRT_VERSION,
    SRT_VERSION_MIN, flag,
};
use super::wire::{HEADER_BYTES, Head, kind};

/// A cookie is good for this minute and the next one.
const COOKIE_PERIOD: Duration = Duration::from_secs(60);

/// What a datagram for the listener is.
pub(super) enum Knock {
    /// Nothing to be answered.
    Noise,
    /// To be answered with this.
    Answer(Vec<u8>),
    /// Somebody wants a connection and is where it says.
    Wish(Arc<Wish>),
}

/// Answers first requests and checks second ones.
pub(super) struct Door {
    key: hmac::Key,
    /// The listener's socket, told in answers.
    socket: u32,
    epoch: Instant,
}

/// A second request with a good cookie.
pub(super) struct Wish {
    from: SocketAddr,
    handshake: Handshake,
}

/// What this side is ready for.
pub(super) struct Offer {
    pub(super) local: u32,
    pub(super) passphrase: Option<String>,
    /// Key length asked for; `None` takes what the caller chose.
    pub(super) key_length: Option<KeyLength>,
    /// Shortest delay, for both directions.
    pub(super) latency: Duration,
    pub(super) window: usize,
    pub(super) bytes_per_second: u64,
    pub(super) idle_timeout: Duration,
    pub(super) seed: [u8; 32],
}

impl Door {
    pub(super) fn new(epoch: Instant, secret: &[u8; 32], socket: u32) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), socket, epoch }
    }

    /// Takes a datagram for the socket 0 that came from `from`.
    pub(super) fn handle(&self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Knock {
        let Some(Head::Control(head)) = Head::parse(datagram) else { return Knock::Noise };
        if head.kind != kind::HANDSHAKE {
            return Knock::Noise;
        }
        let minute = now.saturating_duration_since(self.epoch).as_secs() / COOKIE_PERIOD.as_secs();
        let handshake = match Handshake::parse(&datagram[HEADER_BYTES..]) {
            Ok(handshake) => handshake,
            // Without a cookie that was checked nothing is refused, only passed over.
            Err(_) => return Knock::Noise,
        };
        match handshake.kind {
            INDUCTION => {
                let answer = Handshake {
                    version: 5,
                    encryption: 0,
                    extension: MAGIC,
                    cookie: self.cookie(from, minute),
                    socket: self.socket,
                    peer_ip: words(from.ip()),
                    extensions: Extensions::default(),
                    ..handshake
                };
                Knock::Answer(answer.packet(self.time(now), handshake.socket, true))
            }
            CONCLUSION if self.knows(&handshake, from, minute) => {
                Knock::Wish(Arc::new(Wish { from, handshake }))
            }
            _ => Knock::Noise,
        }
    }

    fn knows(&self, handshake: &Handshake, from: SocketAddr, minute: u64) -> bool {
        let before = minute.checked_sub(1);
        [Some(minute), before]
            .into_iter()
            .flatten()
            .any(|m| self.cookie(from, m) == handshake.cookie)
    }

    fn cookie(&self, from: SocketAddr, minute: u64) -> u32 {
        let mut facts = Vec::with_capacity(32);
        match from.ip() {
            IpAddr::V4(ip) => facts.extend(ip.octets()),
            IpAddr::V6(ip) => facts.extend(ip.octets()),
        }
        facts.extend(from.port().to_be_bytes());
        facts.extend(minute.to_be_bytes());
        let tag = hmac::sign(&self.key, &facts);
        tag.as_ref().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn time(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_micros() as u32
    }
}

impl Wish {
    /// Who it is: the same peer repeats its request until it is answered.
    pub(super) fn peer(&self) -> (SocketAddr, u32) {
        (self.from, self.handshake.socket)
    }

    /// Whether it wants encryption, so that a passphrase has to be tried.
    pub(super) fn encrypts(&self) -> bool {
        self.handshake.extensions.key_material.is_some()
    }

    /// The stream id, empty when there is none.
    pub(super) fn stream_id(&self) -> &str {
        self.handshake.extensions.stream_id.as_deref().unwrap_or_default()
    }

    /// The answer that refuses it.
    pub(super) fn refuse(&self, reject: Reject) -> Vec<u8> {
        let answer = Handshake {
            version: 5,
            kind: reject.code(),
            extension: 0,
            extensions: Extensions::default(),
            ..self.handshake.clone()
        };
        answer.packet(0, self.handshake.socket, true)
    }

    /// What both sides can agree on, and the answer that says so. Takes a millisecond or two of
    /// computing where a passphrase is tried.
    ///
    /// # Errors
    /// Why they cannot.
    pub(super) fn agree(&self, now: Instant, offer: &Offer) -> Result<(Terms, Vec<u8>), Reject> {
        let Extensions { latencies, key_material, congestion, filter, group, .. } =
            &self.handshake.extensions;
        let asked = latencies.ok_or(Reject::Rogue)?;
        if self.handshake.version != 5 || asked.version < SRT_VERSION_MIN {
            return Err(Reject::Version);
        }
        if asked.flags & flag::STREAM != 0 {
            return Err(Reject::MessageApi);
        }
        if congestion.as_deref().is_some_and(|name| name != "live") {
            return Err(Reject::Congestion);
        }
        if *filter || *group {
            return Err(if *filter { Reject::Filter } else { Reject::Group });
        }
        let crypto = match (&offer.passphrase, key_material) {
            (None, None) => None,
            (Some(passphrase), Some(material)) => {
                let crypto = Crypto::open(passphrase, material).map_err(|error| match error {
                    KeyError::Passphrase => Reject::BadSecret,
                    KeyError::Malformed => Reject::Rogue,
                    KeyError::Cipher => Reject::Unsecure,
                })?;
                if offer.key_length.is_some_and(|wanted| wanted != crypto.length()) {
                    return Err(Reject::Unsecure);
                }
                Some(crypto)
            }
            _ => return Err(Reject::Unsecure),
        };
        // The longer of both wishes counts, for each direction (4.4).
        let ours = u16::try_from(offer.latency.as_millis()).unwrap_or(u16::MAX);
        let (latency_in, latency_out) = (ours.max(asked.send_ms), ours.max(asked.receive_ms));
        let answer = Handshake {
            version: 5,
            encryption: crypto.as_ref().map_or(0, |crypto| crypto.length().bytes() as u16 / 8),
            extension: 0,
            mtu: self.handshake.mtu.min(1500),
            window: offer.window as u32,
            kind: CONCLUSION,
            socket: offer.local,
            peer_ip: words(self.from.ip()),
            extensions: Extensions {
                latencies: Some(Latencies {
                    version: SRT_VERSION,
                    flags: flag::OURS,
                    receive_ms: latency_in,
                    send_ms: latency_out,
                }),
                key_material: key_material.clone(),
                ..Extensions::default()
            },
            ..self.handshake.clone()
        };
        let millis = |ms: u16| Duration::from_millis(ms.into());
        let terms = Terms {
            local: offer.local,
            peer: self.handshake.socket,
            epoch: now,
            first: self.handshake.first,
            peer_window: (self.handshake.window as usize).clamp(2, offer.window),
            window: offer.window,
            latency_in: millis(latency_in),
            latency_out: millis(latency_out),
            bytes_per_second: offer.bytes_per_second,
            idle_timeout: offer.idle_timeout,
            crypto,
            seed: offer.seed,
        };
        Ok((terms, answer.packet(0, self.handshake.socket, true)))
    }
}

/// An address as four words, each in the byte order that SRT's own machine has.
pub(super) fn words(ip: IpAddr) -> [u8; 16] {
    let mut words = [0; 16];
    match ip {
        IpAddr::V4(ip) => words[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => words = ip.octets(),
    }
    words.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    words
}
