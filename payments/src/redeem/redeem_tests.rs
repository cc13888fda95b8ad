//! Each winner ends once, in the right order, and no number leaves before its seal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};

use super::*;
use crate::ledger::{Ledger, LedgerConfig};
use crate::price::{FrameRate, PricePerPixel};
use crate::quote::FaceValue;
use crate::recipient::{
    Recipient, RecipientConfig, RecipientOutput, SessionRecipient, SessionTerms,
};
use crate::set::SessionId;
use crate::store::Store;
use crate::testing;
use crate::wire::{Record, TicketRecord};

struct Setup {
    store: Store,
    ledger: Ledger,
    clock: Arc<AtomicU64>,
    recipient: Recipient,
    redeemer: Redeemer<Ledger>,
    now: Instant,
}

async fn setup(deposit: u128, reserve: u128) -> Setup {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let clock = Arc::new(AtomicU64::new(0));
    let at = clock.clone();
    let config = LedgerConfig { round_length: 1000, ..LedgerConfig::default() };
    let ledger = Ledger::open_with_clock(
        store.clone(),
        config,
        B256::repeat_byte(1),
        testing::recover,
        Arc::new(move || at.load(Ordering::Relaxed)),
    )
    .await
    .unwrap();
    let (g, o) = (testing::key(1).address(), testing::key(2).address());
    ledger.join(o).await.unwrap();
    ledger.fund(g, g, Wei::new(deposit), Wei::new(reserve)).await.unwrap();
    let price = PricePerPixel::new(1000, 640 * 360).unwrap();
    let mut config = RecipientConfig::new(o, testing::secret(), price);
    config.quote.face_value = FaceValue::TimesFee(2);
    let epoch = store.next_epoch().await.unwrap();
    let recipient = Recipient::new(config, epoch, ledger.view(), testing::recover);
    let redeemer = Redeemer::new(store.clone(), ledger.clone(), recipient.clone());
    Setup { store, ledger, clock, recipient, redeemer, now: Instant::now() }
}

impl Setup {
    fn open(&self) -> SessionRecipient {
        let terms = SessionTerms {
            session: SessionId::from_name("s"),
            sender: testing::key(1).address(),
            size: testing::size(),
            fps: FrameRate::from_fps(30),
        };
        self.recipient.open(self.now, terms).unwrap()
    }

    /// Pays until `count` tickets have won and are stored.
    async fn win(&self, session: &mut SessionRecipient, count: usize) -> Vec<crate::Winner> {
        let key = testing::key(1);
        let set = session.first_set().clone();
        let mut winners = Vec::new();
        for nonce in 1..60 {
            let signature = key.sign(set.ticket(nonce).digest());
            let ticket = TicketRecord { serial: set.serial, nonce, pts: 0, signature };
            session.pay_bytes(self.now, &Record::Ticket(ticket).encode()).unwrap();
            while let Some(output) = session.poll() {
                if let RecipientOutput::StoreWinner(winner) = output {
                    self.store.insert_winner(&winner).await.unwrap();
                    session.stored(self.now, &winner.hash);
                    winners.push(*winner);
                }
            }
            if winners.len() == count {
                return winners;
            }
        }
        panic!("too few of 59 tickets won at one in two");
    }
}

#[tokio::test]
async fn a_winner_waits_for_its_set_and_is_paid_once() {
    let s = setup(0, 1_000_000).await;
    let mut session = s.open();
    let winners = s.win(&mut session, 3).await;
    let set = winners[0].ticket.recipient_rand_hash;
    let turn = s.redeemer.turn().await.unwrap();
    assert_eq!((turn.waiting, turn.ended), (3, [0; 4]));
    assert!(!s.store.is_sealed(&set).await.unwrap(), "sealed while it credits");
    let sender = winners[0].ticket.sender;
    assert_eq!(s.recipient.sender_at_risk(sender).0, Wei::new(6000));

    drop(session);
    let turn = s.redeemer.turn().await.unwrap();
    assert_eq!((turn.ended, turn.paid), ([3, 0, 0, 0], Wei::new(6000)));
    assert!(s.store.is_sealed(&set).await.unwrap());
    assert_eq!(s.recipient.sender_at_risk(sender).0, Wei::ZERO);
    assert_eq!(s.redeemer.turn().await.unwrap(), TurnReport::default());
    let fees = s.ledger.fees(s.recipient.address()).await.unwrap();
    assert_eq!(fees, Wei::new(6000));
}

#[tokio::test]
async fn a_crash_between_payment_and_booking_books_what_was_paid_once() {
    let s = setup(0, 1_000_000).await;
    let mut session = s.open();
    let winner = s.win(&mut session, 1).await.remove(0);
    drop(session);
    // Somebody redeemed it: we before a crash, or anybody.
    let paid = s
        .ledger
        .redeem_winning_ticket(&winner.ticket, &winner.signature, &winner.recipient_rand)
        .await
        .unwrap();
    assert_eq!(paid, Wei::new(2000));
    assert_eq!(s.redeemer.turn().await.unwrap().ended, [1, 0, 0, 0]);
    assert_eq!(s.ledger.fees(s.recipient.address()).await.unwrap(), Wei::new(2000));
}

#[tokio::test]
async fn a_winner_that_cannot_be_paid_in_full_waits_unrevealed_and_is_paid_when_it_can() {
    let s = setup(0, 4000).await;
    let mut session = s.open();
    let winners = s.win(&mut session, 3).await;
    drop(session);
    let turn = s.redeemer.turn().await.unwrap();
    assert_eq!((turn.ended, turn.waiting), ([2, 0, 0, 0], 1));
    let row = &s.store.held_winners().await.unwrap()[0];
    assert_eq!(row.reason, Waiting::NotPayable.as_str());
    assert_eq!(s.ledger.paid_for(&row.winner.hash).await.unwrap(), None, "not thrown away");
    s.ledger
        .fund(Address::ZERO, winners[0].ticket.sender, Wei::new(5000), Wei::ZERO)
        .await
        .unwrap();
    assert_eq!(s.redeemer.turn().await.unwrap().ended, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_winner_of_an_empty_account_ends_unfunded_and_a_forgotten_one_expired() {
    let s = setup(0, 4000).await;
    let mut session = s.open();
    s.win(&mut session, 3).await;
    drop(session);
    s.redeemer.turn().await.unwrap();
    s.clock.fetch_add(2_000_000, Ordering::Relaxed);
    assert_eq!(s.redeemer.turn().await.unwrap().ended, [0, 0, 0, 1]);

    let s = setup(0, 1_000_000).await;
    let mut session = s.open();
    s.win(&mut session, 1).await;
    drop(session);
    s.clock.fetch_add(2_000_000, Ordering::Relaxed);
    assert_eq!(s.redeemer.turn().await.unwrap().ended, [0, 0, 1, 0]);
}

#[tokio::test]
async fn winners_of_a_crashed_process_are_redeemed_from_their_seal_block_on() {
    let s = setup(0, 1_000_000).await;
    let mut session = s.open();
    let winner = s.win(&mut session, 1).await.remove(0);
    // The process dies: the next one has another epoch and knows no live sets.
    std::mem::forget(session);
    let epoch = s.store.next_epoch().await.unwrap();
    let price = PricePerPixel::new(1, 1).unwrap();
    let config = RecipientConfig::new(s.recipient.address(), testing::secret(), price);
    let next = Recipient::new(config, epoch, s.ledger.view(), testing::recover);
    let redeemer = Redeemer::new(s.store.clone(), s.ledger.clone(), next.clone());
    redeemer.load_held().await.unwrap();
    assert_eq!(next.sender_at_risk(winner.ticket.sender).0, winner.ticket.face_value);
    assert_eq!(redeemer.turn().await.unwrap().waiting, 1, "another instance may run the set");
    s.clock.fetch_add(winner.seal_block * 1000, Ordering::Relaxed);
    assert_eq!(redeemer.turn().await.unwrap().ended, [1, 0, 0, 0]);
}

#[tokio::test]
async fn the_loop_redeems_until_it_is_told_to_stop() {
    let s = setup(0, 1_000_000).await;
    let mut session = s.open();
    s.win(&mut session, 1).await;
    drop(session);
    let (ledger, address) = (s.ledger.clone(), s.recipient.address());
    let paid = tokio::spawn(async move {
        while ledger.fees(address).await.unwrap().is_zero() {
            tokio::task::yield_now().await;
        }
    });
    s.redeemer.run(Duration::from_millis(1), async { paid.await.unwrap() }).await;
    assert_eq!(s.ledger.fees(s.recipient.address()).await.unwrap(), Wei::new(2000));
}

#[test]
fn the_step_is_decided_by_round_set_and_money() {
    let set = testing::set();
    let winner = crate::Winner::new(&set, 1, [0; 65], Default::default(), 7, true);
    let head = |round| Head {
        block: 0,
        round,
        round_start_block: 0,
        round_length: 10,
        round_hash: B256::ZERO,
        ticket_validity_rounds: 2,
    };
    let (full, part) = (Payable::Now(Wei::new(4000)), Payable::Now(Wei::new(3999)));
    let step = |round, payable, closed| next_step(&winner, &head(round), payable, closed, false);
    assert_eq!(step(7, full, true), Step::Redeem);
    assert_eq!(step(7, part, true), Step::Wait(Waiting::NotPayable));
    assert_eq!(step(7, full, false), Step::Wait(Waiting::SetIsLive));
    let state = |step| match step {
        Step::End(end) => (end.state, end.amount),
        other => panic!("{other:?}"),
    };
    assert_eq!(state(step(8, full, true)), (WinnerState::Expired, Wei::ZERO));
    let late = next_step(&winner, &head(8), part, true, true);
    assert_eq!(state(late), (WinnerState::Unfunded, Wei::ZERO));
    let used = |amount| step(8, Payable::Used(Wei::new(amount)), false);
    assert_eq!(state(used(4000)), (WinnerState::Paid, Wei::new(4000)));
    assert_eq!(state(used(10)), (WinnerState::Short, Wei::new(10)));
}
