//! GStreamer codecs behind the pipeline's traits: H.264, HEVC, AV1, VP9 and VP8 in, H.264 and VP8
//! out; AAC, Opus, MP3, FLAC and G.711 in, AAC and Opus out.
//!
//! Elements are driven by pushing buffers into their pads from the caller's thread ([`chain`]), so
//! that decoding and encoding are plain function calls: no pipeline, no main loop, no queue and no
//! thread of ours. This crate is fed elementary streams that our own parsers have passed; it holds
//! no demuxer, no network element and no element that picks others by itself (`decodebin`).

pub mod audio;
#[cfg(test)]
mod audio_tests;
mod chain;
mod clock;
mod decoder;
mod encoder;
mod feed;
mod picture;
pub mod scale;
#[cfg(test)]
mod testing;
pub mod tone;
#[cfg(test)]
mod video_tests;
pub mod vp8;

/// Decoders by the codec of a track.
pub mod video {
    use pipeline::packet::VideoTrack;
    use pipeline::stage::{self, StageError};

    /// A decoder for a track of any video codec, with as many threads as its pictures are worth.
    ///
    /// # Errors
    /// For a codec that is not decoded here, and when GStreamer lacks an element.
    pub fn decoder(track: &VideoTrack) -> Result<Box<dyn stage::Decoder>, StageError> {
        Ok(Box::new(crate::decoder::Decoder::new(track)?))
    }
}

/// H.264 both ways. The decoder takes the other codecs as well; see [`video`].
pub mod h264 {
    pub use crate::decoder::Decoder;
    pub use crate::encoder::{Encoder, Options, Preset, Profile};
}

use std::sync::OnceLock;

/// Why GStreamer cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The library itself did not start.
    #[error("GStreamer did not start: {0}")]
    Start(String),
    /// An element that every node needs is not installed.
    #[error("GStreamer has no element {element}: install the Debian package {package}")]
    Missing {
        /// The element's name.
        element: &'static str,
        /// The Debian package that brings it.
        package: &'static str,
    },
}

/// What was found, for logs and `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// GStreamer's version, as it says it.
    pub gstreamer: String,
    /// The version of the plug-in that holds libav's codecs.
    pub libav: String,
    /// The version of the plug-in that holds x264.
    pub x264: String,
}

/// Elements that every node needs, and where Debian has them.
const NEEDED: &[(&str, &str)] = &[
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("videoscale", "gstreamer1.0-plugins-base"),
    ("audioconvert", "gstreamer1.0-plugins-base"),
    ("audioresample", "gstreamer1.0-plugins-base"),
    ("opusdec", "gstreamer1.0-plugins-base"),
    ("opusenc", "gstreamer1.0-plugins-base"),
    ("vp8dec", "gstreamer1.0-plugins-good"),
    ("vp8enc", "gstreamer1.0-plugins-good"),
    ("vp9dec", "gstreamer1.0-plugins-good"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("avdec_h265", "gstreamer1.0-libav"),
    ("av1dec", "gstreamer1.0-plugins-bad"),
    ("avdec_aac", "gstreamer1.0-libav"),
    ("avdec_mp3float", "gstreamer1.0-libav"),
    ("avdec_flac", "gstreamer1.0-libav"),
    ("mulawdec", "gstreamer1.0-plugins-good"),
    ("alawdec", "gstreamer1.0-plugins-good"),
    ("avenc_aac", "gstreamer1.0-libav"),
];

/// Starts GStreamer once for the process and looks for the elements that are needed. Every
/// constructor of this crate calls it, so calling it early only makes the error come early.
///
/// # Errors
/// When the library does not start, or an element is not installed.
pub fn init() -> Result<Versions, Error> {
    static FOUND: OnceLock<Result<Versions, Error>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Result<Versions, Error> {
    gstreamer::init().map_err(|error| Error::Start(error.to_string()))?;
    for &(element, package) in NEEDED {
        if gstreamer::ElementFactory::find(element).is_none() {
            return Err(Error::Missing { element, package });
        }
    }
    let plugin = |element: &str| {
        use gstreamer::prelude::*;
        gstreamer::ElementFactory::find(element)
            .and_then(|factory| factory.plugin())
            .map_or_else(String::new, |plugin| plugin.version().to_string())
    };
    Ok(Versions {
        gstreamer: gstreamer::version_string().to_string(),
        libav: plugin("avdec_h264"),
        x264: plugin("x264enc"),
    })
}
