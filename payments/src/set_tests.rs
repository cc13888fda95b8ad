//! Sets: no two of them share a secret number, and a sender takes none that it did not agree to.

use super::*;
use crate::testing;

fn rand(set: &Set) -> U256 {
    set.recipient_rand(&testing::secret(), Network::default())
}

#[test]
fn each_field_changes_the_secret_number() {
    let set = testing::set();
    let changes: [fn(&mut Set); 13] = [
        |s| s.serial += 1,
        |s| s.epoch += 1,
        |s| s.session.0.0[0] ^= 1,
        |s| s.recipient.0.0[0] ^= 1,
        |s| s.sender.0.0[0] ^= 1,
        |s| s.size.width += 1,
        |s| s.size.height += 1,
        |s| s.fee = s.fee.saturating_add(Wei::new(1)),
        |s| s.face_value = s.face_value.saturating_add(Wei::new(1)),
        |s| s.win_prob += U256::from(1),
        |s| s.seal_block += 1,
        |s| s.creation.round += 1,
        |s| s.creation.hash.0[0] ^= 1,
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut other = set.clone();
        change(&mut other);
        assert_ne!(rand(&other), rand(&set), "change {i}");
        assert_eq!(other.open(&testing::secret(), Network::default()), None, "change {i}");
    }
    assert_eq!(set.open(&testing::secret(), Network::default()), Some(rand(&set)));
    let elsewhere = Network { chain_id: 1, ..Network::default() };
    assert_eq!(set.open(&testing::secret(), elsewhere), None);
    let elsewhere = Network { broker: Address::repeat_byte(1), ..Network::default() };
    assert_eq!(set.open(&testing::secret(), elsewhere), None);
    assert_eq!(set.open(&RandSecret::new([4; 32]), Network::default()), None);
}

#[test]
fn shifting_any_field_boundary_gives_another_list() {
    // Every way to cut the same run of bytes into the same number of fields gives its own list:
    // what the network's own formula lacks.
    let bytes = [1u8, 2, 3, 4, 5, 6, 7, 8];
    let mut lists = std::collections::HashSet::new();
    let mut cuts = 0;
    for a in 0..=bytes.len() {
        for b in a..=bytes.len() {
            cuts += 1;
            lists.insert(length_prefixed(&[&bytes[..a], &bytes[a..b], &bytes[b..]]));
        }
    }
    assert_eq!(lists.len(), cuts);

    // The same on a real set: for each pair of neighbours, move the border by each byte.
    let list = testing::set().derivation_list(Network::default());
    let mut fields = Vec::new();
    let mut rest = &list[..];
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (field, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        fields.push(field);
        rest = tail;
    }
    assert_eq!(fields.len(), 16);
    assert_eq!(length_prefixed(&fields), list);
    for i in 0..fields.len() - 1 {
        let joined = [fields[i], fields[i + 1]].concat();
        for cut in 0..=joined.len() {
            let (left, right) = joined.split_at(cut);
            let mut shifted = fields.clone();
            (shifted[i], shifted[i + 1]) = (left, right);
            assert_eq!(length_prefixed(&shifted) == list, left == fields[i], "field {i} at {cut}");
        }
    }
}

fn expected() -> Expected {
    let set = testing::set();
    Expected {
        recipient: set.recipient,
        sender: set.sender,
        session: set.session,
        price: PricePerPixel::new(1000, 640 * 360).unwrap(),
        face_value_max: Wei::new(4000),
        head: None,
        ledger_round_hash: None,
    }
}

fn head() -> Head {
    Head {
        block: 50,
        round: 3,
        round_start_block: 0,
        round_length: 100,
        round_hash: B256::repeat_byte(9),
        ticket_validity_rounds: 2,
    }
}

#[test]
fn a_sender_takes_the_set_that_it_agreed_to() {
    let set = testing::set();
    assert_eq!(set.check(&expected()), Ok(()));
    assert_eq!(set.check(&Expected { head: Some(head()), ..expected() }), Ok(()));
    let next_round = Head { round: 4, round_hash: B256::repeat_byte(1), ..head() };
    assert_eq!(set.check(&Expected { head: Some(next_round), ..expected() }), Ok(()));
}

#[test]
fn a_sender_names_what_it_did_not_agree_to() {
    let refusal = |change: fn(&mut Set)| {
        let mut set = testing::set();
        change(&mut set);
        set.check(&expected()).unwrap_err()
    };
    let other = Address::repeat_byte(1);
    assert_eq!(refusal(|s| s.recipient = Address::repeat_byte(1)), SetRefusal::Recipient(other));
    assert_eq!(refusal(|s| s.sender = Address::repeat_byte(1)), SetRefusal::Sender(other));
    assert_eq!(refusal(|s| s.session = SessionId::default()), SetRefusal::Session);
    let fee = Wei::new(1001);
    let agreed = Wei::new(1000);
    assert_eq!(refusal(|s| s.fee = Wei::new(1001)), SetRefusal::Fee { fee, agreed });
    // A larger picture at the same fee: the price does not fit.
    assert!(matches!(refusal(|s| s.size.width += 1), SetRefusal::Fee { .. }));
    // An inflated face value with the old probability costs the sender more than the fee.
    let inflated = refusal(|s| s.face_value = Wei::new(4001));
    assert_eq!(inflated, SetRefusal::FaceValueHigh(Wei::new(4001)));
    let tampered = |s: &mut Set| s.win_prob = s.win_prob / U256::from(2) * U256::from(3);
    assert_eq!(refusal(tampered), SetRefusal::ExpectedValue(Wei::new(1500)));
    let low = |s: &mut Set| (s.face_value, s.win_prob) = (Wei::new(1000), U256::MAX);
    assert_eq!(refusal(low), SetRefusal::FaceValueLow(Wei::new(1000)));
    assert_eq!(refusal(|s| s.creation.hash = B256::ZERO), SetRefusal::ZeroRoundHash(3));
}

#[test]
fn a_sender_with_its_own_view_refuses_a_round_that_it_does_not_see() {
    let check = |head| testing::set().check(&Expected { head: Some(head), ..expected() });
    assert_eq!(check(Head { round: 5, ..head() }), Err(SetRefusal::Round(3)));
    let other_hash = Head { round_hash: B256::repeat_byte(1), ..head() };
    assert_eq!(check(other_hash), Err(SetRefusal::Round(3)));
    let late = Head { block: 100, ..head() };
    assert_eq!(check(late), Err(SetRefusal::Sealed { seal_block: 100, block: 100 }));
    let on_a_ledger = Expected { ledger_round_hash: Some(B256::ZERO), ..expected() };
    assert_eq!(testing::set().check(&on_a_ledger), Err(SetRefusal::Round(3)));
}
