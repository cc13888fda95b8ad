//! The certificate that TLS listeners show.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The certificate of all TLS listeners. The files are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Chain in PEM, the node's own certificate first; empty: a self-signed one in the data directory.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}
