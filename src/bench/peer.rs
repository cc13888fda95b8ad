//! A light WebRTC client of either direction: it offers, checks and shakes hands for real, hands out
//! the SRTP keys and leaves media to its owner. No tasks and no socket of its own: datagrams go in
//! and out, so thousands share a thread. [`connect`] is for those who want a socket for one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_srtp::context::Context as Srtp;
use rtc_srtp::crypto::{RTCCryptoProvider, default_provider};
use rtc_srtp::protection_profile::ProtectionProfile;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId, is_stun_message,
};
use rtc_stun::textattrs::TextAttribute;
use rtc_stun::xoraddr::XorMappedAddress;
use sha2::{Digest as _, Sha256};
use tokio::net::UdpSocket;

/// The payload type that H.264 is offered under.
pub(super) const H264: u8 = 96;

/// The payload type of pictures sent again (RFC 4588).
const RTX: u8 = 97;

/// The payload type that Opus is offered under.
pub(super) const OPUS: u8 = 111;

/// The header extension number of transport-wide sequence numbers in our offers.
pub(super) const TRANSPORT_CC: u8 = 3;

/// A check, and lost parts of the handshake, are sent again after this.
pub(super) const AGAIN: Duration = Duration::from_millis(250);

/// How often the server hears that somebody is still here; it waits 30 s.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(4);

/// How long a handshake may take.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);

/// Largest datagram.
pub(super) const DATAGRAM_BYTES: usize = 2048;

/// What all clients of a run share.
#[derive(Clone)]
pub(super) struct Identity {
    certificate: Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
    print: String,
}

impl Identity {
    /// Makes a certificate.
    pub(super) fn generate() -> Result<Self> {
        let provider = default_provider().context("no cryptography for WebRTC")?;
        let names = vec!["bench".to_owned()];
        let certificate = Certificate::generate_self_signed(names, provider.crypto())?;
        let digest = Sha256::digest(&certificate.certificate[0]);
        let print: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Self { certificate, provider, print: print.join(":") })
    }
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wants {
    /// To publish, with these SSRCs of picture and sound; else to watch.
    pub(super) publish: Option<[u32; 2]>,
    /// Sound beside the picture.
    pub(super) audio: bool,
    /// To report on each packet.
    pub(super) feedback: bool,
}

/// What a datagram was.
pub(super) enum Read {
    /// A check, an answer, or part of the handshake; there may be something to send now.
    Transport,
    /// The handshake is through: the keys of this end and of the server.
    Connected(Box<Keys>),
    /// RTP or RTCP.
    Media,
}

/// SRTP both ways.
pub(super) struct Keys {
    /// For what is sent.
    pub(super) ours: Srtp,
    /// For what comes.
    pub(super) theirs: Srtp,
}

/// One client.
pub(super) struct Peer {
    /// Where it talks to.
    pub(super) server: SocketAddr,
    provider: Arc<dyn RTCCryptoProvider>,
    /// Until the keys are out.
    dtls: Option<Endpoint>,
    /// User name and passwords of checks.
    user: String,
    their_password: String,
    own_password: String,
    out: Vec<Vec<u8>>,
}

impl Peer {
    /// Offers to a WHIP or WHEP address and reads the answer.
    ///
    /// # Errors
    /// The server refuses, or its answer lacks what is needed.
    pub(super) async fn negotiate(
        client: &reqwest::Client,
        url: &str,
        identity: &Identity,
        wants: Wants,
    ) -> Result<Self> {
        let ufrag = format!("{:08x}", rand::random::<u32>());
        let own_password = format!("{:032x}", rand::random::<u128>());
        let offer = offer(&ufrag, &own_password, &identity.print, wants);
        let request = client.post(url).header("content-type", "application/sdp").body(offer);
        let response = request.send().await.with_context(|| url.to_owned())?;
        let status = response.status();
        let answer = response.text().await?;
        ensure!(status.is_success(), "{url}: {status} {answer}");

        let value = |name: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(name));
            line.with_context(|| format!("no {name} in the answer"))
        };
        let server = candidate(&answer)?;
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&identity.provider))
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            // The server is named by its user, on this machine.
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, None)?;
        let mut dtls = Endpoint::new(server, TransportProtocol::UDP, None);
        dtls.connect(Instant::now(), server, Arc::new(config), None)?;
        Ok(Self {
            server,
            provider: Arc::clone(&identity.provider),
            dtls: Some(dtls),
            user: format!("{}:{ufrag}", value("a=ice-ufrag:")?),
            their_password: value("a=ice-pwd:")?.to_owned(),
            own_password,
            out: Vec::new(),
        })
    }

    /// Queues a check that nominates (RFC 8445 7.2.2).
    ///
    /// # Errors
    /// Hashing fails.
    pub(super) fn check(&mut self) -> Result<()> {
        let attribute = |typ, value: Vec<u8>| {
            Box::new(RawAttribute { typ, length: value.len() as u16, value }) as Box<dyn Setter>
        };
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
            self.their_password.clone(),
            self.provider.crypto(),
        );
        let setters: [Box<dyn Setter + '_>; 7] = [
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, self.user.clone())),
            attribute(ATTR_ICE_CONTROLLING, vec![1; 8]),
            attribute(ATTR_USE_CANDIDATE, Vec::new()),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ];
        let mut message = Message::new();
        message.build(&setters)?;
        self.out.push(message.raw);
        Ok(())
    }

    /// Checks, and sends again what was lost of the handshake.
    ///
    /// # Errors
    /// The server was silent for too long.
    pub(super) fn again(&mut self, now: Instant) -> Result<()> {
        self.check()?;
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(self.server, now)?;
            while let Some(transmit) = dtls.poll_transmit() {
                self.out.push(transmit.message.to_vec());
            }
        }
        Ok(())
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// The handshake failed.
    pub(super) fn read(&mut self, now: Instant, datagram: &[u8]) -> Result<Read> {
        // RFC 7983: what it is by its first byte.
        match datagram.first() {
            Some(0..=3) => {
                if is_stun_message(datagram) {
                    self.answer(datagram)?;
                }
                Ok(Read::Transport)
            }
            Some(20..=63) => self.shake_hands(now, datagram),
            Some(128..=191) => Ok(Read::Media),
            _ => Ok(Read::Transport),
        }
    }

    /// Answers a check of the server; one that is not lite makes its own.
    fn answer(&mut self, datagram: &[u8]) -> Result<()> {
        let mut request = Message::new();
        request.unmarshal_binary(datagram)?;
        if request.typ != BINDING_REQUEST {
            return Ok(());
        }
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
            self.own_password.clone(),
            self.provider.crypto(),
        );
        let address = XorMappedAddress { ip: self.server.ip(), port: self.server.port() };
        let mut answer = Message::new();
        answer.build(&[
            Box::new(BINDING_SUCCESS),
            Box::new(request.transaction_id),
            Box::new(address),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ])?;
        self.out.push(answer.raw);
        Ok(())
    }

    fn shake_hands(&mut self, now: Instant, datagram: &[u8]) -> Result<Read> {
        let Some(dtls) = &mut self.dtls else { return Ok(Read::Transport) };
        let events = dtls.read(now, self.server, None, BytesMut::from(datagram))?;
        while let Some(transmit) = dtls.poll_transmit() {
            self.out.push(transmit.message.to_vec());
        }
        if !events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
            return Ok(Read::Transport);
        }
        let profile = ProtectionProfile::AeadAes128Gcm;
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let state = dtls.get_connection_state(self.server).context("no DTLS association")?;
        let material =
            state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key + salt))?;
        let material = material.as_ref();
        // RFC 5764 4.2: client key, server key, client salt, server salt.
        let (keys, salts) = material.split_at(2 * key);
        let crypto = self.provider.crypto();
        let ours = Srtp::new(&keys[..key], &salts[..salt], profile, None, None, crypto)?;
        let theirs = Srtp::new(&keys[key..], &salts[salt..], profile, None, None, crypto)?;
        self.dtls = None;
        Ok(Read::Connected(Box::new(Keys { ours, theirs })))
    }

    /// What is to be sent now, all at once.
    pub(super) fn take_out(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }
}

/// Shakes hands on a socket of its own.
pub(super) async fn connect(mut peer: Peer) -> Result<(UdpSocket, Peer, Box<Keys>)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let end = tokio::time::Instant::now() + HANDSHAKE_LIMIT;
    while tokio::time::Instant::now() < end {
        peer.again(Instant::now())?;
        let again = tokio::time::Instant::now() + AGAIN;
        loop {
            for datagram in peer.take_out() {
                socket.send_to(&datagram, peer.server).await?;
            }
            let got = tokio::time::timeout_at(again, socket.recv_from(&mut buffer)).await;
            let Ok(got) = got else { break };
            let (length, _) = got?;
            if let Read::Connected(keys) = peer.read(Instant::now(), &buffer[..length])? {
                for datagram in peer.take_out() {
                    socket.send_to(&datagram, peer.server).await?;
                }
                return Ok((socket, peer, keys));
            }
        }
    }
    bail!("the handshake did not end")
}

/// The first UDP candidate of an answer that can be reached from here.
fn candidate(answer: &str) -> Result<SocketAddr> {
    for line in answer.lines().filter_map(|line| line.strip_prefix("a=candidate:")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, component, protocol, _, host, port, ..] = fields[..] else {
            bail!("a short candidate: {line}")
        };
        let host: std::net::IpAddr = host.parse().with_context(|| line.to_owned())?;
        if component == "1" && protocol.eq_ignore_ascii_case("udp") && host.is_ipv4() {
            return Ok(SocketAddr::new(host, port.parse()?));
        }
    }
    bail!("no candidate for UDP over IPv4 in the answer")
}

fn offer(ufrag: &str, password: &str, print: &str, wants: Wants) -> String {
    let direction = if wants.publish.is_some() { "sendonly" } else { "recvonly" };
    let bundle = if wants.audio { "0 1" } else { "0" };
    let mut offer = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {bundle}\r\n\
         a=msid-semantic: WMS *\r\n"
    );
    let extension =
        format!("a=extmap:{TRANSPORT_CC} {}\r\n", ingest::rtp::packet::TRANSPORT_CC_URI);
    for (mid, kind) in ["video", "audio"].into_iter().enumerate() {
        if kind == "audio" && !wants.audio {
            continue;
        }
        let (format, lines) = match kind {
            "video" => (
                H264,
                format!(
                    "a=rtpmap:{H264} H264/90000\r\n\
                     a=fmtp:{H264} level-asymmetry-allowed=1;packetization-mode=1;\
                     profile-level-id=42e01f\r\na=rtcp-fb:{H264} nack\r\n\
                     a=rtcp-fb:{H264} nack pli\r\na=rtpmap:{RTX} rtx/90000\r\n\
                     a=fmtp:{RTX} apt={H264}\r\n"
                ),
            ),
            _ => (
                OPUS,
                format!(
                    "a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"
                ),
            ),
        };
        let formats = if format == H264 { format!("{H264} {RTX}") } else { format.to_string() };
        offer.push_str(&format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n\
             a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=ice-ufrag:{ufrag}\r\n\
             a=ice-pwd:{password}\r\na=fingerprint:sha-256 {print}\r\na=setup:active\r\n{lines}"
        ));
        if wants.feedback {
            offer.push_str(&format!("a=rtcp-fb:{format} transport-cc\r\n{extension}"));
        }
        if let Some(ssrcs) = wants.publish {
            let ssrc = ssrcs[mid];
            offer.push_str(&format!(
                "a=msid:bench {kind}\r\na=ssrc:{ssrc} cname:bench\r\n\
                 a=ssrc:{ssrc} msid:bench {kind}\r\n"
            ));
        }
    }
    offer
}
