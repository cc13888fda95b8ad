//! Where the clients are.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How long a test waits for what must come. Only a broken test or node waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn found(path: PathBuf, what: &str) -> PathBuf {
    assert!(path.exists(), "{what} is missing at {}: run ./x test", path.display());
    path
}

fn from_environment(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty())?;
    Some(root().join(value))
}

/// FFmpeg of the system.
pub(crate) fn ffmpeg() -> PathBuf {
    found("/usr/bin/ffmpeg".into(), "ffmpeg")
}

/// Node.js.
pub(crate) fn node_js() -> PathBuf {
    found("/usr/bin/node".into(), "Node.js")
}

/// The folder with Playwright's driver.
pub(crate) fn node_modules() -> PathBuf {
    let path =
        from_environment("NODE_PATH").unwrap_or_else(|| root().join(".deps/node/node_modules"));
    found(path.join("playwright-core"), "Playwright's driver");
    path
}

/// Chromium.
pub(crate) fn chromium() -> PathBuf {
    found("/usr/bin/chromium".into(), "Chromium")
}

/// Firefox.
pub(crate) fn firefox() -> PathBuf {
    found("/usr/bin/firefox-esr".into(), "Firefox")
}

/// The certificate authority for tests.
pub(crate) fn pebble() -> PathBuf {
    found("/usr/bin/pebble".into(), "Pebble")
}

/// Python with aiortc.
pub(crate) fn python() -> PathBuf {
    let path = from_environment("MILLSTREAM_TEST_PYTHON")
        .unwrap_or_else(|| root().join(".deps/python/bin/python"));
    found(path, "Python with aiortc")
}

/// FFmpeg 9, which speaks WHIP.
pub(crate) fn ffmpeg_9() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
        let said = std::process::Command::new(python()).args(["-c", code]).output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().into()
    });
    found(path.clone(), "FFmpeg 9")
}

/// A script of `tests/clients`.
pub(crate) fn script(name: &str) -> PathBuf {
    found(root().join("tests/clients").join(name), "the script")
}
