//! A job as an orchestrator is asked to do it: the start request, the agreement on money, and the
//! channels that are opened then.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ingest::StreamName;
use parking_lot::Mutex;
use payments::{Offer, PictureSize, SenderCounters};
use pipeline::Pts;
use pipeline::packet::VideoTrack;
use serde_json::Value;

use super::Shared;
use super::connection::{self, Connection};
use super::discover::Asked;
use super::payer::{self, Payer, Teller};
use crate::money::NodeSigner;
use crate::rpc::capabilities;
use crate::rpc::live::{Extras, StartRequest};
use crate::rpc::net::OrchestratorInfo;

/// Counters of a payer at work.
pub(super) type Counters = Arc<Mutex<SenderCounters>>;

/// What an orchestrator is asked to do.
pub(super) struct Job {
    pub(super) name: StreamName,
    pub(super) request_id: String,
    pub(super) prompt: Value,
    pub(super) track: Option<VideoTrack>,
    pub(super) last_out: Option<Pts>,
    pub(super) near: Option<Pts>,
    /// Delay of pictures so far, if there were any.
    pub(super) delay: Option<Duration>,
}

/// Starts a job and opens its channels.
pub(super) async fn connect(
    shared: &Shared,
    job: Job,
    asked: &Asked,
) -> anyhow::Result<(Connection, String, Option<Counters>)> {
    let track = job.track.as_ref().context("the stream has no picture yet")?;
    let rate = connection::frame_rate(track);
    let skip_until = skip_until(&job, shared.hub.status(&job.name).and_then(|s| s.newest));
    let size = PictureSize::new(track.size.width, track.size.height);
    let size = size.with_context(|| format!("pictures of {} are not processed", track.size))?;
    let offer = Offer::decode(&asked.info.frame_offer).context("its frame offer")?;
    let sender = shared.signer.address();
    let request = StartRequest {
        model_id: capabilities::MODEL.into(),
        params: serde_json::json!({ "prompt": job.prompt }),
        gateway_request_id: job.request_id,
        stream_id: job.name.to_string(),
        frame: offer.map(|_| payments::StartRequest::new(sender, size, rate)),
        millstream: Some(Extras {
            frame_rate: rate.milli() as f32 / 1000.0,
            skip_until: skip_until.map(|pts| pts.0),
        }),
    };
    let answer = asked.backend.start(&shared.signer, &asked.info, &request).await?;
    let manifest_id = answer.manifest_id.clone();
    let (payer, teller, counters) = match (offer, &answer.frame) {
        (Some(offer), Some(frame)) => {
            check_recipient(&asked.info, &offer)?;
            let terms = payer::Terms {
                offer,
                answer: frame.clone(),
                manifest_id: manifest_id.clone(),
                size,
                frame_rate: rate,
                loop_hint: job.delay.unwrap_or_default(),
            };
            let signer = NodeSigner(Arc::clone(&shared.signer));
            let money = shared.money.clone();
            let (payer, teller, counters) =
                Payer::open(&asked.backend, money, signer, terms).await?;
            (Some(payer), teller, Some(counters))
        }
        _ => (None, Teller::default(), None),
    };
    let connection = Connection::open(connection::Parts {
        backend: asked.backend.clone(),
        answer,
        hub: shared.hub.clone(),
        views: Arc::clone(&shared.views),
        source: job.name,
        near: job.near,
        skip_until,
        payer,
        teller,
        hops: Arc::clone(&shared.hops),
    })
    .await?;
    Ok((connection, manifest_id, counters))
}

/// The last frame that need not be processed: what another has delivered, and what was shown
/// before the newest picture of the source while nobody worked. They are decoded only.
fn skip_until(job: &Job, newest: Option<Pts>) -> Option<Pts> {
    let late = newest.map(|pts| Pts(pts.0 - 1));
    job.last_out.max(late)
}

/// Who is paid must be who answered, at the price that was asked.
fn check_recipient(info: &OrchestratorInfo, offer: &Offer) -> anyhow::Result<()> {
    anyhow::ensure!(
        info.address == offer.recipient.as_slice(),
        "its frame offer pays another address than its own"
    );
    let stated = info.price_info.as_ref().is_some_and(|price| {
        price.price_per_unit == offer.price.wei() as i64
            && price.pixels_per_unit == offer.price.pixels() as i64
    });
    anyhow::ensure!(stated, "its frame offer has another price than the one it stated");
    Ok(())
}
