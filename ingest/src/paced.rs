//! Media that is there sooner than it is to be seen (files, segments of HLS) as a live stream: each
//! packet is written in its time.
//!
//! Whoever reads it sends [`Piece`]s through a bounded queue, as fast as they are taken.

use std::time::{Duration, Instant};

use pipeline::{Packet, Pts, Ticks, Tracks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::remote::{Ended, Error, Sink};

/// Packets read ahead.
pub(crate) const PIECES_WAITING: usize = 64;

/// What comes later than this after its time moves everything that follows, instead of being made
/// up for.
const LATE_MAX: Duration = Duration::from_secs(1);

/// A step forward by more than this is a jump of the clock.
const FORWARD_MAX: Ticks = Ticks::from_millis(10_000);

/// How long the last picture or sound before a jump lasts where nothing before it tells.
const LAST: Ticks = Ticks::from_millis(40);

/// What is read.
#[derive(Debug)]
pub(crate) enum Piece {
    /// What the following packets are.
    Tracks(Tracks),
    /// The next packet, in the order of decoding.
    Packet(Packet),
    /// The times of what follows begin anew.
    Again,
}

/// Writes what is read in its time, until it ends or `stop`.
pub(crate) async fn play<E: std::error::Error + Send + Sync + 'static>(
    mut read: mpsc::Receiver<Result<Piece, E>>,
    doing: &'static str,
    publisher: (&'static str, String),
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let mut line = Line::default();
    let mut writer = None;
    loop {
        let piece = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            piece = read.recv() => piece,
        };
        match piece {
            Some(Ok(Piece::Tracks(tracks))) => {
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(sink.publish(publisher.0, &publisher.1)?),
                };
                writer.set_tracks(tracks);
            }
            Some(Ok(Piece::Packet(packet))) => {
                let Some(writer) = &mut writer else { continue };
                let (packet, due) = line.place(packet, Instant::now());
                tokio::select! {
                    () = stop.cancelled() => return Ok(Ended::Stopped),
                    () = writer.closed() => return Ok(Ended::Replaced),
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                sink.status().count(packet.data.len() as u64, 1);
                writer.write(Packet { arrived: Instant::now(), ..packet });
            }
            Some(Ok(Piece::Again)) => line.again(),
            Some(Err(error)) => return Err(Error::protocol(doing, error)),
            None => return Ok(Ended::ByPeer),
        }
    }
}

/// One line of time out of turns, each of which has times of its own.
#[derive(Debug, Default)]
struct Line {
    /// What is added to a time of this turn; known with its first packet.
    offset: Option<Ticks>,
    /// Newest decoding time of each track, and its last step.
    tracks: [Option<(Pts, Ticks)>; 2],
    /// Where the next turn begins.
    next: Pts,
    /// When the stream's time zero was, so to say.
    zero: Option<Instant>,
}

impl Line {
    /// A packet at its place in the stream, and when it is due.
    fn place(&mut self, mut packet: Packet, now: Instant) -> (Packet, Instant) {
        let ahead = packet.pts - packet.dts;
        let index = usize::from(!packet.kind.is_video());
        let mut dts = packet.dts + *self.offset.get_or_insert(self.next - packet.dts);
        let newest = self.tracks.iter().flatten().map(|(last, _)| *last).max();
        if newest.is_some_and(|newest| (dts - newest).0 > FORWARD_MAX.0) {
            self.again();
            dts = packet.dts + *self.offset.insert(self.next - packet.dts);
        }
        let mut step = LAST;
        if let Some((last, before)) = self.tracks[index] {
            // Decoding times of a track grow, whatever the source says.
            dts = dts.max(last + Ticks(1));
            step = if (dts - last).0 > Ticks::SECOND.0 { before } else { dts - last };
        }
        self.tracks[index] = Some((dts, step));
        (packet.dts, packet.pts) = (dts, dts + ahead);
        let since = (dts - Pts(0)).to_duration().unwrap_or_default();
        let zero = *self.zero.get_or_insert_with(|| now.checked_sub(since).unwrap_or(now));
        let mut due = zero + since;
        if now.saturating_duration_since(due) > LATE_MAX {
            self.zero = Some(now.checked_sub(since).unwrap_or(now));
            due = now;
        }
        (packet, due)
    }

    /// What follows has times of its own; it is shown behind the end of the longer track.
    fn again(&mut self) {
        let ends = self.tracks.iter().flatten().map(|(last, step)| *last + *step);
        self.next = ends.max().unwrap_or(self.next);
        self.offset = None;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipeline::TrackKind::{self, Audio, Video};

    use super::*;

    fn packet(kind: TrackKind, dts_ms: i64) -> Packet {
        let (dts, pts) = (Pts::from_millis(dts_ms), Pts::from_millis(dts_ms + 80));
        Packet { kind, pts, dts, key: true, data: Bytes::new(), arrived: Instant::now() }
    }

    #[test]
    fn each_turn_goes_on_where_the_longer_track_ended() {
        let (mut line, now) = (Line::default(), Instant::now());
        let place = |line: &mut Line, kind, dts_ms| {
            let (packet, due) = line.place(packet(kind, dts_ms), now);
            assert_eq!(packet.pts - packet.dts, Ticks::from_millis(80));
            (packet.dts.as_millis(), due.saturating_duration_since(now).as_millis())
        };
        assert_eq!(place(&mut line, Video, 5000), (0, 0));
        assert_eq!(place(&mut line, Audio, 5010), (10, 10));
        assert_eq!(place(&mut line, Video, 5040), (40, 40));
        assert_eq!(place(&mut line, Audio, 5031), (31, 31));
        line.again();
        assert_eq!(place(&mut line, Video, 5000), (80, 80));
        assert_eq!(place(&mut line, Audio, 5010), (90, 90));
        assert_eq!(place(&mut line, Audio, 5005), (90, 90), "times that go back are put in order");
        // A clock that jumps without a word.
        assert_eq!(place(&mut line, Video, 95_000).0, 120);
        assert_eq!(place(&mut line, Video, 95_040).0, 160);
    }

    #[test]
    fn a_stall_moves_the_rest() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.place(packet(Video, 0), now);
        let late = now + Duration::from_secs(5);
        assert_eq!(line.place(packet(Video, 40), late).1, late);
        assert_eq!(line.place(packet(Video, 80), late).1, late + Duration::from_millis(40));
    }
}
