//! What has to be done to a stream so that a kind of reader can take it, and why.

use ingest::views::Takes;
use pipeline::packet::VideoTrack;
use pipeline::{Codec, Tracks, h264, video};

/// What has to be done to a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What the pictures are made into, and why, if they are; no codec if none of those that we
    /// make will do.
    pub picture: Option<(Option<Codec>, String)>,
    /// What the sound is made into, and why, if it is.
    pub sound: Option<(Codec, String)>,
}

impl Needs {
    /// What a stream of these tracks needs; `reordered` when its pictures come out of order.
    pub fn of(tracks: &Tracks, reordered: bool, takes: &Takes) -> Self {
        let picture = tracks.video.as_ref().and_then(|video| {
            let why = obstacle(video, reordered, takes)?;
            let made = |codec: &&Codec| matches!(codec, Codec::H264 | Codec::Vp8);
            Some((takes.video.iter().find(made).copied(), why))
        });
        let sound = tracks.audio.as_ref().and_then(|audio| {
            let made = |codec: &&Codec| matches!(codec, Codec::Opus | Codec::Aac);
            let into = *takes.audio.iter().find(made)?;
            let reason = format!("the sound is {}, {} takes {into}", audio.codec, takes.label);
            (!takes.audio.contains(&audio.codec)).then_some((into, reason))
        });
        Self { picture, sound }
    }

    /// Whether the stream can be taken as it is.
    pub fn nothing(&self) -> bool {
        self.picture.is_none() && self.sound.is_none()
    }

    /// The form's name behind that of its stream.
    pub(super) fn kind(&self) -> String {
        let picture = self.picture.as_ref().and_then(|(codec, _)| *codec);
        let sound = self.sound.as_ref().map(|(codec, _)| *codec);
        let made = picture.into_iter().chain(sound);
        made.map(|codec| codec.name().to_lowercase()).collect::<Vec<_>>().join("+")
    }
}

/// Why such readers cannot take pictures of a track as they are.
fn obstacle(track: &VideoTrack, reordered: bool, takes: &Takes) -> Option<String> {
    if !takes.video.contains(&track.codec) {
        return Some(format!("{} readers do not all take {}", takes.label, track.codec));
    }
    if takes.reordering {
        return None;
    }
    let stated = match track.codec {
        Codec::H264 => {
            let mut assembler = h264::Assembler::new();
            let _ = assembler.configure_annex_b(&track.parameter_sets);
            assembler.sps().and_then(h264::webrtc_obstacle)
        }
        // What a stream does not say of itself is taken for the usual.
        _ => video::Description::of(track).ok().and_then(|is| {
            let depth = (is.bit_depth > 8).then_some(h264::Obstacle::BitDepth(is.bit_depth));
            let chroma = is.chroma_format != h264::ChromaFormat::Yuv420;
            depth.or_else(|| chroma.then_some(h264::Obstacle::Chroma(is.chroma_format)))
        }),
    };
    let seen = reordered.then_some(h264::Obstacle::Reordering(1));
    stated.or(seen).map(|obstacle| obstacle.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipeline::Size;
    use pipeline::packet::{AudioTrack, VideoTrack};

    use super::*;

    fn tracks(codec: Codec, audio: Option<Codec>) -> Tracks {
        let audio = audio.map(|codec| AudioTrack {
            codec,
            sample_rate: 48_000,
            channels: 2,
            config: Bytes::new(),
        });
        let parameter_sets = Bytes::new();
        Tracks { video: Some(VideoTrack { codec, size: Size::new(2, 2), parameter_sets }), audio }
    }

    #[test]
    fn only_what_browsers_cannot_play_is_re_encoded_and_the_reason_is_said() {
        let needs =
            |codec, audio, reordered| Needs::of(&tracks(codec, audio), reordered, &Takes::WEBRTC);
        assert!(needs(Codec::H264, Some(Codec::Opus), false).nothing());
        assert!(needs(Codec::H264, None, false).nothing());
        let aac = needs(Codec::H264, Some(Codec::Aac), false);
        assert_eq!((aac.picture, aac.sound.is_some()), (None, true));
        let (_, reordered) = needs(Codec::H264, None, true).picture.unwrap();
        assert!(reordered.contains("B-frames"), "{reordered}");
        assert!(needs(Codec::Hevc, None, false).picture.is_some());
        assert_eq!(needs(Codec::Hevc, Some(Codec::Aac), false).kind(), "h264+opus");
    }

    #[test]
    fn pictures_are_made_into_what_the_reader_wants_most_of_what_can_be_made() {
        let into = |video: &'static [Codec]| {
            let takes = Takes { video, ..Takes::WEBRTC };
            Needs::of(&tracks(Codec::Hevc, None), false, &takes).picture.map(|(into, _)| into)
        };
        assert_eq!(into(&[Codec::Vp8, Codec::Vp9]), Some(Some(Codec::Vp8)));
        assert_eq!(into(&[Codec::H264, Codec::Vp8]), Some(Some(Codec::H264)));
        assert_eq!(into(&[Codec::Av1]), Some(None));
        assert_eq!(into(&[Codec::H264, Codec::Hevc]), None);
    }

    #[test]
    fn each_kind_of_reader_gets_the_sound_that_it_wants_most() {
        const TAKES: Takes = Takes {
            label: "RTMP",
            video: &[Codec::H264],
            audio: &[Codec::Mp3, Codec::Aac],
            reordering: true,
        };
        let needs = |audio| Needs::of(&tracks(Codec::H264, Some(audio)), true, &TAKES);
        assert!(needs(Codec::Mp3).nothing() && needs(Codec::Aac).nothing());
        assert_eq!(needs(Codec::Opus).sound.map(|(into, _)| into), Some(Codec::Aac));
    }
}
