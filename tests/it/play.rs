//! ffmpeg as a player of cards.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::card::Card;
use crate::programs::PATIENCE;

/// What ffmpeg decodes of a stream: the cards' numbers, and the sound's zero crossings a second.
pub(crate) async fn play(program: PathBuf, url: &str, pictures: usize) -> (Vec<u16>, f64) {
    let card = Card::SMALL;
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i", url]);
    let count = pictures.to_string();
    command.args(["-map", "0:v", "-frames:v", &count, "-fps_mode", "passthrough"]);
    command.args(["-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]);
    command.args(["-map", "0:a", "-t", "1.5", "-ac", "1", "-ar", "48000", "-f", "s16le"]);
    command.arg(&sound).stdin(Stdio::null()).kill_on_drop(true);
    let played = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = played.expect("ffmpeg does not end").unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let pictures = output.stdout.chunks_exact(card.width * card.height);
    let numbers = pictures.map(|luma| {
        card.read(|row| &luma[row * card.width..]).expect("a card that can be read").number
    });
    let samples: Vec<i16> = std::fs::read(&sound)
        .unwrap()
        .chunks_exact(2)
        .map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]))
        .collect();
    let crossings = samples.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    (numbers.collect(), crossings as f64 * 48_000.0 / samples.len() as f64)
}
