//! The runner with stages that do what a test tells them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use bytes::Bytes;

use super::*;
use crate::TrackKind;
use crate::frame::{Color, Frame, HostPlanes, PixelFormat, Plane, Surface};

/// 30 frames a second.
const STEP: i64 = 3000;
/// Longer than any step of a test takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
const SIZE: Size = Size::new(64, 36);

/// What came out of an engine, in order.
#[derive(Debug)]
enum Event {
    Packet { pts: Pts, key: bool, size: Size },
    Applied(String, Pts),
    Superseded(String),
    Failed(Pts),
    KeyWanted,
    Ended,
}

struct Channel(SyncSender<Event>);

impl Sink for Channel {
    fn packet(&mut self, packet: Packet, track: &VideoTrack, _: Timing) {
        let Packet { pts, key, .. } = packet;
        let _ = self.0.send(Event::Packet { pts, key, size: track.size });
    }
    fn applied(&mut self, update_id: &str, first: Pts) {
        let _ = self.0.send(Event::Applied(update_id.to_owned(), first));
    }
    fn superseded(&mut self, update_id: &str) {
        let _ = self.0.send(Event::Superseded(update_id.to_owned()));
    }
    fn failed_frame(&mut self, pts: Pts, _: &StageError) {
        let _ = self.0.send(Event::Failed(pts));
    }
    fn source_key_wanted(&mut self) {
        let _ = self.0.send(Event::KeyWanted);
    }
    fn ended(&mut self) {
        let _ = self.0.send(Event::Ended);
    }
}

/// Packets of these tests: the width in the first byte, `0xff` for a broken one.
fn packet(index: i64, key: bool, first: u8) -> Packet {
    let pts = Pts(index * STEP);
    let data = Bytes::from(vec![first; 8]);
    Packet { kind: TrackKind::Video, pts, dts: pts, key, data, arrived: Instant::now() }
}

fn failed() -> StageError {
    StageError::Failed { stage: "test", reason: "as told".to_owned() }
}

struct FakeDecoder(Box<dyn FnMut(&Packet) + Send>);

impl Decoder for FakeDecoder {
    fn decode(&mut self, packet: &Packet, out: &mut Vec<Frame>) -> Result<(), StageError> {
        (self.0)(packet);
        if packet.data[0] == 0xff {
            let reason = "as told".to_owned();
            return Err(StageError::Broken { codec: "fake", pts: packet.pts, reason });
        }
        let size = Size::new(u32::from(packet.data[0]), SIZE.height);
        let plane = Plane { offset: 0, stride: 1, row_bytes: 1, rows: 1 };
        let planes = HostPlanes::new(Arc::new(vec![0_u8]), vec![plane; 3]).unwrap();
        out.push(Frame {
            pts: packet.pts,
            size,
            format: PixelFormat::I420,
            color: Color::unsignalled(size),
            surface: Surface::Host(planes),
            arrived: packet.arrived,
        });
        Ok(())
    }
    fn flush(&mut self, _: &mut Vec<Frame>) -> Result<(), StageError> {
        Ok(())
    }
}

type Process = Box<dyn FnMut(&mut Frame) -> Result<(), StageError> + Send>;

struct FakeGraph(Process);

impl Stage for FakeGraph {
    fn process(&mut self, mut frame: Frame) -> Result<Frame, StageError> {
        (self.0)(&mut frame)?;
        Ok(frame)
    }
}

struct FakeEncoder {
    size: Size,
    first: bool,
}

impl Encoder for FakeEncoder {
    fn encode(&mut self, frame: &Frame, force_key: bool) -> Result<Packet, StageError> {
        assert_eq!(frame.size, self.size, "a picture of another size reached the encoder");
        let key = std::mem::take(&mut self.first) || force_key;
        Ok(Packet {
            kind: TrackKind::Video,
            pts: frame.pts,
            dts: frame.pts,
            key,
            data: Bytes::from_static(b"coded"),
            arrived: frame.arrived,
        })
    }
    fn set_bitrate(&mut self, _: u32) {}
    fn track(&self) -> VideoTrack {
        VideoTrack { codec: Codec::H264, size: self.size, parameter_sets: Bytes::new() }
    }
}

fn graph(run: impl FnMut(&mut Frame) -> Result<(), StageError> + Send + 'static) -> Box<dyn Stage> {
    Box::new(FakeGraph(Box::new(run)))
}

/// A graph that waits for leave for each frame and says which one it has.
fn stepped() -> (Box<dyn Stage>, SyncSender<()>, Receiver<Pts>) {
    let (leave, wait) = sync_channel(1000);
    let (tell, entered) = sync_channel(1000);
    let graph = graph(move |frame| {
        let _ = tell.send(frame.pts);
        // The test's end lets everything through.
        let _ = wait.recv();
        Ok(())
    });
    (graph, leave, entered)
}

/// Coded pictures by decoders from here.
fn packets(
    decoder: impl FnMut() -> Result<Box<dyn Decoder>, StageError> + Send + 'static,
) -> Input {
    Input::Packets { codec: Codec::H264, decoder: Box::new(decoder) }
}

struct Setup {
    config: Config,
    events: Receiver<Event>,
}

fn setup() -> Setup {
    let (tell, events) = sync_channel(10_000);
    let config = Config {
        name: "test".to_owned(),
        input: packets(|| Ok(Box::new(FakeDecoder(Box::new(|_| {}))))),
        graph: Box::new(|_| Ok(graph(|_| Ok(())))),
        encoder: Box::new(|settings| {
            Ok(Box::new(FakeEncoder { size: settings.size, first: true }))
        }),
        frames_per_second: 30.0,
        bitrate: None,
        key_interval: Duration::from_secs(2),
        gate: Arc::new(NoGate),
        sink: Box::new(Channel(tell)),
    };
    Setup { config, events }
}

fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(PATIENCE).expect("something comes out")
}

fn next_packet(events: &Receiver<Event>) -> (Pts, bool) {
    match next(events) {
        Event::Packet { pts, key, .. } => (pts, key),
        other => panic!("{other:?}"),
    }
}

/// Everything up to the end.
fn rest(events: &Receiver<Event>) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        match next(events) {
            Event::Ended => return all,
            event => all.push(event),
        }
    }
}

fn accounted(counters: Counters) {
    let Counters { packets, replaced, skipped, failed, stopped, early, out, .. } = counters;
    assert_eq!(packets, out + replaced + skipped + failed + stopped + early, "{counters:?}");
}

#[test]
fn each_frame_comes_out_before_the_next_goes_in() {
    let Setup { config, events } = setup();
    let engine = Engine::spawn(config).unwrap();
    for index in 0..100 {
        engine.push(packet(index, index == 0, 64));
        assert_eq!(next_packet(&events), (Pts(index * STEP), index == 0));
    }
    let counters = engine.stop();
    assert_eq!((counters.packets, counters.decoded, counters.out), (100, 100, 100));
}

#[test]
fn what_lies_before_the_start_is_decoded_only_and_counted() {
    let Setup { config, events } = setup();
    let engine = Engine::spawn(config).unwrap();
    engine.start_at(Pts(7 * STEP));
    for index in 0..8 {
        engine.push(packet(index, index == 0, 64));
    }
    engine.end();
    assert_eq!(next_packet(&events), (Pts(7 * STEP), true), "the first that comes out is a key");
    rest(&events);
    let counters = engine.stop();
    assert_eq!((counters.decoded, counters.early, counters.out), (8, 7, 1));
    accounted(counters);
}

#[test]
fn a_slow_graph_always_gets_the_newest_frame_and_the_rest_is_counted() {
    let Setup { mut config, events } = setup();
    let (slow, leave, entered) = stepped();
    let mut slow = Some(slow);
    config.graph = Box::new(move |_| slow.take().ok_or_else(failed));
    let (tell, decoded) = sync_channel(1000);
    config.input = packets(move || {
        let tell = tell.clone();
        Ok(Box::new(FakeDecoder(Box::new(move |packet| tell.send(packet.pts).unwrap()))))
    });
    let engine = Engine::spawn(config).unwrap();
    engine.push(packet(0, true, 64));
    assert_eq!(entered.recv_timeout(PATIENCE).unwrap(), Pts(0));
    // A graph ten times too slow: ten frames come while it works on one.
    for round in 1..=20 {
        for index in 0..10 {
            engine.push(packet((round - 1) * 10 + index + 1, false, 64));
            decoded.recv_timeout(PATIENCE).unwrap();
        }
        // The last one is in the slot once it has been counted as decoded.
        while engine.counters().decoded < (round * 10 + 1) as u64
            || engine.counters().replaced < (round * 9) as u64
        {
            std::thread::yield_now();
        }
        leave.send(()).unwrap();
        assert_eq!(entered.recv_timeout(PATIENCE).unwrap(), Pts(round * 10 * STEP));
    }
    drop(leave);
    engine.end();
    assert_eq!(rest(&events).len(), 21);
    let counters = engine.stop();
    assert_eq!((counters.out, counters.replaced), (21, 180));
    accounted(counters);
}

#[test]
fn a_slow_decoder_skips_to_the_next_key_frame_and_asks_for_it() {
    let Setup { mut config, events } = setup();
    // Twice the time that the stream has for a picture.
    let slow = Duration::from_millis(4);
    config.input =
        packets(move || Ok(Box::new(FakeDecoder(Box::new(move |_| std::thread::sleep(slow))))));
    let engine = Engine::spawn(config).unwrap();
    // 2 ms a picture, all of them references (the bytes hold no H.264 slice that says otherwise).
    let at = |index: i64, key| {
        let mut packet = packet(index, key, 64);
        packet.pts = Pts(index * 180);
        packet.dts = packet.pts;
        packet.data = Bytes::from_static(&[64, 0, 0, 0, 1, 0x61, 1, 2]);
        packet
    };
    for index in 0..1000 {
        engine.push(at(index, index == 0));
    }
    while !matches!(next(&events), Event::KeyWanted) {}
    engine.push(at(1000, true));
    engine.push(at(1001, false));
    engine.end();
    let last: Vec<i64> = rest(&events)
        .iter()
        .filter_map(|event| match event {
            Event::Packet { pts, .. } => Some(pts.0 / 180),
            _ => None,
        })
        .collect();
    assert_eq!(last.last(), Some(&1001));
    let counters = engine.stop();
    assert!(counters.skipped > 500, "{counters:?}");
    accounted(counters);
}

#[test]
fn a_decoder_that_is_behind_leaves_out_what_nothing_refers_to() {
    let Setup { mut config, events } = setup();
    let (tell, decoded) = sync_channel(1000);
    let (leave, wait) = sync_channel::<()>(1);
    let mut wait = Some(wait);
    config.input = packets(move || {
        let (tell, mut wait) = (tell.clone(), wait.take());
        Ok(Box::new(FakeDecoder(Box::new(move |packet| {
            if let Some(wait) = wait.take() {
                let _ = wait.recv();
            }
            tell.send(packet.pts.0 / STEP).unwrap();
        }))))
    });
    let engine = Engine::spawn(config).unwrap();
    let slice = |index: i64, header: u8| {
        let mut packet = packet(index, index == 0, 64);
        packet.data = Bytes::from(vec![64, 0, 0, 0, 1, header, 1, 2]);
        packet
    };
    // The first holds the decoder up until all have come: every odd one is no reference. The
    // decoder itself is quick, so no key frame is needed.
    engine.push(slice(0, 0x65));
    for index in 1..31 {
        engine.push(slice(index, if index % 2 == 1 { 0x01 } else { 0x61 }));
    }
    // The stall must not read as a decoder that is slow: eight seconds of stream follow at once.
    leave.send(()).unwrap();
    engine.end();
    rest(&events);
    let decoded: Vec<i64> = decoded.try_iter().collect();
    let late = decoded.iter().filter(|index| **index < 24).copied().collect::<Vec<_>>();
    // Either way nothing late and unreferred was decoded.
    assert!(late.iter().all(|index| index % 2 == 0), "{decoded:?}");
    accounted(engine.stop());
}

#[test]
fn a_full_queue_is_thrown_away_and_decoding_goes_on_at_a_key_packet() {
    let Setup { mut config, events } = setup();
    let (leave, wait) = sync_channel::<()>(1);
    let (enter, entered) = sync_channel::<()>(1);
    let mut wait = Some(wait);
    config.input = packets(move || {
        let (mut wait, enter) = (wait.take(), enter.clone());
        Ok(Box::new(FakeDecoder(Box::new(move |_| {
            if let Some(wait) = wait.take() {
                enter.send(()).unwrap();
                let _ = wait.recv();
            }
        }))))
    });
    let engine = Engine::spawn(config).unwrap();
    engine.push(packet(0, true, 64));
    entered.recv_timeout(PATIENCE).unwrap();
    for index in 1..=QUEUE_PACKETS_MAX as i64 + 50 {
        engine.push(packet(index, false, 64));
    }
    engine.push(packet(2000, true, 64));
    leave.send(()).unwrap();
    engine.end();
    rest(&events);
    let counters = engine.stop();
    // The newer of the two may have overtaken the other in the slot.
    assert_eq!((counters.decoded, counters.out + counters.replaced), (2, 2));
    assert_eq!(counters.skipped, QUEUE_PACKETS_MAX as u64 + 50);
    accounted(counters);
}

#[test]
fn a_broken_picture_is_named_and_the_next_key_packet_mends_it() {
    let Setup { config, events } = setup();
    let engine = Engine::spawn(config).unwrap();
    engine.push(packet(0, true, 64));
    assert_eq!(next_packet(&events).0, Pts(0));
    engine.push(packet(1, false, 0xff));
    let told = [next(&events), next(&events)];
    assert!(matches!(told[0], Event::Failed(Pts(STEP))) || matches!(told[0], Event::KeyWanted));
    assert!(told.iter().any(|event| matches!(event, Event::KeyWanted)));
    engine.push(packet(2, false, 64));
    engine.push(packet(3, true, 64));
    assert_eq!(next_packet(&events).0, Pts(3 * STEP));
    let counters = engine.stop();
    assert_eq!((counters.failed, counters.skipped, counters.out), (1, 1, 2));
    accounted(counters);
}

#[test]
fn a_new_graph_takes_over_between_two_frames_and_names_the_first() {
    let Setup { config, events } = setup();
    let engine = Engine::spawn(config).unwrap();
    for index in 0..30 {
        if index == 10 {
            engine.set_graph(graph(|_| panic!("superseded")), "one".to_owned());
            engine.set_graph(
                graph(|frame| {
                    frame.size.width = 32;
                    Ok(())
                }),
                "two".to_owned(),
            );
            assert!(matches!(next(&events), Event::Superseded(id) if id == "one"));
        }
        engine.push(packet(index, index == 0, 64));
        if index == 10 {
            assert!(matches!(next(&events), Event::Applied(id, Pts(30_000)) if id == "two"));
        }
        let Event::Packet { pts, key, size } = next(&events) else { panic!() };
        assert_eq!(pts, Pts(index * STEP));
        // The graph changes the picture's size, so a new encoder begins with a key frame.
        assert_eq!(key, index == 0 || index == 10);
        assert_eq!(size.width, if index < 10 { 64 } else { 32 });
    }
    assert_eq!(engine.stop().out, 30);
}

#[test]
fn a_new_picture_size_gets_its_own_graph_and_encoder() {
    let Setup { mut config, events } = setup();
    let (tell, asked) = sync_channel(10);
    config.graph = Box::new(move |size| {
        tell.send(size.width).unwrap();
        Ok(graph(move |frame| if frame.size == size { Ok(()) } else { Err(failed()) }))
    });
    let engine = Engine::spawn(config).unwrap();
    for (index, width) in [64, 64, 32, 32, 64].into_iter().enumerate() {
        engine.push(packet(index as i64, index == 0, width));
        let Event::Packet { key, size, .. } = next(&events) else { panic!() };
        assert_eq!((key, size.width), ([0, 2, 4].contains(&index), u32::from(width)));
    }
    assert_eq!(engine.stop().out, 5);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [64, 32, 64]);
}

#[test]
fn a_frame_that_the_graph_fails_on_is_passed_on_unchanged_and_counted() {
    let Setup { mut config, events } = setup();
    config.graph = Box::new(|_| {
        Ok(graph(|frame| if frame.pts == Pts(STEP) { Err(failed()) } else { Ok(()) }))
    });
    let engine = Engine::spawn(config).unwrap();
    for index in 0..3 {
        engine.push(packet(index, index == 0, 64));
        if index == 1 {
            assert!(matches!(next(&events), Event::Failed(Pts(STEP))));
        }
        assert_eq!(next_packet(&events).0, Pts(index * STEP));
    }
    let counters = engine.stop();
    assert_eq!((counters.out, counters.failed), (2, 1));
    accounted(counters);
}

/// Lets in as many frames as it has leave for.
#[derive(Default)]
struct Paid {
    leave: Mutex<u32>,
    seen: Mutex<Vec<(Pts, &'static str)>>,
}

impl Gate for Paid {
    fn admit(&self, pts: Pts, _: Size) -> bool {
        let mut leave = self.leave.lock();
        let open = *leave > 0;
        *leave = leave.saturating_sub(1);
        self.seen.lock().push((pts, if open { "in" } else { "refused" }));
        open
    }
    fn returned(&self, pts: Pts, coded_bytes: usize) {
        assert_eq!(coded_bytes, 5);
        self.seen.lock().push((pts, "returned"));
    }
    fn dropped(&self, pts: Pts, why: Dropped) {
        let why = if why == Dropped::Replaced { "replaced" } else { "dropped" };
        self.seen.lock().push((pts, why));
    }
}

#[test]
fn a_frame_that_is_not_admitted_waits_for_a_wake_or_a_newer_one() {
    let Setup { mut config, events } = setup();
    let gate = Arc::new(Paid::default());
    config.gate = gate.clone();
    let engine = Engine::spawn(config).unwrap();
    let until = |pts: i64, what| {
        let deadline = Instant::now() + PATIENCE;
        while !gate.seen.lock().contains(&(Pts(pts * STEP), what)) {
            assert!(Instant::now() < deadline, "{pts} was not {what}");
            std::thread::yield_now();
        }
    };
    engine.push(packet(0, true, 64));
    until(0, "refused");
    engine.push(packet(1, false, 64));
    until(0, "replaced");
    until(1, "refused");
    *gate.leave.lock() = 1;
    engine.waker().wake();
    assert_eq!(next_packet(&events).0, Pts(STEP));
    engine.push(packet(2, false, 64));
    until(2, "refused");
    *gate.leave.lock() = 1;
    engine.push(packet(3, false, 64));
    assert_eq!(next_packet(&events).0, Pts(3 * STEP));
    engine.push(packet(4, false, 64));
    until(4, "refused");
    let counters = engine.stop();
    assert_eq!((counters.out, counters.replaced, counters.stopped), (2, 2, 1));
    assert!(gate.seen.lock().contains(&(Pts(4 * STEP), "dropped")));
    accounted(counters);
}

#[test]
fn requests_for_key_frames_within_half_a_second_are_one() {
    let Setup { config, events } = setup();
    let engine = Engine::spawn(config).unwrap();
    let mut keys = Vec::new();
    for index in 0..60 {
        // Many viewers ask at every frame of the first second.
        if index < 30 {
            engine.force_key();
            engine.force_key();
        }
        engine.push(packet(index, index == 0, 64));
        let (_, key) = next_packet(&events);
        if key {
            keys.push(index);
        }
    }
    assert_eq!(keys, [0, 15, 30]);
    drop(engine);
}

#[test]
fn an_encoder_or_decoder_that_fails_is_replaced() {
    let Setup { mut config, events } = setup();
    let mut made = 0;
    config.encoder = Box::new(move |settings| {
        made += 1;
        if made == 1 {
            return Err(failed());
        }
        Ok(Box::new(FakeEncoder { size: settings.size, first: true }))
    });
    let mut made = 0;
    config.input = packets(move || {
        made += 1;
        if made == 1 { Err(failed()) } else { Ok(Box::new(FakeDecoder(Box::new(|_| {})))) }
    });
    let engine = Engine::spawn(config).unwrap();
    for index in 0..4 {
        engine.push(packet(index, true, 64));
        loop {
            match next(&events) {
                Event::Packet { pts, .. } => {
                    assert!(index >= 2);
                    assert_eq!(pts, Pts(index * STEP));
                    break;
                }
                Event::Failed(pts) => {
                    assert!(index < 2);
                    assert_eq!(pts, Pts(index * STEP));
                    break;
                }
                Event::KeyWanted => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let counters = engine.stop();
    assert_eq!((counters.failed, counters.out), (2, 2));
}

#[test]
fn dropping_an_engine_ends_its_threads_and_counts_what_was_left() {
    let Setup { mut config, .. } = setup();
    let alive = Arc::new(());
    let held = alive.clone();
    let gate = Arc::new(Paid::default());
    config.gate = gate.clone();
    config.input = packets(move || {
        let held = held.clone();
        Ok(Box::new(FakeDecoder(Box::new(move |_| {
            let _ = &held;
        }))))
    });
    let engine = Engine::spawn(config).unwrap();
    assert!(engine.is_running());
    for index in 0..10 {
        engine.push(packet(index, index == 0, 64));
    }
    drop(engine);
    assert_eq!(Arc::strong_count(&alive), 1, "a thread still holds its decoder");
    let seen = gate.seen.lock();
    let ended = seen.iter().filter(|(_, what)| *what == "replaced" || *what == "dropped").count();
    assert_eq!(ended, 10, "{seen:?}");
}

#[test]
fn a_hanging_stage_does_not_hang_its_owner() {
    let Setup { mut config, .. } = setup();
    let (slow, leave, entered) = stepped();
    let mut slow = Some(slow);
    config.graph = Box::new(move |_| slow.take().ok_or_else(failed));
    let engine = Engine::spawn(config).unwrap();
    engine.push(packet(0, true, 64));
    entered.recv_timeout(PATIENCE).unwrap();
    engine.push(packet(1, false, 64));
    drop(engine);
    drop(leave);
}

#[test]
fn a_stage_that_panics_ends_the_engine_and_push_goes_on_without_blocking() {
    let Setup { mut config, .. } = setup();
    config.graph = Box::new(|_| Ok(graph(|_| panic!("as told"))));
    let engine = Engine::spawn(config).unwrap();
    engine.push(packet(0, true, 64));
    let deadline = Instant::now() + PATIENCE;
    while engine.is_running() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    for index in 1..10 {
        engine.push(packet(index, false, 64));
    }
}

#[test]
fn one_decoder_serves_several_engines_whose_groups_begin_together() {
    let small = setup();
    let small_engine =
        Engine::spawn(Config { input: Input::Frames, ..small.config }).expect("a thread");
    let feed = small_engine.feed();
    let Setup { mut config, events } = setup();
    config.graph = Box::new(move |_| {
        let feed = feed.clone();
        Ok(graph(move |frame| {
            feed.push(frame.clone());
            Ok(())
        }))
    });
    let engine = Engine::spawn(config).expect("threads");
    for index in 0..6 {
        if index == 4 {
            engine.key_at(Pts(4 * STEP));
            small_engine.key_at(Pts(4 * STEP));
        }
        engine.push(packet(index, index == 0, 64));
        let expected = (Pts(index * STEP), index == 0 || index == 4);
        assert_eq!(next_packet(&events), expected);
        assert_eq!(next_packet(&small.events), expected);
    }
    assert!(small_engine.is_running());
    small_engine.end();
    assert!(matches!(next(&small.events), Event::Ended));
    // Who is gone takes nothing and holds nobody up.
    assert_eq!(small_engine.stop().out, 6);
    engine.push(packet(6, false, 64));
    assert_eq!(next_packet(&events), (Pts(6 * STEP), false));
}
