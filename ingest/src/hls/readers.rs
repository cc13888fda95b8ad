//! Players and their sessions: HLS has no connection, so a player is who shows a session's secret
//! now and then.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::segmenter::Format;
use crate::auth::{Grant, Request};
use crate::name::StreamName;
use crate::sessions::{Open, SessionState, Sessions};

/// A player that asks for nothing for so long is paused and not counted.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// A session that was not used for so long is forgotten. Players that are paused come back.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The sessions.
pub(super) struct Readers {
    sessions: Sessions,
    max: usize,
    by_secret: Mutex<HashMap<String, Reader>>,
}

struct Reader {
    open: Open,
    /// The stream as it was asked for, and as it is really read.
    asked: StreamName,
    name: StreamName,
    last: Instant,
    /// The muxer whose files it took last.
    at: (StreamName, Format),
}

/// Why a session is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No such session, or not of this stream.
    Unknown,
    /// It was ended.
    Over,
}

impl Readers {
    pub(super) fn new(max: usize) -> Self {
        Self { sessions: Sessions::new("hls"), max, by_secret: Mutex::default() }
    }

    pub(super) fn sessions(&self) -> Sessions {
        self.sessions.clone()
    }

    /// Begins a session; answers its secret, `None` when there are too many.
    pub(super) fn begin(
        &self,
        remote: SocketAddr,
        request: &Request,
        grant: Grant,
        format: Format,
    ) -> Option<String> {
        let mut readers = self.by_secret.lock();
        if readers.len() >= self.max {
            return None;
        }
        // 128 random bits.
        let secret = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        let mut open = self.sessions.open(remote, CancellationToken::new());
        open.limit(grant.lifetime);
        open.begin(SessionState::Read, grant.name.clone(), &request.user, &request.query);
        let asked = request.name.clone();
        let at = (grant.name.clone(), format);
        let reader = Reader { open, asked, name: grant.name, last: Instant::now(), at };
        readers.insert(secret.clone(), reader);
        Some(secret)
    }

    /// The stream that a session reads under the name that it asked for.
    pub(super) fn check(&self, secret: &str, asked: &StreamName) -> Result<StreamName, Refused> {
        let mut readers = self.by_secret.lock();
        let reader = readers.get_mut(secret).filter(|reader| reader.asked == *asked);
        let reader = reader.ok_or(Refused::Unknown)?;
        if reader.open.cancel().is_cancelled() {
            return Err(Refused::Over);
        }
        reader.last = Instant::now();
        Ok(reader.name.clone())
    }

    /// A session takes something of this muxer.
    pub(super) fn is_at(&self, secret: &str, muxer: (&StreamName, Format)) {
        if let Some(reader) = self.by_secret.lock().get_mut(secret)
            && (&reader.at.0, reader.at.1) != muxer
        {
            reader.at = (muxer.0.clone(), muxer.1);
        }
    }

    /// Counts bytes sent to a session.
    pub(super) fn sent(&self, secret: &str, bytes: u64) {
        if let Some(reader) = self.by_secret.lock().get(secret) {
            reader.open.sent(bytes);
        }
    }

    /// Forgets who was silent for long; answers how many players are at each muxer.
    pub(super) fn sweep(&self) -> HashMap<(StreamName, Format), usize> {
        let mut counts = HashMap::new();
        self.by_secret.lock().retain(|_, reader| {
            let silent = reader.last.elapsed();
            let over = reader.open.cancel().is_cancelled();
            if silent < SILENT_AFTER && !over {
                *counts.entry(reader.at.clone()).or_default() += 1;
            }
            // An ended session is remembered as such for a while, so that its player is refused
            // and does not begin another by the same address.
            silent < if over { SILENT_AFTER * 6 } else { FORGOTTEN_AFTER }
        });
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Action;

    #[test]
    fn players_beyond_the_limit_get_no_session() {
        let readers = Readers::new(2);
        let remote = SocketAddr::from(([127, 0, 0, 1], 5));
        let come = || {
            let name = StreamName::parse("cam").unwrap();
            let headers = http::HeaderMap::new();
            let request = Request::over_http(Action::Read, name, "hls", remote.ip(), &headers, "");
            readers.begin(remote, &request, Grant::of(&request), Format::Ts)
        };
        let (first, second) = (come().unwrap(), come().unwrap());
        assert_ne!(first, second);
        assert_eq!(come(), None);
        let name = StreamName::parse("cam").unwrap();
        assert_eq!(readers.check(&first, &name), Ok(name), "those who are there go on");
    }
}
