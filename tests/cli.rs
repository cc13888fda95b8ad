//! The command line as a person meets it: help, settings, and what a wrong start says.
//!
//! Every test runs the built program in a directory of its own; no test needs a fixed port.

#![allow(clippy::unwrap_used, reason = "all of this is tests, the support too")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A start that must fail has failed by then.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// Settings that keep a node's listeners off the ports that a person may be using.
const FREE_PORTS: [&str; 12] = [
    "rtmp.listen=127.0.0.1:0",
    "srt.listen=127.0.0.1:0",
    "rtmps.listen=127.0.0.1:0",
    "rtsp.listen=127.0.0.1:0",
    "rtsp.udp_listen=127.0.0.1:0",
    "rtsps.listen=127.0.0.1:0",
    "http.listen=127.0.0.1:0",
    "webrtc.listen=127.0.0.1:0",
    "playback.listen=127.0.0.1:0",
    "admin.listen=127.0.0.1:0",
    "metrics.listen=127.0.0.1:0",
    "orchestrator.listen=127.0.0.1:0",
];

/// A place to run in, without this process's settings.
struct Shell {
    folder: tempfile::TempDir,
}

impl Shell {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLSTREAM_")) {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command that ends by itself.
    fn run(&self, args: &[&str]) -> Output {
        finish(self.command(args))
    }

    /// Runs `up` with free ports and more settings; it must refuse. Returns what it says.
    fn refused(&self, sets: &[&str]) -> String {
        let mut command = self.command(&["up"]);
        for set in FREE_PORTS.iter().chain(sets) {
            command.args(["--set", set]);
        }
        refusal(&finish(command))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

/// Waits for the end; a program that should have refused and runs instead fails the test.
fn finish(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > REFUSED_WITHIN {
            child.kill().unwrap();
            panic!("{command:?} did not end: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// What a run that failed, as it should, says last.
fn refusal(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it should have been refused: {output:?}");
    assert!(!text.contains("panicked"), "{text}");
    let last = text.lines().find(|line| line.starts_with("millstream: "));
    last.unwrap_or_else(|| panic!("no reason given: {text}")).to_owned()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn help_names_every_command_and_says_what_it_does() {
    let help = printed(&Shell::new().run(&["--help"]));
    let described = |word: &str| {
        help.lines().any(|line| {
            let rest = line.trim_start().strip_prefix(word);
            rest.is_some_and(|rest| rest.starts_with("  ") && rest.trim().len() > 5)
        })
    };
    for command in ["up", "gateway", "orchestrator", "config", "bench"] {
        assert!(described(command), "{command} is missing:\n{help}");
        printed(&Shell::new().run(&[command, "--help"]));
    }
}

#[test]
fn the_whep_bench_runs_small_and_tells_its_figures() {
    let args =
        "bench whep --viewers 6 --streams 2 --audio yes --seconds 2 --rounds 1 --cores all --json";
    let args: Vec<&str> = args.split(' ').collect();
    let output = Shell::new().command(&args).output().unwrap();
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    let figure = |key: &str| {
        let line = lines.iter().find(|line| line["figure"] == key);
        let line = line.unwrap_or_else(|| panic!("no {key} in {lines:?}\n{errors}"));
        line["median"].as_f64().unwrap_or_else(|| panic!("{line}"))
    };
    // A busy machine may make the run void, but what came came: pictures and sound of all viewers.
    let rate = figure("mbit_per_s_viewer");
    assert!((0.3..1.0).contains(&rate), "{rate}\n{errors}");
    assert!(figure("viewers_per_core") > 1.0);
    // The system counts CPU time in ticks: the floor of six viewers may take less than one.
    let floor = lines.iter().find(|line| line["figure"] == "times_floor").unwrap();
    assert!(floor["median"].as_f64().is_none_or(|times| times > 0.0), "{floor}");
    assert!(figure("packets_per_send") > 1.0, "pictures leave in one call");
    let delay = lines.iter().find(|line| line["hop"] == "millstream.delay").unwrap();
    // 6 viewers, 2 s of 30 pictures.
    let count = delay["count"].as_u64().unwrap();
    assert!((180..=400).contains(&count), "{delay}\n{errors}");
    assert!(output.status.success() || errors.contains("void"), "{errors}");
}

#[test]
fn the_version_is_the_packages() {
    let version = printed(&Shell::new().run(&["--version"]));
    assert_eq!(version.trim(), concat!("millstream ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_default_settings_are_a_file_that_checks() {
    let shell = Shell::new();
    let text = printed(&shell.run(&["config", "default"]));
    let file = shell.file("millstream.toml", &text);
    let answer = printed(&shell.run(&["config", "check", "--config", &file]));
    assert!(answer.starts_with("settings are right"), "{answer}");
    assert!(!shell.path().join("data").exists(), "checking settings makes nothing");
    // The same file means the same settings: written again, nothing differs.
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["rtmp"]["listen"].as_str(), Some("127.0.0.1:1935"));
    assert_eq!(table["pipeline"]["graph"].as_str(), Some("none"));
    assert_eq!(table["public"].as_bool(), Some(false));
}

#[test]
fn a_check_says_where_each_setting_comes_from() {
    let shell = Shell::new();
    let file = shell.file("m.toml", "drain_seconds = 7\n[rtmp]\ntake_over = true\n");
    let mut command =
        shell.command(&["config", "check", "--config", &file, "--set", "log.level=debug"]);
    command.env("MILLSTREAM_HTTP__LISTEN", "127.0.0.1:8080");
    let answer = printed(&finish(command));
    for line in [
        "drain_seconds  (file)",
        "rtmp.take_over  (file)",
        "http.listen  (environment)",
        "log.level  (flag)",
    ] {
        assert!(answer.contains(line), "{line} is missing:\n{answer}");
    }
}

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_one() {
    let shell = Shell::new();
    let file = shell.file("m.toml", "[rtmp]\nlisen = \"127.0.0.1:1935\"\n");
    let said = refusal(&shell.run(&["config", "check", "--config", &file]));
    assert!(said.contains("m.toml") && said.contains("\"rtmp.lisen\""), "{said}");
    assert!(said.contains("did you mean \"rtmp.listen\"?"), "{said}");
    let said = refusal(&shell.run(&["up", "--set", "pubic=true"]));
    assert!(said.contains("did you mean \"public\"?"), "{said}");
}

#[test]
fn a_wrong_value_is_named_with_its_source() {
    let shell = Shell::new();
    let file = shell.file("m.toml", "drain_seconds = \"soon\"\n");
    let said = refusal(&shell.run(&["config", "check", "--config", &file]));
    assert!(said.contains("m.toml: drain_seconds: "), "{said}");
    let said = refusal(&shell.run(&["up", "--set", "orchestrator.price=1.5"]));
    assert!(said.contains("orchestrator.price") && said.contains("\"1.5\""), "{said}");
    let said = refusal(&shell.run(&["up", "--config", "nowhere.toml"]));
    assert!(said.contains("nowhere.toml"), "{said}");
    let file = shell.file("broken.toml", "[rtmp\n");
    let said = refusal(&shell.run(&["up", "--config", &file]));
    assert!(said.contains("broken.toml"), "{said}");
}

#[test]
fn a_public_node_needs_a_publish_credential() {
    let said = refusal(&Shell::new().run(&["up", "--public"]));
    assert!(said.contains("auth.publish_password"), "{said}");
}

#[test]
fn a_node_without_roles_or_with_an_unknown_one_is_refused() {
    let said = refusal(&Shell::new().run(&["up", "--roles", ""]));
    assert!(said.contains("roles"), "{said}");
    let said = refusal(&Shell::new().run(&["up", "--roles", "gateway,baker"]));
    assert!(said.contains("roles") && said.contains("baker"), "{said}");
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for setting in ["rtmp", "rtmps", "rtsp", "rtsps", "http", "orchestrator", "admin", "metrics"] {
        let said = Shell::new().refused(&[&format!("{setting}.listen={address}")]);
        assert!(said.contains(&format!("{setting}.listen")), "{said}");
        assert!(said.contains(&address.to_string()), "{said}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let shell = Shell::new();
    let file = shell.file("occupied", "a file, not a folder");
    let said = shell.refused(&[&format!("data_dir={file}")]);
    assert!(said.contains("data directory") && said.contains("occupied"), "{said}");
}

#[test]
fn a_graph_that_is_not_right_stops_the_start_and_is_named() {
    let shell = Shell::new();
    let graph = shell.file("g.json", r#"{"1":{"class_type":"Nope","inputs":{}}}"#);
    let said = shell.refused(&[&format!("pipeline.graph={graph}")]);
    assert!(said.contains("g.json") && said.contains("Nope"), "{said}");
}

#[test]
fn a_password_is_hashed_from_standard_input_and_a_link_is_made() {
    let shell = Shell::new();
    let mut command = shell.command(&["config", "hash"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"secret\n").unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.starts_with("argon2:$argon2id$"), "{said}");
    let setting = format!("auth.publish_password={}", said.trim());
    printed(&shell.run(&["config", "check", "--set", &setting]));
    let said = refusal(&shell.run(&["config", "check", "--set", "auth.read_password=argon2:x"]));
    assert!(said.contains("auth.read_password"), "{said}");

    let said = printed(&shell.run(&["link", "a/cam", "--base", "https://h.example"]));
    assert!(said.contains("hls  https://h.example/a/cam/index.m3u8?exp="), "{said}");
    let said = refusal(&shell.run(&["link", "cam", "--seconds", "0"]));
    assert!(said.contains("seconds"), "{said}");
}

#[test]
fn doctor_names_the_port_that_is_taken_and_what_helps() {
    let shell = Shell::new();
    let sets: Vec<&str> = FREE_PORTS.iter().flat_map(|set| ["--set", set]).collect();
    let args = [&["doctor"][..], &sets].concat();
    let said = printed(&shell.run(&args));
    assert!(said.contains("ok     rtmp.listen"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let set = format!("rtmp.listen={address}");
    let output = shell.run(&[&args[..], &["--json", "--set", &set]].concat());
    assert!(!output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let fault = lines.lines().find(|line| line.contains("\"fails\"")).unwrap();
    assert!(fault.contains(&address) && fault.contains("another program"), "{fault}");
}

/// `docs/settings.md` has a row `| setting | default | ... |` for each setting, with the default
/// that it really has.
#[test]
fn every_setting_is_documented_with_its_default() {
    fn leaves(table: &toml::Table, path: &str, into: &mut Vec<(String, String)>) {
        for (key, value) in table {
            let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                toml::Value::Table(inner) => leaves(inner, &name, into),
                toml::Value::Array(list) if list.is_empty() => into.push((name, "[]".into())),
                value => into.push((name, value.to_string())),
            }
        }
    }
    let text = printed(&Shell::new().run(&["config", "default"]));
    let mut settings = Vec::new();
    leaves(&text.parse().unwrap(), "", &mut settings);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut documented: Vec<&str> = Vec::new();
    let mut faults = Vec::new();
    for (name, default) in &settings {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        match row {
            None => faults.push(format!("{name} (default {default}) has no row")),
            Some(row) if !row.contains(&format!("| `{default}` |")) => {
                faults.push(format!("{name}: the default is {default}, the row says: {row}"));
            }
            Some(_) => documented.push(name),
        }
    }
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let name = row.split('`').nth(1).unwrap_or_default();
        let known = settings.iter().any(|(known, _)| known == name);
        // Rows of flags: `--public`, `up --demo`.
        let flag = name.contains("--");
        if !known && !flag && !name.starts_with("streams.") {
            faults.push(format!("{name} is no setting"));
        }
    }
    assert!(faults.is_empty(), "docs/settings.md:\n{}", faults.join("\n"));
    assert!(!documented.is_empty());
}
