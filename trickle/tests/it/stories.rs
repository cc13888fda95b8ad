//! One story, three roads: in process, HTTP/1.1, and HTTP/2 over TLS. The same must be seen.

use std::time::Duration;

use bytes::Bytes;
use trickle::{
    Access, Client, ClientConfig, Config, Error, Publisher, PublisherOptions, Segment, Start,
    Subscriber, SubscriberOptions,
};

use crate::support::{Node, soon};
use crate::wire::until;

#[derive(Clone, Copy, PartialEq)]
enum Road {
    Local,
    Http1,
    Http2,
}

/// A server with one channel, `aa/cam`, and the way to it.
struct World {
    road: Road,
    node: Node,
    client: Client,
}

const CAM: &str = "aa/cam";

impl World {
    async fn new(road: Road) -> Self {
        let node = match road {
            Road::Http2 => Node::start_tls(Config::default(), &["h2", "http/1.1"]).await,
            _ => Node::start(Config::default()).await,
        };
        node.server.create(CAM, "video/MP2T", Access::ALL).unwrap();
        Self { road, node, client: Client::new(&ClientConfig::default()).unwrap() }
    }

    async fn publisher(&self) -> Publisher {
        if self.road == Road::Local {
            return self.node.server.local_publisher(CAM).unwrap();
        }
        let options = PublisherOptions { retries: 1, ..PublisherOptions::default() };
        self.client.publisher(&self.node.url(CAM), options).await.unwrap()
    }

    async fn subscriber(&self, start: Start) -> Subscriber {
        let before = self.readers();
        let subscriber = if self.road == Road::Local {
            self.node.server.local_subscriber(CAM, start).unwrap()
        } else {
            let options = SubscriberOptions { start, ..SubscriberOptions::default() };
            self.client.subscriber(&self.node.url(CAM), options).await.unwrap()
        };
        // One at the live edge has to be in place before something is written.
        until(|| start != Start::Next || self.readers() > before).await;
        subscriber
    }

    fn readers(&self) -> usize {
        self.node.server.snapshot().channels[0].1.readers
    }

    fn head(&self) -> u64 {
        self.node.server.snapshot().channels[0].1.next
    }
}

macro_rules! stories {
    ($($name:ident)*) => {
        mod in_process { $(#[tokio::test] async fn $name() { super::$name(super::Road::Local).await })* }
        mod over_http1 { $(#[tokio::test] async fn $name() { super::$name(super::Road::Http1).await })* }
        mod over_http2 { $(#[tokio::test] async fn $name() { super::$name(super::Road::Http2).await })* }
    };
}

stories! {
    a_chunk_is_read_before_its_segment_ends
    segments_come_in_order_and_whole
    a_late_reader_gets_the_running_segment_from_its_beginning
    a_reader_that_lags_jumps_to_the_head_and_is_told_how_far
    closing_the_channel_ends_its_readers_and_its_publishers
    a_channel_that_is_not_there_is_not_found
    an_empty_segment_is_a_segment
    a_segment_given_up_ends_and_the_next_one_works
    a_dropped_writer_keeps_no_reader_waiting
    segments_in_flight_are_counted
    a_cancelled_next_loses_nothing
    seeking_goes_on_elsewhere
    a_big_chunk_arrives_byte_for_byte
}

async fn write(publisher: &mut Publisher, text: &str) -> u64 {
    let mut segment = soon(publisher.next()).await.unwrap();
    let seq = segment.seq();
    soon(segment.write(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
    soon(segment.close()).await.unwrap();
    seq
}

async fn next(subscriber: &mut Subscriber) -> Segment {
    soon(subscriber.next()).await.unwrap().expect("a segment")
}

async fn rest(segment: &mut Segment) -> String {
    let mut bytes = Vec::new();
    while let Some(chunk) = soon(segment.chunk()).await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).unwrap()
}

async fn a_chunk_is_read_before_its_segment_ends(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    let mut writing = soon(publisher.next()).await.unwrap();
    for round in 0..3 {
        writing.write(Bytes::from(format!("chunk {round}"))).await.unwrap();
    }
    let mut reading = next(&mut subscriber).await;
    assert_eq!((reading.seq(), reading.content_type()), (0, Some("video/MP2T")));
    let mut seen = String::new();
    while !seen.ends_with("chunk 2") {
        let chunk = soon(reading.chunk()).await.unwrap().expect("not ended");
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    writing.write(Bytes::from_static(b"last")).await.unwrap();
    assert_eq!(soon(reading.chunk()).await.unwrap().as_deref(), Some(&b"last"[..]));
    soon(writing.close()).await.unwrap();
    assert_eq!(soon(reading.chunk()).await.unwrap(), None);
    assert_eq!(soon(reading.chunk()).await.unwrap(), None, "and stays at its end");
}

async fn segments_come_in_order_and_whole(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    for seq in 0..40 {
        let text = format!("segment {seq}");
        assert_eq!(write(&mut publisher, &text).await, seq);
        let mut segment = next(&mut subscriber).await;
        assert_eq!((segment.seq(), segment.skipped()), (seq, 0));
        assert_eq!(rest(&mut segment).await, text);
    }
}

async fn a_late_reader_gets_the_running_segment_from_its_beginning(road: Road) {
    let world = World::new(road).await;
    let mut publisher = world.publisher().await;
    write(&mut publisher, "before").await;
    let mut writing = soon(publisher.next()).await.unwrap();
    writing.write(Bytes::from_static(b"early ")).await.unwrap();
    until(|| world.head() == 2).await;
    let mut subscriber = world.subscriber(Start::Current).await;
    let mut reading = next(&mut subscriber).await;
    assert_eq!((reading.seq(), reading.latest()), (1, Some(2)));
    writing.write(Bytes::from_static(b"late")).await.unwrap();
    soon(writing.close()).await.unwrap();
    assert_eq!(rest(&mut reading).await, "early late");
}

async fn a_reader_that_lags_jumps_to_the_head_and_is_told_how_far(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    write(&mut publisher, "x").await;
    let (first, mut seen) = (next(&mut subscriber).await, 1);
    assert_eq!(first.seq(), 0);
    for _ in 0..20 {
        write(&mut publisher, "x").await;
    }
    loop {
        let segment = tokio::select! {
            segment = subscriber.next() => segment.unwrap().unwrap(),
            () = async { loop { write(&mut publisher, "x").await; } } => unreachable!(),
        };
        assert_eq!(segment.seq(), seen + segment.skipped(), "nothing is unaccounted for");
        seen = segment.seq() + 1;
        if segment.skipped() > 0 {
            assert!(segment.skipped() >= 15, "{}", segment.skipped());
            break;
        }
    }
    assert!(world.node.server.snapshot().channels[0].1.jumps > 0);
}

async fn closing_the_channel_ends_its_readers_and_its_publishers(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    let mut other = world.publisher().await;
    write(&mut publisher, "x").await;
    let mut segment = next(&mut subscriber).await;
    soon(publisher.close()).await.unwrap();
    assert_eq!(rest(&mut segment).await, "x");
    assert!(soon(subscriber.next()).await.unwrap().is_none());
    assert!(soon(subscriber.next()).await.unwrap().is_none());
    let failure = soon(async {
        loop {
            let answer = match other.next().await {
                Ok(segment) => segment.close().await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = answer {
                return failure;
            }
        }
    });
    let failure = failure.await;
    assert!(failure.is_gone() && !failure.can_retry(), "{failure}");
    assert!(matches!(soon(other.close()).await, Err(Error::NotFound { .. })));
}

async fn a_channel_that_is_not_there_is_not_found(road: Road) {
    let world = World::new(road).await;
    let server = &world.node.server;
    let (publishing, subscribing) = if road == Road::Local {
        let publishing = server.local_publisher("aa/none").map(drop);
        (publishing, server.local_subscriber("aa/none", Start::Next).map(drop))
    } else {
        let url = world.node.url("aa/none");
        let mut publisher =
            world.client.publisher(&url, PublisherOptions::default()).await.unwrap();
        let mut subscriber =
            world.client.subscriber(&url, SubscriberOptions::default()).await.unwrap();
        let publishing = loop {
            let answer = match soon(publisher.next()).await {
                Ok(segment) => soon(segment.close()).await,
                Err(failure) => Err(failure),
            };
            if answer.is_err() {
                break answer;
            }
        };
        (publishing, soon(subscriber.next()).await.map(drop))
    };
    assert!(matches!(publishing, Err(Error::NotFound { .. })), "{publishing:?}");
    assert!(matches!(subscribing, Err(Error::NotFound { .. })), "{subscribing:?}");
}

async fn an_empty_segment_is_a_segment(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    let empty = soon(publisher.next()).await.unwrap();
    soon(empty.close()).await.unwrap();
    let mut segment = next(&mut subscriber).await;
    assert_eq!((segment.seq(), rest(&mut segment).await.as_str()), (0, ""));
    write(&mut publisher, "full").await;
    let mut segment = next(&mut subscriber).await;
    assert_eq!((segment.seq(), rest(&mut segment).await.as_str()), (1, "full"));
}

async fn a_segment_given_up_ends_and_the_next_one_works(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    let mut writing = soon(publisher.next()).await.unwrap();
    writing.write(Bytes::from_static(b"half")).await.unwrap();
    let mut segment = next(&mut subscriber).await;
    assert_eq!(soon(segment.chunk()).await.unwrap().as_deref(), Some(&b"half"[..]));
    writing.abort();
    assert_eq!(rest(&mut segment).await, "");
    write(&mut publisher, "whole").await;
    let mut segment = next(&mut subscriber).await;
    assert_eq!((segment.seq(), rest(&mut segment).await.as_str()), (1, "whole"));
    until(|| publisher.in_flight() == 0).await;
}

async fn a_dropped_writer_keeps_no_reader_waiting(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    until(|| world.node.server.snapshot().channels[0].1.writers > 0 || road == Road::Local).await;
    drop(soon(publisher.next()).await.unwrap());
    let mut segment = next(&mut subscriber).await;
    assert_eq!((segment.seq(), rest(&mut segment).await.as_str()), (0, ""));
}

async fn segments_in_flight_are_counted(road: Road) {
    let world = World::new(road).await;
    let mut publisher = world.publisher().await;
    assert_eq!(publisher.in_flight(), 0);
    let mut segments = Vec::new();
    for count in 1..=4 {
        segments.push(soon(publisher.next()).await.unwrap());
        assert_eq!(publisher.in_flight(), count);
    }
    for (count, segment) in segments.into_iter().enumerate().rev() {
        soon(segment.close()).await.unwrap();
        assert_eq!(publisher.in_flight(), count);
    }
}

async fn a_cancelled_next_loses_nothing(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    for seq in 0..5 {
        let waiting = tokio::time::timeout(Duration::from_millis(5), subscriber.next());
        assert!(waiting.await.is_err());
        write(&mut publisher, "x").await;
        let mut segment = next(&mut subscriber).await;
        assert_eq!((segment.seq(), segment.skipped()), (seq, 0));
        assert_eq!(rest(&mut segment).await, "x");
        let ended = tokio::time::timeout(Duration::from_millis(5), segment.chunk()).await;
        assert_eq!(ended.unwrap().unwrap(), None);
    }
}

async fn seeking_goes_on_elsewhere(road: Road) {
    let world = World::new(road).await;
    let mut publisher = world.publisher().await;
    for text in ["zero", "one", "two", "three"] {
        write(&mut publisher, text).await;
    }
    let mut subscriber = world.subscriber(Start::At(0)).await;
    assert_eq!(rest(&mut next(&mut subscriber).await).await, "zero");
    let mut unread = next(&mut subscriber).await;
    subscriber.seek(Start::At(3));
    let mut segment = next(&mut subscriber).await;
    assert_eq!((segment.seq(), segment.skipped()), (3, 0));
    assert_eq!(rest(&mut segment).await, "three");
    assert_eq!(rest(&mut unread).await, "one");
    subscriber.seek(Start::Current);
    assert_eq!(rest(&mut next(&mut subscriber).await).await, "three");
}

async fn a_big_chunk_arrives_byte_for_byte(road: Road) {
    let world = World::new(road).await;
    let (mut publisher, mut subscriber) =
        (world.publisher().await, world.subscriber(Start::Next).await);
    let bytes: Vec<u8> =
        (0..12u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let big = Bytes::from(bytes);
    let mut writing = soon(publisher.next()).await.unwrap();
    let sending = async {
        for part in big.chunks(3 << 20) {
            writing.write(big.slice_ref(part)).await.unwrap();
        }
        writing.close().await.unwrap();
    };
    let receiving = async {
        let mut segment = next(&mut subscriber).await;
        let mut at = 0;
        while let Some(chunk) = segment.chunk().await.unwrap() {
            assert_eq!(chunk, big[at..at + chunk.len()]);
            at += chunk.len();
        }
        at
    };
    let ((), received) = soon(async { tokio::join!(sending, receiving) }).await;
    assert_eq!(received, big.len());
}
