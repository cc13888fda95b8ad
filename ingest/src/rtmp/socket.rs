//! A connection's bytes, plain or in TLS, on either side.
//!
//! A plain socket is shared, since the task that writes to all viewers of a stream writes to it too
//! (`audience.rs`). Whoever writes must know that nobody else does at that time.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

/// A connected socket.
pub(super) enum Socket {
    /// RTMP.
    Plain(Arc<TcpStream>),
    /// RTMPS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// The server's side of a connection that has just been accepted.
    ///
    /// # Errors
    /// The socket's, or what was wrong with the client's TLS.
    pub(super) async fn accept(
        socket: TcpStream,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> io::Result<Self> {
        // Viewers' frames go out as they are, not when the next one fills the packet.
        socket.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(Self::Plain(Arc::new(socket))) };
        let socket = TlsAcceptor::from(tls).accept(socket).await?;
        Ok(Self::Tls(Box::new(TlsStream::Server(socket))))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => loop {
                ready!(socket.poll_read_ready(context))?;
                match socket.try_read_buf(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read.map(drop)),
                }
            },
            // Many leave without TLS's farewell. RTMP has its own, and plain RTMP ends so too.
            Self::Tls(socket) => match Pin::new(socket).poll_read(context, buffer) {
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => poll_write(socket, context, || socket.try_write(bytes)),
            Self::Tls(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => poll_write(socket, context, || socket.try_write_vectored(parts)),
            Self::Tls(socket) => Pin::new(socket).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Poll::Ready(SockRef::from(&**socket).shutdown(Shutdown::Write)),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

/// Writes as soon as the socket takes something.
fn poll_write(
    socket: &TcpStream,
    context: &mut Context<'_>,
    write: impl Fn() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(context))?;
        match write() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}
