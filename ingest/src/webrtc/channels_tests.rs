//! Data channels: opening, questions and answers, and what is too much.

use super::super::sctp::tests::caller::Caller;
use super::*;

/// A peer and our side, a good way between them.
struct Pair {
    now: Instant,
    caller: Caller,
    channels: Channels,
    questions: Vec<Question>,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let mut pair = Self {
            now,
            caller: Caller::new(now),
            channels: Channels::new(now, None),
            questions: Vec::new(),
        };
        pair.run();
        assert!(pair.caller.is_connected());
        pair
    }

    fn open(labels: &[&str]) -> Self {
        let mut pair = Self::new();
        for (index, label) in labels.iter().enumerate() {
            pair.caller.open(pair.now, 2 * index as u16, label);
        }
        pair.run();
        pair
    }

    /// A second of both.
    fn run(&mut self) {
        for _ in 0..50 {
            for datagram in self.caller.outgoing(self.now) {
                self.channels.read(self.now, &datagram, &mut self.questions);
            }
            self.channels.handle_timeout(self.now);
            let mut buffer = Vec::new();
            while self.channels.poll_transmit(self.now, &mut buffer) {
                self.caller.read(self.now, &buffer);
            }
            self.now += Duration::from_millis(20);
        }
    }

    fn say(&mut self, stream: u16, text: &str) {
        self.caller.say(self.now, stream, text);
    }
}

#[test]
fn a_question_gets_its_answer_on_its_own_channel() {
    let mut pair = Pair::open(&["millstream", "millstream"]);
    let long = "ü".repeat(32_768);
    pair.say(0, "first");
    pair.say(2, &long);
    pair.run();
    let texts: Vec<&str> = pair.questions.iter().map(|q| q.text.as_str()).collect();
    assert!(texts.contains(&"first") && texts.contains(&&long[..]));
    for question in std::mem::take(&mut pair.questions) {
        pair.channels.answer(question.channel, Some(&question.text));
    }
    pair.run();
    assert_eq!(pair.caller.heard(0), ["first"]);
    assert!(pair.caller.heard(2) == [long]);
    assert_eq!(pair.channels.waiting, 0);
    assert_eq!(pair.channels.next_timeout(), None);
}

#[test]
fn a_fifth_channel_and_labels_of_others_are_closed() {
    let label = "millstream";
    let mut pair = Pair::open(&[label, "chat", label, label, label, label, ""]);
    pair.run();
    let open: Vec<u16> = (0..7).map(|index| index * 2).filter(|&s| pair.caller.has(s)).collect();
    assert_eq!(open, [0, 4, 6, 8]);
    pair.caller.close(pair.now, 4);
    pair.run();
    pair.caller.open(pair.now, 20, label);
    pair.say(20, "room again");
    pair.run();
    assert_eq!(pair.questions.len(), 1);
}

#[test]
fn a_message_without_a_channel_is_no_question() {
    let mut pair = Pair::new();
    let mut stream = pair
        .caller
        .association
        .open_stream(8, rtc_sctp::PayloadProtocolIdentifier::String)
        .unwrap();
    stream.write(pair.now, b"agreed without words").unwrap();
    pair.run();
    assert!(pair.questions.is_empty());
    assert!(!pair.caller.has(8));
}

#[test]
fn what_is_too_much_is_answered_with_an_error() {
    let mut pair = Pair::open(&["millstream"]);
    let kinds = |pair: &mut Pair| -> Vec<String> {
        let kind = |text: String| {
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            answer["error"]["type"].as_str().unwrap_or("answer").to_owned()
        };
        pair.caller.heard(0).into_iter().map(kind).collect()
    };
    pair.caller.send(pair.now, 0, &[0xff], rtc_sctp::PayloadProtocolIdentifier::String);
    pair.caller.send(pair.now, 0, b"x", rtc_sctp::PayloadProtocolIdentifier::Binary);
    pair.run();
    assert_eq!(kinds(&mut pair), ["not_text", "not_text"]);
    for _ in 0..10 {
        pair.say(0, "x");
    }
    pair.run();
    assert_eq!((pair.questions.len(), kinds(&mut pair)), (8, vec!["busy".into(), "busy".into()]));
    let mut answered = 0;
    for question in std::mem::take(&mut pair.questions) {
        pair.channels.answer(question.channel, None);
    }
    // The allowance is full again, and answers come at once.
    pair.now += Duration::from_secs(2);
    for _ in 0..5 {
        for _ in 0..8 {
            pair.say(0, "x");
        }
        for datagram in pair.caller.outgoing(pair.now) {
            pair.channels.read(pair.now, &datagram, &mut pair.questions);
        }
        for question in std::mem::take(&mut pair.questions) {
            pair.channels.answer(question.channel, Some("{}"));
            answered += 1;
        }
    }
    pair.run();
    assert_eq!(answered, RATE_PER_S);
    let kinds = kinds(&mut pair);
    assert_eq!(kinds.iter().filter(|kind| *kind == "rate_limit").count(), 20);
    assert_eq!(kinds.iter().filter(|kind| *kind == "answer").count(), 20);
}

#[test]
fn an_answer_is_no_longer_than_the_peer_takes() {
    let mut pair = Pair::open(&["millstream"]);
    pair.say(0, "x");
    pair.run();
    let channel = pair.questions[0].channel;
    pair.channels.answer(channel, Some(&"x".repeat(sctp::MESSAGE_BYTES_MAX + 1)));
    pair.channels.answer(channel, Some(&"x".repeat(sctp::MESSAGE_BYTES_MAX)));
    pair.channels.answer(channel, Some(""));
    pair.run();
    let heard = pair.caller.heard(0);
    assert!(heard[0].contains("too_long"));
    assert_eq!(heard[1].len(), sctp::MESSAGE_BYTES_MAX);
    assert_eq!(heard.len(), 3);
    for (stated, wanted) in [(None, 65_536), (Some(0), 65_536), (Some(100), 100)] {
        assert_eq!(Channels::new(pair.now, stated).answer_bytes_max, wanted);
    }
    assert_eq!(Channels::new(pair.now, Some(u64::MAX)).answer_bytes_max, 65_536);
}

#[test]
fn an_answer_is_not_for_the_next_channel_of_the_same_stream() {
    let mut pair = Pair::open(&["millstream"]);
    pair.say(0, "x");
    pair.run();
    let old = pair.questions[0].channel;
    // The peer resets a stream when its reader took what came on it.
    assert!(pair.caller.heard(0).is_empty());
    pair.caller.close(pair.now, 0);
    pair.run();
    pair.caller.open(pair.now, 0, "millstream");
    pair.run();
    pair.channels.answer(old, Some("late"));
    pair.run();
    assert!(pair.caller.heard(0).is_empty());
    pair.say(0, "y");
    pair.run();
    assert_eq!(pair.questions.len(), 2);
}

#[test]
fn results_stop_before_they_pile_up_and_go_on_when_the_peer_has_them() {
    use pipeline::Pts;

    use crate::rtp::packet::RtpTime;

    let mut pair = Pair::open(&["millstream"]);
    let mut results = Results::default();
    let document = format!(r#"{{"1":"{}"}}"#, "x".repeat(1000)).into();
    for index in 0..40 {
        results.push(pair.now, Pts(index), RtpTime(0), &document);
    }
    let first = pair.channels.tell_results(pair.now, &mut results);
    assert!((8..16).contains(&first), "{first} messages at once");
    assert!(!results.is_empty());
    // Nobody took any: no more follow.
    assert_eq!(pair.channels.tell_results(pair.now, &mut results), 0);
    let now = pair.now;
    pair.run();
    assert_eq!(pair.caller.heard(0).len() as u64, first);
    assert!(pair.channels.tell_results(now, &mut results) > 0, "they go on");
    pair.run();
    assert_eq!(pair.channels.tell_results(pair.now, &mut results), 0, "the rest is too late");
    assert!(results.take_dropped() > 0 && results.is_empty());
}

#[test]
fn results_that_nobody_listens_to_are_forgotten() {
    let mut pair = Pair::new();
    let mut results = Results::default();
    results.push(pair.now, pipeline::Pts(0), crate::rtp::packet::RtpTime(0), &"{}".into());
    assert_eq!(pair.channels.tell_results(pair.now, &mut results), 0);
    assert!(results.is_empty() && results.take_dropped() == 0);
}
