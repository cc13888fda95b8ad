//! Settings: what they are, where they come from, which source wins.
//!
//! This folder is the only reader of arguments, environment and the settings file. Order of
//! strength: flag, environment (`MILLSTREAM_SECTION__KEY`), journal of API changes in the data
//! directory, file, default. Everything below gets a typed section. The [`Store`] holds the settings
//! in force and changes them while the node runs.

mod acme;
mod auth;
mod check;
mod events;
mod hls;
mod journal;
mod layers;
mod money;
mod protocols;
mod record;
mod remote;
mod rendition;
mod rtsp;
mod settings;
mod srt;
mod store;
mod tls;

pub use acme::{Acme, Challenge};
pub use auth::{Auth, Jwt, Permission, Right, User, Webhook};
pub(crate) use check::check_stream;
pub use check::{ALL_OTHERS, pattern};
pub use events::{Alerts, EventHook, Events};
pub use hls::Hls;
pub use journal::{Edit, Journal};
pub use layers::{JOURNAL, Layer, LoadError, Loaded, Source};
pub use money::{Amount, Price};
pub use protocols::{Http, IceServer, Rtmp, Rtmps, WebRtc};
pub use record::{Playback, RecordingStore, Recordings};
pub use remote::{PUSH_SCHEMES, Push, SOURCE_SCHEMES, Transport};
pub use rendition::{H264Profile, Rendition};
pub use rtsp::{Rtsp, Rtsps};
pub use settings::{
    Admin, Gateway, Latency, LogFormat, Logging, Metrics, Orchestrator, Payments, Pipeline, Role,
    Settings, Stream,
};
pub use srt::Srt;
pub use store::{Applied, ChangeError, Commit, Follower, Store, is_live};
pub use tls::Tls;
