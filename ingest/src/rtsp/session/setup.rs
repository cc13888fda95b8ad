//! `SETUP`: one medium gets its road. A medium is set up once; channels and ports are its own.

use rtsp_types::headers::{SESSION, TRANSPORT};
use rtsp_types::{StatusCode, Url};

use super::{Event, Pending, Session, Setup, State, text};
use crate::auth::Action;
use crate::rtsp::transport::{Lower, Unusable, choose};

impl Session {
    pub(super) fn setup_request(&mut self, pending: Pending) -> Option<Event> {
        let Some(url) = pending.request.request_uri().cloned() else {
            return self.answer(&pending, StatusCode::BadRequest);
        };
        let anew = self.state == State::Ready && text(&pending.request, &SESSION).is_none();
        if anew && self.is(Action::Publish) {
            return self.answer(&pending, StatusCode::MethodNotValidInThisState);
        }
        if anew {
            // A reader that got nothing by datagrams tries again over the connection.
            self.media.iter_mut().for_each(|medium| medium.setup = None);
            (self.state, self.turns) = (State::Idle, self.turns.wrapping_add(1));
            (self.pending, self.proceed) = (Some(pending), true);
            return Some(Event::Reset);
        }
        if self.media.is_empty() {
            // No DESCRIBE came before: the last part of the path names the medium.
            let path = url.path().trim_matches('/');
            let Some((stream, _)) = path.rsplit_once('/') else {
                return self.answer(&pending, StatusCode::NotFound);
            };
            return self.once_allowed(pending, Action::Read, stream.to_owned());
        }
        let Some(at) = self.medium_at(&url) else {
            return self.answer(&pending, StatusCode::NotFound);
        };
        if self.media[at].setup.is_some() {
            return self.answer(&pending, StatusCode::MethodNotValidInThisState);
        }
        let header = text(&pending.request, &TRANSPORT).unwrap_or_default();
        let lower = match choose(header, self.facts.udp) {
            Ok(offer) => match offer.lower.or_else(|| self.free_channels()) {
                Some(lower) if self.is_free(lower) => lower,
                _ => return self.malformed(&pending, "these channels or ports are taken"),
            },
            Err(Unusable::Unsupported) => {
                return self.answer(&pending, StatusCode::UnsupportedTransport);
            }
            Err(Unusable::Malformed(what)) => return self.malformed(&pending, what),
        };
        if let Lower::Udp(rtp, rtcp) = lower {
            self.pending = Some(Pending { lower: Some(lower), ..pending });
            return Some(Event::Open { medium: at, ports: (rtp, rtcp) });
        }
        self.set_up(at, lower, &pending, None);
        None
    }

    /// The ports of a `SETUP` are open; `server` are ours.
    pub(in crate::rtsp) fn opened(&mut self, medium: usize, server: (u16, u16)) {
        let Some(pending) = self.pending.take() else { return };
        if let Some(lower) = pending.lower {
            self.set_up(medium, lower, &pending, Some(server));
        }
    }

    fn set_up(&mut self, at: usize, lower: Lower, pending: &Pending, server: Option<(u16, u16)>) {
        let url = pending.request.request_uri().map(address).unwrap_or_default();
        let Some(medium) = self.media.get_mut(at) else { return };
        medium.setup = Some(Setup { lower, url });
        self.state = State::Ready;
        let transport = match (lower, server) {
            (Lower::Tcp(rtp, rtcp), _) => {
                // From here on the client has shown that it may use the stream.
                self.framing.long_frames = true;
                format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}")
            }
            (Lower::Udp(rtp, rtcp), server) => {
                let (ours, ours_rtcp) = server.unwrap_or_default();
                format!(
                    "RTP/AVP/UDP;unicast;client_port={rtp}-{rtcp};server_port={ours}-{ours_rtcp}"
                )
            }
        };
        self.reply(pending, StatusCode::Ok).with("Transport", &transport).write(&mut self.out);
    }

    fn malformed(&mut self, pending: &Pending, what: &str) -> Option<Event> {
        let reply = self.reply(pending, StatusCode::BadRequest);
        reply.with_body("text/plain", what.as_bytes().to_vec()).write(&mut self.out);
        None
    }

    /// The medium that an address names: its control is the whole address or what it ends with.
    fn medium_at(&self, url: &Url) -> Option<usize> {
        let (_, granted) = self.granted.as_ref()?;
        let path = url.path().trim_start_matches('/');
        let rest = path.strip_prefix(granted.as_str())?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let whole = url.as_str().trim_end_matches('/');
        let named = |control: &str| {
            let control = control.trim_matches('/');
            let rest = whole.strip_suffix(control);
            !control.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        };
        let found = self.media.iter().position(|medium| named(&medium.control));
        // A stream of one medium may be set up by its own address.
        found.or_else(|| (self.media.len() == 1 && path.trim_matches('/') == granted).then_some(0))
    }

    fn taken(&self) -> impl Iterator<Item = Lower> {
        self.media.iter().filter_map(|medium| Some(medium.setup.as_ref()?.lower))
    }

    fn is_free(&self, wanted: Lower) -> bool {
        self.taken().all(|taken| match (taken, wanted) {
            (Lower::Tcp(a, b), Lower::Tcp(c, d)) => ![a, b].contains(&c) && ![a, b].contains(&d),
            (Lower::Udp(a, b), Lower::Udp(c, d)) => ![a, b].contains(&c) && ![a, b].contains(&d),
            _ => true,
        })
    }

    fn free_channels(&self) -> Option<Lower> {
        (0..=254).step_by(2).map(|rtp| Lower::Tcp(rtp, rtp + 1)).find(|lower| self.is_free(*lower))
    }
}

/// An address as it is repeated to the client: without credentials.
fn address(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
