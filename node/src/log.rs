//! Log lines go through a bounded ring to a thread of their own: no worker ever waits for one (rule 19).

use crate::config::LogFormat;
use std::io::IsTerminal;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait for a slow log; beyond them lines are dropped, never a put.
const LINE_COUNT_MAX: usize = 4_096;

/// Starts logging to standard error. Lines are flushed when the guard is dropped.
///
/// # Errors
/// What is wrong with the filter.
pub fn start(format: LogFormat, filter: &str) -> Result<WorkerGuard, String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log-level: '{filter}': {error}"))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINE_COUNT_MAX)
        .thread_name("log")
        .finish(std::io::stderr());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => {
            subscriber.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
        }
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(guard)
}
