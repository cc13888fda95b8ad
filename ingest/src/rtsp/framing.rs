//! From bytes of a connection to requests, responses and interleaved frames (RFC 2326 10.12), with
//! a bound on each of them. Reading of heads is `rtsp-types`'; this file decides how much may wait.

use std::num::NonZeroUsize;

use bytes::{Buf, Bytes, BytesMut};
use rtsp_types::{Message, ParseError, Request, Response};

/// Bytes of a request's or response's head, at most.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;

/// Lines of a head, at most.
const LINES_MAX: usize = 64;

/// Bytes of a body, at most: an SDP.
pub(super) const BODY_BYTES_MAX: usize = 32 << 10;

/// Bytes of an interleaved frame before anything was set up, at most.
pub(super) const FRAME_BYTES_EARLY_MAX: usize = 4 << 10;

/// Bytes of `$`, channel and length.
pub(super) const FRAME_HEAD_BYTES: usize = 4;

/// Why bytes are not RTSP. The connection cannot go on: what follows cannot be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// Neither a message nor a frame begins here.
    #[error("byte {0:#04x} begins no RTSP message")]
    Start(u8),
    /// More than 16 KiB or 64 lines of head.
    #[error("the head of a message has more than {HEAD_BYTES_MAX} bytes or {LINES_MAX} lines")]
    Head,
    /// A head that cannot be read.
    #[error("a message head of {0} bytes cannot be read")]
    Malformed(usize),
    /// `Content-Length` is beyond the limit.
    #[error("a body of {0} bytes, at most {BODY_BYTES_MAX} are taken")]
    Body(usize),
    /// An interleaved frame is too long for this early.
    #[error("an interleaved frame of {0} bytes before anything was set up")]
    Frame(usize),
}

/// What was found.
#[derive(Debug)]
pub(super) enum Input {
    Request(Request<Vec<u8>>),
    Response(Box<Response<Vec<u8>>>),
    Frame { channel: u8, payload: Bytes },
}

/// Finds messages in a buffer that grows at its end.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Bytes of the buffer in which no end of a head was found.
    scanned: usize,
    /// Bytes of the message at the front, once they are known.
    whole: Option<NonZeroUsize>,
    /// Whether frames of any length may come.
    pub(super) long_frames: bool,
}

impl Framing {
    /// For what a server says that we have chosen: its frames may have any length from the start.
    pub(super) fn of_server() -> Self {
        Self { long_frames: true, ..Self::default() }
    }

    /// The next message, taken from the front of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FramingError`].
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Input>, FramingError> {
        if self.scanned == 0 {
            // Some clients end a body with a line of their own.
            let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            input.advance(blank);
        }
        match input.first() {
            None => return Ok(None),
            Some(b'$') => return self.frame(input),
            Some(b'A'..=b'Z' | b'a'..=b'z') => {}
            Some(&other) => return Err(FramingError::Start(other)),
        }
        let whole = match self.whole {
            Some(whole) => whole.get(),
            None => match self.measure(input)? {
                Some(whole) => whole,
                None => return Ok(None),
            },
        };
        if input.len() < whole {
            self.whole = NonZeroUsize::new(whole);
            return Ok(None);
        }
        let bytes = input.split_to(whole);
        *self = Self { long_frames: self.long_frames, ..Self::default() };
        match Message::parse(&bytes[..]) {
            Ok((Message::Request(request), _)) => Ok(Some(Input::Request(request))),
            Ok((Message::Response(response), _)) => Ok(Some(Input::Response(Box::new(response)))),
            _ => Err(FramingError::Malformed(whole)),
        }
    }

    /// Bytes of the message at the front, once its head is there.
    fn measure(&mut self, input: &BytesMut) -> Result<Option<usize>, FramingError> {
        let from = self.scanned.saturating_sub(3);
        let end = input[from..].windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end.map(|at| from + at + 4) else {
            self.scanned = input.len();
            return if input.len() > HEAD_BYTES_MAX { Err(FramingError::Head) } else { Ok(None) };
        };
        let head = &input[..end];
        if end > HEAD_BYTES_MAX || head.iter().filter(|byte| **byte == b'\n').count() > LINES_MAX {
            return Err(FramingError::Head);
        }
        match Message::<Vec<u8>>::parse(head) {
            Ok((_, length)) if length == end => Ok(Some(end)),
            Err(ParseError::Incomplete(Some(body))) if body.get() <= BODY_BYTES_MAX => {
                Ok(Some(end + body.get()))
            }
            Err(ParseError::Incomplete(Some(body))) => Err(FramingError::Body(body.get())),
            _ => Err(FramingError::Malformed(end)),
        }
    }

    fn frame(&mut self, input: &mut BytesMut) -> Result<Option<Input>, FramingError> {
        let Some(&[_, channel, high, low]) = input.first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > FRAME_BYTES_EARLY_MAX && !self.long_frames {
            return Err(FramingError::Frame(length));
        }
        if input.len() < FRAME_HEAD_BYTES + length {
            input.reserve(FRAME_HEAD_BYTES + length - input.len());
            return Ok(None);
        }
        input.advance(FRAME_HEAD_BYTES);
        Ok(Some(Input::Frame { channel, payload: input.split_to(length).freeze() }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<String>, FramingError> {
        let mut framing = Framing { long_frames: true, ..Framing::default() };
        let (mut input, mut found) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            while let Some(next) = framing.next(&mut input)? {
                found.push(match next {
                    Input::Request(request) => {
                        format!("{} {}", <&str>::from(request.method()), request.body().len())
                    }
                    Input::Response(_) => "response".to_owned(),
                    Input::Frame { channel, payload } => format!("${channel} {}", payload.len()),
                });
            }
        }
        Ok(found)
    }

    const MIXED: &[u8] = b"\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x01\0\x02ab\
        ANNOUNCE rtsp://h/cam RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 3\r\n\r\nv=0\r\n\
        RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n$\0\0\0";

    #[test]
    fn messages_and_frames_are_found_however_they_are_cut() {
        for step in 1..MIXED.len() {
            let found = all(MIXED, step).unwrap();
            assert_eq!(found, ["OPTIONS 0", "$1 2", "ANNOUNCE 3", "response", "$0 0"], "by {step}");
        }
    }

    #[test]
    fn what_is_too_large_or_no_rtsp_is_refused_before_it_is_kept() {
        let refused = |bytes: &[u8]| all(bytes, 1).unwrap_err();
        assert_eq!(refused(b"\x16\x03\x01"), FramingError::Start(0x16));
        assert_eq!(refused(&[b'A'; HEAD_BYTES_MAX + 1]), FramingError::Head);
        let flood = [b"OPTIONS * RTSP/1.0\r\n".to_vec(), b"A: b\r\n".repeat(64), b"\r\n".to_vec()];
        assert_eq!(refused(&flood.concat()), FramingError::Head);
        let body = |length: &str| format!("OPTIONS * RTSP/1.0\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(refused(body("32769").as_bytes()), FramingError::Body(32769));
        let endless = body(&usize::MAX.to_string());
        assert_eq!(refused(endless.as_bytes()), FramingError::Body(usize::MAX));
        assert!(matches!(refused(body("-1").as_bytes()), FramingError::Malformed(_)));
        assert!(matches!(refused(b"GET / HTTP/1.1\r\n\r\n"), FramingError::Malformed(_)));
        let mut framing = Framing::default();
        let early = framing.next(&mut BytesMut::from(&b"$\0\xff\xff"[..]));
        assert!(matches!(early, Err(FramingError::Frame(0xffff))));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_messages_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1..50_usize,
        ) {
            let _ = all(&bytes, step);
        }
    }
}
