//! The winners of a set against a model that shares nothing with this crate: `vectors/winners.py`
//! computed everything from the fields of the set and wrote `vectors/winners.txt`.

use std::collections::{BTreeSet, HashMap};

use alloy_primitives::keccak256;

use crate::testing;
use crate::ticket::wins;

fn model() -> HashMap<&'static str, &'static str> {
    let lines = include_str!("../vectors/winners.txt").lines();
    lines.filter_map(|line| line.split_once(' ')).collect()
}

#[test]
fn the_winners_of_a_set_are_those_of_an_independent_model() {
    let (model, set, key) = (model(), testing::set(), testing::key(1));
    assert_eq!(hex::encode(set.sender), model["sender"]);
    assert_eq!(hex::encode(set.recipient), model["recipient"]);
    assert_eq!(hex::encode(set.recipient_rand_hash), model["rand_hash"]);
    let tickets: u32 = model["tickets"].parse().unwrap();
    let hashes: Vec<u8> = (1..=tickets).flat_map(|n| set.ticket(n).hash().0).collect();
    assert_eq!(hex::encode(keccak256(hashes)), model["hashes"]);

    let rand = set.open(&testing::secret(), Default::default()).unwrap();
    let won: BTreeSet<u32> = (1..=tickets)
        .filter(|n| wins(&key.sign(set.ticket(*n).digest()), &rand, &set.win_prob))
        .collect();
    let expected: BTreeSet<u32> =
        model["winners"].split(' ').map(|nonce| nonce.parse().unwrap()).collect();
    assert_eq!(won, expected);
    assert!((110..190).contains(&won.len()), "{} of 600 at one in four", won.len());
}
