//! The rules of this repository that a machine can check. Each failure names file, line and remedy.
//!
//! What the rules are for is in `ARCHITECTURE.md`. A rule that is in the way is changed here, in a
//! commit that says why; it is not worked around.

#![allow(clippy::unwrap_used, reason = "all of this is tests, the support too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::Table;

/// Which members of the workspace a member may use.
const IMPORTS: &[(&str, &[&str])] = &[
    ("pipeline", &[]),
    ("pipeline/codecs", &["pipeline"]),
    ("gpu", &["pipeline"]),
    ("ingest", &["pipeline"]),
    ("trickle", &[]),
    ("payments", &[]),
    ("chain", &[]),
    ("dashboards", &[]),
    (".", &["pipeline", "codecs", "gpu", "ingest", "trickle", "payments", "chain", "dashboards"]),
];

/// Members that speak to vendor libraries, the only ones with unsafe code.
const UNSAFE_MEMBERS: [&str; 2] = ["gpu", "pipeline/codecs"];

/// Files and folders that are cores: fed with bytes, time and chance, they do nothing on their own.
const CORES: &[&str] = &[
    "chain/src/address.rs",
    "chain/src/sign.rs",
    "ingest/src/hls/playlist.rs",
    "ingest/src/hls/request.rs",
    "ingest/src/hls/segmenter.rs",
    "ingest/src/half_open.rs",
    "ingest/src/hls/window.rs",
    "ingest/src/name.rs",
    "ingest/src/rtmp/amf.rs",
    "ingest/src/rtmp/capabilities.rs",
    "ingest/src/rtmp/chunk/",
    "ingest/src/rtmp/client/address.rs",
    "ingest/src/rtmp/client/call.rs",
    "ingest/src/rtmp/client/login.rs",
    "ingest/src/rtmp/clock.rs",
    "ingest/src/rtmp/flv.rs",
    "ingest/src/rtmp/flv_file.rs",
    "ingest/src/rtmp/handshake.rs",
    "ingest/src/rtmp/lane.rs",
    "ingest/src/rtmp/outbox.rs",
    "ingest/src/rtmp/play.rs",
    "ingest/src/rtmp/publish.rs",
    "ingest/src/rtmp/session/",
    "ingest/src/rtmp/units.rs",
    "ingest/src/rtp/",
    "ingest/src/rtsp/announce.rs",
    "ingest/src/rtsp/call.rs",
    "ingest/src/rtsp/challenge.rs",
    "ingest/src/rtsp/decode_times.rs",
    "ingest/src/rtsp/describe.rs",
    "ingest/src/rtsp/digest.rs",
    "ingest/src/rtsp/framing.rs",
    "ingest/src/rtsp/receiver/",
    "ingest/src/rtsp/reply.rs",
    "ingest/src/rtsp/sender.rs",
    "ingest/src/rtsp/session/",
    "ingest/src/rtsp/sound.rs",
    "ingest/src/rtsp/transport.rs",
    "ingest/src/hls_pull/playlist.rs",
    "ingest/src/http_push/file.rs",
    "ingest/src/http_push/traffic.rs",
    "ingest/src/matroska/",
    "ingest/src/mp4/fragment.rs",
    "ingest/src/mp4/packets.rs",
    "ingest/src/mp4/tables.rs",
    "ingest/src/mp4/track.rs",
    "ingest/src/mpegts/line.rs",
    "ingest/src/record/moment.rs",
    "ingest/src/record/template.rs",
    "ingest/src/srt/accept.rs",
    "ingest/src/srt/call.rs",
    "ingest/src/srt/connection.rs",
    "ingest/src/srt/crypto.rs",
    "ingest/src/srt/handshake.rs",
    "ingest/src/srt/receive.rs",
    "ingest/src/srt/send.rs",
    "ingest/src/srt/stats.rs",
    "ingest/src/srt/streamid.rs",
    "ingest/src/srt/strikes.rs",
    "ingest/src/srt/wire.rs",
    "ingest/src/webrtc/dtls.rs",
    "ingest/src/webrtc/mux.rs",
    "ingest/src/webrtc/results.rs",
    "ingest/src/webrtc/sdp.rs",
    "ingest/src/webrtc/srtp.rs",
    "ingest/src/webrtc/stun.rs",
    "payments/src/latency.rs",
    "payments/src/price.rs",
    "payments/src/quote.rs",
    "payments/src/recipient/",
    "payments/src/sender/",
    "payments/src/set.rs",
    "payments/src/ticket.rs",
    "payments/src/wire/",
    "pipeline/src/aac.rs",
    "pipeline/src/annexb.rs",
    "pipeline/src/audio.rs",
    "pipeline/src/av1/",
    "pipeline/src/bits.rs",
    "pipeline/src/flac.rs",
    "pipeline/src/fmp4/",
    "pipeline/src/h264/",
    "pipeline/src/hevc/",
    "pipeline/src/mp3.rs",
    "pipeline/src/mpegts/",
    "pipeline/src/nodes/",
    "pipeline/src/opus.rs",
    "pipeline/src/orientation.rs",
    "pipeline/src/time.rs",
    "pipeline/src/video.rs",
    "pipeline/src/vp8.rs",
    "pipeline/src/vp9.rs",
    "src/access/links.rs",
    "src/acme/due.rs",
    "src/access/throttle.rs",
    "src/always/silence.rs",
    "src/events/lanes.rs",
    "src/events/quality.rs",
    "src/gateway/select.rs",
    "src/gateway/splice.rs",
    "trickle/src/channel/",
    "trickle/src/http.rs",
    "trickle/src/subscriber.rs",
];

/// What a core does not name, and what it does instead.
const NOT_IN_CORES: &[(&str, &str)] = &[
    ("tokio::", "a core has no tasks: move the waiting to the shell that feeds it"),
    ("axum::", "a core knows no server: give it parsed values"),
    ("hyper::", "a core knows no client or server: give it bytes"),
    ("reqwest::", "a core asks nobody: hand out a wish and take the answer as input"),
    ("sqlx::", "a core has no disk: hand out a wish and take the answer as input"),
    ("TcpStream", "a core has no socket: give it bytes"),
    ("TcpListener", "a core has no socket: give it bytes"),
    ("UdpSocket", "a core has no socket: give it datagrams"),
    ("std::fs", "a core has no files: give it bytes"),
    ("std::thread", "a core has no threads: let the shell have them"),
    ("SystemTime::now", "a core has no clock: take the time as an argument"),
    ("Instant::now", "a core has no clock: take the time as an argument"),
    (".elapsed()", "a core has no clock: take the time as an argument"),
    ("rand::rng(", "a core has no chance of its own: take a seed or a generator"),
    ("rand::random", "a core has no chance of its own: take a seed or a generator"),
    ("OsRng", "a core has no chance of its own: take a seed or a generator"),
];

/// Names that gather what has no place.
const DRAWERS: [&str; 10] =
    ["util", "utils", "helper", "helpers", "common", "misc", "types", "shared", "stuff", "lib2"];

/// Lines of production code in a file, unless its head comment says "This file is long because".
const LINES_MAX: usize = 400;

/// Words of Rust code that are not left behind, and the remedy.
const LEFT_BEHIND: &[(&str, &str)] = &[
    ("dbg!(", "use tracing, or take it out"),
    ("todo!(", "write it, or take away what needs it"),
    ("unimplemented!(", "write it, or take away what needs it"),
    ("unbounded", "give the queue a bound and a named policy"),
    ("mpsc::channel()", "use sync_channel: every queue has a bound"),
    ("#[ignore]", "say why it is ignored: #[ignore = \"...\"]"),
];

/// Words of any text file that are not left behind; split so that this file does not match.
const NOT_IN_TEXTS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it, or open an issue"),
    (concat!("FIX", "ME"), "fix it, or open an issue"),
    (concat!("XX", "X"), "say what is wrong, in an issue"),
    (concat!("console.", "log("), "take it out"),
    (concat!("/wo", "rk/"), "name no folder of the machine that it was written on"),
    (concat!("/ro", "ot/"), "name no folder of the machine that it was written on"),
    (concat!("--index-", "url"), "installers use the registry that the machine is set to"),
    (concat!("--regis", "try"), "installers use the registry that the machine is set to"),
];

#[test]
fn members_import_what_the_map_says() {
    let mut faults = Vec::new();
    let members: Vec<&str> =
        IMPORTS.iter().map(|(path, _)| path.trim_start_matches("./")).collect();
    let root = manifest(".");
    let listed = root["workspace"]["members"].as_array().unwrap();
    for member in listed.iter().map(|name| name.as_str().unwrap()) {
        if !members.contains(&member) {
            faults.push(format!("Cargo.toml: {member} is not in the table of tests/tidy.rs: add it there and to ARCHITECTURE.md"));
        }
    }
    let ours: Vec<&str> = members.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
    for (path, allowed) in IMPORTS {
        let manifest = manifest(path);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = manifest.get(section).and_then(toml::Value::as_table);
            for name in names.into_iter().flat_map(Table::keys) {
                if ours.contains(&name.as_str()) && !allowed.contains(&name.as_str()) {
                    faults.push(format!(
                        "{path}/Cargo.toml: {section} names {name}, which it must not know: \
                         let `src` join the two"
                    ));
                }
            }
        }
        if manifest.get("lints").and_then(|lints| lints.get("workspace")).is_none() {
            faults.push(format!("{path}/Cargo.toml: add [lints] workspace = true"));
        }
    }
    report(&faults);
}

#[test]
fn unsafe_code_is_where_vendor_libraries_are_and_says_why_it_is_sound() {
    let mut faults = Vec::new();
    for (path, _) in IMPORTS {
        for name in ["src/lib.rs", "src/main.rs"] {
            let path = Path::new(path).join(name);
            let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
            let excepted = UNSAFE_MEMBERS.iter().any(|member| path.starts_with(member));
            if !excepted && !text.contains("#![forbid(unsafe_code)]") {
                faults.push(format!("{}: add #![forbid(unsafe_code)]", path.display()));
            }
        }
    }
    for source in sources() {
        let excepted = UNSAFE_MEMBERS.iter().any(|member| source.path.starts_with(member));
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = without_comment(line);
            let opens = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"]
                .iter()
                .any(|word| code.contains(word));
            let explained = lines[index.saturating_sub(8)..=index]
                .iter()
                .any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            if opens && !excepted && source.path != "tests/tidy.rs" {
                faults.push(source.at(index, "unsafe code belongs into gpu or pipeline/codecs"));
            } else if opens && excepted && !explained {
                faults.push(source.at(index, "say in a SAFETY: comment above why it is sound"));
            }
        }
    }
    report(&faults);
}

#[test]
fn cores_are_fed_and_do_nothing_on_their_own() {
    let mut faults = Vec::new();
    let sources = sources();
    for core in CORES {
        let mut found = false;
        for source in sources.iter().filter(|source| {
            source.path == *core || (core.ends_with('/') && source.path.starts_with(core))
        }) {
            found = true;
            if source.is_test() {
                continue;
            }
            for (index, line) in source.production().enumerate() {
                for (word, remedy) in NOT_IN_CORES {
                    if without_comment(line).contains(word) {
                        faults.push(source.at(index, &format!("{word}: {remedy}")));
                    }
                }
            }
        }
        if !found {
            faults
                .push(format!("{core}: is in the list of cores of tests/tidy.rs and is not there"));
        }
    }
    report(&faults);
}

#[test]
fn files_are_short_named_for_one_thing_and_say_what_they_are_for() {
    let mut faults = Vec::new();
    for source in sources() {
        for part in Path::new(&source.path).components() {
            let part = part.as_os_str().to_string_lossy();
            let name = part.trim_end_matches(".rs");
            if DRAWERS.contains(&name) {
                faults.push(
                    source.at(0, &format!("{name} is a drawer: name the one thing it holds")),
                );
            }
        }
        let head = source.head();
        if head.is_empty() {
            faults.push(source.at(0, "begin with //! and say what the file is for"));
        }
        let lines = source.production().count();
        if !source.is_test() && lines > LINES_MAX && !head.contains("This file is long because") {
            faults.push(source.at(
                LINES_MAX,
                &format!(
                    "{lines} lines of production code, {LINES_MAX} are enough: split it, or write \
                     \"This file is long because ...\" into its head comment"
                ),
            ));
        }
    }
    report(&faults);
}

#[test]
fn every_bound_says_its_unit() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let lines: Vec<&str> = source.production().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(name) = constant(line) else { continue };
            let bound = ["_MAX", "_LIMIT", "_TIMEOUT"].iter().any(|end| name.ends_with(end));
            let above = lines[..index].iter().rev();
            let above = above.map(|line| line.trim()).find(|line| !line.starts_with("#["));
            // A group of constants may share one comment.
            let told = above.is_some_and(|l| l.starts_with("///") || constant(l).is_some());
            if bound && !told {
                faults.push(source.at(
                    index,
                    &format!("say in a /// comment what {name} bounds, and in which unit"),
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn nothing_is_left_behind() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        for (index, line) in source.text.lines().enumerate() {
            for (word, remedy) in LEFT_BEHIND {
                if without_comment(line).contains(word) {
                    faults.push(source.at(index, &format!("{word}: {remedy}")));
                }
            }
        }
    }
    for path in tracked() {
        // What others made stays as they made it.
        if path == "Cargo.lock" || path.starts_with("dashboards/assets/") {
            continue;
        }
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            for (word, remedy) in NOT_IN_TEXTS {
                if line.contains(word) {
                    faults.push(format!("{path}:{}: {word}: {remedy}", index + 1));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut faults = Vec::new();
    for path in tracked().iter().filter(|path| path.ends_with(".md")) {
        let text = fs::read_to_string(root().join(path)).unwrap();
        for (index, line) in text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = link.split('#').next().unwrap_or_default();
                if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                    continue;
                }
                let folder = Path::new(path).parent().unwrap_or(Path::new(""));
                if !root().join(folder).join(file).exists() {
                    faults.push(format!("{path}:{}: {link} leads nowhere", index + 1));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn tests_that_the_page_of_limits_names_are_there() {
    let path = "docs/limits.md";
    let mut faults = Vec::new();
    let text = fs::read_to_string(root().join(path)).unwrap();
    for (index, line) in text.lines().enumerate() {
        let words = line.split('`').filter(|word| word.contains(".rs::"));
        for (file, name) in words.filter_map(|word| word.split_once("::")) {
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            if !source.contains(&format!("fn {name}(")) {
                faults.push(format!("{path}:{}: {file} has no test {name}", index + 1));
            }
        }
    }
    report(&faults);
}

#[test]
fn tests_that_the_page_of_protocols_names_are_there() {
    let path = "docs/protocols.md";
    let (mut faults, mut named) = (Vec::new(), 0);
    let (text, sources) = (fs::read_to_string(root().join(path)).unwrap(), sources());
    for (index, line) in text.lines().enumerate() {
        for word in line.split('`').skip(1).step_by(2) {
            let of_names =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
            let mut modules: Vec<&str> = word.split("::").collect();
            let name = modules.pop().unwrap_or_default();
            // Without an underscore it is a module or an option of a command.
            if !word.chars().all(of_names) || !name.contains('_') {
                continue;
            }
            named += 1;
            let test = format!("fn {name}(");
            let there = |source: &Source| {
                source.text.contains(&test) && modules.iter().all(|module| source.is_in(module))
            };
            if !sources.iter().any(there) {
                faults.push(format!("{path}:{}: there is no test {word}", index + 1));
            }
        }
    }
    assert!(named > 100, "{path} names {named} tests only: are they read rightly?");
    report(&faults);
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn manifest(member: &str) -> Table {
    let path = root().join(member).join("Cargo.toml");
    fs::read_to_string(&path).unwrap().parse().unwrap()
}

/// Every file of the repository: tracked by git, or new and not ignored, and there.
fn tracked() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is needed to list the repository's files");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut paths: Vec<String> = text.lines().map(str::to_owned).collect();
    paths.retain(|path| root().join(path).is_file());
    assert!(paths.len() > 50, "git lists no files here: {}", root().display());
    paths
}

/// A Rust file.
struct Source {
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let rust = tracked().into_iter().filter(|path| path.ends_with(".rs"));
    rust.map(|path| Source { text: fs::read_to_string(root().join(&path)).unwrap(), path })
        .collect()
}

impl Source {
    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.split('/').any(|part| part == "tests")
            || name.ends_with("_tests.rs")
            || ["tests.rs", "testing.rs", "fuzz.rs"].contains(&name)
    }

    /// Whether it is the file of a module, its tests, or in the module's folder.
    fn is_in(&self, module: &str) -> bool {
        self.path.split('/').any(|part| {
            let part = part.strip_suffix(".rs").unwrap_or(part);
            part.strip_suffix("_tests").unwrap_or(part) == module
        })
    }

    /// Its lines before its first inline test module.
    fn production(&self) -> impl Iterator<Item = &str> {
        let mut previous = "";
        self.text.lines().take_while(move |line| {
            let tests =
                previous == "#[cfg(test)]" && line.starts_with("mod ") && line.ends_with('{');
            previous = line;
            !tests
        })
    }

    fn head(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with("//!"));
        lines.map(|line| line.trim_start_matches("//!").trim()).collect::<Vec<_>>().join(" ")
    }

    fn at(&self, index: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, index + 1)
    }
}

/// The name of a constant that this line defines.
fn constant(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub").map_or(line, |rest| {
        let rest = rest.trim_start();
        rest.strip_prefix('(').and_then(|r| r.split_once(") ")).map_or(rest, |(_, rest)| rest)
    });
    line.strip_prefix("const ")?.split(':').next().filter(|name| !name.contains('('))
}

fn without_comment(line: &str) -> &str {
    let line = line.split("// ").next().unwrap_or_default();
    if line.trim_start().starts_with("//") { "" } else { line }
}
