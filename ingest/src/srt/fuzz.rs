//! What the fuzzer drives: the handshake, an established connection in any state, and stream ids.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::accept::{Door, Knock, Offer};
use super::connection::{Connection, Terms};
use super::crypto::{Crypto, KeyLength};
use super::handshake::{CONCLUSION, Handshake};
use super::streamid::StreamId;
use super::wire::{HEADER_BYTES, Seq};

/// A caller's request as it comes in; its cookie is put right, so that what is behind it is reached.
pub(crate) fn handshake(bytes: &[u8]) {
    let now = Instant::now();
    let from = ([192, 0, 2, 1], 4000).into();
    let door = Door::new(now, &[1; 32], 9);
    let mut request = bytes.to_vec();
    if let Knock::Answer(answer) = door.handle(now, from, &INDUCTION)
        && request.len() >= HEADER_BYTES + 32
        && let Ok(answer) = Handshake::parse(&answer[HEADER_BYTES..])
    {
        request[HEADER_BYTES + 28..HEADER_BYTES + 32].copy_from_slice(&answer.cookie.to_be_bytes());
    }
    if let Knock::Wish(wish) = door.handle(now, from, &request) {
        let _ = StreamId::parse(wish.stream_id(), None);
        // Trying a passphrase takes a thousand times as long as reading the rest.
        let tries = bytes.last().is_some_and(|last| last % 16 == 0);
        let passphrase = tries.then(|| Some("a long passphrase".to_owned()));
        for passphrase in [Some(None), passphrase].into_iter().flatten() {
            let offer = Offer {
                local: 5,
                passphrase,
                key_length: None,
                latency: Duration::from_millis(120),
                window: 64,
                bytes_per_second: 0,
                idle_timeout: Duration::from_secs(5),
                seed: [3; 32],
            };
            if let Ok((terms, answer)) = wish.agree(now, &offer) {
                assert!(
                    Handshake::parse(&answer[HEADER_BYTES..]).is_ok_and(|a| a.kind == CONCLUSION)
                );
                let mut connection = Connection::new(now, terms);
                connection.handle(now, BytesMut::from(bytes));
            }
        }
    }
}

/// Datagrams to a connection that sends and receives, each with its length in front, time passing
/// between them: control packets and data, in any order.
pub(crate) fn connection(bytes: &[u8]) {
    let Some((settings, mut rest)) = bytes.split_first() else { return };
    let start = Instant::now();
    let secret = settings & 1 != 0;
    let terms = Terms {
        local: 1,
        peer: 2,
        epoch: start,
        first: Seq::new(0x7FFF_FFF0),
        peer_window: 64,
        window: 64,
        latency_in: Duration::from_millis(120),
        latency_out: Duration::from_millis(120),
        bytes_per_second: u64::from(settings & 2) * 100_000,
        idle_timeout: Duration::from_secs(5),
        crypto: secret.then(|| Crypto::make("a long passphrase", KeyLength::Aes128, &[7; 48])),
        seed: [3; 32],
    };
    let mut connection = Connection::new(start, terms);
    let (mut now, mut out) = (start, Vec::new());
    while let Some(([high, low, wait], behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]) & 0x7FF).min(behind.len());
        let (datagram, behind) = behind.split_at(length);
        rest = behind;
        now += Duration::from_millis(u64::from(*wait));
        let mut datagram = BytesMut::from(datagram);
        if datagram.len() >= HEADER_BYTES {
            datagram[12..16].copy_from_slice(&[0, 0, 0, 1]);
        }
        connection.handle(now, datagram);
        connection.write(now, vec![0x47; 188].into());
        if now >= connection.next_timeout() {
            connection.handle_timeout(now);
        }
        while connection.transmit(now, &mut out) {}
        while connection.read(now).is_some() {}
        let stats = connection.statistics(now);
        assert!(stats.packets_receive_buf <= 64 && stats.packets_send_buf <= 64);
    }
}

/// A stream id.
pub(crate) fn stream_id(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = StreamId::parse(text, None);
    }
}

/// A first request.
const INDUCTION: [u8; 64] = {
    let mut request = [0; 64];
    request[0] = 0x80;
    request[19] = 4;
    request[23] = 2;
    request[39] = 1;
    request[43] = 77;
    request
};

pub(crate) const HANDSHAKE_SEEDS: &[&[u8]] = &[
    &INDUCTION,
    b"\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\x05\0\0\0\x07\0\0\x05\xdc\0\0\x20\0\xff\xff\xff\xff\0\0\0\x4d\0\0\0\0\x01\0\0\x7f\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x03\0\x01\x05\x01\0\0\0\xbf\0\x78\0\x78\0\x05\0\x03lbupehsimac:",
    b"\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\x02\0\x03\0\0\0\x07\0\0\x05\xdc\0\0\x20\0\xff\xff\xff\xff\0\0\0\x4d\0\0\0\0\x01\0\0\x7f\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x03\0\x01\x05\x01\0\0\0\xbf\0\x78\0\x78\0\x03\0\x0e\x12\x20\x29\x01\0\0\0\0\x02\0\x02\0\0\0\x04\x04saltsaltsaltsaltwrappedkeywrappedkeywrap",
];

pub(crate) const CONNECTION_SEEDS: &[&[u8]] = &[
    // Data in order, then behind a hole; acknowledgement, losses, answer, what was given up.
    b"\0\0\x14\x05\x7f\xff\xff\xf0\xc0\0\0\x01\0\0\0\0\0\0\0\x01data\0\x14\x05\x7f\xff\xff\xf5\xc0\0\0\x02\0\0\x10\0\0\0\0\x01data\0\x2c\x0a\x80\x02\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x7f\xff\xff\xf1\0\0\x10\0\0\0\x08\0\0\0\x20\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\x80\x80\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xff\xff\xff\xf1\x7f\xff\xff\xf2\0\x14\x05\x80\x06\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\x18\x05\x80\x07\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x7f\xff\xff\xf1\x7f\xff\xff\xf4",
    // Encrypted data and new keys; keep-alive, warning, error, good-bye.
    b"\x01\0\x14\x05\x7f\xff\xff\xf0\xc8\0\0\x01\0\0\0\0\0\0\0\x01data\0\x18\xff\xff\xff\0\x03\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x20\x29\x01\0\0\0\0\0\x14\x05\x80\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\x14\x05\x80\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\x14\x05\x80\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\x14\x05\x80\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0",
];

pub(crate) const STREAM_ID_SEEDS: &[&[u8]] = &[
    b"publish:studio/cam:tom:secret:a=b",
    b"#!::m=publish,r=cam,u=tom,s=secret,h=host",
    b"read:cam-out",
];
