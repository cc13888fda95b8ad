//! One WebRTC session of either direction, from the answer to the goodbye, without IO of its own.
//!
//! It is fed with verified checks, datagrams from addresses that proved themselves, frames and
//! the time; it sends through [`Io`]. Before its handshake is through it sends nothing but STUN
//! answers and DTLS; nothing that is not authentic changes its state.
//!
//! This file is long because every kind of datagram of a session is told apart and answered here.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::admission::Seat;
use super::answer::{Agreed, Data};
use super::channels::{Channels, Question};
use super::counters::{Counters, add};
use super::dtls::{Dtls, Progress};
use super::end::{End, Patience};
use super::ice::{Ice, Noted, Path, Source, Transports};
use super::messages::Answer;
use super::mux::Content;
use super::publisher::Publisher;
use super::results::Results;
use super::srtp::Srtp;
use super::stream::Stream;
use super::timers::Queued;
use super::viewer::Viewer;
use super::{Role, socket};
use crate::rtp::frame::FramePackets;
use crate::rtp::rtcp::{self, Compound, Message};
use rtc_srtp::crypto::RTCCryptoProvider;

/// What a session works with while it is called: the moment, the way out and buffers that all
/// sessions of a worker share.
pub(crate) struct Io<'a> {
    pub(crate) now: Instant,
    pub(crate) out: &'a mut dyn socket::Send,
    /// The way to this session's peer.
    pub(crate) path: Option<Path>,
    /// For RTP that goes out.
    pub(crate) buffer: &'a mut Vec<u8>,
    /// RTCP that goes out when the call ends.
    pub(crate) rtcp: &'a mut Vec<u8>,
    /// What the peer asks on its data channels.
    pub(crate) questions: &'a mut Vec<Question>,
    pub(crate) counters: &'a Counters,
    pub(crate) provider: &'a Arc<dyn RTCCryptoProvider>,
}

impl Io<'_> {
    /// Sends the buffer in datagrams of `segment` bytes; false when the system did not take it or
    /// nobody is there.
    pub(crate) fn flush(&mut self, segment: usize) -> bool {
        self.path.is_some_and(|path| self.out.send(path, self.buffer, segment))
    }
}

/// What a session does once it is connected.
pub(crate) enum Media {
    Viewer(Box<Viewer>),
    Publisher(Box<Publisher>),
}

/// One session.
pub(crate) struct Session {
    pub(crate) open: Facts,
    pub(crate) ice: Ice,
    dtls: Dtls,
    srtp: Option<Srtp>,
    announced: Vec<u32>,
    data: Option<Data>,
    channels: Option<Box<Channels>>,
    pub(crate) media: Media,
    patience: Patience,
    begun: Instant,
    /// When something authentic came last, of whatever kind.
    heard: Instant,
    pub(crate) queued: Queued,
    seat: Seat,
}

/// What was known when it was opened.
pub(crate) struct Facts {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) etag: String,
    pub(crate) role: Role,
    pub(crate) stream: crate::name::StreamName,
    /// Its credentials allow to publish what it steers.
    pub(crate) may_steer: bool,
    pub(crate) requested_from: std::net::SocketAddr,
    pub(crate) user_agent: String,
    pub(crate) mids: Vec<(String, Option<String>)>,
    pub(crate) transports: Transports,
    pub(crate) since: SystemTime,
    /// When who let it in wants it to be over.
    pub(crate) until: Option<Instant>,
}

impl Session {
    /// A session whose answer is on its way to the client.
    pub(crate) fn new(
        now: Instant,
        (open, seat): (Facts, Seat),
        ice: Ice,
        dtls: Dtls,
        agreed: &Agreed,
        media: Media,
        patience: Patience,
    ) -> Self {
        let media_of = [&agreed.video, &agreed.audio];
        let announced =
            media_of.into_iter().flatten().flat_map(|medium| medium.announced.clone()).collect();
        Self {
            open,
            ice,
            dtls,
            srtp: None,
            announced,
            data: agreed.data,
            channels: None,
            media,
            patience,
            begun: now,
            heard: now,
            queued: Queued::default(),
            seat,
        }
    }

    /// Whether the datagram that came at `now` was authentic.
    pub(crate) fn heard_at(&self, now: Instant) -> bool {
        self.heard == now
    }

    /// A connection to the peer was closed: without another way it waits for a check.
    pub(crate) fn disconnected(&mut self, gone: Source) {
        self.ice.forget(gone);
    }

    /// Whether the handshake is through.
    pub(crate) fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Notes a verified check and begins the handshake where that is ours to do.
    pub(crate) fn verified(
        &mut self,
        io: &mut Io<'_>,
        ours: &[u8],
        path: Path,
        nominated: bool,
    ) -> (Noted, Result<(), End>) {
        self.heard = io.now;
        let noted = self.ice.verified(io.now, ours, path, nominated);
        if noted.moved && self.is_connected() {
            tracing::info!(session = %self.open.id, remote = %path.remote, "webrtc peer moved");
        }
        io.path = self.ice.selected();
        let begun = if nominated && !self.is_connected() {
            let begun = self.dtls.begin(io.now).map_err(|error| End::Dtls(error.to_string()));
            self.send_dtls(io);
            begun
        } else {
            Ok(())
        };
        (noted, begun)
    }

    /// Takes a datagram from an address that proved itself. `stream` is the one a viewer watches.
    pub(crate) fn datagram(
        &mut self,
        io: &mut Io<'_>,
        stream: Option<&Stream>,
        content: Content,
        datagram: &[u8],
    ) -> Result<(), End> {
        let result = match content {
            Content::Dtls => self.handshake(io, stream, datagram),
            Content::Rtp => {
                self.rtp(io, datagram);
                Ok(())
            }
            Content::Rtcp => self.rtcp(io, stream, datagram),
            Content::Stun | Content::Unknown => Ok(()),
        };
        self.send_rtcp(io);
        result
    }

    fn handshake(
        &mut self,
        io: &mut Io<'_>,
        stream: Option<&Stream>,
        datagram: &[u8],
    ) -> Result<(), End> {
        let progress =
            self.dtls.read(io.now, datagram).map_err(|error| End::Dtls(error.to_string()));
        self.send_dtls(io);
        match progress? {
            Progress::Going => {}
            Progress::Closed => return Err(End::Closed),
            Progress::Keys { profile, material } => {
                let announced = std::mem::take(&mut self.announced);
                let client = self.dtls.we_are_client();
                let srtp = Srtp::new(profile, &material, client, announced, io.provider)
                    .map_err(|error| End::Dtls(error.to_string()))?;
                let srtp = self.srtp.insert(srtp);
                self.seat.settle();
                self.heard = io.now;
                add(&io.counters.sessions_connected, 1);
                tracing::info!(
                    session = %self.open.id,
                    stream = %self.open.stream,
                    role = self.open.role.route(),
                    ?profile,
                    took_ms = io.now.saturating_duration_since(self.begun).as_millis() as u64,
                    "webrtc connected"
                );
                match (&mut self.media, stream) {
                    (Media::Viewer(viewer), Some(stream)) => {
                        viewer.connected(io, stream, &mut srtp.protect);
                    }
                    (Media::Publisher(publisher), _) => publisher.connected(io.now),
                    (Media::Viewer(_), None) => {}
                }
                let new = |data: Data| Box::new(Channels::new(io.now, data.message_bytes_max));
                self.channels = self.data.map(new);
            }
        }
        self.channels(io);
        Ok(())
    }

    /// Reads what came for the data channels and sends what they have to say.
    fn channels(&mut self, io: &mut Io<'_>) {
        let Some(channels) = &mut self.channels else { return };
        for datagram in self.dtls.take_received() {
            self.heard = io.now;
            channels.read(io.now, &datagram, io.questions);
        }
        self.send_channels(io);
    }

    fn send_channels(&mut self, io: &mut Io<'_>) {
        let results = match &mut self.media {
            Media::Viewer(viewer) => Some(&mut viewer.results),
            Media::Publisher(_) => None,
        };
        let Some(channels) = &mut self.channels else {
            return results.into_iter().for_each(Results::clear);
        };
        if let Some(results) = results {
            add(&io.counters.results_sent, channels.tell_results(io.now, results));
            add(&io.counters.results_dropped, results.take_dropped());
        }
        while channels.poll_transmit(io.now, io.buffer) {
            self.dtls.write(io.now, io.buffer);
        }
        self.send_dtls(io);
    }

    /// The node's answer to a question.
    pub(crate) fn answer(
        &mut self,
        io: &mut Io<'_>,
        stream: Option<&Stream>,
        (channel, answer): (u32, Option<Answer>),
    ) {
        io.path = self.ice.selected();
        let pts = answer.as_ref().and_then(|answer| answer.pts);
        let time = pts.and_then(|pts| match &self.media {
            Media::Viewer(viewer) => viewer.rtp_time(stream?, pts),
            Media::Publisher(publisher) => publisher.rtp_time(pts),
        });
        let words = answer.map(|answer| answer.words(time));
        if let Some(channels) = &mut self.channels {
            channels.answer(channel, words.as_deref());
        }
        self.send_channels(io);
    }

    /// Says something that nobody asked for on the peer's data channels.
    pub(crate) fn tell(&mut self, io: &mut Io<'_>, text: &str) {
        io.path = self.ice.selected();
        if let Some(channels) = &mut self.channels {
            channels.tell(text);
        }
        self.send_channels(io);
    }

    fn rtp(&mut self, io: &mut Io<'_>, datagram: &[u8]) {
        let (Some(srtp), Media::Publisher(publisher)) = (&mut self.srtp, &mut self.media) else {
            add(&io.counters.datagrams_dropped, 1);
            return;
        };
        let ssrc = u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]);
        match srtp.open_rtp(ssrc, datagram) {
            Ok(packet) => {
                self.heard = io.now;
                self.ice.heard(io.now);
                add(&io.counters.packets_received, 1);
                add(&io.counters.bytes_received, datagram.len() as u64);
                publisher.rtp(io, packet);
            }
            Err(error) => {
                tracing::trace!(session = %self.open.id, %error, "rtp dropped");
                add(&io.counters.datagrams_dropped, 1);
            }
        }
    }

    fn rtcp(
        &mut self,
        io: &mut Io<'_>,
        stream: Option<&Stream>,
        datagram: &[u8],
    ) -> Result<(), End> {
        let Some(srtp) = &mut self.srtp else { return Ok(()) };
        let plain = match srtp.open_rtcp(datagram) {
            Ok(plain) => plain,
            Err(error) => {
                tracing::trace!(session = %self.open.id, %error, "rtcp dropped");
                add(&io.counters.datagrams_dropped, 1);
                return Ok(());
            }
        };
        self.heard = io.now;
        for message in rtcp::messages(&plain) {
            let Ok(message) = message else { break };
            match (&mut self.media, stream) {
                (Media::Publisher(publisher), _) => {
                    if publisher.rtcp(io, &message) {
                        return Err(End::Closed);
                    }
                }
                (Media::Viewer(_), _) if matches!(message, Message::Goodbye(_)) => {
                    return Err(End::Closed);
                }
                (Media::Viewer(viewer), Some(stream)) => {
                    viewer.rtcp(io, stream, &mut srtp.protect, &message);
                }
                (Media::Viewer(_), None) => {}
            }
        }
        Ok(())
    }

    /// Sends a frame of the stream that a viewer watches.
    pub(crate) fn frame(&mut self, io: &mut Io<'_>, stream: &Stream, frame: &Arc<FramePackets>) {
        if let (Some(srtp), Media::Viewer(viewer)) = (&mut self.srtp, &mut self.media) {
            io.path = self.ice.selected();
            viewer.frame(io, stream, &mut srtp.protect, frame);
            let (notice, results) = (viewer.take_notice(stream), !viewer.results.is_empty());
            if let (Some(notice), Some(channels)) = (&notice, &mut self.channels) {
                channels.tell(notice);
            }
            if notice.is_some() || results {
                self.send_channels(io);
            }
        }
    }

    /// A reader of the publisher's stream, or of one rendition of it, wants a key picture.
    pub(crate) fn want_key(&mut self, rendition: Option<usize>) {
        if let Media::Publisher(publisher) = &mut self.media {
            publisher.want_key(rendition);
        }
    }

    /// Does what is due.
    pub(crate) fn timeout(&mut self, io: &mut Io<'_>) -> Result<(), End> {
        io.path = self.ice.selected();
        self.limits(io.now)?;
        let repeat = self.dtls.handle_timeout(io.now).map_err(|e| End::Dtls(e.to_string()))?;
        if let Some(path) = io.path {
            for datagram in repeat {
                io.out.send(path, &datagram, datagram.len());
            }
        }
        if let Some(channels) = &mut self.channels {
            channels.handle_timeout(io.now);
        }
        match (&mut self.media, &mut self.srtp) {
            (Media::Viewer(viewer), Some(srtp)) => viewer.timeout(io, &mut srtp.protect),
            (Media::Publisher(publisher), srtp) => {
                if publisher.is_closed() {
                    return Err(End::Replaced);
                }
                if srtp.is_some() {
                    publisher.timeout(io);
                }
            }
            (Media::Viewer(_), None) => {}
        }
        // After the pictures of this call, which may have results.
        self.send_channels(io);
        self.send_dtls(io);
        self.send_rtcp(io);
        Ok(())
    }

    fn limits(&self, now: Instant) -> Result<(), End> {
        let over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if self.open.until.is_some_and(|until| until <= now) {
            return Err(End::Expired);
        }
        if self.is_connected() {
            if over(self.ice.consent(), self.patience.consent) {
                return Err(End::Consent);
            }
            if self.open.role == Role::Publisher && over(self.heard, self.patience.silence) {
                return Err(End::Silent);
            }
        } else if over(self.begun, self.patience.handshake) {
            let checked = self.ice.selected().is_some();
            return Err(if checked { End::HandshakeTimeout } else { End::NoCheck });
        }
        Ok(())
    }

    /// When [`Self::timeout`] is due.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let limit = if self.is_connected() {
            self.ice.consent() + self.patience.consent
        } else {
            self.begun + self.patience.handshake
        };
        let media = match &self.media {
            Media::Viewer(viewer) => viewer.next_timeout(),
            Media::Publisher(publisher) if self.is_connected() => {
                let silent = self.heard + self.patience.silence;
                Some(publisher.next_timeout(now).map_or(silent, |at| at.min(silent)))
            }
            Media::Publisher(_) => None,
        };
        let channels = self.channels.as_ref().and_then(|channels| channels.next_timeout());
        [Some(limit), self.open.until, self.dtls.next_timeout(), media, channels]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells the peer that it is over.
    pub(crate) fn goodbye(&mut self, io: &mut Io<'_>) {
        io.path = self.ice.selected();
        io.rtcp.clear();
        let sources: Vec<u32> = match &self.media {
            Media::Viewer(viewer) => viewer.sources().collect(),
            Media::Publisher(publisher) => publisher.sources().collect(),
        };
        if let Some(&first) = sources.first() {
            let mut compound = Compound::new(io.rtcp);
            compound.receiver_report(first, &[]).goodbye(&sources);
        }
        self.send_rtcp(io);
        self.dtls.close(io.now);
        self.send_dtls(io);
    }

    fn send_dtls(&mut self, io: &mut Io<'_>) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(path) = io.path {
                io.out.send(path, &datagram, datagram.len());
            }
        }
    }

    fn send_rtcp(&mut self, io: &mut Io<'_>) {
        if io.rtcp.is_empty() {
            return;
        }
        if let (Some(srtp), Some(path)) = (&mut self.srtp, io.path)
            && let Ok(sealed) = srtp.seal_rtcp(io.rtcp)
        {
            io.out.send(path, &sealed, sealed.len());
        }
        io.rtcp.clear();
    }
}
