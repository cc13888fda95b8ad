//! What a recipient takes, what it refuses, in which words, and what each session may cost it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::set::NONCE_MAX;
use crate::testing::{self, View};
use crate::ticket::{Signature, wins};
use crate::wire::receipt::RefusalCode;
use crate::wire::{Receipt, Record, Resend, TicketRecord};

const FEE: u128 = 1000;

struct Setup {
    view: Arc<View>,
    recipient: Recipient,
    now: Instant,
}

fn setup_with(change: impl FnOnce(&mut RecipientConfig)) -> Setup {
    let view = View::new();
    let price = PricePerPixel::new(FEE as u64, 640 * 360).unwrap();
    let mut config = RecipientConfig::new(testing::key(2).address(), testing::secret(), price);
    config.quote.face_value = FaceValue::TimesFee(4);
    change(&mut config);
    let recipient = Recipient::new(config, 9, view.clone(), counting_recover);
    Setup { view, recipient, now: Instant::now() }
}

fn setup() -> Setup {
    setup_with(|_| {})
}

thread_local! {
    static RECOVERIES: AtomicU64 = const { AtomicU64::new(0) };
}

fn counting_recover(digest: &B256, signature: &Signature) -> Option<Address> {
    RECOVERIES.with(|count| count.fetch_add(1, Ordering::Relaxed));
    testing::recover(digest, signature)
}

fn recoveries() -> u64 {
    RECOVERIES.with(|count| count.load(Ordering::Relaxed))
}

impl Setup {
    fn terms(&self, name: &str) -> SessionTerms {
        SessionTerms {
            session: SessionId::from_name(name),
            sender: testing::key(1).address(),
            size: testing::size(),
            fps: FrameRate::from_fps(30),
        }
    }

    fn open(&self) -> SessionRecipient {
        self.recipient.open(self.now, self.terms("a")).unwrap()
    }
}

fn ticket(set: &Set, nonce: u32) -> TicketRecord {
    let signature = testing::key(1).sign(set.ticket(nonce).digest());
    TicketRecord { serial: set.serial, nonce, pts: 0, signature }
}

fn pay(s: &mut SessionRecipient, now: Instant, record: TicketRecord) -> Result<(), SessionEnd> {
    s.pay_bytes(now, &Record::Ticket(record).encode())
}

/// Outputs of a session, apart.
#[derive(Default)]
struct Drained {
    receipts: Vec<Receipt>,
    winners: Vec<crate::Winner>,
    ends: Vec<SessionEnd>,
}

fn drain(s: &mut SessionRecipient) -> Drained {
    let mut out = Drained::default();
    while let Some(output) = s.poll() {
        match output {
            RecipientOutput::Receipt(bytes) => {
                out.receipts.push(Receipt::decode(&bytes[2..]).unwrap());
            }
            RecipientOutput::StoreWinner(winner) => out.winners.push(*winner),
            RecipientOutput::End(end) => out.ends.push(end),
        }
    }
    out
}

/// The first nonce of the set whose ticket wins, or does not.
fn nonce_that(s: &Setup, set: &Set, wins_it: bool, from: u32) -> u32 {
    let rand = set.open(&testing::secret(), s.view.network()).unwrap();
    (from..).find(|n| wins(&ticket(set, *n).signature, &rand, &set.win_prob) == wins_it).unwrap()
}

#[test]
fn frames_wait_for_the_first_ticket_and_then_run_ahead_by_the_limit() {
    let s = setup();
    let mut session = s.open();
    let set = session.first_set().clone();
    assert_eq!(session.admit(s.now, 0), Admit::Wait(WaitReason::NoTicketYet));
    pay(&mut session, s.now, ticket(&set, 1)).unwrap();
    // One ticket and nine frames at risk at 30 frames/s.
    for pts in 0..10 {
        assert_eq!(session.admit(s.now, pts), Admit::Admitted);
    }
    assert_eq!(session.admit(s.now, 10), Admit::Wait(WaitReason::Unpaid));
    assert_eq!(session.snapshot().at_risk, Wei::new(9 * FEE));
    session.dropped(s.now, 3);
    assert_eq!(session.admit(s.now, 10), Admit::Admitted, "a dropped frame costs nothing");
    assert_eq!(session.admit(s.now, 11), Admit::Wait(WaitReason::Unpaid));
    pay(&mut session, s.now, ticket(&set, 2)).unwrap();
    assert_eq!(session.admit(s.now, 11), Admit::Admitted);
    let counts = session.snapshot();
    assert_eq!((counts.admitted, counts.dropped, counts.debit), (12, 1, Wei::new(11 * FEE)));
}

#[test]
fn a_sender_cannot_run_ahead_in_many_sessions_at_once() {
    let s = setup_with(|config| config.sessions_at_risk = 2);
    let mut sessions: Vec<_> =
        (0..3).map(|i| s.recipient.open(s.now, s.terms(&i.to_string())).unwrap()).collect();
    for session in &mut sessions {
        let set = session.first_set().clone();
        pay(session, s.now, ticket(&set, 1)).unwrap();
    }
    let admitted = |session: &mut SessionRecipient| {
        (0..99).take_while(|pts| session.admit(s.now, *pts) == Admit::Admitted).count()
    };
    assert_eq!(admitted(&mut sessions[0]), 10);
    assert_eq!(admitted(&mut sessions[1]), 10);
    assert_eq!(admitted(&mut sessions[2]), 1, "two sessions' limits are used");
    assert_eq!(sessions[2].admit(s.now, 99), Admit::Wait(WaitReason::SenderCeiling));
    // What an ended session owes stays with the sender; its unfinished frames do not.
    let done = &mut sessions[0];
    (0..10).for_each(|pts| done.returned(s.now, pts));
    sessions.remove(0);
    assert_eq!(sessions[1].admit(s.now, 99), Admit::Wait(WaitReason::SenderCeiling));
    sessions.remove(0);
    assert_eq!(sessions[0].admit(s.now, 99), Admit::Admitted);
}

#[test]
fn every_bit_of_a_payment_is_needed() {
    let s = setup();
    let mut set = s.open().first_set().clone();
    let frame = {
        let session = s.open();
        set.clone_from(session.first_set());
        Record::Ticket(ticket(&set, 1)).encode()
    };
    for bit in 16..frame.len() * 8 {
        let mut session = s.open();
        let mut bytes = frame.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = session.pay_bytes(s.now, &bytes);
        assert!(matches!(refused, Err(SessionEnd::Malformed(_))), "bit {bit}: {refused:?}");
        assert_eq!((session.snapshot().accepted, session.snapshot().credit), (0, Wei::ZERO));
        assert_eq!(session.admit(s.now, 0), Admit::Wait(WaitReason::Ended));
    }
    // The same with a check that fits what was changed: then it is set, nonce and signature that
    // stop it. The PTS names a frame for the log and buys nothing.
    let check = |change: &dyn Fn(&mut TicketRecord), bit: usize| {
        let mut session = s.open();
        let mut record = ticket(&set, 1);
        change(&mut record);
        let _ = pay(&mut session, s.now, record);
        assert_eq!(session.snapshot().credit, Wei::ZERO, "bit {bit}");
    };
    for bit in 0..32 {
        check(&|r| r.serial ^= 1 << bit, bit);
        check(&|r| r.nonce ^= 1 << bit, bit);
    }
    for bit in 0..65 * 8 {
        check(&|r| r.signature[bit / 8] ^= 1 << (bit % 8), bit);
    }
}

#[test]
fn what_is_refused_cheaply_costs_no_recovery() {
    let s = setup();
    let mut session = s.open();
    let set = session.first_set().clone();
    let first = nonce_that(&s, &set, false, 1);
    pay(&mut session, s.now, ticket(&set, first)).unwrap();
    let before = recoveries();
    let lost = |serial, nonce| TicketRecord { serial, nonce, pts: 0, signature: [0xff; 65] };
    let mut now = s.now;
    let mut check = |session: &mut SessionRecipient, record: TicketRecord, code| {
        now += Duration::from_secs(1);
        pay(session, now, record.clone()).unwrap();
        let receipt = drain(session).receipts.pop();
        let told = receipt.and_then(|r| r.refused.last().copied()).map(|r| (r.nonce, r.code));
        assert_eq!(told, Some((record.nonce, code)));
    };
    check(&mut session, lost(7, 1), RefusalCode::UnknownSet);
    check(&mut session, lost(1, 0), RefusalCode::NonceRange);
    check(&mut session, lost(1, NONCE_MAX + 1), RefusalCode::NonceRange);
    check(&mut session, lost(1, 600), RefusalCode::NonceRange);
    pay(&mut session, s.now, ticket(&set, first)).unwrap();
    let refused = session.snapshot().refused;
    assert_eq!((refused.unknown_set, refused.nonce_range, refused.repeated), (1, 3, 1));
    assert_eq!(recoveries(), before);
    assert_eq!((session.snapshot().accepted, session.snapshot().credit), (1, Wei::new(FEE)));
}

#[test]
fn more_tickets_than_the_stream_needs_are_refused_for_the_moment() {
    let s = setup();
    let mut session = s.open();
    let set = session.first_set().clone();
    for nonce in 1..=80 {
        pay(&mut session, s.now, ticket(&set, nonce)).unwrap();
    }
    let counts = session.snapshot();
    assert_eq!((counts.accepted, counts.refused.rate), (69, 11), "2 x 30 + 9 in a second");
    let later = s.now + Duration::from_secs(2);
    pay(&mut session, later, ticket(&set, 70)).unwrap();
    assert_eq!(session.snapshot().accepted, 70, "the same bytes are taken a moment later");
}

#[test]
fn one_wrong_signature_ends_the_session() {
    let s = setup();
    let mut session = s.open();
    let set = session.first_set().clone();
    let mut other = ticket(&set, 1);
    other.signature = testing::key(3).sign(set.ticket(1).digest());
    let end = SessionEnd::WrongSignature { serial: 1, nonce: 1 };
    assert_eq!(pay(&mut session, s.now, other), Err(end.clone()));
    assert_eq!(drain(&mut session).ends, [end]);
    // The sender whose name was used is not worse off.
    assert!(s.recipient.open(s.now, s.terms("b")).is_ok());
}

#[test]
fn a_receipt_settles_a_winner_only_when_it_is_stored() {
    let s = setup();
    let mut session = s.open();
    let set = session.first_set().clone();
    let winner = nonce_that(&s, &set, true, 1);
    let mut now = s.now;
    for nonce in 1..=winner + 3 {
        pay(&mut session, now, ticket(&set, nonce)).unwrap();
    }
    now += Duration::from_secs(1);
    session.tick(now);
    let out = drain(&mut session);
    assert_eq!(out.winners[0].ticket.sender_nonce, winner);
    assert_eq!(out.receipts.last().unwrap().sets[0].settled, winner - 1);
    assert_eq!(out.receipts.last().unwrap().credit, Wei::new(u128::from(winner + 3) * FEE));
    assert_eq!(session.admit(now, 1), Admit::Admitted, "frames do not wait for the disk");
    now += Duration::from_secs(1);
    for won in &out.winners {
        session.stored(now, &won.hash);
        now += Duration::from_secs(1);
    }
    session.tick(now);
    assert_eq!(drain(&mut session).receipts.last().unwrap().sets[0].settled, winner + 3);
}

#[test]
fn a_set_gives_way_on_the_beat_and_is_sealed_after_the_overlap() {
    let s = setup();
    let mut session = s.open();
    let first = session.first_set().clone();
    pay(&mut session, s.now, ticket(&first, 1)).unwrap();
    drain(&mut session);
    let beat = s.now + Duration::from_secs(60);
    assert!(session.next_timeout().unwrap() <= beat);
    session.tick(beat);
    let next = drain(&mut session).receipts.pop().unwrap().next_set.unwrap();
    assert_eq!((next.serial, next.fee, next.epoch), (2, first.fee, 9));
    assert_ne!(next.recipient_rand_hash, first.recipient_rand_hash);
    // Both are taken for 5 s; neither may be revealed.
    pay(&mut session, beat, ticket(&first, 2)).unwrap();
    pay(&mut session, beat, ticket(&next, 1)).unwrap();
    assert_eq!(session.snapshot().accepted, 3);
    assert!(!s.recipient.seal(&first.recipient_rand_hash));
    let over = beat + Duration::from_secs(5);
    session.tick(over);
    assert!(s.recipient.seal(&first.recipient_rand_hash));
    assert!(!s.recipient.seal(&next.recipient_rand_hash));
    // Sealed: nothing is credited, ever, but a winner is kept.
    drain(&mut session);
    let (wins, loses) = (nonce_that(&s, &first, true, 3), nonce_that(&s, &first, false, 3));
    pay(&mut session, over, ticket(&first, wins)).unwrap();
    pay(&mut session, over, ticket(&first, loses)).unwrap();
    let counts = session.snapshot();
    assert_eq!((counts.accepted, counts.refused.sealed_set), (3, 2));
    let kept = drain(&mut session).winners;
    assert_eq!((kept.len(), kept[0].credited, kept[0].ticket.sender_nonce), (1, false, wins));
    drop(session);
    assert!(s.recipient.seal(&next.recipient_rand_hash));
}

#[test]
fn a_new_size_price_or_round_and_a_used_up_set_bring_a_successor() {
    let s = setup();
    let next = |session: &mut SessionRecipient, now| {
        session.tick(now);
        drain(session).receipts.pop().and_then(|r| r.next_set)
    };
    let mut session = s.open();
    assert_eq!(next(&mut session, s.now), None);
    session.resize(s.now, PictureSize::new(1280, 720).unwrap(), FrameRate::from_fps(30));
    assert_eq!(drain(&mut session).receipts[0].next_set.as_ref().unwrap().fee, Wei::new(4 * FEE));

    let mut session = s.open();
    session.reprice(s.now, PricePerPixel::new(2 * FEE as u64, 640 * 360).unwrap());
    assert_eq!(drain(&mut session).receipts[0].next_set.as_ref().unwrap().fee, Wei::new(2 * FEE));

    let mut session = s.open();
    s.view.0.lock().0.round = 2;
    assert_eq!(next(&mut session, s.now).unwrap().creation.round, 2);

    let mut session = s.open();
    let set = session.first_set().clone();
    let mut now = s.now;
    for nonce in 1..=NONCE_MAX - 256 + 1 {
        now += Duration::from_millis(16);
        pay(&mut session, now, ticket(&set, nonce)).unwrap();
        for won in drain(&mut session).winners {
            session.stored(now, &won.hash);
        }
    }
    now += Duration::from_secs(1);
    assert_eq!(session.snapshot().sets, 2, "used up before the beat");
}

#[test]
fn when_no_successor_can_be_offered_the_session_runs_out_with_the_reason() {
    let s = setup();
    let mut session = s.open();
    s.view.0.lock().1.recipient_active = false;
    session.tick(s.now + Duration::from_secs(60));
    assert!(drain(&mut session).ends.is_empty(), "the set is good for its overlap");
    for second in 61..=65 {
        session.tick(s.now + Duration::from_secs(second));
    }
    let end = SessionEnd::NoSet(OfferRefusal::Inactive { round: 1 });
    assert_eq!(drain(&mut session).ends, [end]);
    let refused = s.recipient.open(s.now, s.terms("b")).map(drop);
    assert_eq!(refused, Err(OpenRefusal::Offer(OfferRefusal::Inactive { round: 1 })));
}

#[test]
fn winners_of_all_sessions_count_against_the_reserve() {
    let s = setup();
    s.view.0.lock().1.claimable_reserve = Wei::new(9000);
    let mut session = s.open();
    let set = session.first_set().clone();
    pay(&mut session, s.now, ticket(&set, nonce_that(&s, &set, true, 1))).unwrap();
    let second = s.recipient.open(s.now, s.terms("b")).unwrap();
    assert_eq!(second.first_set().face_value, Wei::new(4000));
    s.recipient.set_held(testing::key(1).address(), Wei::new(6500));
    let third = s.recipient.open(s.now, s.terms("c")).unwrap();
    assert_eq!(third.first_set().face_value, Wei::new(2500));
    s.recipient.set_held(testing::key(1).address(), Wei::new(7001));
    let refused = s.recipient.open(s.now, s.terms("d")).map(drop);
    assert!(matches!(refused, Err(OpenRefusal::Offer(OfferRefusal::ReserveTooSmall { .. }))));
}

#[test]
fn a_session_whose_frames_wait_unpaid_is_cut_off() {
    let s = setup();
    let mut session = s.open();
    for tenth in 0..=100 {
        session.admit(s.now + Duration::from_millis(100 * tenth), 0);
    }
    let end = SessionEnd::NotPaid(Duration::from_secs(10));
    assert_eq!(drain(&mut session).ends, [end]);

    // A stream that merely paused is not.
    let mut session = s.open();
    session.admit(s.now, 0);
    session.tick(s.now + Duration::from_secs(10));
    assert!(drain(&mut session).ends.is_empty());
    assert!(session.next_timeout().unwrap() > s.now + Duration::from_secs(10));
}

#[test]
fn preroll_is_neither_processed_nor_paid_and_only_before_the_first_frame() {
    let s = setup();
    let mut session = s.open();
    let set = session.first_set().clone();
    session.pay_bytes(s.now, &Record::Preroll { until: 100 }.encode()).unwrap();
    assert_eq!(session.admit(s.now, 99), Admit::Preroll);
    pay(&mut session, s.now, ticket(&set, 1)).unwrap();
    assert_eq!(session.admit(s.now, 100), Admit::Admitted);
    session.pay_bytes(s.now, &Record::Preroll { until: 900 }.encode()).unwrap();
    assert_eq!(session.admit(s.now, 899), Admit::Admitted, "a free ride is not asked for later");
}

#[test]
fn tickets_of_a_crashed_process_bring_winners_and_no_credit() {
    let s = setup();
    let old = {
        let session = s.open();
        session.first_set().clone()
    };
    // The next process: same secret, another epoch.
    let config = s.recipient.0.config.clone();
    let next = Recipient::new(config, 10, s.view.clone(), testing::recover);
    let mut session = next.open(s.now, s.terms("a")).unwrap();
    let (wins, loses) = (nonce_that(&s, &old, true, 1), nonce_that(&s, &old, false, 1));
    let resend = |set: &Set, nonce| {
        let signature = ticket(&old, nonce).signature;
        Record::Resend(Resend { set: Box::new(set.clone()), nonce, signature }).encode()
    };
    session.pay_bytes(s.now, &resend(&old, wins)).unwrap();
    session.pay_bytes(s.now, &resend(&old, loses)).unwrap();
    let mut forged = old.clone();
    forged.face_value = Wei::new(1 << 90);
    session.pay_bytes(s.now, &resend(&forged, wins)).unwrap();
    let kept = drain(&mut session).winners;
    assert_eq!((kept.len(), kept[0].epoch, kept[0].credited), (1, 9, false));
    let counts = session.snapshot();
    assert_eq!((counts.accepted, counts.credit, counts.resent), (0, Wei::ZERO, 3));
    // As tickets of this session they are worth nothing: its sets are others.
    assert_ne!(session.first_set().recipient_rand_hash, old.recipient_rand_hash);
    assert!(pay(&mut session, s.now, ticket(&old, loses)).is_err());
}

#[test]
fn a_view_that_lost_the_chain_offers_nothing() {
    struct Blind;
    impl BrokerView for Blind {
        fn network(&self) -> crate::Network {
            crate::Network::default()
        }
        fn head(&self) -> Option<Head> {
            None
        }
        fn funds(&self, _: Address, _: Address) -> Option<crate::Funds> {
            None
        }
    }
    let s = setup();
    let config = s.recipient.0.config.clone();
    let blind = Recipient::new(config, 1, Arc::new(Blind), testing::recover);
    let refused = blind.open(s.now, s.terms("a")).map(drop);
    assert_eq!(refused, Err(OpenRefusal::Offer(OfferRefusal::NoView)));
}
