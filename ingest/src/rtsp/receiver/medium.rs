//! One medium as it is received: the order of its packets, and how they are joined to frames.

use std::time::Instant;

use bytes::Bytes;
use pipeline::time::Unwrapper;
use pipeline::video::{Assembler, Description};

use crate::rtp::clock::Ntp;
use crate::rtp::key_wish::KeyWish;
use crate::rtp::packet::{RtpTime, SeqUnwrapper};
use crate::rtp::payload::{PictureDepacketiser, SoundDepacketiser};
use crate::rtp::reception::Reception;
use crate::rtp::reorder::Reorder;
use crate::rtp::source_clock::SourceClock;
use crate::rtsp::announce::{Coding, Format};
use crate::rtsp::decode_times::DecodeTimes;

#[derive(Debug)]
pub(super) struct Medium {
    pub(super) format: Format,
    pub(super) order: Order,
    pub(super) ssrc: Option<u32>,
    pub(super) reception: Reception,
    pub(super) joiner: Joiner,
    /// A sender report that came before any frame.
    pub(super) early_report: Option<(Ntp, RtpTime)>,
    pub(super) begun: bool,
}

#[derive(Debug)]
pub(super) enum Order {
    /// Interleaved: as they come.
    Stream(SeqUnwrapper),
    Datagrams(Box<Reorder<Kept>>),
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) time: RtpTime,
    pub(super) marker: bool,
    pub(super) payload: Bytes,
    pub(super) arrived: Instant,
}

#[derive(Debug)]
pub(super) enum Joiner {
    Picture(Box<Pictures>),
    Sound(SoundDepacketiser),
}

#[derive(Debug)]
pub(super) struct Pictures {
    pub(super) depacketiser: PictureDepacketiser,
    pub(super) assembler: Assembler,
    pub(super) unwrap: Unwrapper<32>,
    pub(super) times: DecodeTimes,
    pub(super) wish: KeyWish,
}

impl Medium {
    pub(super) fn new(format: &Format, datagrams: bool) -> Option<Self> {
        let joiner = match &format.coding {
            Coding::Picture(codec, sets) => {
                let mut assembler = Assembler::new(*codec)?;
                if !sets.is_empty() {
                    // Those that cannot be read may come again in band.
                    let _ = assembler.configure_sets(sets);
                }
                let mut times = DecodeTimes::default();
                let described = assembler.track().and_then(|track| Description::of(&track).ok());
                times.set_depth(described.and_then(|found| found.reorder_frames).unwrap_or(0));
                Joiner::Picture(Box::new(Pictures {
                    depacketiser: PictureDepacketiser::new(*codec)?,
                    assembler,
                    unwrap: Unwrapper::new(),
                    times,
                    wish: KeyWish::default(),
                }))
            }
            Coding::Sound(sound) => Joiner::Sound(SoundDepacketiser::new(sound.format)),
        };
        let order = match datagrams {
            true => Order::Datagrams(Box::new(Reorder::new(false))),
            false => Order::Stream(SeqUnwrapper::default()),
        };
        let reception = Reception::new(0, format.clock_rate);
        let (ssrc, early_report, begun) = (None, None, false);
        Some(Self { format: format.clone(), order, ssrc, reception, joiner, early_report, begun })
    }

    /// Another sender on the same road: its sequence has nothing to do with the one before.
    pub(super) fn restart(&mut self, ssrc: u32) {
        self.ssrc = Some(ssrc);
        self.reception = Reception::new(ssrc, self.format.clock_rate);
        self.order = match self.order {
            Order::Stream(_) => Order::Stream(SeqUnwrapper::default()),
            Order::Datagrams(_) => Order::Datagrams(Box::new(Reorder::new(false))),
        };
    }

    /// The first frame has a name: the report that came before it can be used.
    pub(super) fn begin(&mut self, clock: &mut SourceClock) {
        self.begun = true;
        if let Some((wall, time)) = self.early_report.take() {
            clock.sender_report(self.format.kind(), wall, time);
        }
    }
}
