//! What is said to one client: messages become chunks and wait to be sent.
//!
//! It can be taken out of its session: the task that writes to all viewers of a stream
//! (`audience.rs`) needs this of them and nothing else.

use pipeline::{Packet, Tracks};

use super::{PICTURE, SOUND, STATUS};
use crate::rtmp::chunk;
use crate::rtmp::outbox::Outbox;
use crate::rtmp::play::{self, Play};

/// The sending half of a session.
#[derive(Default)]
pub(crate) struct Outlet {
    /// The message stream on which a viewer gets media.
    pub(super) stream: u32,
    pub(super) writer: chunk::Writer,
    pub(super) play: Play,
    pub(super) out: Outbox,
}

impl Outlet {
    /// Bytes for the client, to be taken from the front as they are sent.
    pub(crate) fn output(&mut self) -> &mut Outbox {
        &mut self.out
    }

    /// What the following packets are. False when none of it can be carried.
    pub(super) fn tracks(&mut self, tracks: &Tracks) -> bool {
        let Self { stream, writer, play, out } = self;
        play.tracks(tracks, &mut |kind, time, head, body| {
            writer.write_shared(out, chunk_stream(kind), kind, *stream, time, head, body);
        })
    }

    /// A packet.
    pub(crate) fn packet(&mut self, packet: &Packet) {
        let Self { stream, writer, play, out } = self;
        play.packet(packet, &mut |kind, time, head, body| {
            writer.write_shared(out, chunk_stream(kind), kind, *stream, time, head, body);
        });
    }
}

fn chunk_stream(kind: u8) -> u8 {
    match kind {
        play::AUDIO => SOUND,
        play::VIDEO => PICTURE,
        _ => STATUS,
    }
}
