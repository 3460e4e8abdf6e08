//! The short form: a few syncs before a node begins, for one line of its log.

use super::{Facts, Finding, SampleFile, Verdict};
use core::time::Duration;
use std::io;
use std::path::Path;
use std::time::Instant;

/// Syncs of a glance at most: on an ordinary card a third of a second.
pub const GLANCE_COUNT: u64 = 8;

/// No further sync begins after this. What one sync takes nobody can bound; the node's own first one would wait as
/// long.
const GLANCE_TIME: Duration = Duration::from_millis(500);

/// What a glance showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// Syncs measured.
    pub count: u64,
    /// Their median.
    pub p50: Duration,
    /// The longest.
    pub longest: Duration,
    /// What they mean.
    pub verdict: Verdict,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Glance {
    /// Looks at a folder: 64 KiB written at most, at most eight appends and one sync more.
    ///
    /// # Errors
    /// What the system says; the node's own writes will hear the same.
    pub fn at(folder: &Path, seed: u64) -> io::Result<Glance> {
        let facts = Facts::of(folder)?;
        let begun = Instant::now();
        let mut file = SampleFile::create(folder, seed)?;
        file.fill(GLANCE_COUNT)?;
        let mut times = vec![file.append()?];
        while file.blocks_left() > 0 && begun.elapsed() < GLANCE_TIME {
            times.push(file.append()?);
        }
        Ok(Glance::of(&facts, times))
    }

    fn of(facts: &Facts, mut times: Vec<Duration>) -> Glance {
        times.sort_unstable();
        let p50 = times[(times.len() - 1) / 2];
        let longest = times[times.len() - 1];
        let mut findings = facts.findings(0);
        findings.extend(facts.suspicion(p50));
        let verdict = Verdict::of(Some((p50, longest)), false, &findings);
        Glance { count: times.len() as u64, p50, longest, verdict, findings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::sd_card;

    #[test]
    fn a_glance_writes_little_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let glance = Glance::at(folder.path(), 3).unwrap();
        assert!((1..=GLANCE_COUNT).contains(&glance.count));
        assert!(glance.p50 <= glance.longest);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_is_judged_by_median_and_longest() {
        let ms = |values: &[u64]| values.iter().copied().map(Duration::from_millis).collect();
        let glance = Glance::of(&sd_card(), ms(&[90, 41, 40, 39]));
        assert_eq!((glance.p50, glance.longest), (Duration::from_millis(40), Duration::from_millis(90)));
        assert_eq!((glance.verdict, glance.findings), (Verdict::Fine, vec![]));
        assert_eq!(Glance::of(&sd_card(), ms(&[40, 1_500, 40])).verdict, Verdict::SlowButSafe);
    }

    #[test]
    fn a_card_that_lies_is_suspected_at_a_glance() {
        let glance = Glance::of(&sd_card(), vec![Duration::from_micros(5); 8]);
        assert_eq!(glance.findings[0].code(), "too-fast");
        assert_eq!(glance.verdict, Verdict::NotTrusted);
    }
}
