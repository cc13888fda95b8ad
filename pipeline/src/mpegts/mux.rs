//! Packets into transport packets.

use bytes::{BufMut, BytesMut};

use crate::aac::{self, AudioSpecificConfig};
use crate::h264::NalKind;
use crate::hevc;
use crate::opus::{self, ControlHeader};
use crate::packet::{Codec, Packet, TrackKind, Tracks};
use crate::time::{Pts, Ticks};

use super::pes::{PesHead, times_bytes};
use super::psi::{self, Elementary, PAT_PID};
use super::{CLOCK_MODULUS, PACKET_BYTES, PES_LENGTH_FULL, SYNC, UNIT_BYTES_MAX};

const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x0100;
const AUDIO_PID: u16 = 0x0101;

/// An access unit delimiter that allows all slice types, with its start code (H.264 7.3.2.4).
const H264_DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];

/// The same for HEVC (H.265 7.3.2.5).
const HEVC_DELIMITER: [u8; 7] = [0, 0, 0, 1, 0x46, 0x01, 0x50];

/// Media time after which the tables are repeated, for readers that join in the middle.
const TABLES_PERIOD: Ticks = Ticks::from_millis(100);

/// Media time after which a clock reference must have come; the standard allows 100 ms (2.7.2).
const PCR_PERIOD: Ticks = Ticks::from_millis(80);

/// How far the clock reference stays behind the decoding time: what a receiver may buffer.
const PCR_LEAD: Ticks = Ticks::from_millis(100);

/// Steps of the clock reference outside this range are marked as a discontinuity.
const PCR_STEP_MAX: Ticks = Ticks::from_millis(10_000);

/// Why packets cannot be muxed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// The track's coding has no place in MPEG-TS here.
    #[error("MPEG-TS does not carry {0} here")]
    Codec(Codec),
    /// Neither picture nor sound.
    #[error("no track to mux")]
    NoTrack,
    /// A packet of a track that the muxer was not told of.
    #[error("packet of a {0:?} track that is not muxed")]
    UnknownTrack(TrackKind),
    /// More than [`UNIT_BYTES_MAX`] bytes.
    #[error("unit of {0} bytes is larger than {UNIT_BYTES_MAX}")]
    TooLarge(usize),
    /// An AudioSpecificConfig that cannot be read or put in ADTS, or a frame that is too long.
    #[error(transparent)]
    Aac(#[from] aac::Error),
    /// Opus packet longer than [`opus::PACKET_BYTES_MAX`], or more than 8 channels.
    #[error("Opus with {0} {1} cannot be muxed")]
    Opus(usize, &'static str),
}

/// Makes one transport stream, or a run of segments of one.
///
/// Tables are written at the start of each segment, and again with the first packet that is 100 ms
/// of media after the last ones. The clock reference is on the picture's PID (the sound's, if there
/// is no picture) at every picture, and in a packet of its own where pictures are more than 80 ms
/// apart. Continuity counters run on over segments.
#[derive(Debug)]
pub struct Muxer {
    video: Option<Elementary>,
    audio: Option<Elementary>,
    /// Config of the AAC track.
    aac: Option<AudioSpecificConfig>,
    version: u8,
    counters: Counters,
    /// When tables were written last; `None` before the first.
    tables_at: Option<Pts>,
    /// Tables were written by `start_segment` and no packet since.
    tables_fresh: bool,
    pcr: Option<Pts>,
    /// What the transport puts before the unit, and a PES head with it: kept to spare allocations.
    prefix: BytesMut,
    head: BytesMut,
}

/// Continuity counters, by use.
#[derive(Debug, Default)]
struct Counters {
    pat: u8,
    pmt: u8,
    video: u8,
    audio: u8,
}

/// What the adaptation field of a packet says.
#[derive(Clone, Copy, Default)]
struct Adaptation {
    pcr: Option<Pts>,
    random_access: bool,
    discontinuity: bool,
}

impl Muxer {
    /// A muxer for these tracks.
    ///
    /// # Errors
    /// [`MuxError::Codec`], [`MuxError::NoTrack`], and [`MuxError::Aac`] when the
    /// AudioSpecificConfig is broken or has no form in ADTS.
    pub fn new(tracks: &Tracks) -> Result<Self, MuxError> {
        let mut muxer = Self {
            video: None,
            audio: None,
            aac: None,
            version: 0,
            counters: Counters::default(),
            tables_at: None,
            tables_fresh: false,
            pcr: None,
            prefix: BytesMut::new(),
            head: BytesMut::new(),
        };
        muxer.choose(tracks)?;
        Ok(muxer)
    }

    /// Goes on with other tracks: the next packet comes after new tables. What did not change
    /// keeps its PID and counter. On an error the old tracks stay.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn set_tracks(&mut self, tracks: &Tracks) -> Result<(), MuxError> {
        let before = (self.video, self.audio);
        self.choose(tracks)?;
        if (self.video, self.audio) != before {
            self.version = (self.version + 1) % 32;
            self.tables_at = None;
            self.tables_fresh = false;
        }
        Ok(())
    }

    /// Writes the tables that make what follows a stream of its own.
    pub fn start_segment(&mut self, out: &mut BytesMut) {
        self.write_tables(out);
        self.tables_fresh = true;
    }

    /// Writes one packet, whole: its last byte is in `out` when this returns.
    ///
    /// # Errors
    /// [`MuxError::UnknownTrack`], [`MuxError::TooLarge`], [`MuxError::Aac`] and
    /// [`MuxError::Opus`]. Nothing is written then, and the muxer can go on.
    pub fn mux(&mut self, packet: &Packet, out: &mut BytesMut) -> Result<(), MuxError> {
        let stream = match packet.kind {
            TrackKind::Video => self.video,
            TrackKind::Audio => self.audio,
        };
        let Some(stream) = stream else { return Err(MuxError::UnknownTrack(packet.kind)) };
        if packet.data.len() > UNIT_BYTES_MAX {
            return Err(MuxError::TooLarge(packet.data.len()));
        }
        self.prefix.clear();
        self.put_before_unit(stream, packet)?;
        let bytes = self.prefix.len() + packet.data.len();
        out.reserve((bytes / 160 + 8) * PACKET_BYTES);
        self.tables_if_due(packet.dts, out);
        let adaptation = self.clock(stream, packet, out);
        self.write_unit(out, stream, packet, adaptation);
        Ok(())
    }

    fn choose(&mut self, tracks: &Tracks) -> Result<(), MuxError> {
        let mut aac = None;
        let video = match &tracks.video {
            None => None,
            Some(track) if matches!(track.codec, Codec::H264 | Codec::Hevc) => {
                Some(Elementary { pid: VIDEO_PID, codec: track.codec, channels: 0 })
            }
            Some(track) => return Err(MuxError::Codec(track.codec)),
        };
        let audio = match &tracks.audio {
            None => None,
            Some(track) => {
                let mut channels = 0;
                match track.codec {
                    Codec::Aac => {
                        let config = AudioSpecificConfig::parse(&track.config)?;
                        config.adts_header(0)?;
                        aac = Some(config);
                    }
                    Codec::Opus if (1..=8).contains(&track.channels) => channels = track.channels,
                    Codec::Opus => return Err(MuxError::Opus(track.channels.into(), "channels")),
                    other => return Err(MuxError::Codec(other)),
                }
                Some(Elementary { pid: AUDIO_PID, codec: track.codec, channels })
            }
        };
        if video.is_none() && audio.is_none() {
            return Err(MuxError::NoTrack);
        }
        (self.video, self.audio, self.aac) = (video, audio, aac);
        Ok(())
    }

    /// What the transport wants in front of the unit: delimiter, ADTS or Opus header.
    fn put_before_unit(&mut self, stream: Elementary, packet: &Packet) -> Result<(), MuxError> {
        let (data, before) = (&packet.data, &mut self.prefix);
        match stream.codec {
            Codec::H264 => {
                let first = data.get(4).map(|header| NalKind::of(*header));
                if first != Some(NalKind::AccessUnitDelimiter) {
                    before.put_slice(&H264_DELIMITER);
                }
            }
            Codec::Hevc => {
                let first = data.get(4).map(|header| hevc::NalKind::of(*header));
                if first != Some(hevc::NalKind::AccessUnitDelimiter) {
                    before.put_slice(&HEVC_DELIMITER);
                }
            }
            Codec::Aac => {
                if let Some(config) = &self.aac {
                    before.put_slice(&config.adts_header(data.len())?);
                }
            }
            Codec::Opus if data.len() > opus::PACKET_BYTES_MAX => {
                return Err(MuxError::Opus(data.len(), "bytes in a packet"));
            }
            Codec::Opus => {
                let packet_bytes = data.len();
                ControlHeader { packet_bytes, ..ControlHeader::default() }.write(before);
            }
            _ => {}
        }
        Ok(())
    }

    fn tables_if_due(&mut self, now: Pts, out: &mut BytesMut) {
        if std::mem::take(&mut self.tables_fresh) {
            self.tables_at = Some(now);
            return;
        }
        let since = self.tables_at.map(|at| now - at);
        // Backwards: sound a little behind the picture is not due, a jump is.
        if since.is_none_or(|since| since >= TABLES_PERIOD || since < Ticks(-TABLES_PERIOD.0)) {
            self.write_tables(out);
            self.tables_at = Some(now);
        }
    }

    /// The adaptation field of the unit's first packet; writes a clock packet where one is due.
    fn clock(&mut self, stream: Elementary, packet: &Packet, out: &mut BytesMut) -> Adaptation {
        let clock_pid = self.video.or(self.audio).map_or(stream.pid, |stream| stream.pid);
        let own = stream.pid == clock_pid;
        let mut adaptation = Adaptation {
            random_access: stream.codec.is_video() && packet.key,
            ..Default::default()
        };
        let pcr = packet.dts - PCR_LEAD;
        let step = self.pcr.map(|last| pcr - last);
        let jump = step.is_some_and(|step| step > PCR_STEP_MAX || step < Ticks(-Ticks::SECOND.0));
        let due = step.is_none_or(|step| step >= PCR_PERIOD);
        if own && (stream.codec.is_video() || due || jump) {
            adaptation.discontinuity = jump;
            // A little backwards is where the sound has told the time for the picture.
            let pcr = if jump { pcr } else { self.pcr.map_or(pcr, |last| last.max(pcr)) };
            adaptation.pcr = Some(pcr);
            self.pcr = Some(pcr);
        } else if !own && step.is_some() && due && !jump {
            // The picture is late; the sound tells the time in a packet without payload. A clock
            // that is not yet running, or that jumps, is left to the picture.
            let clock = Adaptation { pcr: Some(pcr), ..Default::default() };
            // 2.4.3.3: the counter stays where there is no payload.
            let counter = self.counters.video.wrapping_sub(1) & 15;
            write_packet(out, clock_pid, false, counter, clock, &mut &[][..], &mut &[][..]);
            self.pcr = Some(pcr);
        }
        adaptation
    }

    fn write_unit(
        &mut self,
        out: &mut BytesMut,
        stream: Elementary,
        packet: &Packet,
        mut adaptation: Adaptation,
    ) {
        let (counter, stream_id) = match stream.codec {
            codec if codec.is_video() => (&mut self.counters.video, 0xe0),
            Codec::Opus => (&mut self.counters.audio, 0xbd),
            _ => (&mut self.counters.audio, 0xc0),
        };
        let wrapped = |time: Pts| time.0.rem_euclid(CLOCK_MODULUS) as u64;
        let mut times = Some((wrapped(packet.pts), wrapped(packet.dts)));
        let mut prefix = &self.prefix[..];
        let mut rest = &packet.data[..];
        let mut stuffing = stuffing(prefix.len() + rest.len(), times);
        loop {
            let before = 3 + times_bytes(times) + usize::from(stuffing) + prefix.len();
            let (now, later) = rest.split_at(rest.len().min(PES_LENGTH_FULL - before));
            let length = before + now.len();
            debug_assert_eq!(later.is_empty(), length < PES_LENGTH_FULL);
            self.head.clear();
            PesHead::write(&mut self.head, stream_id, length, times, stuffing);
            self.head.extend_from_slice(prefix);
            let (mut head, mut body) = (&self.head[..], now);
            let mut start = true;
            while !head.is_empty() || !body.is_empty() {
                write_packet(out, stream.pid, start, *counter, adaptation, &mut head, &mut body);
                *counter = (*counter + 1) & 15;
                (start, adaptation) = (false, Adaptation::default());
            }
            if later.is_empty() {
                return;
            }
            (rest, prefix, times, stuffing) = (later, &[], None, 0);
        }
    }

    fn write_tables(&mut self, out: &mut BytesMut) {
        let mut section = BytesMut::new();
        section.put_u8(0);
        psi::write_pat(&mut section, PMT_PID);
        write_table(out, PAT_PID, &mut self.counters.pat, &section);
        section.truncate(1);
        let streams: Vec<_> = self.video.into_iter().chain(self.audio).collect();
        let clock_pid = streams.first().map_or(psi::NULL_PID, |stream| stream.pid);
        psi::write_pmt(&mut section, self.version, clock_pid, &streams);
        write_table(out, PMT_PID, &mut self.counters.pmt, &section);
    }
}

/// Stuffing bytes for the first PES head, so that a unit of `bytes` does not end with a full PES
/// packet: 1 where it would, else 0.
fn stuffing(bytes: usize, times: Option<(u64, u64)>) -> u8 {
    let first = PES_LENGTH_FULL - 3 - times_bytes(times);
    u8::from(bytes >= first && (bytes - first).is_multiple_of(PES_LENGTH_FULL - 3))
}

/// A section, which fits in one packet, filled up with 0xff as sections are.
fn write_table(out: &mut BytesMut, pid: u16, counter: &mut u8, section: &[u8]) {
    let start = out.len();
    out.put_u8(SYNC);
    out.put_u16(0x4000 | pid);
    out.put_u8(0x10 | *counter);
    out.put_slice(section);
    out.put_bytes(0xff, PACKET_BYTES - (out.len() - start));
    *counter = (*counter + 1) & 15;
}

/// Writes one transport packet with as much of `head` and then `body` as it holds, and cuts that
/// off them. The adaptation field takes what they leave.
fn write_packet(
    out: &mut BytesMut,
    pid: u16,
    start: bool,
    counter: u8,
    adaptation: Adaptation,
    head: &mut &[u8],
    body: &mut &[u8],
) {
    let Adaptation { pcr, random_access, discontinuity } = adaptation;
    let wanted = if pcr.is_some() {
        8
    } else if random_access || discontinuity {
        2
    } else {
        0
    };
    let room = PACKET_BYTES - 4 - wanted;
    let payload = room.min(head.len() + body.len());
    let field = PACKET_BYTES - 4 - payload;
    out.put_u8(SYNC);
    out.put_u16(u16::from(start) << 14 | pid);
    out.put_u8(if field > 0 { 0x20 } else { 0 } | if payload > 0 { 0x10 } else { 0 } | counter);
    if field > 0 {
        out.put_u8((field - 1) as u8);
    }
    if field > 1 {
        let flags = u8::from(discontinuity) << 7 | u8::from(random_access) << 6;
        out.put_u8(flags | u8::from(pcr.is_some()) << 4);
        let mut used = 2;
        if let Some(pcr) = pcr {
            // 33 bits of 90 kHz, six reserved ones, extension 0.
            let base = pcr.0.rem_euclid(CLOCK_MODULUS) as u64;
            out.put_u32((base >> 1) as u32);
            out.put_u16((base as u16 & 1) << 15 | 0x7e00);
            used = 8;
        }
        out.put_bytes(0xff, field - used);
    }
    let from_head = payload.min(head.len());
    out.put_slice(&head[..from_head]);
    out.put_slice(&body[..payload - from_head]);
    (*head, *body) = (&head[from_head..], &body[payload - from_head..]);
}
