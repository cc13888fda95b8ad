//! Responses as text. One header may stand on several lines, which some clients insist on for
//! challenges.

use std::fmt::Write as _;

use rtsp_types::StatusCode;

/// A response that is being written.
#[derive(Debug)]
pub(super) struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Reply {
    /// To the request with this `CSeq`, if it has one.
    pub(super) fn new(status: StatusCode, sequence: Option<&str>) -> Self {
        let mut head = format!("RTSP/1.0 {} {status}\r\n", u16::from(status));
        if let Some(sequence) = sequence {
            let _ = write!(head, "CSeq: {sequence}\r\n");
        }
        let _ = write!(head, "Server: Millstream\r\n");
        Self { head, body: Vec::new() }
    }

    /// Adds a header line. Line ends in the value are left out.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let value: String = value.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let _ = write!(self.head, "{name}: {value}\r\n");
        self
    }

    /// Adds a body of this type.
    pub(super) fn with_body(mut self, kind: &str, body: Vec<u8>) -> Self {
        self = self.with("Content-Type", kind);
        self.body = body;
        self
    }

    /// Appends it to what goes out.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.as_bytes());
        if !self.body.is_empty() {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
    }
}
