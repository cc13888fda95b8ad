//! The ledger does what the broker contract does, and no wei appears or vanishes.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::U256;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::broker::BrokerView;
use crate::price::Wei;
use crate::testing::{self, Key};
use crate::ticket::{CreationRound, Signature, Ticket, recipient_rand_hash};

struct Setup {
    ledger: Ledger,
    clock: Arc<AtomicU64>,
    sender: Arc<Key>,
    recipient: Address,
}

const ID: B256 = B256::repeat_byte(0x5a);

/// Blocks of 1 s, rounds of 10 blocks.
async fn setup() -> Setup {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let at = clock.clone();
    let config = LedgerConfig { round_length: 10, ..LedgerConfig::default() };
    let clock_ms: ClockMs = Arc::new(move || at.load(Ordering::Relaxed));
    let ledger =
        Ledger::open_with_clock(store, config, ID, testing::recover, clock_ms).await.unwrap();
    let recipient = testing::key(2).address();
    ledger.join(recipient).await.unwrap();
    Setup { ledger, clock, sender: testing::key(1), recipient }
}

impl Setup {
    fn rounds_pass(&self, rounds: u64) {
        self.clock.fetch_add(rounds * 10_000, Ordering::Relaxed);
    }

    async fn fund(&self, deposit: u128, reserve: u128) {
        let sender = self.sender.address();
        self.ledger.fund(sender, sender, Wei::new(deposit), Wei::new(reserve)).await.unwrap();
    }

    /// A ticket that always wins.
    fn ticket(&self, nonce: u32, face_value: u128) -> (Ticket, Signature, U256) {
        let rand = U256::from(77);
        let head = self.ledger.head();
        let ticket = Ticket {
            recipient: self.recipient,
            sender: self.sender.address(),
            face_value: Wei::new(face_value),
            win_prob: U256::MAX,
            sender_nonce: nonce,
            recipient_rand_hash: recipient_rand_hash(&rand),
            creation: CreationRound { round: head.round, hash: head.round_hash },
        };
        let signature = self.sender.sign(ticket.digest());
        (ticket, signature, rand)
    }

    async fn redeem(
        &self,
        (ticket, signature, rand): &(Ticket, Signature, U256),
    ) -> Result<u128, Revert> {
        match self.ledger.redeem_winning_ticket(ticket, signature, rand).await {
            Ok(wei) => Ok(wei.0.to::<u128>()),
            Err(LedgerError::Revert(revert)) => Err(revert),
            Err(error) => panic!("{error}"),
        }
    }

    async fn balanced(&self) {
        let t = self.ledger.totals().await.unwrap();
        let out = [t.withdrawn, t.paid_out, t.in_accounts, t.in_fees].into_iter().sum::<Wei>();
        assert_eq!(t.funded, out, "{t:?}");
    }
}

#[tokio::test]
async fn a_winner_is_paid_once_deposit_first() {
    let s = setup().await;
    s.fund(100, 1000).await;
    let ticket = s.ticket(1, 150);
    assert_eq!(s.redeem(&ticket).await, Ok(150));
    assert_eq!(s.redeem(&ticket).await, Err(Revert::Used));
    let account = s.ledger.account(s.sender.address()).await.unwrap();
    assert_eq!((account.deposit, account.reserve), (Wei::ZERO, Wei::new(950)));
    assert_eq!(s.ledger.fees(s.recipient).await.unwrap(), Wei::new(150));
    assert_eq!(s.ledger.paid_for(&ticket.0.hash()).await.unwrap(), Some(Wei::new(150)));
    let lines = s.ledger.statement(s.recipient, 0).await.unwrap();
    let redeemed = lines.iter().find(|line| line.kind == "redeem").unwrap();
    assert_eq!((redeemed.deposit, redeemed.reserve), (Wei::new(100), Wei::new(50)));
    s.balanced().await;
}

#[tokio::test]
async fn every_check_of_the_broker_refuses_in_its_own_words() {
    let s = setup().await;
    s.fund(1000, 0).await;
    s.rounds_pass(3);
    let check =
        async |change: fn(&mut Ticket, &mut Signature, &mut U256), revert: Revert, text: &str| {
            let (mut ticket, mut signature, mut rand) = s.ticket(1, 10);
            change(&mut ticket, &mut signature, &mut rand);
            // What is about the signed content is signed again; the signature checks come later.
            if signature[64] != 0 && !matches!(revert, Revert::WrongSignature) {
                signature = s.sender.sign(ticket.digest());
            }
            assert_eq!(s.redeem(&(ticket, signature, rand)).await, Err(revert));
            assert_eq!(revert.to_string(), text);
        };
    check(
        |t, _, _| t.recipient = Address::ZERO,
        Revert::NullRecipient,
        "ticket recipient is null address",
    )
    .await;
    check(|t, _, _| t.sender = Address::ZERO, Revert::NullSender, "ticket sender is null address")
        .await;
    check(
        |t, _, _| t.creation = CreationRound::default(),
        Revert::AuxData,
        "invalid length for ticket auxData: must be 64 bytes",
    )
    .await;
    check(
        |t, _, _| t.creation.round += 1,
        Revert::NoRoundHash,
        "ticket creationRound does not have a block hash",
    )
    .await;
    check(
        |t, _, _| t.creation.hash.0[0] ^= 1,
        Revert::WrongRoundHash,
        "ticket creationRoundBlockHash invalid for creationRound",
    )
    .await;
    check(|t, _, _| t.creation.round -= 2, Revert::Expired, "ticket is expired").await;
    check(
        |_, _, r| *r += U256::from(1),
        Revert::WrongRand,
        "recipientRand does not match recipientRandHash",
    )
    .await;
    check(|_, s, _| s[40] ^= 1, Revert::WrongSignature, "invalid signature over ticket hash").await;
    check(|_, s, _| s[64] -= 27, Revert::WrongSignature, "invalid signature over ticket hash")
        .await;
    check(|t, _, _| t.win_prob = U256::ZERO, Revert::Lost, "ticket did not win").await;
    check(
        |t, _, _| t.face_value = Wei::new(1001),
        Revert::Insufficient,
        "sender deposit and reserve insufficient to cover ticket face value",
    )
    .await;
    s.ledger.leave(s.recipient).await.unwrap();
    check(|_, _, _| {}, Revert::InactiveRecipient, "transcoder must be active").await;
    s.ledger.join(s.recipient).await.unwrap();
    s.ledger.unlock(s.sender.address()).await.unwrap();
    s.rounds_pass(2);
    check(|_, _, _| {}, Revert::SenderUnlocked, "sender is unlocked").await;
    s.ledger.cancel_unlock(s.sender.address()).await.unwrap();
    assert_eq!(s.redeem(&s.ticket(1, 10)).await, Ok(10), "a revert leaves the ticket unused");
    s.balanced().await;
}

#[tokio::test]
async fn a_ticket_is_good_for_its_round_and_the_next() {
    let s = setup().await;
    s.fund(1000, 0).await;
    let (next, after) = (s.ticket(1, 10), s.ticket(2, 10));
    s.rounds_pass(1);
    assert_eq!(s.redeem(&next).await, Ok(10));
    s.rounds_pass(1);
    assert_eq!(s.redeem(&after).await, Err(Revert::Expired));
}

#[tokio::test]
async fn two_claimants_share_a_reserve_and_each_round_starts_anew() {
    let s = setup().await;
    s.ledger.join(Address::repeat_byte(7)).await.unwrap();
    s.fund(0, 1000).await;
    let view = s.ledger.view();
    let share = || view.funds(s.sender.address(), s.recipient).unwrap().claimable_reserve;
    assert_eq!(share(), Wei::new(500));
    assert_eq!(s.redeem(&s.ticket(1, 400)).await, Ok(400));
    assert_eq!(share(), Wei::new(100));
    assert_eq!(s.redeem(&s.ticket(2, 400)).await, Ok(100), "short: capped by the share");
    assert_eq!(share(), Wei::ZERO);
    s.rounds_pass(1);
    assert_eq!(share(), Wei::new(250));
    s.balanced().await;
}

#[tokio::test]
async fn tickets_of_one_ledger_are_worthless_to_another_and_to_the_real_broker() {
    let s = setup().await;
    s.fund(1000, 0).await;
    let other = setup().await;
    // keccak of the words and the id, by hand.
    let by_hand = keccak256([b"millstream-ledger".as_slice(), ID.as_slice()].concat());
    assert_eq!(s.ledger.round_hash(), by_hand);
    let mut foreign = other.ticket(1, 10);
    foreign.0.creation.hash = round_hash(&B256::repeat_byte(1));
    foreign.1 = s.sender.sign(foreign.0.digest());
    assert_eq!(s.redeem(&foreign).await, Err(Revert::WrongRoundHash));
    // The real broker holds a block hash for the round: step 7 refuses any other.
    assert_ne!(s.ledger.network().chain_id, 42161);
    assert_ne!(s.ledger.network(), Network::default());
}

#[tokio::test]
async fn a_ledger_keeps_its_terms_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("l.db").display());
    let store = Store::open(&url).await.unwrap();
    let first =
        Ledger::open(store.clone(), LedgerConfig::default(), ID, testing::recover).await.unwrap();
    first.grant(Address::repeat_byte(1), Wei::new(5), Wei::new(6)).await.unwrap();
    first.grant(Address::repeat_byte(1), Wei::new(5), Wei::new(6)).await.unwrap();
    let again = LedgerConfig { round_length: 7, ..LedgerConfig::default() };
    let again = Ledger::open(store, again, B256::ZERO, testing::recover).await.unwrap();
    assert_eq!(again.round_hash(), first.round_hash());
    assert_eq!(again.head().round_length, 3600);
    let account = again.account(Address::repeat_byte(1)).await.unwrap();
    assert_eq!((account.deposit, account.reserve), (Wei::new(5), Wei::new(6)), "granted once");
}

#[tokio::test]
async fn no_wei_appears_or_vanishes_in_ten_thousand_operations() {
    let seed = 20_26;
    let s = setup().await;
    let mut rng = StdRng::seed_from_u64(seed);
    let senders: Vec<_> = (10..14).map(testing::key).collect();
    let recipients: Vec<_> = (20..23).map(|n| testing::key(n).address()).collect();
    let (mut nonce, mut redeemed, mut reverted) = (0, 0u32, 0u32);
    for step in 0..10_000 {
        let sender = &senders[rng.random_range(0..senders.len())];
        let recipient = recipients[rng.random_range(0..recipients.len())];
        let by = sender.address();
        let result = match rng.random_range(0..20) {
            0..3 => {
                let (a, b) = (rng.random_range(0..500), rng.random_range(0..500));
                s.ledger.fund(by, by, Wei::new(a), Wei::new(b)).await
            }
            3 => s.ledger.unlock(by).await,
            4 => s.ledger.cancel_unlock(by).await,
            5 => s.ledger.withdraw(by).await.map(drop),
            6 | 7 => s.ledger.join(recipient).await,
            8 => s.ledger.leave(recipient).await,
            9 => s.ledger.pay_out(recipient).await.map(drop),
            10 => {
                s.rounds_pass(1);
                Ok(())
            }
            _ => {
                nonce += 1;
                let (mut ticket, _, rand) = s.ticket(nonce, rng.random_range(1..300));
                (ticket.sender, ticket.recipient) = (by, recipient);
                // Half of them win; one in eight is an old one again.
                ticket.win_prob = U256::MAX / U256::from(2);
                if rng.random_ratio(1, 8) {
                    ticket.sender_nonce = rng.random_range(1..=nonce);
                }
                let signature = sender.sign(ticket.digest());
                let before = s.ledger.fees(recipient).await.unwrap();
                let result = s.ledger.redeem_winning_ticket(&ticket, &signature, &rand).await;
                if let Ok(paid) = &result {
                    redeemed += 1;
                    assert!(*paid <= ticket.face_value);
                    let after = s.ledger.fees(recipient).await.unwrap();
                    assert_eq!(after, before.saturating_add(*paid));
                }
                result.map(drop)
            }
        };
        match result {
            Ok(()) => {}
            Err(LedgerError::Revert(_)) => reverted += 1,
            Err(error) => panic!("step {step}, seed {seed}: {error}"),
        }
        if step % 1000 == 999 {
            s.balanced().await;
        }
    }
    assert!(redeemed > 500 && reverted > 500, "{redeemed} redeemed, {reverted} reverted");
    s.balanced().await;
}
