//! WebRTC in all its codings, and its data channel, with a real browser.

use std::time::{Duration, Instant};

use ingest::StreamName;
use ingest::hub::Start;
use millstream::config;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::card::Card;
use crate::client::{Picture, pictures};
use crate::graphs::{INVERT, graph_file, read_cards};
use crate::link::{Link, Way};
use crate::node::{Running, alone, find};
use crate::programs;
use crate::push::{LIVE, Push};
use crate::record::{probe, segments};

/// The colours of the last picture of a page, which must have shown many pictures of colour.
fn colours(pictures: &[Picture]) -> Vec<u32> {
    let mut times: Vec<_> = pictures.iter().filter_map(|picture| picture.rtp).collect();
    times.dedup();
    assert!(times.len() >= 20, "a still picture: {times:?}");
    let last = pictures.last().unwrap();
    assert!(last.width > 0, "{last:?}");
    let colours: Vec<_> = last.left.into_iter().chain(last.right).collect();
    let (least, most) = (colours.iter().min().unwrap(), colours.iter().max().unwrap());
    assert!(most - least > 60, "Chromium's own picture is green, not {colours:?}");
    colours
}

/// Waits until so many forms of streams are made, so many of them with pictures re-encoded.
pub(crate) async fn until_forms(node: &Running, wanted: (usize, usize)) {
    let end = Instant::now() + programs::PATIENCE;
    loop {
        let status = node.status().await;
        let forms = status["bridges"].as_array().unwrap();
        let pictures = forms.iter().filter(|form| form["video"].is_object());
        if (forms.len(), pictures.count()) == wanted {
            return;
        }
        assert!(Instant::now() < end, "not {wanted:?} forms are made: {forms:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_publishes_vp8_vp9_and_av1_and_every_viewer_sees_them() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let mut browser = Browser::start().await;
    for codec in ["VP8", "VP9", "AV1"] {
        let stream = codec.to_lowercase();
        let (camera, own, h264) =
            (format!("camera-{stream}"), format!("own-{stream}"), format!("h264-{stream}"));
        browser.publish_in(&camera, &node.http(&format!("{stream}/whip")), codec).await;
        let status = node.until_pictures(&stream, 10).await;
        let seen = find(&status, &stream).unwrap();
        assert_eq!(seen["video"]["codec"], codec, "{seen:#}");
        let whep = node.http(&format!("{stream}/whep"));
        // As it was published, and as those see it who have nothing but H.264.
        browser.watch_in(&own, &whep, codec).await;
        let as_published = colours(&browser.client.until_pictures(Some(&own), 30).await);
        until_forms(&node, (0, 0)).await;
        browser.watch_in(&h264, &whep, "H264").await;
        let bridged = colours(&browser.client.until_pictures(Some(&h264), 30).await);
        // Chromium shows a VP8 picture by BT.709, though RFC 6386 9.2 has BT.601, which the
        // re-encoded one states: a green of 77 and one of 135.
        for (one, other) in as_published.iter().zip(&bridged) {
            assert!(one.abs_diff(*other) < 70, "{as_published:?} became {bridged:?}");
        }
        until_forms(&node, (1, 1)).await;
        let status = node.status().await;
        let bridge = &status["bridges"][0];
        assert_eq!((&bridge["stream"], &bridge["form"]), (&json!(stream), &json!("h264")));
        assert_eq!(bridge["readers"], 1, "{bridge:#}");
        let video = &bridge["video"];
        assert_eq!((&video["from"], &video["into"]), (&json!(codec), &json!("H264")));
        let (taken, made) = (video["frames_in"].as_u64(), video["frames_out"].as_u64());
        assert!(made >= Some(20) && taken >= made, "{bridge:#}");
        assert!(video["busy_seconds"].as_f64() > Some(0.0), "{bridge:#}");
        for page in [&camera, &own, &h264] {
            browser.close(page).await;
        }
        node.until_idle().await;
        until_forms(&node, (0, 0)).await;
    }
    browser.client.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_without_h264_gets_vp8() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 5).await;
    let mut browser = Browser::start().await;
    browser.watch_in("vp8", &node.http("cam/whep"), "VP8").await;
    let pictures = browser.client.until_cards(Some("vp8"), 60).await;
    crate::client::assert_in_order(&pictures, false);
    browser.close("vp8").await;
    browser.client.finish().await;
    push.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_changes_the_graph_on_its_data_channel_and_learns_which_picture_is_the_first() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 10).await;
    let mut browser = Browser::start().await;
    browser.watch("out", &node.http("cam-out/whep")).await;
    browser.client.until_cards(Some("out"), 30).await;
    let heard = |events: &[Value], wanted: &dyn Fn(&Value) -> bool| {
        events.iter().map(|event| &event["heard"]).find(|heard| wanted(heard)).cloned()
    };
    let graph = json!({ "id": "1", "type": "graph" });
    browser.ask("tell", "out", json!({ "text": graph.to_string() })).await;
    let answer = browser.client.until("the graph", |e| heard(e, &|h| h["id"] == "1")).await;
    assert_eq!(answer["prompt"], pipeline::graph::passthrough_prompt());
    let update = json!({ "id": "2", "type": "update", "prompt": *INVERT });
    browser.ask("tell", "out", json!({ "text": update.to_string() })).await;
    let answer = browser.client.until("the change", |e| heard(e, &|h| h["id"] == "2")).await;
    assert_eq!(answer["state"], "applied", "{answer:#}");
    let first = answer["rtp"].as_u64().expect("a timestamp") as u32;
    let shown =
        browser.client.until_picture(Some("out"), "an inverted picture", |p| p.inverted).await;
    for picture in shown.iter().filter(|picture| !picture.unreadable) {
        let rtp = picture.rtp.expect("Chromium says it");
        // Half the range: a picture is at or after the first one, or before it.
        let after = rtp.wrapping_sub(first) < 1 << 31;
        assert_eq!(picture.inverted, after, "{picture:?}, changed at {first}");
    }
    push.finish().await;
    let told = |h: &Value| h["type"] == "stream" && h["state"] == "offline";
    browser.client.until("the end of the stream", |e| heard(e, &told)).await;
    browser.close("out").await;
    browser.client.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_the_graph_come_with_the_rtp_timestamps_of_the_pictures_they_are_about() {
    let _alone = alone().await;
    let graph = graph_file(&json!({
        "1": { "class_type": "LoadTensor", "inputs": {} },
        "2": { "class_type": "MillstreamDetectMotion", "inputs": { "image": ["1", 0] } },
        "3": { "class_type": "SaveTextTensor", "inputs": { "data": ["2", 0] } },
        "4": { "class_type": "SaveTensor", "inputs": { "images": ["1", 0] } },
    }));
    let path = graph.path().display().to_string();
    let node = Running::start(|settings| settings.pipeline.graph = path).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 10).await;
    let mut browser = Browser::start().await;
    browser.watch("out", &node.http("cam-out/whep")).await;
    let results = |events: &[Value]| {
        let heard = events.iter().map(|event| &event["heard"]);
        let results = heard.filter(|heard| heard["type"] == "results");
        results.cloned().collect::<Vec<Value>>()
    };
    let (told, shown) = browser
        .client
        .until("60 results and their pictures", |events| {
            let told = results(events);
            let rtp = told.first()?["rtp"].as_u64().expect("a timestamp") as u32;
            // Pictures that were shown before the channel was open have no result here.
            let mut shown = pictures(events, Some("out"));
            shown.retain(|picture| {
                picture.rtp.expect("Chromium says it").wrapping_sub(rtp) < 1 << 31
            });
            (shown.len() >= 60).then_some((told, shown))
        })
        .await;
    let last = told.last().unwrap()["rtp"].as_u64().unwrap() as u32;
    let known = |rtp: u32| told.iter().any(|result| result["rtp"] == rtp);
    let (mut matched, mut open) = (0, 0);
    for picture in &shown {
        let rtp = picture.rtp.unwrap();
        if last.wrapping_sub(rtp) < 1 << 31 {
            assert!(known(rtp), "no result for {picture:?}");
            matched += 1;
        } else {
            open += 1;
        }
    }
    assert!(matched >= 30, "{matched} pictures with results, {open} without yet");
    let pts: Vec<i64> = told.iter().map(|result| result["pts"].as_i64().unwrap()).collect();
    assert!(pts.is_sorted(), "{pts:?}");
    let moving = |result: &Value| result["results"]["3"]["moving"].as_f64().expect("a share") > 0.0;
    assert!(told.iter().any(moving), "cards move: {:#}", told[0]);
    browser.close("out").await;
    browser.client.finish().await;
    push.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_simulcast_publisher_a_narrow_way_gets_the_small_coding_and_a_wide_one_the_large() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let mut browser = Browser::start().await;
    // What the large one needs does not fit through the narrow way, the small one does twice.
    let layers = json!([
        { "rid": "h", "maxBitrate": 1_200_000 },
        { "rid": "l", "maxBitrate": 60_000, "scaleResolutionDownBy": 2 },
    ]);
    let whip = node.http("cam/whip");
    browser.ask("publish", "camera", json!({ "whip": whip, "layers": layers })).await;
    node.until("the large pictures", |status| {
        find(status, "cam").is_some_and(|cam| cam["video"]["width"] == 640)
    })
    .await;
    let far = node.node.addresses().webrtc.unwrap();
    let wire = Way { queue: Duration::from_millis(400), ..Way::of(10) };
    let link = Link::start(far, 7, wire, Way { rate: Some(16_000), ..wire });
    let whep = node.http("cam/whep?transport=udp");
    browser.watch("wide", &whep).await;
    let narrow = json!({ "whep": whep, "via": link.addr().to_string() });
    browser.ask("watch", "narrow", narrow).await;
    let notices = |events: &[Value]| {
        let narrow = events.iter().filter(|event| event["page"] == "narrow");
        let heard = narrow.map(|event| event["heard"].clone());
        heard.filter(|heard| heard["type"] == "rendition").collect::<Vec<_>>()
    };
    let told = browser
        .client
        .until("the small rendition", |events| {
            let small = |notice: &Value| notice["rid"] == "l";
            notices(events).into_iter().find(small)
        })
        .await;
    assert_eq!((&told["width"], &told["height"]), (&json!(320), &json!(180)));
    browser
        .client
        .until("small pictures in a row", |events| {
            let shown = pictures(events, Some("narrow"));
            let last = shown.last_chunk::<20>()?;
            last.iter().all(|picture| picture.width == 320).then_some(())
        })
        .await;
    let wide = browser.client.until_pictures(Some("wide"), 40).await;
    assert!(wide.iter().rev().take(20).all(|picture| picture.width == 640), "{wide:?}");
    for page in ["wide", "narrow", "camera"] {
        browser.close(page).await;
    }
    browser.client.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_change_while_a_browser_ramps_up_are_followed_by_hls_recordings_and_the_graph() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node");
    let node = Running::start(|settings| {
        settings.data_dir = data.clone();
        settings.streams.insert(
            "cam".into(),
            config::Stream { record: Some(true), ..config::Stream::default() },
        );
    })
    .await;
    let mut browser = Browser::start().await;
    browser.publish("camera", &node.http("cam/whip")).await;
    let width = |status: &Value, stream: &str| {
        find(status, stream).and_then(|found| found["video"]["width"].as_u64())
    };
    let get = async |url: &str| {
        let answer = node.client.get(url).send().await.unwrap();
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        answer.text().await.unwrap()
    };
    node.until_pictures("cam-out", 10).await;
    let list = get(&node.http("cam/index.m3u8")).await;
    let media = list.lines().find(|line| !line.starts_with('#')).expect("a media playlist");
    let media = node.http(&format!("cam/{media}"));
    for (turn, (by, wanted)) in [(4, 160), (2, 320), (1, 640)].into_iter().enumerate() {
        let before = node.status().await;
        browser.ask("scale", "camera", json!({ "by": by })).await;
        node.until("pictures of another size, processed too", |status| {
            let grown = |stream: &str| {
                let frames = |status: &Value| find(status, stream)?["frames"].as_u64();
                frames(status) > frames(&before).map(|frames| frames + 30)
            };
            ["cam", "cam-out"]
                .into_iter()
                .all(|name| width(status, name) == Some(wanted) && grown(name))
        })
        .await;
        // Players are told, and the list goes on.
        let end = Instant::now() + programs::PATIENCE;
        loop {
            let text = get(&media).await;
            let gone = text.lines().find_map(|l| l.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:"));
            let gone = gone.map_or(0, |gone| gone.parse::<usize>().unwrap());
            let shown = text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count();
            if gone + shown > turn {
                break;
            }
            assert!(Instant::now() < end, "no discontinuity after {by}: {text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    browser.close("camera").await;
    browser.client.finish().await;
    node.until_idle().await;
    node.stop().await;
    let mut widths = Vec::new();
    for path in segments(&data.join("recordings/cam")) {
        let probed = probe(path.to_str().unwrap()).await;
        let streams = probed["streams"].as_array().unwrap();
        widths.extend(streams.iter().filter_map(|stream| stream["width"].as_u64()));
    }
    for wanted in [160, 320, 640] {
        assert!(widths.contains(&wanted), "{widths:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_pushed_by_whip_to_another_node_and_goes_on_when_that_comes_back() {
    let _alone = alone().await;
    let far = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let url = far.http("copy/whip").replacen("http", "whip", 1);
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let pushes = Some(vec![config::Push { url, ..config::Push::default() }]);
        settings.streams.insert("cam".into(), config::Stream { pushes, ..Default::default() });
    })
    .await;
    // AAC, which the way there does not take: sound is bridged.
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    let status = far.until_pictures("copy", 30).await;
    let copy = find(&status, "copy").unwrap();
    assert_eq!(
        (&copy["video"]["codec"], &copy["audio"]["codec"]),
        (&json!("H264"), &json!("Opus"))
    );
    let mut reader = far.reader("copy", Start::LastKey).await;
    let cards = read_cards(&mut reader, |cards| cards.len() >= 60).await;
    let numbers: Vec<u16> = cards.values().map(|card| card.expect("a card").number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
    let state = |status: &Value, wanted: &str| status["pushes"][0]["state"] == wanted;
    let status = node.until("a running push", |status| state(status, "running")).await;
    assert!(status["pushes"][0]["bytes"].as_u64() > Some(0), "{status}");
    let bridge = &status["bridges"][0];
    assert_eq!((&bridge["form"], &bridge["video"]), (&json!("opus"), &json!(null)), "{bridge:#}");
    let audio = &bridge["audio"];
    assert_eq!((&audio["from"], &audio["into"]), (&json!("AAC"), &json!("Opus")), "{bridge:#}");
    let counted = |key: &str| audio[key].as_u64().unwrap();
    assert!(counted("frames_in") > 20 && counted("frames_out") > 20, "{bridge:#}");
    assert!(counted("frames_dropped") * 10 < counted("frames_in"), "{bridge:#}");
    assert!(audio["busy_seconds"].as_f64() > Some(0.0), "{bridge:#}");
    // The far end throws it out: it is tried again.
    assert!(far.node.parts().hub.kick(&StreamName::parse("copy").unwrap()));
    node.until("another attempt", |status| {
        status["pushes"][0]["retries"].as_u64() > Some(0) && state(status, "running")
    })
    .await;
    far.until_pictures("copy", 10).await;
    push.finish().await;
    node.until("an idle push", |status| state(status, "idle")).await;
    far.until("the end there", |status| find(status, "copy").is_none()).await;
    node.stop().await;
    far.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_finds_nothing() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 5).await;
    for arguments in [
        vec!["publish".to_owned(), node.http("free/whip")],
        // Not `--fill`: here the oldest session without media gives way (tests/it/flood.rs).
        vec!["watch".to_owned(), node.http("cam/whep")],
    ] {
        let suite = tokio::process::Command::new(programs::python())
            .arg(programs::root().join("tests/conformance/whip.py"))
            .args(arguments)
            .output();
        let output = tokio::time::timeout(programs::PATIENCE, suite).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{said}");
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("\nnote"), "{said}");
    }
    push.finish().await;
    node.stop().await;
}
