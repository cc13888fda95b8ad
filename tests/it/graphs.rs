//! Graphs change while a stream runs: at one picture, or not at all.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::LazyLock;

use codecs::h264::Decoder;
use ingest::hub::{Item, Reader, Start};
use pipeline::graph::passthrough_prompt;
use pipeline::stage::Decoder as _;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::card::{Card, Reading};
use crate::node::{Running, alone};
use crate::push::{LIVE, Push};

/// A graph that inverts the picture.
pub(crate) static INVERT: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "1": { "class_type": "LoadTensor", "inputs": {} },
        "2": { "class_type": "ImageInvert", "inputs": { "image": ["1", 0] } },
        "3": { "class_type": "SaveTensor", "inputs": { "images": ["2", 0] } },
    })
});

/// The graph as a file for the settings.
pub(crate) fn graph_file(graph: &Value) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(graph.to_string().as_bytes()).unwrap();
    file
}

/// Cards read from a stream in the hub, by time stamp, until `enough`.
pub(crate) async fn read_cards(
    reader: &mut Reader,
    mut enough: impl FnMut(&BTreeMap<i64, Option<Reading>>) -> bool,
) -> BTreeMap<i64, Option<Reading>> {
    let (mut decoder, mut cards, mut frames) = (None, BTreeMap::new(), Vec::new());
    while !enough(&cards) {
        let item = tokio::time::timeout(crate::programs::PATIENCE, reader.next()).await;
        match item.expect("the stream goes on") {
            Item::Tracks(tracks) => {
                decoder = Some(Decoder::with_threads(tracks.video.as_ref().unwrap(), 1).unwrap());
            }
            Item::Packet(packet) if packet.kind.is_video() => {
                decoder.as_mut().unwrap().decode(&packet, &mut frames).unwrap();
                cards.extend(frames.drain(..).map(|f| (f.pts.0, Card::read_frame(&f))));
            }
            Item::Packet(_) => {}
            Item::Lagged(count) => panic!("{count} packets lost"),
            Item::End => panic!("the stream ended"),
        }
    }
    cards
}

async fn post(node: &Running, graph: &Value) -> (u16, Value) {
    let url = node.admin("v1/streams/cam/graph");
    let answer = node.client.post(url).json(graph).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_graph_takes_effect_at_the_picture_that_the_answer_names() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 10).await;
    let mut reader = node.reader("cam-out", Start::LastKey).await;
    let reading = tokio::spawn(async move {
        let mut turned = Vec::new();
        read_cards(&mut reader, |cards| {
            // Until it was turned four times and ran on for a second.
            let Some((pts, Some(last))) = cards.last_key_value() else { return false };
            if turned.last().is_none_or(|(_, inverted)| *inverted != last.inverted) {
                turned.push((*pts, last.inverted));
            }
            turned.len() == 5 && pts - turned[4].0 > 90_000
        })
        .await
    });
    let mut named = Vec::new();
    for graph in [&*INVERT, &passthrough_prompt(), &*INVERT, &passthrough_prompt()] {
        let before = node.status().await["streams"].clone();
        let (status, answer) = post(&node, graph).await;
        assert_eq!(status, 200, "{answer:#}");
        named.push(answer["pts"].as_i64().expect("a time stamp"));
        let url = node.admin("v1/streams/cam/graph");
        let in_force: Value = node.client.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(in_force, *graph);
        let pictures = |status: &Value| status.as_array().unwrap()[1]["frames"].as_u64().unwrap();
        node.until("further pictures", |now| pictures(&now["streams"]) > pictures(&before) + 10)
            .await;
    }
    let cards = reading.await.unwrap();
    let mut inverted = false;
    let mut changes = Vec::new();
    for (pts, card) in &cards {
        let card = card.unwrap_or_else(|| panic!("the picture at {pts} is no card"));
        if card.inverted != inverted {
            inverted = card.inverted;
            changes.push(*pts);
        }
    }
    assert_eq!(changes, named, "the pictures change where the answers say");
    let numbers: Vec<_> = cards.values().flatten().map(|card| card.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] > pair[0]), "{numbers:?}");
    push.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_graph_names_node_and_input_and_the_old_one_runs_on() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 10).await;
    let mut bad = INVERT.clone();
    bad["2"] = json!({
        "class_type": "ImageBlur",
        "inputs": { "image": ["1", 0], "blur_radius": 100_000, "sigma": 1.0 },
    });
    let mut unknown = INVERT.clone();
    unknown["2"]["class_type"] = "NoSuchNode".into();
    let mut open = INVERT.clone();
    open["2"]["inputs"] = json!({});
    for (graph, words) in [
        (&bad, vec!["\"2\"", "blur_radius"]),
        (&unknown, vec!["NoSuchNode"]),
        (&open, vec!["\"2\"", "image"]),
        (&json!([1, 2]), vec![]),
    ] {
        let (status, answer) = post(&node, graph).await;
        assert_eq!(status, 400, "{answer:#}");
        let text = answer.to_string();
        for word in words {
            assert!(text.contains(word), "{word} is not named: {answer:#}");
        }
    }
    let (status, _) = {
        let url = node.admin("v1/streams/nobody/graph");
        let answer = node.client.post(url).json(&*INVERT).send().await.unwrap();
        (answer.status().as_u16(), answer)
    };
    assert_eq!(status, 404);
    let url = node.admin("v1/streams/cam/graph");
    let in_force: Value = node.client.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(in_force, passthrough_prompt());
    // More than a group, so that pictures from after the refusals are among them.
    let mut reader = node.reader("cam-out", Start::LastKey).await;
    let cards = read_cards(&mut reader, |cards| cards.len() >= 90).await;
    assert!(cards.values().flatten().all(|card| !card.inverted));
    push.finish().await;
    node.stop().await;
}
