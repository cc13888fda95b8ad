//! The other side of a session, made of the same parts: offers, checks, the DTLS client and SRTP,
//! each step on its own so that tests can leave one out or do it wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_srtp::context::Context;
use rtc_srtp::crypto::{RTCCryptoProvider, default_provider};
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Mutex;

/// Longer waits mean that the server does not answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a test listens for what must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

const SELF: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

pub(crate) struct Peer {
    pub(crate) socket: UdpSocket,
    /// Where it is set, everything goes over this connection.
    pub(crate) tcp: Option<Mutex<TcpStream>>,
    pub(crate) server: SocketAddr,
    pub(crate) ufrag: String,
    pub(crate) password: String,
    pub(crate) answer: String,
    pub(crate) ssrc: u32,
    certificate: Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
    dtls: Option<Endpoint>,
    srtp: Option<(Context, Context)>,
}

impl Peer {
    pub(crate) async fn new() -> Self {
        let provider = default_provider().unwrap();
        let certificate =
            Certificate::generate_self_signed(vec!["peer".into()], provider.crypto()).unwrap();
        Self {
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            tcp: None,
            server: SELF,
            ufrag: format!("peer{}", rand::random::<u16>()),
            password: "the password of the peer".replace(' ', "-"),
            answer: String::new(),
            ssrc: rand::random(),
            certificate,
            provider,
            dtls: None,
            srtp: None,
        }
    }

    fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.certificate.certificate[0]);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    }

    /// An offer of H.264 with retransmission and Opus; `direction` as seen from here.
    pub(crate) fn offer(&self, direction: &str) -> String {
        let (ufrag, password, print) = (&self.ufrag, &self.password, self.fingerprint());
        let ssrc = self.ssrc;
        let common = format!(
            "c=IN IP4 0.0.0.0\r\na={direction}\r\na=rtcp-mux\r\na=ice-ufrag:{ufrag}\r\n\
             a=ice-pwd:{password}\r\na=fingerprint:sha-256 {print}\r\na=setup:actpass\r\n"
        );
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v a d\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{common}a=mid:v\r\na=rtpmap:96 H264/90000\r\n\
             a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\na=rtcp-fb:96 nack\r\n\
             a=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 goog-remb\r\na=rtpmap:97 rtx/90000\r\n\
             a=fmtp:97 apt=96\r\na=ssrc:{ssrc} cname:peer\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{common}a=mid:a\r\n\
             a=rtpmap:111 opus/48000/2\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:d\r\n"
        )
    }

    /// Takes the answer's address.
    pub(crate) fn answered(&mut self, answer: String) {
        let candidate = answer.lines().find(|line| line.starts_with("a=candidate")).unwrap();
        let words: Vec<&str> = candidate.split(' ').collect();
        let ip: std::net::IpAddr = words[4].parse().unwrap();
        self.server = SocketAddr::new(ip, words[5].parse().unwrap());
        self.answer = answer;
    }

    /// A line of the answer after `name`.
    pub(crate) fn answer_value(&self, name: &str) -> &str {
        let line = self.answer.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.answer))
    }

    pub(crate) fn check_with(&self, username: &str, password: &str, nominate: bool) -> Vec<u8> {
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, username.into())),
            Box::new(RawAttribute { typ: ATTR_ICE_CONTROLLING, length: 8, value: vec![1; 8] }),
        ];
        if nominate {
            setters.push(Box::new(RawAttribute {
                typ: ATTR_USE_CANDIDATE,
                length: 0,
                value: vec![],
            }));
        }
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password.into(),
            self.provider.crypto(),
        )));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    /// A check that nominates.
    pub(crate) fn check(&self) -> Vec<u8> {
        let ours = self.answer_value("a=ice-ufrag:");
        self.check_with(&format!("{ours}:{}", self.ufrag), self.answer_value("a=ice-pwd:"), true)
    }

    pub(crate) async fn send(&self, datagram: &[u8]) {
        if let Some(tcp) = &self.tcp {
            let mut framed = (datagram.len() as u16).to_be_bytes().to_vec();
            framed.extend_from_slice(datagram);
            // A connection that the server has closed takes nothing.
            let _ = tcp.lock().await.write_all(&framed).await;
            return;
        }
        self.socket.send_to(datagram, self.server).await.unwrap();
    }

    /// Connects by TCP to the answer's candidate of that kind.
    pub(crate) async fn use_tcp(&mut self) {
        let line = self.answer.lines().find(|line| line.ends_with("tcptype passive")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let address: SocketAddr = format!("{}:{}", words[4], words[5]).parse().unwrap();
        self.tcp = Some(Mutex::new(TcpStream::connect(address).await.unwrap()));
    }

    /// Moves to another local address of the same family.
    pub(crate) async fn move_away(&mut self) -> UdpSocket {
        let mut local = self.socket.local_addr().unwrap();
        local.set_port(0);
        std::mem::replace(&mut self.socket, UdpSocket::bind(local).await.unwrap())
    }

    /// The next datagram, or `None` after `limit`.
    pub(crate) async fn receive(&self, limit: Duration) -> Option<Vec<u8>> {
        if let Some(tcp) = &self.tcp {
            let mut tcp = tcp.lock().await;
            let read = async {
                let mut datagram = vec![0; usize::from(tcp.read_u16().await.ok()?)];
                tcp.read_exact(&mut datagram).await.ok()?;
                Some(datagram)
            };
            return tokio::time::timeout(limit, read).await.ok()?;
        }
        let mut buffer = vec![0; 2048];
        let got = tokio::time::timeout(limit, self.socket.recv_from(&mut buffer)).await.ok()?;
        buffer.truncate(got.unwrap().0);
        Some(buffer)
    }

    /// Checks until the server answers.
    pub(crate) async fn ice(&self) {
        let check = self.check();
        self.send(&check).await;
        loop {
            let datagram = self.receive(PATIENCE).await.expect("an answer to the check");
            // Media goes to a nominated address at once: a report that is just due may come first,
            // from one worker, while another has yet to pass the answer on.
            if datagram[0] < 4 {
                return assert!(is_success(&datagram));
            }
        }
    }

    /// One step of the DTLS client: sends what is waiting, reads one datagram. True when done.
    pub(crate) async fn dtls_step(&mut self, limit: Duration) -> bool {
        if self.dtls.is_none() {
            let config = ConfigBuilder::default()
                .with_crypto_provider(Arc::clone(&self.provider))
                .with_certificates(vec![self.certificate.clone()])
                .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .build(true, None)
                .unwrap();
            let mut endpoint = Endpoint::new(SELF, TransportProtocol::UDP, None);
            endpoint.connect(Instant::now(), SELF, Arc::new(config), None).unwrap();
            self.dtls = Some(endpoint);
        }
        let endpoint = self.dtls.as_mut().unwrap();
        // As every client does, it sends again what may have been lost.
        if endpoint.poll_timeout(&SELF).is_some_and(|at| at <= Instant::now()) {
            // Nothing comes of it where the server has ended the handshake.
            let _ = endpoint.handle_timeout(SELF, Instant::now());
        }
        self.flush_dtls().await;
        let Some(datagram) = self.receive(limit).await else { return false };
        if !(20..64).contains(&datagram[0]) {
            return false;
        }
        let endpoint = self.dtls.as_mut().unwrap();
        let events = endpoint.read(Instant::now(), SELF, None, BytesMut::from(&datagram[..]));
        self.flush_dtls().await;
        events.is_ok_and(|events| {
            events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete))
        })
    }

    async fn flush_dtls(&mut self) {
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.dtls.as_mut().and_then(Endpoint::poll_transmit) {
            datagrams.push(transmit.message);
        }
        for datagram in datagrams {
            self.send(&datagram).await;
        }
    }

    /// Sends what a data channel says.
    pub(crate) async fn send_data(&mut self, data: &[u8]) {
        self.dtls.as_mut().unwrap().write(Instant::now(), SELF, data).unwrap();
        self.flush_dtls().await;
    }

    /// What came for a data channel within `limit`; everything else is passed over.
    pub(crate) async fn data(&mut self, limit: Duration) -> Vec<Vec<u8>> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(datagram) = self.receive(left).await else { return Vec::new() };
            if !(20..64).contains(&datagram[0]) {
                continue;
            }
            let dtls = self.dtls.as_mut().unwrap();
            let events = dtls.read(Instant::now(), SELF, None, BytesMut::from(&datagram[..]));
            let data: Vec<Vec<u8>> = events
                .into_iter()
                .flatten()
                .filter_map(|event| match event {
                    EndpointEvent::ApplicationData(data) => Some(data.to_vec()),
                    _ => None,
                })
                .collect();
            if !data.is_empty() {
                return data;
            }
        }
    }

    /// The whole handshake. False when the server does not go through with it.
    pub(crate) async fn dtls(&mut self) -> bool {
        for _ in 0..20 {
            if self.dtls_step(Duration::from_millis(700)).await {
                self.keys();
                return true;
            }
        }
        false
    }

    fn keys(&mut self) {
        let state = self.dtls.as_ref().unwrap().get_connection_state(SELF).unwrap();
        assert_eq!(state.srtp_protection_profile(), SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm);
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 56).unwrap();
        let m = material.as_ref();
        let context = |key: &[u8], salt: &[u8]| {
            let replay = (srtp_replay_protection(64), srtcp_replay_protection(64));
            let profile = ProtectionProfile::AeadAes128Gcm;
            let crypto = self.provider.crypto();
            Context::new(key, salt, profile, Some(replay.0), Some(replay.1), crypto).unwrap()
        };
        self.srtp = Some((context(&m[..16], &m[32..44]), context(&m[16..32], &m[44..])));
    }

    /// Checks and handshake.
    pub(crate) async fn connect(&mut self) {
        self.ice().await;
        assert!(self.dtls().await, "the handshake did not end");
    }

    /// The next RTP or RTCP packet in the clear; others are passed over.
    pub(crate) async fn media(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        loop {
            let datagram = self.receive(end.saturating_duration_since(Instant::now())).await?;
            if let Some(plain) = self.open(&datagram) {
                return Some(plain);
            }
        }
    }

    /// Decrypts one datagram; `None` if it is no authentic RTP or RTCP.
    pub(crate) fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (_, inbound) = self.srtp.as_mut()?;
        let plain = match datagram {
            [128..=191, 192..=223, ..] => inbound.decrypt_rtcp(datagram),
            [128..=191, ..] => inbound.decrypt_rtp(datagram),
            _ => return None,
        };
        Some(plain.expect("an authentic packet").to_vec())
    }

    /// The next RTP packet of a payload type.
    pub(crate) async fn rtp(&mut self, payload_type: u8, limit: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        loop {
            let packet = self.media(end.saturating_duration_since(Instant::now())).await?;
            if packet[1] & 0x7f == payload_type {
                return Some(packet);
            }
        }
    }

    pub(crate) async fn send_rtp(&mut self, packet: &[u8]) {
        let sealed = self.srtp.as_mut().unwrap().0.encrypt_rtp(packet).unwrap();
        self.send(&sealed).await;
    }

    pub(crate) async fn send_rtcp(&mut self, packet: &[u8]) {
        let sealed = self.srtp.as_mut().unwrap().0.encrypt_rtcp(packet).unwrap();
        self.send(&sealed).await;
    }
}

/// Whether a datagram is a success response.
pub(crate) fn is_success(datagram: &[u8]) -> bool {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).is_ok() && message.typ == BINDING_SUCCESS
}
