//! The head of a PES packet (2.4.3.6): which stream, how long, when.

use bytes::{BufMut, BytesMut};

/// Bytes before the optional fields: start code, stream id, length, flags, header length.
pub(super) const HEAD_BYTES: usize = 9;

/// Bytes of a head with both timestamps and the most stuffing.
pub(super) const HEAD_BYTES_MAX: usize = HEAD_BYTES + 255;

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PesHead {
    /// Bytes after the length field; `None` for 0, where the next PES packet ends this one.
    pub(super) length: Option<usize>,
    /// PTS and DTS modulo 2^33; both are there or none, as DTS is PTS where it is left out.
    pub(super) times: Option<(u64, u64)>,
    /// Whether the payload begins with the start of a unit.
    pub(super) aligned: bool,
    /// Bytes of the head.
    pub(super) head_bytes: usize,
}

/// Outcome of looking at the first bytes of a PES packet.
pub(super) enum Look {
    /// More bytes are needed, at least this many in all.
    Need(usize),
    /// Not a PES packet with timestamps and payload.
    Broken,
    Head(PesHead),
}

impl PesHead {
    pub(super) fn parse(bytes: &[u8]) -> Look {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Look::Need(HEAD_BYTES) };
        // Stream ids of video, audio and private stream 1; others have no such head, or nothing
        // that this node carries.
        let carried = matches!(head[3], 0xbd | 0xc0..=0xef | 0xfd);
        if head[..3] != [0, 0, 1] || !carried || head[6] & 0xc0 != 0x80 {
            return Look::Broken;
        }
        // PES_scrambling_control
        if head[6] & 0x30 != 0 {
            return Look::Broken;
        }
        let head_bytes = HEAD_BYTES + usize::from(head[8]);
        if bytes.len() < head_bytes {
            return Look::Need(head_bytes);
        }
        let optional = &bytes[HEAD_BYTES..head_bytes];
        let times = match head[7] >> 6 {
            2 => optional.get(..5).and_then(read_time).map(|pts| (pts, pts)),
            3 => optional
                .get(..10)
                .and_then(|both| Some((read_time(&both[..5])?, read_time(&both[5..])?))),
            _ => None,
        };
        if head[7] >> 6 >= 2 && times.is_none() {
            return Look::Broken;
        }
        let stated = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let length = (stated != 0).then_some(stated);
        // A length that does not hold its own head.
        if length.is_some_and(|length| length + 6 < head_bytes) {
            return Look::Broken;
        }
        Look::Head(Self { length, times, aligned: head[6] & 0x04 != 0, head_bytes })
    }

    /// Appends a head. `length` is what `PES_packet_length` says, `stuffing` bytes end the head.
    pub(super) fn write(
        out: &mut BytesMut,
        stream_id: u8,
        length: usize,
        times: Option<(u64, u64)>,
        stuffing: u8,
    ) {
        out.put_slice(&[0, 0, 1, stream_id]);
        out.put_u16(length as u16);
        let both = times.filter(|(pts, dts)| pts != dts);
        out.put_u8(if times.is_some() { 0x84 } else { 0x80 });
        out.put_u8(match (both, times) {
            (Some(_), _) => 0xc0,
            (None, Some(_)) => 0x80,
            (None, None) => 0,
        });
        out.put_u8(times_bytes(times) as u8 + stuffing);
        if let Some((pts, dts)) = both {
            write_time(out, 3, pts);
            write_time(out, 1, dts);
        } else if let Some((pts, _)) = times {
            write_time(out, 2, pts);
        }
        out.put_bytes(0xff, usize::from(stuffing));
    }
}

/// Bytes that timestamps take in a head.
pub(super) fn times_bytes(times: Option<(u64, u64)>) -> usize {
    match times {
        None => 0,
        Some((pts, dts)) if pts == dts => 5,
        Some(_) => 10,
    }
}

fn write_time(out: &mut BytesMut, prefix: u8, time: u64) {
    out.put_u8(prefix << 4 | (time >> 29) as u8 & 0x0e | 1);
    out.put_u16((time >> 14) as u16 & 0xfffe | 1);
    out.put_u16((time << 1) as u16 | 1);
}

/// A timestamp of 33 bits; `None` when its marker bits are wrong.
fn read_time(bytes: &[u8]) -> Option<u64> {
    let &[b0, b1, b2, b3, b4] = bytes else { return None };
    if b0 & b2 & b4 & 1 == 0 {
        return None;
    }
    let high = u64::from(b0 >> 1 & 7) << 30;
    let middle = u64::from(u16::from_be_bytes([b1, b2]) >> 1) << 15;
    Some(high | middle | u64::from(u16::from_be_bytes([b3, b4]) >> 1))
}
