//! Where a pulled stream goes: into the hub, as any publisher's.

use std::fmt;

use super::{Error, Status};
use crate::hub::{Hub, Publisher, Writer};
use crate::name::StreamName;
use crate::sessions::new_id;

/// Lets a pull write its stream. Cloning shares it.
#[derive(Clone)]
pub struct Sink {
    hub: Hub,
    name: StreamName,
    take_over: bool,
    status: Status,
}

impl Sink {
    /// For the stream of this name. Whether it may replace somebody who publishes it already is
    /// the stream's setting, as for publishers.
    pub fn new(hub: Hub, name: StreamName, take_over: bool, status: Status) -> Self {
        Self { hub, name, take_over, status }
    }

    /// The stream's name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// The hub that the stream goes into.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Claims the stream: to be called when the source is there. `protocol` as in
    /// [`Publisher::protocol`], `remote` its address. The writer's end, also by
    /// [`Writer::closed`], is the end of the attempt ([`super::Ended::Replaced`]).
    ///
    /// # Errors
    /// [`Error::Publish`].
    pub fn publish(
        &self,
        protocol: &'static str,
        remote: impl fmt::Display,
    ) -> Result<Writer, Error> {
        let publisher = Publisher { protocol, id: new_id(), remote: remote.to_string() };
        let writer = self.hub.publish(self.name.clone(), publisher, self.take_over)?;
        self.status.connected();
        Ok(writer)
    }

    /// Counters and state of the source. A pull counts what it received in it.
    pub fn status(&self) -> &Status {
        &self.status
    }
}
