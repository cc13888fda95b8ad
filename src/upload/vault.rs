//! What is in the store, for who plays recordings back: read in pieces, removed, and remembered for
//! as long as the store has it.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use ingest::record::{Moment, Recordings, Vault};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::sync::Semaphore;
use tracing::info;

use super::store::without_secrets;

/// Requests to the store at the same time, of all who play back.
const REQUESTS_MAX: usize = 32;

/// The longest that one may take, waiting for its turn too.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Keys that are looked at when it is asked what the store has; of more, nothing is concluded.
const KEYS_MAX: usize = 1_000_000;

/// The longest that such a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(600);

/// The store as playback sees it.
pub(super) struct Shelf {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Key,
    requests: Semaphore,
}

impl Shelf {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: Key) -> Self {
        Self { store, prefix, requests: Semaphore::new(REQUESTS_MAX) }
    }

    /// The key of a segment.
    pub(super) fn key(&self, relative: &str) -> Result<Key, object_store::path::Error> {
        match self.prefix.as_ref() {
            "" => Key::parse(relative),
            prefix => Key::parse(format!("{prefix}/{relative}")),
        }
    }

    /// Asks within the limits; `None` for what the store has not.
    async fn ask<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> io::Result<Option<T>> {
        let asked = async {
            let _place = self.requests.acquire().await;
            request.await
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, asked).await {
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long")),
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Ok(Err(error)) => Err(io::Error::other(without_secrets(&error.to_string()))),
        }
    }

    /// Forgets segments that the store has lost since: its own rules remove them.
    pub(super) async fn reconcile(&self, recordings: &Recordings, now: Moment) -> Result<()> {
        let remembered =
            recordings.remembered().await.context("what is remembered of the store")?;
        if remembered.is_empty() {
            return Ok(());
        }
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let mut keys = HashSet::new();
        let mut listed = self.store.list(prefix);
        let look = async {
            while let Some(object) = listed.next().await {
                keys.insert(object?.location);
                if keys.len() > KEYS_MAX {
                    anyhow::bail!("more than {KEYS_MAX} keys");
                }
            }
            Ok(())
        };
        tokio::time::timeout(LOOK_TIMEOUT, look).await.context("listing takes too long")??;
        for ghost in remembered {
            // What came while this looked may not be listed.
            let gone = self.key(&ghost.relative).is_ok_and(|key| !keys.contains(&key));
            if gone && ghost.modified < now {
                info!(path = ghost.relative, "a segment is no longer in the store");
                recordings.forget(&ghost.relative).await?;
            }
        }
        Ok(())
    }
}

fn impossible(error: object_store::path::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

impl Vault for Shelf {
    fn read(&self, relative: &str, range: Range<u64>) -> BoxFuture<'_, io::Result<Bytes>> {
        let key = self.key(relative);
        Box::pin(async move {
            let key = key.map_err(impossible)?;
            let bytes = self.ask(self.store.get_range(&key, range)).await?;
            bytes.ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn has(&self, relative: &str) -> BoxFuture<'_, io::Result<bool>> {
        let key = self.key(relative);
        Box::pin(async move {
            let key = key.map_err(impossible)?;
            Ok(self.ask(self.store.head(&key)).await?.is_some())
        })
    }

    fn remove(&self, relative: &str) -> BoxFuture<'_, io::Result<()>> {
        let key = self.key(relative);
        Box::pin(async move {
            let key = key.map_err(impossible)?;
            self.ask(self.store.delete(&key)).await.map(|_| ())
        })
    }
}
