//! Paths, headers and status codes to typed requests and back. No IO, nothing is looked up.
//!
//! A channel's name is one path element, or two: an unguessable one and the name that peers know,
//! `{128 bit}/{mid}-out`. Behind it may stand a segment index or the word `next`. With two
//! elements alone the path can mean a channel of two or a segment of a channel of one, and a name
//! may consist of digits; [`Place::Either`] leaves that to the one who knows the channels: an
//! existing channel of that whole name wins; then an existing channel of the first element, an
//! index-like last element, or a server on which peers make channels (of one element, as they know
//! them) mean a segment.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::channel::{INDEX_MAX, Start, Target};
use crate::error::Refusal;

/// The index really used.
pub(crate) const SEQ: &str = "lp-trickle-seq";
/// The write head.
pub(crate) const LATEST: &str = "lp-trickle-latest";
/// The channel is closed; any value.
pub(crate) const CLOSED: &str = "lp-trickle-closed";
/// The publisher restarted; any value.
pub(crate) const RESET: &str = "lp-trickle-reset";
/// The mime type of a channel to be made.
pub(crate) const EXPECT_CONTENT: &str = "expect-content";
/// The value of [`CLOSED`] that servers send.
pub(crate) const TERMINATED: &str = "terminated";
/// The status of a segment that the channel does not have.
pub(crate) const STATUS_NOT_AVAILABLE: u16 = 470;
/// The longest name of a channel, in bytes.
pub(crate) const NAME_MAX: usize = 256;
/// The longest path below the base that is looked at, in bytes.
const PATH_MAX: usize = 1024;
/// The longest mime type kept, in bytes.
const MIME_MAX: usize = 128;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `POST {name}`.
    Create,
    /// `DELETE {name}`.
    Close,
    /// `POST {name}/{seq}`.
    Publish,
    /// `GET {name}/{seq}`.
    Subscribe,
    /// `GET {name}/next`.
    Head,
    /// `DELETE {name}/{seq}`.
    CloseSegment,
}

impl Operation {
    /// The operation of a method on a channel (`place` is `None`) or on a place in one.
    pub(crate) fn of(method: &Method, place: Option<&str>) -> Option<Operation> {
        match (method.as_str(), place) {
            ("POST", None) => Some(Operation::Create),
            ("DELETE", None) => Some(Operation::Close),
            ("GET", Some("next")) => Some(Operation::Head),
            ("GET", Some(_)) => Some(Operation::Subscribe),
            ("POST", Some(_)) => Some(Operation::Publish),
            ("DELETE", Some(_)) => Some(Operation::CloseSegment),
            _ => None,
        }
    }
}

/// What a path below the base means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The channel of this name of one element.
    Channel(String),
    /// Either the channel `{first}/{last}`, or the place `last` in the channel `first`.
    Either {
        /// The first element.
        first: String,
        /// The second.
        last: String,
    },
    /// A place in the channel of this name of two elements.
    Segment {
        /// The channel's name.
        name: String,
        /// The last element, not looked at yet.
        place: String,
    },
}

impl Place {
    /// Reads the path below the base, without its leading slash, percent-encoded as it came.
    ///
    /// # Errors
    /// [`Refusal::Name`] when it cannot name a channel.
    pub(crate) fn parse(path: &str) -> Result<Place, Refusal> {
        if path.len() > PATH_MAX {
            return Err(Refusal::Name);
        }
        let mut elements = path.split('/').map(element);
        let (first, second, third) = (elements.next(), elements.next(), elements.next());
        if elements.next().is_some() {
            return Err(Refusal::Name);
        }
        match (first.transpose()?, second.transpose()?, third.transpose()?) {
            (Some(name), None, None) => Ok(Place::Channel(name)),
            (Some(first), Some(last), None) if first.len() + last.len() < NAME_MAX => {
                Ok(Place::Either { first, last })
            }
            (Some(first), Some(second), Some(place)) => {
                let name = format!("{first}/{second}");
                if name.len() > NAME_MAX {
                    return Err(Refusal::Name);
                }
                Ok(Place::Segment { name, place })
            }
            _ => Err(Refusal::Name),
        }
    }
}

/// Whether a text may name a channel: one or two elements of [`NAME_MAX`] bytes together.
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.split('/').count() <= 2
        && name.split('/').all(|part| element(part).is_ok_and(|decoded| decoded == part))
}

/// One path element, decoded. Printable, without slash, not a dot segment, not empty.
fn element(text: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or(Refusal::Name)?;
        let digits = std::str::from_utf8(digits).map_err(|_| Refusal::Name)?;
        if digits.starts_with('+') {
            return Err(Refusal::Name);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| Refusal::Name)?);
        rest = tail;
    }
    let allowed = |byte: &u8| byte.is_ascii_graphic() && !b"/\\?#%\"<>{}|^`".contains(byte);
    let name = String::from_utf8(bytes).map_err(|_| Refusal::Name)?;
    let length_fits = (1..=NAME_MAX).contains(&name.len());
    if !length_fits || !name.as_bytes().iter().all(allowed) || name == "." || name == ".." {
        return Err(Refusal::Name);
    }
    Ok(name)
}

/// Whether an element looks like a place in a channel: an integer, or `next`.
pub(crate) fn is_place(element: &str) -> bool {
    element == "next" || integer(element).is_some()
}

/// An optional sign and digits that fit 64 bits, as the peers' parser takes them.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// The index of a publish request: `-1` or a number.
///
/// # Errors
/// [`Refusal::Index`].
pub(crate) fn publish_index(text: &str) -> Result<Target, Refusal> {
    match integer(text) {
        Some(-1) => Ok(Target::Next),
        Some(index) => segment_index(index).map(Target::At),
        None => Err(Refusal::Index),
    }
}

/// The index of a subscribe request: `-1`, `-2` or a number.
///
/// # Errors
/// [`Refusal::Index`].
pub(crate) fn subscribe_index(text: &str) -> Result<Start, Refusal> {
    match integer(text) {
        Some(-1) => Ok(Start::Next),
        Some(-2) => Ok(Start::Current),
        Some(index) => segment_index(index).map(Start::At),
        None => Err(Refusal::Index),
    }
}

/// The index of a segment to be closed: a number.
///
/// # Errors
/// [`Refusal::Index`].
pub(crate) fn delete_index(text: &str) -> Result<u64, Refusal> {
    segment_index(integer(text).ok_or(Refusal::Index)?)
}

fn segment_index(index: i64) -> Result<u64, Refusal> {
    u64::try_from(index).ok().filter(|index| *index <= INDEX_MAX).ok_or(Refusal::Index)
}

/// A start as it stands in a path.
pub(crate) fn start_text(start: Start) -> String {
    match start {
        Start::Next => "-1".to_owned(),
        Start::Current => "-2".to_owned(),
        Start::At(index) => index.to_string(),
    }
}

/// An index in a header, where a peer gave a usable one.
pub(crate) fn index_header(headers: &HeaderMap, name: &str) -> Option<u64> {
    let index = integer(headers.get(name)?.to_str().ok()?.trim())?;
    u64::try_from(index).ok()
}

/// Whether a flag header is there and not empty.
pub(crate) fn flag_header(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| !value.as_bytes().is_empty())
}

/// A mime type from a header: printable, not too long, else nothing.
pub(crate) fn mime_header(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    ((1..=MIME_MAX).contains(&text.len())).then(|| text.to_owned())
}

/// The whole answer to a request that is not a running segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// Header fields beside the length.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// 200 without a body.
    pub(crate) fn ok() -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: String::new() }
    }

    /// A header field more. Values are digits or fixed words, so they are always valid.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
            self.headers.insert(name, value);
        }
        self
    }

    /// An error text with the newline that peers expect.
    pub(crate) fn error(status: u16, text: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let answer = Self { status, headers: HeaderMap::new(), body: format!("{text}\n") };
        answer
            .with("content-type", "text/plain; charset=utf-8")
            .with("x-content-type-options", "nosniff")
    }

    /// The end of a publish request, whole or empty.
    pub(crate) fn published(index: u64, empty: bool, closed: bool) -> Self {
        let answer = Self::ok().with(SEQ, index);
        let answer = if empty { answer.with("connection", "close") } else { answer };
        if empty && closed { answer.with(CLOSED, TERMINATED) } else { answer }
    }

    /// A segment that ended without a byte.
    pub(crate) fn empty_segment(index: u64, latest: u64, closed: bool) -> Self {
        let answer = Self::ok().with(SEQ, index).with(LATEST, latest);
        if closed { answer.with(CLOSED, TERMINATED) } else { answer }
    }

    /// The write head.
    pub(crate) fn next(latest: u64, closed: bool) -> Self {
        let mut answer = Self::ok().with(LATEST, latest);
        answer.body = latest.to_string();
        if closed { answer.with(CLOSED, TERMINATED) } else { answer }
    }

    /// A refusal in the network's words. `requested` is the index as it was asked for.
    pub(crate) fn refused(refusal: &Refusal, operation: Operation, requested: &str) -> Self {
        match refusal {
            Refusal::NotFound | Refusal::Name => match operation {
                Operation::Close => Self::error(400, "Invalid stream"),
                Operation::Publish => {
                    Self::error(404, "Stream not found").with("connection", "close")
                }
                _ => Self::error(404, "Stream not found"),
            },
            Refusal::Exists => Self::ok(),
            Refusal::Index => Self::error(400, "Invalid idx"),
            Refusal::NotAvailable { latest } => {
                let answer = Self::error(STATUS_NOT_AVAILABLE, "Entry not found");
                answer.with(SEQ, requested).with(LATEST, latest)
            }
            Refusal::NoSegment => Self::error(400, "Nonexistent segment"),
            Refusal::Closed => {
                let mut answer = Self::ok().with(SEQ, requested).with(CLOSED, TERMINATED);
                if operation == Operation::Publish {
                    return answer.with("connection", "close");
                }
                answer.body = "Entry not found".to_owned();
                answer
            }
            Refusal::PublishNotAllowed => Self::error(403, "Publish not allowed"),
            Refusal::SubscribeNotAllowed => Self::error(403, "Subscribe not allowed"),
            Refusal::SegmentTooLarge { .. } => Self::error(413, "Segment too large"),
            Refusal::TooManyChannels { .. } => Self::error(503, "Too many streams"),
            Refusal::TooManyReaders { .. } => Self::error(503, "Too many readers"),
            Refusal::TooManyWriters { .. } => Self::error(503, "Too many writers"),
            Refusal::Owner { status, text } => Self::error(*status, text),
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
