//! The source of a measurement: a clip encoded beforehand whose pictures carry their number, and
//! ffmpeg that sends it in real time.
//!
//! The number stands in the lowest rows as 16 squares, highest bit first, and again in 16 squares
//! with all bits turned, so that a torn or mixed picture is not taken for a number.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use pipeline::Size;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::RATE;

/// Side of a square in pixels.
pub(super) const SQUARE: u32 = 16;

/// Bits of the number.
const BITS: u32 = 16;

/// Width of the number and its opposite in pixels.
pub(super) const COUNTER_WIDTH: u32 = 2 * BITS * SQUARE;

/// Pictures from one key picture to the next where nothing else is asked.
pub(super) const GROUP: u32 = 2 * RATE;

/// A clip in a file.
pub(super) struct Clip {
    path: PathBuf,
}

impl Clip {
    /// Encodes `seconds` of FFmpeg's moving test picture with numbers and a tone, as a broadcaster
    /// would: H.264 without B-frames, a key picture each `group` pictures, AAC.
    pub(super) async fn make(dir: &Path, size: Size, seconds: u32, group: u32) -> Result<Self> {
        let path = dir.join(format!("{size}-{group}.flv"));
        // A tenth of a bit a pixel: what the node's own encoder takes for live pictures.
        let bitrate = size.pixels() * u64::from(RATE) / 10;
        let line = format!(
            "-hide_banner -loglevel error -nostats -y \
             -f lavfi -i testsrc2=size={size}:rate={RATE} \
             -f rawvideo -pix_fmt gray -video_size {COUNTER_WIDTH}x{SQUARE} -framerate {RATE} \
             -i pipe:0 -f lavfi -i sine=frequency=440:sample_rate=48000 \
             -filter_complex [0:v][1:v]overlay=x=0:y=main_h-overlay_h:shortest=1[v] \
             -map [v] -map 2:a -pix_fmt yuv420p -c:v libx264 -preset veryfast -tune zerolatency \
             -threads 1 -g {group} -keyint_min {group} -sc_threshold 0 \
             -b:v {bitrate} -maxrate {bitrate} -bufsize {} -c:a aac -b:a 96k -t {seconds} -f flv",
            bitrate / 2
        );
        let mut child = ffmpeg()
            .args(line.split_whitespace())
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run ffmpeg (./x bench installs it)")?;
        let mut pipe = child.stdin.take().context("ffmpeg has no input")?;
        for number in 0..=seconds * RATE {
            // ffmpeg stops reading when it has enough.
            if pipe.write_all(&counter(number as u16)).await.is_err() {
                break;
            }
        }
        drop(pipe);
        let status = child.wait().await?;
        ensure!(status.success(), "ffmpeg could not make the clip of {size}: {status}");
        Ok(Self { path })
    }

    /// Sends the clip once in real time to an `rtmp://` address.
    pub(super) fn push(&self, url: &str) -> Result<Child> {
        let mut command = ffmpeg();
        command.args(["-hide_banner", "-loglevel", "error", "-nostats", "-re", "-i"]);
        command.arg(&self.path).args(["-c", "copy", "-f", "flv", url]).stdin(Stdio::null());
        command.spawn().context("cannot run ffmpeg")
    }
}

/// Fails unless ffmpeg can be run.
pub(super) async fn need_ffmpeg() -> Result<()> {
    let asked = ffmpeg().arg("-version").stdout(Stdio::null()).status().await;
    match asked {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("ffmpeg is needed as the generator: ./x bench installs it"),
    }
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.kill_on_drop(true);
    command
}

/// The number as one strip of grey pixels.
fn counter(number: u16) -> Vec<u8> {
    let both = u32::from(number) << BITS | u32::from(!number);
    let row: Vec<u8> = (0..2 * BITS)
        .flat_map(|square| {
            let white = both >> (2 * BITS - 1 - square) & 1 == 1;
            std::iter::repeat_n(if white { 255 } else { 0 }, SQUARE as usize)
        })
        .collect();
    row.repeat(SQUARE as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_beside_its_opposite() {
        let strip = counter(0x8001);
        assert_eq!(strip.len() as u32, COUNTER_WIDTH * SQUARE);
        let square = |index: u32| strip[(index * SQUARE + SQUARE / 2) as usize];
        assert_eq!((square(0), square(1), square(15)), (255, 0, 255));
        assert_eq!((square(16), square(17), square(31)), (0, 255, 0));
    }
}
