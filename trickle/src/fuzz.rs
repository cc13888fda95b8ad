//! Fuzz targets: whatever a peer can put into a path or a header.

use ::http::{HeaderMap, HeaderValue, Method};

use crate::http::{self, Operation, Place};

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Must neither panic nor hang, and use bounded memory, for any input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: &'static [&'static [u8]],
}

/// All targets of this crate.
pub const TARGETS: &[Target] = &[Target {
    name: "trickle_request",
    run: request,
    seeds: &[
        b"GET cam/-1\nlp-trickle-latest: 5\n",
        b"POST 0123456789abcdef0123456789abcdef/cam-out/7\nlp-trickle-reset: 1\n",
        b"DELETE c%61m/9223372036854775807\nexpect-content: video/MP2T\n",
        b"GET cam/next\nlp-trickle-seq: -2\n",
    ],
}];

/// A method, a path and header lines, as text that need not be any.
fn request(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let (method, path) = first.split_once(' ').unwrap_or(("GET", first));
    let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
    match Place::parse(path) {
        Err(_) => {}
        Ok(Place::Channel(name)) => {
            assert!(http::is_name(&name));
            Operation::of(&method, None);
        }
        Ok(Place::Either { first, last }) => {
            assert!(http::is_name(&format!("{first}/{last}")));
            place(&method, &last);
        }
        Ok(Place::Segment { name, place: last }) => {
            assert!(http::is_name(&name));
            place(&method, &last);
        }
    }
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')).take(64) {
        if let (Ok(name), Ok(value)) =
            (name.parse::<::http::HeaderName>(), HeaderValue::from_str(value.trim()))
        {
            headers.insert(name, value);
        }
    }
    for name in [http::SEQ, http::LATEST] {
        http::index_header(&headers, name);
    }
    http::flag_header(&headers, http::RESET);
    http::mime_header(&headers, http::EXPECT_CONTENT);
}

fn place(method: &Method, last: &str) {
    Operation::of(method, Some(last));
    http::is_place(last);
    if let Ok(index) = http::delete_index(last) {
        assert!(http::subscribe_index(last).is_ok() && http::publish_index(last).is_ok());
        assert!(index <= crate::channel::INDEX_MAX);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_pass() {
        for target in super::TARGETS {
            target.seeds.iter().for_each(|seed| (target.run)(seed));
        }
    }
}
