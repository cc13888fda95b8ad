//! The floor: a bare process that sends what the server sent, the same sizes in the same rhythm to
//! the same addresses, each send in one call with segmentation (GSO), and does nothing else. What
//! the server spends beyond this is its own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use serde::{Deserialize, Serialize};

use super::super::usage;

/// What the bare sender is told.
#[derive(Args, Clone, Debug)]
pub struct Floor {
    /// What to send, and where to
    plan: PathBuf,
    /// Seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// One period of sends, repeated.
#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    /// Microseconds of a period.
    pub(super) period_us: u64,
    /// Microseconds since its begin, bytes, and bytes of each datagram but the last.
    pub(super) sends: Vec<(u64, usize, usize)>,
    /// Everybody who gets them.
    pub(super) to: Vec<SocketAddr>,
}

/// What the bare sender says at the end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Spent {
    /// CPU seconds, and seconds of the clock.
    pub(super) cpu_s: f64,
    pub(super) wall_s: f64,
    pub(super) bytes: u64,
    pub(super) sends: u64,
    /// Sends that the system refused.
    pub(super) refused: u64,
    /// How far it was behind its plan at the worst moment.
    pub(super) behind_ms: f64,
}

/// Sends and prints what it took.
#[allow(clippy::print_stdout, reason = "its parent reads it")]
pub(in super::super) fn run(floor: &Floor) -> Result<()> {
    let text = std::fs::read(&floor.plan).with_context(|| floor.plan.display().to_string())?;
    let plan: Plan = serde_json::from_slice(&text)?;
    ensure!(plan.period_us > 0 && !plan.sends.is_empty(), "nothing to send");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // As much as the server asks for.
    let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), 4 << 20);
    let contents = vec![0x80_u8; 65_536];
    let own = std::process::id();
    let before = usage::cpu_seconds(own)?;
    let begun = Instant::now();
    let mut spent =
        Spent { cpu_s: 0.0, wall_s: 0.0, bytes: 0, sends: 0, refused: 0, behind_ms: 0.0 };
    'all: for period in 0.. {
        for &(at_us, bytes, segment) in &plan.sends {
            let due = Duration::from_micros(plan.period_us * period + at_us);
            if due >= Duration::from_secs(floor.seconds) {
                break 'all;
            }
            std::thread::sleep((begun + due).saturating_duration_since(Instant::now()));
            for &destination in &plan.to {
                let transmit = Transmit {
                    destination,
                    ecn: None,
                    contents: &contents[..bytes.min(contents.len())],
                    segment_size: (bytes > segment).then_some(segment),
                    src_ip: None,
                };
                match state.try_send(UdpSockRef::from(&socket), &transmit) {
                    Ok(()) => spent.sends += 1,
                    Err(_) => spent.refused += 1,
                }
                spent.bytes += bytes as u64;
            }
            let behind = begun.elapsed().saturating_sub(due).as_secs_f64() * 1e3;
            spent.behind_ms = spent.behind_ms.max(behind);
        }
    }
    let rest =
        (begun + Duration::from_secs(floor.seconds)).saturating_duration_since(Instant::now());
    std::thread::sleep(rest);
    spent.wall_s = begun.elapsed().as_secs_f64();
    spent.cpu_s = usage::cpu_seconds(own)? - before;
    println!("{}", serde_json::to_string(&spent)?);
    Ok(())
}
