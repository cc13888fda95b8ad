//! From RTP payloads to one access unit in Annex B. Parameter sets are put before key pictures by
//! [`pipeline::h264::Assembler`], which takes the units as they come from here.

use pipeline::h264::is_recovery_point;

use super::{DELIMITER, FU_A, FU_B, IDR, PPS, SEI, SLICE, SPS, STAP_A, STAP_B, TYPE_MASK};
use crate::rtp::payload::picture::Format;
use crate::rtp::payload::{Fault, nal};

/// Joins the payloads of one picture.
#[derive(Debug, Default)]
pub(in crate::rtp::payload) struct Joiner {
    nal: nal::Joiner,
    supplement: bool,
}

impl Joiner {
    fn unit(&mut self, head: u8, body: &[u8], picture: &mut Vec<u8>) {
        // Delimiters, ends and filler say nothing; 13 and above belong to other profiles.
        self.nal.kept = (SLICE..=8).contains(&(head & TYPE_MASK));
        if !self.nal.kept {
            return;
        }
        self.nal.key |= head & TYPE_MASK == IDR;
        self.supplement |= head & TYPE_MASK == SEI;
        picture.extend_from_slice(&[0, 0, 0, 1, head]);
        picture.extend_from_slice(body);
    }
}

impl Format for Joiner {
    /// It begins with a delimiter or a sequence parameter set. At the start of a stream also with
    /// the slice that holds the first macroblock (`first_mb_in_slice` is 0, in Exp-Golomb a single
    /// set bit; H.264 7.3.3) or what stands before it, for senders that gave their parameter sets in the SDP; after a loss
    /// those before the slice may be what is missing.
    fn begins(&self, payload: &[u8], stream_start: bool) -> bool {
        let unit = match payload {
            [head, rest @ ..] if head & TYPE_MASK == STAP_A => rest.get(2..).unwrap_or(&[]),
            [head, fragment, rest @ ..] if head & TYPE_MASK == FU_A => {
                let slice = matches!(fragment & TYPE_MASK, SLICE | IDR);
                return fragment & 0x80 != 0 && slice && stream_start && first_bit(rest);
            }
            other => other,
        };
        match unit {
            [head, rest @ ..] => match head & TYPE_MASK {
                SPS | DELIMITER => true,
                SLICE | IDR => stream_start && first_bit(rest),
                SEI | PPS => stream_start,
                _ => false,
            },
            [] => false,
        }
    }

    fn take(&mut self, payload: &[u8], picture: &mut Vec<u8>) -> Result<(), Fault> {
        let malformed = Fault::Malformed;
        let Some((&head, body)) = payload.split_first() else { return Ok(()) };
        let kind = head & TYPE_MASK;
        if self.nal.in_fragment && kind != FU_A {
            return Err(malformed("a unit begins inside of a fragmented one"));
        }
        match kind {
            1..STAP_A => self.unit(head, body, picture),
            STAP_A => nal::Joiner::aggregate(body, |unit| {
                let Some((&head, body)) = unit.split_first() else { return Ok(()) };
                if !(1..STAP_A).contains(&(head & TYPE_MASK)) {
                    return Err(malformed("an aggregate within an aggregate"));
                }
                self.unit(head, body, picture);
                Ok(())
            })?,
            FU_A => {
                let (&fragment, body) = body.split_first().ok_or(malformed("a cut FU-A header"))?;
                let start = fragment & 0x80 != 0;
                self.nal.turn(start, fragment & 0x40 != 0)?;
                if start {
                    if !(1..STAP_A).contains(&(fragment & TYPE_MASK)) {
                        return Err(malformed("a fragmented aggregate"));
                    }
                    self.unit(head & !TYPE_MASK | fragment & TYPE_MASK, body, picture);
                } else if self.nal.kept {
                    picture.extend_from_slice(body);
                }
            }
            STAP_B..=FU_B | 0 | 30.. => return Err(Fault::Mode("NAL unit type", kind)),
        }
        Ok(())
    }

    /// A recovery point will do as a key picture: some encoders send no other.
    fn end(&mut self, picture: &mut Vec<u8>) -> Option<bool> {
        let supplement = std::mem::take(&mut self.supplement);
        let key = self.nal.end()?;
        Some(key || supplement && is_recovery_point(picture))
    }
}

fn first_bit(slice: &[u8]) -> bool {
    slice.first().is_some_and(|byte| byte & 0x80 != 0)
}
