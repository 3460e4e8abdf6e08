//! What happened, in words: all of it for one seed that is told, the last lines for one that failed.

use crate::queue::{MS, Nanos};
use std::collections::VecDeque;

/// Lines kept for a failure's report.
const LINES_KEPT: usize = 60;

/// The story of one seed.
#[derive(Debug, Default)]
pub(crate) struct Story {
    lines: VecDeque<String>,
    pub(crate) is_told: bool,
    /// Each message too.
    pub(crate) tells_messages: bool,
}

impl Story {
    pub(crate) fn tell(&mut self, now: Nanos, line: &str) {
        let line =
            format!("{:>10.3} {line}", f64::from(u32::try_from(now / MS).unwrap_or(u32::MAX)) / 1_000.0);
        if self.is_told {
            println!("{line}");
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn last_lines(&self) -> String {
        self.lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}
