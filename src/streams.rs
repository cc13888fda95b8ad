//! The settings of single streams, shared by all who follow them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ingest::StreamName;

use crate::config;

/// Settings of streams by name. Cloning shares them; they may change while the node runs.
#[derive(Clone, Default)]
pub struct StreamSettings {
    current: Arc<ArcSwap<Table>>,
}

#[derive(Default)]
struct Table {
    streams: BTreeMap<String, Arc<config::Stream>>,
    others: Arc<config::Stream>,
}

impl StreamSettings {
    /// These settings.
    pub fn new(streams: &BTreeMap<String, config::Stream>) -> Self {
        let this = Self::default();
        this.replace(streams);
        this
    }

    /// Puts others in their place, for all who share them.
    pub fn replace(&self, streams: &BTreeMap<String, config::Stream>) {
        let streams = streams.iter().map(|(name, stream)| (name.clone(), Arc::new(stream.clone())));
        let table = Table { streams: streams.collect(), others: Arc::default() };
        self.current.store(Arc::new(table));
    }

    /// The settings that a stream follows now.
    pub fn of(&self, name: &StreamName) -> Arc<config::Stream> {
        let table = self.current.load();
        Arc::clone(table.streams.get(name.base()).unwrap_or(&table.others))
    }
}
