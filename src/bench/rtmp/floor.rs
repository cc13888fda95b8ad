//! The least that sending can cost: one thread that writes the same bytes at the same pace to every
//! socket that has connected, and does nothing else.

use std::io::{ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::RATE;
use super::mark::{picture, picture_bytes, stamp};

/// How it sends.
#[derive(Args, Clone, Debug)]
pub struct Floor {
    /// Bitrate of each socket
    #[arg(long, value_name = "KBIT/S", default_value_t = 600)]
    kbits: u32,
    /// Most milliseconds that pictures wait for the next ones to share a write
    #[arg(long, value_name = "MS", default_value_t = 0)]
    merge: u64,
}

/// How long a new connection may wait to be seen.
const ACCEPT_EVERY: Duration = Duration::from_millis(5);

/// Sends until it is killed.
#[allow(clippy::print_stdout, reason = "whoever started it reads where it listens")]
pub(in super::super) fn run(what: &Floor) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("rtmp://{}", listener.local_addr()?);
    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut ready: Vec<u8> = Vec::new();
    let mut picture = picture(picture_bytes(what.kbits));
    let (began, mut index, mut first) = (Instant::now(), 0_u32, None);
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                sockets.push(socket);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let due = Duration::from_secs(1) * index / RATE;
        let limit = first.map(|first| first + Duration::from_millis(what.merge));
        let next = limit.map_or(due, |limit: Duration| limit.min(due));
        let now = began.elapsed();
        if now < next {
            std::thread::sleep((next - now).min(ACCEPT_EVERY));
            continue;
        }
        if now >= due {
            index += 1;
            stamp(&mut picture);
            ready.extend_from_slice(&picture);
            first.get_or_insert(now);
        }
        if first.is_some_and(|first| now >= first + Duration::from_millis(what.merge)) {
            // A socket that takes nothing more, or is gone, loses these.
            sockets.retain_mut(|socket| match socket.write(&ready) {
                Err(error) => error.kind() == ErrorKind::WouldBlock,
                Ok(_) => true,
            });
            ready.clear();
            first = None;
        }
    }
}
