//! What a bare RTMP client says (Adobe RTMP 1.0): everything at once, without waiting for answers.

/// The stream.
const STREAM: &str = super::super::rig::STREAM;

/// Everything that a client says up to its wish, which the server need not answer in between.
pub(super) fn hello(wish: &[u8]) -> Vec<u8> {
    let mut hello = vec![3];
    hello.resize(1 + 2 * 1536, 0);
    // The largest chunks, so that each message is one.
    hello.extend(message(1, 0, &0xFF_FFFF_u32.to_be_bytes()));
    let app = [&[3, 0, 3][..], b"app", &text(STREAM), &[0, 0, 9]].concat();
    hello.extend(message(20, 0, &[text("connect"), number(1.0), app].concat()));
    hello.extend(message(20, 0, &[text("createStream"), number(2.0), vec![5]].concat()));
    hello.extend(message(20, 0, wish));
    hello
}

/// A message in one chunk on message stream 1.
pub(super) fn message(kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if kind == 9 { 6 } else { 3 }];
    bytes.extend(&time.min(0xFF_FFFF).to_be_bytes()[1..]);
    bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, 1, 0, 0, 0]);
    if time >= 0xFF_FFFF {
        bytes.extend(time.to_be_bytes());
    }
    bytes.extend(body);
    bytes
}

/// A text in AMF0.
pub(super) fn text(text: &str) -> Vec<u8> {
    [&[2, 0, text.len() as u8], text.as_bytes()].concat()
}

/// A number in AMF0.
pub(super) fn number(number: f64) -> Vec<u8> {
    [&[0], &number.to_be_bytes()[..]].concat()
}
