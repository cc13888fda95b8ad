//! The caller's side of the handshake (draft-sharabayko-srt-01, section 4.3.1).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::accept::words;
use super::connection::{Connection, Terms};
use super::crypto::{Crypto, KeyLength};
use super::handshake::{
    CONCLUSION, Extensions, Handshake, INDUCTION, Latencies, MAGIC, Reject, SRT_VERSION, flag,
};
use super::wire::{HEADER_BYTES, Head, KeySlot, Seq, kind};

/// Time between two requests.
const REPEAT: Duration = Duration::from_millis(250);

/// What a caller wants.
pub(super) struct Call {
    pub(super) stream_id: String,
    pub(super) passphrase: Option<String>,
    pub(super) key_length: KeyLength,
    /// Shortest delay, for both directions.
    pub(super) latency: Duration,
    pub(super) window: usize,
    pub(super) bytes_per_second: u64,
    pub(super) idle_timeout: Duration,
    /// How long the handshake may take.
    pub(super) timeout: Duration,
    pub(super) peer: IpAddr,
}

/// Chance for a call.
pub(super) struct Chance {
    pub(super) socket: u32,
    pub(super) first: u32,
    pub(super) keys: [u8; 48],
    pub(super) seed: [u8; 32],
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum CallError {
    /// The other side said no.
    #[error("refused: {0} (code {code})", code = .0.code())]
    Refused(Reject),
    /// It speaks another version of the handshake.
    #[error("the other side does not speak SRT 1.3 or later")]
    Version,
    /// It answers something that makes no sense.
    #[error("the other side answered with a malformed handshake")]
    Malformed,
    /// No answer.
    #[error("no answer for {} s", .0.as_secs())]
    Timeout(Duration),
}

/// A handshake in work.
pub(super) struct Caller {
    call: Call,
    chance: Chance,
    epoch: Instant,
    /// Known once the first request was answered.
    cookie: Option<u32>,
    crypto: Option<Crypto>,
    repeat: Instant,
}

impl Caller {
    pub(super) fn new(now: Instant, call: Call, chance: Chance) -> Self {
        let crypto = call.passphrase.as_deref();
        let crypto = crypto.map(|words| Crypto::make(words, call.key_length, &chance.keys));
        Self { call, chance, epoch: now, cookie: None, crypto, repeat: now }
    }

    /// The request to be sent now, if one is due.
    pub(super) fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.repeat {
            return None;
        }
        self.repeat = now + REPEAT;
        let time = now.saturating_duration_since(self.epoch).as_micros() as u32;
        let mut request = Handshake {
            version: 4,
            encryption: 0,
            extension: 2,
            first: Seq::new(self.chance.first),
            mtu: 1500,
            window: self.call.window as u32,
            kind: INDUCTION,
            socket: self.chance.socket,
            cookie: 0,
            peer_ip: words(self.call.peer),
            extensions: Extensions::default(),
        };
        if let Some(cookie) = self.cookie {
            let latency = u16::try_from(self.call.latency.as_millis()).unwrap_or(u16::MAX);
            let crypto = self.crypto.as_ref();
            request.version = 5;
            request.kind = CONCLUSION;
            request.cookie = cookie;
            request.encryption = crypto.map_or(0, |crypto| crypto.length().bytes() as u16 / 8);
            request.extensions = Extensions {
                latencies: Some(Latencies {
                    version: SRT_VERSION,
                    flags: flag::OURS,
                    receive_ms: latency,
                    send_ms: latency,
                }),
                key_material: crypto.map(|crypto| crypto.material(&[KeySlot::Even])),
                stream_id: Some(self.call.stream_id.clone()).filter(|id| !id.is_empty()),
                ..Extensions::default()
            };
        }
        Some(request.packet(time, 0, false))
    }

    /// Takes a datagram of the other side; a connection when it is established.
    ///
    /// # Errors
    /// [`CallError`], after which there will be none.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Option<Connection>, CallError> {
        let Some(Head::Control(head)) = Head::parse(datagram) else { return Ok(None) };
        if head.kind != kind::HANDSHAKE || head.to != self.chance.socket {
            return Ok(None);
        }
        let answer = Handshake::parse(&datagram[HEADER_BYTES..]);
        let answer = answer.map_err(|_| CallError::Malformed)?;
        if let Some(reject) = Reject::from_code(answer.kind) {
            return Err(CallError::Refused(reject));
        }
        match answer.kind {
            INDUCTION if self.cookie.is_none() => {
                if answer.version != 5 || answer.extension != MAGIC {
                    return Err(CallError::Version);
                }
                self.cookie = Some(answer.cookie);
                self.repeat = now;
                Ok(None)
            }
            CONCLUSION if self.cookie.is_some() => self.conclude(now, &answer).map(Some),
            _ => Ok(None),
        }
    }

    fn conclude(&mut self, now: Instant, answer: &Handshake) -> Result<Connection, CallError> {
        let agreed = answer.extensions.latencies.ok_or(CallError::Malformed)?;
        let crypto = self.crypto.take();
        // Who could not read our keys says so in one word.
        let keys = answer.extensions.key_material.as_ref();
        if crypto.is_some() && keys.is_none_or(|keys| keys.len() <= 4) {
            return Err(CallError::Refused(Reject::BadSecret));
        }
        let millis = |ms: u16| Duration::from_millis(ms.into());
        let window = self.call.window;
        let terms = Terms {
            local: self.chance.socket,
            peer: answer.socket,
            epoch: self.epoch,
            first: Seq::new(self.chance.first),
            peer_window: (answer.window as usize).clamp(2, window),
            window,
            // What the other side calls sending is our receiving.
            latency_in: millis(agreed.send_ms).max(self.call.latency),
            latency_out: millis(agreed.receive_ms),
            bytes_per_second: self.call.bytes_per_second,
            idle_timeout: self.call.idle_timeout,
            crypto,
            seed: self.chance.seed,
        };
        Ok(Connection::new(now, terms))
    }

    /// When [`Self::transmit`] has something to send.
    ///
    /// # Errors
    /// [`CallError::Timeout`] when the handshake took too long.
    pub(super) fn next_timeout(&self, now: Instant) -> Result<Instant, CallError> {
        let end = self.epoch + self.call.timeout;
        if now >= end {
            return Err(CallError::Timeout(self.call.timeout));
        }
        Ok(self.repeat.min(end))
    }
}
