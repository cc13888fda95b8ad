//! The pay and receipts channels of a session: tickets in, receipts out, winners to disk between.
//!
//! A winner is on disk before the receipt that settles its nonce leaves (durable point O2); frames
//! and other receipts go on meanwhile.

use std::time::{Duration, Instant};

use payments::{RecipientOutput, Store};
use tokio::task::JoinSet;
use tracing::warn;

use super::admission::Admission;

/// Length of a segment on the receipts channel.
const SEGMENT: Duration = Duration::from_secs(1);

/// Winners on their way to the disk; a further one waits.
const STORING_MAX: usize = 64;

/// Tickets from the pay channel into the account.
///
/// # Errors
/// The account ended the session, or the channel failed.
pub(crate) async fn pay(
    admission: &Admission,
    mut channel: trickle::Subscriber,
) -> anyhow::Result<String> {
    while let Some(mut segment) = channel.next().await? {
        if segment.skipped() > 0 {
            admission.account(|session, _| session.pay_gap());
        }
        loop {
            match segment.chunk().await {
                Ok(Some(chunk)) => {
                    if let Some(Err(end)) =
                        admission.account(|session, now| session.pay_bytes(now, &chunk))
                    {
                        return Ok(end.to_string());
                    }
                }
                Ok(None) => break,
                Err(trickle::Error::Reset { .. }) => {
                    admission.account(|session, _| session.pay_gap());
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok("the pay channel ended".into())
}

/// Does what the account wants: receipts out, winners to disk, the end.
///
/// # Errors
/// The store or the channel failed.
pub(crate) async fn serve(
    admission: &Admission,
    mut channel: trickle::Publisher,
    store: Store,
) -> anyhow::Result<String> {
    let mut segment: Option<(trickle::SegmentWriter, Instant)> = None;
    let mut storing = JoinSet::new();
    loop {
        let (wish, again) = admission.poll();
        match wish {
            Some(RecipientOutput::Receipt(bytes)) => {
                if segment.as_ref().is_some_and(|(_, since)| since.elapsed() >= SEGMENT)
                    && let Some((full, _)) = segment.take()
                {
                    drop(full.close());
                }
                let (writer, _) = match &mut segment {
                    Some(open) => open,
                    empty => empty.insert((channel.next().await?, Instant::now())),
                };
                writer.write(bytes).await?;
                continue;
            }
            Some(RecipientOutput::StoreWinner(winner)) => {
                let store = store.clone();
                if storing.len() >= STORING_MAX {
                    stored(admission, storing.join_next().await)?;
                }
                storing.spawn(async move {
                    let hash = winner.hash;
                    store.insert_winner(&winner).await.map(|_| hash)
                });
                continue;
            }
            Some(RecipientOutput::End(end)) => return Ok(end.to_string()),
            None => {}
        }
        tokio::select! {
            () = admission.moved() => {}
            () = crate::until(again) => {}
            done = storing.join_next(), if !storing.is_empty() => stored(admission, done)?,
        }
    }
}

type Done = Option<Result<Result<chain::B256, payments::StoreError>, tokio::task::JoinError>>;

fn stored(admission: &Admission, done: Done) -> anyhow::Result<()> {
    match done {
        None => Ok(()),
        Some(Ok(Ok(hash))) => {
            admission.account(|session, now| session.stored(now, &hash));
            Ok(())
        }
        Some(Ok(Err(error))) => {
            warn!(%error, "a winner could not be stored");
            Err(error.into())
        }
        Some(Err(error)) => Err(error.into()),
    }
}
