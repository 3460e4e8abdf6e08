//! What a card's syncs mean for a cluster.

use super::{Finding, Weight};
use core::fmt;
use core::time::Duration;

/// A median sync up to this is an ordinary card's, with room to spare (40 ms in the median).
pub const P50_FINE: Duration = Duration::from_millis(60);

/// Up to this a sync is what cards are known for: most pause some hundred milliseconds, several times a minute.
pub const PAUSE_FINE: Duration = Duration::from_secs(1);

/// From here on a card counts as sick, and leadership moves away from it.
pub const PAUSE_SAFE: Duration = Duration::from_secs(3);

/// From here on orchestrators give their own leadership up, and a card is past repair.
pub const PAUSE_LAST: Duration = Duration::from_secs(10);

/// What to think of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As good as cards are.
    Fine,
    /// Every write takes its time, none is lost.
    SlowButSafe,
    /// Acknowledged writes may be lost, or none can be made, until something is changed.
    NotTrusted,
    /// To be replaced.
    AboutToDie,
}

impl Verdict {
    /// Judges by the median and the longest sync (none: nothing could be measured), whether the card refused
    /// a read, write or sync, and what was found.
    #[must_use]
    pub fn of(syncs: Option<(Duration, Duration)>, is_refused: bool, findings: &[Finding]) -> Verdict {
        let longest = syncs.map(|(_, longest)| longest);
        let is_dying = is_refused
            || longest.is_some_and(|longest| longest > PAUSE_LAST)
            || findings.iter().any(Finding::is_failing_card);
        if is_dying {
            return Verdict::AboutToDie;
        }
        if findings.iter().any(|finding| finding.weight() == Weight::Serious) {
            return Verdict::NotTrusted;
        }
        match syncs {
            None => Verdict::NotTrusted,
            Some((p50, longest)) if p50 <= P50_FINE && longest <= PAUSE_FINE => Verdict::Fine,
            Some(_) => Verdict::SlowButSafe,
        }
    }

    /// A name for programs; never changes.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Verdict::Fine => "fine",
            Verdict::SlowButSafe => "slow-but-safe",
            Verdict::NotTrusted => "not-trusted",
            Verdict::AboutToDie => "about-to-die",
        }
    }

    /// Whether a node may stand on it.
    #[must_use]
    pub fn is_trusted(self) -> bool {
        matches!(self, Verdict::Fine | Verdict::SlowButSafe)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Fine => "fine",
            Verdict::SlowButSafe => "slow but safe",
            Verdict::NotTrusted => "not to be trusted as it is",
            Verdict::AboutToDie => "about to die",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(p50_ms: u64, longest_ms: u64, findings: &[Finding]) -> Verdict {
        let ms = Duration::from_millis;
        Verdict::of(Some((ms(p50_ms), ms(longest_ms))), false, findings)
    }

    #[test]
    fn the_bounds_are_those_of_the_documentation() {
        assert_eq!(of(40, 150, &[]), Verdict::Fine);
        assert_eq!(of(60, 1_000, &[]), Verdict::Fine);
        assert_eq!(of(61, 100, &[]), Verdict::SlowButSafe);
        assert_eq!(of(40, 1_001, &[]), Verdict::SlowButSafe);
        assert_eq!(of(120, 4_000, &[]), Verdict::SlowButSafe, "leadership moves away; nothing is lost");
        assert_eq!(of(120, 10_000, &[]), Verdict::SlowButSafe);
        assert_eq!(of(40, 10_001, &[]), Verdict::AboutToDie);
    }

    #[test]
    fn a_refusal_and_a_failing_card_outweigh_everything() {
        let fast = Some((Duration::from_millis(1), Duration::from_millis(2)));
        assert_eq!(Verdict::of(fast, true, &[]), Verdict::AboutToDie);
        assert_eq!(of(1, 2, &[Finding::WrongBytes { blocks: 1 }]), Verdict::AboutToDie);
        let worn = |is_urgent| [Finding::Worn { percent: None, is_urgent }];
        assert_eq!(of(1, 2, &worn(true)), Verdict::AboutToDie);
        assert_eq!(of(1, 2, &worn(false)), Verdict::Fine);
    }

    #[test]
    fn what_can_lose_a_write_is_not_trusted_however_fast() {
        let off = Finding::BarriersOff { option: "nobarrier".into() };
        assert_eq!(of(1, 2, &[off]), Verdict::NotTrusted);
        assert_eq!(of(1, 2, &[Finding::Overlay { is_volatile: false }]), Verdict::Fine);
        assert_eq!(Verdict::of(None, false, &[]), Verdict::NotTrusted, "nothing was measured");
        assert!(!Verdict::NotTrusted.is_trusted() && Verdict::SlowButSafe.is_trusted());
    }
}
