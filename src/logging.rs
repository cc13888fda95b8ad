//! Logs on standard error, one line an event, with the spans that it happened in.

use anyhow::{Context as _, Result, anyhow};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};

/// Libraries that warn of what is none of an operator's business: `rtc-dtls` of each extension in
/// a browser's hello that it does not know. Whoever wants to hear it names them in `log.level`.
const QUIET: &str = "rtc_dtls=error";

/// Starts logging for the process.
///
/// # Errors
/// A filter that is not one, or logging that runs already.
pub(crate) fn start(settings: &Logging) -> Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.level))
        .with_context(|| format!("log.level: {:?} is no filter", settings.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}
