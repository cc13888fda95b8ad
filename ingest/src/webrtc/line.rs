//! One medium of a publisher: the packets of its stream and of its repair stream, put in order.

use std::time::Instant;

use bytes::Bytes;

use super::answer::Medium;
use crate::rtp::packet::{RtpPacket, RtpTime};
use crate::rtp::reception::Reception;
use crate::rtp::reorder::{Inserted, Reorder};
use crate::rtp::rtx;

/// What is kept of a packet until its turn.
pub(crate) struct Kept {
    pub(crate) marker: bool,
    pub(crate) time: RtpTime,
    pub(crate) payload: Bytes,
    pub(crate) arrived: Instant,
}

/// The receiving end of one medium.
pub(crate) struct Line {
    pub(crate) medium: Medium,
    /// What the peer sends with, once a packet came.
    pub(crate) ssrc: Option<u32>,
    /// What the peer repairs with, once that is known.
    pub(crate) repair: Option<u32>,
    pub(crate) ended: bool,
    pub(crate) reception: Option<Reception>,
    pub(crate) reorder: Reorder<Kept>,
}

impl Line {
    /// A medium of which nothing has come.
    pub(crate) fn new(medium: &Medium) -> Self {
        Self {
            medium: medium.clone(),
            ssrc: None,
            repair: None,
            ended: false,
            reception: None,
            reorder: Reorder::new(medium.nack),
        }
    }

    /// Puts a packet in its place; false when it is not of this medium.
    pub(crate) fn take(&mut self, now: Instant, head: &RtpPacket<'_>, packet: &Bytes) -> bool {
        let kept = |payload: &[u8]| Kept {
            marker: head.marker,
            time: head.time,
            payload: packet.slice_ref(payload),
            arrived: now,
        };
        if head.payload_type == self.medium.payload_type {
            if self.ssrc != Some(head.ssrc) {
                // A new source begins a new sequence, as after a page was reloaded in mid-session.
                if self.ssrc.is_some() {
                    self.reorder = Reorder::new(self.medium.nack);
                }
                self.ssrc = Some(head.ssrc);
                self.ended = false;
                self.reception = Some(Reception::new(head.ssrc, self.medium.clock_rate()));
            }
            if let Some(reception) = &mut self.reception {
                reception.on_packet(now, head.seq, head.time);
            }
            if head.payload.is_empty() {
                // A probe made of padding takes a sequence number and is no hole.
                return self.reorder.insert(now, head.seq, kept(&[])) != Inserted::Jump;
            }
            self.reorder.insert(now, head.seq, kept(head.payload));
            return true;
        }
        if self.medium.rtx == Some(head.payload_type) {
            if let Some((seq, payload)) = rtx::unwrap(head.payload)
                && self.ssrc.is_some()
            {
                self.reorder.insert(now, seq, kept(payload));
            }
            return true;
        }
        false
    }
}
