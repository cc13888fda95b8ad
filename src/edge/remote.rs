//! Sources at other servers and pushes to them, as the settings say.

use std::sync::Arc;

use anyhow::Result;
use ingest::mpegts::Fanout;

use super::Edge;
use crate::always::AlwaysAvailable;
use crate::config::Store;
use crate::pushes::Pushes;
use crate::remote::{NodeEnds, SharedEnds};
use crate::sources::{OnDemand, Sources};

/// Starts them; from now on the edge's viewers start sources that wait for them. Followers of the
/// settings of single streams must come before.
pub(crate) fn start(edge: &mut Edge, store: &Store) -> Result<(Sources, Pushes)> {
    let (views, fanout) = (Arc::clone(&edge.views), edge.mpegts.clone());
    let ends: SharedEnds = Arc::new(NodeEnds { hub: edge.hub.clone(), views, fanout });
    let parts = || (edge.hub.clone(), edge.streams.clone(), Arc::clone(&ends));
    let (hub, streams, ends_of) = parts();
    let (tasks, stop) = (edge.tasks.clone(), edge.stop.clone());
    let sources = Sources::new(hub, streams, ends_of, tasks.clone(), stop.clone());
    let (hub, streams, ends_of) = parts();
    let pushes = Pushes::new(hub, streams, ends_of, tasks, stop);
    sources.apply(&edge.settings);
    pushes.apply(&edge.settings);
    edge.tasks.spawn(pushes.clone().follow_streams());
    let (own_sources, own_pushes, stop) = (sources.clone(), pushes.clone(), edge.stop.clone());
    store.follow(Box::new(move |settings| {
        let (sources, pushes) = (own_sources.clone(), own_pushes.clone());
        let (settings, stop) = (settings.clone(), stop.clone());
        Ok(Box::new(move || {
            if !stop.is_cancelled() {
                sources.apply(&settings);
                pushes.apply(&settings);
            }
        }))
    }));
    let views = Arc::clone(&edge.views);
    edge.published = Arc::new(OnDemand { sources: sources.clone(), views });
    let Edge { hub, streams, tasks, stop, .. } = &*edge;
    let (hub, streams, tasks, stop) = (hub.clone(), streams.clone(), tasks.clone(), stop.clone());
    let published = Arc::clone(&edge.published);
    edge.views = Arc::new(AlwaysAvailable::new(hub, published, streams, tasks, stop));
    edge.mpegts = Fanout::new(Arc::clone(&edge.views), edge.stop.clone());
    Ok((sources, pushes))
}
