//! Streams from cameras and other servers. What is received goes the way of a publisher's packets,
//! through [`Receiver`].
//!
//! Cameras in the clear are the business of `retina` ([`camera`]), which knows what they get wrong.
//! It has no TLS: `rtsps://` is played inside a connection of our own ([`player`]).

mod camera;
mod player;

use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::announce::Format;
use super::line::{address, now};
use super::receiver::{Arrived, MediaError, Output, Receiver};
use crate::hub::Writer;
use crate::remote::{Ended, Error, Options, Sink, Target, Transport};
use crate::rtp::rtcp::{Message, messages};
use camera::Camera;
use player::Player;

/// Broken packets in a row that end an attempt.
const BROKEN_MAX: u32 = 100;

/// What came of a medium.
enum Media {
    /// A packet as it is on the wire.
    Rtp(Bytes),
    /// A packet whose header was read.
    Read(Arrived),
    Rtcp(Bytes),
}

impl Media {
    const fn length(&self) -> usize {
        match self {
            Self::Rtp(packet) | Self::Rtcp(packet) => packet.len(),
            Self::Read(packet) => packet.payload.len(),
        }
    }
}

/// A source that plays, and the formats of its media by number; `true` for datagrams.
struct Opened<'a> {
    feed: Feed<'a>,
    formats: Vec<(Option<Format>, bool)>,
}

enum Feed<'a> {
    Camera(Camera),
    Player(Box<Player<'a>>),
}

impl Feed<'_> {
    /// The next packet, with the number of its medium; `None` at the end. Cancelling it loses
    /// nothing.
    async fn next(&mut self) -> Result<Option<(usize, Media)>, Error> {
        match self {
            Self::Camera(camera) => camera.next().await,
            Self::Player(player) => player.next().await,
        }
    }

    /// When [`Self::keep`] is due besides.
    const fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Camera(_) => None,
            Self::Player(player) => Some(player.next_timeout()),
        }
    }

    /// Sends reports, by medium, and what else the source wants to hear.
    async fn keep(&mut self, reports: &[(usize, Vec<u8>)]) -> Result<(), Error> {
        match self {
            // `retina` gives its own signs of life and has no way for our reports.
            Self::Camera(_) => Ok(()),
            Self::Player(player) => player.keep(reports).await,
        }
    }
}

/// Pulls one stream until it ends. What travels inside the connection is tried first; a server
/// that has no such transport is asked for datagrams.
///
/// # Errors
/// [`Error`]: what was being done, and why it cannot be.
pub async fn pull(
    target: &Target,
    options: &Options,
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let (host, port) = address(target)?;
    let opening = async {
        match (target.scheme(), options.transport) {
            (_, Transport::Multicast) => Err(target.fault("multicast is not spoken")),
            ("rtsps", Transport::Udp) => {
                Err(target.fault("with TLS media travels inside the connection (transport tcp)"))
            }
            ("rtsps", _) => player::open(target, options).await,
            (_, transport) => camera::open(target, transport, options).await,
        }
    };
    let Some(opened) = stop.run_until_cancelled(opening).await else { return Ok(Ended::Stopped) };
    let Opened { mut feed, formats } = opened?;
    let receiver = Receiver::new(&formats, rand::random());
    let playing = Playing::of(&formats);
    let writer = sink.publish("rtsp", format_args!("{host}:{port}"))?;
    let flowing = flow(&mut feed, (receiver, playing), writer, options, sink);
    let ended = stop.run_until_cancelled(flowing).await.unwrap_or(Ok(Ended::Stopped));
    if let (Ok(_), Feed::Player(player)) = (&ended, feed) {
        player.goodbye().await;
    }
    ended
}

/// Takes packets until the source or the stream ends.
async fn flow(
    feed: &mut Feed<'_>,
    (mut receiver, mut playing): (Receiver, Playing),
    mut writer: Writer,
    options: &Options,
    sink: &Sink,
) -> Result<Ended, Error> {
    let (mut out, mut broken, mut heard) = (Vec::new(), 0, now());
    let mut wishes = writer.key_requests();
    loop {
        let due = heard + options.idle_timeout;
        let timers = [receiver.next_timeout(), feed.next_timeout(), Some(due)];
        let wake = timers.into_iter().flatten().min().unwrap_or(due);
        let item = tokio::select! {
            () = writer.closed() => return Ok(Ended::Replaced),
            item = feed.next() => match item? {
                None => return Ok(Ended::ByPeer),
                some => some,
            },
            () = wishes.next() => {
                receiver.want_key();
                None
            }
            () = tokio::time::sleep_until(wake.into()) => None,
        };
        let arrived = now();
        let Some((at, media)) = item else {
            if arrived >= due {
                let limit = options.idle_timeout;
                return Err(Error::Timeout { what: "media of the source", limit });
            }
            let reports = receiver.handle_timeout(arrived, &mut out);
            give(&mut writer, sink, &mut out);
            feed.keep(&reports).await?;
            continue;
        };
        sink.status().count(media.length() as u64, 0);
        let taken = match media {
            Media::Rtcp(packet) => {
                receiver.rtcp(at, &packet, arrived);
                if says_goodbye(&packet) && playing.goes(at) {
                    return Ok(Ended::ByPeer);
                }
                continue;
            }
            Media::Rtp(packet) => receiver.rtp(at, &packet, arrived, &mut out),
            Media::Read(packet) => receiver.packet(at, packet, arrived, &mut out),
        };
        heard = arrived;
        playing.comes(at);
        give(&mut writer, sink, &mut out);
        broken = match taken {
            Ok(()) => 0,
            Err(error) => passed_over(&error, broken + 1)?,
        };
    }
}

/// The media that have not said goodbye, a bit each; what has comes back with its next packet, since
/// some senders say goodbye when they only change their SSRC.
struct Playing(u64);

impl Playing {
    fn of(formats: &[(Option<Format>, bool)]) -> Self {
        let media = formats.iter().enumerate().filter(|(_, (format, _))| format.is_some());
        Self(media.fold(0, |all, (at, _)| all | Self::bit(at)))
    }

    fn comes(&mut self, at: usize) {
        self.0 |= Self::bit(at);
    }

    /// Whether it was the last.
    fn goes(&mut self, at: usize) -> bool {
        self.0 &= !Self::bit(at);
        self.0 == 0
    }

    /// An SDP has 16 media at most.
    const fn bit(at: usize) -> u64 {
        1 << (at & 63)
    }
}

fn says_goodbye(packet: &[u8]) -> bool {
    messages(packet).map_while(Result::ok).any(|message| matches!(message, Message::Goodbye(_)))
}

/// Counts a packet that cannot be used.
fn passed_over(error: &MediaError, broken: u32) -> Result<u32, Error> {
    debug!(%error, broken, "RTP packet of a source passed over");
    match broken {
        BROKEN_MAX.. => {
            let reason = format!("{broken} in a row cannot be used, the last one: {error}");
            Err(Error::Media { what: "RTP packets", reason })
        }
        _ => Ok(broken),
    }
}

fn give(writer: &mut Writer, sink: &Sink, out: &mut Vec<Output>) {
    for output in out.drain(..) {
        match output {
            Output::Tracks(tracks) => writer.set_tracks(tracks),
            Output::Packet(packet) => {
                sink.status().count(0, 1);
                writer.write(packet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp::Compound;

    #[test]
    fn a_source_is_over_when_all_its_media_have_said_goodbye() {
        let mut playing = Playing(0b101);
        assert!(!playing.goes(0) && !playing.goes(0));
        playing.comes(0);
        assert!(!playing.goes(2), "the first is back");
        assert!(playing.goes(0));
        let (mut with, mut without) = (Vec::new(), Vec::new());
        Compound::new(&mut with).receiver_report(1, &[]).goodbye(&[1]);
        Compound::new(&mut without).receiver_report(1, &[]);
        assert!(says_goodbye(&with) && !says_goodbye(&without) && !says_goodbye(b"junk"));
    }
}
