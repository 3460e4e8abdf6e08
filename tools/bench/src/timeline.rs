//! Every request of a load, one line each, for whoever draws it.

use crate::tally::{Answer, print_status};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Lines `INTENDED_US LATENCY_US MEMBER ok|ERROR`, in the order of the answers; times since the start of the load,
/// members by their place among the endpoints, from 0.
#[derive(Debug)]
pub(crate) struct Timeline {
    file: Mutex<BufWriter<File>>,
}

impl Timeline {
    /// Replaces the file.
    pub(crate) fn create(path: &Path) -> Result<Timeline> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Timeline { file: Mutex::new(BufWriter::new(file)) })
    }

    pub(crate) fn add(&self, answer: &Answer) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be written shows at the end.
        drop(writeln!(file, "{}", print(answer)));
    }

    /// All lines are in the file, or the reason why not.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.flush().context("the timeline could not be written")
    }
}

fn print(answer: &Answer) -> String {
    let outcome = answer
        .outcome
        .as_ref()
        .map_or_else(|status| print_status(status).replace(char::is_whitespace, "_"), |()| "ok".into());
    let (intended, latency) = (answer.intended.as_micros(), answer.latency().as_micros());
    format!("{intended} {latency} {} {outcome}", answer.member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tonic::Status;

    #[test]
    fn a_line_has_four_words_whatever_the_error_says() {
        let mut answer = Answer {
            intended: Duration::from_millis(2),
            at: Duration::from_micros(2_500),
            member: 1,
            outcome: Ok(()),
        };
        assert_eq!(print(&answer), "2000 500 1 ok");
        answer.outcome = Err(Status::unavailable("no\nleader now"));
        assert_eq!(print(&answer), "2000 500 1 Unavailable:_no_leader_now");
    }
}
