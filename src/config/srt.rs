//! Settings of SRT.

use std::net::SocketAddr;

use ingest::StreamName;
use ingest::srt::{KeyLength, PASSPHRASE_BYTES};
use serde::{Deserialize, Serialize};

use super::settings::{Stream, loopback};

/// SRT, port 8890 over UDP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Srt {
    /// Whether the listener runs.
    pub enabled: bool,
    /// UDP address and port, shared by all sessions.
    pub listen: SocketAddr,
    /// Milliseconds within which a lost packet may be sent again, at least; the longer of both
    /// sides' wishes counts.
    pub latency_ms: u16,
    /// Packets that a session keeps in each direction: those held back for a lost one, and those
    /// sent and not acknowledged.
    pub buffer_packets: usize,
    /// Highest rate to one reader in Mbit/s, packets sent again included; 0 is no limit.
    pub bandwidth_mbps_max: u32,
    /// Bytes of the key that those who encrypt must use: 16, 24 or 32; 0 takes any.
    pub key_bytes: usize,
    /// The stream that encoders without stream id publish; empty: they are refused.
    pub default_stream: String,
    /// Seconds without a word of the other side after which it is taken for gone.
    pub peer_timeout_seconds: u64,
    /// Sessions at the same time.
    pub sessions_max: usize,
    /// Sessions and handshakes of one address at the same time.
    pub sessions_per_ip_max: usize,
}

impl Default for Srt {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: loopback(8890),
            latency_ms: 120,
            // 12 MiB, 3 s at 30 Mbit/s.
            buffer_packets: 8192,
            bandwidth_mbps_max: 0,
            key_bytes: 0,
            default_stream: String::new(),
            peer_timeout_seconds: 10,
            sessions_max: 1000,
            sessions_per_ip_max: 256,
        }
    }
}

/// Packets that [`Srt::buffer_packets`] may be: a picture's at least, 1.5 GiB at most.
const BUFFER_PACKETS: std::ops::RangeInclusive<usize> = 32..=1 << 20;

impl Srt {
    /// The default stream, if one is set.
    ///
    /// # Errors
    /// What is wrong with its name.
    pub fn default_stream(&self) -> Result<Option<StreamName>, String> {
        if self.default_stream.is_empty() {
            return Ok(None);
        }
        let name = StreamName::for_publisher(&self.default_stream);
        name.map(Some).map_err(|error| format!("srt.default_stream: {error}"))
    }

    /// What is not possible.
    ///
    /// # Errors
    /// It, with the setting.
    pub(super) fn check(&self) -> Result<(), String> {
        self.default_stream()?;
        if self.key_bytes != 0 && KeyLength::from_bytes(self.key_bytes).is_none() {
            return Err(format!("srt.key_bytes: {} is none of 0, 16, 24, 32", self.key_bytes));
        }
        if !BUFFER_PACKETS.contains(&self.buffer_packets) {
            let (low, high) = (BUFFER_PACKETS.start(), BUFFER_PACKETS.end());
            return Err(format!(
                "srt.buffer_packets: {} is not from {low} to {high}",
                self.buffer_packets
            ));
        }
        Ok(())
    }
}

/// Whether a stream's passphrases can be used; tells nothing of them but their length.
///
/// # Errors
/// The setting's last part and what is wrong.
pub(super) fn check_passphrases(stream: &Stream) -> Result<(), String> {
    for (name, passphrase) in [
        ("srt_publish_passphrase", &stream.srt_publish_passphrase),
        ("srt_read_passphrase", &stream.srt_read_passphrase),
    ] {
        let Some(passphrase) = passphrase.as_deref().filter(|text| !text.is_empty()) else {
            continue;
        };
        if !PASSPHRASE_BYTES.contains(&passphrase.len()) {
            let (low, high) = (PASSPHRASE_BYTES.start(), PASSPHRASE_BYTES.end());
            let bytes = passphrase.len();
            return Err(format!("{name} has {bytes} bytes, {low} to {high} are possible"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_possible_and_what_is_not_is_named() {
        assert_eq!(Srt::default().check(), Ok(()));
        let wrong = |change: fn(&mut Srt), word: &str| {
            let mut srt = Srt::default();
            change(&mut srt);
            let error = srt.check().unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        wrong(|srt| srt.key_bytes = 17, "srt.key_bytes");
        wrong(|srt| srt.buffer_packets = 3, "srt.buffer_packets");
        wrong(|srt| srt.default_stream = "../cam".into(), "srt.default_stream");
        wrong(|srt| srt.default_stream = "cam-out".into(), "srt.default_stream");
    }

    #[test]
    fn a_passphrase_of_a_wrong_length_is_refused_without_telling_it() {
        let with = |text: &str| {
            let srt_read_passphrase = Some(text.to_owned());
            check_passphrases(&Stream { srt_read_passphrase, ..Stream::default() })
        };
        let error = with("tooshort").unwrap_err();
        assert!(error.contains("srt_read_passphrase has 8 bytes"), "{error}");
        assert!(!error.contains("tooshort"), "{error}");
        assert_eq!([with(""), with("long enough")], [Ok(()), Ok(())]);
    }
}
