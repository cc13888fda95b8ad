//! Chromium as a viewer under measurement: a script of `playwright-core` that opens pages and tells
//! on its standard output, line by line, which numbered pictures each has shown.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::clip::SQUARE;
use super::rig::Rig;

/// What the scripts share.
const VIEWER: &str = include_str!("viewer.js");

/// How long Chromium may take until it watches.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How often is looked whether something was told.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the browser needs.
pub(super) struct Tools {
    node: PathBuf,
    modules: PathBuf,
    chromium: PathBuf,
}

impl Tools {
    /// Finds it, or says what installs it.
    pub(super) fn find() -> Result<Self> {
        let found = |path: PathBuf, what: &str| match path.exists() {
            true => Ok(path),
            false => bail!("{what} is missing at {}: ./x test installs it", path.display()),
        };
        let given = std::env::var_os("NODE_PATH").filter(|path| !path.is_empty());
        let modules = given.map_or_else(|| PathBuf::from(".deps/node/node_modules"), PathBuf::from);
        found(modules.join("playwright-core"), "Playwright's driver")?;
        Ok(Self {
            node: found("/usr/bin/node".into(), "Node.js")?,
            modules: modules.canonicalize()?,
            chromium: found("/usr/bin/chromium".into(), "Chromium")?,
        })
    }
}

/// A picture that Chromium showed.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Shown {
    /// `None` when it could not be read.
    pub(super) number: Option<u16>,
    /// When Chromium said that it would be on the display, in milliseconds of the system's clock.
    pub(super) shown_ms: f64,
    /// When its pixels had been read.
    pub(super) read_ms: f64,
}

/// A line of the script.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Pictures {
        /// Its number, from 0.
        viewer: usize,
        /// When it set out to watch.
        began_ms: f64,
        pictures: Vec<Shown>,
        /// How long frames that left the jitter buffers lately had been in them, by kind.
        buffers_ms: HashMap<String, f64>,
    },
    Ready {
        ready: String,
    },
    Problem {
        problem: String,
    },
    Done {
        done: bool,
    },
}

/// What one page saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Viewer {
    /// When it set out to watch, in milliseconds of the system's clock.
    pub(super) began_ms: f64,
    /// In the order in which they were shown.
    pub(super) pictures: Vec<Shown>,
}

/// What the script told.
#[derive(Default)]
pub(super) struct Told {
    /// Chromium's, empty until it watches.
    pub(super) version: String,
    problem: Option<String>,
    done: bool,
    /// By number.
    pub(super) viewers: BTreeMap<usize, Viewer>,
    /// How long frames were in jitter buffers at last, by kind.
    pub(super) buffers_ms: HashMap<String, f64>,
}

impl Told {
    /// What viewer `number` saw.
    pub(super) fn pictures(&self, number: usize) -> &[Shown] {
        self.viewers.get(&number).map_or(&[], |viewer| &viewer.pictures)
    }
}

impl Told {
    fn note(&mut self, line: String) {
        match serde_json::from_str(&line) {
            Ok(Line::Pictures { viewer, began_ms, pictures, buffers_ms }) => {
                let viewer = self.viewers.entry(viewer).or_default();
                viewer.began_ms = began_ms;
                viewer.pictures.extend(pictures);
                self.buffers_ms.extend(buffers_ms);
            }
            Ok(Line::Ready { ready }) => self.version = ready,
            Ok(Line::Problem { problem }) => self.problem = Some(problem),
            Ok(Line::Done { done }) => self.done = done,
            Err(_) => self.problem = Some(line),
        }
    }
}

/// Chromium. Dropping it kills its driver, and the driver's end is Chromium's.
pub(super) struct Browser {
    _child: Child,
    told: Arc<Mutex<Told>>,
}

impl Browser {
    /// Runs `script` with the address to watch, the size of a square, `sound` or `silent` and
    /// `more`, until it says that it watches.
    pub(super) async fn start(
        tools: &Tools,
        rig: &Rig,
        script: &str,
        whep: &str,
        sound: bool,
        more: &[String],
    ) -> Result<Self> {
        std::fs::write(rig.dir().join("viewer.js"), VIEWER)?;
        let path = rig.dir().join("script.js");
        std::fs::write(&path, script)?;
        let sound = if sound { "sound" } else { "silent" };
        let mut child = Command::new(&tools.node)
            .arg(&path)
            .args([whep, &SQUARE.to_string(), sound])
            .args(more)
            .env("NODE_PATH", &tools.modules)
            .env("CHROMIUM", &tools.chromium)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run Node.js")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let told = Arc::<Mutex<Told>>::default();
        let noting = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                noting.lock().note(line);
            }
        });
        let browser = Self { _child: child, told };
        browser.until("watch", START_LIMIT, |told| !told.version.is_empty()).await?;
        Ok(browser)
    }

    /// Waits until the script says that it is done.
    pub(super) async fn until_done(&self, limit: Duration) -> Result<()> {
        self.until("end", limit, |told| told.done).await
    }

    async fn until(&self, what: &str, limit: Duration, found: fn(&Told) -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        while !self.look(found)? {
            ensure!(Instant::now() < end, "Chromium does not {what} within {limit:?}");
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn look(&self, found: fn(&Told) -> bool) -> Result<bool> {
        let told = self.told.lock();
        match &told.problem {
            Some(problem) => bail!("Chromium: {problem}"),
            None => Ok(found(&told)),
        }
    }

    /// Ends it; what it told.
    pub(super) fn end(self) -> Result<Told> {
        self.look(|_| true)?;
        Ok(std::mem::take(&mut *self.told.lock()))
    }
}
