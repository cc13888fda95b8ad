//! Destinations that the settings name: they come and go with the settings, and those of settings
//! that stand for many streams with the streams.

use std::sync::Arc;

use indexmap::IndexMap;
use ingest::StreamName;
use ingest::hub::Event;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

use super::{Destination, Origin, Pushes};
use crate::config::{ALL_OTHERS, Push, Settings, pattern};

impl Pushes {
    /// Starts and stops what the settings changed. `settings` are those in force.
    pub(crate) fn apply(&self, settings: &Settings) {
        let plain = |key: &&String| *key != ALL_OTHERS && matches!(pattern(key), Ok(None));
        let keys = settings.streams.keys().filter(plain);
        let named: Vec<StreamName> = keys.filter_map(|key| StreamName::parse(key).ok()).collect();
        let live = self.shared.hub.list().into_iter().map(|status| status.name);
        let live: Vec<StreamName> = live.filter(|name| !name.is_out()).collect();
        let mut destinations = self.shared.destinations.lock();
        destinations.retain(|_, destination| {
            let known = named.contains(&destination.stream) || live.contains(&destination.stream);
            let stays = destination.origin != Origin::Settings
                || (known && self.wanted(&destination.stream).contains(&destination.push));
            if !stays {
                destination.stop.cancel();
            }
            stays
        });
        for name in &named {
            self.ensure(&mut destinations, name, false);
        }
        for name in live.iter().filter(|name| !named.contains(name)) {
            self.ensure(&mut destinations, name, true);
        }
    }

    /// Begins the pushes of streams that are there or come, until the node stops.
    pub(crate) async fn follow_streams(self) {
        let mut events = self.shared.hub.events();
        let all = || self.shared.hub.list().into_iter().map(|status| status.name).collect();
        let mut came: Vec<StreamName> = all();
        loop {
            {
                let mut destinations = self.shared.destinations.lock();
                for name in came.iter().filter(|name| !name.is_out() && !name.is_derived()) {
                    self.ensure_live(&mut destinations, name);
                }
            }
            let event = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                event = events.recv() => event,
            };
            came = match event {
                Ok(Event::Online(name)) => vec![name],
                Ok(Event::Offline(_)) => Vec::new(),
                Err(RecvError::Lagged(_)) => all(),
                Err(RecvError::Closed) => return,
            };
        }
    }

    fn wanted(&self, name: &StreamName) -> Vec<Push> {
        self.shared.streams.of(name).pushes.clone().unwrap_or_default()
    }

    /// As [`Self::ensure`], for a stream that is there.
    pub(super) fn ensure_live(
        &self,
        destinations: &mut IndexMap<String, Arc<Destination>>,
        name: &StreamName,
    ) {
        if !self.shared.stop.is_cancelled() && self.shared.hub.is_online(name) {
            self.ensure(destinations, name, true);
        }
    }

    /// Begins what the settings of a stream name and is not there.
    fn ensure(
        &self,
        destinations: &mut IndexMap<String, Arc<Destination>>,
        name: &StreamName,
        passing: bool,
    ) {
        for push in self.wanted(name) {
            let there = destinations.values().any(|d| d.stream == *name && d.push == push);
            if there {
                continue;
            }
            let stream = name.clone();
            if let Err(error) = self.begin(destinations, stream, push, Origin::Settings, passing) {
                warn!(%error, "a push of the settings does not begin");
            }
        }
    }
}
