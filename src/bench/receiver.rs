//! A bare WHEP viewer: it offers H.264, checks, shakes hands, and then only notes when the last
//! packet of each picture came. RTP's header stays in the clear under SRTP, and it holds all that
//! is asked here, so that nothing is decrypted or decoded and the viewer costs next to nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use parking_lot::Mutex;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_srtp::crypto::{RTCCryptoProvider, default_provider};
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;
use sha2::{Digest as _, Sha256};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::rig::STREAM;
use crate::hops::{Hop, Row};

/// The payload type that H.264 is offered under.
const H264: u8 = 96;

/// How long the handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// A check, and lost parts of the handshake, are sent again after this.
const AGAIN: Duration = Duration::from_millis(250);

/// How often the server hears that somebody is still here; it waits 30 s.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Largest datagram.
const DATAGRAM_BYTES: usize = 2048;

/// A picture that came in whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    /// RTP's time stamp.
    timestamp: u32,
    /// When its last packet was read, in nanoseconds of the system's clock.
    at_ns: u64,
}

/// The running viewer. Dropping it ends it.
pub(super) struct Receiver {
    pictures: Arc<Mutex<Vec<Picture>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Watches a WHEP address from now on.
    pub(super) async fn attach(whep: &str) -> Result<Self> {
        let mut session = Session::negotiate(whep).await?;
        let shaken = tokio::time::timeout(HANDSHAKE_LIMIT, session.shake_hands()).await;
        shaken.context("the handshake with the server did not end")??;
        let pictures = Arc::<Mutex<Vec<Picture>>>::default();
        let noting = Arc::clone(&pictures);
        let task = tokio::spawn(async move {
            // An error here is the end of the socket: the run then lacks pictures and says so.
            let _ = session.listen(&noting).await;
        });
        Ok(Self { pictures, task })
    }

    /// What came so far.
    pub(super) fn pictures(&self) -> Vec<Picture> {
        self.pictures.lock().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rows for pictures that came. RTP's clock is the source's with another zero, which is found by
/// pairing each picture with the newest frame that had left by then and taking what most say.
pub(super) fn rows(pictures: &[Picture], trace: &[Row]) -> Vec<Row> {
    let mut left: Vec<&Row> = trace.iter().filter(|row| row.hop == Hop::Splice).collect();
    left.sort_by_key(|row| row.at_ns);
    let mut votes = std::collections::HashMap::<u32, usize>::new();
    for picture in pictures {
        let before = left.partition_point(|row| row.at_ns <= picture.at_ns);
        if let Some(row) = before.checked_sub(1).map(|place| left[place]) {
            *votes.entry(picture.timestamp.wrapping_sub(row.pts as u32)).or_default() += 1;
        }
    }
    let Some((&zero, _)) = votes.iter().max_by_key(|(_, votes)| **votes) else { return Vec::new() };
    let names: std::collections::HashMap<u32, i64> =
        left.iter().map(|row| (row.pts as u32, row.pts)).collect();
    let named = pictures.iter().filter_map(|picture| {
        let pts = *names.get(&picture.timestamp.wrapping_sub(zero))?;
        Some(Row { pts, hop: Hop::Egress, at_ns: picture.at_ns, took_ns: 0 })
    });
    named.collect()
}

struct Session {
    socket: UdpSocket,
    server: SocketAddr,
    provider: Arc<dyn RTCCryptoProvider>,
    dtls: Endpoint,
    /// User name and password of checks.
    user: String,
    password: String,
}

impl Session {
    async fn negotiate(whep: &str) -> Result<Self> {
        let provider = default_provider().context("no cryptography for WebRTC")?;
        let certificate =
            Certificate::generate_self_signed(vec![STREAM.to_owned()], provider.crypto())?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let ufrag = format!("{:08x}", rand::random::<u32>());
        let password = format!("{:032x}", rand::random::<u128>());
        let offer = offer(&ufrag, &password, &certificate);
        let request = crate::http_client()?.post(whep);
        let request = request.header("content-type", "application/sdp").body(offer);
        let response = request.send().await.context("WHEP")?;
        let status = response.status();
        let answer = response.text().await?;
        ensure!(status.is_success(), "WHEP: {status} {answer}");

        let value = |name: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(name));
            line.with_context(|| format!("no {name} in the answer"))
        };
        let candidate: Vec<&str> = value("a=candidate:")?.split(' ').collect();
        let [_, _, _, _, host, port, ..] = candidate[..] else { bail!("a short candidate") };
        let server = SocketAddr::new(host.parse()?, port.parse()?);
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&provider))
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            // The server is a child of this process, found on loopback.
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, None)?;
        let mut dtls = Endpoint::new(socket.local_addr()?, TransportProtocol::UDP, None);
        dtls.connect(Instant::now(), server, Arc::new(config), None)?;
        let user = format!("{}:{ufrag}", value("a=ice-ufrag:")?);
        let password = value("a=ice-pwd:")?.to_owned();
        Ok(Self { socket, server, provider, dtls, user, password })
    }

    /// A check that nominates (RFC 8445 7.2.2).
    fn check(&self) -> Result<Vec<u8>> {
        let attribute = |typ, value: Vec<u8>| {
            Box::new(RawAttribute { typ, length: value.len() as u16, value }) as Box<dyn Setter>
        };
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
            self.password.clone(),
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
        Ok(message.raw)
    }

    /// ICE and the DTLS client's side until the server takes the keys.
    async fn shake_hands(&mut self) -> Result<()> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let check = self.check()?;
            self.socket.send_to(&check, self.server).await?;
            self.flush().await?;
            let end = tokio::time::Instant::now() + AGAIN;
            while let Ok(got) =
                tokio::time::timeout_at(end, self.socket.recv_from(&mut buffer)).await
            {
                let (length, _) = got?;
                let datagram = &buffer[..length];
                // RFC 7983: these first bytes are DTLS.
                if !datagram.first().is_some_and(|first| (20..64).contains(first)) {
                    continue;
                }
                let datagram = BytesMut::from(datagram);
                let events = self.dtls.read(Instant::now(), self.server, None, datagram)?;
                self.flush().await?;
                if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
                    return Ok(());
                }
            }
            self.dtls.handle_timeout(self.server, Instant::now())?;
        }
    }

    async fn flush(&mut self) -> Result<()> {
        while let Some(transmit) = self.dtls.poll_transmit() {
            self.socket.send_to(&transmit.message, self.server).await?;
        }
        Ok(())
    }

    async fn listen(&mut self, pictures: &Mutex<Vec<Picture>>) -> Result<()> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let mut alive = tokio::time::interval(CHECK_EVERY);
        loop {
            let (length, _) = tokio::select! {
                got = self.socket.recv_from(&mut buffer) => got?,
                _ = alive.tick() => {
                    let check = self.check()?;
                    self.socket.send_to(&check, self.server).await?;
                    continue;
                }
            };
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if let Some(timestamp) = end_of_picture(&buffer[..length]) {
                pictures.lock().push(Picture { timestamp, at_ns: since.as_nanos() as u64 });
            }
        }
    }
}

/// The time stamp of the picture whose last packet this is (RFC 3550 5.1, RFC 6184 5.1).
fn end_of_picture(datagram: &[u8]) -> Option<u32> {
    let [first, second, _, _, a, b, c, d, ..] = *datagram else { return None };
    let last = first >> 6 == 2 && second == 0x80 | H264;
    last.then(|| u32::from_be_bytes([a, b, c, d]))
}

fn offer(ufrag: &str, password: &str, certificate: &Certificate) -> String {
    let digest = Sha256::digest(&certificate.certificate[0]);
    let print: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let print = print.join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF {H264}\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\na=rtcp-mux\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=fingerprint:sha-256 {print}\r\n\
         a=setup:actpass\r\na=mid:v\r\na=rtpmap:{H264} H264/90000\r\n\
         a=fmtp:{H264} packetization-mode=1;profile-level-id=42e01f\r\n\
         a=rtcp-fb:{H264} nack pli\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_named_by_the_time_stamps_that_most_agree_on() {
        const MS: u64 = 1_000_000;
        let splice = |n: u64| Row {
            pts: n as i64 * 3000,
            hop: Hop::Splice,
            at_ns: 1000 * MS + n * 33 * MS,
            took_ns: 0,
        };
        let trace: Vec<Row> = (0..30).map(splice).collect();
        let zero = u32::MAX - 10_000;
        // The third one comes so late that the next frame has left already.
        let seen = |n: u64| Picture {
            timestamp: zero.wrapping_add(n as u32 * 3000),
            at_ns: 1000 * MS + n * 33 * MS + if n == 3 { 40 } else { 2 } * MS,
        };
        let pictures: Vec<Picture> = (0..30).map(seen).collect();
        let rows = rows(&pictures, &trace);
        let names: Vec<i64> = rows.iter().map(|row| row.pts).collect();
        assert_eq!(names, (0..30).map(|n| n * 3000).collect::<Vec<_>>());
    }

    #[test]
    fn only_the_marked_packet_of_a_picture_ends_it() {
        let packet = |marker: u8| [0x90, marker | H264, 0, 1, 0, 0, 0x12, 0x34, 9, 9, 9, 9];
        assert_eq!(end_of_picture(&packet(0x80)), Some(0x1234));
        assert_eq!(end_of_picture(&packet(0)), None);
        assert_eq!(end_of_picture(&[0x16, 0xfe]), None);
    }
}
