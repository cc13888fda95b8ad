//! Requests and headers: what parses to what, and what is refused.

use super::*;

fn either(first: &str, last: &str) -> Place {
    Place::Either { first: first.into(), last: last.into() }
}

#[test]
fn a_path_is_a_channel_a_place_in_one_or_left_open() {
    let segment =
        |name: &str, place: &str| Place::Segment { name: name.into(), place: place.into() };
    let table = [
        ("cam", Ok(Place::Channel("cam".into()))),
        ("c%61m", Ok(Place::Channel("cam".into()))),
        ("cam/7", Ok(either("cam", "7"))),
        ("cam/next", Ok(either("cam", "next"))),
        ("cam/-out", Ok(either("cam", "-out"))),
        ("aa/cam-out/-1", Ok(segment("aa/cam-out", "-1"))),
        ("aa/cam-out/x", Ok(segment("aa/cam-out", "x"))),
        ("", Err(Refusal::Name)),
        ("/", Err(Refusal::Name)),
        ("cam/", Err(Refusal::Name)),
        ("a/b/c/d", Err(Refusal::Name)),
        ("..", Err(Refusal::Name)),
        ("%2e%2e/7", Err(Refusal::Name)),
        ("a%2Fb", Err(Refusal::Name)),
        ("a%", Err(Refusal::Name)),
        ("a%4", Err(Refusal::Name)),
        ("a%+4", Err(Refusal::Name)),
        ("a%00", Err(Refusal::Name)),
        ("a%0d%0ab", Err(Refusal::Name)),
        ("a%ff", Err(Refusal::Name)),
        ("ä", Err(Refusal::Name)),
    ];
    for (path, expected) in table {
        assert_eq!(Place::parse(path), expected, "{path}");
    }
    assert_eq!(Place::parse(&"x".repeat(NAME_MAX + 1)), Err(Refusal::Name));
    assert!(is_name("aa/cam-out") && is_name(&"x".repeat(NAME_MAX)));
    assert!(!is_name("a/b/c") && !is_name("") && !is_name("a%41") && !is_name("a/"));
}

#[test]
fn indices_are_whole_numbers_within_the_wire_and_negative_only_where_that_means_something() {
    use Refusal::Index;
    let table = [
        ("0", Ok(Target::At(0)), Ok(Start::At(0)), Ok(0)),
        ("7", Ok(Target::At(7)), Ok(Start::At(7)), Ok(7)),
        ("+7", Ok(Target::At(7)), Ok(Start::At(7)), Ok(7)),
        ("-0", Ok(Target::At(0)), Ok(Start::At(0)), Ok(0)),
        ("-1", Ok(Target::Next), Ok(Start::Next), Err(Index)),
        ("-2", Err(Index), Ok(Start::Current), Err(Index)),
        ("-3", Err(Index), Err(Index), Err(Index)),
        ("-9223372036854775808", Err(Index), Err(Index), Err(Index)),
        ("9223372036854775807", Err(Index), Err(Index), Err(Index)),
        ("9223372036854775808", Err(Index), Err(Index), Err(Index)),
        ("1.0", Err(Index), Err(Index), Err(Index)),
        ("0x1", Err(Index), Err(Index), Err(Index)),
        ("", Err(Index), Err(Index), Err(Index)),
        ("next", Err(Index), Err(Index), Err(Index)),
    ];
    for (text, publish, subscribe, delete) in table {
        assert_eq!(publish_index(text), publish, "{text}");
        assert_eq!(subscribe_index(text), subscribe, "{text}");
        assert_eq!(delete_index(text), delete, "{text}");
    }
}

#[test]
fn any_value_of_a_flag_header_counts_but_none() {
    let mut headers = HeaderMap::new();
    assert!(!flag_header(&headers, CLOSED));
    headers.insert(CLOSED, HeaderValue::from_static(""));
    assert!(!flag_header(&headers, CLOSED));
    headers.insert(CLOSED, HeaderValue::from_static("false"));
    assert!(flag_header(&headers, CLOSED));
}
