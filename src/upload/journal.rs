//! Which segments the store has: a path a line, appended and flushed before anything is removed.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;

/// The largest journal in bytes that is read; a longer one is as none, and all is sent again.
const BYTES_MAX: u64 = 256 << 20;

/// The file.
pub(super) struct Journal(PathBuf);

impl Journal {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// What was sent. A line that was cut off names nothing that is there.
    pub(super) async fn read(&self) -> HashSet<String> {
        let fits = tokio::fs::metadata(&self.0).await.is_ok_and(|facts| facts.len() <= BYTES_MAX);
        if !fits {
            return HashSet::new();
        }
        let text = tokio::fs::read_to_string(&self.0).await.unwrap_or_default();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// One more was sent.
    pub(super) async fn append(&self, relative: &str) -> Result<()> {
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        let mut file = options.open(&self.0).await.context("the journal of uploads")?;
        // A line that was cut off ends here.
        file.write_all(format!("\n{relative}\n").as_bytes()).await?;
        file.sync_data().await.context("the journal of uploads")
    }

    /// These were sent, and no others that are still here.
    pub(super) async fn write(&self, sent: &HashSet<String>) -> Result<()> {
        let (path, mut text) = (self.0.clone(), String::new());
        for relative in sent {
            text.push_str(relative);
            text.push('\n');
        }
        let write = move || crate::identity::write_secret(&path, text.as_bytes());
        tokio::task::spawn_blocking(write).await?
    }
}
