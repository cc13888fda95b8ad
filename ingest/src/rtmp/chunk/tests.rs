//! Chunks: round trips, vectors around the edges, and what a reader refuses.

use bytes::BufMut;
use proptest::prelude::*;

use super::read::FIRST_RESERVE;
use super::*;

const LIMITS: Limits = Limits { message_bytes: 10 << 20, unfinished_bytes: 12 << 20, streams: 32 };

/// All messages in `bytes`, fed in pieces of `step`.
fn read(bytes: &[u8], step: usize) -> Result<Vec<Message>, ChunkError> {
    let mut reader = Reader::new(LIMITS);
    let mut input = BytesMut::new();
    let mut messages = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        input.put_slice(piece);
        while let Some(message) = reader.next(&mut input)? {
            messages.push(message);
        }
        assert!(input.len() < 18, "at most a header waits");
    }
    Ok(messages)
}

/// A header as a peer may write it: type, chunk stream, timestamp field or delta, length, kind.
fn head(format: u8, id: u32, time: u32, length: u32, kind: u8) -> Vec<u8> {
    let mut out = match id {
        2..64 => vec![format << 6 | id as u8],
        64..320 => vec![format << 6, (id - 64) as u8],
        _ => vec![format << 6 | 1, (id - 64) as u8, ((id - 64) >> 8) as u8],
    };
    if format < 3 {
        out.extend(&time.min(EXTENDED).to_be_bytes()[1..]);
    }
    if format < 2 {
        out.extend(&length.to_be_bytes()[1..]);
        out.push(kind);
    }
    if format == 0 {
        out.extend([1, 0, 0, 0]);
    }
    if time >= EXTENDED {
        out.extend(time.to_be_bytes());
    }
    out
}

fn times(messages: &[Message]) -> Vec<u32> {
    messages.iter().map(|message| message.timestamp).collect()
}

#[test]
fn every_header_type_and_id_length_is_read() {
    for id in [3, 63, 64, 319, 320, 65_599] {
        let mut bytes = head(0, id, 1000, 3, 9);
        bytes.extend(b"abc");
        bytes.extend(head(1, id, 40, 2, 8));
        bytes.extend(b"de");
        bytes.extend(head(2, id, 33, 0, 0));
        bytes.extend(b"fg");
        bytes.extend(head(3, id, 0, 0, 0));
        bytes.extend(b"hi");
        for step in [1, 2, 7, 1000] {
            let messages = read(&bytes, step).unwrap();
            assert_eq!(times(&messages), [1000, 1040, 1073, 1106]);
            assert!(messages.iter().all(|message| message.stream == 1));
            let kinds: Vec<_> = messages.iter().map(|message| message.kind).collect();
            assert_eq!(kinds, [9, 8, 8, 8]);
            assert_eq!(&messages[3].data[..], b"hi");
        }
    }
}

#[test]
fn timestamps_around_the_extended_edge_are_read_in_every_header_type() {
    for time in [0xFF_FFFE, 0xFF_FFFF, 0x100_0000, 0xFFFF_FFFF] {
        // A message of two chunks; the extended field is repeated on the second.
        let mut bytes = head(0, 4, time, 130, 9);
        bytes.extend([1; 128]);
        bytes.extend(head(3, 4, if time >= EXTENDED { time } else { 0 }, 0, 0));
        bytes.extend([2; 2]);
        let messages = read(&bytes, 5).unwrap();
        assert_eq!(times(&messages), [time]);
        assert_eq!(messages[0].data[127..], [1, 2, 2]);
        // The same as a distance, which wraps at 32 bits.
        for format in [1, 2] {
            let mut bytes = head(0, 4, 7, 1, 9);
            bytes.push(0);
            bytes.extend(head(format, 4, time, 1, 9));
            bytes.push(0);
            assert_eq!(times(&read(&bytes, 3).unwrap()), [7, time.wrapping_add(7)], "{format}");
        }
    }
}

#[test]
fn a_peer_that_does_not_repeat_the_extended_field_is_understood() {
    let mut bytes = Vec::new();
    for time in [0x100_0000, 0x100_0020] {
        bytes.extend(head(0, 4, time, 300, 9));
        bytes.extend([1; 128]);
        bytes.push(0xC4);
        bytes.extend([2; 128]);
        bytes.push(0xC4);
        bytes.extend([3; 44]);
    }
    for step in [1, 100, 10_000] {
        let messages = read(&bytes, step).unwrap();
        assert_eq!(times(&messages), [0x100_0000, 0x100_0020]);
        for message in messages {
            assert_eq!(message.data[..], [[1; 128].as_slice(), &[2; 128], &[3; 44]].concat());
        }
    }
}

#[test]
fn an_aborted_message_leaves_no_trace() {
    let mut bytes = head(0, 4, 0, 200, 9);
    bytes.extend([1; 128]);
    bytes.extend(head(0, 2, 0, 4, ABORT));
    bytes.extend(4_u32.to_be_bytes());
    bytes.extend(head(0, 4, 50, 2, 9));
    bytes.extend([7, 8]);
    let messages = read(&bytes, 9).unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].data[..], [7, 8]);
}

#[test]
fn absurd_values_are_refused_by_name() {
    let with_size = |size: u32| {
        let mut bytes = head(0, 2, 0, 4, SET_CHUNK_SIZE);
        bytes.extend(size.to_be_bytes());
        bytes.extend(head(0, 3, 0, 200, 9));
        bytes.extend([5; 200]);
        read(&bytes, 1000)
    };
    assert_eq!(with_size(0), Err(ChunkError::Size(0)));
    assert_eq!(with_size(0x8000_0000), Err(ChunkError::Size(0x8000_0000)));
    assert_eq!(with_size(0x7FFF_FFFF).unwrap().len(), 1, "as good as the largest");

    let long = head(0, 3, 0, 0xFF_FFFF, 9);
    let limit = LIMITS.message_bytes;
    assert_eq!(
        read(&long, 99),
        Err(ChunkError::Long { chunk_stream: 3, length: 0xFF_FFFF, limit })
    );
    assert_eq!(
        read(&head(3, 9, 0, 0, 0), 99),
        Err(ChunkError::Fresh { chunk_stream: 9, format: 3 })
    );
    let mut cut = head(0, 3, 0, 200, 9);
    cut.extend([0; 128]);
    cut.extend(head(0, 3, 0, 200, 9));
    assert_eq!(
        read(&cut, 99),
        Err(ChunkError::Interrupted { chunk_stream: 3, have: 128, length: 200 })
    );
    let streams: Vec<u8> = (0..33).flat_map(|id| head(0, 100 + id, 0, 0, 9)).collect();
    assert_eq!(read(&streams, 99), Err(ChunkError::Streams(32)));
    assert_eq!(read(&head(0, 2, 0, 0, ABORT), 99), Err(ChunkError::Control(ABORT)));
}

#[test]
fn unfinished_messages_together_are_limited() {
    let mut reader =
        Reader::new(Limits { message_bytes: 1000, unfinished_bytes: 300, streams: 32 });
    let mut input = BytesMut::new();
    for id in 3..6 {
        input.put_slice(&head(0, id, 0, 1000, 9));
        input.put_bytes(0, 128);
    }
    assert_eq!(reader.next(&mut input), Err(ChunkError::Unfinished(300)));
}

#[test]
fn memory_follows_what_has_come_and_not_what_was_declared() {
    let mut reader = Reader::new(LIMITS);
    let mut input = BytesMut::from(&head(0, 3, 0, 10 << 20, 9)[..]);
    input.put_bytes(0, 100);
    assert_eq!(reader.next(&mut input), Ok(None));
    assert!(reader.memory() <= FIRST_RESERVE);
}

#[derive(Clone, Debug)]
struct Sent {
    id: u8,
    kind: u8,
    stream: u32,
    step: u32,
    data: Vec<u8>,
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let step = prop_oneof![0_u32..3, Just(40), Just(0xFF_FFFF), Just(0xFF_FFFE), any::<u32>()];
    let data = prop::collection::vec(any::<u8>(), 0..700);
    (3_u8..7, 8_u8..10, 0_u32..2, step, data).prop_map(|(id, kind, stream, step, data)| Sent {
        id,
        kind,
        stream,
        step,
        data,
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(
        sent in prop::collection::vec(any_sent(), 0..20),
        size in 1_u32..600,
        step in 1_usize..2000,
    ) {
        let (mut writer, mut out, mut time) = (Writer::new(), BytesMut::new(), 0_u32);
        let mut wanted = Vec::new();
        for (index, one) in sent.iter().enumerate() {
            if index == sent.len() / 2 {
                writer.set_chunk_size(size, &mut out);
            }
            time = time.wrapping_add(one.step);
            let (front, back) = one.data.split_at(one.data.len() / 3);
            writer.write(&mut out, one.id, one.kind, one.stream, time, &[front, back]);
            let data = BytesMut::from(&one.data[..]);
            wanted.push(Message { kind: one.kind, stream: one.stream, timestamp: time, data });
        }
        prop_assert_eq!(read(&out, step), Ok(wanted));
    }

    #[test]
    fn interleaved_messages_come_out_whole(
        lengths in prop::collection::vec(1_usize..900, 2..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        // Each message on its own chunk stream; the order of chunks is chance.
        let whole: Vec<Vec<u8>> = lengths.iter().map(|n| (0..*n).map(|i| i as u8).collect()).collect();
        let mut at = vec![0; lengths.len()];
        let mut bytes = Vec::new();
        let rest = (0..lengths.len()).flat_map(|index| std::iter::repeat_n(index, 8));
        let picks: Vec<_> = order.iter().map(|i| i.index(lengths.len())).chain(rest).collect();
        for index in picks {
            if at[index] == lengths[index] {
                continue;
            }
            let id = 10 + index as u32;
            let format = if at[index] == 0 { 0 } else { 3 };
            bytes.extend(head(format, id, 5, lengths[index] as u32, 9));
            let end = lengths[index].min(at[index] + 128);
            bytes.extend(&whole[index][at[index]..end]);
            at[index] = end;
        }
        let mut got: Vec<_> = read(&bytes, 77).unwrap().into_iter().map(|m| m.data.to_vec()).collect();
        let mut wanted = whole;
        got.sort();
        wanted.sort();
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn any_bytes_end_in_messages_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(&bytes, 100);
    }
}
