//! DTLS of one session (RFC 6347 through `rtc-dtls`): a handshake that ends in SRTP keys, an alert
//! at the end, and between them what data channels say where they were agreed on.
//!
//! The peer is known by the certificate digest of its offer and by nothing else. What a handshake
//! may cost is bounded here in datagrams, since the library buffers fragments generously.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::crypto::{RTCCryptoProvider, default_provider};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::sdp::{Fingerprint, Hash};
use super::srtp;

/// Sends a flight again after this long without an answer; the library gives up after eight.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(400);

/// A client's first flight goes out again at these distances until the server says something:
/// FFmpeg opens its side a few tens of milliseconds after it nominated a pair.
const FIRST_FLIGHT_AGAIN: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(150)];

/// Datagrams of one peer that are looked at, for the handshake and all alerts after it. Those with
/// application data are counted only where none is expected.
const DATAGRAMS_MAX: u32 = 256;

/// Datagrams that the library refuses before the handshake is taken for failed. RFC 6347 4.1.2.7
/// wants invalid ones dropped: whoever can forge an address shall not end a handshake with one.
const REFUSALS_MAX: u32 = 16;

/// Longer datagrams are no DTLS of a WebRTC client, whose flights are cut for 1,200 bytes.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// The content type of application data (RFC 5246 6.2.1), a record's first byte.
const APPLICATION_DATA: u8 = 23;

/// The library tells peers apart by address. Ours may change while the session lives on, so it is
/// given this one.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// This server's certificate, made at start and shared by all sessions.
pub(crate) struct Identity {
    certificate: Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
    fingerprint: String,
}

impl Identity {
    /// Makes a self-signed P-256 certificate.
    pub(crate) fn generate() -> io::Result<Self> {
        let provider = default_provider().map_err(io::Error::other)?;
        let certificate =
            Certificate::generate_self_signed(vec!["millstream".to_owned()], provider.crypto())
                .map_err(io::Error::other)?;
        let der = certificate.certificate.first().map(|der| der.as_ref()).unwrap_or_default();
        let pairs: Vec<_> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Self { fingerprint: pairs.join(":"), certificate, provider })
    }

    /// The SHA-256 digest as `a=fingerprint` writes it.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The cryptography that goes with it.
    pub(crate) fn provider(&self) -> Arc<dyn RTCCryptoProvider> {
        Arc::clone(&self.provider)
    }

    /// What a handshake with the owner of `peer` needs, and whether `data` is exchanged after it.
    ///
    /// # Errors
    /// The library refuses the configuration, which it does for none of ours.
    pub(crate) fn association(
        &self,
        client: bool,
        peer: Fingerprint,
        data: bool,
    ) -> Result<Dtls, Error> {
        let config = ConfigBuilder::default()
            .with_crypto_provider(self.provider())
            .with_certificates(vec![self.certificate.clone()])
            .with_srtp_protection_profiles(srtp::profiles())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // No authority vouches for a browser's certificate; the digest below does.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |chain: &[Vec<u8>], _: &_| {
                let shown = chain.first().ok_or(Error::ErrNoCertificates)?;
                if matches(&peer, shown) { Ok(()) } else { Err(Error::ErrFingerprintMismatch) }
            })))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_flight_interval(FLIGHT_INTERVAL)
            .build(client, None)?;
        let config = Arc::new(config);
        let server = (!client).then(|| Arc::clone(&config));
        Ok(Dtls {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, server),
            client: client.then_some(config),
            we_are_client: client,
            first_flight: Vec::new(),
            again: None,
            repeats: 0,
            datagrams: 0,
            refusals: 0,
            done: false,
            data,
            received: Vec::new(),
        })
    }
}

fn matches(wanted: &Fingerprint, certificate: &[u8]) -> bool {
    match wanted.hash {
        Hash::Sha256 => Sha256::digest(certificate).as_slice() == wanted.digest,
        Hash::Sha384 => Sha384::digest(certificate).as_slice() == wanted.digest,
        Hash::Sha512 => Sha512::digest(certificate).as_slice() == wanted.digest,
    }
}

/// What a datagram led to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing to do but to send what is waiting.
    Going,
    /// The peer is who the offer said; here are the keys.
    Keys { profile: SrtpProtectionProfile, material: Vec<u8> },
    /// The peer said goodbye.
    Closed,
}

/// One association.
pub(crate) struct Dtls {
    endpoint: Endpoint,
    /// Set until a client's handshake has begun.
    client: Option<Arc<rtc_dtls::config::HandshakeConfig>>,
    we_are_client: bool,
    first_flight: Vec<Bytes>,
    again: Option<Instant>,
    repeats: usize,
    datagrams: u32,
    refusals: u32,
    done: bool,
    data: bool,
    received: Vec<BytesMut>,
}

impl Dtls {
    /// Whether we speak first.
    pub(crate) fn we_are_client(&self) -> bool {
        self.we_are_client
    }

    /// Begins a client's handshake; nothing happens the second time or for a server.
    ///
    /// # Errors
    /// The library's.
    pub(crate) fn begin(&mut self, now: Instant) -> Result<(), Error> {
        if let Some(config) = self.client.take() {
            self.endpoint.connect(now, PEER, config, None)?;
            self.again = Some(now + FIRST_FLIGHT_AGAIN[0]);
        }
        Ok(())
    }

    /// Reads a datagram of the peer. One that makes no sense is dropped; an error ends the session.
    ///
    /// # Errors
    /// The handshake failed, or the peer spent its allowance of datagrams before it was through.
    pub(crate) fn read(&mut self, now: Instant, datagram: &[u8]) -> Result<Progress, Error> {
        if datagram.len() > DATAGRAM_BYTES_MAX || self.client.is_some() {
            return Ok(Progress::Going);
        }
        let data = self.done && self.data && datagram.first() == Some(&APPLICATION_DATA);
        self.datagrams = self.datagrams.saturating_add(u32::from(!data));
        if self.datagrams > DATAGRAMS_MAX && !data {
            let spent = || Error::Other(format!("more than {DATAGRAMS_MAX} DTLS datagrams"));
            return if self.done { Ok(Progress::Going) } else { Err(spent()) };
        }
        self.again = None;
        self.first_flight = Vec::new();
        let events = match self.endpoint.read(now, PEER, None, BytesMut::from(datagram)) {
            Ok(events) => events,
            Err(error) => {
                self.refusals += 1;
                let fatal =
                    matches!(error, Error::ErrFingerprintMismatch | Error::ErrNoCertificates);
                let ends = !self.done && (fatal || self.refusals > REFUSALS_MAX);
                return if ends { Err(error) } else { Ok(Progress::Going) };
            }
        };
        let mut progress = Progress::Going;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => progress = self.keys()?,
                EndpointEvent::PeerClosed => return Ok(Progress::Closed),
                EndpointEvent::ApplicationData(data) if self.data => self.received.push(data),
                _ => {}
            }
        }
        Ok(progress)
    }

    fn keys(&mut self) -> Result<Progress, Error> {
        let state = self.endpoint.get_connection_state(PEER).ok_or(Error::HandshakeInProgress)?;
        let profile = state.srtp_protection_profile();
        let length = srtp::material_bytes(profile)
            .ok_or_else(|| Error::Other("the peer chose no SRTP profile of ours".into()))?;
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], length)?;
        self.done = true;
        Ok(Progress::Keys { profile, material: material.as_ref().to_vec() })
    }

    /// The application data of the datagram that was read last.
    pub(crate) fn take_received(&mut self) -> Vec<BytesMut> {
        std::mem::take(&mut self.received)
    }

    /// Queues application data; nothing before the handshake is through.
    pub(crate) fn write(&mut self, now: Instant, data: &[u8]) {
        if self.done {
            // An association that is already gone takes nothing: the session ends with it.
            let _ = self.endpoint.write(now, PEER, data);
        }
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        let datagram = self.endpoint.poll_transmit()?.message.freeze();
        if self.we_are_client && self.datagrams == 0 && self.repeats == 0 {
            self.first_flight.push(datagram.clone());
        }
        Some(datagram)
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let library = if self.done { None } else { self.endpoint.poll_timeout(&PEER) };
        [self.again, library].into_iter().flatten().min()
    }

    /// Sends again what was lost; datagrams to repeat as they were are returned.
    ///
    /// # Errors
    /// The peer was silent for too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<Vec<Bytes>, Error> {
        let mut repeat = Vec::new();
        if self.again.is_some_and(|at| at <= now) {
            self.repeats += 1;
            repeat.clone_from(&self.first_flight);
            self.again = FIRST_FLIGHT_AGAIN.get(self.repeats).map(|&wait| now + wait);
        }
        if !self.done && self.endpoint.poll_timeout(&PEER).is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(PEER, now)?;
        }
        Ok(repeat)
    }

    /// Queues `close_notify`.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.done {
            // An association that is already gone has nothing left to say.
            let _ = self.endpoint.close(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(identity: &Identity) -> Fingerprint {
        let digest: Vec<u8> = identity
            .fingerprint()
            .split(':')
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect();
        Fingerprint { hash: Hash::Sha256, digest }
    }

    /// Carries datagrams between the two until both are silent.
    fn shake(
        client: &mut Dtls,
        server: &mut Dtls,
    ) -> (Result<Progress, Error>, Result<Progress, Error>) {
        let mut now = Instant::now();
        client.begin(now).unwrap();
        let mut ends = (Ok(Progress::Going), Ok(Progress::Going));
        for _ in 0..40 {
            now += Duration::from_millis(20);
            let _ = client.handle_timeout(now);
            let _ = server.handle_timeout(now);
            while let Some(datagram) = client.poll_transmit() {
                let step = server.read(now, &datagram);
                if !matches!(step, Ok(Progress::Going)) && ends.1.is_ok() {
                    ends.1 = step;
                }
            }
            while let Some(datagram) = server.poll_transmit() {
                let step = client.read(now, &datagram);
                if !matches!(step, Ok(Progress::Going)) && ends.0.is_ok() {
                    ends.0 = step;
                }
            }
        }
        ends
    }

    #[test]
    fn both_ends_get_the_same_keys_and_the_better_profile() {
        let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let mut client = a.association(true, print(&b), false).unwrap();
        let mut server = b.association(false, print(&a), false).unwrap();
        let (left, right) = shake(&mut client, &mut server);
        let (Ok(Progress::Keys { profile, material }), Ok(Progress::Keys { material: m, .. })) =
            (left, right)
        else {
            panic!("no keys");
        };
        assert_eq!(profile, SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm);
        assert_eq!(material, m);
        client.close(Instant::now());
        let goodbye = client.poll_transmit().unwrap();
        assert!(matches!(server.read(Instant::now(), &goodbye), Ok(Progress::Closed)));
    }

    #[test]
    fn a_certificate_with_another_fingerprint_gets_no_keys() {
        let (a, b, other) = (
            Identity::generate().unwrap(),
            Identity::generate().unwrap(),
            Identity::generate().unwrap(),
        );
        for (expected_of_a, expected_of_b) in [(&other, &b), (&a, &other)] {
            let mut client = a.association(true, print(expected_of_b), false).unwrap();
            let mut server = b.association(false, print(expected_of_a), false).unwrap();
            let (left, right) = shake(&mut client, &mut server);
            let cheated_client = std::ptr::eq(expected_of_b, &other);
            let step = if cheated_client { left } else { right };
            assert!(step.is_err(), "{step:?}");
        }
    }

    #[test]
    fn junk_ends_after_an_allowance() {
        let identity = Identity::generate().unwrap();
        let mut server = identity.association(false, print(&identity), false).unwrap();
        let now = Instant::now();
        let ended = (0..300_u32).any(|count| {
            let mut junk = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40];
            junk.resize(53, count as u8);
            while server.poll_transmit().is_some() {}
            server.read(now, &junk).is_err()
        });
        assert!(ended);
    }
}
