//! Late, lost, doubled and restored packets in virtual time.

use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn drain(reorder: &mut Reorder<u16>, now: Instant) -> Vec<Output<u16>> {
    std::iter::from_fn(|| reorder.poll(now)).collect()
}

/// What came out, as packet values.
fn packets(outputs: &[Output<u16>]) -> Vec<u16> {
    let value = |output: &Output<u16>| match output {
        Output::Packet(seq, value) => {
            assert_eq!(seq.seq().0, *value);
            Some(*value)
        }
        _ => None,
    };
    outputs.iter().filter_map(value).collect()
}

#[test]
fn swapped_packets_come_out_in_order_and_nobody_is_asked() {
    let start = Instant::now();
    let mut reorder = Reorder::new(true);
    let mut outputs = Vec::new();
    for seq in [65_534, 0, 65_535, 2, 1, 3] {
        reorder.insert(start, Seq(seq), seq);
        outputs.extend(drain(&mut reorder, start));
    }
    assert_eq!(packets(&outputs), [65_534, 65_535, 0, 1, 2, 3]);
    assert_eq!(outputs.len(), 6, "{outputs:?}");
    assert_eq!(reorder.next_timeout(), None);
}

#[test]
fn a_hole_is_asked_for_again_and_given_up_in_the_end() {
    let start = Instant::now();
    let mut reorder = Reorder::new(true);
    reorder.set_rtt(ms(40));
    reorder.insert(start, Seq(10), 10);
    reorder.insert(start, Seq(13), 13);
    assert_eq!(packets(&drain(&mut reorder, start)), [10]);
    let mut asked = Vec::new();
    let mut now = start;
    while let Some(at) = reorder.next_timeout() {
        assert!(at > now, "time goes on");
        now = at;
        for output in drain(&mut reorder, now) {
            match output {
                Output::Nack(lost) => {
                    assert_eq!(lost, [Seq(11), Seq(12)]);
                    asked.push((now - start).as_millis());
                }
                Output::Lost { first, count } => {
                    assert_eq!((first.seq(), count), (Seq(11), 2));
                    assert_eq!(now - start, ms(300), "five times 1.5 round trips");
                }
                Output::Packet(_, value) => assert_eq!(value, 13),
            }
        }
    }
    assert_eq!(asked, [10, 70, 130, 190, 250]);
    assert_eq!(reorder.counts().lost, 2);
    assert_eq!(reorder.insert(now, Seq(11), 11), Inserted::Late);
}

#[test]
fn three_newer_packets_make_the_request_at_once() {
    let start = Instant::now();
    let mut reorder = Reorder::new(true);
    for seq in [1, 3, 4] {
        reorder.insert(start, Seq(seq), seq);
        assert!(!drain(&mut reorder, start).iter().any(|output| matches!(output, Output::Nack(_))));
    }
    reorder.insert(start, Seq(5), 5);
    assert_eq!(drain(&mut reorder, start), [Output::Nack(vec![Seq(2)])]);
    assert_eq!(reorder.insert(start, Seq(2), 2), Inserted::Recovered);
    assert_eq!(packets(&drain(&mut reorder, start)), [2, 3, 4, 5]);
    assert_eq!(reorder.insert(start, Seq(2), 2), Inserted::Late, "again");
}

#[test]
fn without_retransmission_a_hole_costs_twenty_milliseconds() {
    let start = Instant::now();
    let mut reorder = Reorder::new(false);
    for seq in [1, 3, 4, 5, 6] {
        reorder.insert(start, Seq(seq), seq);
    }
    assert_eq!(drain(&mut reorder, start).len(), 1);
    assert_eq!(reorder.next_timeout(), Some(start + ms(20)));
    let rest = drain(&mut reorder, start + ms(20));
    assert!(matches!(rest[0], Output::Lost { count: 1, .. }));
    assert_eq!(packets(&rest), [3, 4, 5, 6]);
}

#[test]
fn one_wild_number_is_ignored_and_two_in_a_row_begin_anew() {
    let start = Instant::now();
    let mut reorder = Reorder::new(true);
    for seq in [1, 2, 40_000, 3, 50_000] {
        reorder.insert(start, Seq(seq), seq);
    }
    assert_eq!(packets(&drain(&mut reorder, start)), [1, 2, 3]);
    assert_eq!(reorder.insert(start, Seq(50_001), 50_001), Inserted::New);
    reorder.insert(start, Seq(50_002), 50_002);
    let outputs = drain(&mut reorder, start);
    assert!(matches!(outputs[0], Output::Lost { .. }));
    assert_eq!(packets(&outputs), [50_000, 50_001, 50_002]);
    assert_eq!(reorder.counts().restarts, 1);
}

proptest! {
    #[test]
    fn what_comes_out_rises_and_every_number_is_accounted_for(
        steps in prop::collection::vec((0..60_u16, 0..40_u64, any::<bool>()), 1..400), ask in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let mut reorder = Reorder::new(ask);
        let (mut head, mut due) = (65_000_u16, None::<ExtSeq>);
        for (back, pause, fresh) in steps {
            if fresh { head = head.wrapping_add(back % 4 + 1); }
            let seq = if fresh { head } else { head.wrapping_sub(back) };
            now += ms(pause);
            reorder.insert(now, Seq(seq), seq);
            for output in std::iter::from_fn(|| reorder.poll(now)) {
                match output {
                    Output::Packet(number, value) => {
                        prop_assert_eq!(number.seq(), Seq(value));
                        prop_assert!(due.is_none_or(|due| due == number));
                        due = Some(number.plus(1));
                    }
                    Output::Lost { first, count } => {
                        prop_assert_eq!(due, Some(first));
                        due = Some(first.plus(count));
                    }
                    Output::Nack(lost) => prop_assert!(ask && lost.iter().all(|seq| seq.since(Seq(head)) < 0)),
                }
            }
            prop_assert!(reorder.next_timeout().is_none_or(|at| at > now), "a due timeout was drained");
            prop_assert!(reorder.slots.len() <= WINDOW_PACKETS_MAX);
        }
    }
}
