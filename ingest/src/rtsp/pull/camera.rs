//! Cameras by `retina`, inside the connection or as datagrams.
//!
//! It reads the RTP of every coding, so sound and pictures that its own depacketisers do not know
//! (Opus, AV1) are pulled too. Over datagrams it leaves out what comes late; inside the connection,
//! which is tried first, nothing does.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt as _;
use retina::client::{
    Credentials, Described, InitialSequenceNumberPolicy, InitialTimestampPolicy, PacketItem,
    PlayOptions, Playing, Session, SessionOptions, SetupOptions, Transport as Lower,
    UnknownRtcpSsrcPolicy,
};
use retina::rtp::ReceivedPacket;
use tracing::debug;

use super::{Feed, Media, Opened};
use crate::remote::{Error, Options, Target, Transport};
use crate::rtp::packet::{RtpTime, Seq};
use crate::rtsp::announce::{self, Format};
use crate::rtsp::line::plain;
use crate::rtsp::receiver::Arrived;

/// The status of a server that does not have a transport (RFC 2326 11.3.14).
const UNSUPPORTED_TRANSPORT: u16 = 461;

/// A camera that plays.
pub(super) struct Camera {
    session: Pin<Box<Session<Playing>>>,
}

/// Why a session could not be opened.
enum Failed {
    /// The server does not have this transport; another may do.
    Transport(Error),
    Here(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

/// Opens a camera by the first transport that it has.
pub(super) async fn open(
    target: &Target,
    transport: Transport,
    options: &Options,
) -> Result<Opened<'static>, Error> {
    let limit = options.connect_timeout;
    let attempt = async |lower: Lower| {
        let datagrams = matches!(lower, Lower::Udp(_));
        let playing = tokio::time::timeout(limit, play(target, lower)).await;
        let late = Error::Timeout { what: "answer of the source", limit };
        let (session, formats) = playing.map_err(|_| Failed::Here(late))??;
        let formats = formats.into_iter().map(|format| (format, datagrams)).collect();
        Ok(Opened { feed: Feed::Camera(Camera { session: Box::pin(session) }), formats })
    };
    let mut found = Err(Failed::Here(target.fault("no transport is left")));
    if transport != Transport::Udp {
        found = attempt(Lower::Tcp(Default::default())).await;
    }
    if let Err(Failed::Transport(error)) = &found {
        debug!(%error, "the source is asked for datagrams");
    }
    let again = matches!(found, Err(Failed::Transport(_))) && transport == Transport::Automatic;
    if again || transport == Transport::Udp {
        found = attempt(Lower::Udp(Default::default())).await;
    }
    found.map_err(|(Failed::Transport(error) | Failed::Here(error))| error)
}

/// Describes, sets up what can be carried, and plays.
async fn play(
    target: &Target,
    lower: Lower,
) -> Result<(Session<Playing>, Vec<Option<Format>>), Failed> {
    let credentials = target.credentials();
    let credentials = credentials.map(|(username, password)| Credentials { username, password });
    let options = SessionOptions::default().user_agent("Millstream".into()).creds(credentials);
    let failed = |doing| move |error: retina::Error| refused(doing, &error);
    let described = Session::<Described>::describe(plain(target), options).await;
    let mut session = described.map_err(failed("DESCRIBE"))?;
    let media = announce::read(session.sdp())
        .map_err(|error| Error::Media { what: "the description", reason: error.to_string() })?;
    let formats: Vec<_> = media.into_iter().map(|medium| medium.format).collect();
    for (at, format) in formats.iter().enumerate().take(session.streams().len()) {
        if format.is_none() {
            continue;
        }
        let set_up = SetupOptions::default().transport(lower.clone());
        if let Err(error) = session.setup(at, set_up).await {
            let unsupported = error.status_code() == Some(UNSUPPORTED_TRANSPORT);
            let error = refused("SETUP", &error);
            return Err(if unsupported { Failed::Transport(error) } else { Failed::Here(error) });
        }
    }
    // Times and numbers are taken from the packets: what cameras say about them beforehand is
    // often wrong.
    let policy = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Permissive)
        .initial_seq(InitialSequenceNumberPolicy::Ignore)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
    let playing = session.play(policy).await.map_err(failed("PLAY"))?;
    Ok((playing, formats))
}

impl Camera {
    pub(super) async fn next(&mut self) -> Result<Option<(usize, Media)>, Error> {
        loop {
            return Ok(match self.session.next().await {
                None => None,
                Some(Err(error)) => return Err(Error::protocol("receiving", words(&error))),
                Some(Ok(PacketItem::Rtp(packet))) => {
                    Some((packet.stream_id(), Media::Read(arrived(packet))))
                }
                Some(Ok(PacketItem::Rtcp(packet))) => {
                    let bytes = Bytes::copy_from_slice(packet.raw());
                    Some((packet.stream_id(), Media::Rtcp(bytes)))
                }
                // `retina` may learn other kinds.
                Some(Ok(_)) => continue,
            });
        }
    }
}

fn arrived(packet: ReceivedPacket) -> Arrived {
    let head = packet.header();
    Arrived {
        ssrc: head.ssrc(),
        payload_type: head.payload_type(),
        seq: Seq(head.sequence_number()),
        time: RtpTime(head.timestamp()),
        marker: head.mark(),
        payload: packet.into_payload_bytes(),
    }
}

/// The first line of what `retina` says: the others tell addresses and positions of packets.
fn words(error: &retina::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn refused(what: &'static str, error: &retina::Error) -> Error {
    match error.status_code() {
        Some(_) => Error::Refused { what, reason: words(error) },
        None => Error::protocol(what, words(error)),
    }
}
