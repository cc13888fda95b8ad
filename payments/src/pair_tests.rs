//! Both sides of a session over a simulated link, in virtual time and by seed: what is promised
//! about money and frames holds for whole streams.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::price::{FrameRate, PricePerPixel, Wei};
use crate::quote::FaceValue;
use crate::recipient::{
    Admit, Recipient, RecipientConfig, RecipientCounters, RecipientOutput, SessionEnd, SessionTerms,
};
use crate::sender::{
    LeaveReason, SenderConfig, SenderCounters, SenderOutput, SenderTerms, SessionSender,
};
use crate::set::SessionId;
use crate::testing::{self, View};
use crate::winner::Winner;

const FEE: u128 = 1000;

#[derive(Clone)]
struct Link {
    seed: u64,
    fps: u32,
    frames: u32,
    one_way: Duration,
    graph: Duration,
    disk: Duration,
    /// In a thousand.
    loss_frames: u32,
    loss_back: u32,
    loss_pay: u32,
    loss_receipts: u32,
    loop_hint: Duration,
}

impl Link {
    fn clean(fps: u32, frames: u32) -> Self {
        Self {
            seed: 1,
            fps,
            frames,
            one_way: Duration::from_millis(10),
            graph: Duration::from_millis(5),
            disk: Duration::from_millis(8),
            loss_frames: 0,
            loss_back: 0,
            loss_pay: 0,
            loss_receipts: 0,
            loop_hint: Duration::ZERO,
        }
    }
}

enum Event {
    Capture(i64),
    FrameAtO(i64),
    GraphDone(i64),
    FrameAtG(i64),
    PayAtO(Bytes),
    ReceiptAtG(Bytes),
    Stored(B256),
    Block,
}

struct Outcome {
    sender: SenderCounters,
    recipient: RecipientCounters,
    winners: Vec<Winner>,
    /// Frames that waited for payment and were then replaced by a newer one.
    lost_to_payment: u32,
    pay_records: Vec<Bytes>,
    end: Option<SessionEnd>,
    leave: Option<LeaveReason>,
}

fn run(link: &Link) -> Outcome {
    let (g, o) = (testing::key(1), testing::key(2));
    let view = View::new();
    let price = PricePerPixel::new(FEE as u64, 640 * 360).unwrap();
    let mut config = RecipientConfig::new(o.address(), testing::secret(), price);
    config.quote.face_value = FaceValue::TimesFee(4);
    let recipient = Recipient::new(config, 1, view.clone(), testing::recover);
    let fps = FrameRate::from_fps(link.fps);
    let session = SessionId::from_name("pair");
    let terms = SessionTerms { session, sender: g.address(), size: testing::size(), fps };
    let start = Instant::now();
    let mut orchestrator = recipient.open(start, terms).unwrap();
    let terms = SenderTerms {
        session,
        recipient: o.address(),
        price,
        size: testing::size(),
        fps,
        head: None,
    };
    let config = SenderConfig { loop_hint: link.loop_hint, ..SenderConfig::default() };
    let set = orchestrator.first_set().clone();
    let mut gateway = SessionSender::new(start, config, terms, g, set).unwrap();

    let mut rng = StdRng::seed_from_u64(link.seed);
    let mut events: BTreeMap<(Instant, u64), Event> = BTreeMap::new();
    let mut count = 0;
    let mut out = Outcome {
        sender: SenderCounters::default(),
        recipient: RecipientCounters::default(),
        winners: Vec::new(),
        lost_to_payment: 0,
        pay_records: Vec::new(),
        end: None,
        leave: None,
    };
    // The first frame leaves when the first ticket is under way.
    for i in 0..link.frames {
        let at = start + fps.interval() * (i + 1);
        events.insert(
            (at, u64::from(i)),
            Event::Capture(i64::from(i) * 90_000 / i64::from(link.fps)),
        );
        count = u64::from(i);
    }
    for second in 0..(link.frames / link.fps + 20) {
        count += 1;
        events.insert((start + Duration::from_secs(second.into()), count), Event::Block);
    }
    let (mut waiting, mut waited_for_money, mut in_graph) = (None::<i64>, false, None::<i64>);
    let mut limits = (Wei::ZERO, Wei::ZERO);
    let end = start + fps.interval() * link.frames + Duration::from_secs(15);
    let mut now = start;
    loop {
        // Drain both sides.
        while let Some(output) = gateway.poll() {
            match output {
                SenderOutput::Pay(bytes) => {
                    out.pay_records.push(bytes.clone());
                    if !rng.random_ratio(link.loss_pay, 1000) {
                        count += 1;
                        events.insert((now + link.one_way, count), Event::PayAtO(bytes));
                    }
                }
                SenderOutput::TakeBudget(block) => gateway.budget_taken(now, block),
                SenderOutput::Leave(reason) => out.leave = Some(reason),
            }
        }
        while let Some(output) = orchestrator.poll() {
            match output {
                RecipientOutput::Receipt(bytes) => {
                    if !rng.random_ratio(link.loss_receipts, 1000) {
                        count += 1;
                        events.insert((now + link.one_way, count), Event::ReceiptAtG(bytes));
                    }
                }
                RecipientOutput::StoreWinner(winner) => {
                    count += 1;
                    events.insert((now + link.disk, count), Event::Stored(winner.hash));
                    out.winners.push(*winner);
                }
                RecipientOutput::End(end) => out.end = Some(end),
            }
        }
        // The graph takes the newest frame when it is free.
        if in_graph.is_none()
            && let Some(pts) = waiting
        {
            match orchestrator.admit(now, pts) {
                Admit::Admitted => {
                    waiting = None;
                    in_graph = Some(pts);
                    count += 1;
                    events.insert((now + link.graph, count), Event::GraphDone(pts));
                }
                Admit::Wait(_) => waited_for_money = true,
                Admit::Preroll => waiting = None,
            }
        }
        let timeout =
            [gateway.next_timeout(), orchestrator.next_timeout()].into_iter().flatten().min();
        let next = events.first_key_value().map(|((at, _), _)| *at);
        let tick = match (timeout, next) {
            (Some(t), Some(n)) if t < n => Some(t),
            (Some(t), None) => Some(t),
            (_, Some(_)) => None,
            (None, None) => break,
        };
        if let Some(at) = tick {
            now = now.max(at);
            if now > end {
                break;
            }
            gateway.tick(now);
            orchestrator.tick(now);
            continue;
        }
        let ((at, _), event) = events.pop_first().unwrap();
        now = now.max(at);
        if now > end {
            break;
        }
        match event {
            Event::Capture(pts) => {
                gateway.frame_sent(now, pts);
                if !rng.random_ratio(link.loss_frames, 1000) {
                    count += 1;
                    events.insert((now + link.one_way, count), Event::FrameAtO(pts));
                }
            }
            Event::FrameAtO(pts) => {
                if let Some(old) = waiting.replace(pts) {
                    out.lost_to_payment += u32::from(waited_for_money);
                    orchestrator.dropped(now, old);
                }
                waited_for_money = false;
            }
            Event::GraphDone(pts) => {
                in_graph = None;
                orchestrator.returned(now, pts);
                if !rng.random_ratio(link.loss_back, 1000) {
                    count += 1;
                    events.insert((now + link.one_way, count), Event::FrameAtG(pts));
                }
            }
            Event::FrameAtG(pts) => gateway.frame_returned(now, pts, true),
            Event::PayAtO(bytes) => {
                let _ = orchestrator.pay_bytes(now, &bytes);
            }
            Event::ReceiptAtG(bytes) => {
                let _ = gateway.receipt_bytes(now, &bytes);
            }
            Event::Stored(hash) => orchestrator.stored(now, &hash),
            Event::Block => view.0.lock().0.block += 1,
        }
        // Rule 2 and rule 1, at every moment.
        let (s, r) = (gateway.snapshot(), orchestrator.snapshot());
        // A limit that shrinks takes nothing back, so the largest so far counts.
        limits = (limits.0.max(s.limit), limits.1.max(r.limit));
        assert!(s.at_risk <= limits.0.saturating_add(wei(s.refused)));
        assert!(r.at_risk <= limits.1);
        assert_eq!(s.signed, s.settled + s.refused + s.open, "a ticket in no state or in two");
        assert!(r.credit <= s.released);
    }
    (out.sender, out.recipient) = (gateway.snapshot(), orchestrator.snapshot());
    out
}

fn wei(count: u64) -> Wei {
    Wei::new(u128::from(count) * FEE)
}

#[test]
fn three_thousand_frames_are_credited_and_debited_to_the_wei() {
    let out = run(&Link::clean(30, 3000));
    let (s, r) = (&out.sender, &out.recipient);
    assert_eq!((out.end, out.leave), (None, None));
    assert_eq!((s.frames_returned, r.returned, r.dropped), (3000, 3000, 0));
    assert_eq!((r.credit, r.debit), (wei(3000), wei(3000)));
    assert_eq!(
        (s.credited, s.debited, s.released, s.earned),
        (wei(3000), wei(3000), wei(3000), wei(3000))
    );
    // Every ticket settled, none refused, none open, none signed twice.
    assert_eq!((s.signed, s.settled, s.refused, s.open), (3000, 3000, 0, 0));
    assert_eq!(out.pay_records.iter().collect::<HashSet<_>>().len(), 3000);
    assert_eq!(r.sets, 2, "100 s: one rotation on the beat, none for the winners");
    let hashes: HashSet<B256> = out.winners.iter().map(|w| w.hash).collect();
    assert_eq!((hashes.len() as u64, out.winners.len() as u64), (r.won, r.won));
    assert!((650..850).contains(&r.won), "{} of 3000 won at one in four", r.won);
}

#[test]
fn sixty_frames_a_second_over_150_ms_lose_none_to_payment() {
    let mut link = Link::clean(60, 1200);
    link.one_way = Duration::from_millis(75);
    let out = run(&link);
    assert_eq!((out.lost_to_payment, out.recipient.returned), (0, 1200));
    assert_eq!((out.recipient.credit, out.recipient.debit), (wei(1200), wei(1200)));
}

#[test]
fn a_loop_of_a_second_is_held_back_until_it_was_measured_and_never_after() {
    let mut link = Link::clean(60, 1800);
    link.one_way = Duration::from_millis(490);
    let unknown = run(&link);
    assert!(unknown.lost_to_payment > 0, "36 frames cannot fill a second at 60 frames/s");
    assert!(unknown.lost_to_payment <= 60, "{}", unknown.lost_to_payment);
    assert!(unknown.sender.frames_at_risk + unknown.sender.recipient_frames_at_risk >= 61);
    link.loop_hint = Duration::from_secs(1);
    let hinted = run(&link);
    assert_eq!((hinted.lost_to_payment, hinted.recipient.returned), (0, 1800));
}

#[test]
fn a_slow_graph_drops_frames_and_none_of_them_is_paid() {
    let mut link = Link::clean(30, 600);
    link.graph = Duration::from_millis(100);
    let out = run(&link);
    assert_eq!((out.end, out.leave), (None, None));
    let r = &out.recipient;
    assert!(r.dropped > 300, "{} dropped", r.dropped);
    assert_eq!(r.returned + r.dropped, 600);
    assert_eq!(r.debit, wei(r.returned));
    // What was paid ahead for frames that were dropped carried later ones: nothing is paid twice.
    assert!(out.sender.released.saturating_sub(r.debit) <= wei(15), "{:?}", out.sender);
    assert_eq!(r.credit, out.sender.released);
}

#[test]
fn a_bad_link_costs_nobody_more_than_the_limits() {
    for seed in 0..12 {
        let mut link = Link::clean(30, 900);
        link.seed = seed;
        link.one_way = Duration::from_millis(20 + seed * 10);
        link.loss_frames = 20;
        link.loss_pay = 20;
        link.loss_receipts = 50;
        link.loss_back = 1;
        let out = run(&link);
        let (s, r) = (&out.sender, &out.recipient);
        assert_eq!(out.end, None, "seed {seed}");
        assert!(out.leave.is_none(), "seed {seed}: {:?}", out.leave);
        assert_eq!(out.lost_to_payment, 0, "seed {seed}");
        assert_eq!((s.open, s.refused), (0, 0), "seed {seed}: every ticket is settled in the end");
        assert!(s.resent > 0);
        assert_eq!(r.credit, s.released, "seed {seed}");
        assert_eq!(r.accepted, s.signed, "a ticket sent again is credited once");
        assert_eq!(r.debit, wei(r.returned));
        assert!(s.released.saturating_sub(s.earned) <= s.limit);
    }
}

#[test]
fn a_recipient_that_keeps_what_it_was_paid_for_is_left() {
    let mut link = Link::clean(30, 900);
    link.loss_back = 100;
    let out = run(&link);
    assert!(matches!(out.leave, Some(LeaveReason::Lost { .. })), "{:?}", out.leave);
    assert!(out.sender.released.saturating_sub(out.sender.earned) <= out.sender.limit);
}

#[test]
fn a_run_is_the_same_each_time() {
    let link = Link { loss_pay: 30, loss_frames: 30, ..Link::clean(30, 300) };
    let (a, b) = (run(&link), run(&link));
    assert_eq!(a.pay_records, b.pay_records);
    assert_eq!((a.sender, a.recipient), (b.sender, b.recipient));
}
