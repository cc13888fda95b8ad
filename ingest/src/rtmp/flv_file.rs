//! RTMP's messages as FLV files have them, for who reads such files.

use std::time::Instant;

use bytes::BytesMut;

use super::amf::{self, Limits};
use super::flv::MediaError;
pub(crate) use super::publish::Output;
use super::publish::Publish;

/// Types of tags (Adobe, E.4.1), which are RTMP's types of messages.
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;

/// The media of a file.
#[derive(Debug, Default)]
pub(crate) struct Media(Publish);

impl Media {
    /// Takes a tag; those of other types are passed over.
    ///
    /// # Errors
    /// [`MediaError`]; unless [`MediaError::can_pass`] says no, the next tag may follow.
    pub(crate) fn tag(
        &mut self,
        kind: u8,
        now: Instant,
        timestamp: u32,
        body: BytesMut,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        match kind {
            AUDIO => self.0.audio(now, timestamp, body, out),
            VIDEO => self.0.video(now, timestamp, body, out),
            SCRIPT => {
                // What cannot be read says nothing.
                if let Ok(values) = amf::read_all(&body, Limits::DATA) {
                    self.0.metadata(&values, out);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Nothing follows: what waited for more is given out.
    pub(crate) fn finish(&mut self, out: &mut Vec<Output>) {
        self.0.finish(out);
    }
}
