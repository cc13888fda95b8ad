//! What a sender signs, what it does not, and when it leaves.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::testing;
use crate::wire::receipt::RefusalCode;
use crate::wire::{Receipt, Record, RefusedNonce, SetReceipt, TicketRecord};

const FEE: u128 = 1000;

fn open() -> (SessionSender, Instant) {
    open_with(SenderConfig::default())
}

fn open_with(config: SenderConfig) -> (SessionSender, Instant) {
    let set = testing::set();
    let terms = SenderTerms {
        session: set.session,
        recipient: set.recipient,
        price: PricePerPixel::new(FEE as u64, 640 * 360).unwrap(),
        size: testing::size(),
        fps: FrameRate::from_fps(30),
        head: None,
    };
    let now = Instant::now();
    (SessionSender::new(now, config, terms, testing::key(1), set).unwrap(), now)
}

/// Tickets that want to go out; budget is granted.
fn paid(s: &mut SessionSender, now: Instant) -> Vec<TicketRecord> {
    let mut tickets = Vec::new();
    while let Some(output) = s.poll() {
        match output {
            SenderOutput::TakeBudget(block) => s.budget_taken(now, block),
            SenderOutput::Pay(bytes) => match Record::decode(&bytes[2..]).unwrap() {
                Record::Ticket(ticket) => tickets.push(ticket),
                other => panic!("{other:?}"),
            },
            SenderOutput::Leave(_) => {}
        }
    }
    tickets
}

fn told(credit: u128, debit: u128, seen: i64, settled: u32) -> Receipt {
    Receipt {
        sets: vec![SetReceipt { serial: 1, settled }],
        debit: Wei::new(debit * FEE),
        credit: Wei::new(credit * FEE),
        seen_pts: Some(seen),
        frames_at_risk: 9,
        ..Receipt::default()
    }
}

#[test]
fn nothing_is_signed_before_the_budget_is_taken() {
    let (mut s, now) = open();
    assert_eq!(s.poll(), Some(SenderOutput::TakeBudget(Wei::new(1800 * FEE))), "60 s at 30");
    assert_eq!(s.poll(), None);
    s.frame_sent(now, 0);
    assert_eq!((s.poll(), s.snapshot().signed), (None, 0));
    s.budget_taken(now, Wei::new(1800 * FEE));
    assert_eq!(paid(&mut s, now).len(), 1);
}

#[test]
fn a_refused_budget_ends_the_session_when_the_rest_is_spent() {
    let (mut s, now) = open();
    s.poll();
    s.budget_taken(now, Wei::new(2 * FEE));
    s.frame_sent(now, 0);
    s.frame_sent(now, 1);
    let wants = std::iter::from_fn(|| s.poll()).any(|o| matches!(o, SenderOutput::TakeBudget(_)));
    assert!(wants);
    s.budget_refused(now);
    let left = std::iter::from_fn(|| s.poll())
        .any(|o| matches!(o, SenderOutput::Leave(LeaveReason::Budget)));
    assert!(left);
}

#[test]
fn one_ticket_a_frame_up_to_the_limit_and_on_with_each_result() {
    let (mut s, now) = open();
    assert_eq!(paid(&mut s, now).len(), 1, "one ahead of the first frame");
    for pts in 0..20 {
        s.frame_sent(now, pts);
    }
    assert_eq!(paid(&mut s, now).len(), 8, "nine at risk");
    s.frame_returned(now, 0, true);
    assert_eq!(paid(&mut s, now).len(), 1);
    s.frame_returned(now, 0, true);
    s.frame_returned(now, 77, true);
    assert_eq!(paid(&mut s, now).len(), 0, "twice, or never sent, earns nothing");
    s.frame_returned(now, 1, false);
    assert_eq!(paid(&mut s, now).len(), 0, "broken earns nothing");
    assert_eq!(s.snapshot().earned, Wei::new(FEE));
}

#[test]
fn the_credit_of_a_dropped_frame_carries_the_next() {
    let (mut s, now) = open();
    for pts in 0..3 {
        s.frame_sent(now, pts);
    }
    assert_eq!(paid(&mut s, now).len(), 3);
    // All three arrived, one was dropped: debit two.
    let receipt = Receipt { dropped: 1, ..told(3, 2, 2, 3) };
    s.receipt_bytes(now, &receipt.encode()).unwrap();
    s.frame_sent(now, 3);
    assert_eq!(paid(&mut s, now).len(), 0, "paid already");
    s.frame_sent(now, 4);
    assert_eq!(paid(&mut s, now).len(), 1);
}

#[test]
fn an_unsettled_ticket_goes_out_again_as_the_same_bytes() {
    let (mut s, now) = open();
    let first = paid(&mut s, now);
    let later = s.next_timeout().unwrap();
    assert_eq!(later, now + Duration::from_secs(1));
    s.tick(later);
    assert_eq!(paid(&mut s, later), first);
    assert_eq!((s.snapshot().signed, s.snapshot().resent), (1, 1));
    s.receipt_bytes(later, &told(1, 0, 0, 1).encode()).unwrap();
    s.tick(later + Duration::from_secs(5));
    assert_eq!(paid(&mut s, later).len(), 0);
    assert_eq!((s.snapshot().settled, s.snapshot().open), (1, 0));
}

#[test]
fn more_than_three_refusals_end_the_session() {
    let (mut s, now) = open();
    for pts in 0..6 {
        s.frame_sent(now, pts);
    }
    paid(&mut s, now);
    let refuse = |s: &mut SessionSender, count: u32| {
        let code = RefusalCode::SealedSet;
        let refused = (1..=count).map(|nonce| RefusedNonce { serial: 1, nonce, code }).collect();
        s.receipt_bytes(now, &Receipt { refused, ..told(0, 0, 0, 0) }.encode())
    };
    assert_eq!(refuse(&mut s, 3), Ok(()));
    assert_eq!(refuse(&mut s, 3), Ok(()), "told again is not refused again");
    let counts = s.snapshot();
    assert_eq!((counts.refused, counts.signed), (3, counts.settled + counts.open + 3));
    assert_eq!(refuse(&mut s, 4), Err(LeaveReason::Refused(4)));
}

#[test]
fn a_receipt_for_what_was_never_sent_is_not_believed() {
    let (mut s, now) = open();
    paid(&mut s, now);
    let credit = s.receipt_bytes(now, &told(2, 0, 0, 1).encode());
    assert_eq!(credit, Err(LeaveReason::FalseReceipt("credit")));
    let (mut s, now) = open();
    paid(&mut s, now);
    let nonce = s.receipt_bytes(now, &told(1, 0, 0, 2).encode());
    assert_eq!(nonce, Err(LeaveReason::FalseReceipt("a nonce")));
    let (mut s, now) = open();
    assert!(matches!(s.receipt_bytes(now, &[0, 2, 0xff, 0xff]), Err(LeaveReason::Malformed(_))));
}

#[test]
fn a_successor_is_used_at_once_if_it_is_what_was_agreed() {
    let next = |change: fn(&mut crate::Set)| {
        let mut set = testing::set();
        set.serial = 2;
        change(&mut set);
        set.commit(&testing::secret(), Default::default());
        Receipt { next_set: Some(Box::new(set)), ..told(1, 0, 0, 1) }
    };
    let (mut s, now) = open();
    paid(&mut s, now);
    s.receipt_bytes(now, &next(|_| {}).encode()).unwrap();
    s.frame_sent(now, 1);
    s.frame_sent(now, 2);
    let tickets = paid(&mut s, now);
    assert_eq!((tickets[0].serial, tickets[0].nonce), (2, 1));

    let (mut s, now) = open();
    paid(&mut s, now);
    let dearer = s.receipt_bytes(now, &next(|set| set.fee = Wei::new(2 * FEE)).encode());
    assert!(matches!(dearer, Err(LeaveReason::Set(SetRefusal::Fee { .. }))), "{dearer:?}");
    let (mut s, now) = open();
    paid(&mut s, now);
    let epoch = s.receipt_bytes(now, &next(|set| set.epoch += 1).encode());
    assert_eq!(epoch, Err(LeaveReason::FalseReceipt("an epoch")));
}

#[test]
fn a_recipient_that_falls_silent_is_left() {
    let (mut s, now) = open();
    paid(&mut s, now);
    s.tick(now + Duration::from_secs(9));
    assert_eq!(paid(&mut s, now).len(), 1);
    s.tick(now + Duration::from_secs(10));
    let left = std::iter::from_fn(|| s.poll()).any(|o| matches!(o, SenderOutput::Leave(_)));
    assert!(left);
    assert_eq!(s.next_timeout(), None);
}

#[test]
fn broken_frames_beyond_the_share_are_a_reason_to_leave() {
    let (mut s, now) = open();
    for pts in 0..2 {
        s.frame_sent(now, pts);
        s.frame_returned(now, pts, false);
    }
    let left = std::iter::from_fn(|| s.poll())
        .any(|o| matches!(o, SenderOutput::Leave(LeaveReason::Bad { bad: 2, sent: 2 })));
    assert!(left);
}

#[test]
fn what_a_crashed_recipient_did_not_settle_is_kept_for_the_next_session() {
    let (mut s, now) = open();
    for pts in 0..4 {
        s.frame_sent(now, pts);
    }
    let tickets = paid(&mut s, now);
    s.receipt_bytes(now, &told(2, 2, 1, 2).encode()).unwrap();
    let kept = s.unsettled();
    assert_eq!(kept.iter().map(|r| r.nonce).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(kept[0].signature, tickets[2].signature);
    let (mut next, _) = open();
    next.poll();
    next.resend(kept);
    let outputs: Vec<_> = std::iter::from_fn(|| next.poll()).collect();
    assert_eq!(outputs.len(), 2);
    assert_eq!(next.snapshot().signed, 0, "sent again, not signed again");
    let _: Arc<dyn crate::TicketSigner> = testing::key(1);
}
