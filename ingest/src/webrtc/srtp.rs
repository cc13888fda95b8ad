//! SRTP of one session (RFC 3711, RFC 7714), keyed by DTLS (RFC 5764).
//!
//! What goes out is protected where it lies in the send buffer: a viewer's packets are most of the
//! work of this node. What comes in and all RTCP goes through `rtc-srtp`, with two holes closed
//! before it: state is only made for SSRCs that were announced, and SRTCP that claims to be
//! unencrypted is refused (its AES-CM reader would skip the authentication).

use std::sync::Arc;

use bytes::BytesMut;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_srtp::context::Context;
use rtc_srtp::crypto::{
    AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoError, HmacAlgorithm, Mac, RTCCrypto,
    RTCCryptoProvider, StreamCipher, StreamCipherAlgorithm,
};
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

/// SSRCs of a peer that the offer did not announce: a session has two media, their repair
/// streams and as many RTCP senders.
const SSRCS_MAX: usize = 32;

/// How far a packet may lie behind the newest one, in packets.
const REPLAY_WINDOW: usize = 1024;

/// The authentication tag of AES-GCM in bytes.
const GCM_TAG_BYTES: usize = 16;

/// Why keys could not be made or a packet was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SrtpError {
    #[error("the handshake agreed on no usable SRTP profile")]
    Profile,
    #[error("SRTP keys: {0}")]
    Keys(String),
    #[error("SRTP packet from an SSRC beyond the {SSRCS_MAX} of a session")]
    Ssrcs,
    #[error("SRTCP packet without encryption")]
    Plain,
    #[error("SRTP packet not authentic: {0}")]
    Packet(#[from] rtc_shared::error::Error),
}

/// The profiles we offer and accept, best first.
pub(crate) fn profiles() -> Vec<SrtpProtectionProfile> {
    vec![
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    ]
}

fn profile(agreed: SrtpProtectionProfile) -> Option<ProtectionProfile> {
    match agreed {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Some(ProtectionProfile::AeadAes128Gcm),
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
            Some(ProtectionProfile::Aes128CmHmacSha1_80)
        }
        _ => None,
    }
}

/// How many bytes to export from the handshake for a profile, or `None` if it is not ours.
pub(crate) fn material_bytes(agreed: SrtpProtectionProfile) -> Option<usize> {
    profile(agreed).map(|profile| 2 * (profile.key_len() + profile.salt_len()))
}

/// The four directions of one session.
pub(crate) struct Srtp {
    pub(crate) protect: Protect,
    inbound: Context,
    outbound_rtcp: Context,
    announced: Vec<u32>,
    others: Vec<u32>,
}

impl Srtp {
    /// Splits exported material as client key, server key, client salt, server salt
    /// (RFC 5764 4.2). `announced` are the SSRCs of the offer.
    pub(crate) fn new(
        agreed: SrtpProtectionProfile,
        material: &[u8],
        we_are_client: bool,
        announced: Vec<u32>,
        provider: &Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, SrtpError> {
        let profile = profile(agreed).ok_or(SrtpError::Profile)?;
        let (key, salt) = (profile.key_len(), profile.salt_len());
        if material.len() != 2 * (key + salt) {
            return Err(SrtpError::Keys(format!("{} bytes of material", material.len())));
        }
        let (keys, salts) = material.split_at(2 * key);
        let client = (&keys[..key], &salts[..salt]);
        let server = (&keys[key..], &salts[salt..]);
        let (ours, theirs) = if we_are_client { (client, server) } else { (server, client) };
        let crypto = provider.crypto();
        let context = |(key, salt): (&[u8], &[u8])| {
            let rtp = Some(srtp_replay_protection(REPLAY_WINDOW));
            let rtcp = Some(srtcp_replay_protection(64));
            Context::new(key, salt, profile, rtp, rtcp, crypto)
                .map_err(|error| SrtpError::Keys(error.to_string()))
        };
        let protect = Protect::new(profile, ours.0, ours.1, crypto)
            .map_err(|error| SrtpError::Keys(error.to_string()))?;
        Ok(Self {
            protect,
            inbound: context(theirs)?,
            outbound_rtcp: context(ours)?,
            announced,
            others: Vec::new(),
        })
    }

    /// Authenticates and decrypts an RTP packet with `ssrc` in its header.
    pub(crate) fn open_rtp(&mut self, ssrc: u32, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        self.admit(ssrc)?;
        Ok(self.inbound.decrypt_rtp(packet)?)
    }

    /// Authenticates and decrypts a compound RTCP packet.
    pub(crate) fn open_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        let tail = match self.protect.cipher {
            Cipher::Gcm { .. } => 4,
            Cipher::Cm { .. } => 4 + CM_TAG_BYTES,
        };
        if packet.len() < 8 + tail {
            return Err(SrtpError::Plain);
        }
        if packet[packet.len() - tail] & 0x80 == 0 {
            return Err(SrtpError::Plain);
        }
        self.admit(u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]))?;
        Ok(self.inbound.decrypt_rtcp(packet)?)
    }

    /// Encrypts a compound RTCP packet.
    pub(crate) fn seal_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        Ok(self.outbound_rtcp.encrypt_rtcp(packet)?)
    }

    fn admit(&mut self, ssrc: u32) -> Result<(), SrtpError> {
        if self.announced.contains(&ssrc) || self.others.contains(&ssrc) {
            return Ok(());
        }
        if self.others.len() == SSRCS_MAX {
            return Err(SrtpError::Ssrcs);
        }
        self.others.push(ssrc);
        Ok(())
    }
}

/// Protects outgoing RTP in place.
pub(crate) struct Protect {
    cipher: Cipher,
    salt: [u8; 16],
}

enum Cipher {
    Gcm { aead: Box<dyn AeadCipher> },
    Cm { stream: Box<dyn StreamCipher>, mac: Box<dyn Mac> },
}

const CM_TAG_BYTES: usize = 10;

/// Labels of RFC 3711 4.3.1.
const LABEL_ENCRYPTION: u8 = 0;
const LABEL_AUTHENTICATION: u8 = 1;
const LABEL_SALT: u8 = 2;

impl Protect {
    fn new(
        profile: ProtectionProfile,
        key: &[u8],
        salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, CryptoError> {
        let derive = |label, length| derive(crypto, key, salt, label, length);
        let session_key = derive(LABEL_ENCRYPTION, 16)?;
        let session_salt = derive(LABEL_SALT, salt.len())?;
        let cipher = match profile {
            ProtectionProfile::AeadAes128Gcm => {
                Cipher::Gcm { aead: crypto.new_aead(AeadAlgorithm::Aes128Gcm, &session_key)? }
            }
            _ => {
                let algorithm = StreamCipherAlgorithm::Aes128Ctr;
                let stream = crypto.new_stream_cipher(algorithm, &session_key)?;
                let auth = derive(LABEL_AUTHENTICATION, 20)?;
                Cipher::Cm { stream, mac: crypto.new_hmac(HmacAlgorithm::Sha1, &auth)? }
            }
        };
        let mut padded = [0; 16];
        padded[..session_salt.len()].copy_from_slice(&session_salt);
        Ok(Self { cipher, salt: padded })
    }

    /// Protects the packet that begins at `start` of `buffer` and ends with it, of which the first
    /// `header` bytes stay readable, and appends its tag. `roc` counts how often the packet's
    /// 16-bit sequence number has wrapped: the pair of both may never come twice with different
    /// content.
    ///
    /// # Errors
    /// The crypto library refused, which it does for no input we make.
    pub(crate) fn seal(
        &mut self,
        buffer: &mut Vec<u8>,
        start: usize,
        header: usize,
        roc: u32,
    ) -> Result<(), CryptoError> {
        let packet = &mut buffer[start..];
        let ssrc: [u8; 4] = [packet[8], packet[9], packet[10], packet[11]];
        let sequence: [u8; 2] = [packet[2], packet[3]];
        let roc = roc.to_be_bytes();
        let mut nonce = self.salt;
        let mut mix = |at: usize, bytes: &[u8]| {
            for (have, more) in nonce[at..].iter_mut().zip(bytes) {
                *have ^= more;
            }
        };
        match &mut self.cipher {
            Cipher::Gcm { aead } => {
                mix(2, &ssrc);
                mix(6, &roc);
                mix(10, &sequence);
                let mut tag = [0; GCM_TAG_BYTES];
                let (aad, payload) = packet.split_at_mut(header);
                aead.seal_in_place(&nonce[..12], aad, payload, &mut tag)?;
                buffer.extend_from_slice(&tag);
            }
            Cipher::Cm { stream, mac } => {
                mix(4, &ssrc);
                mix(8, &roc);
                mix(12, &sequence);
                stream.apply_keystream(&nonce, &mut packet[header..])?;
                let mut tag = [0; 20];
                mac.sign(&[packet, &roc], &mut tag)?;
                buffer.extend_from_slice(&tag[..CM_TAG_BYTES]);
            }
        }
        Ok(())
    }
}

/// AES-CM key derivation with rate zero (RFC 3711 4.3.3; RFC 7714 11 for the shorter salt).
fn derive(
    crypto: &dyn RTCCrypto,
    key: &[u8],
    salt: &[u8],
    label: u8,
    length: usize,
) -> Result<Vec<u8>, CryptoError> {
    let mut input = [0; 16];
    input[..salt.len()].copy_from_slice(salt);
    input[7] ^= label;
    let mut out = Vec::with_capacity(length.next_multiple_of(16));
    while out.len() < length {
        input[14..].copy_from_slice(&((out.len() / 16) as u16).to_be_bytes());
        let mut block = input;
        crypto.block_encrypt(BlockCipherAlgorithm::Aes128, key, &mut block)?;
        out.extend_from_slice(&block);
    }
    out.truncate(length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_srtp::crypto::default_provider;

    const PROFILES: [SrtpProtectionProfile; 2] = [
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    ];

    fn pair(profile: SrtpProtectionProfile) -> (Srtp, Srtp) {
        let provider = default_provider().unwrap();
        let material: Vec<u8> = (0..material_bytes(profile).unwrap() as u8).collect();
        let make = |client| Srtp::new(profile, &material, client, vec![9], &provider).unwrap();
        (make(true), make(false))
    }

    fn packet(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 7, 0, 0, 0, 9]);
        packet.extend_from_slice(b"the payload");
        packet
    }

    #[test]
    fn what_we_protect_the_library_opens_also_across_a_wrap_of_sequence_numbers() {
        for profile in PROFILES {
            let (mut ours, mut theirs) = pair(profile);
            for count in 65_000_u32..66_500 {
                let plain = packet(count as u16);
                let mut buffer = b"before".to_vec();
                buffer.extend_from_slice(&plain);
                ours.protect.seal(&mut buffer, 6, 12, count >> 16).unwrap();
                // `rtc-srtp` wants to see a sequence number on each side of the wrap.
                assert_eq!(theirs.open_rtp(9, &buffer[6..]).unwrap(), plain, "{count}");
            }
        }
    }

    #[test]
    fn a_changed_or_repeated_packet_is_refused() {
        for profile in PROFILES {
            let (mut ours, mut theirs) = pair(profile);
            let mut buffer = packet(1);
            ours.protect.seal(&mut buffer, 0, 12, 0).unwrap();
            for index in 0..buffer.len() {
                let mut bent = buffer.clone();
                bent[index] ^= 1;
                assert!(theirs.open_rtp(9, &bent).is_err(), "byte {index}");
            }
            assert!(theirs.open_rtp(9, &buffer).is_ok());
            assert!(theirs.open_rtp(9, &buffer).is_err());
        }
    }

    #[test]
    fn rtcp_that_claims_to_be_unencrypted_is_refused() {
        for profile in PROFILES {
            let (mut ours, mut theirs) = pair(profile);
            let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
            let sealed = ours.seal_rtcp(&report).unwrap();
            assert_eq!(theirs.open_rtcp(&sealed).unwrap(), report[..]);
            let mut forged = report.to_vec();
            forged.extend_from_slice(&[0, 0, 0, 5]);
            forged.extend_from_slice(&[0; 16]);
            assert!(theirs.open_rtcp(&forged).is_err());
        }
    }

    #[test]
    fn a_flood_of_unknown_ssrcs_makes_no_state() {
        let (mut ours, mut theirs) = pair(PROFILES[0]);
        for ssrc in 100..1000_u32 {
            let mut junk = packet(1);
            junk[8..12].copy_from_slice(&ssrc.to_be_bytes());
            junk.extend_from_slice(&[0; 16]);
            assert!(theirs.open_rtp(ssrc, &junk).is_err());
        }
        assert_eq!(theirs.others.len(), SSRCS_MAX);
        let mut good = packet(1);
        ours.protect.seal(&mut good, 0, 12, 0).unwrap();
        assert!(theirs.open_rtp(9, &good).is_ok());
    }
}
