//! What an SDP offer says, as far as one bundled WebRTC session needs it (RFC 8866, RFC 8829).
//!
//! Offers come from strangers: sizes and counts are bounded before anything is kept, and the first
//! thing that cannot be read is named with its line. Whether an offer can be *answered* is decided
//! in [`super::answer`]; nothing here knows a stream or a session.
//!
//! This file is long because an offer is parsed in the order of its lines, with one type for each
//! kind.

use std::net::{IpAddr, SocketAddr};

/// The longest offer or fragment in bytes.
pub(crate) const SDP_BYTES_MAX: usize = 64 << 10;

/// Sections that are read; a browser with one camera and one microphone sends two or three.
const SECTIONS_MAX: usize = 16;

/// Payload types, SSRCs, extensions and groups kept per section.
const ENTRIES_MAX: usize = 128;

/// Why an offer cannot be read. Lines count from one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// More than 64 KiB.
    #[error("the session description has {0} bytes, at most {SDP_BYTES_MAX} are read")]
    Long(usize),
    /// Not UTF-8.
    #[error("the session description is not text")]
    NotText,
    /// The first line is not `v=0`.
    #[error("line 1 is not v=0, so this is no session description")]
    NoVersion,
    /// A line that does not have the form of its type.
    #[error("line {line}: {what}")]
    Line {
        /// Where.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// More sections or entries than are read.
    #[error("line {line}: more {what} than are read")]
    Many {
        /// Where.
        line: usize,
        /// Of what.
        what: &'static str,
    },
}

/// Which way media flows, seen from the side that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// Whether the side that wrote it wants to send.
    pub(crate) fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the side that wrote it wants to receive.
    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// `a=setup` of RFC 4145.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    Active,
    Passive,
    ActPass,
}

/// The hashes of `a=fingerprint` that are accepted (RFC 8122; SHA-1 and MD5 are refused).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// The digest of the certificate that the peer is going to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) hash: Hash,
    pub(crate) digest: Vec<u8>,
}

/// What `m=` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
    Other,
}

/// `a=rtpmap`, `a=fmtp` and `a=rtcp-fb` of one payload type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) number: u8,
    /// Encoding name as it was written, empty without `a=rtpmap`.
    pub(crate) name: String,
    pub(crate) clock: u32,
    pub(crate) channels: u8,
    pub(crate) format: String,
    pub(crate) feedback: Vec<String>,
}

impl Payload {
    /// One of which nothing is said yet; G.711 has numbers of its own (RFC 3551 6).
    fn of(number: u8) -> Self {
        let (name, clock) = match number {
            0 => ("PCMU", 8000),
            8 => ("PCMA", 8000),
            _ => ("", 0),
        };
        Self { number, name: name.into(), clock, ..Self::default() }
    }

    /// A parameter of `a=fmtp`, names compared without case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.format.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Whether the peer can use this feedback, `nack pli` say.
    pub(crate) fn has_feedback(&self, wanted: &str) -> bool {
        self.feedback.iter().any(|have| have == wanted)
    }
}

/// ICE and DTLS parameters; those of the session stand where a section has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) ufrag: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) fingerprints: Vec<Fingerprint>,
    pub(crate) setup: Option<Setup>,
}

/// One `m=` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: Kind,
    /// The word after `m=`.
    pub(crate) media: String,
    pub(crate) port: u16,
    pub(crate) protocol: String,
    /// The formats as written, for a section that is refused.
    pub(crate) formats: String,
    pub(crate) mid: Option<String>,
    pub(crate) direction: Direction,
    pub(crate) rtcp_mux: bool,
    pub(crate) bundle_only: bool,
    /// In the order of preference that `m=` states.
    pub(crate) payloads: Vec<Payload>,
    /// Header extensions: number and name.
    pub(crate) extensions: Vec<(u8, String)>,
    pub(crate) ssrcs: Vec<u32>,
    /// Media SSRC and its repair SSRC (`a=ssrc-group:FID`).
    pub(crate) repairs: Vec<(u32, u32)>,
    /// Codings of the same pictures that the peer sends (`a=rid`, `a=simulcast`; RFC 8851, 8853):
    /// the first of each list of alternatives, in the order of `a=simulcast`.
    pub(crate) simulcast: Vec<String>,
    /// The restriction identifiers with the direction `send`.
    rids: Vec<String>,
    /// `a=sctp-port` and `a=max-message-size` of a data channel (RFC 8841).
    pub(crate) sctp_port: Option<u16>,
    pub(crate) message_bytes_max: Option<u64>,
    pub(crate) transport: Transport,
    /// Addresses of UDP candidates; names and other transports are passed over.
    pub(crate) candidates: Vec<SocketAddr>,
}

/// A session description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The `mid`s of the first BUNDLE group.
    pub(crate) bundle: Vec<String>,
    pub(crate) session: Transport,
    pub(crate) sections: Vec<Section>,
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// The first thing that cannot be read.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, SdpError> {
        let text = text(body)?;
        if text.lines().next().map(str::trim_end) != Some("v=0") {
            return Err(SdpError::NoVersion);
        }
        Self::lines(text)
    }

    /// Reads an ICE fragment (RFC 8840), which has attributes and sections but no `v=`.
    ///
    /// # Errors
    /// The first thing that cannot be read.
    pub(crate) fn parse_fragment(body: &[u8]) -> Result<Self, SdpError> {
        Self::lines(text(body)?)
    }

    fn lines(text: &str) -> Result<Self, SdpError> {
        let mut offer = Self::default();
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim_end(), index + 1);
            if line.is_empty() {
                continue;
            }
            match line.split_once('=') {
                Some(("m", value)) => {
                    if offer.sections.len() == SECTIONS_MAX {
                        return Err(SdpError::Many { line: number, what: "m= sections" });
                    }
                    offer.sections.push(section(value, number)?);
                }
                Some(("a", value)) => offer.attribute(value, number)?,
                Some((kind, _)) if kind.len() == 1 => {}
                _ => {
                    return Err(SdpError::Line { line: number, what: "not of the form x=value" });
                }
            }
        }
        Ok(offer)
    }

    fn attribute(&mut self, text: &str, line: usize) -> Result<(), SdpError> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let transport = match self.sections.last_mut() {
            Some(section) => &mut section.transport,
            None => &mut self.session,
        };
        match name {
            "ice-ufrag" => transport.ufrag = Some(ice_word(value, 4, line)?),
            "ice-pwd" => transport.password = Some(ice_word(value, 22, line)?),
            "setup" => {
                transport.setup = Some(match value {
                    "active" => Setup::Active,
                    "passive" => Setup::Passive,
                    "actpass" => Setup::ActPass,
                    _ => return Err(SdpError::Line { line, what: "a=setup has an unknown role" }),
                });
            }
            "fingerprint" => {
                if let Some(print) = fingerprint(value, line)? {
                    push(&mut transport.fingerprints, print, line, "fingerprints")?;
                }
            }
            "group" if self.sections.is_empty() => {
                if let Some(mids) = value.strip_prefix("BUNDLE")
                    && self.bundle.is_empty()
                {
                    self.bundle =
                        mids.split_whitespace().take(SECTIONS_MAX).map(str::to_owned).collect();
                }
            }
            _ => {
                if let Some(section) = self.sections.last_mut() {
                    section.attribute(name, value, line)?;
                }
            }
        }
        Ok(())
    }

    /// The transport of one section: its own parameters, else the session's.
    pub(crate) fn transport(&self, section: &Section) -> Transport {
        let (own, whole) = (&section.transport, &self.session);
        Transport {
            ufrag: own.ufrag.clone().or_else(|| whole.ufrag.clone()),
            password: own.password.clone().or_else(|| whole.password.clone()),
            fingerprints: if own.fingerprints.is_empty() {
                whole.fingerprints.clone()
            } else {
                own.fingerprints.clone()
            },
            setup: own.setup.or(whole.setup),
        }
    }
}

impl Section {
    /// The renditions of the same pictures that the peer wants to send: those of `a=simulcast` that
    /// `a=rid` describes.
    pub(crate) fn renditions(&self) -> impl Iterator<Item = &String> {
        self.simulcast.iter().filter(|id| self.rids.contains(id))
    }

    fn attribute(&mut self, name: &str, value: &str, line: usize) -> Result<(), SdpError> {
        match name {
            "mid" => self.mid = Some(token(value, line)?),
            "sendrecv" => self.direction = Direction::SendRecv,
            "sendonly" => self.direction = Direction::SendOnly,
            "recvonly" => self.direction = Direction::RecvOnly,
            "inactive" => self.direction = Direction::Inactive,
            "rtcp-mux" => self.rtcp_mux = true,
            "bundle-only" => self.bundle_only = true,
            "candidate" => {
                let room = self.candidates.len() < ENTRIES_MAX;
                self.candidates.extend(candidate(value).filter(|_| room));
            }
            "sctp-port" => {
                let bad = SdpError::Line { line, what: "a=sctp-port is no port" };
                self.sctp_port = Some(value.trim().parse().map_err(|_| bad)?);
            }
            "max-message-size" => {
                let bad = SdpError::Line { line, what: "a=max-message-size is no number" };
                self.message_bytes_max = Some(value.trim().parse().map_err(|_| bad)?);
            }
            "rtpmap" => {
                let (number, map) = numbered(value, line)?;
                if let Some(payload) = self.payloads.iter_mut().find(|p| p.number == number) {
                    let mut parts = map.split('/');
                    payload.name = parts.next().unwrap_or_default().to_owned();
                    let bad = SdpError::Line { line, what: "a=rtpmap has no clock rate" };
                    payload.clock =
                        parts.next().and_then(|clock| clock.trim().parse().ok()).ok_or(bad)?;
                    payload.channels =
                        parts.next().and_then(|n| n.trim().parse().ok()).unwrap_or(1);
                }
            }
            "fmtp" => {
                let (number, format) = numbered(value, line)?;
                if let Some(payload) = self.payloads.iter_mut().find(|p| p.number == number) {
                    payload.format = format.to_owned();
                }
            }
            "rtcp-fb" => {
                let (number, feedback) = value
                    .split_once(' ')
                    .ok_or(SdpError::Line { line, what: "a=rtcp-fb names no feedback" })?;
                let all = number == "*";
                for payload in &mut self.payloads {
                    if all || number.parse() == Ok(payload.number) {
                        push(&mut payload.feedback, feedback.trim().into(), line, "a=rtcp-fb")?;
                    }
                }
            }
            "extmap" => {
                let (number, rest) = value
                    .split_once(' ')
                    .ok_or(SdpError::Line { line, what: "a=extmap names no extension" })?;
                let number = number.split('/').next().unwrap_or_default();
                let number: u8 = number
                    .parse()
                    .map_err(|_| SdpError::Line { line, what: "a=extmap has no number" })?;
                let uri = rest.split_whitespace().next().unwrap_or_default().to_owned();
                push(&mut self.extensions, (number, uri), line, "a=extmap")?;
            }
            "ssrc" => {
                let ssrc = value.split_whitespace().next().unwrap_or_default();
                let ssrc: u32 = ssrc
                    .parse()
                    .map_err(|_| SdpError::Line { line, what: "a=ssrc has no 32-bit number" })?;
                if !self.ssrcs.contains(&ssrc) {
                    push(&mut self.ssrcs, ssrc, line, "a=ssrc")?;
                }
            }
            "rid" => {
                let mut words = value.split_whitespace();
                let (id, direction) = (words.next().unwrap_or_default(), words.next());
                if direction == Some("send") {
                    push(&mut self.rids, rid(id, line)?, line, "a=rid")?;
                }
            }
            "simulcast" => self.simulcast = simulcast(value, line)?,
            "ssrc-group" => {
                let mut words = value.split_whitespace();
                if words.next() == Some("FID") {
                    let mut next = || words.next().and_then(|word| word.parse().ok());
                    if let (Some(media), Some(repair)) = (next(), next()) {
                        push(&mut self.repairs, (media, repair), line, "a=ssrc-group")?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn text(body: &[u8]) -> Result<&str, SdpError> {
    if body.len() > SDP_BYTES_MAX {
        return Err(SdpError::Long(body.len()));
    }
    std::str::from_utf8(body).map_err(|_| SdpError::NotText)
}

fn section(value: &str, line: usize) -> Result<Section, SdpError> {
    let bad = SdpError::Line { line, what: "m= is not media, port, protocol and formats" };
    let mut words = value.splitn(4, ' ');
    let mut word = || words.next().filter(|word| !word.is_empty());
    let (Some(media), Some(port), Some(protocol), Some(formats)) = (word(), word(), word(), word())
    else {
        return Err(bad);
    };
    let kind = match media {
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        _ => Kind::Other,
    };
    let port = port.split('/').next().unwrap_or_default().parse().map_err(|_| bad.clone())?;
    let mut payloads: Vec<Payload> = Vec::new();
    if kind != Kind::Other {
        for format in formats.split_whitespace() {
            let number = format.parse().ok().filter(|&n: &u8| n < 128).ok_or(bad.clone())?;
            push(&mut payloads, Payload::of(number), line, "payload types")?;
        }
    }
    Ok(Section {
        kind,
        media: token(media, line)?,
        port,
        protocol: token(protocol, line)?,
        formats: formats.split_whitespace().take(ENTRIES_MAX).collect::<Vec<_>>().join(" "),
        mid: None,
        direction: Direction::SendRecv,
        rtcp_mux: false,
        bundle_only: false,
        payloads,
        extensions: Vec::new(),
        ssrcs: Vec::new(),
        repairs: Vec::new(),
        simulcast: Vec::new(),
        rids: Vec::new(),
        sctp_port: None,
        message_bytes_max: None,
        transport: Transport::default(),
        candidates: Vec::new(),
    })
}

/// Where a UDP candidate of the first component is (RFC 8839 5.1); `None` for other ones.
fn candidate(value: &str) -> Option<SocketAddr> {
    let mut words = value.split_whitespace();
    let (_, component, transport, _) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (ip, port): (IpAddr, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let usable = !ip.is_unspecified() && !ip.is_multicast() && port != 0;
    let ours = component == "1" && transport.eq_ignore_ascii_case("udp") && usable;
    ours.then(|| SocketAddr::new(ip, port))
}

fn push<T>(list: &mut Vec<T>, entry: T, line: usize, what: &'static str) -> Result<(), SdpError> {
    if list.len() == ENTRIES_MAX {
        return Err(SdpError::Many { line, what });
    }
    list.push(entry);
    Ok(())
}

/// `token` of RFC 8866, which our answer may repeat; 64 bytes at most.
fn token(value: &str, line: usize) -> Result<String, SdpError> {
    let fits = |c: char| c.is_ascii_graphic() && !"\"(),:;<=>?@[\\]".contains(c);
    if value.is_empty() || value.len() > 64 || !value.chars().all(fits) {
        return Err(SdpError::Line { line, what: "a word holds characters that no token has" });
    }
    Ok(value.to_owned())
}

/// `rid-id` of RFC 8851 10, of at most 16 characters: what a header extension of one byte holds.
fn rid(value: &str, line: usize) -> Result<String, SdpError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if value.is_empty() || value.len() > 16 || !value.chars().all(fits) {
        return Err(SdpError::Line { line, what: "a restriction identifier is malformed" });
    }
    Ok(value.to_owned())
}

/// What `a=simulcast` sends (RFC 8853 5.1): of alternatives the first, paused ones too.
fn simulcast(value: &str, line: usize) -> Result<Vec<String>, SdpError> {
    let mut words = value.split_whitespace();
    while let Some(direction) = words.next() {
        let Some(list) = words.next() else { break };
        if direction == "send" {
            let mut rids = Vec::new();
            for alternatives in list.split(';') {
                let first = alternatives.split(',').next().unwrap_or_default();
                let id = rid(first.trim_start_matches('~'), line)?;
                if !rids.contains(&id) {
                    push(&mut rids, id, line, "renditions in a=simulcast")?;
                }
            }
            return Ok(rids);
        }
    }
    Ok(Vec::new())
}

/// `ice-char`s of RFC 8839 5.4, `least` to 256 of them.
fn ice_word(value: &str, least: usize, line: usize) -> Result<String, SdpError> {
    // GStreamer and others pad with `=`, and `-` and `_` are seen: more than the grammar allows.
    let fits = |c: char| c.is_ascii_alphanumeric() || "+/=-_".contains(c);
    if value.len() < least || value.len() > 256 || !value.chars().all(fits) {
        return Err(SdpError::Line { line, what: "an ICE user name or password is malformed" });
    }
    Ok(value.to_owned())
}

fn numbered(value: &str, line: usize) -> Result<(u8, &str), SdpError> {
    value
        .split_once(' ')
        .and_then(|(number, rest)| Some((number.parse().ok()?, rest.trim())))
        .ok_or(SdpError::Line { line, what: "an attribute has no payload type before its value" })
}

/// `None` for a hash that is not accepted: another line may have a better one.
fn fingerprint(value: &str, line: usize) -> Result<Option<Fingerprint>, SdpError> {
    let bad = SdpError::Line { line, what: "a=fingerprint is not a hash name and hex pairs" };
    let (name, pairs) = value.split_once(' ').ok_or(bad.clone())?;
    let (hash, length) = match name.to_ascii_lowercase().as_str() {
        "sha-256" => (Hash::Sha256, 32),
        "sha-384" => (Hash::Sha384, 48),
        "sha-512" => (Hash::Sha512, 64),
        _ => return Ok(None),
    };
    let mut digest = Vec::with_capacity(length);
    for pair in pairs.trim().split(':') {
        if pair.len() != 2 || digest.len() == length {
            return Err(bad);
        }
        digest.push(u8::from_str_radix(pair, 16).map_err(|_| bad.clone())?);
    }
    if digest.len() == length { Ok(Some(Fingerprint { hash, digest })) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        a=group:BUNDLE 0 1\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
        a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=mid:1\r\na=setup:actpass\r\n\
        a=rtpmap:102 H264/90000\r\na=rtcp-fb:102 nack pli\r\na=rtpmap:103 rtx/90000\r\n\
        a=fmtp:103 apt=102\r\na=extmap:3 http://example.org/x\r\na=ssrc-group:FID 7 8\r\n";

    #[test]
    fn an_offer_is_read_section_by_section() {
        let offer = Offer::parse(OFFER.as_bytes()).unwrap();
        assert_eq!(offer.bundle, ["0", "1"]);
        let (audio, video) = (&offer.sections[0], &offer.sections[1]);
        assert_eq!(audio.direction, Direction::RecvOnly);
        assert_eq!(audio.payloads[0].channels, 2);
        assert_eq!(audio.payloads[0].parameter("UseInbandFEC"), Some("1"));
        assert!(video.payloads[0].has_feedback("nack pli"));
        assert_eq!(video.payloads[1].parameter("apt"), Some("102"));
        assert_eq!(video.repairs, [(7, 8)]);
        assert_eq!(offer.transport(video).ufrag.as_deref(), Some("abcd"));
        assert_eq!(offer.transport(video).setup, Some(Setup::ActPass));
    }

    #[test]
    fn codings_of_the_same_pictures_are_read_in_the_order_of_their_list() {
        let lines = "v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\na=rid:l send\na=rid:h send pt=96\n\
            a=rid:back recv\na=rid:x send\na=simulcast:recv back send h;~l,x;unknown\n";
        let offer = Offer::parse(lines.as_bytes()).unwrap();
        assert_eq!(offer.sections[0].renditions().collect::<Vec<_>>(), ["h", "l"]);
        for line in ["a=rid:a.b send", "a=simulcast:send h;;l", "a=rid:01234567890123456 send"] {
            let text = format!("v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\n{line}\n");
            let error = Offer::parse(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, "line 3: a restriction identifier is malformed");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let check = |text: &str, wanted: &str| {
            assert_eq!(Offer::parse(text.as_bytes()).unwrap_err().to_string(), wanted);
        };
        check("hello", "line 1 is not v=0, so this is no session description");
        check("v=0\nnonsense", "line 2: not of the form x=value");
        check("v=0\nm=video", "line 2: m= is not media, port, protocol and formats");
        check("v=0\na=setup:sideways", "line 2: a=setup has an unknown role");
        check("v=0\na=ice-ufrag:a b", "line 2: an ICE user name or password is malformed");
        let many = format!("v=0\n{}", "m=audio 9 RTP 0\n".repeat(17));
        check(&many, "line 18: more m= sections than are read");
        assert_eq!(Offer::parse(&vec![b'v'; 70_000]), Err(SdpError::Long(70_000)));
    }
}
