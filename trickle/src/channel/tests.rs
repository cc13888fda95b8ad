//! The rules of a channel one by one, then against a naive model.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, Default)]
struct Bell(Rc<Cell<u32>>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

fn channel(limits: Limits) -> (Channel<Bell>, Instant) {
    let now = Instant::now();
    (Channel::new(limits, now), now)
}

fn open(channel: &mut Channel<Bell>, index: u64) -> SegmentId {
    match channel.open(Target::At(index), false) {
        Ok(Opened::Open { id, index: at, .. }) if at == index => id,
        other => panic!("segment {index}: {other:?}"),
    }
}

/// Writes a whole segment of one chunk.
fn write(channel: &mut Channel<Bell>, now: Instant, index: u64, text: &'static str) {
    let id = open(channel, index);
    channel.append(now, id, Bytes::from_static(text.as_bytes())).unwrap();
    channel.finish(id);
}

fn read_all(channel: &Channel<Bell>, id: SegmentId) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cursor in 0.. {
        match channel.read(id, cursor) {
            Read::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            _ => break,
        }
    }
    bytes
}

#[test]
fn the_head_moves_with_the_first_byte_and_not_with_the_request() {
    let (mut channel, now) = channel(Limits::default());
    let id = open(&mut channel, 0);
    assert_eq!(channel.next_write(), 0);
    channel.append(now, id, Bytes::new()).unwrap();
    assert_eq!(channel.next_write(), 0);
    channel.append(now, id, Bytes::from_static(b"x")).unwrap();
    assert_eq!(channel.next_write(), 1);
    channel.finish(id);
    let id = open(&mut channel, 1);
    channel.finish(id);
    assert_eq!(channel.next_write(), 2, "an empty segment counts when it ends");
}

#[test]
fn minus_one_waits_for_the_next_and_minus_two_takes_the_current_segment() {
    let (mut channel, now) = channel(Limits::default());
    assert_eq!(channel.subscribe(Start::Current).unwrap().index, 0);
    assert_eq!(channel.subscribe(Start::Next).unwrap().index, 0);
    write(&mut channel, now, 0, "a");
    assert_eq!(channel.subscribe(Start::Current).unwrap().index, 0);
    assert_eq!(channel.subscribe(Start::Next).unwrap().index, 1);
}

#[test]
fn a_reader_may_wait_at_the_head_and_at_one_of_an_empty_channel_and_nowhere_else() {
    let (mut channel, now) = channel(Limits::default());
    assert!(channel.subscribe(Start::At(1)).is_ok());
    let refused = |latest| Err(Refusal::NotAvailable { latest });
    assert_eq!(channel.subscribe(Start::At(2)).map(drop), refused(0));
    write(&mut channel, now, 0, "a");
    assert_eq!(channel.subscribe(Start::At(2)).map(drop), refused(1));
    assert!(channel.subscribe(Start::At(1)).is_ok());
    for index in 1..6 {
        write(&mut channel, now, index, "a");
    }
    assert_eq!(channel.subscribe(Start::At(0)).map(drop), refused(6));
    assert!(channel.subscribe(Start::At(1)).is_ok());
    assert_eq!(channel.stats().jumps, 3);
}

#[test]
fn a_second_request_appends_and_its_end_ends_the_segment() {
    let (mut channel, now) = channel(Limits::default());
    let first = open(&mut channel, 0);
    channel.append(now, first, Bytes::from_static(b"ab")).unwrap();
    channel.release(first);
    let reader = channel.subscribe(Start::At(0)).unwrap();
    assert_eq!(channel.read(reader.id, 1), Read::Wait, "a broken request does not end it");
    let second = open(&mut channel, 0);
    channel.append(now, second, Bytes::from_static(b"cd")).unwrap();
    channel.finish(second);
    assert_eq!(read_all(&channel, reader.id), b"abcd");
    assert_eq!(channel.read(reader.id, 2), Read::End { closed: false, latest: 1 });
}

#[test]
fn a_late_segment_is_over_and_moves_nothing() {
    let (mut channel, now) = channel(Limits::default());
    for index in 0..6 {
        write(&mut channel, now, index, "a");
    }
    for late in [5, 3, 1] {
        let opened = channel.open(Target::At(late), false).unwrap();
        assert!(matches!(opened, Opened::Over { index } if index == late));
    }
    assert_eq!(channel.next_write(), 6);
    assert_eq!(channel.stats().writers, 0);
}

#[test]
fn a_publisher_that_begins_again_a_ring_behind_takes_the_head_with_it() {
    let (mut channel, now) = channel(Limits::default());
    for index in 0..20 {
        write(&mut channel, now, index, "a");
    }
    write(&mut channel, now, 0, "b");
    assert_eq!(channel.next_write(), 1);
    assert!(channel.subscribe(Start::At(1)).is_ok());
}

#[test]
fn a_reset_ends_the_lower_segments_and_leaves_the_higher_ones_open() {
    let (mut channel, now) = channel(Limits::default());
    let lower = open(&mut channel, 2);
    channel.append(now, lower, Bytes::from_static(b"x")).unwrap();
    let higher = open(&mut channel, 4);
    let waiting = channel.subscribe(Start::At(2)).unwrap();
    assert!(matches!(channel.open(Target::At(3), true), Ok(Opened::Open { index: 3, .. })));
    assert_eq!(channel.read(waiting.id, 1), Read::End { closed: false, latest: 3 });
    assert!(channel.is_over(lower) && !channel.is_over(higher));
}

#[test]
fn an_index_far_ahead_is_refused_once_the_channel_has_begun() {
    let (mut channel, now) = channel(Limits { index_window: 10, ..Limits::default() });
    write(&mut channel, now, 1_000_000, "a");
    assert_eq!(channel.next_write(), 1_000_001);
    assert!(channel.open(Target::At(1_000_011), false).is_ok());
    assert_eq!(channel.open(Target::At(1_000_012), false).map(drop), Err(Refusal::Index));
    assert_eq!(channel.open(Target::At(INDEX_MAX + 1), false).map(drop), Err(Refusal::Index));
}

#[test]
fn the_highest_index_works_and_the_one_after_it_is_refused() {
    let (mut channel, now) = channel(Limits::default());
    write(&mut channel, now, INDEX_MAX, "a");
    assert_eq!(channel.next_write(), i64::MAX as u64);
    assert!(channel.open(Target::Next, false).is_err());
    assert!(channel.subscribe(Start::Next).is_err());
    assert!(channel.subscribe(Start::Current).is_ok());
    assert!(channel.open(Target::At(INDEX_MAX), false).is_ok());
}

#[test]
fn closing_lets_readers_finish_and_takes_no_more() {
    let (mut channel, now) = channel(Limits::default());
    let id = open(&mut channel, 0);
    channel.append(now, id, Bytes::from_static(b"a")).unwrap();
    let mid = channel.subscribe(Start::At(0)).unwrap();
    let empty = channel.subscribe(Start::At(1)).unwrap();
    let rung = empty.waker.0.get();
    channel.close();
    assert!(empty.waker.0.get() > rung);
    channel.append(now, id, Bytes::from_static(b"orphan")).unwrap();
    assert!(channel.finish(id), "the writer learns that the channel is closed");
    assert_eq!(read_all(&channel, mid.id), b"a");
    assert_eq!(channel.read(empty.id, 0), Read::End { closed: true, latest: 1 });
    assert_eq!(channel.open(Target::At(1), false).map(drop), Err(Refusal::Closed));
    assert_eq!(channel.subscribe(Start::At(2)).map(drop), Err(Refusal::Closed));
    assert!(channel.subscribe(Start::At(0)).is_ok(), "what it has stays readable");
}

#[test]
fn a_deleted_empty_segment_sends_its_readers_onwards() {
    let (mut channel, _) = channel(Limits::default());
    let reader = channel.subscribe(Start::Next).unwrap();
    assert_eq!(channel.delete(1), Err(Refusal::NoSegment));
    channel.delete(0).unwrap();
    assert_eq!(channel.read(reader.id, 0), Read::End { closed: false, latest: 1 });
    assert_eq!(channel.subscribe(Start::Next).unwrap().index, 1);
}

#[test]
fn a_segment_that_nobody_writes_any_more_ends_when_a_later_one_begins() {
    let (mut channel, now) = channel(Limits::default());
    let broken = open(&mut channel, 0);
    channel.append(now, broken, Bytes::from_static(b"a")).unwrap();
    let reader = channel.subscribe(Start::At(0)).unwrap();
    channel.release(broken);
    let live = open(&mut channel, 1);
    assert_eq!(channel.read(reader.id, 1), Read::Wait);
    channel.append(now, live, Bytes::from_static(b"b")).unwrap();
    assert_eq!(channel.read(reader.id, 1), Read::End { closed: false, latest: 2 });
}

#[test]
fn a_reader_that_lags_keeps_its_segment_for_one_more_ring_and_is_then_cut() {
    let (mut channel, now) = channel(Limits { ring_segments: 2, ..Limits::default() });
    write(&mut channel, now, 0, "zero");
    let slow = channel.subscribe(Start::At(0)).unwrap();
    let others: Vec<_> = (1..4)
        .map(|index| {
            write(&mut channel, now, index, "more");
            channel.subscribe(Start::At(index)).unwrap()
        })
        .collect();
    assert_eq!(channel.read(slow.id, 0), Read::Chunk(Bytes::from_static(b"zero")));
    write(&mut channel, now, 4, "more");
    assert_eq!(channel.read(slow.id, 0), Read::Cut);
    assert_eq!(channel.stats().cuts, 1);
    others.into_iter().chain([slow]).for_each(|reader| channel.leave(reader.id));
    assert_eq!(channel.stats().readers, 0);
    assert_eq!(channel.stats().bytes_kept, 2 * (4 + CHUNK_COST));
}

#[test]
fn bytes_are_bounded_by_segment_and_by_channel() {
    let limits = Limits { segment_bytes: 1000, channel_bytes: 1500, ..Limits::default() };
    let (mut channel, now) = channel(limits);
    let id = open(&mut channel, 0);
    let reader = channel.subscribe(Start::At(0)).unwrap();
    channel.append(now, id, Bytes::from_static(&[0; 900])).unwrap();
    let refused = channel.append(now, id, Bytes::from_static(&[0; 100]));
    assert_eq!(refused, Err(Refusal::SegmentTooLarge { limit: 1000 }));
    assert_eq!(channel.read(reader.id, 0), Read::Cut);
    channel.release(id);
    for index in 1..4 {
        let id = open(&mut channel, index);
        channel.append(now, id, Bytes::from_static(&[0; 600])).unwrap();
        channel.finish(id);
        assert!(channel.stats().bytes_kept <= 1500);
    }
    assert!(channel.subscribe(Start::At(1)).is_err(), "the oldest went");
    assert!(channel.subscribe(Start::At(2)).is_ok());
}

#[test]
fn tiny_chunks_cost_more_than_their_bytes() {
    let (mut channel, now) = channel(Limits { segment_bytes: 1000, ..Limits::default() });
    let id = open(&mut channel, 0);
    let taken =
        (0..1000).take_while(|_| channel.append(now, id, Bytes::from_static(b"x")).is_ok()).count();
    assert_eq!(taken, 1000 / (1 + CHUNK_COST));
}

#[test]
fn readers_and_writers_are_counted_and_limited() {
    let (mut channel, _) = channel(Limits { readers: 2, writers: 1, ..Limits::default() });
    let one = channel.subscribe(Start::Next).unwrap();
    channel.subscribe(Start::Next).unwrap();
    let refused = channel.subscribe(Start::Next).map(drop);
    assert_eq!(refused, Err(Refusal::TooManyReaders { limit: 2 }));
    channel.leave(one.id);
    channel.subscribe(Start::Next).unwrap();
    let id = open(&mut channel, 0);
    let refused = channel.open(Target::At(1), false).map(drop);
    assert_eq!(refused, Err(Refusal::TooManyWriters { limit: 1 }));
    channel.release(id);
    open(&mut channel, 1);
}

#[test]
fn a_reader_at_the_head_takes_the_segment_that_its_publisher_skipped_to() {
    let (mut channel, now) = channel(Limits::default());
    for index in 0..3 {
        write(&mut channel, now, index, "a");
    }
    let ahead = open(&mut channel, 8);
    let reader = channel.subscribe(Start::Next).unwrap();
    assert_eq!((reader.index, reader.id), (8, ahead));
}

#[test]
fn idle_time_runs_from_the_last_first_byte() {
    let (mut channel, now) = channel(Limits::default());
    let id = open(&mut channel, 0);
    let later = now + Duration::from_secs(1);
    channel.append(later, id, Bytes::from_static(b"a")).unwrap();
    channel.append(later + Duration::from_secs(1), id, Bytes::from_static(b"b")).unwrap();
    assert_eq!(channel.last_write(), later);
}

/// What a publisher, who goes forwards only, and its readers may do.
#[derive(Clone, Debug)]
enum Step {
    Open,
    Append(u8),
    Finish,
    Break,
    Delete(u64),
    Subscribe(Start),
    Leave(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Open),
        6 => any::<u8>().prop_map(Step::Append),
        4 => Just(Step::Finish),
        1 => Just(Step::Break),
        1 => (0..12u64).prop_map(Step::Delete),
        3 => prop_oneof![
            Just(Start::Next), Just(Start::Current), (0..16u64).prop_map(Start::At)
        ].prop_map(Step::Subscribe),
        2 => (0..8usize).prop_map(Step::Leave),
        1 => Just(Step::Close),
    ]
}

/// The naive form: every segment is kept for ever, the ring is a comparison of numbers.
#[derive(Default)]
struct Model {
    segments: std::collections::BTreeMap<u64, (Vec<u8>, bool)>,
    next: u64,
    closed: bool,
    /// The segment being written, if any, and whether its request is open.
    writing: Option<u64>,
    index: u64,
}

impl Model {
    /// Whether the ring's place of `index` is not taken by a later segment.
    fn in_ring(&self, index: u64, ring: u64) -> bool {
        self.segments.contains_key(&index) && !self.later(index, ring)
    }

    /// Whether a later segment has the ring's place of `index`.
    fn later(&self, index: u64, ring: u64) -> bool {
        self.segments.range(index + 1..).any(|(other, _)| other % ring == index % ring)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_agrees_with_a_model_that_keeps_everything(
        steps in proptest::collection::vec(step(), 1..120), ring in 2usize..6
    ) {
        let limits = Limits { ring_segments: ring, ..Limits::default() };
        let (mut channel, now) = channel(limits);
        let ring = ring as u64;
        let mut model = Model::default();
        let mut writer = None;
        let mut readers: Vec<(SegmentId, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Open if writer.is_none() => {
                    let opened = channel.open(Target::At(model.index), false);
                    if model.closed {
                        prop_assert_eq!(opened.map(drop), Err(Refusal::Closed));
                        continue;
                    }
                    let over = model.segments.get(&model.index).is_some_and(|s| s.1)
                        || model.later(model.index, ring);
                    match opened.unwrap() {
                        Opened::Over { .. } => { prop_assert!(over); model.index += 1; }
                        Opened::Open { id, .. } => {
                            prop_assert!(!over);
                            writer = Some(id);
                            model.writing = Some(model.index);
                            // The segment whose place this takes is over.
                            let place = model.index % ring;
                            for (_, segment) in
                                model.segments.range_mut(..model.index).filter(|s| s.0 % ring == place)
                            {
                                segment.1 = true;
                            }
                            model.segments.entry(model.index).or_default();
                        }
                    }
                }
                Step::Append(byte) => if let (Some(id), Some(index)) = (writer, model.writing) {
                    channel.append(now, id, Bytes::from(vec![byte])).unwrap();
                    if !model.segments[&index].1 {
                        model.segments.get_mut(&index).unwrap().0.push(byte);
                        model.next = model.next.max(index + 1);
                        model.segments.range_mut(..index).for_each(|s| s.1.1 = true);
                    }
                },
                Step::Finish => if let (Some(id), Some(index)) = (writer.take(), model.writing.take()) {
                    prop_assert_eq!(channel.finish(id), model.closed);
                    model.segments.get_mut(&index).unwrap().1 = true;
                    model.next = model.next.max(index + 1);
                    model.segments.range_mut(..index).for_each(|s| s.1.1 = true);
                    model.index = index + 1;
                },
                Step::Break => if let Some(id) = writer.take() {
                    channel.release(id);
                    model.writing = None;
                },
                Step::Delete(index) => {
                    let there = model.in_ring(index, ring);
                    prop_assert_eq!(channel.delete(index).is_ok(), there);
                    if there {
                        let segment = model.segments.get_mut(&index).unwrap();
                        segment.1 = true;
                        if segment.0.is_empty() && index >= model.next {
                            model.next = index + 1;
                            // Whoever waits below waits in vain, but for the open request.
                            let writing = model.writing;
                            model.segments.range_mut(..index)
                                .filter(|s| Some(*s.0) != writing).for_each(|s| s.1.1 = true);
                        }
                    }
                }
                Step::Subscribe(start) => {
                    let index = match start {
                        Start::Next => model.next,
                        Start::Current => model.next.saturating_sub(1),
                        Start::At(index) => index,
                    };
                    let waits = index == model.next || (model.next == 0 && index == 1);
                    match channel.subscribe(start) {
                        Ok(joined) => {
                            prop_assert_eq!(joined.latest, model.next);
                            if joined.index == index {
                                prop_assert!(model.in_ring(index, ring) || (waits && !model.closed));
                                if !model.segments.contains_key(&index) {
                                    // A waiting place ends a segment that nobody writes.
                                    let (place, writing) = (index % ring, model.writing);
                                    model.segments.range_mut(..index)
                                        .filter(|s| s.0 % ring == place && Some(*s.0) != writing)
                                        .for_each(|s| s.1.1 = true);
                                }
                                model.segments.entry(index).or_default();
                            } else {
                                prop_assert!(waits && joined.index > index);
                            }
                            readers.push((joined.id, joined.index));
                        }
                        Err(Refusal::Closed) => {
                            prop_assert!(model.closed && !model.in_ring(index, ring));
                        }
                        Err(Refusal::NotAvailable { latest }) => {
                            prop_assert_eq!(latest, model.next);
                            prop_assert!(!waits && !model.in_ring(index, ring));
                        }
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                Step::Leave(which) if which < readers.len() => {
                    channel.leave(readers.swap_remove(which).0);
                }
                Step::Close => {
                    channel.close();
                    model.closed = true;
                    model.segments.values_mut().for_each(|s| s.1 = true);
                }
                _ => {}
            }
            // What is readable is a prefix of, or all of, what was written there.
            prop_assert_eq!(channel.next_write(), model.next);
            for (id, index) in &readers {
                if channel.read(*id, 0) != Read::Cut {
                    prop_assert_eq!(&read_all(&channel, *id), &model.segments[index].0);
                }
            }
            prop_assert_eq!(channel.stats().readers, readers.len());
            prop_assert_eq!(channel.stats().writers, usize::from(writer.is_some()));
            let kept: usize = channel.slots.iter().flatten().chain(&channel.replaced)
                .map(|segment| segment.cost).sum();
            prop_assert_eq!(channel.stats().bytes_kept, kept);
            prop_assert!(channel.replaced.len() <= channel.slots.len());
        }
    }
}
