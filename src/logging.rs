//! Logs on standard error, one line an event, with the spans that it happened in.

use anyhow::{Context as _, Result, anyhow};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};

/// Starts logging for the process.
///
/// # Errors
/// A filter that is not one, or logging that runs already.
pub(crate) fn start(settings: &Logging) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.level)
        .with_context(|| format!("log.level: {:?} is no filter", settings.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}
