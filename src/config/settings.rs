//! Every setting with its unit, its default and the reason for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use indexmap::IndexMap;
use payments::price::{PricePerPixel, Wei};
use serde::{Deserialize, Serialize};

use super::acme::Acme;
use super::auth::Auth;
use super::events::Events;
use super::hls::Hls;
use super::money::{Amount, Price};
use super::protocols::{Http, Rtmp, Rtmps, WebRtc};
use super::record::{Playback, Recordings};
use super::remote::{Push, Transport};
use super::rendition::Rendition;
use super::rtsp::{Rtsp, Rtsps};
use super::srt::Srt;
use super::tls::Tls;

/// What a process is. Any set of them runs in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Faces publishers and viewers, chooses and pays orchestrators.
    Gateway,
    /// Sells work, checks payment, redeems winners.
    Orchestrator,
}

/// All settings of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where keys, certificate, tickets, ledger and the journal of API changes are kept.
    pub data_dir: PathBuf,
    /// What this process is.
    pub roles: Vec<Role>,
    /// Bind the listeners for people and peers to all addresses. A publish credential must be set.
    pub public: bool,
    /// Seconds that running sessions get to end after SIGTERM.
    pub drain_seconds: u64,
    /// Logs.
    pub log: Logging,
    /// The certificate of TLS listeners.
    pub tls: Tls,
    /// Who certifies the node, if anybody is asked.
    pub acme: Acme,
    /// RTMP listener.
    pub rtmp: Rtmp,
    /// SRT listener.
    pub srt: Srt,
    /// RTMPS listener.
    pub rtmps: Rtmps,
    /// RTSP listener.
    pub rtsp: Rtsp,
    /// RTSPS listener.
    pub rtsps: Rtsps,
    /// Pages, WHIP and WHEP.
    pub http: Http,
    /// WebRTC media.
    pub webrtc: WebRtc,
    /// HLS, on the listener of `http`.
    pub hls: Hls,
    /// Where recordings lie.
    pub recordings: Recordings,
    /// Recordings over HTTP.
    pub playback: Playback,
    /// Console and API.
    pub admin: Admin,
    /// Prometheus metrics and health.
    pub metrics: Metrics,
    /// Who may publish and read.
    pub auth: Auth,
    /// Who is told what happens to streams.
    pub events: Events,
    /// The gateway role.
    pub gateway: Gateway,
    /// The orchestrator role.
    pub orchestrator: Orchestrator,
    /// Money.
    pub payments: Payments,
    /// What is done to pictures.
    pub pipeline: Pipeline,
    /// What streams have that say nothing else themselves.
    pub stream_defaults: Stream,
    /// Settings of streams by name, by regular expression (`~^cam(\\d+)$`) or for `all_others`; they
    /// win over `stream_defaults`, `pipeline` and `rtmp`. The order is that of the file.
    pub streams: IndexMap<String, Stream>,
    /// Per-frame traces for `millstream bench latency`.
    pub latency: Latency,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            roles: vec![Role::Gateway, Role::Orchestrator],
            public: false,
            drain_seconds: 5,
            log: Logging::default(),
            tls: Tls::default(),
            acme: Acme::default(),
            rtmp: Rtmp::default(),
            srt: Srt::default(),
            rtmps: Rtmps::default(),
            rtsp: Rtsp::default(),
            rtsps: Rtsps::default(),
            http: Http::default(),
            webrtc: WebRtc::default(),
            hls: Hls::default(),
            recordings: Recordings::default(),
            playback: Playback::default(),
            admin: Admin::default(),
            metrics: Metrics::default(),
            auth: Auth::default(),
            events: Events::default(),
            gateway: Gateway::default(),
            orchestrator: Orchestrator::default(),
            payments: Payments::default(),
            pipeline: Pipeline::default(),
            stream_defaults: Stream::default(),
            streams: IndexMap::new(),
            latency: Latency::default(),
        }
    }
}

/// Wei of one ether.
const ETHER: u128 = 1_000_000_000_000_000_000;

fn amount(wei: u128) -> Amount {
    Amount(Wei::new(wei))
}

fn price(wei: u64) -> Price {
    PricePerPixel::new(wei, 1).map_or_else(|| unreachable!("one is not zero"), Price)
}

pub(super) const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs go to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// Level or filter, `info` or `info,ingest=debug` say.
    pub level: String,
    /// Line format.
    pub format: LogFormat,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Console and API. Stays on loopback also with `public`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port.
    pub listen: SocketAddr,
    /// Token asked of clients that are not on loopback, and of all when set. Empty: loopback only.
    pub token: String,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: loopback(9997), token: String::new() }
    }
}

/// `/metrics`, `/healthz`, `/readyz`. Stays on loopback also with `public`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: loopback(9998) }
    }
}

/// The gateway role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Addresses of orchestrators. Empty in a process that is also an orchestrator: itself.
    pub orchestrators: Vec<String>,
    /// Highest price paid, in wei per pixel (`"3/2"` is 3 wei for 2 pixels).
    pub price_max: Price,
    /// Milliseconds that an orchestrator gets to answer while it is being chosen.
    pub discovery_timeout_ms: u64,
    /// Milliseconds without output, while input runs, after which another orchestrator is taken.
    pub output_timeout_ms: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            orchestrators: Vec::new(),
            price_max: price(100_000),
            discovery_timeout_ms: 500,
            output_timeout_ms: 500,
        }
    }
}

/// The orchestrator role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Orchestrator {
    /// Address and port of the one TLS listener for peers.
    pub listen: SocketAddr,
    /// How peers reach this node; empty: `https://` and the listen address.
    pub service_uri: String,
    /// Price in wei per pixel (`"3/2"` is 3 wei for 2 pixels); `"0"` works for nothing.
    pub price: Price,
    /// Live sessions at the same time; 0: twice the number of processor cores, at least 4.
    pub sessions_max: usize,
}

impl Default for Orchestrator {
    fn default() -> Self {
        Self {
            listen: loopback(8935),
            service_uri: String::new(),
            // About the network's usual price for live video.
            price: price(1200),
            sessions_max: 0,
        }
    }
}

/// Money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Payments {
    /// A ticket wins once in so many frames and then pays as many fees; at least 2. Higher means
    /// rarer winners and fewer redemptions.
    pub win_one_in: u64,
    /// Database of the local ledger, shared by the gateways and orchestrators that settle with
    /// each other: a path of a SQLite file or a `postgres://` URL; empty: in the data directory.
    pub ledger: String,
    /// Local ledger: wei of deposit given to this node's gateway at first start.
    pub ledger_deposit: Amount,
    /// Local ledger: wei of reserve given to this node's gateway at first start.
    pub ledger_reserve: Amount,
    /// Local ledger: milliseconds of a block.
    pub ledger_block_ms: u64,
    /// Local ledger: blocks in a round.
    pub ledger_round_blocks: u64,
    /// Largest face value of a ticket, in wei, that this node's gateway signs for.
    pub face_value_max: Amount,
    /// Wei that this node's gateway may spend in all.
    pub budget: Amount,
}

impl Default for Payments {
    fn default() -> Self {
        Self {
            win_one_in: 1000,
            face_value_max: amount(ETHER / 100),
            ledger: String::new(),
            ledger_deposit: amount(ETHER),
            ledger_reserve: amount(ETHER),
            ledger_block_ms: 1000,
            ledger_round_blocks: 3600,
            budget: amount(ETHER),
        }
    }
}

/// What is done to pictures of streams without a setting of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pipeline {
    /// `none`, `default` (edges and a clock), `passthrough`, or the path of a ComfyUI API prompt.
    pub graph: String,
    /// Folder of ONNX models that graphs may name.
    pub models_dir: PathBuf,
    /// ONNX Runtime's library; empty: found in the usual places.
    pub onnxruntime: PathBuf,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            graph: "none".into(),
            models_dir: PathBuf::from("gpu/models"),
            onnxruntime: PathBuf::new(),
        }
    }
}

/// Settings of one stream; what is absent follows the sections above.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// As [`Pipeline::graph`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
    /// As [`Rtmp::take_over`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take_over: Option<bool>,
    /// How many may watch it at the same time, over all protocols; 0 or absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers_max: Option<usize>,
    /// Passphrase of those who publish it by SRT, 10 to 79 bytes; empty or absent: not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srt_publish_passphrase: Option<String>,
    /// Passphrase of those who read it by SRT, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srt_read_passphrase: Option<String>,
    /// As [`Srt::latency_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srt_latency_ms: Option<u16>,
    /// Where this node fetches the stream: a URL, or `demo` for a moving test picture with a tone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether it is recorded; it is not when nothing says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<bool>,
    /// Where its segments lie, below the folder of recordings ([`ingest::record::Template`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_path: Option<String>,
    /// Milliseconds of a part, which is what a killed process loses at most; 1,000 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_part_ms: Option<u64>,
    /// Bytes after which a part is written before it is that long; 50,000,000 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_part_bytes_max: Option<usize>,
    /// Seconds of a segment, which then ends at the next key picture; 3,600 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_segment_seconds: Option<u64>,
    /// Seconds that a segment is kept after it was written, 0 for ever; a day if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_delete_after_seconds: Option<u64>,
    /// Fetch it only while somebody watches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_on_demand: Option<bool>,
    /// Seconds that viewers wait for a source that is started for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_start_timeout_seconds: Option<u64>,
    /// Seconds that such a source goes on after its last viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_close_after_seconds: Option<u64>,
    /// As [`Push::fingerprint`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_fingerprint: Option<String>,
    /// As [`Push::ca`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ca: Option<String>,
    /// As [`Push::bearer`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_bearer: Option<String>,
    /// As [`Push::transport`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_transport: Option<Transport>,
    /// Whether its readers stay while its publisher is away, and see a slate meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_available: Option<bool>,
    /// JPEG or PNG file that is shown meanwhile; empty or absent: one with the stream's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_available_picture: Option<String>,
    /// Servers that the stream is pushed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushes: Option<Vec<Push>>,
    /// Smaller renditions of its pictures, made while somebody watches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renditions: Option<Vec<Rendition>>,
}

/// Per-frame traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// Keep the times of each frame at each hop and serve them at `/v1/trace`.
    pub trace: bool,
}
