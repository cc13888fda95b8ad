//! The built-in source: a moving test picture with a counter, and a tone.
//!
//! It is encoded like any publisher's stream and written into the hub, so that everything behind
//! the hub is the real road. Pictures are drawn on a thread of their own at a steady rate; when
//! the machine is too slow, pictures are left out and time goes on.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::hub::KeyRequests;
use ingest::remote::{Ended, Error, Sink};
use pipeline::frame::{Color, HostPlanes, PixelFormat, Plane, Surface};
use pipeline::stage::{Encoder as _, EncoderSettings, StageError};
use pipeline::{Frame, Packet, Pts, Size, Tracks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

const SIZE: Size = Size::new(640, 360);
const FRAMES_PER_SECOND: i64 = 30;
/// Distance of frames in ticks of 90 kHz.
const FRAME_TICKS: i64 = 90_000 / FRAMES_PER_SECOND;
/// Squares of the counter in the bottom row; the lowest bit is on the right.
const COUNTER_BITS: usize = 16;
/// Side of a square in pixels.
const SQUARE: usize = 16;

/// Items between the thread that draws and the hub.
const ITEMS_WAITING: usize = 64;

/// Makes the test picture until `stop`, or until somebody else publishes the stream.
///
/// # Errors
/// When the codecs cannot be had, fail, or the name is taken.
pub(crate) async fn run(sink: &Sink, stop: &CancellationToken) -> Result<Ended, Error> {
    let failed = |error| Error::protocol("making the test picture", error);
    let mut settings = EncoderSettings::for_picture(SIZE, FRAMES_PER_SECOND as f32);
    settings.bitrate = 1_500_000;
    let encoder = codecs::h264::Encoder::new(settings).map_err(failed)?;
    let tone = codecs::tone::Tone::new(440.0).map_err(failed)?;
    let mut writer = sink.publish("demo", "")?;
    let (items, mut made) = mpsc::channel(ITEMS_WAITING);
    let wishes = writer.key_requests();
    let source = Source { items, wishes, encoder, tone };
    std::thread::Builder::new()
        .name("demo".into())
        .spawn(move || source.run())
        .map_err(|error| Error::protocol("making a thread for the test picture", error))?;
    loop {
        // The thread ends when nobody takes what it makes.
        tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            () = writer.closed() => return Ok(Ended::Replaced),
            item = made.recv() => match item {
                Some(Ok(Item::Tracks(tracks))) => writer.set_tracks(tracks),
                Some(Ok(Item::Packet(packet))) => writer.write(packet),
                Some(Err(error)) => return Err(failed(error)),
                None => return Ok(Ended::ByPeer),
            },
        }
    }
}

/// What the thread makes.
enum Item {
    Tracks(Tracks),
    Packet(Packet),
}

struct Source {
    items: mpsc::Sender<Result<Item, StageError>>,
    wishes: KeyRequests,
    encoder: codecs::h264::Encoder,
    tone: codecs::tone::Tone,
}

impl Source {
    fn run(mut self) {
        info!("the test picture runs");
        if let Err(Some(error)) = self.make() {
            let _ = self.items.blocking_send(Err(error));
        }
    }

    /// Until a codec fails, or (`None`) nobody takes what is made.
    fn make(&mut self) -> Result<(), Option<StageError>> {
        let began = Instant::now();
        let mut number = 0_i64;
        let mut announced = false;
        let mut sound = Vec::new();
        loop {
            let due = Duration::from_nanos((number * 1_000_000_000 / FRAMES_PER_SECOND) as u64);
            match due.checked_sub(began.elapsed()) {
                Some(wait) => std::thread::sleep(wait),
                None if began.elapsed() - due > Duration::from_millis(200) => {
                    number += FRAMES_PER_SECOND / 10;
                    continue;
                }
                None => {}
            }
            let frame = picture(number);
            let wished = self.wishes.try_next();
            let packet = self.encoder.encode(&frame, wished)?;
            if !announced {
                announced = true;
                let (video, audio) = (Some(self.encoder.track()), Some(self.tone.track()));
                self.give(Item::Tracks(Tracks { video, audio }))?;
            }
            self.give(Item::Packet(packet))?;
            self.tone.until(frame.pts, &mut sound)?;
            sound.drain(..).try_for_each(|packet| self.give(Item::Packet(packet)))?;
            number += 1;
        }
    }

    fn give(&self, item: Item) -> Result<(), Option<StageError>> {
        self.items.blocking_send(Ok(item)).map_err(|_| None)
    }
}

/// Picture number `number`: a slow colour field, a disc that goes round, a sweeping bar and the
/// number itself as squares.
fn picture(number: i64) -> Frame {
    let (width, height) = (SIZE.width as usize, SIZE.height as usize);
    let (half_width, half_height) = (width / 2, height / 2);
    let mut bytes = vec![0; width * height + 2 * half_width * half_height];
    let (luma, chroma) = bytes.split_at_mut(width * height);
    let seconds = number as f64 / FRAMES_PER_SECOND as f64;
    let turn = (seconds / 6.0).fract() * TAU;
    let centre =
        (width as f64 * (0.5 + 0.3 * turn.cos()), height as f64 * (0.45 + 0.3 * turn.sin()));
    let bar = ((seconds / 4.0).fract() * width as f64) as usize;
    for (y, row) in luma.chunks_exact_mut(width).enumerate() {
        for (x, sample) in row.iter_mut().enumerate() {
            let (dx, dy) = (x as f64 - centre.0, y as f64 - centre.1);
            let inside = dx * dx + dy * dy < 55.0 * 55.0;
            let stripe = x.abs_diff(bar) < 6;
            let grid = x % 80 == 0 || y % 60 == 0;
            let shade = 60 + (x * 60 / width) as u8 + (y * 40 / height) as u8;
            *sample = match (inside, stripe, grid) {
                (true, ..) => 210,
                (_, true, _) => 180,
                (_, _, true) => shade + 35,
                _ => shade,
            };
        }
    }
    for bit in 0..COUNTER_BITS {
        let set = number >> (COUNTER_BITS - 1 - bit) & 1 == 1;
        for y in height - SQUARE..height {
            let start = y * width + bit * SQUARE;
            luma[start..start + SQUARE].fill(if set { 235 } else { 16 });
        }
    }
    let (u, v) = chroma.split_at_mut(half_width * half_height);
    let hue = (seconds / 20.0).fract() * TAU;
    for y in 0..half_height {
        for x in 0..half_width {
            let across = x as f64 / half_width as f64;
            let at = y * half_width + x;
            u[at] = (128.0 + 50.0 * (hue + across * 2.0).sin()) as u8;
            v[at] = (128.0 + 50.0 * (hue + across * 2.0).cos()) as u8;
        }
    }
    for plane in [u, v] {
        for y in half_height - SQUARE / 2..half_height {
            plane[y * half_width..y * half_width + COUNTER_BITS * SQUARE / 2].fill(128);
        }
    }
    let plane =
        |offset, width: usize, rows| Plane { offset, stride: width, row_bytes: width, rows };
    let planes = vec![
        plane(0, width, height),
        plane(width * height, half_width, half_height),
        plane(width * height + half_width * half_height, half_width, half_height),
    ];
    let planes = HostPlanes::new(Arc::new(bytes), planes)
        .unwrap_or_else(|| unreachable!("the planes fill the buffer"));
    Frame {
        pts: Pts(number * FRAME_TICKS),
        size: SIZE,
        format: PixelFormat::I420,
        color: Color::unsignalled(SIZE),
        surface: Surface::Host(planes),
        arrived: Instant::now(),
    }
}
