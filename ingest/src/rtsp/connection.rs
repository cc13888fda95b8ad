//! The life of one connection: bytes between the socket and the [`Session`], questions to the
//! owner of the node, media between the peer and the hub.
//!
//! This file is long because the loop of a connection and the limits on each of its waits are
//! read together.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use rtsp_types::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::describe::{Outgoing, outgoing};
use super::digest::Credentials;
use super::error::Error;
use super::receiver::{MediaError, Output, Receiver};
use super::sender::{Chance, Sender, Wire};
use super::session::{Ask, Event, Facts, Session};
use super::transport::Lower;
use super::udp::{Datagram, Opened, WAITING_MAX};
use super::{Shared, TAKES, add};
use crate::auth::{Action, Grant, Request};
use crate::hub::{Item, KeyRequests, Publisher, Reader, Writer};
use crate::name::StreamName;
use crate::rtp::clock::Ntp;
use crate::sessions::{Open, SessionState};
use crate::views::ViewError;

/// Read buffer until a client publishes, in bytes.
const READ_EARLY: usize = 4 << 10;

/// Read buffer of a publisher, in bytes.
const READ_PUBLISHER: usize = 64 << 10;

/// A reader is sent this many bytes at once, if they are there.
const WRITE_BATCH: usize = 64 << 10;

/// Broken packets in a row that end a publisher.
const BROKEN_MAX: u32 = 100;

/// How long a stream may have no tracks before a reader is told that there is none.
const TRACKS_LIMIT: Duration = Duration::from_secs(2);

/// How long a client may take to read why it was refused.
const LINGER: Duration = Duration::from_secs(1);

/// How long a reader of a stream that is over may take to say goodbye: some take it ill when the
/// connection ends first.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// How long after the last datagram of media goodbye is said: players read what is said on the
/// ports of RTCP first, and would not read the rest.
const FAREWELL_DELAY: Duration = Duration::from_secs(1);

/// Datagrams and the connection are different roads, and a publisher's goodbye may overtake its
/// last pictures: those are waited for until so many such times in a row brought none ...
const REST_QUIET: (u32, Duration) = (2, Duration::from_millis(25));

/// ... or this time is over.
const REST_LIMIT: Duration = Duration::from_millis(200);

pub(super) struct Connection<S> {
    shared: Arc<Shared>,
    open: Open,
    socket: S,
    shutdown: CancellationToken,
    session: Session,
    input: BytesMut,
    timer: Pin<Box<Sleep>>,
    /// What was allowed, as whom and with which query.
    granted: Option<(Grant, String, String)>,
    over: Option<Over>,
    /// The log knows which stream it is about.
    named: bool,
    described: Vec<Outgoing>,
    role: Role,
    /// Open ports by medium.
    ports: Vec<Option<Opened>>,
    /// The transports of all media, by number, since media flows.
    lowers: Vec<Option<Lower>>,
    /// Where datagrams are put together.
    scratch: Vec<u8>,
    datagrams: (mpsc::Sender<Datagram>, mpsc::Receiver<Datagram>),
}

enum Role {
    None,
    Reads(Box<Reads>),
    Writes(Box<Writes>),
}

struct Reads {
    reader: Reader,
    sender: Sender,
    /// The first packet, which was taken to say where sending begins.
    first: Option<Item>,
}

struct Writes {
    writer: Writer,
    wishes: KeyRequests,
    receiver: Receiver,
    out: Vec<Output>,
    broken: u32,
}

/// A stream that was read and is over.
struct Over {
    /// Who has to say goodbye, and when; then until when the reader may answer.
    sender: Option<Sender>,
    at: Instant,
    reason: Option<Error>,
}

/// What a wait ended with.
enum Woken {
    /// So many bytes came; 0 at the end of the connection.
    Read(usize),
    Datagram(Datagram),
    /// There is something for the reader.
    Item(Item),
    /// Somebody wants a key picture of this publisher.
    Wish,
    Timer,
}

/// The roads of all media.
struct Road<'a> {
    lowers: &'a [Option<Lower>],
    ports: &'a [Option<Opened>],
    out: &'a mut Vec<u8>,
    scratch: &'a mut Vec<u8>,
    /// Bytes of datagrams sent.
    sent: u64,
}

impl Road<'_> {
    fn send(&mut self, medium: usize, rtcp: bool, parts: [&[u8]; 2]) {
        match self.lowers.get(medium).copied().flatten() {
            Some(Lower::Tcp(rtp_channel, rtcp_channel)) => {
                let length = parts[0].len() + parts[1].len();
                let Ok(length) = u16::try_from(length) else { return };
                let channel = if rtcp { rtcp_channel } else { rtp_channel };
                let [high, low] = length.to_be_bytes();
                self.out.extend_from_slice(&[b'$', channel, high, low]);
                parts.iter().for_each(|part| self.out.extend_from_slice(part));
            }
            Some(Lower::Udp(..)) => {
                let Some(Some(opened)) = self.ports.get(medium) else { return };
                self.scratch.clear();
                parts.iter().for_each(|part| self.scratch.extend_from_slice(part));
                if opened.send(rtcp, self.scratch) {
                    self.sent += self.scratch.len() as u64;
                }
            }
            None => {}
        }
    }
}

impl Wire for Road<'_> {
    fn rtp(&mut self, medium: usize, header: &[u8], payload: &[u8]) {
        self.send(medium, false, [header, payload]);
    }

    fn rtcp(&mut self, medium: usize, packet: &[u8]) {
        self.send(medium, true, [packet, &[]]);
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    pub(super) fn new(
        shared: Arc<Shared>,
        open: Open,
        socket: S,
        shutdown: CancellationToken,
    ) -> Self {
        let facts = Facts {
            id: format!("{:032x}", rand::random::<u128>()),
            nonce: format!("{:032x}", rand::random::<u128>()),
            udp: shared.ports.is_some(),
            command: shared.config.command_timeout,
            idle: shared.config.idle_timeout,
        };
        let session = Session::new(facts, now());
        let timer = Box::pin(tokio::time::sleep(shared.config.command_timeout));
        Self {
            shared,
            open,
            socket,
            shutdown,
            session,
            input: BytesMut::new(),
            timer,
            granted: None,
            over: None,
            named: false,
            described: Vec::new(),
            role: Role::None,
            ports: Vec::new(),
            lowers: Vec::new(),
            scratch: Vec::new(),
            datagrams: mpsc::channel(WAITING_MAX),
        }
    }

    pub(super) async fn serve(&mut self) -> Result<(), Error> {
        loop {
            let arrived = now();
            loop {
                match self.session.handle(arrived, &mut self.input) {
                    Ok(None) => break,
                    Ok(Some(Event::End)) => {
                        self.rest().await?;
                        // The name is free from here on.
                        self.role = Role::None;
                        self.hang_up().await;
                        return Ok(());
                    }
                    Ok(Some(event)) => self.event(event, arrived).await?,
                    Err(error) => {
                        self.hang_up().await;
                        return Err(error.into());
                    }
                }
            }
            self.flush().await?;
            match self.wait().await? {
                Woken::Read(0) => {
                    self.rest().await?;
                    return self.reason();
                }
                Woken::Read(_) => {}
                Woken::Datagram(datagram) => self.datagram(datagram)?,
                Woken::Item(item) => self.items(item).await?,
                Woken::Wish => {
                    if let Role::Writes(writes) = &mut self.role {
                        writes.receiver.want_key();
                    }
                    self.reports();
                }
                Woken::Timer if self.over.as_ref().is_some_and(|over| now() >= over.at) => {
                    if !self.farewell() {
                        self.hang_up().await;
                        return self.reason();
                    }
                }
                Woken::Timer => {
                    self.session.handle_timeout(now())?;
                    self.reports();
                }
            }
        }
    }

    async fn event(&mut self, event: Event, arrived: Instant) -> Result<(), Error> {
        match event {
            Event::Ask(ask) => self.ask(&ask).await,
            Event::Describe => self.describe().await,
            Event::Open { medium, ports } => {
                let opened = self.shared.ports.as_ref().and_then(|own| {
                    let peer = self.open.remote().ip();
                    Some((own.open(peer, ports, medium, &self.datagrams.0)?, own.numbers()))
                });
                match opened {
                    Some((opened, numbers)) => {
                        let count = self.ports.len().max(medium + 1);
                        self.ports.resize_with(count, || None);
                        self.ports[medium] = Some(opened);
                        self.session.opened(medium, numbers);
                    }
                    None => {
                        let words = "these client ports are taken";
                        self.session.refuse(StatusCode::BadRequest, words);
                    }
                }
                Ok(())
            }
            Event::Reset => {
                self.ports.clear();
                Ok(())
            }
            Event::Play => self.play().await,
            Event::Pause => {
                self.role = Role::None;
                Ok(())
            }
            Event::Record => self.record().await,
            Event::Rtp { medium, packet } => self.rtp(medium, &packet, arrived),
            Event::Rtcp { medium, packet } => {
                self.rtcp(medium, &packet, arrived);
                Ok(())
            }
            Event::End => Ok(()),
        }
    }

    /// Asks whether the client may do what it wants.
    async fn ask(&mut self, ask: &Ask) -> Result<(), Error> {
        let name = match ask.action {
            Action::Publish => StreamName::for_publisher(&ask.path),
            _ => StreamName::parse(&ask.path),
        };
        let name = match name {
            Ok(name) => name,
            Err(error) => {
                self.session.refuse(StatusCode::BadRequest, &error.to_string());
                return self.turn_away(error.to_string()).await;
            }
        };
        if !std::mem::replace(&mut self.named, true) {
            tracing::Span::current().record("stream", name.as_str());
        }
        let shared = Arc::clone(&self.shared);
        let secrets = match shared.config.digest {
            true => shared.access.passwords(ask.action),
            false => Vec::new(),
        };
        let (user, password, token) = match &ask.credentials {
            None => Default::default(),
            Some(Credentials::Basic { user, password }) => {
                (user.clone(), password.clone(), String::new())
            }
            Some(Credentials::Bearer(token)) => (String::new(), String::new(), token.clone()),
            Some(Credentials::Digest(proof)) => {
                let mut known =
                    secrets.iter().filter(|(user, _)| user.is_empty() || *user == proof.user);
                match known.find(|(_, password)| self.session.proves(proof, password)) {
                    Some((_, password)) => (proof.user.clone(), password.clone(), String::new()),
                    None => (proof.user.clone(), String::new(), String::new()),
                }
            }
        };
        let request = Request {
            action: ask.action,
            name,
            protocol: "rtsp",
            id: self.open.id().to_owned(),
            ip: self.open.remote().ip(),
            user: user.clone(),
            password,
            token,
            query: ask.query.clone(),
            user_agent: ask.agent.clone(),
        };
        let limit = shared.config.command_timeout;
        let answer = tokio::select! {
            () = self.open.cancel().cancelled() => return Err(self.cancelled()),
            answer = tokio::time::timeout(limit, shared.access.check(request)) => answer,
        };
        let Ok(answer) = answer else {
            return Err(Error::Stalled { what: "answer whether the client may do this", limit });
        };
        match answer {
            Ok(grant) => {
                self.granted = Some((grant, user, ask.query.clone()));
                self.session.grant(ask);
                self.session.touch(now());
                Ok(())
            }
            Err(refusal) => {
                // The first question of a client that waits to be asked is no failure.
                if ask.credentials.is_some() || !refusal.ask_credentials {
                    add(&shared.counters.refused, 1);
                }
                let digest = !secrets.is_empty();
                match self.session.deny(ask, refusal.ask_credentials, digest) {
                    true => {
                        debug!(reason = %refusal.reason, "RTSP client is asked for credentials");
                        Ok(())
                    }
                    false => {
                        self.hang_up().await;
                        Err(Error::Refused(refusal.reason))
                    }
                }
            }
        }
    }

    /// Sends the refusal that the session has written, and ends.
    async fn turn_away(&mut self, reason: String) -> Result<(), Error> {
        // Counted before the client hears of it, so that it never knows more than the figures.
        add(&self.shared.counters.refused, 1);
        self.hang_up().await;
        Err(Error::Refused(reason))
    }

    /// A reader of the granted stream and its tracks; `None` when the session was told why not.
    async fn view(&mut self) -> Result<Option<(Reader, Arc<pipeline::Tracks>)>, Error> {
        let Some((grant, ..)) = &self.granted else { return Ok(None) };
        let found = async {
            let mut reader = self.shared.views.view(&grant.name, &TAKES).await?;
            match tokio::time::timeout(TRACKS_LIMIT, reader.next()).await {
                Ok(Item::Tracks(tracks)) => Ok((reader, tracks)),
                _ => Err(ViewError::NotFound(grant.name.clone())),
            }
        };
        let found = tokio::select! {
            () = self.open.cancel().cancelled() => return Err(self.cancelled()),
            found = found => found,
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                add(&self.shared.counters.refused, 1);
                debug!(%error, "RTSP reader refused");
                let status = match error {
                    ViewError::NotFound(_) => StatusCode::NotFound,
                    ViewError::Busy { .. } => StatusCode::ServiceUnavailable,
                    _ => StatusCode::NotAcceptable,
                };
                self.session.refuse(status, &error.to_string());
                Ok(None)
            }
        }
    }

    async fn describe(&mut self) -> Result<(), Error> {
        if let Some((_, tracks)) = self.view().await? {
            self.described = outgoing(&tracks);
            self.session.describe(&self.described);
            self.session.touch(now());
        }
        Ok(())
    }

    async fn play(&mut self) -> Result<(), Error> {
        let Some((mut reader, tracks)) = self.view().await? else { return Ok(()) };
        let began = now();
        let wall = Ntp::from_system(SystemTime::now());
        let chance = || Chance { ssrc: rand::random(), seq: rand::random(), time: rand::random() };
        // Media have the numbers of the description.
        self.lowers = self.session.lowers();
        let lowers = &self.lowers;
        let medium = |at: usize| lowers.get(at).is_some_and(Option::is_some).then_some(at);
        let mut sender = Sender::new(&tracks, medium, (began, wall), chance);
        let new = outgoing(&tracks);
        let same = new.len() == self.described.len()
            && new.iter().zip(&self.described).all(|(new, old)| new.continues(old));
        if !same {
            self.session.refuse(StatusCode::NotFound, &Error::Changed.to_string());
            return self.turn_away(Error::Changed.to_string()).await;
        }
        let first = reader.try_next();
        let infos = match &first {
            Some(Item::Packet(packet)) => sender.info(packet.dts, packet.arrived),
            _ => Vec::new(),
        };
        self.session.playing(began, &infos);
        self.begin(SessionState::Read);
        info!("RTSP reader accepted");
        self.role = Role::Reads(Box::new(Reads { reader, sender, first }));
        Ok(())
    }

    async fn record(&mut self) -> Result<(), Error> {
        let Some((grant, ..)) = &self.granted else { return Ok(()) };
        let publisher = Publisher {
            protocol: "rtsp",
            id: self.open.id().to_owned(),
            remote: self.open.remote().to_string(),
        };
        let take_over = grant.take_over.unwrap_or(self.shared.config.take_over);
        match self.shared.hub.publish(grant.name.clone(), publisher, take_over) {
            Ok(writer) => {
                let wishes = writer.key_requests();
                let receiver = Receiver::new(&self.session.formats(), rand::random());
                self.lowers = self.session.lowers();
                let writes = Writes { writer, wishes, receiver, out: Vec::new(), broken: 0 };
                self.role = Role::Writes(Box::new(writes));
                self.session.recording(now());
                self.begin(SessionState::Publish);
                info!("RTSP publisher accepted");
                Ok(())
            }
            Err(error) => {
                let words = "the stream cannot be published now";
                self.session.refuse(StatusCode::Forbidden, words);
                self.turn_away(error.to_string()).await
            }
        }
    }

    fn begin(&mut self, state: SessionState) {
        if let Some((grant, user, query)) = &self.granted {
            self.open.begin(state, grant.name.clone(), user, query);
            self.open.limit(grant.lifetime);
        }
    }

    fn datagram(&mut self, datagram: Datagram) -> Result<(), Error> {
        let arrived = now();
        self.session.touch(arrived);
        self.count_in(datagram.packet.len());
        if datagram.rtcp {
            self.rtcp(datagram.medium, &datagram.packet, arrived);
            return Ok(());
        }
        self.rtp(datagram.medium, &datagram.packet, arrived)
    }

    /// Takes what a publisher that has said goodbye sent before.
    async fn rest(&mut self) -> Result<(), Error> {
        if self.ports.iter().all(Option::is_none) || !matches!(self.role, Role::Writes(_)) {
            return Ok(());
        }
        let (rounds, quiet) = REST_QUIET;
        let (end, mut left) = (now() + REST_LIMIT, rounds);
        while left > 0 && now() < end {
            match tokio::time::timeout(quiet, self.datagrams.1.recv()).await {
                Ok(Some(datagram)) => {
                    self.datagram(datagram)?;
                    left = rounds;
                }
                _ => left -= 1,
            }
        }
        // Gives up what is missing before the last ones.
        self.reports();
        Ok(())
    }

    fn rtp(&mut self, medium: usize, packet: &Bytes, arrived: Instant) -> Result<(), Error> {
        let Role::Writes(writes) = &mut self.role else { return Ok(()) };
        let taken = writes.receiver.rtp(medium, packet, arrived, &mut writes.out);
        if writes.give() {
            writes.broken = 0;
        }
        match taken {
            Ok(()) => Ok(()),
            Err(error) => self.broken(&error),
        }
    }

    fn broken(&mut self, error: &MediaError) -> Result<(), Error> {
        add(&self.shared.counters.media_errors, 1);
        let Role::Writes(writes) = &mut self.role else { return Ok(()) };
        writes.broken += 1;
        let count = writes.broken;
        debug!(%error, count, "RTP packet passed over");
        match count {
            BROKEN_MAX.. => Err(Error::BrokenMedia { count, last: error.to_string() }),
            _ => Ok(()),
        }
    }

    fn rtcp(&mut self, medium: usize, packet: &[u8], arrived: Instant) {
        if let Role::Writes(writes) = &mut self.role {
            writes.receiver.rtcp(medium, packet, arrived);
        }
    }

    /// What is due for a publisher.
    fn reports(&mut self) {
        let Role::Writes(writes) = &mut self.role else { return };
        let reports = writes.receiver.handle_timeout(now(), &mut writes.out);
        writes.give();
        self.with_road(|road, _| {
            reports.iter().for_each(|(medium, report)| road.rtcp(*medium, report));
        });
    }

    /// Gives something to the peer over the roads of its media.
    fn with_road<T>(&mut self, give: impl FnOnce(&mut Road<'_>, &mut Role) -> T) -> T {
        let mut road = Road {
            lowers: &self.lowers,
            ports: &self.ports,
            out: self.session.output(),
            scratch: &mut self.scratch,
            sent: 0,
        };
        let given = give(&mut road, &mut self.role);
        let sent = road.sent;
        self.open.sent(sent);
        add(&self.shared.counters.bytes_out, sent);
        given
    }

    /// Gives this item to the reader, and those that follow it.
    async fn items(&mut self, item: Item) -> Result<(), Error> {
        let mut next = Some(item);
        while let Some(item) = next {
            let moment = now();
            let result = self.with_road(|road, role| {
                let Role::Reads(reads) = role else { return Ok(()) };
                match &item {
                    Item::Packet(packet) => {
                        if let Err(error) = reads.sender.send(packet, moment, road) {
                            debug!(%error, "frame left out");
                        }
                        Ok(())
                    }
                    Item::Tracks(tracks) if reads.sender.fits(tracks) => Ok(()),
                    Item::Tracks(_) => Err(Some(Error::Changed)),
                    Item::Lagged(_) => Ok(()),
                    Item::End => Err(None),
                }
            });
            if let Item::Lagged(packets) = item {
                debug!(packets, "RTSP reader was too slow");
                add(&self.shared.counters.lagged, packets);
            }
            if let Err(reason) = result {
                if let Role::Reads(reads) = std::mem::replace(&mut self.role, Role::None) {
                    let datagrams = self.ports.iter().any(Option::is_some);
                    let delay = if datagrams { FAREWELL_DELAY } else { Duration::ZERO };
                    let sender = Some(reads.sender);
                    self.over = Some(Over { sender, at: now() + delay, reason });
                }
                return Ok(());
            }
            if self.session.output().len() >= WRITE_BATCH {
                self.flush().await?;
            }
            let Role::Reads(reads) = &mut self.role else { return Ok(()) };
            next = reads.reader.try_next();
        }
        Ok(())
    }

    /// Says goodbye to a reader whose stream is over; false when that was done before.
    fn farewell(&mut self) -> bool {
        let Some(over) = &mut self.over else { return false };
        let Some(mut sender) = over.sender.take() else { return false };
        over.at = now() + FAREWELL_LIMIT;
        self.with_road(|road, _| sender.goodbye(road));
        true
    }

    /// How the connection of a reader has ended.
    fn reason(&mut self) -> Result<(), Error> {
        self.over.take().and_then(|over| over.reason).map_or(Ok(()), Err)
    }

    async fn wait(&mut self) -> Result<Woken, Error> {
        self.set_timer();
        let room = match &self.role {
            Role::Writes(_) => READ_PUBLISHER,
            _ => READ_EARLY,
        };
        self.input.reserve(room);
        let media = async {
            match &mut self.role {
                Role::None => std::future::pending().await,
                Role::Reads(reads) => match reads.first.take() {
                    Some(first) => Ok(Woken::Item(first)),
                    None => Ok(Woken::Item(reads.reader.next().await)),
                },
                Role::Writes(writes) => tokio::select! {
                    () = writes.writer.closed() => Err(Error::Replaced),
                    () = writes.wishes.next() => Ok(Woken::Wish),
                },
            }
        };
        let count = tokio::select! {
            biased;
            () = self.open.cancel().cancelled() => return Err(self.cancelled()),
            count = self.socket.read_buf(&mut self.input) => count?,
            Some(datagram) = self.datagrams.1.recv() => return Ok(Woken::Datagram(datagram)),
            woken = media => return woken,
            () = &mut self.timer => return Ok(Woken::Timer),
        };
        self.count_in(count);
        Ok(Woken::Read(count))
    }

    fn set_timer(&mut self) {
        let media = match &self.role {
            Role::Writes(writes) => writes.receiver.next_timeout(),
            _ => None,
        };
        let over = self.over.as_ref().map(|over| over.at);
        let next = [self.session.next_timeout(), media, over].into_iter().flatten().min();
        // A day stands for never: the state in which nothing is waited for ends by itself.
        let next = next.unwrap_or_else(|| now() + Duration::from_secs(86_400));
        if self.timer.deadline() != next.into() {
            self.timer.as_mut().reset(next.into());
        }
    }

    fn count_in(&self, count: usize) {
        self.open.received(count as u64);
        add(&self.shared.counters.bytes_in, count as u64);
    }

    /// Sends what the session has to say. A reader that does not take it is let go on at the next
    /// key picture.
    async fn flush(&mut self) -> Result<(), Error> {
        let out = self.session.output();
        if out.is_empty() {
            return Ok(());
        }
        let count = out.len() as u64;
        let (limit, began) = (self.shared.config.write_timeout, now());
        let written = async {
            self.socket.write_all(out).await?;
            self.socket.flush().await
        };
        let written = tokio::select! {
            () = self.open.cancel().cancelled() => return Err(self.cancelled()),
            written = tokio::time::timeout(limit, written) => written,
        };
        written.map_err(|_| Error::Stalled { what: "reading by the client", limit })??;
        self.session.output().clear();
        self.open.sent(count);
        add(&self.shared.counters.bytes_out, count);
        if let Role::Reads(reads) = &mut self.role
            && now().saturating_duration_since(began) >= self.shared.config.slow_after
        {
            reads.reader.skip_to_key();
        }
        Ok(())
    }

    /// Sends the last words and waits a moment for the client to go, so that they are not lost in
    /// a reset.
    async fn hang_up(&mut self) {
        if self.flush().await.is_ok() && self.socket.shutdown().await.is_ok() {
            let mut rest = [0; 1024];
            let gone = async { while matches!(self.socket.read(&mut rest).await, Ok(1..)) {} };
            let _ = tokio::time::timeout(LINGER, gone).await;
        }
    }

    fn cancelled(&self) -> Error {
        if self.shutdown.is_cancelled() {
            Error::Stopping
        } else if self.open.gave_way() {
            Error::GaveWay
        } else {
            Error::Kicked
        }
    }
}

impl Writes {
    /// Gives to the hub what was received; whether there was anything.
    fn give(&mut self) -> bool {
        let any = !self.out.is_empty();
        for output in self.out.drain(..) {
            match output {
                Output::Tracks(tracks) => self.writer.set_tracks(tracks),
                Output::Packet(packet) => self.writer.write(packet),
            }
        }
        any
    }
}
