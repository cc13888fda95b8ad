//! What the fuzzer drives here. Nothing may panic.

use std::time::Instant;

use super::ebml::{HEAD_BYTES_MAX, Head};
use super::{Demuxer, Wants};

/// A whole file.
pub(crate) fn file(bytes: &[u8]) {
    let (mut demuxer, mut out, mut at) = (Demuxer::default(), Vec::new(), 0_usize);
    let now = Instant::now();
    while let Some(head) = Head::parse(&bytes[at..(at + HEAD_BYTES_MAX).min(bytes.len())]) {
        let Ok(wants) = demuxer.element(&head) else { return };
        at = (at + head.bytes).min(bytes.len());
        match wants {
            Wants::Inside => {}
            Wants::Skip(count) => {
                at = at
                    .saturating_add(usize::try_from(count).unwrap_or(usize::MAX))
                    .min(bytes.len());
            }
            Wants::Body(count) => {
                let Some(body) = bytes.get(at..at.saturating_add(count)) else { return };
                if demuxer.body(head.id, body, now, &mut out).is_err() {
                    return;
                }
                at += count;
            }
        }
        out.clear();
    }
}

/// A WebM of VP8 and Opus, its segment without an end; laced AAC; H.264 that is stripped.
pub(crate) const FILE_SEEDS: &[&[u8]] = &[
    b"\x1aE\xdf\xa3\x87B\x82\x84webm\x18S\x80g\xff\x16T\xaek\xaa\xae\x8d\xd7\x81\x01\x83\x81\x01\x86\x85\
V_VP8\xae\x99\xd7\x81\x02\x83\x81\x01\x86\x86A_OPUS\xe1\x89\xb5\x84G;\x80\0\x9f\x81\x02\x1fC\xb6\
u\xff\xe7\x81\0\xa3\x90\x81\0\0\x80\x10\0\0\x9d\x01*\x10\0\x10\0\x01\x02\xa3\x86\x82\0\x03\x80\xfc\
\x07\x1fC\xb6u\x93\xe7\x82\x03\xe8\xa0\x8d\xa1\x88\x81\xfc@\0\x11\0\0\x09\xfb\x81\x01",
    b"\x1aE\xdf\xa3\x80\x16T\xaek\x9b\xae\x99\xd7\x81\x01\x83\x81\x01\x86\x85A_AACc\xa2\x82\x12\x10#\xe3\
\x83\x83\x01\x86\xa0\xa3\x8a\x81\0\0\x02\x01\x01\x07\x08\x09\x0a\xa3\x8b\x81\0\0\x06\x02\x81\xc0\
\x01\x02\x02\x03\xa3\x89\x81\0\0\x04\x01\x01\x01\x02\x02",
    b"\x1aE\xdf\xa3\x80\x16T\xaek\xd6\xae\xd4\xd7\x81\x01\x83\x81\x01\x86\x8fV_MPEG4/ISO/AVCc\xa2\xa8\x01\
\xf4\0\x0a\xff\xe1\0\x18g\xf4\0\x0a\x91\x96\x84&\xc0D\0\0\x03\0\x04\0\0\x03\0*<H\x9a\x80\x01\0\x05\
h\xce\x0f\x19 m\x80\x8fb@\x8cP4\x89BT\x81\x03BU\x82\0\0\xa3\x8b\x81\0\0\x80\0\x05e\x88\x80\0U",
];
