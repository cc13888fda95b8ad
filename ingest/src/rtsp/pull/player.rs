//! A stream that plays inside a connection of our own.

use std::time::Instant;

use rtsp_types::Response;
use rtsp_types::headers::{CONTENT_BASE, CONTENT_LOCATION, TRANSPORT};

use super::{Feed, Media, Opened};
use crate::remote::{Error, Options, Target};
use crate::rtsp::announce::{self, Format};
use crate::rtsp::call::{Answer, text};
use crate::rtsp::line::{Line, interleave};
use crate::rtsp::transport::{Lower, choose};

/// Read at once while media flows, in bytes.
const READ_MEDIA: usize = 64 << 10;

/// A source that plays.
pub(super) struct Player<'a> {
    line: Line<'a>,
    /// Channels of RTP and RTCP, by medium.
    channels: Vec<Option<(u8, u8)>>,
}

/// Connects, and lets what can be carried play.
pub(super) async fn open<'a>(target: &Target, options: &'a Options) -> Result<Opened<'a>, Error> {
    let limit = options.connect_timeout;
    let line = Line::open(target, options).await?;
    let mut player = Player { line, channels: Vec::new() };
    let formats = tokio::time::timeout(limit, player.play()).await;
    let formats = formats.map_err(|_| Error::Timeout { what: "answer of the source", limit })??;
    let formats = formats.into_iter().map(|format| (format, false)).collect();
    Ok(Opened { feed: Feed::Player(Box::new(player)), formats })
}

impl Player<'_> {
    /// Describes, sets up and plays; the formats of all media.
    async fn play(&mut self) -> Result<Vec<Option<Format>>, Error> {
        let url = self.line.url().to_owned();
        let accept = "Accept: application/sdp\r\n";
        let described = self.line.done("DESCRIBE", &url, accept, Vec::new()).await?;
        let media = announce::read(described.body())
            .map_err(|error| Error::Media { what: "the description", reason: error.to_string() })?;
        let base = base(&described, &url);
        for (at, medium) in media.iter().enumerate() {
            // An SDP has 16 media at most.
            let wanted = (2 * at as u8, 2 * at as u8 + 1);
            if medium.format.is_none() {
                self.channels.push(None);
                continue;
            }
            let (rtp, rtcp) = wanted;
            let transport = format!("Transport: RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}\r\n");
            let address = address(&base, &medium.control);
            let answer = self.line.done("SETUP", &address, &transport, Vec::new()).await?;
            self.channels.push(Some(channels(&answer, wanted)?));
        }
        self.line.done("PLAY", &base, "Range: npt=0.000-\r\n", Vec::new()).await?;
        Ok(media.into_iter().map(|medium| medium.format).collect())
    }

    pub(super) async fn next(&mut self) -> Result<Option<(usize, Media)>, Error> {
        loop {
            match self.line.answer()? {
                Some(Answer::Frame { channel, payload }) => {
                    let media = self.channels.iter().enumerate();
                    let mut found = media.filter_map(|(at, channels)| match (*channels)? {
                        (rtp, _) if rtp == channel => Some((at, Media::Rtp(payload.clone()))),
                        (_, rtcp) if rtcp == channel => Some((at, Media::Rtcp(payload.clone()))),
                        _ => None,
                    });
                    // What was not set up is passed over: some cameras send it nevertheless.
                    if let Some(found) = found.next() {
                        return Ok(Some(found));
                    }
                }
                Some(Answer::Done(_) | Answer::Again) => {}
                None => {
                    if self.line.read(READ_MEDIA).await? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    pub(super) const fn next_timeout(&self) -> Instant {
        self.line.alive_at()
    }

    pub(super) async fn keep(&mut self, reports: &[(usize, Vec<u8>)]) -> Result<(), Error> {
        for (at, report) in reports {
            if let Some((_, rtcp)) = self.channels.get(*at).copied().flatten() {
                interleave(self.line.output(), rtcp, [report, &[]]);
            }
        }
        self.line.keep_alive();
        self.line.flush().await
    }

    pub(super) async fn goodbye(self) {
        self.line.goodbye().await;
    }
}

/// What the addresses of media are relative to (RFC 2326 C.1.1).
fn base(described: &Response<Vec<u8>>, url: &str) -> String {
    let said = text(described, &CONTENT_BASE).or_else(|| text(described, &CONTENT_LOCATION));
    let said = said.map(str::trim).filter(|base| base.starts_with("rtsp"));
    said.unwrap_or(url).trim_end_matches('/').to_owned()
}

/// Where a medium is set up. A name goes behind the whole base, its query included, as servers
/// expect it.
fn address(base: &str, control: &str) -> String {
    match control {
        "" | "*" => base.to_owned(),
        whole if whole.starts_with("rtsp://") || whole.starts_with("rtsps://") => whole.to_owned(),
        name => format!("{base}/{}", name.trim_start_matches('/')),
    }
}

/// The channels that the server has chosen; those that were asked for, if it does not say.
fn channels(answer: &Response<Vec<u8>>, wanted: (u8, u8)) -> Result<(u8, u8), Error> {
    let refused = |reason: &str| Error::Refused { what: "SETUP", reason: reason.to_owned() };
    let Some(header) = text(answer, &TRANSPORT) else { return Ok(wanted) };
    match choose(header, false) {
        Ok(offer) => match offer.lower {
            Some(Lower::Tcp(rtp, rtcp)) => Ok((rtp, rtcp)),
            _ => Ok(wanted),
        },
        Err(_) => Err(refused("the server has not taken media inside the connection")),
    }
}

#[cfg(test)]
mod tests {
    use rtsp_types::{StatusCode, Version};

    use super::*;

    #[test]
    fn media_are_found_relative_to_what_the_server_says() {
        let response = |base: &str| {
            Response::builder(Version::V1_0, StatusCode::Ok)
                .header(CONTENT_BASE, base)
                .build(Vec::new())
        };
        let url = "rtsp://h/cam?channel=1";
        assert_eq!(base(&response("rtsp://h/cam/"), url), "rtsp://h/cam");
        assert_eq!(base(&response("nonsense"), url), url);
        assert_eq!(address(url, "trackID=0"), "rtsp://h/cam?channel=1/trackID=0");
        assert_eq!(address("rtsp://h/cam", "*"), "rtsp://h/cam");
        assert_eq!(address("rtsp://h/cam", "rtsp://other/x"), "rtsp://other/x");
    }

    #[test]
    fn the_server_may_choose_other_channels_and_nothing_but_channels() {
        let answer = |transport: &str| {
            Response::builder(Version::V1_0, StatusCode::Ok)
                .header(TRANSPORT, transport)
                .build(Vec::new())
        };
        let taken = |transport: &str| channels(&answer(transport), (0, 1)).ok();
        assert_eq!(taken("RTP/AVP/TCP;unicast;interleaved=4-5;ssrc=1"), Some((4, 5)));
        assert_eq!(taken("RTP/AVP/TCP;unicast"), Some((0, 1)));
        assert_eq!(taken("RTP/AVP;unicast;client_port=1-2"), None);
    }
}
