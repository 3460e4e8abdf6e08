//! Compaction by itself, in etcd's two modes. Pure: the driver tells it the time and the revision.

use core::time::Duration;
use quorate_types::{ClusterTime, Revision};
use std::collections::VecDeque;

/// etcd's revision mode looks every five minutes.
const REVISION_PERIOD: Duration = Duration::from_secs(5 * 60);

/// etcd's periodic mode compacts at most every hour, and notes the revision ten times a period.
const PERIOD_MAX: Duration = Duration::from_secs(60 * 60);
const NOTES_PER_PERIOD: u32 = 10;

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompact {
    /// Nothing.
    Off,
    /// Keep the history of that time.
    Periodic(Duration),
    /// Keep that many revisions.
    Revision(i64),
}

impl AutoCompact {
    /// Reads etcd's pair of flags: a bare number means hours in periodic mode.
    ///
    /// # Errors
    /// A sentence that says what the flags take.
    pub fn parse(mode: &str, retention: &str) -> Result<AutoCompact, String> {
        let count = retention.parse::<i64>();
        match (mode, count) {
            ("periodic" | "revision", Ok(0)) => Ok(AutoCompact::Off),
            (_, Ok(count)) if count < 0 => Err(format!("'{retention}' is negative")),
            ("revision", Ok(count)) => Ok(AutoCompact::Revision(count)),
            ("revision", Err(_)) => Err(format!("'{retention}' is no count of revisions")),
            ("periodic", Ok(hours)) => {
                let seconds = u64::try_from(hours).unwrap_or(u64::MAX).saturating_mul(3600);
                Ok(AutoCompact::Periodic(Duration::from_secs(seconds)))
            }
            ("periodic", Err(_)) => humantime::parse_duration(retention)
                .map(|time| if time.is_zero() { AutoCompact::Off } else { AutoCompact::Periodic(time) })
                .map_err(|_| format!("'{retention}' is no duration; write 30m, 1h, or a number of hours")),
            (other, _) => Err(format!("the mode '{other}' is neither periodic nor revision")),
        }
    }
}

/// When to compact, and up to where.
#[derive(Debug)]
pub struct AutoCompactor {
    plan: AutoCompact,
    next: Option<ClusterTime>,
    notes: VecDeque<(ClusterTime, Revision)>,
    compacted: Revision,
}

impl AutoCompactor {
    /// For that plan; time starts with the first call of `tick`.
    #[must_use]
    pub fn new(plan: AutoCompact) -> AutoCompactor {
        AutoCompactor { plan, next: None, notes: VecDeque::new(), compacted: Revision(0) }
    }

    /// Answers the revision to compact at, if it is time for one.
    pub fn tick(&mut self, now: ClusterTime, revision: Revision) -> Option<Revision> {
        let target = match self.plan {
            AutoCompact::Off => return None,
            AutoCompact::Revision(count) => {
                if !self.is_due(now, REVISION_PERIOD) {
                    return None;
                }
                Revision(revision.0.saturating_sub(count))
            }
            AutoCompact::Periodic(retention) => {
                let period = retention.min(PERIOD_MAX);
                if !self.is_due(now, period / NOTES_PER_PERIOD) {
                    return None;
                }
                self.noted_before(now, revision, retention)?
            }
        };
        if target <= self.compacted || target.0 < 1 {
            return None;
        }
        self.compacted = target;
        Some(target)
    }

    fn is_due(&mut self, now: ClusterTime, period: Duration) -> bool {
        let period_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
        let due = self.next.is_some_and(|next| now >= next);
        if due || self.next.is_none() {
            self.next = Some(now.plus_ms(period_ms));
        }
        due || self.notes.is_empty() && matches!(self.plan, AutoCompact::Periodic(_))
    }

    /// Notes the revision of now; answers the newest one noted at least `retention` ago.
    fn noted_before(
        &mut self,
        now: ClusterTime,
        revision: Revision,
        retention: Duration,
    ) -> Option<Revision> {
        let retention_ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        self.notes.push_back((now, revision));
        let mut found = None;
        while let Some((time, noted)) = self.notes.front().copied() {
            if now.ms_since(time) < retention_ms {
                break;
            }
            found = Some(noted);
            self.notes.pop_front();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_etcds_flags() {
        assert_eq!(AutoCompact::parse("periodic", "0"), Ok(AutoCompact::Off));
        assert_eq!(
            AutoCompact::parse("periodic", "0s"),
            Ok(AutoCompact::Off),
            "else all history went each tick"
        );
        assert_eq!(AutoCompact::parse("periodic", "1"), Ok(AutoCompact::Periodic(Duration::from_secs(3600))));
        assert_eq!(AutoCompact::parse("periodic", "90s"), Ok(AutoCompact::Periodic(Duration::from_secs(90))));
        assert_eq!(AutoCompact::parse("revision", "1000"), Ok(AutoCompact::Revision(1000)));
        assert!(AutoCompact::parse("revision", "1h").is_err());
        assert!(AutoCompact::parse("sometimes", "1h").is_err());
        assert!(AutoCompact::parse("periodic", "-1").is_err());
    }

    #[test]
    fn revision_mode_keeps_that_many() {
        let mut compactor = AutoCompactor::new(AutoCompact::Revision(100));
        assert_eq!(
            compactor.tick(ClusterTime(0), Revision(500)),
            None,
            "the first look is after five minutes"
        );
        assert_eq!(compactor.tick(ClusterTime(299_999), Revision(1_000)), None);
        assert_eq!(compactor.tick(ClusterTime(300_000), Revision(1_000)), Some(Revision(900)));
        assert_eq!(compactor.tick(ClusterTime(600_000), Revision(1_000)), None, "nothing new to forget");
        assert_eq!(compactor.tick(ClusterTime(900_000), Revision(1_200)), Some(Revision(1_100)));
    }

    #[test]
    fn periodic_mode_keeps_that_long() {
        let mut compactor = AutoCompactor::new(AutoCompact::Periodic(Duration::from_secs(10)));
        let mut compacted = Vec::new();
        for second in 0..30_i64 {
            let now = ClusterTime(u64::try_from(second).unwrap() * 1_000);
            if let Some(revision) = compactor.tick(now, Revision(second + 1)) {
                assert!(revision.0 <= second + 1 - 10, "ten seconds of history stay");
                compacted.push((second, revision));
            }
        }
        assert!(compacted.len() >= 2, "{compacted:?}");
    }
}
