//! A bar on a terminal while a load runs; nothing anywhere else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Shows how far a load is. Drawn on standard error, so that a report can be piped.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Requests when full; zero: by time.
    total: u64,
}

impl Progress {
    /// `total` requests, or a length of time if the number is not known.
    pub(crate) fn start(quiet: bool, total: Option<u64>, duration: Option<Duration>) -> Progress {
        let length = total.or_else(|| duration.map(|duration| duration.as_secs().max(1)));
        let bar = match length {
            Some(length) if !quiet => {
                ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5))
            }
            Some(_) | None => ProgressBar::hidden(),
        };
        let template = "{bar:40} {percent:>3} %  {msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant and valid"));
        Progress { bar, total: total.unwrap_or(0) }
    }

    pub(crate) fn show(&self, done: u64, failed: u64, elapsed: Duration) {
        self.bar.set_position(if self.total > 0 { done + failed } else { elapsed.as_secs() });
        let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
        let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        self.bar.set_message(format!("{done} done, {rate:.0}/s{failures}"));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
