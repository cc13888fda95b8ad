//! The controlling side of ICE (RFC 8445) towards a server that answers: checks that nominate, from
//! one socket to each of its candidates until one answers, then now and then for its consent
//! (RFC 7675).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc_srtp::crypto::RTCCrypto;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute,
};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;

use crate::webrtc::ice::Credentials;

/// Candidates that are tried.
pub(super) const CANDIDATES_MAX: usize = 16;

/// Between two checks before one was answered (RFC 8445 14.2).
const PACE: Duration = Duration::from_millis(50);

/// Between two checks for consent, which runs out after 30 s.
const CONSENT_EVERY: Duration = Duration::from_secs(5);

/// After a check for consent that was not answered.
const CONSENT_AGAIN: Duration = Duration::from_millis(500);

/// Checks whose answers are waited for.
const PENDING_MAX: usize = 64;

/// The priority that a peer would see of us: a host candidate, learned by its check.
const PRIORITY: u32 = (110 << 24) + (65_535 << 8) + 255;

/// One session's checks.
pub(super) struct Checks {
    /// `theirs:ours`.
    username: String,
    /// The server's.
    password: String,
    tie_breaker: u64,
    candidates: Vec<SocketAddr>,
    next: usize,
    at: Instant,
    pending: VecDeque<(TransactionId, SocketAddr)>,
    valid: Option<SocketAddr>,
}

impl Checks {
    /// Checks of these candidates, of which the first is due at once.
    pub(super) fn new(
        now: Instant,
        ours: &Credentials,
        theirs: &Credentials,
        candidates: Vec<SocketAddr>,
        tie_breaker: u64,
    ) -> Self {
        Self {
            username: format!("{}:{}", theirs.ufrag, ours.ufrag),
            password: theirs.password.clone(),
            tie_breaker,
            candidates,
            next: 0,
            at: now,
            pending: VecDeque::new(),
            valid: None,
        }
    }

    /// When [`Self::poll`] has a check.
    pub(super) fn next_timeout(&self) -> Instant {
        self.at
    }

    /// The next check that is due, and where it goes.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        id: TransactionId,
        crypto: &dyn RTCCrypto,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        if now < self.at {
            return None;
        }
        let to = match self.valid {
            Some(valid) => valid,
            None => *self.candidates.get(self.next % self.candidates.len().max(1))?,
        };
        self.next += 1;
        self.at = now + if self.valid.is_some() { CONSENT_AGAIN } else { PACE };
        if self.pending.len() == PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((id, to));
        let raw = |typ, value: Vec<u8>| RawAttribute { typ, length: value.len() as u16, value };
        let setters: [Box<dyn Setter + '_>; 8] = [
            Box::new(BINDING_REQUEST),
            Box::new(id),
            Box::new(TextAttribute::new(ATTR_USERNAME, self.username.clone())),
            Box::new(raw(ATTR_PRIORITY, PRIORITY.to_be_bytes().to_vec())),
            Box::new(raw(ATTR_ICE_CONTROLLING, self.tie_breaker.to_be_bytes().to_vec())),
            Box::new(raw(ATTR_USE_CANDIDATE, Vec::new())),
            Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
                self.password.clone(),
                crypto,
            )),
            Box::new(FINGERPRINT),
        ];
        let mut message = Message::new();
        message.build(&setters).ok()?;
        Some((to, message.raw))
    }

    /// Reads an answer that came from `from`; true when the server proved to be there.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> bool {
        let mut message = Message::new();
        if message.unmarshal_binary(datagram).is_err() || message.typ != BINDING_SUCCESS {
            return false;
        }
        let known =
            |(id, to): &(TransactionId, SocketAddr)| *id == message.transaction_id && *to == from;
        let Some(place) = self.pending.iter().position(known) else { return false };
        if MessageIntegrity::check(&mut message, self.password.as_bytes(), crypto).is_err() {
            return false;
        }
        self.pending.remove(place);
        // The first that answers is nominated: with one socket of ours there is little to choose.
        let valid = *self.valid.get_or_insert(from);
        if valid == from {
            self.at = now + CONSENT_EVERY;
        }
        valid == from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webrtc::stun::Check;
    use rtc_srtp::crypto::default_provider;

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.into(), password: format!("password of {name}") }
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 8189))
    }

    #[test]
    fn candidates_are_tried_in_turn_until_one_answers_and_then_asked_for_consent() {
        let provider = default_provider().unwrap();
        let crypto = provider.crypto();
        let (mut now, ours, theirs) = (Instant::now(), credentials("ours"), credentials("them"));
        let both = vec![address(1), address(2)];
        let mut checks = Checks::new(now, &ours, &theirs, both, 7);
        let mut sent = Vec::new();
        for n in 0..4 {
            assert_eq!(checks.next_timeout(), now);
            let (to, check) = checks.poll(now, TransactionId([n; 12]), crypto).unwrap();
            assert!(checks.poll(now, TransactionId([9; 12]), crypto).is_none());
            sent.push((to, check));
            now += PACE;
        }
        let order: Vec<SocketAddr> = sent.iter().map(|(to, _)| *to).collect();
        assert_eq!(order, [address(1), address(2), address(1), address(2)]);
        // What a server of ours says to it.
        let mut check = Check::parse(&sent[1].1).unwrap();
        assert_eq!((check.ours(), check.theirs()), (&b"them"[..], &b"ours"[..]));
        assert!(check.verify(&theirs.password, crypto).unwrap().nominated);
        let answer = check.success(address(9), &theirs.password, crypto).unwrap();
        assert!(!checks.answered(now, address(1), &answer, crypto), "from elsewhere");
        let forged = check.success(address(9), "guessed", crypto).unwrap();
        assert!(!checks.answered(now, address(2), &forged, crypto), "without the password");
        assert!(checks.answered(now, address(2), &answer, crypto));
        assert!(!checks.answered(now, address(2), &answer, crypto), "twice");
        assert_eq!(checks.next_timeout(), now + CONSENT_EVERY);
        now += CONSENT_EVERY;
        let (to, _) = checks.poll(now, TransactionId([5; 12]), crypto).unwrap();
        assert_eq!((to, checks.next_timeout()), (address(2), now + CONSENT_AGAIN));
        assert!(!checks.answered(now, address(2), b"\x01\x01", crypto));
    }

    #[test]
    fn without_candidates_there_is_nothing_to_check() {
        let provider = default_provider().unwrap();
        let (now, one) = (Instant::now(), credentials("one"));
        let mut checks = Checks::new(now, &one, &one, Vec::new(), 0);
        assert!(checks.poll(now, TransactionId([1; 12]), provider.crypto()).is_none());
    }
}
