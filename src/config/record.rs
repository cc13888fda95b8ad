//! Settings of recordings and their playback. What single streams say of it is in
//! [`super::Stream`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::settings::loopback;

/// Where recordings lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recordings {
    /// The folder; empty: `recordings` in the data directory.
    pub dir: PathBuf,
    /// Bytes that stay free on its disk: recording stops before it is full.
    pub free_bytes_min: u64,
    /// Where complete segments are sent.
    pub store: RecordingStore,
}

impl Default for Recordings {
    fn default() -> Self {
        let store = RecordingStore::default();
        Self { dir: PathBuf::new(), free_bytes_min: 256 << 20, store }
    }
}

/// An object store for recordings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordingStore {
    /// `s3://bucket/prefix`, `gs://...`, `az://...` or `file:///folder`; empty for none.
    pub url: String,
    /// Whether segments stay in the folder of recordings when the store has them, until their
    /// stream's rule lets them go.
    pub keep_local: bool,
    /// What the store wants to know besides, by the names of the crate `object_store`: `region`,
    /// `endpoint`, `access_key_id`, ... They are stronger than the environment.
    pub options: BTreeMap<String, String>,
}

impl Default for RecordingStore {
    fn default() -> Self {
        Self { url: String::new(), keep_local: true, options: BTreeMap::new() }
    }
}

/// Recordings over HTTP, port 9996.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Playback {
    /// Whether the listener runs.
    pub enabled: bool,
    /// Address and port; both plain HTTP and HTTPS are answered on it.
    pub listen: SocketAddr,
    /// Ranges that are sent at the same time.
    pub transfers_max: usize,
}

impl Default for Playback {
    fn default() -> Self {
        Self { enabled: false, listen: loopback(9996), transfers_max: 64 }
    }
}
