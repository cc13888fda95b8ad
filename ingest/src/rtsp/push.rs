//! Streams to other servers: `ANNOUNCE`, `RECORD`, and media inside the connection, which passes
//! where datagrams do not and tells by itself when the server is slow.

use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::TAKES;
use super::describe::{Outgoing, outgoing, sdp};
use super::line::{Line, READ_TALK, interleave, now};
use super::sender::{Chance, Sender, Wire};
use crate::hub::{Item, Reader};
use crate::remote::{Ended, Error, Options, Status, Target, Transport};
use crate::rtp::clock::Ntp;

/// How long a stream may have no tracks before pushing it has failed.
const TRACKS_LIMIT: Duration = Duration::from_secs(10);

/// The server is sent this many bytes at once, if they are there.
const WRITE_BATCH: usize = 64 << 10;

/// Pushes a stream until it ends.
///
/// # Errors
/// [`Error`]: what was being done, and why it cannot be.
pub async fn push(
    target: &Target,
    options: &Options,
    reader: Reader,
    status: &Status,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    if matches!(options.transport, Transport::Udp | Transport::Multicast) {
        return Err(target.fault("streams are pushed inside the connection (transport tcp)"));
    }
    let opened = stop.run_until_cancelled(Line::open(target, options)).await;
    let Some(opened) = opened else { return Ok(Ended::Stopped) };
    let mut line = opened?;
    let ended = stop.run_until_cancelled(run(&mut line, reader, options, status)).await;
    let ended = ended.unwrap_or(Ok(Ended::Stopped));
    if ended.is_ok() {
        line.goodbye().await;
    }
    ended
}

/// Channels of media: two for each, RTP and RTCP.
struct Interleaved<'a> {
    out: &'a mut Vec<u8>,
}

impl Wire for Interleaved<'_> {
    fn rtp(&mut self, medium: usize, header: &[u8], payload: &[u8]) {
        interleave(self.out, channels(medium).0, [header, payload]);
    }

    fn rtcp(&mut self, medium: usize, packet: &[u8]) {
        interleave(self.out, channels(medium).1, [packet, &[]]);
    }
}

/// The channels of a medium, of which there are two at most.
const fn channels(medium: usize) -> (u8, u8) {
    let rtp = 2 * medium as u8;
    (rtp, rtp + 1)
}

async fn run(
    line: &mut Line<'_>,
    mut reader: Reader,
    options: &Options,
    status: &Status,
) -> Result<Ended, Error> {
    let tracks = loop {
        match tokio::time::timeout(TRACKS_LIMIT, reader.next()).await {
            Ok(Item::Tracks(tracks)) => break tracks,
            Ok(Item::End) => return Ok(Ended::StreamOver),
            Ok(_) => {}
            Err(_) => {
                return Err(Error::Timeout { what: "tracks of the stream", limit: TRACKS_LIMIT });
            }
        }
    };
    let media = outgoing(&tracks);
    if media.is_empty() {
        let reason = format!("it has nothing that {} carries", TAKES.label);
        return Err(Error::Media { what: "the stream", reason });
    }
    let limit = options.connect_timeout;
    let agreed = tokio::time::timeout(limit, agree(line, &media)).await;
    agreed.map_err(|_| Error::Timeout { what: "answer to ANNOUNCE and RECORD", limit })??;
    // Connecting took time, in which the stream went on.
    reader.skip_to_key();
    let (began, wall) = (now(), Ntp::from_system(SystemTime::now()));
    let chance = || Chance { ssrc: rand::random(), seq: rand::random(), time: rand::random() };
    let sender = Sender::new(&tracks, Some, (began, wall), chance);
    status.connected();
    flow(line, reader, sender, status).await
}

/// Announces the media and sets each of them up.
async fn agree(line: &mut Line<'_>, media: &[Outgoing]) -> Result<(), Error> {
    let url = line.url().to_owned();
    let text = sdp("stream", 1, media);
    line.done("ANNOUNCE", &url, "Content-Type: application/sdp\r\n", text).await?;
    for (at, medium) in media.iter().enumerate() {
        let (rtp, rtcp) = channels(at);
        let transport =
            format!("Transport: RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp};mode=record\r\n");
        // A query would otherwise be in front of the name of the medium.
        let address = match url.split_once('?') {
            Some((path, query)) => format!("{path}/{}?{query}", medium.control),
            None => format!("{url}/{}", medium.control),
        };
        line.done("SETUP", &address, &transport, Vec::new()).await?;
    }
    line.done("RECORD", &url, "Range: npt=0.000-\r\n", Vec::new()).await?;
    Ok(())
}

/// Sends until the stream ends.
async fn flow(
    line: &mut Line<'_>,
    mut reader: Reader,
    mut sender: Sender,
    status: &Status,
) -> Result<Ended, Error> {
    loop {
        let alive = line.alive_at();
        let mut next = tokio::select! {
            read = line.read(READ_TALK) => {
                if read? == 0 {
                    return Ok(Ended::ByPeer);
                }
                None
            }
            item = reader.next() => Some(item),
            () = tokio::time::sleep_until(alive.into()) => None,
        };
        line.keep_alive();
        // Reports on what was received, and answers to signs of life.
        while line.answer()?.is_some() {}
        while let Some(item) = next {
            match item {
                Item::Packet(packet) => {
                    let out = line.output();
                    let before = out.len();
                    if let Err(error) = sender.send(&packet, now(), &mut Interleaved { out }) {
                        debug!(%error, "frame left out");
                    }
                    status.count((line.output().len() - before) as u64, 1);
                }
                Item::Tracks(tracks) if sender.fits(&tracks) => {}
                Item::Tracks(_) => {
                    let reason = "it is another now than was announced".to_owned();
                    return Err(Error::Media { what: "the stream", reason });
                }
                Item::Lagged(packets) => status.dropped(packets),
                Item::End => {
                    sender.goodbye(&mut Interleaved { out: line.output() });
                    return Ok(Ended::StreamOver);
                }
            }
            if line.output().len() >= WRITE_BATCH {
                line.flush().await?;
            }
            next = reader.try_next();
        }
        line.flush().await?;
    }
}
