//! The `Transport` header (RFC 2326 12.39): what a client offers, what we take of it.

/// How the packets of one medium travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lower {
    /// Interleaved on the connection: the channels of RTP and RTCP.
    Tcp(u8, u8),
    /// Datagrams: the client's ports of RTP and RTCP.
    Udp(u16, u16),
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The channels are missing where the client leaves the choice to us.
    pub(super) lower: Option<Lower>,
}

/// Why none of a client's offers can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// All are transports that we do not have: 461.
    Unsupported,
    /// One that we have is malformed: 400.
    Malformed(&'static str),
}

/// The first of a client's offers that can be taken; `udp` whether datagrams are spoken.
pub(super) fn choose(header: &str, udp: bool) -> Result<Offer, Unusable> {
    for offer in header.split(',') {
        let mut fields = offer.split(';').map(str::trim);
        let profile = fields.next().unwrap_or_default().to_ascii_uppercase();
        let tcp = match profile.as_str() {
            "RTP/AVP/TCP" => true,
            "RTP/AVP" | "RTP/AVP/UDP" if udp => false,
            _ => continue,
        };
        let mut pair = None;
        let mut multicast = false;
        for field in fields {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match (key.to_ascii_lowercase().as_str(), tcp) {
                ("multicast", _) => multicast = true,
                ("interleaved", true) | ("client_port", false) => {
                    pair = Some(numbers(value).ok_or(Unusable::Malformed("ports or channels"))?);
                }
                _ => {}
            }
        }
        if multicast {
            continue;
        }
        let lower = match (tcp, pair) {
            (true, None) => None,
            (true, Some((rtp, rtcp))) => {
                let channel = |number: u16| {
                    u8::try_from(number).map_err(|_| Unusable::Malformed("a channel beyond 255"))
                };
                let channels = (channel(rtp)?, channel(rtcp)?);
                if channels.0 == channels.1 {
                    return Err(Unusable::Malformed("one channel for RTP and RTCP"));
                }
                Some(Lower::Tcp(channels.0, channels.1))
            }
            (false, None) => return Err(Unusable::Malformed("no client ports")),
            (false, Some((rtp, rtcp))) => {
                if rtp == 0 || rtcp == 0 || rtp == rtcp {
                    return Err(Unusable::Malformed("client ports that nothing can be sent to"));
                }
                Some(Lower::Udp(rtp, rtcp))
            }
        };
        return Ok(Offer { lower });
    }
    Err(Unusable::Unsupported)
}

/// `a-b`, or `a` for `a-(a+1)`.
fn numbers(value: &str) -> Option<(u16, u16)> {
    let (first, second) = match value.split_once('-') {
        Some((first, second)) => (first.trim().parse().ok()?, second.trim().parse().ok()?),
        None => {
            let first: u16 = value.trim().parse().ok()?;
            (first, first.checked_add(1)?)
        }
    };
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offer_that_can_be_taken_is() {
        let check = |header: &str, udp, wanted| assert_eq!(choose(header, udp), wanted, "{header}");
        let ok = |lower| Ok(Offer { lower: Some(lower) });
        let malformed = |what| Err(Unusable::Malformed(what));
        check("RTP/AVP/TCP;unicast;interleaved=2-3;mode=record", true, ok(Lower::Tcp(2, 3)));
        check("RTP/AVP/TCP", true, Ok(Offer { lower: None }));
        check("RTP/AVP;unicast;client_port=5000-5001", true, ok(Lower::Udp(5000, 5001)));
        check("RTP/AVP/UDP;unicast;client_port=5000", true, ok(Lower::Udp(5000, 5001)));
        let both = "RTP/AVP;unicast;client_port=5000-5001,RTP/AVP/TCP;unicast;interleaved=0-1";
        check(both, true, ok(Lower::Udp(5000, 5001)));
        check(both, false, ok(Lower::Tcp(0, 1)));
        let multicast = "RTP/AVP;multicast, RTP/SAVP;unicast;client_port=1-2";
        check(multicast, true, Err(Unusable::Unsupported));
        check("", true, Err(Unusable::Unsupported));
        check("RTP/AVP/TCP;interleaved=5-5", true, malformed("one channel for RTP and RTCP"));
        check("RTP/AVP/TCP;interleaved=255", true, malformed("a channel beyond 255"));
        check("RTP/AVP/TCP;interleaved=x", true, malformed("ports or channels"));
        check("RTP/AVP;unicast", true, malformed("no client ports"));
        let zero = malformed("client ports that nothing can be sent to");
        check("RTP/AVP;unicast;client_port=0-1", true, zero);
        check("RTP/AVP;unicast;client_port=0", true, zero);
        check("RTP/AVP;client_port=65535", true, malformed("ports or channels"));
    }
}
