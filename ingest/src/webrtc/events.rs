//! What streams and other tasks tell a worker, and what it does then.

use std::sync::Arc;
use std::time::Instant;

use super::counters::add;
use super::end::End;
use super::messages::presence;
use super::worker::{Event, Worker};
use crate::hub::Item;
use crate::rtp::frame::FramePackets;

impl Worker {
    pub(super) fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::KeyWanted(key, rendition) => self.with(now, key, |session, io, _| {
                session.want_key(rendition);
                session.timeout(io)
            }),
            Event::Arrived { link, datagram } => self.linked(now, link, &datagram),
            Event::Hangup { link } => self.hung_up(link),
            Event::Answer { key, channel, answer } => self.with(now, key, |session, io, stream| {
                session.answer(io, stream, (channel, answer));
                Ok(())
            }),
            Event::Presence(stream, online) => self.tell_viewers(now, stream, presence(online)),
            Event::GiveWay(key) => {
                if self.sessions.get(&key).is_some_and(|session| !session.is_connected()) {
                    self.end(now, key, End::GaveWay);
                }
            }
            Event::Renditions(number, names) => {
                if let Some(stream) = self.streams.get_mut(&number) {
                    stream.set_renditions(number, &names, &self.events);
                }
            }
            Event::Rendition { stream: number, place, item } => {
                let Some(stream) = self.streams.get_mut(&number) else { return };
                if let Some(frame) = stream.rendition(now, place, &item) {
                    self.frame(now, number, &frame);
                }
            }
            Event::Feed { stream: number, item, written } => {
                let Some(stream) = self.streams.get_mut(&number) else { return };
                match item {
                    Item::Tracks(tracks) => {
                        stream.set_tracks(tracks);
                        self.end_misfits(now, number);
                    }
                    Item::Packet(packet) => {
                        if let Some(frame) = stream.packet(now, &packet) {
                            self.frame(now, number, &frame);
                            if let Some(written) = written {
                                self.settings.counters.write_to_sent.record(written.elapsed());
                            }
                        }
                    }
                    Item::Lagged(count) => {
                        add(&self.settings.counters.frames_skipped, count);
                        tracing::warn!(stream = %stream.name, count, "webrtc lags behind a stream");
                    }
                    Item::End => {
                        for key in stream.viewers.clone() {
                            self.end(now, key, End::StreamGone);
                        }
                    }
                }
            }
        }
    }

    fn frame(&mut self, now: Instant, number: u64, frame: &Arc<FramePackets>) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        // A session that gives way leaves the stream's list, so a copy is walked over; from another
        // place each time, since the last one waits for all before it.
        let mut viewers = std::mem::take(&mut self.audience);
        let turn = stream.turn();
        let (after, first) = stream.viewers.split_at(turn);
        viewers.extend_from_slice(first);
        viewers.extend_from_slice(after);
        for &key in &viewers {
            self.with(now, key, |session, io, stream| {
                if let Some(stream) = stream {
                    session.frame(io, stream, frame);
                }
                Ok(())
            });
        }
        viewers.clear();
        self.audience = viewers;
    }
}
