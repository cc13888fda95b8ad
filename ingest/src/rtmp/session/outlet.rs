//! What is said to one client: messages become chunks and wait to be sent.
//!
//! It can be taken out of its session: the task that writes to all viewers of a stream
//! (`audience.rs`) needs this of them and nothing else.

use pipeline::{Packet, TrackKind, Tracks};

use super::{PICTURE, SOUND, STATUS};
use crate::hub::Item;
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

    /// Something of a further track of this kind and number.
    pub(super) fn further(&mut self, kind: TrackKind, number: u8, item: &Item) {
        let Self { stream, writer, play, out } = self;
        let send = &mut |kind, time, head: &[u8], body: &_| {
            writer.write_shared(out, chunk_stream(kind), kind, *stream, time, head, body);
        };
        match item {
            Item::Tracks(tracks) => play.further(number, tracks, send),
            Item::Packet(packet) => play.further_packet(number, packet, send),
            Item::Lagged(_) | Item::End => play.further_lagged(kind, number),
        }
    }
}

fn chunk_stream(kind: u8) -> u8 {
    match kind {
        play::AUDIO => SOUND,
        play::VIDEO => PICTURE,
        _ => STATUS,
    }
}
