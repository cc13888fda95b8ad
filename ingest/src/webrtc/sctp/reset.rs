//! Streams are closed by resetting them (RFC 6525 as RFC 8831 6.7 uses it): each side asks the
//! other to start its numbers anew, one request at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::wire::{Parameters, parameter, u16_at, u32_at};

/// Streams of ours that wait to be reset; a channel has one, so four do. Some of refused ones.
const WISHES_MAX: usize = 16;

/// Streams named in one request that are looked at.
const STREAMS_MAX: usize = 64;

/// Parameters of one chunk that are looked at; a chunk has two at most.
const PARAMETERS_MAX: usize = 2;

/// Times that a request is made before the peer counts as gone.
const TRIES_MAX: u32 = 10;

const OUTGOING_RESET: u16 = 13;
const RESPONSE: u16 = 16;

const NOTHING_TO_DO: u32 = 0;
const PERFORMED: u32 = 1;
const DENIED: u32 = 2;
const BAD_NUMBER: u32 = 5;
const IN_PROGRESS: u32 = 6;

/// Resets of one association.
pub(super) struct Resets {
    /// The number of our next request.
    ours: u32,
    wishes: VecDeque<u16>,
    asked: Option<Asked>,
    /// The number of the peer's next request.
    theirs: u32,
    /// What the last one was answered.
    answered: u32,
    /// A request that waits for data that was sent before it: the last TSN and the streams.
    held: Option<(u32, Vec<u16>)>,
}

struct Asked {
    parameter: Vec<u8>,
    due: Instant,
    wait: Duration,
    tries: u32,
    send: bool,
}

impl Resets {
    /// None so far. Requests are counted from the first TSN.
    pub(super) fn new(ours: u32, theirs: u32) -> Self {
        Self {
            ours,
            wishes: VecDeque::new(),
            asked: None,
            theirs,
            answered: NOTHING_TO_DO,
            held: None,
        }
    }

    /// A stream of ours is to be reset.
    pub(super) fn wish(&mut self, stream: u16) {
        if self.wishes.len() < WISHES_MAX && !self.wishes.contains(&stream) {
            self.wishes.push_back(stream);
        }
    }

    /// Reads a RE-CONFIG chunk: the streams that the peer reset, and answers.
    pub(super) fn read(&mut self, body: &[u8], cumulative: u32) -> (Vec<u16>, Vec<Vec<u8>>) {
        let (mut streams, mut answers) = (Vec::new(), Vec::new());
        for (kind, value) in Parameters(body).take(PARAMETERS_MAX) {
            let Some(number) = u32_at(value, 0) else { continue };
            let result = match kind {
                OUTGOING_RESET => self.requested(number, value, cumulative, &mut streams),
                RESPONSE => {
                    self.response(number, u32_at(value, 4));
                    continue;
                }
                _ => DENIED,
            };
            let value = [number.to_be_bytes(), result.to_be_bytes()].concat();
            answers.push(parameter(RESPONSE, &value));
        }
        (streams, answers)
    }

    fn requested(
        &mut self,
        number: u32,
        value: &[u8],
        cumulative: u32,
        streams: &mut Vec<u16>,
    ) -> u32 {
        if number.wrapping_add(1) == self.theirs && self.held.is_none() {
            return self.answered;
        }
        let (Some(last), Some(list)) = (u32_at(value, 8), value.get(12..)) else { return DENIED };
        if number == self.theirs {
            self.theirs = number.wrapping_add(1);
            let list = list.chunks_exact(2).take(STREAMS_MAX);
            let list = list.filter_map(|pair| u16_at(pair, 0)).collect();
            self.held = Some((last, list));
        } else if number.wrapping_add(1) != self.theirs {
            return BAD_NUMBER;
        }
        streams.extend(self.due(cumulative));
        self.answered = if self.held.is_some() { IN_PROGRESS } else { PERFORMED };
        self.answered
    }

    /// Streams whose reset was held back until now.
    pub(super) fn due(&mut self, cumulative: u32) -> Vec<u16> {
        let came = |last: u32| cumulative.wrapping_sub(last).cast_signed() >= 0;
        match self.held.take_if(|(last, _)| came(*last)) {
            Some((_, streams)) => {
                self.answered = PERFORMED;
                streams
            }
            None => Vec::new(),
        }
    }

    fn response(&mut self, number: u32, result: Option<u32>) {
        // While the peer is at it, it is asked again when the timer says so.
        let ours = number == self.ours.wrapping_sub(1);
        if ours && result.is_some_and(|result| result != IN_PROGRESS) {
            self.asked = None;
        }
    }

    /// The request that is to be sent now, if there is one.
    pub(super) fn request(&mut self, now: Instant, last: u32, rto: Duration) -> Option<Vec<u8>> {
        if self.asked.is_none() && !self.wishes.is_empty() {
            let mut value = Vec::with_capacity(12 + 2 * self.wishes.len());
            value.extend_from_slice(&self.ours.to_be_bytes());
            value.extend_from_slice(&self.theirs.wrapping_sub(1).to_be_bytes());
            value.extend_from_slice(&last.to_be_bytes());
            value.extend(self.wishes.drain(..).flat_map(u16::to_be_bytes));
            self.ours = self.ours.wrapping_add(1);
            let parameter = parameter(OUTGOING_RESET, &value);
            self.asked = Some(Asked { parameter, due: now + rto, wait: rto, tries: 1, send: true });
        }
        let asked = self.asked.as_mut().filter(|asked| asked.send)?;
        asked.send = false;
        Some(asked.parameter.clone())
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.asked.as_ref().map(|asked| asked.due)
    }

    /// Asks again; false when that was often enough.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.due <= now) else { return true };
        asked.send = true;
        asked.tries += 1;
        asked.wait *= 2;
        asked.due = now + asked.wait;
        asked.tries <= TRIES_MAX
    }
}
