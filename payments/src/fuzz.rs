//! Entry points for fuzzing what this crate reads from other nodes.

use crate::wire::pay::RECORD_BYTES_MAX;
use crate::wire::receipt::RECEIPT_BYTES_MAX;
use crate::wire::{Frames, Offer, Receipt, Record, StartAnswer};

/// One parser under fuzzing.
pub struct Target {
    /// Name in reports.
    pub name: &'static str,
    /// Must neither panic nor hang nor grow without bound, whatever the bytes.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: &'static [&'static [u8]],
}

/// All targets of this crate.
pub const TARGETS: &[Target] = &[
    Target {
        name: "payments_pay_channel",
        run: pay_channel,
        seeds: &[
            &[0, 13, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0xe5, 0x2b, 0x11, 0x07],
            &[0, 86, 1, 0, 0, 0, 1, 0, 0, 0, 1],
        ],
    },
    Target {
        name: "payments_receipts_channel",
        run: receipts_channel,
        seeds: &[&[0, 8, 10, 4, 8, 1, 16, 9, 16, 3], &[0, 3, 74, 1, 8]],
    },
    Target { name: "payments_offer", run: offer, seeds: &[&[8, 1, 24, 7, 32, 3]] },
    Target {
        name: "payments_start_answer",
        run: start_answer,
        seeds: &[br#"{"version":1,"payment_url":"p","receipts_url":"r","set":"0801"}"#],
    },
];

/// Feeds the bytes in two cuts, as a connection might.
fn frames(bytes: &[u8], max: usize, mut each: impl FnMut(&[u8])) {
    let mut reader = Frames::new(max);
    let (a, b) = bytes.split_at(bytes.len() / 2);
    for chunk in [a, b] {
        reader.push(chunk);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => each(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn pay_channel(bytes: &[u8]) {
    frames(bytes, RECORD_BYTES_MAX, |frame| {
        if let Ok(record) = Record::decode(frame) {
            assert_eq!(Record::decode(&record.encode()[2..]).as_ref(), Ok(&record));
        }
        // Most mutants fail the check; give the reader behind it the same bytes with one that fits.
        let mut fitting = frame.to_vec();
        fitting.extend_from_slice(&alloy_primitives::keccak256(frame)[..4]);
        let _ = Record::decode(&fitting);
    });
}

fn receipts_channel(bytes: &[u8]) {
    frames(bytes, RECEIPT_BYTES_MAX, |frame| {
        if let Ok(receipt) = Receipt::decode(frame) {
            assert_eq!(Receipt::decode(&receipt.encode()[2..]), Ok(receipt));
        }
    });
}

fn offer(bytes: &[u8]) {
    if let Ok(Some(offer)) = Offer::decode(bytes) {
        assert_eq!(Offer::decode(&offer.encode()), Ok(Some(offer)));
    }
}

fn start_answer(bytes: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<StartAnswer>(bytes) {
        let _ = answer.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_takes_its_seeds_and_their_prefixes() {
        for target in TARGETS {
            for seed in target.seeds {
                (0..=seed.len()).for_each(|end| (target.run)(&seed[..end]));
            }
        }
    }
}
