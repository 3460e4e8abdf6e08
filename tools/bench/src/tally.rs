//! What is counted while a load runs, in all and for each server.

use crate::stats::Latencies;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Status;

/// Distinct errors told apart in a report.
const ERROR_KIND_COUNT_MAX: usize = 16;

/// One request, answered or given up. Times are since the start of the load.
#[derive(Debug)]
pub(crate) struct Answer {
    /// When it was meant to start.
    pub(crate) intended: Duration,
    pub(crate) at: Duration,
    /// Which server, by its place among the endpoints.
    pub(crate) member: usize,
    pub(crate) outcome: Result<(), Status>,
}

impl Answer {
    pub(crate) fn latency(&self) -> Duration {
        self.at.saturating_sub(self.intended)
    }
}

/// What was counted.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Of all servers together.
    pub(crate) all: Share,
    /// Of each server alone.
    pub(crate) members: Vec<Share>,
    /// By code and text.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) elapsed: Duration,
    /// How late the open loop itself sent; says whether the figures are the server's.
    pub(crate) lag: Latencies,
}

/// What was counted of all servers, or of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Share {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) latencies: Latencies,
    /// How long what failed took to fail.
    pub(crate) failures: Latencies,
    /// Longest time in which nothing was answered well although requests were sent.
    pub(crate) gap_max: Duration,
    last_answer: Duration,
    last_intended: Duration,
}

impl Share {
    fn add(&mut self, answer: &Answer) {
        self.last_intended = self.last_intended.max(answer.intended);
        if answer.outcome.is_ok() {
            self.done += 1;
            self.latencies.record(answer.latency());
            self.gap_max = self.gap_max.max(answer.at.saturating_sub(self.last_answer));
            self.last_answer = self.last_answer.max(answer.at);
        } else {
            self.failed += 1;
            self.failures.record(answer.latency());
        }
    }

    /// Up to the last request, not to the end of waiting for it: who gives up after ten seconds must not make a gap of
    /// ten seconds for all others.
    fn close(&mut self) {
        self.gap_max = self.gap_max.max(self.last_intended.saturating_sub(self.last_answer));
    }
}

impl Tally {
    pub(crate) fn new(members: usize) -> Tally {
        Tally {
            all: Share::default(),
            members: vec![Share::default(); members],
            errors: BTreeMap::new(),
            elapsed: Duration::ZERO,
            lag: Latencies::default(),
        }
    }

    pub(crate) fn add(&mut self, answer: &Answer) {
        self.all.add(answer);
        if let Some(member) = self.members.get_mut(answer.member) {
            member.add(answer);
        }
        if let Err(status) = &answer.outcome {
            let kind = print_status(status);
            let is_told = self.errors.len() < ERROR_KIND_COUNT_MAX || self.errors.contains_key(&kind);
            *self.errors.entry(if is_told { kind } else { "others".into() }).or_default() += 1;
        }
    }

    pub(crate) fn close(&mut self, at: Duration) {
        self.all.close();
        self.members.iter_mut().for_each(Share::close);
        self.elapsed = at;
    }
}

/// Code and text of an error, as people look for them; for a broken connection also what broke it.
#[must_use]
pub fn print_status(status: &Status) -> String {
    const MESSAGE_LENGTH_MAX: usize = 200;
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    let message: String = text.chars().take(MESSAGE_LENGTH_MAX).collect();
    format!("{:?}: {message}", status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(member: usize, intended: u64, at: u64, good: bool) -> Answer {
        let outcome = if good { Ok(()) } else { Err(Status::unavailable("down")) };
        let [intended, at] = [intended, at].map(Duration::from_millis);
        Answer { intended, at, member, outcome }
    }

    #[test]
    fn a_gap_of_one_server_is_not_hidden_by_the_others() {
        let mut tally = Tally::new(2);
        for at in [100, 200, 300, 400, 500] {
            tally.add(&answer(0, at - 10, at, true));
        }
        tally.add(&answer(1, 50, 100, true));
        tally.add(&answer(1, 450, 480, false));
        tally.close(Duration::from_secs(9));
        let gaps = [&tally.all, &tally.members[0], &tally.members[1]].map(|share| share.gap_max.as_millis());
        assert_eq!(gaps, [100, 100, 350]);
        assert_eq!((tally.all.done, tally.all.failed, tally.members[1].failed), (6, 1, 1));
        assert_eq!(tally.all.failures.count(), 1);
        assert_eq!(tally.errors.get("Unavailable: down"), Some(&1));
    }

    #[test]
    fn waiting_for_what_never_comes_is_no_gap() {
        let mut tally = Tally::new(1);
        tally.add(&answer(0, 900, 1_000, true));
        tally.add(&answer(0, 1_010, 11_010, false));
        tally.close(Duration::from_millis(11_010));
        assert_eq!(tally.all.gap_max, Duration::from_secs(1), "from the start to the first answer");
    }
}
