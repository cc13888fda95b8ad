//! The peer of data channels, made of another implementation of SCTP, without IO: what it sends
//! is fetched, what it is sent is given to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc_sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Payload,
    PayloadProtocolIdentifier as Ppi,
};
use rtc_shared::TransportProtocol;

const SELF: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

pub(crate) struct Caller {
    endpoint: Endpoint,
    handle: AssociationHandle,
    pub(crate) association: Association,
}

impl Caller {
    pub(crate) fn new(now: Instant) -> Self {
        let config = Arc::new(EndpointConfig::new());
        let mut endpoint = Endpoint::new(SELF, TransportProtocol::UDP, config, None);
        let (handle, association) = endpoint.connect(now, ClientConfig::default(), SELF).unwrap();
        Self { endpoint, handle, association }
    }

    pub(crate) fn read(&mut self, now: Instant, datagram: &[u8]) {
        let datagram = Bytes::copy_from_slice(datagram);
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, SELF, None, datagram)
        {
            assert_eq!(handle, self.handle);
            self.association.handle_event(event);
        }
    }

    /// All that it sends now, after what is due.
    pub(crate) fn outgoing(&mut self, now: Instant) -> Vec<Bytes> {
        if self.association.poll_timeout().is_some_and(|at| at <= now) {
            self.association.handle_timeout(now);
        }
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                datagrams.extend(packets);
            }
        }
        datagrams
    }

    pub(crate) fn is_connected(&self) -> bool {
        !self.association.is_handshaking() && !self.association.is_closed()
    }

    /// Opens a channel.
    pub(crate) fn open(&mut self, now: Instant, stream: u16, label: &str) {
        let mut open = vec![3, 0, 0, 0, 0, 0, 0, 0];
        open.extend_from_slice(&(label.len() as u16).to_be_bytes());
        open.extend_from_slice(&[0, 0]);
        open.extend_from_slice(label.as_bytes());
        let mut stream = self.association.open_stream(stream, Ppi::Dcep).unwrap();
        stream.write_with_ppi(now, &open, Ppi::Dcep).unwrap();
    }

    pub(crate) fn say(&mut self, now: Instant, stream: u16, text: &str) {
        self.send(now, stream, text.as_bytes(), Ppi::String);
    }

    pub(crate) fn send(&mut self, now: Instant, stream: u16, data: &[u8], ppi: Ppi) {
        self.association.stream(stream).unwrap().write_with_ppi(now, data, ppi).unwrap();
    }

    #[allow(dead_code, reason = "for tests without a socket")]
    pub(crate) fn close(&mut self, now: Instant, stream: u16) {
        self.association.stream(stream).unwrap().close(now).unwrap();
    }

    #[allow(dead_code, reason = "for tests without a socket")]
    /// Whether the other side has not closed a channel.
    pub(crate) fn has(&mut self, stream: u16) -> bool {
        self.association.stream(stream).is_ok()
    }

    /// The texts that came on a channel; acknowledgements of its opening are left out.
    pub(crate) fn heard(&mut self, stream: u16) -> Vec<String> {
        let mut texts = Vec::new();
        while let Ok(mut stream) = self.association.stream(stream)
            && let Ok(Some(chunks)) = stream.read_sctp()
        {
            if chunks.ppi == Ppi::Dcep {
                continue;
            }
            let data = chunks.to_payload(1 << 20).unwrap();
            texts.push(String::from_utf8(data.to_vec()).unwrap());
        }
        texts
    }
}
