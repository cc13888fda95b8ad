//! Streams pushed to WHIP servers (RFC 9725): `whip://` over HTTP and `whips://` over HTTPS.
//!
//! The media side is a viewer's session of ours, the other way round: we offer and check, the server
//! answers. One socket and one task for each push. What goes out begins with a key picture that
//! comes after the connection stands; earlier ones are of no use to a server.

mod checks;
mod http;
mod local;
mod offer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pipeline::Tracks;
use reqwest::Url;
use rtc_srtp::crypto::RTCCryptoProvider;
use rtc_stun::message::TransactionId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::http::Http;
use super::admission::{Admission, Limits};
use super::channels::Question;
use super::counters::Counters;
use super::dtls::Identity;
use super::end::{End, Patience};
use super::ice::{Credentials, Ice, Path, Transports};
use super::mux::Content;
use super::sdp::Offer;
use super::session::{Facts, Io, Media, Session};
use super::socket::{Inbox, Port};
use super::stream::Stream;
use super::stun::Check;
use super::viewer::Viewer;
use super::{Role, canonical};
use crate::hub::{Hub, Item, Reader};
use crate::remote::{Ended, Error, Options, Status, Target};
use checks::Checks;
use offer::{Answered, Ours};

/// How long a stream that has picture or sound is waited for to have both.
const BOTH_WITHIN: Duration = Duration::from_millis(500);

/// How long the server may take to hear that it is over.
const GOODBYE: Duration = Duration::from_millis(500);

/// The server's consent, renewed by its answers to our checks (RFC 7675).
const CONSENT: Duration = Duration::from_secs(30);

/// Pushes a stream in the form of [`crate::views::Takes::WEBRTC`] until it ends or `stop`.
///
/// # Errors
/// [`Error`]: the server cannot be reached, refuses, or went away.
pub async fn push(
    target: &Target,
    options: &Options,
    (hub, mut reader): (&Hub, Reader),
    status: &Status,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let connecting = async {
        let tracks = tracks(&mut reader).await.ok_or(Ended::StreamOver);
        match tracks {
            Ok(tracks) => Push::connect(target, options, hub, &reader, tracks).await.map(Ok),
            Err(ended) => Ok(Err(ended)),
        }
    };
    let limit = options.connect_timeout;
    let connected = tokio::select! {
        () = stop.cancelled() => return Ok(Ended::Stopped),
        connected = tokio::time::timeout(limit, connecting) => connected,
    };
    let late = Error::Timeout { what: "answer of the WHIP server", limit };
    let mut push = match connected.unwrap_or(Err(late))? {
        Ok(push) => push,
        Err(ended) => return Ok(ended),
    };
    let ended = push.run(&mut reader, status, stop).await;
    push.goodbye().await;
    ended
}

/// What the stream has; `None` when it is over.
async fn tracks(reader: &mut Reader) -> Option<Tracks> {
    let mut found = Tracks::default();
    let mut until = None;
    loop {
        let item = match until {
            None => reader.next().await,
            Some(until) => match tokio::time::timeout_at(until, reader.next()).await {
                Ok(item) => item,
                Err(_) => return Some(found),
            },
        };
        match item {
            Item::Tracks(tracks) => found = (*tracks).clone(),
            Item::End => return None,
            Item::Packet(_) | Item::Lagged(_) => {}
        }
        if found.video.is_some() && found.audio.is_some() {
            return Some(found);
        }
        if found.video.is_some() || found.audio.is_some() {
            until.get_or_insert(tokio::time::Instant::now() + BOTH_WITHIN);
        }
    }
}

/// A session at a server.
struct Push {
    port: Port,
    /// Taken while it is read from.
    inbox: Option<Inbox>,
    session: Session,
    stream: Stream,
    checks: Checks,
    ours: Credentials,
    provider: Arc<dyn RTCCryptoProvider>,
    counters: Counters,
    buffer: Vec<u8>,
    rtcp: Vec<u8>,
    questions: Vec<Question>,
    http: Http,
    /// The URL of the session, if the server told.
    resource: Option<Url>,
}

impl Push {
    async fn connect(
        target: &Target,
        options: &Options,
        hub: &Hub,
        reader: &Reader,
        tracks: Tracks,
    ) -> Result<Self, Error> {
        let http = Http::new(target, options)?;
        let (port, local) = local::socket(target).await?;
        let identity = Identity::generate().map_err(|e| Error::protocol("making a key", e))?;
        let ours = Ours {
            credentials: Credentials::generate(0),
            fingerprint: identity.fingerprint().to_owned(),
            local,
            sources: std::array::from_fn(|_| rand::random_range(1..=u32::MAX)),
        };
        let (text, resource) = http.post(ours.offer(&tracks)).await?;
        let refused = |reason: String| Error::Media { what: "the answer", reason };
        let answer = Offer::parse(text.as_bytes()).map_err(|error| refused(error.to_string()))?;
        let answered = ours.answered(&tracks, &answer).map_err(|e| refused(e.to_string()))?;
        let Answered { agreed, theirs, candidates } = answered;
        let now = Instant::now();
        let dtls = identity
            .association(agreed.dtls_client, agreed.fingerprint.clone(), false)
            .map_err(|error| Error::protocol("beginning DTLS", error.to_string()))?;
        let checks =
            Checks::new(now, &ours.credentials, &theirs, candidates, rand::random::<u64>());
        let ice = Ice::new(now, ours.credentials.clone(), theirs.ufrag);
        let patience = Patience {
            handshake: options.connect_timeout,
            consent: CONSENT,
            silence: options.write_timeout,
        };
        let (audience, _) = watch::channel(0);
        let source = reader.name().clone();
        let mut stream = Stream::new(source.clone(), source, hub.clone(), audience, None);
        stream.set_tracks(Arc::new(tracks));
        let facts = facts(&stream, local);
        // Nobody else shares these limits: the node's own pushes have theirs in the settings.
        let limits = Limits { sessions: 1, from_address: 1, handshakes: 1 };
        let seat = Admission::new(limits, 1).admit(local.ip());
        let (seat, _) = seat.map_err(|error| Error::protocol("beginning a session", error))?;
        let media = Media::Viewer(Box::new(Viewer::new(&agreed, 0)));
        let session = Session::new(now, (facts, seat), ice, dtls, &agreed, media, patience);
        Ok(Self {
            inbox: Some(Inbox::new(&port)),
            port,
            session,
            stream,
            checks,
            ours: ours.credentials,
            provider: identity.provider(),
            counters: Counters::default(),
            buffer: Vec::with_capacity(65_536),
            rtcp: Vec::with_capacity(1500),
            questions: Vec::new(),
            http,
            resource,
        })
    }

    /// Calls the session.
    fn with<T>(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Session, &mut Io<'_>, &Stream) -> T,
    ) -> T {
        self.rtcp.clear();
        let mut io = Io {
            now,
            out: &mut self.port,
            path: self.session.ice.selected(),
            buffer: &mut self.buffer,
            rtcp: &mut self.rtcp,
            questions: &mut self.questions,
            counters: &self.counters,
            provider: &self.provider,
        };
        call(&mut self.session, &mut io, &self.stream)
    }

    async fn run(
        &mut self,
        reader: &mut Reader,
        status: &Status,
        stop: &CancellationToken,
    ) -> Result<Ended, Error> {
        let mut connected = false;
        loop {
            let now = Instant::now();
            if !connected && self.session.is_connected() {
                connected = true;
                status.connected();
                if !self.skip_to_now(reader) {
                    return Ok(Ended::StreamOver);
                }
            }
            let due = self.session.next_timeout(now);
            let wake =
                due.map_or(self.checks.next_timeout(), |at| at.min(self.checks.next_timeout()));
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                readable = self.port.readable() => {
                    readable.map_err(|error| Error::protocol("receiving", error))?;
                    if let Err(end) = self.receive() {
                        return over(end);
                    }
                }
                item = reader.next(), if connected => match item {
                    Item::Tracks(tracks) => {
                        self.stream.set_tracks(tracks);
                        let fits = match &self.session.media {
                            Media::Viewer(viewer) => viewer.fits(&self.stream),
                            Media::Publisher(_) => false,
                        };
                        if !fits {
                            return over(End::Recoded);
                        }
                    }
                    Item::Packet(packet) => self.packet(&packet, status),
                    Item::Lagged(count) => status.dropped(count),
                    Item::End => return Ok(Ended::StreamOver),
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if let Err(end) = self.timeout() {
                return over(end);
            }
        }
    }

    /// Leaves out what was written while the connection was made; false at the stream's end.
    fn skip_to_now(&mut self, reader: &mut Reader) -> bool {
        while let Some(item) = reader.try_next() {
            match item {
                Item::Tracks(tracks) => self.stream.set_tracks(tracks),
                Item::End => return false,
                Item::Packet(_) | Item::Lagged(_) => {}
            }
        }
        reader.request_key_frame();
        true
    }

    fn packet(&mut self, packet: &pipeline::Packet, status: &Status) {
        let now = Instant::now();
        let Some(frame) = self.stream.packet(now, packet) else { return };
        let figures = |session: &Session| match &session.media {
            Media::Viewer(viewer) => (viewer.figures.packets, viewer.figures.bytes),
            Media::Publisher(_) => (0, 0),
        };
        let before = figures(&self.session);
        self.with(now, |session, io, stream| session.frame(io, stream, &frame));
        let after = figures(&self.session);
        if after.0 > before.0 {
            status.count(after.1 - before.1, 1);
        }
    }

    /// Takes what came. An error ends the session; what makes no sense is passed over.
    fn receive(&mut self) -> Result<(), End> {
        let Some(mut inbox) = self.inbox.take() else { return Ok(()) };
        let mut result = Ok(());
        while result.is_ok() && self.port.receive(&mut inbox) {
            for (path, datagram) in inbox.datagrams(false) {
                let path = Path { remote: canonical(path.remote), ..path };
                result = result.and_then(|()| self.datagram(path, datagram));
            }
        }
        self.inbox = Some(inbox);
        result
    }

    fn datagram(&mut self, path: Path, datagram: &[u8]) -> Result<(), End> {
        let now = Instant::now();
        match Content::of(datagram) {
            Content::Stun => self.stun(now, path, datagram),
            content => {
                let known = self.session.ice.addresses().contains(&path.source());
                if !known {
                    return Ok(());
                }
                self.with(now, |session, io, stream| {
                    session.datagram(io, Some(stream), content, datagram)
                })
            }
        }
    }

    fn stun(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), End> {
        let provider = Arc::clone(&self.provider);
        let crypto = provider.crypto();
        if self.checks.answered(now, path.remote, datagram, crypto) {
            let ours = self.ours.ufrag.clone();
            return self
                .with(now, |session, io, _| session.verified(io, ours.as_bytes(), path, true).1);
        }
        // A server that is no lite agent checks as well.
        let Some(mut check) = Check::parse(datagram) else { return Ok(()) };
        let password = &self.ours.password;
        let ours = check.ours() == self.ours.ufrag.as_bytes();
        if ours
            && check.verify(password, crypto).is_some()
            && let Some(answer) = check.success(path.remote, password, crypto)
        {
            super::socket::Send::send(&mut self.port, path, &answer, answer.len());
        }
        Ok(())
    }

    /// Does what is due.
    fn timeout(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let id = TransactionId::new();
        if let Some((to, check)) = self.checks.poll(now, id, self.provider.crypto()) {
            let path = Path::udp(to, None);
            // One that the system does not take is like one that is lost.
            super::socket::Send::send(&mut self.port, path, &check, check.len());
        }
        if self.session.next_timeout(now).is_some_and(|at| at <= now) {
            return self.with(now, |session, io, _| session.timeout(io));
        }
        Ok(())
    }

    /// Tells the server, both ways, that it is over.
    async fn goodbye(&mut self) {
        let now = Instant::now();
        self.with(now, |session, io, _| session.goodbye(io));
        if let Some(resource) = self.resource.take() {
            let _ = tokio::time::timeout(GOODBYE, self.http.delete(resource)).await;
        }
    }
}

/// What the end of the session means for the push.
fn over(end: End) -> Result<Ended, Error> {
    match end {
        End::Closed => Ok(Ended::ByPeer),
        end => Err(Error::protocol("sending media", end)),
    }
}

/// What is known of a session of ours that nobody asked us for.
fn facts(stream: &Stream, local: SocketAddr) -> Facts {
    Facts {
        id: String::new(),
        secret: String::new(),
        etag: String::new(),
        role: Role::Viewer,
        stream: stream.name.clone(),
        may_steer: false,
        requested_from: local,
        user_agent: String::new(),
        mids: Vec::new(),
        transports: Transports { udp: true, tcp: false },
        since: SystemTime::now(),
        until: None,
    }
}
