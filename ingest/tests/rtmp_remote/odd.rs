//! Sources as they are in the field, as ffmpeg publishes them and as a viewer gets them: every
//! picture with its time, in its size and shape.

use std::path::Path;

use crate::kit::*;

/// What ffprobe finds: width, height and shape of samples, and each picture's times and flags.
async fn probe(place: &str) -> (String, Vec<(i64, i64, bool)>) {
    let line = format!(
        "-v error -select_streams v -show_entries \
         stream=width,height,sample_aspect_ratio:packet=pts,dts,flags -of csv {place}"
    );
    let output = run(Path::new("/usr/bin/ffprobe"), &line).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut shape, mut pictures) = (String::new(), Vec::new());
    for line in text.lines() {
        match line.split(',').collect::<Vec<_>>()[..] {
            ["stream", ref facts @ ..] => shape = facts.join(" "),
            ["packet", pts, dts, flags, ..] => {
                let times = (pts.parse().unwrap(), dts.parse().unwrap());
                pictures.push((times.0, times.1, flags.starts_with('K')));
            }
            _ => {}
        }
    }
    (shape, pictures)
}

/// A clip with one key picture at its begin, made by these words, goes through the server. Gives
/// what ffprobe says of its size and shape.
async fn carried(source: &str, words_of_encoder: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.flv");
    let line = format!(
        "-v error -y -f lavfi -i {source} {words_of_encoder} -c:v libx264 -preset veryfast -g 1000 \
         -f flv {}",
        path.display()
    );
    let output = run(&ffmpeg(), &line).await;
    assert!(output.status.success(), "{}", words(&output));
    let (shape, sent) = probe(&path.display().to_string()).await;
    assert!(sent.len() > 3, "{sent:?}");

    let node = Node::start(|_| {}).await;
    let url = node.url("rtmp", "cam");
    let line = format!("-v error -re -copyts -i {} -c copy -f flv {url}", path.display());
    let push = tokio::spawn(async move { run(&ffmpeg(), &line).await });
    drop(node.reader("cam").await);
    let (seen_shape, seen) = probe(&url).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", words(&output));
    // A viewer's time begins at zero.
    let begin = sent[0].1;
    let wanted: Vec<_> =
        sent.iter().map(|(pts, dts, key)| (pts - begin, dts - begin, *key)).collect();
    assert_eq!((&seen_shape, &seen), (&shape, &wanted), "{source}");
    assert_eq!(node.counters.snapshot().media_errors, 0);
    assert_eq!(node.counters.snapshot().clock_jumps, 0);
    shape
}

#[tokio::test]
async fn an_odd_size_is_carried() {
    // 4:2:0 has no odd sizes, nor has testsrc2.
    let shape = carried("testsrc=size=853x481:rate=25", "-t 1.2 -pix_fmt yuv444p").await;
    assert_eq!(shape, "853 481 1:1");
}

#[tokio::test]
async fn samples_that_are_not_square_stay_so() {
    let words = "-t 1.2 -pix_fmt yuv420p -vf setsar=16/11";
    let shape = carried("testsrc2=size=352x288:rate=25", words).await;
    assert_eq!(shape, "352 288 16:11");
}

#[tokio::test]
async fn one_picture_a_second_is_carried() {
    carried("testsrc2=size=320x180:rate=1", "-t 5 -pix_fmt yuv420p").await;
}

#[tokio::test]
async fn a_hundred_and_twenty_pictures_a_second_are_carried() {
    carried("testsrc2=size=320x180:rate=120", "-t 1.5 -pix_fmt yuv420p").await;
}

#[tokio::test]
async fn a_rate_that_varies_is_carried_with_its_times() {
    // Of 60 pictures a second some are left out, for 1.4 s in a row once.
    let words = "-t 4 -pix_fmt yuv420p -fps_mode vfr \
                 -vf select=gt(mod(n\\,5)\\,0)*gt(mod(n\\,7)\\,1)*not(between(n\\,90\\,175))";
    carried("testsrc2=size=320x180:rate=60", words).await;
}
