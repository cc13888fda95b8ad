//! Pictures of ffmpeg's encoders, as its MP4 writer has them: record and samples in, canonical
//! units out, and the same description back.

use std::process::{Command, Stdio};

use super::*;

/// A second of 320x180 by `encoder`, as fragmented MP4.
fn mp4(encoder: &str) -> Vec<u8> {
    let line = format!(
        "-hide_banner -nostdin -v error -f lavfi -i testsrc2=s=320x180:r=30:d=1 -pix_fmt yuv420p \
         {encoder} -f mp4 -movflags frag_keyframe+empty_moov -"
    );
    let output = Command::new("/usr/bin/ffmpeg")
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("ffmpeg is a tool that the tests need");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The contents of the first box of this name, found by its name: enough for a file that we know.
fn inside<'a>(file: &'a [u8], name: &[u8; 4]) -> &'a [u8] {
    let at = file.windows(4).position(|four| four == name).expect("the box is there");
    let length = u32::from_be_bytes(file[at - 4..at].try_into().unwrap()) as usize;
    &file[at + 4..at - 4 + length]
}

/// The samples of all fragments: `trun` says their sizes, `mdat` holds them.
fn samples(mut file: &[u8]) -> Vec<BytesMut> {
    let (mut sizes, mut found) = (Vec::new(), Vec::new());
    while file.len() >= 8 {
        let length = u32::from_be_bytes(file[..4].try_into().unwrap()) as usize;
        let (whole, rest) = file.split_at(length);
        file = rest;
        match &whole[4..8] {
            b"moof" => {
                let word =
                    |of: &[u8], at: usize| u32::from_be_bytes(of[at..at + 4].try_into().unwrap());
                let (trun, tfhd) = (inside(whole, b"trun"), inside(whole, b"tfhd"));
                let (flags, count) = (word(trun, 0) & 0xff_ffff, word(trun, 4) as usize);
                let mut at = 8 + 4 * (flags & 1) as usize + (flags & 4) as usize;
                let per = [0x100, 0x200, 0x400, 0x800].map(|bit| flags & bit != 0);
                for _ in 0..count {
                    let skip = 4 * usize::from(per[0]);
                    let size = if per[1] {
                        word(trun, at + skip)
                    } else {
                        // The default: the last but one of tfhd's fields.
                        word(tfhd, tfhd.len() - 8)
                    };
                    sizes.push(size as usize);
                    at += 4 * per.iter().filter(|is| **is).count();
                }
            }
            b"mdat" => {
                let mut body = &whole[8..];
                for size in sizes.drain(..) {
                    found.push(BytesMut::from(&body[..size]));
                    body = &body[size..];
                }
            }
            _ => {}
        }
    }
    found
}

/// What all codecs have in common. Answers the description and the canonical units.
fn carried(codec: Codec, encoder: &str, name: &[u8; 4]) -> (Description, Vec<Unit>, Vec<u8>) {
    let file = mp4(encoder);
    let record = inside(&file, name).to_vec();
    let record = if name == b"vpcC" { record[4..].to_vec() } else { record };
    let mut assembler = Assembler::new(codec).unwrap();
    let news = assembler.configure(&record).unwrap();
    assert_eq!(news, matches!(codec, Codec::H264 | Codec::Hevc | Codec::Av1));
    assert!(!assembler.configure(&record).unwrap(), "the same again is no news");
    let units: Vec<Unit> = samples(&file)
        .into_iter()
        .map(|sample| assembler.sample(sample).unwrap().expect("a picture"))
        .collect();
    assert_eq!(units.len(), 30, "{encoder}");
    assert!(units[0].key && units[0].changed);
    let keys = units.iter().filter(|unit| unit.key).count();
    assert_eq!(keys, 3, "{encoder}");
    assert_eq!(units.iter().filter(|unit| unit.changed).count(), 1);
    let track = assembler.track().unwrap();
    assert_eq!((track.codec, track.size), (codec, Size::new(320, 180)));
    // What is canonical stays as it is, without a copy, in an assembler that knows nothing else.
    let mut again = Assembler::new(codec).unwrap();
    for unit in &units {
        let same = again.unit(unit.data.clone()).unwrap().unwrap();
        assert_eq!((same.data.as_ptr(), same.key), (unit.data.as_ptr(), unit.key));
    }
    assert_eq!(again.track(), Some(track.clone()));
    let mut told = Assembler::new(codec).unwrap();
    told.configure_sets(&track.parameter_sets).unwrap();
    if !matches!(codec, Codec::Vp8 | Codec::Vp9) {
        assert_eq!(told.track(), Some(track.clone()));
        for unit in units.iter().filter(|unit| unit.key) {
            assert!(unit.data.starts_with(&track.parameter_sets));
        }
    }
    (Description::of(&track).unwrap(), units, record)
}

#[test]
fn h264_is_described_as_its_encoder_did() {
    let (description, _, record) =
        carried(Codec::H264, "-c:v libx264 -preset veryfast -profile:v high -g 10", b"avcC");
    assert_eq!(description.record[..], record);
    assert_eq!(description.codecs, format!("avc1.64{:02x}{:02x}", record[2], record[3]));
    assert_eq!((description.bit_depth, description.reorder_frames), (8, Some(2)));
    assert_eq!(description.frames_per_kilosecond, Some(30_000));
}

#[test]
fn hevc_is_described_as_its_encoder_did() {
    let x265 = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params log-level=none:keyint=10";
    let (description, units, record) = carried(Codec::Hevc, x265, b"hvcC");
    let theirs = hevc::DecoderConfiguration::parse(&record).unwrap();
    let ours = hevc::DecoderConfiguration::parse(&description.record).unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(description.record[..13], record[..13]);
    assert_eq!(description.codecs, "hvc1.1.6.L60.90");
    assert_eq!((description.bit_depth, description.chroma_format), (8, ChromaFormat::Yuv420));
    assert_eq!(description.frames_per_kilosecond, Some(30_000));
    assert!(units.iter().any(|unit| !unit.reference), "x265 has B-frames that nobody needs");
    assert!(units.iter().filter(|unit| unit.key).all(|unit| unit.reference));
}

#[test]
fn hevc_with_ten_bits_says_so() {
    let x265 = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p10le -tag:v hvc1 \
                -x265-params log-level=none:keyint=10:bframes=0:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc";
    let (description, units, _) = carried(Codec::Hevc, x265, b"hvcC");
    assert!(description.codecs.starts_with("hvc1.2.4.L"), "{}", description.codecs);
    assert_eq!((description.bit_depth, description.reorder_frames), (10, Some(0)));
    let color = description.color_description.unwrap();
    assert_eq!((color.primaries, color.transfer, color.matrix), (9, 16, 9));
    assert!(units.iter().all(|unit| unit.reference || !unit.key));
}

#[test]
fn av1_is_described_as_its_encoder_did() {
    let svt = "-c:v libsvtav1 -preset 12 -g 10";
    let (description, _, record) = carried(Codec::Av1, svt, b"av1C");
    assert_eq!(description.record[..4], record[..4]);
    // The header in SVT-AV1's record has other tools than the one in its stream, which counts.
    let theirs = av1::CodecConfiguration::parse(&record).unwrap();
    let ours = av1::CodecConfiguration::parse(&description.record).unwrap();
    assert_eq!(ours.head, theirs.head);
    assert_eq!(description.codecs, "av01.0.00M.08");
    assert_eq!((description.bit_depth, description.chroma_format), (8, ChromaFormat::Yuv420));
}

#[test]
fn vp9_is_described_as_its_encoder_did() {
    let vpx = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10";
    let (description, _, record) = carried(Codec::Vp9, vpx, b"vpcC");
    // All but the level, which ffmpeg takes from the rate that it knows.
    assert_eq!(description.record[2..], record[2..]);
    assert_eq!(description.record[0], record[0]);
    assert_eq!(description.codecs, "vp09.00.20.08");
}

#[test]
fn nothing_is_described_before_it_is_known() {
    for codec in [Codec::H264, Codec::Hevc, Codec::Av1, Codec::Vp9] {
        let track = VideoTrack { codec, size: Size::default(), parameter_sets: Bytes::new() };
        assert!(Description::of(&track).is_err(), "{codec}");
    }
    let track =
        |codec| VideoTrack { codec, size: Size::new(320, 180), parameter_sets: Bytes::new() };
    assert_eq!(Description::of(&track(Codec::Vp8)).unwrap().codecs, "vp08.00.20.08");
    assert_eq!(Description::of(&track(Codec::Aac)), Err(Error::NoVideo(Codec::Aac)));
}
