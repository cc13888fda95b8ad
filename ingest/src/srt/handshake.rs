//! The handshake packet and its extensions (draft-sharabayko-srt-01, section 3.2.1).

use bytes::{BufMut, Bytes};

use super::wire::{ControlHead, HEADER_BYTES, Seq, extension, kind, word};

/// Bytes of the fields before the extensions.
const FIELDS_BYTES: usize = 48;

/// Bytes of a stream id, at most (3.2.1.3).
pub(super) const STREAM_ID_BYTES_MAX: usize = 512;

/// Bytes of a message with key material: two keys of 256 bits, salt and check (3.2.2).
pub(super) const KM_BYTES_MAX: usize = 16 + 16 + 8 + 64;

/// Version of SRT that is told to peers: this generation of the protocol, 1.5.0.
pub(super) const SRT_VERSION: u32 = 0x01_05_00;

/// Versions before this one have another handshake.
pub(super) const SRT_VERSION_MIN: u32 = 0x01_03_00;

/// `extension` of the answer to a first request: "I know version 5".
pub(super) const MAGIC: u16 = 0x4A17;

/// Values of `kind` below 1,000.
pub(super) const INDUCTION: u32 = 1;
pub(super) const CONCLUSION: u32 = 0xFFFF_FFFF;

/// Flags of `extension` in the second request.
const HAS_HS: u16 = 1;
const HAS_KM: u16 = 2;
const HAS_CONFIG: u16 = 4;

/// Flags of [`Latencies`] (3.2.1.1.1).
pub(super) mod flag {
    /// Packets carry times, and late ones are dropped: what live streams are.
    pub(crate) const TIMES_SENDER: u32 = 1;
    pub(crate) const TIMES_RECEIVER: u32 = 2;
    pub(crate) const CRYPT: u32 = 4;
    pub(crate) const DROP_LATE: u32 = 8;
    pub(crate) const PERIODIC_NAK: u32 = 0x10;
    pub(crate) const AGAIN_FLAG: u32 = 0x20;
    /// A stream of bytes instead of messages: for files.
    pub(crate) const STREAM: u32 = 0x40;

    pub(crate) const OURS: u32 =
        TIMES_SENDER | TIMES_RECEIVER | CRYPT | DROP_LATE | PERIODIC_NAK | AGAIN_FLAG;
}

/// Why a peer is refused, as numbers of the handshake (`rejection reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The handshake makes no sense.
    #[error("malformed handshake")]
    Rogue,
    /// This side has as many handshakes in work as it takes.
    #[error("too many handshakes at once")]
    Backlog,
    /// An SRT before 1.3.
    #[error("SRT version too old")]
    Version,
    /// Another passphrase.
    #[error("wrong passphrase")]
    BadSecret,
    /// One side wants encryption and the other does not, or not of this strength.
    #[error("only one side has a passphrase, or the key lengths differ")]
    Unsecure,
    /// A file transfer.
    #[error("not a live stream")]
    MessageApi,
    /// Congestion control other than `live`.
    #[error("congestion control is not live")]
    Congestion,
    /// A packet filter (forward error correction).
    #[error("packet filters are not supported")]
    Filter,
    /// A bonded connection.
    #[error("bonding is not supported")]
    Group,
    /// A stream id that cannot be read.
    #[error("bad stream id")]
    BadRequest,
    /// Credentials.
    #[error("not allowed")]
    Unauthorized,
    /// As many sessions as this side takes.
    #[error("too many sessions")]
    Overload,
    /// Nobody publishes this stream.
    #[error("there is no such stream")]
    NotFound,
    /// Somebody publishes this stream already.
    #[error("the stream has a publisher already")]
    Conflict,
    /// Something else on this side.
    #[error("internal error")]
    Internal,
    /// A reason of the peer that has no name here.
    #[error("refused with code {0}")]
    Other(u32),
}

impl Reject {
    const KNOWN: [(u32, Self); 15] = [
        (1004, Self::Rogue),
        (1005, Self::Backlog),
        (1008, Self::Version),
        (1010, Self::BadSecret),
        (1011, Self::Unsecure),
        (1012, Self::MessageApi),
        (1013, Self::Congestion),
        (1014, Self::Filter),
        (1015, Self::Group),
        (1400, Self::BadRequest),
        (1401, Self::Unauthorized),
        (1402, Self::Overload),
        (1404, Self::NotFound),
        (1409, Self::Conflict),
        (1500, Self::Internal),
    ];

    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::Other(code) => code,
            named => Self::KNOWN.iter().find(|(_, known)| *known == named).map_or(1000, |k| k.0),
        }
    }

    /// What a number says; `None` for one that is not a refusal.
    pub(super) fn from_code(code: u32) -> Option<Self> {
        let known = Self::KNOWN.iter().find(|(known, _)| *known == code).map(|(_, reject)| *reject);
        known.or((1000..1 << 31).contains(&code).then_some(Self::Other(code)))
    }
}

/// The extension that each second handshake has: version, abilities and delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latencies {
    pub(super) version: u32,
    pub(super) flags: u32,
    /// Milliseconds that this side delays what it receives.
    pub(super) receive_ms: u16,
    /// Milliseconds that it asks the other side to delay what it sends.
    pub(super) send_ms: u16,
}

/// What follows the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) latencies: Option<Latencies>,
    pub(super) key_material: Option<Bytes>,
    pub(super) stream_id: Option<String>,
    /// Name of the congestion control, if one is asked for.
    pub(super) congestion: Option<String>,
    pub(super) filter: bool,
    pub(super) group: bool,
}

/// A handshake packet without its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) version: u32,
    /// Length of the key in steps of 8 bytes, 0 for "as you say".
    pub(super) encryption: u16,
    pub(super) extension: u16,
    /// First number of the data packets of both sides.
    pub(super) first: Seq,
    /// Bytes of an IP packet, at most.
    pub(super) mtu: u32,
    /// Packets that may be under way.
    pub(super) window: u32,
    pub(super) kind: u32,
    /// The sender's socket.
    pub(super) socket: u32,
    pub(super) cookie: u32,
    /// The address that the sender sees, four words.
    pub(super) peer_ip: [u8; 16],
    pub(super) extensions: Extensions,
}

impl Handshake {
    /// Reads what follows the head of a handshake packet.
    ///
    /// # Errors
    /// [`Reject::Rogue`] for what is cut off or too long, [`Reject::BadRequest`] for a stream id
    /// that is.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Reject> {
        let field = |index| word(body, index).ok_or(Reject::Rogue);
        let rest = body.get(FIELDS_BYTES..).ok_or(Reject::Rogue)?;
        let second = field(1)?;
        let mut handshake = Self {
            version: field(0)?,
            encryption: (second >> 16) as u16,
            extension: second as u16,
            first: Seq::new(field(2)?),
            mtu: field(3)?,
            window: field(4)?,
            kind: field(5)?,
            socket: field(6)?,
            cookie: field(7)?,
            peer_ip: body[32..48].try_into().unwrap_or_default(),
            extensions: Extensions::default(),
        };
        // Only the second request and its answer have any; what a refusal carries says nothing.
        if handshake.version >= 5 && handshake.kind == CONCLUSION {
            handshake.extensions = Extensions::parse(rest)?;
        }
        Ok(handshake)
    }

    /// A datagram with this handshake, for the socket `to` of the peer; its extensions are those of
    /// a request or of the answer to one.
    pub(super) fn packet(&self, time: u32, to: u32, answer: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + FIELDS_BYTES + 64);
        ControlHead { kind: kind::HANDSHAKE, subtype: 0, info: 0, time, to }.write(&mut out);
        let Extensions { latencies, key_material, stream_id, .. } = &self.extensions;
        let mut flags = self.extension;
        if self.kind == CONCLUSION {
            flags = (u16::from(latencies.is_some()) * HAS_HS)
                | (u16::from(key_material.is_some()) * HAS_KM)
                | (u16::from(stream_id.is_some()) * HAS_CONFIG);
        }
        out.put_u32(self.version);
        out.put_u16(self.encryption);
        out.put_u16(flags);
        out.put_u32(self.first.bits());
        out.put_u32(self.mtu);
        out.put_u32(self.window);
        out.put_u32(self.kind);
        out.put_u32(self.socket);
        out.put_u32(self.cookie);
        out.put_slice(&self.peer_ip);
        let answer = u16::from(answer);
        if let Some(latencies) = latencies {
            out.put_u16(extension::HS_REQUEST + answer);
            out.put_u16(3);
            out.put_u32(latencies.version);
            out.put_u32(latencies.flags);
            out.put_u16(latencies.receive_ms);
            out.put_u16(latencies.send_ms);
        }
        if let Some(material) = key_material {
            out.put_u16(extension::KM_REQUEST + answer);
            out.put_u16((material.len() / 4) as u16);
            out.put_slice(material);
        }
        if let Some(id) = stream_id {
            let mut bytes = id.as_bytes().to_vec();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            out.put_u16(extension::STREAM_ID);
            out.put_u16((bytes.len() / 4) as u16);
            bytes.chunks_exact(4).for_each(|word| out.extend(word.iter().rev()));
        }
        out
    }
}

impl Extensions {
    fn parse(mut bytes: &[u8]) -> Result<Self, Reject> {
        let mut found = Self::default();
        while let Some(head) = word(bytes, 0) {
            let (kind, length) = ((head >> 16) as u16, (head & 0xFFFF) as usize * 4);
            let body = bytes.get(4..4 + length).ok_or(Reject::Rogue)?;
            bytes = &bytes[4 + length..];
            match kind {
                extension::HS_REQUEST | extension::HS_RESPONSE => {
                    let field = |index| word(body, index).ok_or(Reject::Rogue);
                    let delays = field(2)?;
                    found.latencies = Some(Latencies {
                        version: field(0)?,
                        flags: field(1)?,
                        receive_ms: (delays >> 16) as u16,
                        send_ms: delays as u16,
                    });
                }
                extension::KM_REQUEST | extension::KM_RESPONSE => {
                    if length > KM_BYTES_MAX {
                        return Err(Reject::Rogue);
                    }
                    found.key_material = Some(Bytes::copy_from_slice(body));
                }
                extension::STREAM_ID => found.stream_id = Some(text(body)?),
                extension::CONGESTION => found.congestion = Some(text(body)?),
                extension::FILTER => found.filter = true,
                extension::GROUP => found.group = true,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// A text whose bytes are turned around within each word and filled up with zeros.
fn text(body: &[u8]) -> Result<String, Reject> {
    if body.len() > STREAM_ID_BYTES_MAX {
        return Err(Reject::BadRequest);
    }
    let mut bytes: Vec<u8> =
        body.chunks_exact(4).flat_map(|word| word.iter().rev().copied()).collect();
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|_| Reject::BadRequest)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn conclusion() -> Handshake {
        Handshake {
            version: 5,
            encryption: 2,
            extension: 0,
            first: Seq::new(77),
            mtu: 1500,
            window: 8192,
            kind: CONCLUSION,
            socket: 5,
            cookie: 6,
            peer_ip: [1; 16],
            extensions: Extensions {
                latencies: Some(Latencies {
                    version: SRT_VERSION,
                    flags: flag::OURS,
                    receive_ms: 120,
                    send_ms: 80,
                }),
                key_material: Some(Bytes::from_static(&[7; 72])),
                stream_id: Some("publish:studio/cam".into()),
                ..Extensions::default()
            },
        }
    }

    #[test]
    fn a_handshake_comes_back_with_its_extensions() {
        let sent = conclusion();
        let packet = sent.packet(9, 11, false);
        let mut found = Handshake::parse(&packet[HEADER_BYTES..]).unwrap();
        assert_eq!(found.extension, HAS_HS | HAS_KM | HAS_CONFIG);
        found.extension = 0;
        assert_eq!(found, sent);
        // The letters of each word are turned around.
        assert!(packet.windows(4).any(|word| word == b"lbup"));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        let sent = conclusion();
        let packet = sent.packet(9, 11, false);
        let body = &packet[HEADER_BYTES..];
        for end in 0..FIELDS_BYTES {
            assert_eq!(Handshake::parse(&body[..end]), Err(Reject::Rogue));
        }
        assert_eq!(Handshake::parse(&body[..FIELDS_BYTES + 8]), Err(Reject::Rogue));
        let mut long = conclusion();
        for (id, fits) in [(512, true), (513, false)] {
            long.extensions.stream_id = Some("x".repeat(id));
            let packet = long.packet(0, 0, false);
            assert_eq!(Handshake::parse(&packet[HEADER_BYTES..]).is_ok(), fits, "{id}");
        }
        long.extensions = Extensions {
            key_material: Some(Bytes::from(vec![0; KM_BYTES_MAX + 4])),
            ..Extensions::default()
        };
        let packet = long.packet(0, 0, false);
        assert_eq!(Handshake::parse(&packet[HEADER_BYTES..]), Err(Reject::Rogue));
    }

    #[test]
    fn reasons_are_numbers_of_the_protocol() {
        assert_eq!(Reject::BadSecret.code(), 1010);
        assert_eq!(Reject::from_code(1404), Some(Reject::NotFound));
        assert_eq!(Reject::from_code(1499), Some(Reject::Other(1499)));
        assert_eq!(Reject::from_code(CONCLUSION), None);
        assert_eq!(Reject::from_code(INDUCTION), None);
    }
}
