//! Who could do the work: asks every known orchestrator and ranks the answers.
//!
//! All are asked at once and each gets the same time, so that one that hangs holds up nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chain::Signer;
use futures_util::future::join_all;
use parking_lot::Mutex;
use payments::price::PricePerPixel;
use pipeline::graph::Registry;
use serde::Serialize;

use super::backend::Backend;
use super::select::{self, Candidate, Facts, Standing, Verdict};
use crate::rpc::capabilities;
use crate::rpc::net::OrchestratorInfo;

/// Finds orchestrators.
pub(crate) struct Discovery {
    backends: Vec<Backend>,
    signer: Arc<dyn Signer>,
    price_max: PricePerPixel,
    limit: Duration,
    standing: Mutex<HashMap<String, Standing>>,
    registries: Mutex<HashMap<String, Arc<Registry>>>,
}

/// An orchestrator that answered.
#[derive(Clone)]
pub(crate) struct Asked {
    /// How to reach it.
    pub(crate) backend: Backend,
    /// What it said.
    pub(crate) info: OrchestratorInfo,
}

/// A candidate and what was thought of it.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// Where it is.
    pub url: String,
    /// What was thought of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The same for people.
    pub text: String,
    /// Milliseconds that its answer took.
    pub round_trip_ms: Option<f64>,
    /// Wei per pixel.
    pub price: Option<String>,
}

/// The outcome of a round of questions.
pub(crate) struct Chosen {
    /// Who may be tried, best first.
    pub(crate) order: Vec<Asked>,
    /// What was thought of each.
    pub(crate) verdicts: Vec<Choice>,
}

impl Chosen {
    /// Why nobody can be tried, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        if !self.order.is_empty() {
            return None;
        }
        let lines: Vec<_> = self.verdicts.iter().map(|c| format!("{} {}", c.url, c.text)).collect();
        Some(match lines.is_empty() {
            true => "no orchestrator is known: set gateway.orchestrators".into(),
            false => format!("no orchestrator can be used: {}", lines.join("; ")),
        })
    }
}

impl Discovery {
    /// Discovery over a fixed list.
    pub(crate) fn new(
        backends: Vec<Backend>,
        signer: Arc<dyn Signer>,
        price_max: PricePerPixel,
        limit: Duration,
    ) -> Self {
        Self {
            backends,
            signer,
            price_max,
            limit,
            standing: Mutex::default(),
            registries: Mutex::default(),
        }
    }

    /// Asks everybody and ranks the answers.
    pub(crate) async fn choose(&self) -> Chosen {
        let questions = self.backends.iter().map(async |backend| {
            let asked = Instant::now();
            let answer = backend.info(&self.signer, self.limit).await;
            (answer.map_err(|error| error.to_string()), asked.elapsed())
        });
        let answers = join_all(questions).await;
        let standing = self.standing.lock().clone();
        let candidates: Vec<Candidate> = self
            .backends
            .iter()
            .zip(&answers)
            .map(|(backend, (answer, round_trip))| Candidate {
                url: backend.url().to_owned(),
                answer: answer
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|info| facts(info, *round_trip)),
                standing: standing.get(backend.url()).copied().unwrap_or_default(),
            })
            .collect();
        let (order, verdicts) = select::rank(&candidates, Some(self.price_max), Instant::now());
        let order = order
            .into_iter()
            .filter_map(|index| {
                let info = answers[index].0.as_ref().ok()?.clone();
                Some(Asked { backend: self.backends[index].clone(), info })
            })
            .collect();
        let verdicts = candidates
            .iter()
            .zip(verdicts)
            .map(|(candidate, verdict)| {
                let facts = candidate.answer.as_ref().ok();
                Choice {
                    url: candidate.url.clone(),
                    text: verdict.to_string(),
                    verdict,
                    round_trip_ms: facts.map(|facts| facts.round_trip.as_secs_f64() * 1000.0),
                    price: facts.map(|facts| crate::config::Price(facts.price).to_string()),
                }
            })
            .collect();
        Chosen { order, verdicts }
    }

    /// The node classes of an orchestrator, asked for once and kept.
    pub(crate) async fn registry(&self, url: &str) -> Option<Arc<Registry>> {
        if let Some(known) = self.registries.lock().get(url) {
            return Some(Arc::clone(known));
        }
        let backend = self.backends.iter().find(|backend| backend.url() == url)?;
        let registry = Arc::new(Registry::described(&backend.object_info().await?));
        self.registries.lock().insert(url.to_owned(), Arc::clone(&registry));
        Some(registry)
    }

    /// It failed.
    pub(crate) fn failed(&self, url: &str) {
        self.standing.lock().entry(url.to_owned()).or_default().failed(Instant::now());
        // It may come back as another version.
        self.registries.lock().remove(url);
    }

    /// It delivers, with this delay.
    pub(crate) fn works(&self, url: &str, delay: Duration) {
        self.standing.lock().entry(url.to_owned()).or_default().works(delay);
    }
}

fn facts(info: &OrchestratorInfo, round_trip: Duration) -> Result<Facts, String> {
    let price = info.price_info.as_ref().ok_or("it states no price")?;
    let number = |value: i64| u64::try_from(value).map_err(|_| "its price is negative".to_owned());
    let price = PricePerPixel::new(number(price.price_per_unit)?, number(price.pixels_per_unit)?)
        .ok_or("its price is for no pixels")?;
    let offered = info.capabilities.as_ref().ok_or("it states no capabilities")?;
    let (free, in_use) = capabilities::live_capacity(offered);
    let capable = capabilities::compatible(&capabilities::wanted(), offered);
    Ok(Facts { price, capable, free, in_use, round_trip })
}
