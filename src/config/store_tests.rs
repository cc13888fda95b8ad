//! Changes of settings: what survives, what is refused, what stays when a file is bad.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn set(path: &str, value: impl Into<Value>) -> Edit {
    let path = path.split('.').map(str::to_owned).collect();
    Edit::Set { path, value: value.into() }
}

fn store(dir: &Path, flags: &[(&str, &str)], file: Option<&Path>) -> Store {
    let mut layers = vec![Layer::flag("data_dir", &dir.display().to_string())];
    layers.extend(flags.iter().map(|(key, value)| Layer::flag(key, value)));
    Store::open(layers, file).unwrap()
}

#[test]
fn a_change_survives_a_restart_and_says_what_needs_one() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), &[], None);
    let edits = vec![set("streams.cam.graph", "none"), set("rtmp.take_over", true)];
    let applied = first.change(|_| Ok(edits)).unwrap();
    assert_eq!(applied.changed, ["rtmp.take_over", "streams.cam.graph"]);
    assert_eq!(applied.restart, ["rtmp.take_over"]);
    let second = store(dir.path(), &[], None).current();
    assert_eq!(second.settings, first.current().settings);
    assert!(second.settings.rtmp.take_over);
    assert_eq!(second.sources["streams.cam.graph"], Source::Journal);
}

#[test]
fn what_a_flag_or_the_environment_fixed_is_refused_and_nothing_of_the_call_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &[("rtmp.take_over", "false")], None);
    let edits = vec![set("drain_seconds", 9), set("rtmp.take_over", true)];
    let error = store.change(|_| Ok(edits)).unwrap_err();
    let told = "rtmp.take_over is fixed by a flag and cannot be changed while that is so";
    assert_eq!(error.to_string(), told);
    assert_eq!(store.current().settings.drain_seconds, Settings::default().drain_seconds);
    assert!(!dir.path().join(JOURNAL).exists());
}

#[test]
fn a_wrong_value_or_a_follower_that_cannot_take_it_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &[], None);
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    store.follow(Box::new(move |settings| {
        if settings.drain_seconds == 13 {
            return Err("not thirteen".into());
        }
        let counted = Arc::clone(&counted);
        Ok(Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }))
    }));
    assert!(store.change(|_| Ok(vec![set("drain_seconds", "soon")])).is_err());
    assert!(store.change(|_| Ok(vec![set("streams.a b.graph", "none")])).is_err());
    assert!(store.change(|_| Ok(vec![set("streams.~(.graph", "none")])).is_err());
    let refused = store.change(|_| Ok(vec![set("drain_seconds", 13)])).unwrap_err();
    assert_eq!(refused.to_string(), "not thirteen");
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    store.change(|_| Ok(vec![set("drain_seconds", 14)])).unwrap();
    assert_eq!((store.current().settings.drain_seconds, seen.load(Ordering::Relaxed)), (14, 1));
}

#[test]
fn a_stream_of_the_file_can_be_taken_away_replaced_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.toml");
    std::fs::write(&file, "[streams.cam]\ngraph = \"none\"\ntake_over = true\n").unwrap();
    let opened = store(dir.path(), &[], Some(&file));
    opened.change(|_| Ok(vec![Edit::Remove { stream: "cam".into() }])).unwrap();
    assert!(store(dir.path(), &[], Some(&file)).current().settings.streams.is_empty());
    let table = "graph = \"default\"".parse().unwrap();
    opened.change(|_| Ok(vec![Edit::Replace { stream: "cam".into(), table }])).unwrap();
    let cam = store(dir.path(), &[], Some(&file)).current().settings.streams["cam"].clone();
    assert_eq!((cam.graph.as_deref(), cam.take_over), (Some("default"), None));
}

#[test]
fn a_changed_file_counts_and_a_bad_one_leaves_the_old_settings_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.toml");
    std::fs::write(&file, "drain_seconds = 1\n").unwrap();
    let store = store(dir.path(), &[], Some(&file));
    assert_eq!(store.reload().unwrap(), None);
    std::fs::write(&file, "drain_seconds = 22\n[streams.cam]\ngraph = \"none\"\n").unwrap();
    let applied = store.reload().unwrap().unwrap();
    assert_eq!(applied.changed, ["drain_seconds", "streams.cam.graph"]);
    std::fs::write(&file, "drain_secnds = 333\n").unwrap();
    assert!(store.reload().is_err());
    let fault = store.fault().unwrap();
    assert!(fault.contains("did you mean \"drain_seconds\"?"), "{fault}");
    assert_eq!(store.current().settings.drain_seconds, 22);
    // The API still works on what is in force, and a good file heals it.
    store.change(|_| Ok(vec![set("streams.cam.take_over", true)])).unwrap();
    std::fs::write(&file, "drain_seconds = 4444\n").unwrap();
    assert!(store.reload().unwrap().is_some());
    assert_eq!(store.fault(), None);
    let now = store.current();
    assert_eq!(now.settings.drain_seconds, 4444);
    assert_eq!(now.settings.streams["cam"].take_over, Some(true));
}

#[test]
fn streams_keep_the_order_of_the_file_and_those_of_the_api_come_last() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.toml");
    std::fs::write(&file, "[streams.\"~z\"]\n[streams.\"~a\"]\n").unwrap();
    let store = store(dir.path(), &[], Some(&file));
    store.change(|_| Ok(vec![set("streams.~b.graph", "none")])).unwrap();
    let keys: Vec<String> = store.current().settings.streams.keys().cloned().collect();
    assert_eq!(keys, ["~z", "~a", "~b"]);
}
