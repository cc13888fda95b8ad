//! Files made here, element by element.

use proptest::prelude::*;

use super::ebml::HEAD_BYTES_MAX;
use super::*;

/// An element with a length of eight bytes.
fn element(id: u32, body: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id = &id[id.iter().position(|byte| *byte != 0).unwrap()..];
    let size = (1_u64 << 56 | body.len() as u64).to_be_bytes();
    [id, &size, body].concat()
}

/// The same without a known end.
fn endless(id: u32, body: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &[0xFF], body].concat()
}

fn track(number: u8, id: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let parts = [element(0xD7, &[number]), element(0x86, id.as_bytes()), more.concat()];
    element(0xAE, &parts.concat())
}

fn block(number: u8, time: i16, frame: &[u8]) -> Vec<u8> {
    let [high, low] = time.to_be_bytes();
    element(SIMPLE_BLOCK, &[&[0x80 | number, high, low, 0x80][..], frame].concat())
}

/// What the shell around the core does, on bytes.
fn read(file: &[u8]) -> Result<Vec<Output>, MatroskaError> {
    let (mut demuxer, mut out, mut at) = (Demuxer::default(), Vec::new(), 0_usize);
    while let Some(head) = Head::parse(&file[at..(at + HEAD_BYTES_MAX).min(file.len())]) {
        let wants = demuxer.element(&head)?;
        at += head.bytes;
        match wants {
            Wants::Inside => {}
            Wants::Skip(bytes) => at = at.saturating_add(bytes as usize).min(file.len()),
            Wants::Body(bytes) => {
                let Some(body) = file.get(at..at + bytes) else { break };
                demuxer.body(head.id, body, Instant::now(), &mut out)?;
                at += bytes;
            }
        }
        at = at.min(file.len());
    }
    Ok(out)
}

fn packets(out: &[Output]) -> Vec<(TrackKind, i64, Vec<u8>)> {
    let of = |output: &Output| match output {
        Output::Packet(packet) => Some((packet.kind, packet.pts.as_millis(), packet.data.to_vec())),
        Output::Tracks(_) => None,
    };
    out.iter().filter_map(of).collect()
}

/// A WebM of VP8 and Opus: a key picture of 16x16, another, two sounds.
fn webm(segment: fn(u32, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let key = [0x10, 0, 0, 0x9D, 0x01, 0x2A, 16, 0, 16, 0, 1, 2];
    let opus_head = b"OpusHead\x01\x01\0\0\x80\xBB\0\0\0\0\0";
    let tracks = [
        track(1, "V_VP8", &[]),
        track(2, "A_OPUS", &[element(0x63A2, opus_head)]),
        track(3, "A_VORBIS", &[]),
    ];
    let first = [
        element(TIMESTAMP, &[0]),
        block(1, 0, &key),
        block(2, 3, &[0xFC, 7]),
        block(3, 3, b"left out"),
    ];
    let second = [
        element(TIMESTAMP, &[0x03, 0xE8]),
        block(1, -960, &[0x11, 0, 0, 9]),
        block(2, -950, &[0xFC, 8]),
    ];
    let body = [
        element(0xEC, &[0; 9]),
        element(INFO, &element(0x2A_D7B1, &[0x0F, 0x42, 0x40])),
        element(TRACKS, &tracks.concat()),
        segment(CLUSTER, &first.concat()),
        segment(CLUSTER, &second.concat()),
    ];
    [element(EBML, &element(0x4282, b"webm")), segment(SEGMENT, &body.concat())].concat()
}

#[test]
fn pictures_and_sound_come_out_with_their_times_whether_lengths_are_known_or_not() {
    for file in [webm(element), webm(endless)] {
        let out = read(&file).unwrap();
        let Output::Tracks(tracks) = &out[0] else { panic!("tracks come first") };
        let video = tracks.video.as_ref().unwrap();
        assert_eq!((video.codec, video.size.width), (pipeline::Codec::Vp8, 16));
        assert_eq!(tracks.audio.as_ref().unwrap().channels, 1);
        let (video, audio) = (TrackKind::Video, TrackKind::Audio);
        let found = packets(&out);
        let facts: Vec<_> = found.iter().map(|(kind, time, _)| (*kind, *time)).collect();
        assert_eq!(facts, [(video, 0), (audio, 3), (video, 40), (audio, 50)]);
        assert_eq!(found[1].2, [0xFC, 7]);
    }
}

#[test]
fn a_file_that_was_cut_off_is_read_as_far_as_it_goes() {
    let file = webm(endless);
    let whole = packets(&read(&file).unwrap()).len();
    for end in 0..file.len() {
        assert!(read(&file[..end]).is_ok_and(|out| packets(&out).len() <= whole));
    }
    assert_eq!(packets(&read(&file[..file.len() - 1]).unwrap()).len(), whole - 1);
}

#[test]
fn frames_get_back_what_is_stripped_from_them_and_laced_ones_their_times() {
    let strip = element(0x4254, &[3]);
    let settings = element(0x4255, &[0xFC]);
    let compression = element(0x5034, &[strip, settings].concat());
    let encodings = element(0x6D80, &element(0x6240, &compression));
    let entry = track(1, "A_OPUS", &[encodings]);
    // Two frames of 20 ms, laced in Xiph's way.
    let laced = element(SIMPLE_BLOCK, &[0x81, 0, 5, 0x82, 1, 1, 7, 8]);
    let cluster = element(CLUSTER, &[element(TIMESTAMP, &[0]), laced].concat());
    let file = [element(EBML, &[]), element(TRACKS, &entry), cluster].concat();
    let found = packets(&read(&file).unwrap());
    let audio = TrackKind::Audio;
    assert_eq!(found, [(audio, 5, vec![0xFC, 7]), (audio, 25, vec![0xFC, 8])]);
}

#[test]
fn what_cannot_be_carried_is_named() {
    let file = |tracks: &[Vec<u8>]| {
        [element(EBML, &element(0x4282, b"matroska")), element(TRACKS, &tracks.concat())].concat()
    };
    let compressed = element(0x6D80, &element(0x6240, &element(0x5034, &[])));
    let error = read(&file(&[track(1, "A_VORBIS", &[]), track(2, "V_VP8", &[compressed])]));
    let said = error.unwrap_err().to_string();
    assert_eq!(said, "no track of it can be carried: A_VORBIS, V_VP8 (compressed)");
    let other = read(&element(EBML, &element(0x4282, b"movie"))).unwrap_err();
    assert_eq!(other, MatroskaError::Type("movie".into()));
    let early = read(&element(CLUSTER, &block(1, 0, b"x"))).unwrap_err();
    assert_eq!(early, MatroskaError::NoTracks);
    let mut huge = element(SIMPLE_BLOCK, &[]);
    huge[1..].copy_from_slice(&(1_u64 << 56 | 1 << 40).to_be_bytes());
    assert!(matches!(read(&huge), Err(MatroskaError::TooLarge { id: 0xA3, .. })));
}

proptest! {
    #[test]
    fn whatever_lies_in_a_file_is_read_to_an_end(
        at in 0_usize..400, bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut file = webm(element);
        let at = at.min(file.len());
        let end = (at + bytes.len()).min(file.len());
        file.splice(at..end, bytes);
        let _ = read(&file);
    }
}
