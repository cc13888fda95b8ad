//! Where the receiving half of a session writes: into the hub, once the stream is its own.

use pipeline::{Packet, Tracks};

use crate::hub::Writer;

/// A stream that is written, or is going to be.
#[derive(Default)]
pub(crate) struct Outlet {
    /// `None` until the stream is claimed: what comes before is not kept.
    writer: Option<Writer>,
    /// Coded pictures and frames of sound of the stream.
    pub(crate) written: u64,
}

impl Outlet {
    /// A stream that was claimed.
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer: Some(writer), written: 0 }
    }

    /// Tells readers what the stream has.
    pub(crate) fn describe(&mut self, tracks: &Tracks) {
        if let Some(writer) = &mut self.writer {
            writer.set_tracks(tracks.clone());
        }
    }

    /// Gives readers a picture or a frame of sound.
    pub(crate) fn write(&mut self, packet: Packet) {
        if let Some(writer) = &mut self.writer {
            self.written += 1;
            writer.write(packet);
        }
    }

    /// Whether the stream was taken over, or its writer told to leave.
    pub(crate) fn is_closed(&self) -> bool {
        use futures_util::FutureExt;
        self.writer.as_ref().is_some_and(|writer| writer.closed().now_or_never().is_some())
    }
}
