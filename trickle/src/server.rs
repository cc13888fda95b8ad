//! The channels of a node: made, found, announced, swept, closed.
//!
//! The node makes channels and reads and writes them in process; remote peers come through
//! [`Server::router`]. No task runs here by itself: the owner drives [`Server::maintain`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::channel::{ChannelStats, Start, Target};
use crate::config::{Access, Config};
use crate::error::{Error, Refusal};
use crate::live::{Live, OpenedHandle};
use crate::{http, local, publisher, subscriber};

/// The channel that announces channels.
pub const CHANGES: &str = "_changes";

/// The mime type of a channel that nobody gave one: what publishers send by default.
pub const MIME_DEFAULT: &str = "video/MP2T";

/// All channels of a node. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    channels: RwLock<HashMap<Arc<str>, Arc<Live>>>,
    closed: AtomicU64,
    swept: AtomicU64,
    refused: AtomicU64,
}

/// What a server carries at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Each channel by name, in the order of names.
    pub channels: Vec<(String, ChannelStats)>,
    /// Channels closed since the start, swept ones included.
    pub closed: u64,
    /// Channels closed for being idle.
    pub swept: u64,
    /// Requests refused.
    pub refused: u64,
}

impl Server {
    /// A server without channels (but `_changes` when the feed is on).
    pub fn new(config: Config) -> Self {
        let changefeed = config.changefeed;
        let server = Self {
            shared: Arc::new(Shared {
                config,
                channels: RwLock::new(HashMap::new()),
                closed: AtomicU64::new(0),
                swept: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            }),
        };
        if changefeed {
            let name: Arc<str> = CHANGES.into();
            let mime = "application/json".into();
            let limits = server.shared.config.limits;
            let live = Arc::new(Live::new(name.clone(), mime, Access::SUBSCRIBE, limits));
            server.shared.channels.write().insert(name, live);
        }
        server
    }

    /// Makes a channel. The node may do this at any time; `access` is what remote peers may do.
    ///
    /// A name is one path element, or an unguessable one and another: see
    /// [`crate::unguessable`]. Names beginning with `_` are never swept.
    ///
    /// # Errors
    /// [`Refusal::Name`], [`Refusal::Exists`], [`Refusal::TooManyChannels`].
    pub fn create(&self, name: &str, mime: &str, access: Access) -> Result<(), Refusal> {
        if !http::is_name(name) {
            return Err(Refusal::Name);
        }
        let mut channels = self.shared.channels.write();
        if channels.contains_key(name) {
            return Err(Refusal::Exists);
        }
        let limit = self.shared.config.limits.channels.max(1);
        if channels.len() >= limit {
            return Err(Refusal::TooManyChannels { limit });
        }
        let name: Arc<str> = name.into();
        let mime = if mime.is_empty() { MIME_DEFAULT } else { mime };
        let live = Live::new(name.clone(), mime.into(), access, self.shared.config.limits);
        channels.insert(name.clone(), Arc::new(live));
        announce(&channels, "added", &name);
        Ok(())
    }

    /// Closes and removes a channel: its readers end, waiting publish requests are cut.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn close(&self, name: &str) -> Result<(), Refusal> {
        let mut channels = self.shared.channels.write();
        let live = channels.remove(name).ok_or(Refusal::NotFound)?;
        live.close();
        self.shared.closed.fetch_add(1, Ordering::Relaxed);
        announce(&channels, "removed", name);
        Ok(())
    }

    /// Whether a channel of this name is open.
    pub fn contains(&self, name: &str) -> bool {
        self.shared.channels.read().contains_key(name)
    }

    /// Publishes in process, from the write head on.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn local_publisher(&self, name: &str) -> Result<publisher::Publisher, Error> {
        let live = self.find(name).map_err(|refusal| local::error(&name.into(), 0, refusal))?;
        let inner = local::Publisher::new(live, self.clone());
        Ok(publisher::Publisher { inner: publisher::Inner::Local(inner) })
    }

    /// Subscribes in process.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn local_subscriber(
        &self,
        name: &str,
        start: Start,
    ) -> Result<subscriber::Subscriber, Error> {
        let live = self.find(name).map_err(|refusal| local::error(&name.into(), 0, refusal))?;
        let inner = local::Subscriber::new(live, start);
        Ok(subscriber::Subscriber { inner: subscriber::Inner::Local(inner) })
    }

    /// Closes channels without a segment's first byte for [`crate::Limits::idle`], and returns
    /// their names.
    pub fn sweep(&self) -> Vec<String> {
        let now = Instant::now().into_std();
        let idle = self.shared.config.limits.idle;
        let is_idle = |live: &Live| {
            !live.name.starts_with('_') && now.saturating_duration_since(live.last_write()) >= idle
        };
        let found: Vec<String> = {
            let channels = self.shared.channels.read();
            channels.values().filter(|live| is_idle(live)).map(|l| l.name.to_string()).collect()
        };
        let mut swept = Vec::new();
        for name in found {
            // Written to meanwhile, or replaced by another of the same name.
            if self.find(&name).is_ok_and(|live| is_idle(&live)) && self.close(&name).is_ok() {
                self.shared.swept.fetch_add(1, Ordering::Relaxed);
                swept.push(name);
            }
        }
        swept
    }

    /// Sweeps at the set interval until it is dropped.
    pub async fn maintain(&self) {
        let every = self.shared.config.limits.sweep_every.max(std::time::Duration::from_millis(1));
        loop {
            tokio::time::sleep(every).await;
            for name in self.sweep() {
                tracing::info!(channel = %name, "closed an idle channel");
            }
        }
    }

    /// Closes all channels: readers and waiting writers end.
    pub fn close_all(&self) {
        let names: Vec<_> = self.shared.channels.read().keys().cloned().collect();
        for name in names {
            // Somebody may have closed it meanwhile.
            self.close(&name).ok();
        }
    }

    /// Counters of all channels.
    pub fn snapshot(&self) -> Snapshot {
        let mut channels: Vec<(String, ChannelStats)> = {
            let channels = self.shared.channels.read();
            channels.values().map(|live| (live.name.to_string(), live.stats())).collect()
        };
        channels.sort_by(|a, b| a.0.cmp(&b.0));
        Snapshot {
            channels,
            closed: self.shared.closed.load(Ordering::Relaxed),
            swept: self.shared.swept.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<Live>, Refusal> {
        self.shared.channels.read().get(name).cloned().ok_or(Refusal::NotFound)
    }

    pub(crate) fn count_refusal(&self) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes one event to the change feed, where there is one.
fn announce(channels: &HashMap<Arc<str>, Arc<Live>>, what: &'static str, name: &str) {
    let Some(feed) = channels.get(CHANGES) else { return };
    let event = serde_json::json!({ what: [name] }).to_string();
    // The feed is written under the lock of the names, so events come in order. It refuses only
    // when it is closed itself, and then nobody reads it.
    if let Ok(OpenedHandle::Open(mut segment)) = feed.open(Target::Next, false)
        && segment.append(Bytes::from(event)).is_ok()
    {
        segment.finish();
    }
}
