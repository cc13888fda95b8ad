//! A connection to another server, in the clear or in TLS, and what is said on it.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtsp_types::Response;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::call::{Answer, Call, CallError};
use crate::remote::{self, Error, Options, Target};

/// Port of `rtsp://` addresses that name none.
const PORT: u16 = 554;

/// Port of `rtsps://` addresses that name none.
const PORT_TLS: u16 = 322;

/// Bytes that are read at once while nothing flows to us.
pub(super) const READ_TALK: usize = 4 << 10;

/// How long the server may take to hear that the stream is over.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// The connection. Media inside of it waits in its buffers until [`Self::answer`] finds it.
pub(super) struct Line<'a> {
    socket: Box<dyn Socket>,
    call: Call,
    input: BytesMut,
    /// Bytes of the output that were written already.
    written: usize,
    options: &'a Options,
    url: String,
    alive_at: Instant,
}

impl<'a> Line<'a> {
    /// Connects; nothing is said yet.
    pub(super) async fn open(target: &Target, options: &'a Options) -> Result<Self, Error> {
        let (host, port) = address(target)?;
        let socket = remote::connect(host, port, options).await?;
        let socket: Box<dyn Socket> = match target.scheme() {
            "rtsps" => Box::new(remote::secure(socket, host, options).await?),
            _ => Box::new(socket),
        };
        let call = Call::new(target.credentials(), format!("{:016x}", rand::random::<u64>()));
        let (input, url) = (BytesMut::new(), plain(target).as_str().trim_end_matches('/').into());
        Ok(Self { socket, call, input, written: 0, options, url, alive_at: now() })
    }

    /// The address of the stream as it is said in requests.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Asks and waits until it is done.
    pub(super) async fn done(
        &mut self,
        method: &'static str,
        url: &str,
        lines: &str,
        body: Vec<u8>,
    ) -> Result<Box<Response<Vec<u8>>>, Error> {
        self.call.ask(method, url, lines, body);
        loop {
            self.flush().await?;
            match self.call.handle(&mut self.input) {
                Ok(Some(Answer::Done(response))) => {
                    self.alive_at = now() + self.call.alive_interval();
                    return Ok(response);
                }
                // Media may be faster than the answer to the request for it.
                Ok(Some(Answer::Again | Answer::Frame { .. })) => {}
                Ok(None) => {
                    if self.read(READ_TALK).await? == 0 {
                        let closed = "the server has closed the connection";
                        return Err(Error::protocol(method, closed));
                    }
                }
                Err(CallError::Framing(error)) => return Err(Error::protocol(method, error)),
                Err(error) => {
                    return Err(Error::Refused { what: method, reason: error.to_string() });
                }
            }
        }
    }

    /// What came while media flows. Whether the server likes our signs of life does not matter.
    pub(super) fn answer(&mut self) -> Result<Option<Answer>, Error> {
        loop {
            match self.call.handle(&mut self.input) {
                Ok(answer) => return Ok(answer),
                Err(CallError::Framing(error)) => return Err(Error::protocol("reading", error)),
                Err(_) => {}
            }
        }
    }

    /// Waits for bytes, `room` at most at once; 0 at the end. Cancelling it loses nothing.
    pub(super) async fn read(&mut self, room: usize) -> Result<usize, Error> {
        self.input.reserve(room);
        let read = self.socket.read_buf(&mut self.input).await;
        read.map_err(|error| Error::protocol("reading", error))
    }

    /// Where media goes that is to be sent with [`Self::flush`].
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        self.call.output()
    }

    /// Sends what waits. Cancelling it loses nothing.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        let out = self.call.output();
        if out.is_empty() {
            return Ok(());
        }
        let limit = self.options.write_timeout;
        let sending = async {
            while let Some(rest) = out.get(self.written..).filter(|rest| !rest.is_empty()) {
                match self.socket.write(rest).await? {
                    0 => return Err(std::io::ErrorKind::WriteZero.into()),
                    count => self.written += count,
                }
            }
            self.socket.flush().await
        };
        let sent = tokio::time::timeout(limit, sending).await;
        sent.map_err(|_| Error::Timeout { what: "reading by the server", limit })?
            .map_err(|error| Error::protocol("sending", error))?;
        out.clear();
        self.written = 0;
        Ok(())
    }

    /// When [`Self::keep_alive`] is due.
    pub(super) const fn alive_at(&self) -> Instant {
        self.alive_at
    }

    /// Gives a sign of life if it is time for one.
    pub(super) fn keep_alive(&mut self) {
        if now() >= self.alive_at {
            self.alive_at = now() + self.call.alive_interval();
            self.call.ask("OPTIONS", &self.url, "", Vec::new());
        }
    }

    /// Tells the server that nothing more comes.
    pub(super) async fn goodbye(mut self) {
        self.call.ask("TEARDOWN", &self.url, "", Vec::new());
        let said = async {
            if self.flush().await.is_ok() {
                let _ = self.socket.shutdown().await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE_LIMIT, said).await;
    }
}

/// Host and port of a server.
///
/// # Errors
/// [`Error::Target`] where it is none of RTSP.
pub(super) fn address(target: &Target) -> Result<(&str, u16), Error> {
    match target.scheme() {
        "rtsp" => target.address(PORT),
        "rtsps" => target.address(PORT_TLS),
        _ => Err(target.fault("it is no address of RTSP")),
    }
}

/// An address without credentials: they go in a header, and are not repeated in each request.
pub(super) fn plain(target: &Target) -> url::Url {
    let mut url = target.url().clone();
    // Neither can fail for an address with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// Adds a frame of media: channel, length, parts (RFC 2326 10.12). What is too long for that is
/// left out.
pub(super) fn interleave(out: &mut Vec<u8>, channel: u8, parts: [&[u8]; 2]) {
    let Ok(length) = u16::try_from(parts[0].len() + parts[1].len()) else { return };
    let [high, low] = length.to_be_bytes();
    out.extend_from_slice(&[b'$', channel, high, low]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
