//! WebRTC towards other servers: streams pushed by WHIP (RFC 9725), `whip://` over HTTP and `whips://`
//! over HTTPS, and streams pulled by WHEP, `whep://` and `wheps://`.
//!
//! The media side is a session of ours, the other way round: we offer and check, the server answers.
//! One socket and one task for each stream. [`Call`] is what both directions have in common.

mod agreed;
mod checks;
mod http;
mod local;
mod offer;
mod pull;
mod push;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pipeline::Tracks;
use reqwest::Url;
use rtc_srtp::crypto::RTCCryptoProvider;
use rtc_stun::message::TransactionId;

use self::agreed::Answered;
use self::checks::Checks;
use self::http::Http;
use self::offer::Ours;
use super::admission::{Admission, Limits};
use super::answer::Agreed;
use super::channels::Question;
use super::counters::Counters;
use super::dtls::Identity;
use super::end::{End, Patience};
use super::ice::{Credentials, Ice, Path, Transports};
use super::mux::Content;
use super::sdp::Offer;
use super::session::{Facts, Io, Media, Session};
use super::socket::{Inbox, Port, Send as _};
use super::stream::Stream;
use super::stun::Check;
use super::{Role, canonical};
use crate::name::StreamName;
use crate::remote::{Error, Options, Target};

pub use pull::pull;
pub use push::push;

/// How long the server may take to hear that it is over.
const GOODBYE: Duration = Duration::from_millis(500);

/// The server's consent, renewed by its answers to our checks (RFC 7675).
const CONSENT: Duration = Duration::from_secs(30);

/// Our side, before the server was asked.
struct Caller {
    http: Http,
    port: Port,
    identity: Identity,
    ours: Ours,
}

impl Caller {
    async fn new(target: &Target, options: &Options) -> Result<Self, Error> {
        let http = Http::new(target, options)?;
        let (port, local) = local::socket(target).await?;
        let identity = Identity::generate().map_err(|e| Error::protocol("making a key", e))?;
        let ours = Ours {
            credentials: Credentials::generate(0),
            fingerprint: identity.fingerprint().to_owned(),
            local,
            sources: std::array::from_fn(|_| rand::random_range(1..=u32::MAX)),
        };
        Ok(Self { http, port, identity, ours })
    }

    /// Gives the server's answer to an offer of ours, and the URL of the session.
    async fn ask(&self, offer: String) -> Result<(Offer, Option<Url>), Error> {
        let (text, resource) = self.http.post(offer).await?;
        let answer = Offer::parse(text.as_bytes()).map_err(|error| refused(&error))?;
        Ok((answer, resource))
    }

    /// Begins the session that both agreed on.
    fn call(
        self,
        (answered, resource): (Answered, Option<Url>),
        (role, stream): (Role, &StreamName),
        media: impl FnOnce(&Agreed) -> Media,
        options: &Options,
    ) -> Result<Call, Error> {
        let Self { http, port, identity, ours } = self;
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
            silence: match role {
                Role::Publisher => options.idle_timeout,
                Role::Viewer => options.write_timeout,
            },
        };
        // Nobody else shares these limits: the node's own ends have theirs in the settings.
        let limits = Limits { sessions: 1, from_address: 1, handshakes: 1 };
        let seat = Admission::new(limits, 1).admit(ours.local.ip());
        let (seat, _) = seat.map_err(|error| Error::protocol("beginning a session", error))?;
        let facts = facts(role, stream, ours.local);
        let media = media(&agreed);
        let session = Session::new(now, (facts, seat), ice, dtls, &agreed, media, patience);
        Ok(Call {
            inbox: Some(Inbox::new(&port)),
            port,
            session,
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
}

/// What is known of a session of ours that nobody asked us for. Its role is that of the other side:
/// who sends to us is a publisher.
fn facts(role: Role, stream: &StreamName, local: SocketAddr) -> Facts {
    Facts {
        id: String::new(),
        secret: String::new(),
        etag: String::new(),
        role,
        stream: stream.clone(),
        may_steer: false,
        requested_from: local,
        user_agent: String::new(),
        mids: Vec::new(),
        transports: Transports { udp: true, tcp: false },
        since: SystemTime::now(),
        until: None,
    }
}

/// For the fuzzer: reads a server's answer to an offer of each kind. What both agree on makes sense.
pub(super) fn read_answer(answer: &Offer) {
    let ours = Ours {
        credentials: Credentials { ufrag: "ours".into(), password: "0".repeat(32) },
        fingerprint: "00".into(),
        local: SocketAddr::from(([127, 0, 0, 1], 9)),
        sources: [1, 2, 3],
    };
    let answers = [ours.receiving(answer), ours.sending(&Tracks::default(), answer)];
    for Answered { agreed, candidates, .. } in answers.into_iter().flatten() {
        assert!(agreed.video.is_some() || agreed.audio.is_some());
        assert!((1..=checks::CANDIDATES_MAX).contains(&candidates.len()));
    }
}

/// An answer that cannot be used.
fn refused(reason: &dyn std::error::Error) -> Error {
    Error::Media { what: "the answer", reason: reason.to_string() }
}

/// A session at a server.
struct Call {
    port: Port,
    /// Taken while it is read from.
    inbox: Option<Inbox>,
    session: Session,
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

impl Call {
    /// Calls the session.
    fn with<T>(&mut self, now: Instant, call: impl FnOnce(&mut Session, &mut Io<'_>) -> T) -> T {
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
        call(&mut self.session, &mut io)
    }

    /// Waits until datagrams are there.
    async fn readable(&mut self) -> Result<(), Error> {
        self.port.readable().await.map_err(|error| Error::protocol("receiving", error))
    }

    /// When [`Self::timeout`] is due.
    fn next_timeout(&self, now: Instant) -> Instant {
        let checks = self.checks.next_timeout();
        self.session.next_timeout(now).map_or(checks, |at| at.min(checks))
    }

    /// Takes what came; `after` sees the session after each datagram. An error ends the session; what
    /// makes no sense is passed over.
    fn receive(
        &mut self,
        stream: Option<&Stream>,
        mut after: impl FnMut(&mut Session),
    ) -> Result<(), End> {
        let Some(mut inbox) = self.inbox.take() else { return Ok(()) };
        let mut result = Ok(());
        while result.is_ok() && self.port.receive(&mut inbox) {
            for (path, datagram) in inbox.datagrams(false) {
                let path = Path { remote: canonical(path.remote), ..path };
                result = result.and_then(|()| self.datagram(stream, path, datagram));
                after(&mut self.session);
            }
        }
        self.inbox = Some(inbox);
        result
    }

    fn datagram(
        &mut self,
        stream: Option<&Stream>,
        path: Path,
        datagram: &[u8],
    ) -> Result<(), End> {
        let now = Instant::now();
        match Content::of(datagram) {
            Content::Stun => self.stun(now, path, datagram),
            content => {
                let known = self.session.ice.addresses().contains(&path.source());
                if !known {
                    return Ok(());
                }
                self.with(now, |session, io| session.datagram(io, stream, content, datagram))
            }
        }
    }

    fn stun(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), End> {
        let provider = Arc::clone(&self.provider);
        let crypto = provider.crypto();
        if self.checks.answered(now, path.remote, datagram, crypto) {
            let ours = self.ours.ufrag.clone();
            return self
                .with(now, |session, io| session.verified(io, ours.as_bytes(), path, true).1);
        }
        // A server that is no lite agent checks as well.
        let Some(mut check) = Check::parse(datagram) else { return Ok(()) };
        let password = &self.ours.password;
        let ours = check.ours() == self.ours.ufrag.as_bytes();
        if ours
            && check.verify(password, crypto).is_some()
            && let Some(answer) = check.success(path.remote, password, crypto)
        {
            self.port.send(path, &answer, answer.len());
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
            self.port.send(path, &check, check.len());
        }
        if self.session.next_timeout(now).is_some_and(|at| at <= now) {
            return self.with(now, |session, io| session.timeout(io));
        }
        Ok(())
    }

    /// Tells the server, both ways, that it is over.
    async fn goodbye(&mut self) {
        let now = Instant::now();
        self.with(now, |session, io| session.goodbye(io));
        if let Some(resource) = self.resource.take() {
            let _ = tokio::time::timeout(GOODBYE, self.http.delete(resource)).await;
        }
    }

    /// What the end of the session means as an error; `None` when the server ended it.
    fn over(end: End, doing: &'static str, options: &Options) -> Option<Error> {
        let limit = options.connect_timeout;
        match end {
            End::Closed => None,
            // The server's candidates are in its answer; who does not get there has a firewall.
            End::NoCheck => Some(Error::Timeout {
                what: "answer to checks of the server's UDP addresses",
                limit,
            }),
            End::HandshakeTimeout => {
                Some(Error::Timeout { what: "end of the DTLS handshake", limit })
            }
            end => Some(Error::protocol(doing, end)),
        }
    }
}
