//! Every row of the protocol's tables as text on a socket.

use std::time::Duration;

use trickle::{Access, Config, Hook, Limits, Wish};

use crate::support::{Node, Raw, soon};

async fn node(name: &str) -> Node {
    let node = Node::start(Config::default()).await;
    node.server.create(name, "video/MP2T", Access::ALL).unwrap();
    node
}

fn not_found() -> String {
    error("404 Not Found", "Stream not found", "")
}

fn error(status: &str, text: &str, more: &str) -> String {
    format!(
        "HTTP/1.1 {status}\nContent-Type: text/plain; charset=utf-8\n\
         X-Content-Type-Options: nosniff\n{more}Content-Length: {}\n{text}\n",
        text.len() + 1
    )
}

const OK: &str = "HTTP/1.1 200 OK\nContent-Length: 0\n";

/// Publishes a whole segment of one chunk.
async fn publish(node: &Node, name: &str, seq: i64, text: &str) {
    let mut raw = node.raw().await;
    raw.send(&format!("POST BASE/{name}/{seq} HTTP/1.1\nTransfer-Encoding: chunked")).await;
    raw.chunk(text).await;
    raw.chunk("").await;
    assert!(raw.answer().await.starts_with("HTTP/1.1 200 OK\n"));
}

#[tokio::test]
async fn a_channel_is_found_but_not_made_by_a_peer() {
    let node = node("cam").await;
    assert_eq!(node.ask("POST BASE/cam HTTP/1.1\nExpect-Content: text/plain").await, OK);
    assert_eq!(node.ask("POST BASE/new HTTP/1.1").await, not_found());
    assert!(!node.server.contains("new"));
}

#[tokio::test]
async fn with_autocreate_a_post_makes_the_channel_with_its_mime_type() {
    let node = Node::start(Config { autocreate: true, ..Config::default() }).await;
    assert_eq!(node.ask("POST BASE/one HTTP/1.1\nExpect-Content: text/one").await, OK);
    let posted = node.ask("POST BASE/two/0 HTTP/1.1\nContent-Type: text/two\nContent-Length: 0");
    assert!(posted.await.starts_with("HTTP/1.1 200 OK\nLp-Trickle-Seq: 0\n"));
    let refused = node.ask("POST BASE/three/x HTTP/1.1\nContent-Length: 0").await;
    assert_eq!(refused, error("400 Bad Request", "Invalid idx", ""));
    assert!(node.server.contains("three"), "made before its index is looked at");
    for (name, mime) in [("one", "text/one"), ("two", "text/two"), ("three", "video/MP2T")] {
        publish(&node, name, -1, "x").await;
        let mut raw = node.raw().await;
        raw.send(&format!("GET BASE/{name}/-2 HTTP/1.1")).await;
        assert!(raw.head().await.contains(&format!("Content-Type: {mime}\n")), "{name}");
    }
}

#[tokio::test]
async fn closing_a_channel_removes_it() {
    let node = node("cam").await;
    assert_eq!(node.ask("DELETE BASE/cam HTTP/1.1").await, OK);
    let gone = error("400 Bad Request", "Invalid stream", "");
    assert_eq!(node.ask("DELETE BASE/cam HTTP/1.1").await, gone);
    for request in ["GET BASE/cam/0", "GET BASE/cam/next", "DELETE BASE/cam/0"] {
        assert_eq!(node.ask(&format!("{request} HTTP/1.1")).await, not_found(), "{request}");
    }
    let answer = node.ask("POST BASE/cam/0 HTTP/1.1\nContent-Length: 0").await;
    assert_eq!(answer, error("404 Not Found", "Stream not found", "Connection: close\n"));
}

#[tokio::test]
async fn the_owner_may_refuse_with_a_status_of_its_own() {
    let hook = Hook::new(|ask| async move {
        let allowed = ask.headers.contains_key("x-ok");
        if allowed {
            Ok(())
        } else {
            Err((if ask.wish == Wish::Create { 402 } else { 302 }, "no".into()))
        }
    });
    let config = Config { autocreate: true, hook: Some(hook), ..Config::default() };
    let node = Node::start(config).await;
    let refused = node.ask("POST BASE/cam HTTP/1.1").await;
    assert_eq!(refused, error("402 Payment Required", "no", ""));
    assert_eq!(node.ask("POST BASE/cam HTTP/1.1\nX-Ok: 1").await, OK);
    let refused = node.ask("DELETE BASE/cam HTTP/1.1").await;
    assert_eq!(refused, error("400 Bad Request", "no", ""), "302 is no refusal");
    assert_eq!(node.ask("DELETE BASE/cam HTTP/1.1\nX-Ok: 1").await, OK);
}

#[tokio::test]
async fn a_chunk_is_readable_before_the_segment_ends_and_headers_wait_for_it() {
    let node = node("cam").await;
    let mut reader = node.raw().await;
    reader.send("GET BASE/cam/-1 HTTP/1.1").await;
    let mut writer = node.raw().await;
    writer.send("POST BASE/cam/-1 HTTP/1.1\nTransfer-Encoding: chunked").await;
    let mut byte = [0];
    let quiet = tokio::time::timeout(Duration::from_millis(50), reader.stream.peek(&mut byte));
    assert!(quiet.await.is_err(), "nothing may be sent before the first byte");
    writer.chunk("first").await;
    let head = "HTTP/1.1 200 OK\nLp-Trickle-Seq: 0\nContent-Type: video/MP2T\n\
                Transfer-Encoding: chunked\n";
    assert_eq!(reader.head().await, head, "no Lp-Trickle-Latest at the head itself");
    assert_eq!(reader.next_chunk().await, "first");
    writer.chunk("second").await;
    assert_eq!(reader.next_chunk().await, "second");
    let mut late = node.raw().await;
    late.send("GET BASE/cam/-2 HTTP/1.1").await;
    let head = "HTTP/1.1 200 OK\nLp-Trickle-Seq: 0\nLp-Trickle-Latest: 1\n\
                Content-Type: video/MP2T\nTransfer-Encoding: chunked\n";
    assert_eq!(late.head().await, head);
    assert_eq!(late.next_chunk().await, "first");
    assert_eq!(late.next_chunk().await, "second");
    writer.chunk("").await;
    assert_eq!(writer.answer().await, "HTTP/1.1 200 OK\nLp-Trickle-Seq: 0\nContent-Length: 0\n");
    assert_eq!(reader.next_chunk().await, "");
    assert_eq!(late.next_chunk().await, "");
}

#[tokio::test]
async fn the_connection_of_a_segment_serves_the_next_one() {
    let node = node("cam").await;
    let (mut writer, mut reader) = (node.raw().await, node.raw().await);
    for seq in 0..3 {
        writer.send(&format!("POST BASE/cam/{seq} HTTP/1.1\nContent-Length: 3")).await;
        writer.bytes("abc").await;
        assert!(writer.answer().await.contains(&format!("Lp-Trickle-Seq: {seq}\n")));
        reader.send(&format!("GET BASE/cam/{seq} HTTP/1.1")).await;
        reader.head().await;
        assert_eq!(reader.next_chunk().await + &reader.next_chunk().await, "abc");
    }
}

#[tokio::test]
async fn the_write_head_can_be_asked_for() {
    let node = node("cam").await;
    let head = "HTTP/1.1 200 OK\nLp-Trickle-Latest: 0\nContent-Length: 1\n0";
    assert_eq!(node.ask("GET BASE/cam/next HTTP/1.1").await, head);
    publish(&node, "cam", 11, "x").await;
    let head = "HTTP/1.1 200 OK\nLp-Trickle-Latest: 12\nContent-Length: 2\n12";
    assert_eq!(node.ask("GET BASE/cam/next HTTP/1.1").await, head);
}

#[tokio::test]
async fn a_segment_that_is_not_there_is_470_with_the_head() {
    let node = node("cam").await;
    for seq in 0..7 {
        publish(&node, "cam", seq, "x").await;
    }
    let expected = |seq: u32| {
        error(
            "470 <none>",
            "Entry not found",
            &format!("Lp-Trickle-Seq: {seq}\nLp-Trickle-Latest: 7\n"),
        )
    };
    for seq in [0, 1, 8, 99] {
        let answer = node.ask(&format!("GET BASE/cam/{seq} HTTP/1.1")).await;
        assert_eq!(answer, expected(seq));
    }
}

#[tokio::test]
async fn an_empty_publish_moves_the_head_and_is_read_as_an_empty_segment() {
    let node = node("cam").await;
    let mut reader = node.raw().await;
    reader.send("GET BASE/cam/0 HTTP/1.1").await;
    let answer = node.ask("POST BASE/cam/0 HTTP/1.1\nContent-Length: 0").await;
    let closed = "HTTP/1.1 200 OK\nLp-Trickle-Seq: 0\nConnection: close\nContent-Length: 0\n";
    assert_eq!(answer, closed);
    let empty = "HTTP/1.1 200 OK\nLp-Trickle-Seq: 0\nLp-Trickle-Latest: 1\nContent-Length: 0\n";
    assert_eq!(reader.answer().await, empty);
    assert_eq!(node.ask("GET BASE/cam/0 HTTP/1.1").await, empty);
}

#[tokio::test]
async fn closing_ends_waiting_requests_with_a_200_that_says_closed() {
    let node = node("cam").await;
    publish(&node, "cam", 0, "x").await;
    let (mut writer, mut reader) = (node.raw().await, node.raw().await);
    writer.send("POST BASE/cam/1 HTTP/1.1\nTransfer-Encoding: chunked").await;
    reader.send("GET BASE/cam/1 HTTP/1.1").await;
    until(|| node.server.snapshot().channels[0].1.readers == 1).await;
    until(|| node.server.snapshot().channels[0].1.writers == 1).await;
    assert_eq!(node.ask("DELETE BASE/cam HTTP/1.1").await, OK);
    let cut = "HTTP/1.1 200 OK\nLp-Trickle-Seq: 1\nConnection: close\n\
               Lp-Trickle-Closed: terminated\nContent-Length: 0\n";
    assert_eq!(writer.answer().await, cut);
    let answer = reader.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\nLp-Trickle-Seq: 1\nLp-Trickle-Latest: "));
    assert!(answer.ends_with("\nLp-Trickle-Closed: terminated\nContent-Length: 0\n"));
}

#[tokio::test]
async fn closing_lets_a_running_publish_and_its_readers_end_as_usual() {
    let node = node("cam").await;
    let (mut writer, mut reader) = (node.raw().await, node.raw().await);
    reader.send("GET BASE/cam/0 HTTP/1.1").await;
    writer.send("POST BASE/cam/0 HTTP/1.1\nTransfer-Encoding: chunked").await;
    writer.chunk("x").await;
    reader.head().await;
    node.server.close("cam").unwrap();
    assert_eq!((reader.next_chunk().await, reader.next_chunk().await), ("x".into(), "".into()));
    writer.chunk("orphan").await;
    writer.chunk("").await;
    assert_eq!(writer.answer().await, "HTTP/1.1 200 OK\nLp-Trickle-Seq: 0\nContent-Length: 0\n");
}

#[tokio::test]
async fn a_segment_can_be_closed_by_its_exact_index() {
    let node = node("cam").await;
    let (mut writer, mut reader) = (node.raw().await, node.raw().await);
    writer.send("POST BASE/cam/0 HTTP/1.1\nTransfer-Encoding: chunked").await;
    writer.chunk("x").await;
    reader.send("GET BASE/cam/0 HTTP/1.1").await;
    reader.head().await;
    assert_eq!(node.ask("DELETE BASE/cam/0 HTTP/1.1").await, OK);
    assert_eq!((reader.next_chunk().await, reader.next_chunk().await), ("x".into(), "".into()));
    let answer = node.ask("DELETE BASE/cam/9 HTTP/1.1").await;
    assert_eq!(answer, error("400 Bad Request", "Nonexistent segment", ""));
    let over = node.ask("POST BASE/cam/0 HTTP/1.1\nContent-Length: 0").await;
    let empty = "HTTP/1.1 200 OK\nLp-Trickle-Seq: 0\nConnection: close\nContent-Length: 0\n";
    assert_eq!(over, empty);
}

#[tokio::test]
async fn bad_indices_are_400_and_harm_nothing() {
    let node = node("cam").await;
    let refused = error("400 Bad Request", "Invalid idx", "");
    for seq in ["x", "-3", "-9223372036854775808", "9223372036854775807", "99999999999999999999"] {
        for method in ["GET", "DELETE", "POST"] {
            let answer = node.ask(&format!("{method} BASE/cam/{seq} HTTP/1.1")).await;
            assert_eq!(answer, refused, "{method} {seq}");
        }
    }
    for request in
        ["POST BASE/cam/-2", "DELETE BASE/cam/-1", "DELETE BASE/cam/-2", "POST BASE/cam/next"]
    {
        assert_eq!(node.ask(&format!("{request} HTTP/1.1")).await, refused, "{request}");
    }
    publish(&node, "cam", 0, "x").await;
    let far = node.ask("POST BASE/cam/9000000000 HTTP/1.1\nContent-Length: 0").await;
    assert_eq!(far, refused);
    publish(&node, "cam", 1, "still well").await;
}

#[tokio::test]
async fn a_broken_publish_leaves_the_segment_open_for_another() {
    let node = node("cam").await;
    let mut reader = node.raw().await;
    reader.send("GET BASE/cam/0 HTTP/1.1").await;
    let mut writer = node.raw().await;
    writer.send("POST BASE/cam/0 HTTP/1.1\nTransfer-Encoding: chunked").await;
    writer.chunk("one").await;
    reader.head().await;
    assert_eq!(reader.next_chunk().await, "one");
    writer.bytes("zz\r\n").await;
    assert_eq!(writer.answer().await, error("500 Internal Server Error", "Server error", ""));
    until(|| node.server.snapshot().channels[0].1.writers == 0).await;
    publish(&node, "cam", 0, "two").await;
    assert_eq!(reader.next_chunk().await, "two");
    assert_eq!(reader.next_chunk().await, "");
}

#[tokio::test]
async fn a_reset_ends_lower_segments_and_keeps_higher_ones() {
    let node = node("cam").await;
    let mut lower = node.raw().await;
    lower.send("POST BASE/cam/0 HTTP/1.1\nTransfer-Encoding: chunked").await;
    lower.chunk("x").await;
    let mut reader = node.raw().await;
    reader.send("GET BASE/cam/0 HTTP/1.1").await;
    reader.head().await;
    let mut higher = node.raw().await;
    higher.send("POST BASE/cam/4 HTTP/1.1\nTransfer-Encoding: chunked").await;
    until(|| node.server.snapshot().channels[0].1.writers == 2).await;
    let mut writer = node.raw().await;
    writer.send("POST BASE/cam/3 HTTP/1.1\nLp-Trickle-Reset: 1\nTransfer-Encoding: chunked").await;
    assert_eq!((reader.next_chunk().await, reader.next_chunk().await), ("x".into(), "".into()));
    let mut next = node.raw().await;
    next.send("GET BASE/cam/-1 HTTP/1.1").await;
    writer.chunk("three").await;
    assert!(next.head().await.contains("Lp-Trickle-Seq: 3\n"));
    higher.chunk("four").await;
    higher.chunk("").await;
    assert!(higher.answer().await.contains("Lp-Trickle-Seq: 4\n"));
}

#[tokio::test]
async fn a_channel_of_two_elements_keeps_its_own_indices_even_when_its_name_is_digits() {
    let node = Node::start(Config::default()).await;
    let prefix = trickle::unguessable();
    for name in ["12345678", "12345678-out"] {
        let name = format!("{prefix}/{name}");
        node.server.create(&name, "", Access::ALL).unwrap();
        publish(&node, &name, 0, "x").await;
        assert_eq!(node.ask(&format!("POST BASE/{name} HTTP/1.1")).await, OK);
        assert!(node.ask(&format!("GET BASE/{name}/next HTTP/1.1")).await.ends_with("\n1"));
        assert_eq!(node.ask(&format!("DELETE BASE/{name} HTTP/1.1")).await, OK);
    }
    assert_eq!(node.ask(&format!("GET BASE/{prefix}/0 HTTP/1.1")).await, not_found());
    assert_eq!(node.ask(&format!("GET BASE/{prefix}/a/b/0 HTTP/1.1")).await, not_found());
}

#[tokio::test]
async fn what_a_channel_does_not_allow_is_403() {
    let node = Node::start(Config::default()).await;
    node.server.create("in", "", Access::PUBLISH).unwrap();
    node.server.create("out", "", Access::SUBSCRIBE).unwrap();
    let publish_refused = error("403 Forbidden", "Publish not allowed", "");
    for request in ["POST BASE/out/0", "DELETE BASE/out/0", "DELETE BASE/out"] {
        assert_eq!(node.ask(&format!("{request} HTTP/1.1")).await, publish_refused);
    }
    let subscribe_refused = error("403 Forbidden", "Subscribe not allowed", "");
    for request in ["GET BASE/in/0", "GET BASE/in/next"] {
        assert_eq!(node.ask(&format!("{request} HTTP/1.1")).await, subscribe_refused);
    }
    publish(&node, "in", 0, "x").await;
    assert!(node.ask("GET BASE/out/next HTTP/1.1").await.starts_with("HTTP/1.1 200 OK\n"));
}

#[tokio::test]
async fn limits_answer_with_their_names() {
    let limits =
        Limits { segment_bytes: 1000, channels: 1, readers: 1, writers: 1, ..Limits::default() };
    let node = Node::start(Config { limits, autocreate: true, ..Config::default() }).await;
    assert_eq!(node.ask("POST BASE/cam HTTP/1.1").await, OK);
    let answer = node.ask("POST BASE/two HTTP/1.1").await;
    assert_eq!(answer, error("503 Service Unavailable", "Too many streams", ""));
    let mut reader = node.raw().await;
    reader.send("GET BASE/cam/0 HTTP/1.1").await;
    until(|| node.server.snapshot().channels[0].1.readers == 1).await;
    let answer = node.ask("GET BASE/cam/0 HTTP/1.1").await;
    assert_eq!(answer, error("503 Service Unavailable", "Too many readers", ""));
    let mut writer = node.raw().await;
    writer.send("POST BASE/cam/0 HTTP/1.1\nTransfer-Encoding: chunked").await;
    until(|| node.server.snapshot().channels[0].1.writers == 1).await;
    let answer = node.ask("POST BASE/cam/1 HTTP/1.1\nContent-Length: 0").await;
    assert_eq!(answer, error("503 Service Unavailable", "Too many writers", ""));
    writer.chunk("x").await;
    reader.head().await;
    assert_eq!(reader.next_chunk().await, "x");
    writer.chunk(&"x".repeat(1000)).await;
    assert!(writer.answer().await.starts_with("HTTP/1.1 413 Payload Too Large\n"));
    assert!(reader.at_end().await, "a cut segment never looks complete");
    assert_eq!(node.server.snapshot().refused, 4);
}

#[tokio::test]
async fn other_methods_are_405_and_other_paths_404() {
    let node = node("cam").await;
    let answer = node.ask("PUT BASE/cam HTTP/1.1").await;
    assert_eq!(
        answer,
        error("405 Method Not Allowed", "Method Not Allowed", "Allow: POST, DELETE\n")
    );
    assert!(node.ask("PATCH BASE/cam/0 HTTP/1.1").await.starts_with("HTTP/1.1 405 "));
    assert!(node.ask("GET BASE/ HTTP/1.1").await.starts_with("HTTP/1.1 404 "));
    assert!(node.ask("GET /elsewhere HTTP/1.1").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn readers_that_leave_are_noticed_while_they_wait_and_disturb_nobody() {
    let node = node("cam").await;
    let stay = subscribe(&node).await;
    let leave = subscribe(&node).await;
    until(|| node.server.snapshot().channels[0].1.readers == 2).await;
    drop(leave);
    until(|| node.server.snapshot().channels[0].1.readers == 1).await;
    publish(&node, "cam", 0, "x").await;
    let mut stay = stay;
    stay.head().await;
    assert_eq!(stay.next_chunk().await, "x");
}

async fn subscribe(node: &Node) -> Raw {
    let mut raw = node.raw().await;
    raw.send("GET BASE/cam/-1 HTTP/1.1").await;
    raw
}

#[tokio::test]
async fn the_change_feed_tells_who_comes_and_goes() {
    let node = Node::start(Config { changefeed: true, ..Config::default() }).await;
    let mut reader = node.raw().await;
    reader.send("GET BASE/_changes/0 HTTP/1.1").await;
    until(|| node.server.snapshot().channels[0].1.readers == 1).await;
    node.server.create("cam", "", Access::ALL).unwrap();
    node.server.close("cam").unwrap();
    assert!(reader.head().await.contains("Content-Type: application/json\n"));
    assert_eq!(reader.next_chunk().await, r#"{"added":["cam"]}"#);
    assert_eq!(reader.next_chunk().await, "");
    reader.send("GET BASE/_changes/1 HTTP/1.1").await;
    reader.head().await;
    assert_eq!(reader.next_chunk().await, r#"{"removed":["cam"]}"#);
    assert!(node.ask("DELETE BASE/_changes HTTP/1.1").await.starts_with("HTTP/1.1 403 "));
}

/// Waits for a state of the server that no answer announces.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
