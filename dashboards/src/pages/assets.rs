//! The files, which are part of the program, and how they are handed out.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file of `web/`.
pub(super) struct Asset {
    name: &'static str,
    kind: &'static str,
    body: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        asset!("../../web/", $name, $kind)
    };
    ($folder:literal, $name:literal, $kind:expr) => {
        Asset { name: $name, kind: $kind, body: include_bytes!(concat!($folder, $name)) }
    };
}

pub(super) static LANDING: Asset = asset!("landing.html", HTML);
pub(super) static PLAYER: Asset = asset!("player.html", HTML);
pub(super) static PUBLISH: Asset = asset!("publish.html", HTML);
pub(super) static CONSOLE: Asset = asset!("console.html", HTML);
pub(super) static ICON: Asset = asset!("icon.svg", PICTURE);

/// What is below `/assets/`.
static FILES: [Asset; 20] = [
    asset!("../../assets/", "hls.light.min.mjs", SCRIPT),
    asset!("../../assets/", "hls.LICENSE", TEXT),
    asset!("millstream.js", SCRIPT),
    asset!("fallback.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("streams.js", SCRIPT),
    asset!("landing.js", SCRIPT),
    asset!("player.js", SCRIPT),
    asset!("publish.js", SCRIPT),
    asset!("console.js", SCRIPT),
    asset!("charts.js", SCRIPT),
    asset!("graph.js", SCRIPT),
    asset!("coding.js", SCRIPT),
    asset!("money.js", SCRIPT),
    asset!("base.css", STYLE),
    asset!("edge.css", STYLE),
    asset!("console.css", STYLE),
    asset!("icon.svg", PICTURE),
    asset!("wave.svg", PICTURE),
];

/// A file by its name below `/assets/`.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    FILES.iter().find(|asset| asset.name == name)
}

impl Asset {
    /// The file, or 304 when the client has it. Clients ask again each time, which costs one short
    /// answer and never shows a page with the script of another version.
    pub(super) fn respond(&self, request: &HeaderMap) -> Response {
        let tag = self.tag();
        let known = request.get_all(header::IF_NONE_MATCH).iter().any(|value| {
            let list = value.to_str().unwrap_or_default().split(',').map(str::trim);
            list.map(|one| one.trim_start_matches("W/")).any(|one| one == tag || one == "*")
        });
        let mut response = match known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => self.body.into_response(),
        };
        let headers = response.headers_mut();
        if !known {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    /// Changes with the content: FNV-1a over it. Nothing rests on it but a cache.
    fn tag(&self) -> String {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        format!("\"{:016x}\"", self.body.iter().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;

    /// What pages and scripts name as `/assets/…` or `./….js`.
    fn named(text: &str) -> impl Iterator<Item = &str> {
        let after = |mark: &'static str| text.split(mark).skip(1);
        after("\"/assets/")
            .chain(after("from \"./"))
            .chain(after("import(\"./"))
            .filter_map(|rest| rest.split(['"', '?']).next())
    }

    #[test]
    fn every_file_that_a_page_names_is_there() {
        let pages = [&LANDING, &PLAYER, &PUBLISH, &CONSOLE];
        let answered_elsewhere = ["streams.json", "node.json", "qr.svg"];
        for asset in pages.into_iter().chain(&FILES) {
            let text = std::str::from_utf8(asset.body).unwrap();
            for name in named(text) {
                let found = find(name).is_some() || answered_elsewhere.contains(&name);
                assert!(found, "{} names {name}", asset.name);
            }
        }
    }

    #[test]
    fn pages_hold_no_script_style_or_address_of_their_own() {
        for asset in [&LANDING, &PLAYER, &PUBLISH, &CONSOLE] {
            let text = std::str::from_utf8(asset.body).unwrap();
            assert!(!text.contains("style="), "{}: the policy forbids inline styles", asset.name);
            assert!(!text.contains("<style"), "{}", asset.name);
            assert!(!text.contains("onclick"), "{}", asset.name);
            assert!(!text.contains("<script>"), "{}", asset.name);
            let plain = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!plain.contains("src=\"http"), "{}: nothing comes from elsewhere", asset.name);
        }
    }

    /// Browsers are not needed for this, Node is; `./x test` brings it.
    #[test]
    fn scripts_are_modules_without_syntax_errors() {
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        let own = FILES.iter().filter(|asset| !asset.name.starts_with("hls."));
        for asset in own.filter(|asset| asset.kind == SCRIPT) {
            let script = std::fs::File::open(format!("{scripts}/{}", asset.name)).unwrap();
            let check = std::process::Command::new("node")
                .args(["--check", "--input-type=module"])
                .stdin(script)
                .output();
            let Ok(check) = check else {
                eprintln!("Node is not installed: the syntax of scripts was not checked");
                return;
            };
            let problem = String::from_utf8_lossy(&check.stderr);
            assert!(check.status.success(), "{}: {problem}", asset.name);
        }
    }

    /// hls.js 1.7.4, light build, as its makers published it (`dist/hls.light.min.mjs` and `LICENSE`
    /// of the npm package). A newer one comes with its own sums.
    #[test]
    fn what_others_made_is_as_they_made_it() {
        for (name, sum) in [
            (
                "hls.light.min.mjs",
                "3d82a88cf9ae0d9aaab3cbe9ff6ecbb64bb89c54a399c34ae9bf8b559baeb20f",
            ),
            ("hls.LICENSE", "ca8773cf798c7ed997d4dd7c8e23c348699f8d5b7462636694cc14de6cda12db"),
        ] {
            let digest = sha2::Sha256::digest(find(name).unwrap().body);
            let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text, sum, "{name}");
        }
    }

    #[test]
    fn scripts_put_no_text_in_as_markup() {
        for asset in &FILES {
            let text = std::str::from_utf8(asset.body).unwrap();
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(word), "{} uses {word}", asset.name);
            }
        }
    }
}
