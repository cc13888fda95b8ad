//! The transcoder against tones of ffmpeg, both ways.

use bytes::Bytes;
use pipeline::packet::AudioTrack;
use pipeline::stage::StageError;
use pipeline::{Codec, Packet, Pts, Ticks, opus};

use crate::audio::{JITTER_MAX, SAMPLE_RATE, Transcoder};
use crate::testing::{aac_tone, audio_packet, ffmpeg, wav};

fn transcode(transcoder: &mut Transcoder, packets: &[Packet]) -> Vec<Packet> {
    let mut out = Vec::new();
    for packet in packets {
        transcoder.push(packet, &mut out).unwrap();
    }
    out
}

/// Decodes with ffmpeg to 48 kHz, interleaved. The container is Ogg or ADTS, written by hand.
fn decode(track: &AudioTrack, packets: &[Packet]) -> Vec<i16> {
    let (stream, format) = match track.codec {
        Codec::Opus => (crate::testing::ogg(track, packets), "ogg"),
        _ => (crate::testing::adts(track, packets), "aac"),
    };
    let channels = track.channels.to_string();
    let raw = ffmpeg(
        &["-f", format, "-i", "pipe:0", "-f", "s16le", "-ar", "48000", "-ac", &channels, "pipe:1"],
        &stream,
    );
    raw.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The amplitude of one frequency in a channel (Goertzel), and the rest of the signal's.
fn tone(samples: &[i16], channels: usize, channel: usize, hertz: f64) -> (f64, f64) {
    let values: Vec<f64> =
        samples.iter().skip(channel).step_by(channels).map(|v| f64::from(*v) / 32_768.0).collect();
    let step = 2.0 * std::f64::consts::PI * hertz / f64::from(SAMPLE_RATE);
    let (mut sine, mut cosine, mut power) = (0.0, 0.0, 0.0);
    for (index, value) in values.iter().enumerate() {
        sine += value * (step * index as f64).sin();
        cosine += value * (step * index as f64).cos();
        power += value * value;
    }
    let count = values.len() as f64;
    let amplitude = 2.0 * (sine * sine + cosine * cosine).sqrt() / count;
    (amplitude, (power / count - amplitude * amplitude / 2.0).max(0.0).sqrt())
}

#[test]
fn aac_becomes_opus_with_the_same_tone_channels_and_clock() {
    for (rate, channels) in [(44_100, 2), (48_000, 1), (48_000, 2), (22_050, 1)] {
        let (track, packets) = aac_tone(rate, channels, 4);
        let mut transcoder = Transcoder::new(&track, Codec::Opus).unwrap();
        let out = transcode(&mut transcoder, &packets);
        let made = transcoder.track();
        assert_eq!((made.codec, made.sample_rate, made.channels), (Codec::Opus, 48_000, channels));
        for pair in out.windows(2) {
            assert_eq!(pair[1].pts - pair[0].pts, Ticks::from_millis(20));
        }
        assert!(out.iter().all(|packet| opus::packet_samples(&packet.data) == Ok(960)));
        assert_eq!(out[0].pts, packets[0].pts - Ticks(585));
        let seconds = out.len() as f64 / 50.0;
        assert!((3.9..4.1).contains(&seconds), "{seconds} s of {rate} Hz");
        let samples = decode(&made, &out);
        let middle = SAMPLE_RATE as usize * usize::from(channels);
        for channel in 0..usize::from(channels) {
            let (amplitude, rest) =
                tone(&samples[middle..3 * middle], channels.into(), channel, 1000.0);
            assert!((0.45..0.55).contains(&amplitude), "{rate} Hz: amplitude {amplitude}");
            assert!(rest < 0.02, "{rate} Hz: {rest} of something else");
        }
    }
}

#[test]
fn opus_becomes_aac_and_back_again_in_time() {
    let (track, packets) = aac_tone(48_000, 2, 3);
    let mut first = Transcoder::new(&track, Codec::Opus).unwrap();
    let opus = transcode(&mut first, &packets);
    let mut second = Transcoder::new(&first.track(), Codec::Aac).unwrap();
    let aac = transcode(&mut second, &opus);
    let made = second.track();
    let config = pipeline::aac::AudioSpecificConfig::parse(&made.config).unwrap();
    assert_eq!((config.output_rate(), config.output_channels()), (48_000, 2));
    for pair in aac.windows(2) {
        assert_eq!(pair[1].pts - pair[0].pts, Ticks(1920));
    }
    let samples = decode(&made, &aac);
    let second = 2 * SAMPLE_RATE as usize;
    let (amplitude, rest) = tone(&samples[second..2 * second], 2, 1, 1000.0);
    assert!((0.45..0.55).contains(&amplitude) && rest < 0.02, "{amplitude} {rest}");
}

/// The time at which sound begins, on the packets' own clock.
fn onset(track: &AudioTrack, packets: &[Packet]) -> f64 {
    let samples = decode(track, packets);
    let first = samples.iter().position(|value| value.unsigned_abs() > 3000).unwrap();
    let seconds = first as f64 / f64::from(track.channels) / f64::from(SAMPLE_RATE);
    packets[0].pts.0 as f64 / 90_000.0 + seconds
}

#[test]
fn sound_keeps_its_place_through_both_encoders() {
    let (track, packets) = wav("if(lt(t,1),0,0.5*sin(2*PI*2000*t))", 48_000, 1, 2);
    // The reference is the same decoder that looks at the results.
    let source = onset(&track, &packets);
    let mut to_opus = Transcoder::new(&track, Codec::Opus).unwrap();
    let opus = transcode(&mut to_opus, &packets);
    let after_opus = onset(&to_opus.track(), &opus);
    assert!((after_opus - source).abs() < 0.002, "{source} became {after_opus}");
    let mut to_aac = Transcoder::new(&to_opus.track(), Codec::Aac).unwrap();
    let aac = transcode(&mut to_aac, &opus);
    let after_aac = onset(&to_aac.track(), &aac);
    assert!((after_aac - source).abs() < 0.004, "{source} became {after_aac}");
}

#[test]
fn a_minute_of_rounded_times_does_not_drift() {
    let (track, packets) = aac_tone(44_100, 1, 60);
    let mut transcoder = Transcoder::new(&track, Codec::Opus).unwrap();
    let out = transcode(&mut transcoder, &packets);
    let end = packets[packets.len() - 1].pts;
    let ours = out[out.len() - 1].pts + Ticks(585);
    // What is missing at the end waits for the rest of its frame.
    assert!((end - ours).0.abs() <= Ticks::from_millis(25).0, "{end} and {ours}");
    assert!(out.windows(2).all(|pair| pair[1].pts - pair[0].pts == Ticks(1800)));
}

#[test]
fn a_source_whose_clock_runs_fast_or_slow_is_followed() {
    let (track, packets) = aac_tone(48_000, 1, 60);
    for per_mille in [998, 1002] {
        let mut transcoder = Transcoder::new(&track, Codec::Opus).unwrap();
        let mut out = Vec::new();
        for packet in &packets {
            let pts = Pts(packet.pts.0 * per_mille / 1000);
            transcoder.push(&Packet { pts, dts: pts, ..packet.clone() }, &mut out).unwrap();
        }
        let end = packets[packets.len() - 1].pts.0 * per_mille / 1000;
        let ours = out[out.len() - 1].pts.0 + 585;
        assert!((end - ours).abs() < 90 * 70, "{per_mille}: {} ms", (end - ours) / 90);
        assert!(out.windows(2).all(|pair| pair[1].pts - pair[0].pts == Ticks(1800)));
    }
}

#[test]
fn holes_are_filled_and_jumps_are_followed() {
    let (track, packets) = aac_tone(48_000, 1, 4);
    let mut transcoder = Transcoder::new(&track, Codec::Opus).unwrap();
    let mut out = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        // Ten packets (213 ms) are missing after 1.1 s, and after 2.1 s the clock jumps by a day.
        if (50..60).contains(&index) {
            continue;
        }
        let jump = if index >= 100 { Ticks(86_400 * 90_000) } else { Ticks(0) };
        let pts = packet.pts + jump;
        transcoder.push(&Packet { pts, dts: pts, ..packet.clone() }, &mut out).unwrap();
    }
    let steps: Vec<Ticks> =
        out.windows(2).map(|pair| pair[1].pts - pair[0].pts).filter(|t| t.0 != 1800).collect();
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!((steps[0].0 - 86_400 * 90_000).abs() < Ticks::SECOND.0);
    let end = packets[packets.len() - 1].pts + Ticks(86_400 * 90_000);
    let off = end - out[out.len() - 1].pts;
    assert!(off.0.abs() < JITTER_MAX.0, "{off:?}");
}

#[test]
fn a_broken_packet_leaves_a_hole_that_is_filled() {
    let (track, packets) = aac_tone(48_000, 2, 3);
    let mut transcoder = Transcoder::new(&track, Codec::Opus).unwrap();
    let mut out = Vec::new();
    let mut broken = 0;
    for (index, packet) in packets.iter().enumerate() {
        let mut packet = packet.clone();
        if index % 20 == 10 {
            packet.data = Bytes::from(vec![0xff; 40]);
        }
        match transcoder.push(&packet, &mut out) {
            Ok(()) => {}
            Err(StageError::Broken { .. }) => broken += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(broken > 0);
    assert!(out.windows(2).all(|pair| pair[1].pts - pair[0].pts == Ticks(1800)));
    let off = packets[packets.len() - 1].pts - out[out.len() - 1].pts;
    assert!(off.0.abs() < 2 * JITTER_MAX.0, "{off:?}");
}

#[test]
fn surround_is_mixed_down_to_two_channels() {
    let (track, packets) = aac_tone(48_000, 6, 1);
    let mut transcoder = Transcoder::new(&track, Codec::Opus).unwrap();
    let out = transcode(&mut transcoder, &packets);
    assert_eq!(transcoder.track().channels, 2);
    assert!(out.len() > 40);
}

#[test]
fn what_cannot_be_transcoded_is_refused_by_name() {
    let track =
        AudioTrack { codec: Codec::H264, sample_rate: 48_000, channels: 2, config: Bytes::new() };
    assert!(matches!(Transcoder::new(&track, Codec::Opus), Err(StageError::Unsupported { .. })));
    let (track, _) = aac_tone(48_000, 1, 1);
    assert!(matches!(Transcoder::new(&track, Codec::Mp3), Err(StageError::Unsupported { .. })));
    let mut transcoder = Transcoder::new(&track, Codec::Opus).unwrap();
    let mut out = Vec::new();
    // No bytes at all are an error or nothing, never a panic.
    let _ = transcoder.push(&audio_packet(Pts(0), Bytes::new()), &mut out);
    assert!(out.is_empty());
}

/// Three seconds of a 1 kHz tone at half scale by these arguments of ffmpeg, in a file whose packets
/// ffprobe finds: their bytes, and the file.
fn tone_packets(rate: u32, channels: u8, codec: &str, name: &str) -> (Vec<Bytes>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    let file = file.to_str().unwrap();
    let formulas = vec!["0.5*sin(2*PI*1000*t)"; channels.into()].join("|");
    let source = format!("aevalsrc={formulas}:s={rate}:d=3");
    let mut args = vec!["-y", "-f", "lavfi", "-i", &source];
    args.extend(codec.split_whitespace());
    args.push(file);
    ffmpeg(&args, b"");
    let output = std::process::Command::new("ffprobe")
        .args(["-loglevel", "error", "-show_entries", "packet=size,pos", "-of", "csv=p=0", file])
        .output()
        .unwrap();
    let bytes = std::fs::read(file).unwrap();
    let places = String::from_utf8(output.stdout).unwrap();
    // Side data has a line of its own without numbers.
    let packets = places.lines().filter_map(|line| {
        let mut fields = line.split(',').map_while(|field| field.parse::<usize>().ok());
        let (size, at) = (fields.next()?, fields.next()?);
        Some(Bytes::copy_from_slice(&bytes[at..at + size]))
    });
    (packets.collect(), bytes)
}

#[test]
fn mp3_flac_and_g711_become_aac_and_opus_with_the_same_tone() {
    for (codec, rate, channels, options, name, samples) in [
        (Codec::Mp3, 44_100, 2, "-c:a libmp3lame -b:a 128k -write_xing 0", "tone.mp4", 1152),
        (Codec::Mp3, 22_050, 1, "-c:a libmp3lame -b:a 64k -write_xing 0", "tone.mp4", 576),
        (Codec::Flac, 48_000, 2, "-c:a flac -frame_size 1024 -strict -2", "tone.mp4", 1024),
        (Codec::G711U, 8000, 1, "-c:a pcm_mulaw", "tone.wav", 0),
        (Codec::G711A, 8000, 1, "-c:a pcm_alaw", "tone.wav", 0),
    ] {
        let (packets, file) = tone_packets(rate, channels, options, name);
        let config = match codec {
            Codec::Flac => {
                let at = file.windows(4).position(|four| four == b"dfLa").unwrap();
                pipeline::flac::StreamInfo::parse(&file[at + 8..at + 8 + 38]).unwrap().config()
            }
            _ => Bytes::new(),
        };
        if codec == Codec::Mp3 {
            let header = pipeline::mp3::FrameHeader::parse(&packets[3]).unwrap();
            assert_eq!((header.sample_rate, header.channels), (rate, channels));
            assert_eq!((header.samples, header.frame_bytes), (samples, Some(packets[3].len())));
        }
        let mut at = 0_i64;
        let packets: Vec<Packet> = packets
            .into_iter()
            .map(|data| {
                let pts = Pts(at * 90_000 / i64::from(rate));
                at += if samples == 0 { data.len() as i64 } else { i64::from(samples) };
                audio_packet(pts, data)
            })
            .collect();
        let track = AudioTrack { codec, sample_rate: rate, channels, config };
        for target in [Codec::Aac, Codec::Opus] {
            let mut transcoder = Transcoder::new(&track, target).unwrap();
            let out = transcode(&mut transcoder, &packets);
            let made = transcoder.track();
            assert_eq!((made.codec, made.sample_rate, made.channels), (target, 48_000, channels));
            let heard = decode(&made, &out);
            let second = SAMPLE_RATE as usize * usize::from(channels);
            let middle = &heard[second..second + second / 2];
            for channel in 0..usize::from(channels) {
                let (amplitude, rest) = tone(middle, channels.into(), channel, 1000.0);
                assert!((0.45..0.55).contains(&amplitude), "{codec} to {target}: {amplitude}");
                assert!(rest < 0.03, "{codec} to {target}: {rest} of something else");
            }
        }
    }
}
