//! Snapshots of live streams: the picture of now, for those who may watch.

use reqwest::StatusCode;

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::programs;
use crate::push::{LIVE, Push};
use crate::record::decode;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_the_picture_of_now_for_those_who_may_watch() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.read_password = "secret".into();
    })
    .await;
    let _push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("studio/cam"));
    // The second group: what comes now is not the first key picture.
    let before = node.until_pictures("studio/cam", 75).await;
    let before = find(&before, "studio/cam").unwrap()["frames"].as_u64().unwrap();

    let plain = node.http("studio/cam/snapshot.jpg");
    let status = async |url: &str| node.client.get(url).send().await.unwrap().status();
    assert_eq!(status(&plain).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&format!("{plain}?token=wrong")).await, StatusCode::UNAUTHORIZED);
    let none = node.http("nobody/snapshot.jpg?token=secret");
    assert_eq!(status(&none).await, StatusCode::NOT_FOUND);
    let url = format!("{plain}?token=secret");
    assert_eq!(
        node.client.post(&url).send().await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );

    // All who ask at the same time get one picture.
    let get = async || {
        let answer = node.client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "image/jpeg");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        answer.bytes().await.unwrap()
    };
    let (a, b, c) = tokio::join!(get(), get(), get());
    assert!(a == b && b == c, "{} {} {} bytes", a.len(), b.len(), c.len());
    let after = node.until_pictures("studio/cam", 1).await;
    let after = find(&after, "studio/cam").unwrap()["frames"].as_u64().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot.jpg");
    std::fs::write(&file, &a).unwrap();
    for program in [programs::ffmpeg(), programs::ffmpeg_9()] {
        let [number] = decode(program, file.to_str().unwrap()).await[..] else {
            panic!("one picture")
        };
        println!("picture {number} is shown; {before} to {after} were in");
        // Numbers begin with 0.
        assert!((before - 1..after).contains(&u64::from(number)), "{before} {number} {after}");
    }
    node.stop().await;
}
