//! Real streams for the tests, made by ffmpeg, an implementation that is not under test.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Codec, Frame, Packet, Pts, Size, TrackKind, annexb};

/// Runs ffmpeg and gives its standard output.
pub(crate) fn ffmpeg(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"].iter().take(3))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is needed by this test");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // It may stop reading early; what it says then is in its status.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "ffmpeg {args:?} failed");
    output.stdout
}

/// A coded clip and the pictures in it as ffmpeg decodes them.
pub(crate) struct Clip {
    pub(crate) track: VideoTrack,
    pub(crate) packets: Vec<Packet>,
    /// Planar 4:2:0 pictures in the order they are shown.
    pub(crate) pictures: Vec<Vec<u8>>,
}

/// A moving test picture of `count` frames at 30 a second, coded with these arguments of ffmpeg.
pub(crate) fn clip(size: Size, count: usize, codec: &[&str]) -> Clip {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mp4");
    let file = file.to_str().unwrap();
    let source = format!("testsrc2=size={size}:rate=30");
    let frames = count.to_string();
    let mut args = vec!["-y", "-f", "lavfi", "-i", &source, "-frames:v", &frames];
    args.extend_from_slice(codec);
    args.extend_from_slice(&["-video_track_timescale", "90000", file]);
    ffmpeg(&args, b"");
    let hevc = codec.contains(&"libx265");
    let filter = match hevc {
        true => "hevc_mp4toannexb,hevc_metadata=aud=insert",
        false => "h264_mp4toannexb,h264_metadata=aud=insert",
    };
    let format = if hevc { "hevc" } else { "h264" };
    let stream = ffmpeg(&["-i", file, "-c", "copy", "-bsf:v", filter, "-f", format, "pipe:1"], b"");
    let times = Command::new("ffprobe")
        .args(["-loglevel", "error", "-select_streams", "v", "-show_entries", "packet=pts,dts"])
        .args(["-of", "csv=p=0", file])
        .output()
        .unwrap();
    let times = String::from_utf8(times.stdout).unwrap();
    let times: Vec<(i64, i64)> = times
        .lines()
        .map(|line| {
            let mut fields = line.split(',').map(|field| field.parse().unwrap());
            (fields.next().unwrap(), fields.next().unwrap())
        })
        .collect();
    let packets = split(&stream, hevc, |index| times[index]);
    assert_eq!(packets.len(), times.len());
    let raw = ffmpeg(&["-i", file, "-pix_fmt", "yuv420p", "-f", "rawvideo", "pipe:1"], b"");
    let chroma = size.width.div_ceil(2) * size.height.div_ceil(2);
    let pictures =
        raw.chunks((size.pixels() as u32 + 2 * chroma) as usize).map(<[u8]>::to_vec).collect();
    let codec = if hevc { Codec::Hevc } else { Codec::H264 };
    Clip { track: VideoTrack { codec, size, parameter_sets: Bytes::new() }, packets, pictures }
}

/// Access units by their delimiters, which are left out.
fn split(stream: &[u8], hevc: bool, times: impl Fn(usize) -> (i64, i64)) -> Vec<Packet> {
    let kind = |header: u8| if hevc { header >> 1 & 0x3f } else { header & 0x1f };
    let (delimiter, message, first, last) = if hevc { (35, 39, 16, 21) } else { (9, 6, 5, 5) };
    let mut units: Vec<(BytesMut, bool)> = Vec::new();
    for nal in annexb::nals(stream) {
        if kind(nal[0]) == delimiter {
            units.push((BytesMut::new(), false));
            continue;
        }
        let (unit, key) = units.last_mut().unwrap();
        // x264's message stands before the first parameter sets; canonical units begin with them.
        if kind(nal[0]) != message {
            annexb::push(unit, nal);
        }
        *key |= (first..=last).contains(&kind(nal[0]));
    }
    let packet = |(index, (data, key)): (usize, (BytesMut, bool))| Packet {
        kind: TrackKind::Video,
        pts: Pts(times(index).0),
        dts: Pts(times(index).1),
        key,
        data: data.freeze(),
        arrived: Instant::now(),
    };
    units.into_iter().enumerate().map(packet).collect()
}

/// The samples of a frame in host memory, without padding.
pub(crate) fn samples(frame: &Frame) -> Vec<u8> {
    let pipeline::frame::Surface::Host(planes) = &frame.surface else {
        panic!("not in host memory")
    };
    let mut out = Vec::new();
    for plane in 0..3 {
        for row in 0..planes.plane(plane).rows {
            out.extend_from_slice(planes.row(plane, row));
        }
    }
    out
}

/// `seconds` of a 1 kHz tone at half scale as AAC packets, with times rounded to milliseconds.
pub(crate) fn aac_tone(rate: u32, channels: u8, seconds: u32) -> (AudioTrack, Vec<Packet>) {
    wav("0.5*sin(2*PI*1000*t)", rate, channels, seconds)
}

/// Sound by a formula of ffmpeg, the same in all channels, as AAC packets.
pub(crate) fn wav(
    formula: &str,
    rate: u32,
    channels: u8,
    seconds: u32,
) -> (AudioTrack, Vec<Packet>) {
    let formulas = vec![formula.replace(',', "\\,"); channels.into()].join("|");
    let source = format!("aevalsrc={formulas}:s={rate}:d={seconds}");
    let stream = ffmpeg(
        &["-f", "lavfi", "-i", &source, "-c:a", "aac", "-b:a", "128k", "-f", "adts", "pipe:1"],
        b"",
    );
    let mut packets = Vec::new();
    let mut config = Bytes::new();
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let header = pipeline::aac::AdtsHeader::parse(rest).unwrap().unwrap();
        config = header.config().unwrap().to_bytes().unwrap().into();
        let length = [(3, 3, 11), (4, 0xff, 3)]
            .iter()
            .map(|&(at, mask, shift): &(usize, u8, u32)| usize::from(rest[at] & mask) << shift)
            .sum::<usize>()
            | usize::from(rest[5] >> 5);
        let millis = packets.len() as i64 * 1024 * 1000 / i64::from(rate);
        let data = Bytes::copy_from_slice(&rest[7..length]);
        packets.push(audio_packet(Pts::from_millis(millis), data));
        rest = &rest[length..];
    }
    (AudioTrack { codec: Codec::Aac, sample_rate: rate, channels, config }, packets)
}

pub(crate) fn audio_packet(pts: Pts, data: Bytes) -> Packet {
    let arrived = Instant::now();
    Packet { kind: TrackKind::Audio, pts, dts: pts, key: true, data, arrived }
}

/// Packets behind ADTS headers.
pub(crate) fn adts(track: &AudioTrack, packets: &[Packet]) -> Vec<u8> {
    let config = pipeline::aac::AudioSpecificConfig::parse(&track.config).unwrap();
    let mut out = Vec::new();
    for packet in packets {
        out.extend_from_slice(&config.adts_header(packet.data.len()).unwrap());
        out.extend_from_slice(&packet.data);
    }
    out
}

/// Opus packets in Ogg (RFC 3533, RFC 7845), one a page, with a pre-skip of zero.
pub(crate) fn ogg(track: &AudioTrack, packets: &[Packet]) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.extend_from_slice(&[track.channels, 0, 0]);
    head.extend_from_slice(&48_000_u32.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    let tags = b"OpusTags\0\0\0\0\0\0\0\0";
    let mut out = page(2, 0, 0, &head);
    out.extend(page(0, 0, 1, tags));
    for (index, packet) in packets.iter().enumerate() {
        let last = if index + 1 == packets.len() { 4 } else { 0 };
        out.extend(page(last, (index as u64 + 1) * 960, index as u32 + 2, &packet.data));
    }
    out
}

fn page(flags: u8, granule: u64, number: u32, data: &[u8]) -> Vec<u8> {
    let mut out = b"OggS\0".to_vec();
    out.push(flags);
    out.extend_from_slice(&granule.to_le_bytes());
    out.extend_from_slice(&1_u32.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.push((data.len() / 255 + 1) as u8);
    out.extend(std::iter::repeat_n(255, data.len() / 255));
    out.push((data.len() % 255) as u8);
    out.extend_from_slice(data);
    let mut sum = 0_u32;
    for byte in &out {
        sum ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            sum = if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 };
        }
    }
    out[22..26].copy_from_slice(&sum.to_le_bytes());
    out
}
