//! A stream pulled from a WHEP server: another node of ours, or anything else that serves WHEP. What is
//! received goes the way of a WHIP publisher's packets, with its retransmissions and key pictures on
//! demand.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{Call, Caller, refused};
use crate::hub::KeyRequests;
use crate::remote::{Ended, Error, Options, Sink, Target};
use crate::webrtc::Role;
use crate::webrtc::end::End;
use crate::webrtc::outlet::Outlet;
use crate::webrtc::publisher::Publisher;
use crate::webrtc::session::{Media, Session};

/// Pulls one stream until it ends.
///
/// # Errors
/// [`Error`]: the server cannot be reached, refuses, is silent, or went away.
pub async fn pull(
    target: &Target,
    options: &Options,
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let limit = options.connect_timeout;
    let connected = tokio::select! {
        () = stop.cancelled() => return Ok(Ended::Stopped),
        connected = tokio::time::timeout(limit, connect(target, options, sink)) => connected,
    };
    let mut call =
        connected.unwrap_or(Err(Error::Timeout { what: "answer of the WHEP server", limit }))?;
    let ended = run(&mut call, options, sink, stop).await;
    call.goodbye().await;
    ended
}

async fn connect(target: &Target, options: &Options, sink: &Sink) -> Result<Call, Error> {
    let caller = Caller::new(target, options).await?;
    let (answer, resource) = caller.ask(caller.ours.to_receive()).await?;
    let answered = caller.ours.receiving(&answer).map_err(|error| refused(&error))?;
    // Readers' wishes alone ask for key pictures: whoever publishes to the server decides otherwise.
    let publisher =
        |agreed: &_| Publisher::new(agreed, (Outlet::default(), Vec::new()), None, Vec::new());
    let media = |agreed: &_| Media::Publisher(Box::new(publisher(agreed)));
    caller.call((answered, resource), (Role::Publisher, sink.name()), media, options)
}

/// What has come so far.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Received {
    bytes: u64,
    /// RTP packets.
    packets: u64,
    /// Coded pictures and sound frames.
    units: u64,
}

fn received(session: &Session) -> Received {
    match &session.media {
        Media::Publisher(publisher) => Received {
            bytes: publisher.figures.bytes,
            packets: publisher.figures.packets,
            units: publisher.outlet.written,
        },
        Media::Viewer(_) => Received::default(),
    }
}

async fn run(
    call: &mut Call,
    options: &Options,
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let over = |end| match end {
        End::Replaced => Ok(Ended::Replaced),
        End::Silent => Err(silence(options)),
        end => match Call::over(end, "receiving media", options) {
            None => Ok(Ended::ByPeer),
            Some(error) => Err(error),
        },
    };
    // Readers' wishes for key pictures, once the stream is ours.
    let mut wishes = None;
    let (mut before, mut heard) = (Received::default(), Instant::now());
    loop {
        let now = Instant::now();
        let silent = heard + options.idle_timeout;
        let wake = call.next_timeout(now);
        let wake = if wishes.is_some() { wake.min(silent) } else { wake };
        let wish = async {
            match &mut wishes {
                Some(wishes) => KeyRequests::next(wishes).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            readable = call.readable() => {
                readable?;
                let mut refusal = None;
                // The stream is claimed between the handshake and the first packet of media.
                let claim = |session: &mut Session| {
                    if wishes.is_none() && session.is_connected() && refusal.is_none() {
                        match begin(session, sink) {
                            Ok(begun) => wishes = Some(begun),
                            Err(error) => refusal = Some(error),
                        }
                    }
                };
                let result = call.receive(None, claim);
                if let Some(error) = refusal {
                    return Err(error);
                }
                if let Err(end) = result {
                    return over(end);
                }
            }
            () = wish => call.session.want_key(None),
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        if let Err(end) = call.timeout() {
            return over(end);
        }
        let now = Instant::now();
        let after = received(&call.session);
        if wishes.is_none() || after.packets != before.packets {
            heard = now;
        } else if now >= silent {
            return Err(silence(options));
        }
        sink.status().count(after.bytes - before.bytes, after.units - before.units);
        before = after;
    }
}

const fn silence(options: &Options) -> Error {
    Error::Timeout { what: "media of the source", limit: options.idle_timeout }
}

/// Claims the stream for a session whose handshake is through.
fn begin(session: &mut Session, sink: &Sink) -> Result<KeyRequests, Error> {
    let remote = session.ice.selected().map(|path| path.remote.to_string());
    let writer = sink.publish("webrtc", remote.unwrap_or_default())?;
    let wishes = writer.key_requests();
    if let Media::Publisher(publisher) = &mut session.media {
        let both = publisher.has_both();
        publisher.outlet = if both { Outlet::of_both(writer) } else { Outlet::new(writer) };
    }
    Ok(wishes)
}
