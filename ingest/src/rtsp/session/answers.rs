//! What the shell found out, as answers to the request that waits for it.

use std::time::Instant;

use rtsp_types::{Method, StatusCode, Url};

use super::{Ask, Event, Medium, Pending, SESSION_TIMEOUT, Session, State};
use crate::rtp::packet::{RtpTime, Seq};
use crate::rtsp::describe::{self, Outgoing};
use crate::rtsp::digest;
use crate::rtsp::reply::Reply;

/// Wrong credentials on one connection, at most.
const FAILURES_MAX: u32 = 3;

impl Session {
    /// The client may do what it asked for.
    pub(in crate::rtsp) fn grant(&mut self, ask: &Ask) {
        self.granted = Some((ask.action, ask.path.clone()));
        self.failures = 0;
        self.proceed = true;
    }

    /// The client may not. `ask` says whether other credentials may help, `digest` whether a proof
    /// would do. Answers whether the client may try again.
    pub(in crate::rtsp) fn deny(
        &mut self,
        ask: &Ask,
        other_credentials: bool,
        digest: bool,
    ) -> bool {
        let Some(pending) = self.pending.take() else { return false };
        if !other_credentials {
            self.answer(&pending, StatusCode::Forbidden);
            return false;
        }
        self.failures += u32::from(ask.credentials.is_some());
        let mut reply = self.reply(&pending, StatusCode::Unauthorized);
        for line in digest::challenges(&self.facts.nonce, digest) {
            reply = reply.with("WWW-Authenticate", &line);
        }
        reply.write(&mut self.out);
        self.failures < FAILURES_MAX
    }

    /// Whether a proof holds for this password and our challenge.
    pub(in crate::rtsp) fn proves(&self, proof: &digest::Proof, password: &str) -> bool {
        proof.proves(password, &self.facts.nonce)
    }

    /// The tracks of the granted stream.
    pub(in crate::rtsp) fn describe(&mut self, outgoing: &[Outgoing]) {
        if outgoing.is_empty() {
            return self.refuse(StatusCode::NotFound, "the stream has nothing that RTSP can carry");
        }
        let of = |medium: &Outgoing| Medium {
            control: medium.control.clone(),
            format: None,
            setup: None,
        };
        self.media = outgoing.iter().map(of).collect();
        let Some(pending) = self.pending.take() else { return };
        if *pending.request.method() != Method::Describe {
            (self.pending, self.proceed) = (Some(pending), true);
            return;
        }
        let name = self.granted.as_ref().map_or("", |(_, path)| path);
        let text = describe::sdp(name, u64::from(self.turns) + 1, outgoing);
        let base = pending.request.request_uri().map(base).unwrap_or_default();
        self.reply(&pending, StatusCode::Ok)
            .with("Content-Base", &base)
            .with_body("application/sdp", text)
            .write(&mut self.out);
    }

    /// What was asked for cannot be done, and why.
    pub(in crate::rtsp) fn refuse(&mut self, status: StatusCode, words: &str) {
        if let Some(pending) = self.pending.take() {
            let reply = self.reply(&pending, status);
            reply.with_body("text/plain", words.as_bytes().to_vec()).write(&mut self.out);
        }
    }

    /// Sending begins; of each medium the first sequence number and time.
    pub(in crate::rtsp) fn playing(&mut self, now: Instant, infos: &[(usize, Seq, RtpTime)]) {
        let Some(pending) = self.pending.take() else { return };
        let info = infos.iter().filter_map(|(at, seq, time)| {
            let url = &self.media.get(*at)?.setup.as_ref()?.url;
            Some(format!("url={url};seq={};rtptime={}", seq.0, time.0))
        });
        let info = info.collect::<Vec<_>>().join(",");
        let mut reply = self.reply(&pending, StatusCode::Ok).with("Range", "npt=0.000-");
        if !info.is_empty() {
            reply = reply.with("RTP-Info", &info);
        }
        reply.write(&mut self.out);
        (self.state, self.touched) = (State::Playing, now);
    }

    /// The stream is the client's to write.
    pub(in crate::rtsp) fn recording(&mut self, now: Instant) {
        let Some(pending) = self.pending.take() else { return };
        self.answer(&pending, StatusCode::Ok);
        (self.state, self.touched) = (State::Recording, now);
    }

    pub(super) fn reply(&self, pending: &Pending, status: StatusCode) -> Reply {
        let reply = Reply::new(status, Some(&pending.sequence));
        match self.state {
            State::Idle => reply,
            _ => {
                let timeout = SESSION_TIMEOUT.as_secs();
                reply.with("Session", &format!("{};timeout={timeout}", self.id()))
            }
        }
    }

    pub(super) fn answer(&mut self, pending: &Pending, status: StatusCode) -> Option<Event> {
        self.reply(pending, status).write(&mut self.out);
        None
    }
}

/// The address that media are relative to: without query, which clients would append behind.
fn base(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither can fail for an address with a host, and credentials are not repeated.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    format!("{}/", url.as_str().trim_end_matches('/'))
}
