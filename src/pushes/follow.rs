//! Which destinations there are: those that the settings of streams name, with what was said of a
//! stream when its publisher was let in. They come and go with the settings and the streams.

use std::sync::Arc;

use indexmap::IndexMap;
use ingest::StreamName;
use ingest::hub::Event;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

use super::{Destination, Pushes};
use crate::config::{ALL_OTHERS, Push, Settings};

impl Pushes {
    /// Starts and stops what the settings changed. `settings` are those in force.
    pub(crate) fn apply(&self, settings: &Settings) {
        let keys = settings.streams.keys().filter(|key| names_one(key));
        let named: Vec<StreamName> = keys.filter_map(|key| StreamName::parse(key).ok()).collect();
        let live = self.live();
        let mut destinations = self.shared.destinations.lock();
        let known: Vec<StreamName> = destinations.values().map(|d| d.stream.clone()).collect();
        // Some are there twice or thrice; the second time nothing is left to do.
        for name in named.iter().chain(&live).chain(&known) {
            self.settle(&mut destinations, name);
        }
    }

    /// Begins and ends the pushes of streams that come and go, until the node stops.
    pub(crate) async fn follow_streams(self) {
        let mut events = self.shared.hub.events();
        let mut changed = self.live();
        loop {
            {
                let mut destinations = self.shared.destinations.lock();
                for name in changed.iter().filter(|name| !name.is_out() && !name.is_derived()) {
                    self.settle(&mut destinations, name);
                }
            }
            let event = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                event = events.recv() => event,
            };
            changed = match event {
                Ok(Event::Online(name) | Event::Offline(name)) => vec![name],
                Err(RecvError::Lagged(_)) => {
                    let destinations = self.shared.destinations.lock();
                    let known = destinations.values().map(|d| d.stream.clone());
                    self.live().into_iter().chain(known).collect()
                }
                Err(RecvError::Closed) => return,
            };
        }
    }

    /// Streams that somebody publishes.
    fn live(&self) -> Vec<StreamName> {
        let live = self.shared.hub.list().into_iter().map(|status| status.name);
        live.filter(|name| !name.is_out()).collect()
    }

    /// Brings the destinations of one stream in step with its settings.
    pub(super) fn settle(
        &self,
        destinations: &mut IndexMap<String, Arc<Destination>>,
        name: &StreamName,
    ) {
        let shared = &self.shared;
        if shared.stop.is_cancelled() {
            return;
        }
        let live = shared.hub.is_online(name);
        let configured = shared.streams.configured(name);
        let own = configured.key.as_deref().is_some_and(names_one);
        let lasting: Vec<Push> = match own {
            true => configured.settings.pushes.clone().unwrap_or_default(),
            false => Vec::new(),
        };
        let wanted = match live {
            true => shared.streams.of(name).pushes.clone().unwrap_or_default(),
            // What was said of its publisher has ended with him.
            false => lasting.clone(),
        };
        destinations.retain(|_, known| {
            // A passing one ends by itself, when all of its stream is sent.
            let ends = !live && known.passing;
            let stays = known.stream != *name || wanted.contains(&known.push) || ends;
            if !stays {
                known.stop.cancel();
            }
            stays
        });
        for push in wanted {
            let there = destinations.values().any(|d| d.stream == *name && d.push == push);
            if there {
                continue;
            }
            let passing = !lasting.contains(&push);
            if let Err(error) = self.begin(destinations, name.clone(), push, passing) {
                warn!(%error, "a push does not begin");
            }
        }
    }
}

/// Whether a key of the settings is the name of one stream.
fn names_one(key: &str) -> bool {
    key != ALL_OTHERS && !key.starts_with('~')
}
