//! Pays one orchestrator frame by frame: tickets out, receipts in, budget from the store.
//!
//! A task of its own holds the money core of the session; the ways there and back tell it of each
//! frame. When it leaves, so does the session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use payments::{
    FrameRate, Offer, PictureSize, SenderConfig, SenderCounters, SenderOutput, SenderTerms,
    SessionSender, StartAnswer, Wei,
};
use pipeline::{Pts, Size};
use tokio::sync::mpsc;

use super::backend::Backend;
use crate::money::{Money, NodeSigner};
use crate::rpc::live::PAYMENT;

/// Frames that wait to be told; a further one makes its teller wait.
const TOLD_WAITING: usize = 256;

/// Length of a segment on the pay channel.
const SEGMENT: Duration = Duration::from_secs(1);

/// What the payer is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    /// A frame of this name went out.
    Sent(Pts),
    /// A frame of this name came back; whether it is whole.
    Returned(Pts, bool),
    /// Pictures have this size and rate from now on.
    Picture(Size, FrameRate),
}

/// Tells the payer of frames; does nothing where the work costs nothing. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Teller(Option<mpsc::Sender<Told>>);

impl Teller {
    /// Tells it; waits while it is busy. Nothing is told to a payer that has left.
    pub(crate) async fn tell(&self, told: Told) {
        if let Some(sender) = &self.0 {
            let _ = sender.send(told).await;
        }
    }
}

/// What paying begins with.
pub(crate) struct Terms {
    /// What the orchestrator offers.
    pub(crate) offer: Offer,
    /// Its answer to the start request.
    pub(crate) answer: StartAnswer,
    /// The session at the orchestrator.
    pub(crate) manifest_id: String,
    /// Cropped picture size.
    pub(crate) size: PictureSize,
    /// Pictures in a second.
    pub(crate) frame_rate: FrameRate,
    /// Delay of a picture so far, zero while unknown: spares the first second of a swap.
    pub(crate) loop_hint: Duration,
}

/// A payer that waits to be run.
pub(crate) struct Payer {
    account: Account,
    told: mpsc::Receiver<Told>,
    pay: trickle::Publisher,
    receipts: trickle::Subscriber,
    counters: Arc<Mutex<SenderCounters>>,
}

/// The core and what happens to it at the end, however that comes.
struct Account {
    core: SessionSender,
    money: Money,
    recipient: chain::Address,
}

impl Drop for Account {
    fn drop(&mut self) {
        let (counters, open) = (self.core.snapshot(), self.core.unsettled());
        self.money.session_paid(self.recipient, &counters, open);
    }
}

impl Payer {
    /// Opens the channels and signs the first ticket. Gives the payer, who tells it, and where its
    /// counters are.
    ///
    /// # Errors
    /// Terms that were not agreed on, or channels that cannot be opened.
    pub(crate) async fn open(
        backend: &Backend,
        money: Money,
        signer: NodeSigner,
        terms: Terms,
    ) -> anyhow::Result<(Self, Teller, Arc<Mutex<SenderCounters>>)> {
        let ledger = money.ledger();
        ensure!(
            terms.offer.network == ledger.network(),
            "it settles on another ledger: set payments.ledger of both to the same database"
        );
        let set = terms.answer.set().context("the first set")?;
        let config = SenderConfig {
            ledger_round_hash: Some(ledger.round_hash()),
            face_value_max: money.face_value_max(),
            loop_hint: terms.loop_hint,
            ..SenderConfig::default()
        };
        let sender_terms = SenderTerms {
            session: payments::wire::start::session_id(&terms.manifest_id),
            recipient: terms.offer.recipient,
            price: terms.offer.price,
            size: terms.size,
            fps: terms.frame_rate,
            head: Some(ledger.head()),
        };
        let now = Instant::now();
        let mut core = SessionSender::new(now, config, sender_terms, Arc::new(signer), set)?;
        core.resend(money.take_unsettled(terms.offer.recipient));
        let pay = backend.publisher(&terms.answer.payment_url, PAYMENT).await?;
        let receipts = backend.subscriber(&terms.answer.receipts_url).await?;
        let (teller, told) = mpsc::channel(TOLD_WAITING);
        let counters = Arc::new(Mutex::new(core.snapshot()));
        let account = Account { core, money, recipient: terms.offer.recipient };
        let payer = Self { account, told, pay, receipts, counters: Arc::clone(&counters) };
        Ok((payer, Teller(Some(teller)), counters))
    }

    /// Pays until it has a reason to leave.
    ///
    /// # Errors
    /// A channel or the store failed.
    pub(crate) async fn run(self) -> anyhow::Result<&'static str> {
        let Self { mut account, mut told, mut pay, mut receipts, counters } = self;
        let mut out: Option<(trickle::SegmentWriter, Instant)> = None;
        let mut inward: Option<trickle::Segment> = None;
        loop {
            while let Some(wish) = account.core.poll() {
                match wish {
                    SenderOutput::Pay(bytes) => {
                        if out.as_ref().is_some_and(|(_, since)| since.elapsed() >= SEGMENT)
                            && let Some((full, _)) = out.take()
                        {
                            drop(full.close());
                        }
                        let (writer, _) = match &mut out {
                            Some(open) => open,
                            empty => empty.insert((pay.next().await?, Instant::now())),
                        };
                        writer.write(bytes).await?;
                    }
                    SenderOutput::TakeBudget(block) => account.take_budget(block).await?,
                    SenderOutput::Leave(reason) => return Err(reason.into()),
                }
            }
            *counters.lock() = account.core.snapshot();
            let timeout = account.core.next_timeout();
            tokio::select! {
                news = told.recv() => match news {
                    Some(news) => account.told(news),
                    None => return Ok("nobody tells of frames"),
                },
                chunk = next_chunk(&mut receipts, &mut inward) => match chunk? {
                    Chunk::Bytes(bytes) => account.core.receipt_bytes(Instant::now(), &bytes)?,
                    Chunk::Gap => account.core.receipt_gap(),
                    Chunk::End => return Ok("the orchestrator ended the receipts"),
                },
                () = crate::until(timeout) => account.core.tick(Instant::now()),
            }
        }
    }
}

impl Account {
    fn told(&mut self, told: Told) {
        let now = Instant::now();
        match told {
            Told::Sent(pts) => self.core.frame_sent(now, pts.0),
            Told::Returned(pts, good) => self.core.frame_returned(now, pts.0, good),
            Told::Picture(size, rate) => {
                if let Some(size) = PictureSize::new(size.width, size.height) {
                    self.core.resize(size, rate);
                }
            }
        }
        self.core.see(self.money.ledger().head());
    }

    /// Durable point G1.
    async fn take_budget(&mut self, block: Wei) -> Result<(), payments::StoreError> {
        let session = self.core.set().session;
        let ceiling = Some(self.money.budget());
        match self.money.store().take_budget(&session, block, ceiling).await {
            Ok(()) => self.core.budget_taken(Instant::now(), block),
            Err(payments::StoreError::Budget { .. }) => self.core.budget_refused(Instant::now()),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

enum Chunk {
    Bytes(bytes::Bytes),
    Gap,
    End,
}

/// The next bytes of a channel over its segments. Cancel-safe.
async fn next_chunk(
    channel: &mut trickle::Subscriber,
    open: &mut Option<trickle::Segment>,
) -> Result<Chunk, trickle::Error> {
    loop {
        let Some(segment) = open else {
            let Some(segment) = channel.next().await? else { return Ok(Chunk::End) };
            let gap = segment.skipped() > 0;
            *open = Some(segment);
            if gap {
                return Ok(Chunk::Gap);
            }
            continue;
        };
        match segment.chunk().await {
            Ok(Some(bytes)) => return Ok(Chunk::Bytes(bytes)),
            Ok(None) => *open = None,
            Err(trickle::Error::Reset { .. }) => {
                *open = None;
                return Ok(Chunk::Gap);
            }
            Err(error) => return Err(error),
        }
    }
}
