//! What a graph says about a picture, carried inside of the picture: UTF-8 text in a supplemental
//! message of type 5, `user_data_unregistered` (D.1.7), under an identifier of ours.
//!
//! So results need no channel of their own between nodes, arrive with their picture or not at all,
//! and stay beside it in recordings and for readers by RTSP, SRT and RTMP. Decoders pass over them.

use bytes::{BufMut, Bytes, BytesMut};

use super::NalKind;
use crate::annexb::{START_CODE, heads};

/// Bytes of the results of one picture, at most.
pub const RESULTS_BYTES_MAX: usize = 16 * 1024;

/// `uuid_iso_iec_11578` of our messages.
const IDENTIFIER: [u8; 16] = [
    0x73, 0x0c, 0x0b, 0x15, 0x27, 0x1b, 0x42, 0x7f, 0x8b, 0xe3, 0xef, 0x5a, 0x2c, 0xa4, 0x28, 0x5f,
];

/// `nal_unit_type` 6, not referred to.
const SEI_HEADER: u8 = 6;

/// `payloadType` of `user_data_unregistered`.
const USER_DATA: u8 = 5;

/// `rbsp_trailing_bits`.
const TRAILING: u8 = 0x80;

/// The same access unit with `text` before its first slice; `None` when the text is longer than
/// [`RESULTS_BYTES_MAX`] or the unit has no slice.
pub fn with_results(unit: &[u8], text: &str) -> Option<Bytes> {
    if text.len() > RESULTS_BYTES_MAX {
        return None;
    }
    let slice = heads(unit).find(|head| NalKind::of(unit[head.begin]).is_picture())?;
    let (before, after) = unit.split_at(slice.code);
    let mut out = BytesMut::with_capacity(unit.len() + text.len() + text.len() / 64 + 64);
    out.put_slice(before);
    out.put_slice(&START_CODE);
    out.put_slice(&[SEI_HEADER, USER_DATA]);
    let size = IDENTIFIER.len() + text.len();
    out.put_bytes(255, size / 255);
    out.put_u8((size % 255) as u8);
    out.put_slice(&IDENTIFIER);
    escape(text.as_bytes(), &mut out);
    out.put_u8(TRAILING);
    out.put_slice(after);
    Some(out.freeze())
}

/// The text that [`with_results`] put into an access unit. Looks no further than the first slice.
pub fn results(unit: &[u8]) -> Option<String> {
    for head in heads(unit).take_while(|head| !NalKind::of(unit[head.begin]).is_picture()) {
        let body = &unit[head.begin..];
        if body[0] & 0x1f != SEI_HEADER || body.get(1) != Some(&USER_DATA) {
            continue;
        }
        let mut rest = &body[2..];
        let mut size = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            (size, rest) = (size + usize::from(byte), after);
            if size > IDENTIFIER.len() + RESULTS_BYTES_MAX {
                return None;
            }
            if byte != 255 {
                break;
            }
        }
        let Some(text) = rest.strip_prefix(&IDENTIFIER) else { continue };
        return unescape(text, size.checked_sub(IDENTIFIER.len())?);
    }
    None
}

/// Puts emulation prevention in (7.4.1). What stands before `text` does not end in zeros.
fn escape(text: &[u8], out: &mut BytesMut) {
    let mut zeros = 0;
    for &byte in text {
        if zeros == 2 && byte <= 3 {
            out.put_u8(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.put_u8(byte);
    }
}

/// Takes it out of the first `length` bytes of text.
fn unescape(escaped: &[u8], length: usize) -> Option<String> {
    let mut text = Vec::with_capacity(length);
    let mut zeros = 0;
    for &byte in escaped {
        if text.len() == length {
            break;
        }
        if zeros == 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { (zeros + 1).min(2) } else { 0 };
        text.push(byte);
    }
    (text.len() == length).then(|| String::from_utf8(text).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::h264::nals;

    const KEY: &[u8] = &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 3, 4];
    const DELTA: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a, 0, 0, 0, 1, 0x41, 5];

    #[test]
    fn parameter_sets_stay_first_and_the_text_stands_before_the_slices() {
        let kinds = |unit: &[u8]| nals(unit).map(|nal| nal[0] & 0x1f).collect::<Vec<_>>();
        let key = with_results(KEY, r#"{"3":1}"#).unwrap();
        assert_eq!(kinds(&key), [7, 8, 6, 5]);
        assert_eq!(results(&key).as_deref(), Some(r#"{"3":1}"#));
        let delta = with_results(DELTA, "").unwrap();
        assert_eq!(kinds(&delta), [6, 1, 1]);
        assert_eq!(results(&delta).as_deref(), Some(""));
    }

    #[test]
    fn a_picture_without_results_has_none_and_nothing_is_put_where_no_slice_is() {
        assert_eq!(results(KEY), None);
        assert_eq!(results(&[]), None);
        assert_eq!(with_results(&[0, 0, 0, 1, 0x67, 1], "x"), None);
        assert_eq!(with_results(KEY, &"x".repeat(RESULTS_BYTES_MAX + 1)), None);
        // Somebody else's message of the same type.
        let other = [&[0, 0, 0, 1, 6, 5, 18][..], &[9; 18], &[0x80], DELTA].concat();
        assert_eq!(results(&other), None);
        assert_eq!(results(&with_results(&other, "ours").unwrap()).as_deref(), Some("ours"));
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_hides_no_start_code(text in "[\0\u{1}\u{3}a{é]{0,700}") {
            let unit = with_results(DELTA, &text).unwrap();
            prop_assert_eq!(nals(&unit).count(), 3);
            prop_assert_eq!(results(&unit), Some(text));
        }

        #[test]
        fn a_cut_message_is_none(text in "[a-z]{1,300}", cut in 0_usize..300) {
            let unit = with_results(DELTA, &text).unwrap();
            let cut = &unit[..unit.len() - DELTA.len() - 1 - cut.min(text.len() - 1) - 1];
            prop_assert_eq!(results(cut), None);
        }
    }
}
