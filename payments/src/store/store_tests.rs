//! The store keeps what was promised, once.

use super::*;
use crate::price::Wei;
use crate::set::SessionId;
use crate::testing;
use crate::winner::Winner;

fn winner(nonce: u32) -> Winner {
    let set = testing::set();
    let rand = set.open(&testing::secret(), Default::default()).unwrap();
    let signature = testing::key(1).sign(set.ticket(nonce).digest());
    Winner::new(&set, nonce, signature, rand, 4, true)
}

#[tokio::test]
async fn a_winner_is_stored_once_and_ends_once() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let won = winner(1);
    assert_eq!(store.insert_winner(&won).await.unwrap(), Inserted::New);
    assert_eq!(store.insert_winner(&won).await.unwrap(), Inserted::Known);
    let held = store.held_winners().await.unwrap();
    assert_eq!((held.len(), &held[0].winner), (1, &won));
    let sum = store.held_by_sender().await.unwrap();
    assert_eq!(sum, vec![(won.ticket.sender, Wei::new(4000))]);

    let paid = |amount| Outcome {
        state: WinnerState::Paid,
        amount: Wei::new(amount),
        reason: String::new(),
    };
    assert!(store.close_winner(&won.hash, &paid(4000)).await.unwrap());
    assert!(!store.close_winner(&won.hash, &paid(9)).await.unwrap(), "booked twice");
    let row = store.winner(&won.hash).await.unwrap().unwrap();
    assert_eq!((row.state, row.amount), (WinnerState::Paid, Wei::new(4000)));
    assert_eq!(store.insert_winner(&won).await.unwrap(), Inserted::Known, "not held again");
    assert!(store.held_winners().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_ticket_of_a_sealed_set_is_not_stored() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let (before, after) = (winner(1), winner(2));
    store.insert_winner(&before).await.unwrap();
    let set = before.ticket.recipient_rand_hash;
    assert!(!store.is_sealed(&set).await.unwrap());
    store.seal(&set).await.unwrap();
    store.seal(&set).await.unwrap();
    assert!(store.is_sealed(&set).await.unwrap());
    assert_eq!(store.insert_winner(&after).await.unwrap(), Inserted::Sealed);
    assert_eq!(store.insert_winner(&before).await.unwrap(), Inserted::Known);
}

#[tokio::test]
async fn winners_are_listed_by_their_last_round() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    for (nonce, last_round) in [(1, 9), (2, 7), (3, 8)] {
        store.insert_winner(&Winner { last_round, ..winner(nonce) }).await.unwrap();
    }
    let rounds: Vec<_> =
        store.held_winners().await.unwrap().iter().map(|row| row.winner.last_round).collect();
    assert_eq!(rounds, [7, 8, 9]);
}

#[tokio::test]
async fn the_epoch_counts_up_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("p.db").display());
    for epoch in 1..4 {
        let store = Store::open(&url).await.unwrap();
        assert_eq!(store.next_epoch().await.unwrap(), epoch);
        store.close().await;
    }
    let store = Store::open(&url).await.unwrap();
    let row = sqlx::query("PRAGMA synchronous").fetch_one(&store.pool).await.unwrap();
    assert_eq!(row.try_get::<i64, _>(0).unwrap(), 2, "2 is FULL");
    let row = sqlx::query("PRAGMA journal_mode").fetch_one(&store.pool).await.unwrap();
    assert_eq!(row.try_get::<String, _>(0).unwrap(), "wal");
}

#[tokio::test]
async fn budget_is_taken_up_to_the_ceiling_and_not_beyond() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let (session, block) = (SessionId::from_name("s"), Wei::new(60));
    let ceiling = Some(Wei::new(150));
    store.take_budget(&session, block, ceiling).await.unwrap();
    store.take_budget(&session, block, ceiling).await.unwrap();
    let refused = store.take_budget(&session, block, ceiling).await;
    assert!(matches!(refused, Err(StoreError::Budget { taken, .. }) if taken == Wei::new(120)));
    store.return_budget(Wei::new(40)).await.unwrap();
    store.take_budget(&session, block, ceiling).await.unwrap();
    assert_eq!(store.budget_taken().await.unwrap(), Wei::new(140));
    store.take_budget(&session, Wei::new(u128::MAX), None).await.unwrap();
}

/// The same schema and the same words on PostgreSQL, where a server is given.
#[tokio::test]
async fn the_store_and_the_ledger_work_on_postgresql_too() {
    let Ok(url) = std::env::var("MILLSTREAM_TEST_POSTGRES") else {
        println!("skipped: MILLSTREAM_TEST_POSTGRES names no server");
        return;
    };
    let store = Store::open(&url).await.unwrap();
    let epoch = store.next_epoch().await.unwrap();
    assert_eq!(store.next_epoch().await.unwrap(), epoch + 1);
    let won =
        Winner { hash: alloy_primitives::B256::from(rand::random::<[u8; 32]>()), ..winner(1) };
    assert_eq!(store.insert_winner(&won).await.unwrap(), Inserted::New);
    assert_eq!(store.insert_winner(&won).await.unwrap(), Inserted::Known);
    let row = store.winner(&won.hash).await.unwrap().unwrap();
    assert_eq!(row.winner, won);
    assert!(store.held_winners().await.unwrap().iter().any(|row| row.winner == won));
    let end = Outcome { state: WinnerState::Short, amount: Wei::new(7), reason: "r".into() };
    assert!(store.close_winner(&won.hash, &end).await.unwrap());
    assert!(!store.close_winner(&won.hash, &end).await.unwrap());
    let session = SessionId(alloy_primitives::B256::from(rand::random::<[u8; 32]>()));
    store.take_budget(&session, Wei::new(5), None).await.unwrap();
    store.take_budget(&session, Wei::new(5), None).await.unwrap();
    store.record_session(&session, "sender", &crate::SenderCounters::default()).await.unwrap();

    let ledger = crate::Ledger::open(
        store.clone(),
        crate::LedgerConfig::default(),
        alloy_primitives::B256::from(rand::random::<[u8; 32]>()),
        testing::recover,
    )
    .await
    .unwrap();
    let (sender, recipient) =
        (testing::key(1), alloy_primitives::Address::from(rand::random::<[u8; 20]>()));
    ledger.join(recipient).await.unwrap();
    ledger.grant(sender.address(), Wei::new(1 << 40), Wei::new(1 << 40)).await.unwrap();
    // Many at once: the same ticket is paid once, each other one once.
    let rand = alloy_primitives::U256::from(5);
    let head = ledger.head();
    let tickets: Vec<_> = (0..40u32)
        .map(|i| {
            let ticket = crate::Ticket {
                recipient,
                sender: sender.address(),
                face_value: Wei::new(10),
                win_prob: alloy_primitives::U256::MAX,
                sender_nonce: rand::random_range(0..u32::MAX / 64) * 64 + i % 10,
                recipient_rand_hash: crate::ticket::recipient_rand_hash(&rand),
                creation: crate::ticket::CreationRound { round: head.round, hash: head.round_hash },
            };
            let signature = sender.sign(ticket.digest());
            [(ticket.clone(), signature), (ticket, signature)]
        })
        .collect();
    let mut runs = tokio::task::JoinSet::new();
    for (ticket, signature) in tickets.into_iter().flatten() {
        let ledger = ledger.clone();
        runs.spawn(async move { ledger.redeem_winning_ticket(&ticket, &signature, &rand).await });
    }
    let paid = runs.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!(paid, 40);
    assert_eq!(ledger.fees(recipient).await.unwrap(), Wei::new(400));
    store.close().await;
}

/// The child of the next test: stores winners one after the other and says each after its sync.
#[tokio::test]
async fn child_that_stores_until_it_is_killed() {
    let Ok(url) = std::env::var("MILLSTREAM_TEST_STORE") else { return };
    let from: u32 = std::env::var("MILLSTREAM_TEST_FROM").unwrap().parse().unwrap();
    let store = Store::open(&url).await.unwrap();
    for nonce in from.. {
        let won = winner(nonce);
        store.insert_winner(&won).await.unwrap();
        // Past the test harness, which holds back what a test prints.
        use std::io::Write;
        let mut out = std::io::stderr();
        writeln!(out, "stored {nonce}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn nothing_that_was_settled_is_lost_when_the_process_is_killed() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("p.db").display());
    let mut settled = Vec::new();
    for kill in 0..6u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::store_tests::child_that_stores_until_it_is_killed"])
            .args(["--nocapture", "--test-threads=1"])
            .env("MILLSTREAM_TEST_STORE", &url)
            .env("MILLSTREAM_TEST_FROM", (kill * 1000 + 1).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            if let Some(nonce) = line.unwrap().strip_prefix("stored ") {
                settled.push(nonce.parse::<u32>().unwrap());
                seen += 1;
                if seen > kill * 3 {
                    break;
                }
            }
        }
        assert!(seen > 0, "the child stored nothing");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let store = Store::open(&url).await.unwrap();
    for nonce in settled {
        let hash = winner(nonce).hash;
        assert!(store.winner(&hash).await.unwrap().is_some(), "winner {nonce} was lost");
    }
}
