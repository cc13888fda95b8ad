//! EBML, the form that Matroska is written in (RFC 8794): elements of an id, a length and a body.

/// Bytes that the head of an element has at most: four of id, eight of length.
pub(crate) const HEAD_BYTES_MAX: usize = 12;

/// The head of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// With its length marker, as specifications write ids.
    pub(crate) id: u32,
    /// Bytes of the body; `None` for one that ends where something else begins (RFC 8794 6.2).
    pub(crate) size: Option<u64>,
    /// Bytes of the head itself.
    pub(crate) bytes: usize,
}

impl Head {
    /// The head at the beginning of `data`; `None` where it is cut off or is none.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let id_bytes = length(*data.first()?, 4)?;
        let id = data.get(..id_bytes)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
        let (size, size_bytes) = number(data.get(id_bytes..)?)?;
        Some(Self { id, size, bytes: id_bytes + size_bytes })
    }
}

/// Bytes of a number of variable size by its first byte, `max` at most.
fn length(first: u8, max: usize) -> Option<usize> {
    let length = first.leading_zeros() as usize + 1;
    (length <= max).then_some(length)
}

/// A number of variable size without its marker, and its bytes; all ones mean that it is unknown.
pub(super) fn number(data: &[u8]) -> Option<(Option<u64>, usize)> {
    let first = *data.first()?;
    let bytes = length(first, 8)?;
    let marker = 1_u64 << (7 * bytes);
    let value = data.get(..bytes)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let value = value & (marker - 1);
    Some(((value != marker - 1).then_some(value), bytes))
}

/// The elements within a body: ids and bodies, up to the first that is not whole.
pub(super) fn children(body: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let head = Head::parse(rest)?;
        let behind = rest.get(head.bytes..)?;
        let size = usize::try_from(head.size?).ok()?;
        let body = behind.get(..size)?;
        rest = &behind[size..];
        Some((head.id, body))
    })
}

/// An unsigned integer: of no bytes it is 0.
pub(super) fn unsigned(body: &[u8]) -> Option<u64> {
    (body.len() <= 8).then(|| body.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// A float of four or eight bytes.
pub(super) fn float(body: &[u8]) -> Option<f64> {
    match body.len() {
        4 => Some(f64::from(f32::from_be_bytes(body.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(body.try_into().ok()?)),
        _ => None,
    }
}

/// Text, which may be filled up with zeros.
pub(super) fn text(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok().map(|text| text.trim_end_matches('\0'))
}
