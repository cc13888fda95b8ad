//! How two nodes agree on paying by frame: the recipient's offer beside its other parameters, and
//! what the start request and its answer add. If any part is missing, the interval rhythm holds.

use alloy_primitives::Address;
use prost::Message;

use super::WireError;
use super::receipt::{SetMessage, address};
use crate::broker::Network;
use crate::price::{FrameRate, PictureSize, PricePerPixel};
use crate::set::{SessionId, Set};

/// Version of the frame rhythm that is offered and asked for.
pub const VERSION: u32 = 1;

/// Largest offer that is read, in bytes.
pub const OFFER_BYTES_MAX: usize = 1024;

/// Largest set in a start answer, in characters of hexadecimal text.
pub const SET_TEXT_MAX: usize = 2 * 1024;

/// What a recipient offers to whoever asks, in an extra field of `OrchestratorInfo`. The sets
/// follow from it once sender, session and picture size are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who is paid.
    pub recipient: Address,
    /// Wei a pixel of the input picture.
    pub price: PricePerPixel,
    /// Where tickets are settled.
    pub network: Network,
}

#[derive(Clone, PartialEq, Message)]
struct OfferMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    recipient: Vec<u8>,
    #[prost(uint64, tag = "3")]
    price_wei: u64,
    #[prost(uint64, tag = "4")]
    price_pixels: u64,
    #[prost(uint64, tag = "5")]
    chain_id: u64,
    #[prost(bytes = "vec", tag = "6")]
    broker: Vec<u8>,
}

impl Offer {
    /// The bytes of the extra field.
    pub fn encode(&self) -> Vec<u8> {
        OfferMessage {
            version: VERSION,
            recipient: self.recipient.to_vec(),
            price_wei: self.price.wei(),
            price_pixels: self.price.pixels(),
            chain_id: self.network.chain_id,
            broker: self.network.broker.to_vec(),
        }
        .encode_to_vec()
    }

    /// Reads the extra field; `Ok(None)` when it is absent or of a version that we do not speak.
    ///
    /// # Errors
    /// Bytes that are no offer.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        if bytes.len() > OFFER_BYTES_MAX {
            return Err(WireError::TooLong { length: bytes.len(), max: OFFER_BYTES_MAX });
        }
        let message = OfferMessage::decode(bytes)
            .map_err(|source| WireError::Protobuf { what: "frame offer", source })?;
        if message.version != VERSION {
            return Ok(None);
        }
        let price = PricePerPixel::new(message.price_wei, message.price_pixels)
            .ok_or(WireError::Field { what: "frame offer", field: "price" })?;
        Ok(Some(Self {
            recipient: address(&message.recipient, "recipient")?,
            price,
            network: Network {
                chain_id: message.chain_id,
                broker: address(&message.broker, "broker")?,
            },
        }))
    }
}

/// What the sender's start request holds under the key `frame`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StartRequest {
    /// [`VERSION`].
    pub version: u32,
    /// The address that pays; proved by the session's handshake and by each ticket.
    pub sender: Address,
    /// Columns of the picture, cropped.
    pub width: u32,
    /// Rows of the picture, cropped.
    pub height: u32,
    /// Thousandths of a frame a second.
    pub fps_milli: u32,
}

impl StartRequest {
    /// A request of this version.
    pub fn new(sender: Address, size: PictureSize, fps: FrameRate) -> Self {
        let (width, height) = (size.width, size.height);
        Self { version: VERSION, sender, width, height, fps_milli: fps.milli() }
    }

    /// The picture size.
    ///
    /// # Errors
    /// A side of zero or beyond [`PictureSize::SIDE_MAX`].
    pub fn size(&self) -> Result<PictureSize, WireError> {
        PictureSize::new(self.width, self.height)
            .ok_or(WireError::Field { what: "frame start", field: "size" })
    }

    /// The frame rate, held to what is served.
    pub fn fps(&self) -> FrameRate {
        FrameRate::from_milli(self.fps_milli)
    }
}

/// What the answer holds under the key `frame`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StartAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// Channel that the sender pays on.
    pub payment_url: String,
    /// Channel that the receipts come on.
    pub receipts_url: String,
    /// The first set, in hexadecimal.
    pub set: String,
}

impl StartAnswer {
    /// An answer with this set.
    pub fn new(payment_url: String, receipts_url: String, set: &Set) -> Self {
        let set = hex::encode(SetMessage::from(set).encode_to_vec());
        Self { version: VERSION, payment_url, receipts_url, set }
    }

    /// The first set, to be checked by the sender.
    ///
    /// # Errors
    /// Text that is no set.
    pub fn set(&self) -> Result<Set, WireError> {
        if self.set.len() > SET_TEXT_MAX {
            return Err(WireError::TooLong { length: self.set.len(), max: SET_TEXT_MAX });
        }
        let bytes = hex::decode(&self.set)
            .map_err(|_| WireError::Field { what: "frame answer", field: "set" })?;
        let message = SetMessage::decode(&bytes[..])
            .map_err(|source| WireError::Protobuf { what: "set", source })?;
        Set::try_from(message)
    }
}

/// The session that sets are bound to, from the name that both sides have for it.
pub fn session_id(manifest_id: &str) -> SessionId {
    SessionId::from_name(manifest_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offer_and_answer_come_back_as_they_went() {
        let set = crate::testing::set();
        let offer = Offer {
            recipient: set.recipient,
            price: PricePerPixel::new(1200, 7).unwrap(),
            network: Network { chain_id: 42161, broker: set.sender },
        };
        assert_eq!(Offer::decode(&offer.encode()), Ok(Some(offer)));
        let answer = StartAnswer::new("p".into(), "r".into(), &set);
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<StartAnswer>(&text).unwrap().set(), Ok(set));
    }

    #[test]
    fn an_absent_offer_means_the_interval_rhythm() {
        assert_eq!(Offer::decode(&[]), Ok(None));
    }

    #[test]
    fn a_price_for_no_pixels_is_refused() {
        let mut offer = OfferMessage { version: VERSION, ..Default::default() };
        offer.recipient = vec![1; 20];
        assert_eq!(
            Offer::decode(&offer.encode_to_vec()),
            Err(WireError::Field { what: "frame offer", field: "price" })
        );
    }
}
