//! The side that works and is paid: what all sessions of a process share.
//!
//! A [`Recipient`] makes sets, knows which of them are live, and keeps per sender what its sessions
//! owe and which winners are held. A [`SessionRecipient`] checks tickets and admits frames. Nothing here
//! waits: winners to store and receipts to send come out of [`SessionRecipient::poll`].

mod book;
mod checks;
mod outcome;
mod rotation;
mod session;
mod tickets;
mod window;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, U256};
use parking_lot::Mutex;

use crate::broker::{BrokerView, Head};
use crate::price::{FrameRate, PictureSize, PricePerPixel, Wei, fee_ceil, win_prob_for};
use crate::quote::{FaceValue, OfferRefusal, QuotePolicy, offer};
use crate::set::{RandSecret, SessionId, Set};
use crate::ticket::{CreationRound, Recover};
use crate::wire::Offer;

use book::Book;
pub use outcome::{
    Admit, RecipientCounters, RecipientOutput, RefusedCounts, SessionEnd, WaitReason,
};
pub use session::SessionRecipient;

/// Senders that are remembered at once; the balanced ones go first.
const SENDERS_MAX: usize = 65_536;

/// Settings of a recipient.
#[derive(Clone, Debug)]
pub struct RecipientConfig {
    /// Who is paid.
    pub address: Address,
    /// Secret behind every set; kept across starts.
    pub secret: RandSecret,
    /// Wei a pixel of the input picture.
    pub price: PricePerPixel,
    /// When and how large sets are offered.
    pub quote: QuotePolicy,
    /// How long a set is the current one. 60 s.
    pub set_life: Duration,
    /// How long a set is still credited after its successor. 5 s.
    pub set_overlap: Duration,
    /// Frames that run ahead of payment (Ko); by frame rate when `None`.
    pub frames_at_risk: Option<u32>,
    /// Ceiling of a sender over all its sessions, in limits of one session.
    pub sessions_at_risk: u32,
    /// A session whose frames wait for payment for so long is ended. 10 s.
    pub unpaid_after: Duration,
}

impl RecipientConfig {
    /// Defaults: a frame wins with probability 1/1000, blocks of one second.
    pub fn new(address: Address, secret: RandSecret, price: PricePerPixel) -> Self {
        Self {
            address,
            secret,
            price,
            quote: QuotePolicy {
                face_value: FaceValue::TimesFee(1000),
                count_deposit: false,
                seal_after_blocks: 70,
                redemption_margin_blocks: 60,
            },
            set_life: Duration::from_secs(60),
            set_overlap: Duration::from_secs(5),
            frames_at_risk: None,
            sessions_at_risk: 4,
            unpaid_after: Duration::from_secs(10),
        }
    }

    /// Seal block and margin for a chain whose blocks take `block_time`: a set's life and overlap,
    /// two blocks of rounding, and one minute (three blocks at least) to redeem.
    pub fn with_block_time(mut self, block_time: Duration) -> Self {
        let blocks = |time: Duration| {
            u64::try_from(time.as_millis().div_ceil(block_time.as_millis().max(1)))
                .unwrap_or(u64::MAX)
        };
        self.quote.seal_after_blocks = blocks(self.set_life + self.set_overlap).saturating_add(2);
        self.quote.redemption_margin_blocks = blocks(Duration::from_secs(60)).max(3);
        self
    }
}

/// What a session is agreed on.
#[derive(Clone, Copy, Debug)]
pub struct SessionTerms {
    /// The session.
    pub session: SessionId,
    /// Who pays.
    pub sender: Address,
    /// Size of the pictures, cropped.
    pub size: PictureSize,
    /// Their rate.
    pub fps: FrameRate,
}

/// Why a session with payment by frame cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefusal {
    /// Rule 5 says no.
    #[error(transparent)]
    Offer(#[from] OfferRefusal),
    /// Too many senders with open accounts.
    #[error("{SENDERS_MAX} senders have open accounts")]
    TooManySenders,
}

/// The recipient of a process. Clones share it.
#[derive(Clone)]
pub struct Recipient(Arc<Shared>);

pub(crate) struct Shared {
    config: RecipientConfig,
    price: Mutex<PricePerPixel>,
    epoch: u64,
    view: Arc<dyn BrokerView>,
    recover: Recover,
    books: Mutex<HashMap<Address, Arc<Mutex<Book>>>>,
    live: Mutex<HashSet<B256>>,
}

impl Recipient {
    /// A recipient of the process `epoch`, which the store has counted up before (durable point
    /// O1).
    pub fn new(
        config: RecipientConfig,
        epoch: u64,
        view: Arc<dyn BrokerView>,
        recover: Recover,
    ) -> Self {
        let price = Mutex::new(config.price);
        let (books, live) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { config, price, epoch, view, recover, books, live }))
    }

    /// What goes into `OrchestratorInfo`.
    pub fn offer(&self) -> Offer {
        Offer {
            recipient: self.0.config.address,
            price: *self.0.price.lock(),
            network: self.0.view.network(),
        }
    }

    /// The process epoch.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Who is paid.
    pub fn address(&self) -> Address {
        self.0.config.address
    }

    /// Changes the price: running sessions keep theirs.
    pub fn set_price(&self, price: PricePerPixel) {
        *self.0.price.lock() = price;
    }

    /// Whether a session of this sender could begin now, without beginning it.
    ///
    /// # Errors
    /// As [`Recipient::open`].
    pub fn could_open(&self, sender: Address, size: PictureSize) -> Result<(), OpenRefusal> {
        let fee = fee_ceil(size.pixels(), *self.0.price.lock());
        let held = self.0.book(sender)?.lock().held();
        self.0.rule_5(sender, fee, held)?;
        Ok(())
    }

    /// Begins a session with its first set.
    ///
    /// # Errors
    /// Why no set can be offered to this sender now.
    pub fn open(&self, now: Instant, terms: SessionTerms) -> Result<SessionRecipient, OpenRefusal> {
        let book = self.0.book(terms.sender)?;
        let price = *self.0.price.lock();
        Ok(SessionRecipient::new(now, self.0.clone(), book, terms, price)?)
    }

    /// Seals a set before its number leaves the process: `false` while a session may still credit
    /// it. Once `true`, it stays so; the caller then stores the seal (O3) and may reveal.
    pub fn seal(&self, recipient_rand_hash: &B256) -> bool {
        !self.0.live.lock().contains(recipient_rand_hash)
    }

    /// Held winners of a sender as the store has them: at start, and when other instances share it.
    pub fn set_held(&self, sender: Address, held: Wei) {
        if let Ok(book) = self.0.book(sender) {
            book.lock().set_held(held);
        }
    }

    /// A winner of `sender` was settled, whatever the outcome.
    pub fn winner_settled(&self, sender: Address, face_value: Wei) {
        if let Ok(book) = self.0.book(sender) {
            book.lock().release(face_value);
        }
    }

    /// Held winners and what the sessions of a sender owe beyond their payments, in wei.
    pub fn sender_at_risk(&self, sender: Address) -> (Wei, Wei) {
        self.0.books.lock().get(&sender).map_or((Wei::ZERO, Wei::ZERO), |book| {
            let book = book.lock();
            (book.held(), book.owed())
        })
    }
}

impl Shared {
    fn book(&self, sender: Address) -> Result<Arc<Mutex<Book>>, OpenRefusal> {
        let mut books = self.books.lock();
        if let Some(book) = books.get(&sender) {
            return Ok(book.clone());
        }
        if books.len() >= SENDERS_MAX {
            books.retain(|_, book| Arc::strong_count(book) > 1 || !book.lock().is_balanced());
        }
        if books.len() >= SENDERS_MAX {
            return Err(OpenRefusal::TooManySenders);
        }
        Ok(books.entry(sender).or_default().clone())
    }

    fn head(&self) -> Option<Head> {
        self.view.head()
    }

    fn rule_5(
        &self,
        sender: Address,
        fee: Wei,
        held: Wei,
    ) -> Result<(Head, crate::quote::Offered), OfferRefusal> {
        let head = self.view.head().ok_or(OfferRefusal::NoView)?;
        let funds = self
            .view
            .funds(sender, self.config.address)
            .ok_or(OfferRefusal::UnknownSender(sender))?;
        Ok((head, offer(&self.config.quote, fee, &head, &funds, held)?))
    }

    /// Makes a set and marks it live.
    fn make_set(
        &self,
        terms: &SessionTerms,
        price: PricePerPixel,
        serial: u32,
        held: Wei,
    ) -> Result<(Set, U256), OfferRefusal> {
        let fee = fee_ceil(terms.size.pixels(), price);
        let (head, offered) = self.rule_5(terms.sender, fee, held)?;
        let win_prob = win_prob_for(fee, offered.face_value).ok_or(OfferRefusal::ZeroFee)?;
        let mut set = Set {
            serial,
            epoch: self.epoch,
            session: terms.session,
            recipient: self.config.address,
            sender: terms.sender,
            size: terms.size,
            fee,
            face_value: offered.face_value,
            win_prob,
            recipient_rand_hash: B256::ZERO,
            seal_block: offered.seal_block,
            creation: CreationRound { round: head.round, hash: head.round_hash },
        };
        let rand = set.commit(&self.config.secret, self.view.network());
        self.live.lock().insert(set.recipient_rand_hash);
        Ok((set, rand))
    }

    fn retire(&self, set: &Set) {
        self.live.lock().remove(&set.recipient_rand_hash);
    }
}

#[cfg(test)]
#[path = "recipient_tests.rs"]
mod tests;
