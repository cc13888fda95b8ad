//! SCTP packets as bytes (RFC 9260 3): the common header, its checksum and the chunks behind it.
//!
//! Reading borrows; a chunk whose length is a lie ends the packet. Writing fills a caller's buffer.

/// Header of a packet: ports, verification tag, checksum.
const HEADER_BYTES: usize = 12;

/// Type, flags and length of a chunk or parameter.
const CHUNK_HEADER_BYTES: usize = 4;

/// Chunk types that are read or written here.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const INIT_ACK: u8 = 2;
    pub(in super::super) const SACK: u8 = 3;
    pub(in super::super) const HEARTBEAT: u8 = 4;
    pub(in super::super) const HEARTBEAT_ACK: u8 = 5;
    pub(in super::super) const ABORT: u8 = 6;
    pub(in super::super) const SHUTDOWN: u8 = 7;
    pub(in super::super) const SHUTDOWN_ACK: u8 = 8;
    pub(in super::super) const COOKIE_ECHO: u8 = 10;
    pub(in super::super) const COOKIE_ACK: u8 = 11;
    pub(in super::super) const SHUTDOWN_COMPLETE: u8 = 14;
    /// RFC 6525.
    pub(in super::super) const RECONFIG: u8 = 130;
}

/// A packet whose checksum is right.
pub(super) struct Packet<'a> {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) tag: u32,
    chunks: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the header; `None` for what is no SCTP packet.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, chunks) = bytes.split_at_checked(HEADER_BYTES)?;
        let stated = u32::from_le_bytes(array(header, 8)?);
        (checksum(bytes) == stated).then_some(())?;
        Some(Self {
            source: u16_at(header, 0)?,
            destination: u16_at(header, 2)?,
            tag: u32_at(header, 4)?,
            chunks,
        })
    }

    /// Its chunks up to the first that is malformed.
    pub(super) fn chunks(&self) -> Parts<'a> {
        Parts(self.chunks)
    }
}

/// A chunk without its header.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) body: &'a [u8],
}

/// Chunks of a packet.
pub(super) struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (&[kind, flags], rest) = (self.0.first_chunk()?, self.0);
        let body = padded(&mut self.0, u16_at(rest, 2)?)?;
        Some(Chunk { kind, flags, body })
    }
}

/// Parameters of a chunk: type and value.
pub(super) struct Parameters<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let kind = u16_at(self.0, 0)?;
        let length = u16_at(self.0, 2)?;
        Some((kind, padded(&mut self.0, length)?))
    }
}

/// Takes a chunk or parameter of `length` bytes and the padding behind it, and returns its value.
/// The padding of the last one may be missing.
fn padded<'a>(rest: &mut &'a [u8], length: u16) -> Option<&'a [u8]> {
    let length = usize::from(length);
    let value = rest.get(CHUNK_HEADER_BYTES..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(value)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Writes one packet into a buffer.
pub(super) struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    /// Begins a packet; what the buffer held is gone.
    pub(super) fn new(buffer: &'a mut Vec<u8>, source: u16, destination: u16, tag: u32) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&source.to_be_bytes());
        buffer.extend_from_slice(&destination.to_be_bytes());
        buffer.extend_from_slice(&tag.to_be_bytes());
        buffer.extend_from_slice(&[0; 4]);
        Self(buffer)
    }

    /// Adds a chunk made of `pieces`.
    pub(super) fn chunk(&mut self, kind: u8, flags: u8, pieces: &[&[u8]]) {
        let length = CHUNK_HEADER_BYTES + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        // All that is sent here fits a datagram.
        let stated = u16::try_from(length).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&[kind, flags]);
        self.0.extend_from_slice(&stated.to_be_bytes());
        for piece in pieces {
            self.0.extend_from_slice(piece);
        }
        self.0.resize(self.0.len() + length.next_multiple_of(4) - length, 0);
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no chunk.
    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == HEADER_BYTES
    }

    /// Closes it with its checksum.
    pub(super) fn finish(self) {
        let sum = checksum(self.0).to_le_bytes();
        if let Some(place) = self.0.get_mut(8..HEADER_BYTES) {
            place.copy_from_slice(&sum);
        }
    }
}

/// A parameter: type, length and value, padded.
pub(super) fn parameter(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = CHUNK_HEADER_BYTES + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// CRC32c (RFC 9260 appendix A), four bits at a time: a few microseconds for a datagram, and there
/// are few of them.
const TABLE: [u32; 16] = {
    let mut table = [0; 16];
    let mut index = 0;
    while index < 16 {
        let (mut value, mut bit) = (index as u32, 0);
        while bit < 4 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The checksum of a packet, its own field taken as zero.
fn checksum(packet: &[u8]) -> u32 {
    let step = |sum: u32, byte: u8| {
        let sum = sum ^ u32::from(byte);
        let sum = sum >> 4 ^ TABLE[(sum & 15) as usize];
        sum >> 4 ^ TABLE[(sum & 15) as usize]
    };
    let field = 8..HEADER_BYTES;
    let bytes = packet.iter().enumerate();
    !bytes.fold(u32::MAX, |sum, (at, &byte)| step(sum, if field.contains(&at) { 0 } else { byte }))
}

/// Puts the right checksum into bytes that a fuzzer made.
pub(super) fn seal(packet: &mut [u8]) {
    let sum = checksum(packet).to_le_bytes();
    if let Some(place) = packet.get_mut(8..HEADER_BYTES) {
        place.copy_from_slice(&sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // RFC 3720 B.4: 32 bytes of zeros. The field that counts as zero is zero anyway.
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut buffer = vec![1, 2, 3];
        let mut writer = Writer::new(&mut buffer, 5000, 5001, 7);
        assert!(writer.is_empty());
        writer.chunk(kind::DATA, 3, &[b"a", b"bc"]);
        writer.chunk(kind::SACK, 0, &[]);
        assert_eq!(writer.len(), 12 + 8 + 4);
        writer.finish();
        let packet = Packet::parse(&buffer).unwrap();
        assert_eq!((packet.source, packet.destination, packet.tag), (5000, 5001, 7));
        let chunks: Vec<_> = packet.chunks().map(|c| (c.kind, c.flags, c.body)).collect();
        assert_eq!(chunks, [(kind::DATA, 3, &b"abc"[..]), (kind::SACK, 0, &b""[..])]);
        buffer[13] ^= 1;
        assert!(Packet::parse(&buffer).is_none());
    }

    #[test]
    fn a_chunk_that_claims_too_much_ends_the_packet() {
        for length in [0_u8, 3, 9, 255] {
            let mut buffer = Vec::new();
            let mut writer = Writer::new(&mut buffer, 1, 2, 3);
            writer.chunk(kind::DATA, 0, &[&[1, 2, 3, 4]]);
            writer.finish();
            buffer[15] = length;
            seal(&mut buffer);
            assert_eq!(Packet::parse(&buffer).unwrap().chunks().count(), 0, "{length}");
        }
        let mut rest = Parameters(&[0, 7, 0, 6, 1, 2, 0, 0, 0, 9, 0, 4]);
        assert_eq!(rest.next(), Some((7, &[1, 2][..])));
        assert_eq!(rest.next(), Some((9, &[][..])));
        assert_eq!(rest.next(), None);
    }
}
