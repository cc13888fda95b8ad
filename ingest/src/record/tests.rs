//! Stories of recorders over real files.

use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use pipeline::fmp4::Index;
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Codec, Packet, Pts, Size, TrackKind, Tracks};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::segment::Mended;
use super::*;
use crate::hub::{Limits, Publisher, Writer};
use crate::views::HubViews;

const SETS: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40, 0, 0, 0, 1, 0x68, 0xce,
    0x3c, 0x80,
];

/// The longest that a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn tracks(width: u32) -> Tracks {
    let parameter_sets = Bytes::from_static(SETS);
    let size = Size::new(width, 360);
    let video = VideoTrack { codec: Codec::H264, size, parameter_sets };
    let config = Bytes::from_static(&[0x11, 0x90]);
    let audio = AudioTrack { codec: Codec::Aac, sample_rate: 48_000, channels: 2, config };
    Tracks { video: Some(video), audio: Some(audio) }
}

/// A picture of 30 a second, each thirtieth a key picture.
fn picture(n: i64, dts: i64) -> Packet {
    let key = n % 30 == 0;
    let mut data = BytesMut::new();
    if key {
        data.extend_from_slice(SETS);
    }
    data.extend_from_slice(&[0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 0x9a, n as u8]);
    let (kind, dts, data) = (TrackKind::Video, Pts(dts), data.freeze());
    Packet { kind, pts: dts, dts, key, data, arrived: Instant::now() }
}

fn sound(dts: i64) -> Packet {
    let (kind, dts, data) = (TrackKind::Audio, Pts(dts), Bytes::from_static(b"sound"));
    Packet { kind, pts: dts, dts, key: true, data, arrived: Instant::now() }
}

/// Rules that a story can change.
struct Changing(Mutex<Rule>);

impl Rules for Changing {
    fn rule(&self, _: &StreamName) -> Rule {
        self.0.lock().clone()
    }

    fn templates(&self) -> Vec<Template> {
        vec![self.0.lock().template.clone()]
    }
}

fn rule() -> Rule {
    Rule {
        record: true,
        template: Template::parse(Template::DEFAULT).unwrap(),
        part: Duration::from_secs(1),
        part_bytes: 1 << 20,
        segment: Duration::from_secs(3600),
        delete_after: None,
    }
}

struct Stage {
    dir: TempDir,
    hub: Hub,
    rules: Arc<Changing>,
    recordings: Recordings,
    stop: CancellationToken,
    task: JoinHandle<()>,
    free: Arc<AtomicU64>,
}

impl Stage {
    fn new(rule: Rule) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(Limits::default());
        let rules = Arc::new(Changing(Mutex::new(rule)));
        let mut config = Config::new(dir.path().join("recordings"));
        let free = Arc::new(AtomicU64::new(u64::MAX));
        let told = Arc::clone(&free);
        config.free_space = Arc::new(move |_| Ok(told.load(Ordering::Relaxed)));
        let views = Arc::new(HubViews::new(hub.clone()));
        let recordings = Recordings::new(config, hub.clone(), views, rules.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(recordings.clone().run(stop.clone()));
        Self { dir, hub, rules, recordings, stop, task, free }
    }

    /// A publisher whose recorder, if it is to have one, is there before the first picture.
    async fn publish(&self) -> Writer {
        let publisher = Publisher { protocol: "test", id: "1".into(), remote: String::new() };
        let mut writer = self.hub.publish(name(), publisher, false).unwrap();
        writer.set_tracks(tracks(640));
        if self.rules.0.lock().record {
            self.until("a recorder", |_| true).await;
        }
        writer
    }

    async fn found(&self) -> Vec<Found> {
        self.recordings.of_stream(&name()).await.unwrap()
    }

    fn status(&self) -> Option<Status> {
        self.recordings.recorder(&name())
    }

    /// Waits until the recorder is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !self.status().is_some_and(|status| wanted(&status)) {
            assert!(Instant::now() < end, "{what}: {:?}", self.status());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_ended(&self) {
        let end = Instant::now() + PATIENCE;
        while let Some(status) = self.status() {
            assert!(Instant::now() < end, "a recorder stays: {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.task.await.unwrap();
        self.dir
    }
}

#[test]
fn a_part_is_written_when_it_has_its_bytes_however_short_it_is() {
    let start = moment::Moment::of(SystemTime::now());
    let mut run = run::Run::new(&tracks(640), start, &picture(0, 0)).unwrap();
    let rule = Rule { part_bytes: 100_000, part: Duration::from_secs(60), ..rule() };
    let mut sizes = Vec::new();
    for n in 0..40 {
        let light = picture(n, n * 3000);
        let data = [&light.data[..], &[0x9a; 20_000]].concat().into();
        let fragment = run.push(&Packet { data, ..light }, &rule);
        sizes.extend(fragment.map(|fragment| fragment.data.len()));
    }
    assert!(sizes.len() >= 5, "{sizes:?}");
    assert!(sizes.iter().all(|bytes| (80_000..140_000).contains(bytes)), "{sizes:?}");
}

fn name() -> StreamName {
    StreamName::parse("studio/cam").unwrap()
}

/// Writes pictures `from..to` with their sound.
fn write(writer: &mut Writer, from: i64, to: i64) {
    for n in from..to {
        writer.write(picture(n, n * 3000));
        // 1,024 samples are 1,920 ticks.
        for frame in (n * 3000 + 1919) / 1920..((n + 1) * 3000 + 1919) / 1920 {
            writer.write(sound(frame * 1920));
        }
    }
}

fn is_closed(path: &Path) -> bool {
    segment::duration_of(path).unwrap().is_some()
}

fn read(path: &Path) -> (Index, usize, usize) {
    let mut file = File::open(path).unwrap();
    let index = Index::read(&mut file).unwrap();
    let (mut pictures, mut sounds) = (0, 0);
    for place in &index.fragments {
        for sample in index.samples(&mut file, place).unwrap() {
            *(if sample.kind.is_video() { &mut pictures } else { &mut sounds }) += 1;
        }
    }
    (index, pictures, sounds)
}

#[tokio::test]
async fn segments_begin_at_key_pictures_and_together_hold_every_picture_and_sound() {
    let stage = Stage::new(Rule { segment: Duration::from_secs(2), ..rule() });
    let mut events = stage.recordings.events();
    let mut writer = stage.publish().await;
    write(&mut writer, 0, 225);
    drop(writer);
    let mut completed = 0;
    while completed < 4 {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        completed += usize::from(matches!(event, Event::Completed { .. }));
    }
    stage.until_ended().await;
    let found = stage.found().await;
    let counts: Vec<_> = found.iter().map(|found| read(&found.path)).collect();
    assert_eq!(
        counts.iter().map(|(_, pictures, _)| *pictures).collect::<Vec<_>>(),
        [60, 60, 60, 45]
    );
    let sounds: usize = counts.iter().map(|(_, _, sounds)| sounds).sum();
    assert_eq!(sounds, (225 * 3000_usize).div_ceil(1920));
    for (index, ..) in &counts {
        assert!(index.fragments[0].key);
        assert_eq!(index.fragments[0].start, pipeline::Ticks(0));
    }
    for found in &found {
        assert!(is_closed(&found.path), "closed ones say how long they are");
    }
    stage.stop().await;
}

#[tokio::test]
async fn what_is_cut_off_keeps_its_whole_parts_and_is_closed_at_the_next_start() {
    let stage = Stage::new(rule());
    let mut writer = stage.publish().await;
    write(&mut writer, 0, 100);
    stage.until("three parts", |status| status.bytes > 0 && status.segments == 1).await;
    let path = stage.status().unwrap().path.unwrap();
    let end = Instant::now() + PATIENCE;
    while read(&path).1 < 90 {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What a process leaves that is killed in the middle of a part.
    let left = stage.dir.path().join("recordings/studio/cam/2026-01-01_00-00-00-000000.mp4");
    let whole = std::fs::read(&path).unwrap();
    let index = read(&path).0;
    std::fs::write(&left, [&whole[..], &whole[index.fragments[0].at as usize..][..500]].concat())
        .unwrap();
    assert!(!is_closed(&left));
    assert_eq!(segment::mend(&left).unwrap(), Mended::Closed);
    assert_eq!(std::fs::read(&left).unwrap().len(), whole.len());
    assert!(is_closed(&left));
    assert_eq!(segment::mend(&left).unwrap(), Mended::Whole);
    std::fs::write(&left, &whole[..300]).unwrap();
    assert_eq!(segment::mend(&left).unwrap(), Mended::Removed);
    stage.stop().await;
}

#[tokio::test]
async fn stamps_that_jump_stand_still_or_go_back_never_end_a_recording() {
    let stage = Stage::new(rule());
    let mut writer = stage.publish().await;
    let stamps = |n: i64| match n {
        40..50 => 40 * 3000,
        50..80 => n * 3000 - (1 << 33),
        80..100 => n * 3000 + (1 << 40),
        n => n * 3000,
    };
    for n in 0..140 {
        writer.write(picture(n, stamps(n)));
        // A jump empties the hub's ring: the recorder is at its head, as it is in life.
        stage.until("every picture", |status| status.packets == n as u64 + 1).await;
    }
    drop(writer);
    stage.until_ended().await;
    let found = stage.found().await;
    assert_eq!(found.len(), 1);
    let (index, pictures, _) = read(&found[0].path);
    assert_eq!(pictures, 140);
    assert!(index.fragments.windows(2).all(|pair| pair[0].end <= pair[1].start));
    let seconds = index.duration().0 / 90_000;
    assert!((3..16).contains(&seconds), "{seconds} s of 4.7 s");
    stage.stop().await;
}

#[tokio::test]
async fn another_size_begins_another_segment() {
    let stage = Stage::new(rule());
    let mut writer = stage.publish().await;
    write(&mut writer, 0, 60);
    stage.until("a part", |status| status.segments == 1).await;
    let first = stage.status().unwrap().path.unwrap();
    let end = Instant::now() + PATIENCE;
    while read(&first).1 < 30 {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writer.set_tracks(tracks(320));
    write(&mut writer, 60, 120);
    drop(writer);
    stage.until_ended().await;
    let found = stage.found().await;
    assert_eq!(found.len(), 2);
    assert!(!read(&found[0].path).0.same_tracks(&read(&found[1].path).0));
    stage.stop().await;
}

#[tokio::test]
async fn rules_change_while_it_runs() {
    let stage = Stage::new(Rule { record: false, ..rule() });
    let mut writer = stage.publish().await;
    write(&mut writer, 0, 60);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(stage.status().is_none());
    stage.rules.0.lock().record = true;
    // From the last key picture on, which is still in the hub.
    stage.until("a recorder", |_| true).await;
    write(&mut writer, 60, 100);
    stage.until("a part", |status| status.segments == 1).await;
    stage.rules.0.lock().record = false;
    stage.until_ended().await;
    let found = stage.found().await;
    assert_eq!(found.len(), 1);
    assert!(is_closed(&found[0].path));
    stage.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_named_and_recording_goes_on_when_there_is_room() {
    let stage = Stage::new(rule());
    let mut writer = stage.publish().await;
    let count = AtomicUsize::new(0);
    let mut more = || {
        let n = count.fetch_add(30, Ordering::Relaxed) as i64;
        write(&mut writer, n, n + 30);
    };
    (0..3).for_each(|_| more());
    stage.until("a segment", |status| status.segments == 1).await;
    stage.free.store(1000, Ordering::Relaxed);
    let end = Instant::now() + PATIENCE;
    while stage.status().is_some_and(|status| status.problem.is_none()) {
        assert!(Instant::now() < end);
        more();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = stage.status().unwrap();
    assert!(status.problem.unwrap().contains("there is no room"), "named");
    assert!(status.failures == 1 && status.path.is_none());
    stage.free.store(u64::MAX, Ordering::Relaxed);
    while stage.status().is_some_and(|status| status.segments < 2) {
        assert!(Instant::now() < end);
        more();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = stage.status().unwrap();
    assert!(status.problem.is_none() && status.lost > 0, "{status:?}");
    let first = &stage.found().await[0];
    assert!(is_closed(&first.path));
    stage.stop().await;
}

#[tokio::test]
async fn old_segments_go_and_those_of_others_stay() {
    let stage = Stage::new(Rule { delete_after: Some(Duration::from_secs(3600)), ..rule() });
    let folder = stage.dir.path().join("recordings/studio/cam");
    std::fs::create_dir_all(&folder).unwrap();
    let put = |path: &Path, age: u64| {
        // Not closed and no recording: it is not mended.
        std::fs::write(path, "something else").unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    let old = folder.join("2020-01-01_00-00-00-000000.mp4");
    let written_now = folder.join("2020-01-02_00-00-00-000000.mp4");
    let foreign = folder.join("notes.mp4");
    put(&old, 7200);
    put(&written_now, 10);
    put(&foreign, 7200);
    stage.recordings.expire().await;
    assert!(!old.exists() && written_now.exists() && foreign.exists());
    // A link is no segment, wherever it leads.
    let elsewhere = stage.dir.path().join("2020-01-03_00-00-00-000000.mp4");
    put(&elsewhere, 7200);
    std::os::unix::fs::symlink(stage.dir.path(), folder.join("link")).unwrap();
    stage.recordings.expire().await;
    assert!(elsewhere.exists());
    let start = Moment::parse("2020-01-02T00:00:00Z").unwrap();
    stage.recordings.delete(&name(), start).await.unwrap();
    assert!(!written_now.exists());
    let again = stage.recordings.delete(&name(), start).await;
    assert!(matches!(again, Err(ShelfError::NotFound)));
    stage.stop().await;
}

/// What a player gets.
async fn ask(router: &axum::Router, uri: &str) -> (http::StatusCode, Bytes) {
    let mut request = http::Request::get(uri).body(axum::body::Body::empty()).unwrap();
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
    let answer = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
    let status = answer.status();
    (status, axum::body::to_bytes(answer.into_body(), 1 << 24).await.unwrap())
}

/// A recording of 7.5 s in four segments, and its player's routes.
async fn four_segments() -> (Stage, axum::Router) {
    let stage = Stage::new(Rule { segment: Duration::from_secs(2), ..rule() });
    let mut writer = stage.publish().await;
    // As if they had come in their own time until now.
    let first = Instant::now() - Duration::from_millis(7500);
    for n in 0..225 {
        let came = first + Duration::from_secs(1) * n as u32 / 30;
        writer.write(Packet { arrived: came, ..picture(n, n * 3000) });
        writer.write(Packet { arrived: came, ..sound(n * 3000) });
    }
    drop(writer);
    stage.until_ended().await;
    let config = playback::Config { origins: vec!["*".into()], transfers_max: 4 };
    let access = Arc::new(crate::auth::Open);
    let router = playback::router(stage.recordings.clone(), access, &config);
    (stage, router)
}

#[tokio::test]
async fn ranges_over_segments_hold_each_picture_once() {
    let (stage, router) = four_segments().await;
    let (status, listed) = ask(&router, "/list?path=studio/cam").await;
    assert_eq!(status, http::StatusCode::OK);
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let [span] = &listed.as_array().unwrap()[..] else { panic!("one range: {listed:#}") };
    assert!((span["duration"].as_f64().unwrap() - 7.5).abs() < 0.1, "{listed:#}");
    let found = stage.found().await;
    assert_eq!(found.len(), 4);
    let begin = found[0].start;
    let file = stage.dir.path().join("range.mp4");
    let range = async |start: Moment, seconds: f64, more: &str| {
        let uri = format!("/get?path=studio/cam&start={start}&duration={seconds}{more}");
        let (status, bytes) = ask(&router, &uri).await;
        assert_eq!(status, http::StatusCode::OK, "{bytes:?}");
        std::fs::write(&file, &bytes).unwrap();
        bytes
    };
    range(begin, 7.6, "").await;
    let (index, pictures, sounds) = read(&file);
    assert_eq!((pictures, sounds), (225, 225));
    assert!(index.fragments.windows(2).all(|pair| pair[0].end == pair[1].start), "no gap");
    // 1.5 s to 4.5 s: from the key picture at 1 s on, over two borders.
    range(begin.plus(Duration::from_millis(1500)), 3.0, "&format=fmp4").await;
    let (index, pictures, _) = read(&file);
    assert!(index.fragments[0].key && (104..=106).contains(&pictures), "{pictures}");
    let bytes = range(begin.plus(Duration::from_millis(1500)), 3.0, "&format=mp4").await;
    assert_eq!(&bytes[4..8], b"ftyp");
    let (status, _) = ask(&router, "/get?path=studio/cam&start=now&duration=1").await;
    assert_eq!(status, http::StatusCode::BAD_REQUEST);
    let (status, _) = ask(&router, "/list?path=nobody").await;
    assert_eq!(status, http::StatusCode::NOT_FOUND);
    stage.stop().await;
}

/// A folder in place of a store.
struct Folder {
    dir: std::path::PathBuf,
    /// The bytes that each request was for.
    asked: Mutex<Vec<u64>>,
    away: std::sync::atomic::AtomicBool,
}

impl Folder {
    fn check(&self) -> io::Result<()> {
        let away = self.away.load(Ordering::Relaxed);
        if away { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
    }
}

impl Vault for Folder {
    fn read(
        &self,
        relative: &str,
        range: std::ops::Range<u64>,
    ) -> futures_util::future::BoxFuture<'_, io::Result<Bytes>> {
        let path = self.dir.join(relative);
        Box::pin(async move {
            self.check()?;
            self.asked.lock().push(range.end - range.start);
            let bytes = Bytes::from(std::fs::read(path)?);
            Ok(bytes.slice(range.start as usize..(range.end as usize).min(bytes.len())))
        })
    }

    fn has(&self, relative: &str) -> futures_util::future::BoxFuture<'_, io::Result<bool>> {
        let there = self.check().map(|()| self.dir.join(relative).exists());
        Box::pin(async move { there })
    }

    fn remove(&self, relative: &str) -> futures_util::future::BoxFuture<'_, io::Result<()>> {
        let removed = self.check().and_then(|()| std::fs::remove_file(self.dir.join(relative)));
        Box::pin(async move { removed })
    }
}

#[tokio::test]
async fn what_is_in_a_store_plays_as_it_did_from_the_disk() {
    let (stage, router) = four_segments().await;
    let found = stage.found().await;
    let begin = found[0].start;
    let middle = begin.plus(Duration::from_millis(1500));
    let uris: Vec<_> = [(begin, "7.6"), (middle, "3")]
        .iter()
        .flat_map(|(start, seconds)| {
            let uri = format!("/get?path=studio/cam&start={start}&duration={seconds}");
            [format!("{uri}&format=mp4"), uri]
        })
        .chain(["/list?path=studio/cam".to_owned()])
        .collect();
    let all = async || {
        let mut answers = Vec::new();
        for uri in &uris {
            answers.push(ask(&router, uri).await);
        }
        answers
    };
    let group = async || {
        let group = stage.recordings.group(&name(), middle).await.unwrap();
        let pictures = group.packets.iter().map(|picture| picture.data.clone());
        (pictures.collect::<Vec<_>>(), group.until - group.packets[0].pts)
    };
    let (before, group_before) = (all().await, group().await);
    // From the key picture at a second to the one at one and a half.
    assert_eq!(group_before.0.len(), 16);
    assert_eq!(group_before.0.last().unwrap().last(), Some(&45));

    let dir = stage.dir.path().join("store");
    std::fs::create_dir_all(dir.join("studio/cam")).unwrap();
    let away = std::sync::atomic::AtomicBool::new(false);
    let store = Arc::new(Folder { dir: dir.clone(), asked: Mutex::default(), away });
    stage.recordings.store_in(stage.dir.path().join("stored"), store.clone());
    for segment in &found {
        std::fs::copy(&segment.path, dir.join(&segment.relative)).unwrap();
        assert!(stage.recordings.remember(segment).await.unwrap());
        assert_eq!(stage.recordings.all().await.unwrap().len(), 4, "each is listed once");
        stage.recordings.remove_here(segment).await.unwrap();
        assert!(before == all().await, "{} is in the store", segment.relative);
    }
    assert!(stage.recordings.on_disk().await.unwrap().is_empty());
    assert!(stage.found().await.iter().all(|segment| segment.stored));
    assert_eq!(group().await, group_before);
    let asked = store.asked.lock().clone();
    assert!(!asked.is_empty() && asked.iter().all(|bytes| *bytes <= 4 << 20), "{asked:?}");

    // A store that is away is no recording that is gone.
    store.away.store(true, Ordering::Relaxed);
    assert_eq!(ask(&router, &uris[0]).await.0, http::StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&router, &uris[4]).await, before[4]);
    let kept = stage.recordings.delete(&name(), begin).await;
    assert!(matches!(kept, Err(ShelfError::Store(_))), "{kept:?}");
    store.away.store(false, Ordering::Relaxed);

    // What is removed is removed there; what the store loses by itself is forgotten.
    stage.recordings.delete(&name(), begin).await.unwrap();
    assert!(!dir.join(&found[0].relative).exists());
    std::fs::remove_file(dir.join(&found[1].relative)).unwrap();
    assert_eq!(ask(&router, &uris[1]).await.0, http::StatusCode::OK);
    assert_eq!(stage.found().await.len(), 2);
    let at = begin.plus(Duration::from_millis(100));
    assert!(matches!(stage.recordings.group(&name(), at).await, Err(GroupError::Nothing)));
    stage.stop().await;
}

#[tokio::test]
async fn files_that_no_recorder_wrote_are_not_remembered() {
    let (stage, _) = four_segments().await;
    let dir = stage.dir.path().join("store");
    let store = Folder { dir, asked: Mutex::default(), away: false.into() };
    stage.recordings.store_in(stage.dir.path().join("stored"), Arc::new(store));
    let found = stage.found().await.remove(0);
    std::fs::write(&found.path, b"\0\0\0\x10ftypisomsomething").unwrap();
    assert!(!stage.recordings.remember(&found).await.unwrap());
    assert!(stage.recordings.remembered().await.unwrap().is_empty());
    stage.stop().await;
}
