//! `millstream bench`: measures this program as its users run it, in processes of its own.
//!
//! The generator is ffmpeg with a clip that was encoded beforehand, the viewer is a bare WHEP
//! receiver of ours (or Chromium; a whole crowd of light ones in `whep` and `rtmp`), and the nodes
//! are children of this process on loopback. Where the system allows it, nodes and everything else
//! run on different processor cores. A run in which the generator could not keep up is called void
//! instead of being reported as a result.

mod chromium;
mod clip;
mod glass;
mod join;
mod latency;
mod peer;
mod receiver;
mod report;
mod rig;
mod rtmp;
mod usage;
mod whep;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use pipeline::Size;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Time of each frame at each hop from RTMP to the last WHEP packet, CPU time and memory
    Latency(Road),
    /// Time from RTMP to the picture on the screen: Chromium, beside a bare receiver
    Glass(Road),
    /// Time to the first picture of a viewer who comes late, and how far behind it stays
    Join(Join),
    /// Viewers that one core of a gateway serves over WebRTC, beside a bare sender's floor
    Whep(whep::Whep),
    /// The bare sender of `whep`
    #[command(hide = true)]
    WhepFloor(whep::floor::Floor),
    /// RTMP players that one core of a gateway serves, beside a bare sender's floor
    Rtmp(rtmp::Rtmp),
    /// The bare sender of `rtmp`
    #[command(hide = true)]
    RtmpFloor(rtmp::floor::Floor),
}

/// Viewers who come late.
#[derive(Args, Clone, Debug)]
pub struct Join {
    /// The road; `--seconds` says nothing here
    #[command(flatten)]
    road: Road,
    /// Seconds from one key picture of the publisher to the next; may be repeated
    #[arg(long, value_name = "N", default_values_t = [2, 8],
          value_parser = clap::value_parser!(u32).range(1..=20))]
    group: Vec<u32>,
    /// Viewers, one after another
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=50))]
    joins: u32,
}

/// The road that is measured.
#[derive(Args, Clone, Debug)]
pub struct Road {
    /// Size of the pictures; may be repeated
    #[arg(long = "size", value_name = "WxH", value_parser = size,
          default_values = ["640x360", "1280x720"])]
    sizes: Vec<Size>,
    /// Seconds that are measured, after a warm-up
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    seconds: u32,
    /// Graph: passthrough, default, or the file of a ComfyUI API prompt
    #[arg(long, default_value = "passthrough")]
    graph: String,
    /// Processes: gateway and orchestrator apart with TLS between them, or both in one
    #[arg(long, value_enum, default_value_t = Processes::Two)]
    processes: Processes,
    /// Cores of the nodes as `taskset` has them, `all` for no rule; the generator gets the others
    #[arg(long, value_name = "LIST", default_value = "0")]
    cores: String,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// The longest run: a node's trace holds two minutes.
const SECONDS_MAX: i64 = 90;

/// How the roles are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Processes {
    /// `millstream gateway` and `millstream orchestrator`.
    #[value(name = "2")]
    Two,
    /// `millstream up`.
    #[value(name = "1")]
    One,
}

/// Pictures in a second of everything that is measured.
const RATE: u32 = 30;

/// Runs a measurement and prints it.
///
/// # Errors
/// When it cannot be carried out, a program that it needs is missing, or the run was void.
pub fn run(what: Bench) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        match what {
            Bench::Latency(road) => latency::run(&road).await,
            Bench::Glass(road) => glass::run(&road).await,
            Bench::Join(join) => join::run(&join).await,
            Bench::Whep(whep) => whep::run(&whep).await,
            Bench::WhepFloor(floor) => whep::floor::run(&floor),
            Bench::Rtmp(what) => rtmp::run(&what).await,
            Bench::RtmpFloor(floor) => rtmp::floor::run(&floor),
        }
    })
}

/// Parses `640x360`.
fn size(text: &str) -> Result<Size> {
    let (width, height) = text.split_once('x').context("write WIDTHxHEIGHT")?;
    let size = Size::new(width.parse()?, height.parse()?);
    ensure!(
        size.is_valid() && size.width.is_multiple_of(2) && size.height.is_multiple_of(2),
        "must be even"
    );
    ensure!(
        size.width >= clip::COUNTER_WIDTH && size.height >= 2 * clip::SQUARE,
        "{}x{} at least: the pictures carry a counter",
        clip::COUNTER_WIDTH,
        2 * clip::SQUARE
    );
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_cannot_be_measured_is_refused() {
        assert_eq!(size("640x360").ok(), Some(Size::new(640, 360)));
        for wrong in ["640", "640x", "641x360", "320x180", "640x16", "-1x2", "99999999x360"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
