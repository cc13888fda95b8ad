//! Retransmission payloads, RFC 4588: two bytes of original sequence number, then the original
//! payload, in a stream with its own SSRC, payload type and sequence but the original's timestamp
//! and marker.

use super::packet::Seq;

/// Appends the retransmission payload of the packet that went out as `original`.
pub fn wrap(original: Seq, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&original.0.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The original sequence number and payload; `None` for a probe, which carries no packet.
pub fn unwrap(payload: &[u8]) -> Option<(Seq, &[u8])> {
    let (seq, original) = payload.split_first_chunk::<2>()?;
    (!original.is_empty()).then(|| (Seq(u16::from_be_bytes(*seq)), original))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_survives_and_a_probe_is_nothing() {
        let mut out = Vec::new();
        wrap(Seq(0xfffe), b"slice", &mut out);
        assert_eq!(unwrap(&out), Some((Seq(0xfffe), &b"slice"[..])));
        assert_eq!(unwrap(&[0, 1]), None);
        assert_eq!(unwrap(&[0]), None);
    }
}
