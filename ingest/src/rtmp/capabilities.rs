//! What the two ends of a connection tell each other about enhanced RTMP in `connect` and its
//! answer (Enhanced RTMP v2, "Enhancing NetConnection connect Command").
//!
//! A peer that says nothing takes H.264, AAC and MP3, which is what RTMP was before.

use std::sync::LazyLock;

use pipeline::Codec;

use super::amf::Value;
use crate::views::Takes;

/// `FourCcInfoMask`: the peer decodes it, encodes it, passes it on.
const CAN_DECODE: u32 = 1;
const CAN_FORWARD: u32 = 4;

/// `CapsExMask`: follows a request to reconnect, understands several tracks and extensions.
const RECONNECT: u32 = 1;
const MULTITRACK: u32 = 2;
const MOD_EX: u32 = 4;

/// Codecs that need the enhanced form, by FourCC.
const CODECS: [(&str, Codec); 6] = [
    ("hvc1", Codec::Hevc),
    ("av01", Codec::Av1),
    ("vp09", Codec::Vp9),
    ("vp08", Codec::Vp8),
    ("Opus", Codec::Opus),
    ("fLaC", Codec::Flac),
];

/// What this node takes from publishers, for the answer to `connect`.
const VIDEO_TAKEN: [&str; 5] = ["avc1", "hvc1", "av01", "vp09", "vp08"];
const AUDIO_TAKEN: [&str; 4] = ["mp4a", "Opus", "fLaC", ".mp3"];

/// What a peer takes beyond H.264, AAC and MP3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Bit n stands for entry n of [`CODECS`].
    codecs: u8,
    /// It follows a request to reconnect.
    reconnect: bool,
    /// It understands several tracks.
    multitrack: bool,
    /// It speaks enhanced RTMP at all.
    enhanced: bool,
}

impl Capabilities {
    /// What the command object of `connect`, or the information of its answer, says.
    pub(crate) fn of(facts: &Value) -> Self {
        let mut told = Self::default();
        let mut add = |name: &str| {
            let bit = |(index, (four, _)): (usize, &(&str, Codec))| {
                if *four == name || name == "*" { 1 << index } else { 0 }
            };
            told.codecs |= CODECS.iter().enumerate().map(bit).fold(0, |all, bit| all | bit);
        };
        if let Some(Value::StrictArray(list)) = facts.get("fourCcList") {
            list.iter().filter_map(Value::as_str).for_each(&mut add);
            told.enhanced = true;
        }
        for name in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
            let Some(Value::Object(map) | Value::EcmaArray(map)) = facts.get(name) else {
                continue;
            };
            for (four, mask) in map {
                let mask = mask.as_number().unwrap_or_default() as u32;
                // A server that passes media on takes it as well as one that decodes it.
                if mask & (CAN_DECODE | CAN_FORWARD) != 0 {
                    add(four);
                }
            }
            told.enhanced = true;
        }
        let extra = facts.get("capsEx").and_then(Value::as_number).unwrap_or_default() as u32;
        told.reconnect = extra & RECONNECT != 0;
        told.multitrack = extra & MULTITRACK != 0;
        told.enhanced |= extra != 0;
        told
    }

    /// Everything, for a push whose server has not said what it takes but whose owner has.
    #[cfg(test)]
    pub(crate) const fn all() -> Self {
        Self { codecs: 0x3F, reconnect: true, multitrack: true, enhanced: true }
    }

    /// Whether the peer speaks enhanced RTMP.
    pub(crate) const fn is_enhanced(self) -> bool {
        self.enhanced
    }

    /// Whether the peer follows a request to reconnect.
    pub(crate) const fn reconnects(self) -> bool {
        self.reconnect
    }

    /// Whether the peer understands further tracks.
    pub(crate) const fn multitrack(self) -> bool {
        self.multitrack
    }

    /// Whether pictures of this codec can be sent to the peer.
    pub(crate) fn video(self, codec: Codec) -> bool {
        codec == Codec::H264 || (codec.is_video() && self.announced(codec))
    }

    /// Whether sound of this codec can be sent to the peer.
    pub(crate) fn audio(self, codec: Codec) -> bool {
        matches!(codec, Codec::Aac | Codec::Mp3) || (!codec.is_video() && self.announced(codec))
    }

    fn announced(self, codec: Codec) -> bool {
        CODECS.iter().position(|(_, of)| *of == codec).is_some_and(|n| self.codecs >> n & 1 == 1)
    }

    /// The same as a wish for a form of a stream.
    pub(crate) fn takes(self) -> &'static Takes {
        /// One for each choice of codecs.
        static ALL: LazyLock<Vec<Takes>> = LazyLock::new(|| {
            let list = |takes: &dyn Fn(Codec) -> bool, all: &[Codec]| -> &'static [Codec] {
                // Made once, for as long as the process lives.
                Box::leak(all.iter().copied().filter(|codec| takes(*codec)).collect())
            };
            let of = |codecs| {
                let told = Capabilities { codecs, enhanced: true, ..Capabilities::default() };
                let video = [Codec::H264, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Vp8];
                let audio = [Codec::Aac, Codec::Mp3, Codec::Opus, Codec::Flac];
                Takes {
                    label: "RTMP",
                    video: list(&|codec| told.video(codec), &video),
                    audio: list(&|codec| told.audio(codec), &audio),
                    reordering: true,
                }
            };
            (0..1 << CODECS.len()).map(of).collect()
        });
        &ALL[usize::from(self.codecs)]
    }
}

/// What this node says of itself: as server in the answer to `connect`, as client in `connect`.
pub(crate) fn ours() -> Vec<(String, Value)> {
    let map = |names: &[&'static str]| {
        let mask = Value::from(f64::from(CAN_DECODE | CAN_FORWARD));
        Value::Object(names.iter().map(|name| ((*name).to_owned(), mask.clone())).collect())
    };
    let names = VIDEO_TAKEN.iter().chain(&AUDIO_TAKEN);
    vec![
        ("fourCcList".into(), Value::StrictArray(names.map(|name| (*name).into()).collect())),
        ("videoFourCcInfoMap".into(), map(&VIDEO_TAKEN)),
        ("audioFourCcInfoMap".into(), map(&AUDIO_TAKEN)),
        ("capsEx".into(), f64::from(RECONNECT | MULTITRACK | MOD_EX).into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::amf::object;

    fn list(names: &[&'static str]) -> Value {
        let names = names.iter().map(|name| (*name).into()).collect();
        object([("fourCcList", Value::StrictArray(names))])
    }

    #[test]
    fn a_peer_that_says_nothing_gets_what_rtmp_always_had() {
        let plain = Capabilities::of(&object([("app", "live".into())]));
        assert!(!plain.is_enhanced());
        let takes = plain.takes();
        assert_eq!((takes.video, takes.audio), (&[Codec::H264][..], &[Codec::Aac, Codec::Mp3][..]));
    }

    #[test]
    fn lists_maps_and_the_star_are_understood() {
        let some = Capabilities::of(&list(&["hvc1", "Opus", "ac-3"]));
        assert!(some.video(Codec::Hevc) && some.audio(Codec::Opus) && some.is_enhanced());
        assert!(!some.video(Codec::Av1) && !some.audio(Codec::Flac) && !some.reconnects());
        assert_eq!(some.takes().video, [Codec::H264, Codec::Hevc]);
        assert_eq!(Capabilities::of(&list(&["*"])).codecs, Capabilities::all().codecs);
        let map = object([
            ("av01", f64::from(CAN_DECODE).into()),
            ("vp09", 2.0.into()),
            ("hvc1", f64::from(CAN_FORWARD).into()),
        ]);
        let facts = object([("videoFourCcInfoMap", map), ("capsEx", 1.0.into())]);
        let told = Capabilities::of(&facts);
        assert!(told.video(Codec::Av1) && told.video(Codec::Hevc) && told.reconnects());
        assert!(!told.video(Codec::Vp9), "what it only encodes it does not take");
        let ours = Capabilities::of(&Value::Object(ours()));
        assert_eq!(ours, Capabilities::all());
    }
}
