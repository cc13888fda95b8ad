//! What proves who asks: signatures over addresses, auth tokens and segment credentials.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chain::{Address, Signer};
use hmac::{Hmac, Mac as _};
use prost::Message as _;
use sha2::Sha256;

use super::net::{AuthToken, Capabilities, OrchestratorRequest, Payment, SegData};

/// How long a token is good.
pub const TOKEN_LIFE: Duration = Duration::from_secs(30 * 60);

/// The longest session or manifest id that is signed. A ticket hash has 32 bytes and other
/// lengths go with another prefix, so no message signature can be a ticket signature.
pub const ID_BYTES_MAX: usize = 64;

/// The longest credential header in bytes.
pub const HEADER_BYTES_MAX: usize = 64 << 10;

/// Why credentials are refused. The texts are part of the protocol: peers match on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The request's signature is not the sender's.
    #[error("orchestrator req sig check failed")]
    RequestSignature,
    /// The header is no base64 or no message.
    #[error("ErrorSegEncoding")]
    Encoding,
    /// The payment header is no base64 or no message.
    #[error("error decoding payment")]
    PaymentEncoding,
    /// The segment's signature is not the sender's.
    #[error("ErrSegSig")]
    SegmentSignature,
    /// There is no token.
    #[error("missing auth token")]
    MissingToken,
    /// The token was not given out by this node.
    #[error("invalid auth token")]
    InvalidToken,
    /// The token is too old.
    #[error("expired auth token")]
    ExpiredToken,
}

/// A signed request for an orchestrator's information.
pub fn orchestrator_request(signer: &dyn Signer, wanted: Capabilities) -> OrchestratorRequest {
    let text = chain::checksum(&signer.address());
    OrchestratorRequest {
        address: signer.address().to_vec(),
        sig: signer.sign_node(text.as_bytes()).to_vec(),
        capabilities: Some(wanted),
        ignore_capacity_check: false,
    }
}

/// The sender of a request.
///
/// # Errors
/// [`CredentialError::RequestSignature`] when the signature is not over the sender's own address.
pub fn check_orchestrator_request(
    request: &OrchestratorRequest,
) -> Result<Address, CredentialError> {
    let address = address(&request.address).ok_or(CredentialError::RequestSignature)?;
    let text = chain::checksum(&address);
    chain::verify_node(text.as_bytes(), &request.sig, address)
        .map_err(|_| CredentialError::RequestSignature)?;
    Ok(address)
}

/// Twenty bytes as an address.
pub fn address(bytes: &[u8]) -> Option<Address> {
    <[u8; 20]>::try_from(bytes).ok().map(Address::from)
}

/// Gives out and checks tokens. The secret is random and lives as long as the process.
pub struct Tokens {
    secret: [u8; 32],
}

impl Tokens {
    /// Tokens with a fresh secret.
    pub fn new() -> Self {
        Self { secret: rand::random() }
    }

    /// A token for a session, good for [`TOKEN_LIFE`] from `now`.
    pub fn issue(&self, session_id: String, now: SystemTime) -> AuthToken {
        let expiration = unix_seconds(now + TOKEN_LIFE);
        AuthToken { token: self.mac(&session_id, expiration).to_vec(), session_id, expiration }
    }

    /// Checks that a token is ours and still good.
    ///
    /// # Errors
    /// Which of the two fails.
    pub fn check(&self, token: &AuthToken, now: SystemTime) -> Result<(), CredentialError> {
        if token.session_id.len() > ID_BYTES_MAX {
            return Err(CredentialError::InvalidToken);
        }
        let mut mac = self.keyed();
        mac.update(token.session_id.as_bytes());
        mac.update(&minimal(token.expiration));
        mac.verify_slice(&token.token).map_err(|_| CredentialError::InvalidToken)?;
        if token.expiration < unix_seconds(now) {
            return Err(CredentialError::ExpiredToken);
        }
        Ok(())
    }

    fn mac(&self, session_id: &str, expiration: i64) -> [u8; 32] {
        let mut mac = self.keyed();
        mac.update(session_id.as_bytes());
        mac.update(&minimal(expiration));
        mac.finalize().into_bytes().into()
    }

    fn keyed(&self) -> Hmac<Sha256> {
        <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.secret)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}

/// Unix seconds; zero before 1970.
pub fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Unix milliseconds; zero before 1970.
pub fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Big-endian without leading zeros, zero is empty.
fn minimal(value: i64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(8)..].to_vec()
}

/// The `Livepeer-Segment` header for a live job or payment: an empty segment of manifest `id`.
pub fn segment_header(signer: &dyn Signer, id: &str, token: Option<AuthToken>) -> String {
    let hash = chain::keccak256([]);
    let data = SegData {
        manifest_id: id.as_bytes().to_vec(),
        hash: hash.to_vec(),
        profiles: b"invalid".to_vec(),
        sig: signer.sign_node(&segment_image(id.as_bytes(), 0, &hash.0)).to_vec(),
        auth_token: token,
        ..Default::default()
    };
    BASE64.encode(data.encode_to_vec())
}

/// The `Livepeer-Payment` header that names the sender and brings no tickets.
pub fn sender_header(sender: Address) -> String {
    BASE64.encode(Payment { sender: sender.to_vec(), ..Default::default() }.encode_to_vec())
}

/// The sender that a payment header names; `None` for an empty one, as unpaid peers send it.
///
/// # Errors
/// [`CredentialError::PaymentEncoding`].
pub fn read_sender(header: &str) -> Result<Option<Address>, CredentialError> {
    if header.is_empty() {
        return Ok(None);
    }
    let payment: Payment = decode(header).ok_or(CredentialError::PaymentEncoding)?;
    if payment.sender.is_empty() {
        return Ok(None);
    }
    address(&payment.sender).map(Some).ok_or(CredentialError::PaymentEncoding)
}

/// Checks a segment header: token of ours, signature of `sender`. Returns the token's session.
///
/// # Errors
/// The first check that fails, in the network's words.
pub fn check_segment_header(
    header: &str,
    sender: &Address,
    tokens: &Tokens,
    now: SystemTime,
) -> Result<AuthToken, CredentialError> {
    let data: SegData = decode(header).ok_or(CredentialError::Encoding)?;
    if data.manifest_id.len() > ID_BYTES_MAX || data.hash.len() != 32 {
        return Err(CredentialError::Encoding);
    }
    let image = segment_image(&data.manifest_id, data.seq, &data.hash);
    chain::verify_node(&image, &data.sig, *sender)
        .map_err(|_| CredentialError::SegmentSignature)?;
    let token = data.auth_token.ok_or(CredentialError::MissingToken)?;
    tokens.check(&token, now)?;
    Ok(token)
}

fn decode<M: prost::Message + Default>(header: &str) -> Option<M> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let bytes = BASE64.decode(header.trim()).ok()?;
    M::decode(bytes.as_slice()).ok()
}

/// What a segment's signature covers: manifest, number as 32 bytes, hash; live jobs have no
/// profiles.
fn segment_image(manifest: &[u8], seq: i64, hash: &[u8]) -> Vec<u8> {
    let mut image = Vec::with_capacity(manifest.len() + 64);
    image.extend_from_slice(manifest);
    image.extend_from_slice(&[0; 24]);
    image.extend_from_slice(&seq.to_be_bytes());
    image.extend_from_slice(hash);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> chain::SecretKey {
        let mut bytes = [0; 32];
        bytes[31] = n;
        chain::SecretKey::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn a_request_signed_by_another_is_refused() {
        let request = orchestrator_request(&key(1), Capabilities::default());
        assert_eq!(check_orchestrator_request(&request), Ok(key(1).address()));
        let stolen = OrchestratorRequest { address: key(2).address().to_vec(), ..request.clone() };
        assert_eq!(check_orchestrator_request(&stolen), Err(CredentialError::RequestSignature));
        let unsigned = OrchestratorRequest { sig: Vec::new(), ..request };
        assert_eq!(check_orchestrator_request(&unsigned), Err(CredentialError::RequestSignature));
    }

    #[test]
    fn a_token_is_good_for_its_session_and_time_only() {
        let tokens = Tokens::new();
        let now = SystemTime::now();
        let token = tokens.issue("0badcafe".into(), now);
        assert_eq!(tokens.check(&token, now), Ok(()));
        let late = now + TOKEN_LIFE + Duration::from_secs(2);
        assert_eq!(tokens.check(&token, late), Err(CredentialError::ExpiredToken));
        let other = AuthToken { session_id: "0badcaff".into(), ..token.clone() };
        assert_eq!(tokens.check(&other, now), Err(CredentialError::InvalidToken));
        assert_eq!(Tokens::new().check(&token, now), Err(CredentialError::InvalidToken));
    }

    #[test]
    fn segment_credentials_are_checked_in_the_networks_order() {
        let (tokens, now) = (Tokens::new(), SystemTime::now());
        let check = |header: &str, sender: &chain::SecretKey| {
            check_segment_header(header, &sender.address(), &tokens, now)
        };
        let token = tokens.issue("0badcafe".into(), now);
        let header = segment_header(&key(1), "0badcafe", Some(token.clone()));
        assert_eq!(check(&header, &key(1)), Ok(token));
        assert_eq!(check(&header, &key(2)), Err(CredentialError::SegmentSignature));
        assert_eq!(check("???", &key(1)), Err(CredentialError::Encoding));
        let bare = segment_header(&key(1), "0badcafe", None);
        assert_eq!(check(&bare, &key(1)), Err(CredentialError::MissingToken));
        assert_eq!(read_sender(&sender_header(key(3).address())), Ok(Some(key(3).address())));
        assert_eq!(read_sender(""), Ok(None));
        assert_eq!(read_sender("%"), Err(CredentialError::PaymentEncoding));
    }

    #[test]
    fn the_image_of_a_segment_is_the_networks() {
        let mut image = segment_image(b"abcdef", 1234, &{
            let mut hash = [0; 32];
            hash[..6].copy_from_slice(b"browns");
            hash
        });
        image.extend_from_slice(b"fca40bf9c0a6517a");
        let wanted = "08a398e7e7a5a545b0b07d9e7e1eab52b4131e0df1621bd53ee6e7550a15465b";
        assert_eq!(hex::encode(chain::keccak256(image)), wanted);
    }
}
