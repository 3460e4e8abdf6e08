//! What the figures mean, in words: for the cluster, and for the card's life.

use super::measure::Measured;
use quorate_bench::print_ms;
use quorate_board::storage::{Device, Finding, P50_FINE, PAUSE_FINE, PAUSE_LAST, PAUSE_SAFE, Verdict};
use serde::Serialize;
use std::time::Duration;

/// Puts a second to expect of a cluster whose cards are like this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Expected {
    /// By one client that waits for each answer.
    pub(crate) clients_1: f64,
    /// By 64.
    pub(crate) clients_64: f64,
}

/// How long a card may live at rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Life {
    /// Bytes written a day.
    pub(crate) bytes_per_day: f64,
    /// Years until it has taken as much for its size as a card that died.
    pub(crate) years: f64,
}

/// What the log writes a day at 10 puts/s of 1 KiB, each alone: 4.1 KB a put (slow-cards, row `rest`).
const REST_BYTES_PER_DAY: f64 = 3.5e9;

/// What a node's own work leaves of the physical limit: 1,147 of 1,270 puts/s were measured on an ordinary card.
const SHARE_REACHED: f64 = 0.9;

/// Processor and network bound a cluster of boards where cards do not.
const CLIENT_1_MAX: f64 = 2_000.0;
const CLIENTS_64_MAX: f64 = 20_000.0;

/// A batch waits a 24th of a sync for company; a put in it takes about 300 bytes.
const LINGER: f64 = 1.0 / 24.0;
const PUT_BYTES: f64 = 300.0;

impl Expected {
    /// None before the first append.
    pub(crate) fn of(measured: &Measured) -> Option<Expected> {
        let sync = measured.appends.quantiles()?.mean_ms / 1_000.0;
        let (bytes, took) = measured.bulk;
        let transfer = match bytes {
            0 => 0.0,
            bytes => 64.0 * PUT_BYTES * took.as_secs_f64() / bytes as f64,
        };
        Some(Expected {
            clients_1: round(1.0 / sync).min(CLIENT_1_MAX),
            clients_64: round(64.0 * SHARE_REACHED / (sync * (1.0 + LINGER) + transfer)).min(CLIENTS_64_MAX),
        })
    }
}

impl Life {
    /// Of what wears like a card.
    pub(crate) fn of(device: &Device) -> Option<Life> {
        device.endurance_bytes().map(|bytes| Life {
            bytes_per_day: REST_BYTES_PER_DAY,
            years: bytes as f64 / REST_BYTES_PER_DAY / 365.25,
        })
    }
}

/// Two digits: more would be a claim.
fn round(value: f64) -> f64 {
    let magnitude = value.max(0.01).log10().floor();
    if magnitude < 1.0 {
        // Dividing by a whole number gives the shortest text.
        let parts = 10f64.powf(1.0 - magnitude);
        return (value * parts).round() / parts;
    }
    let unit = 10f64.powf(magnitude - 1.0);
    (value / unit).round() * unit
}

/// Why the verdict is what it is, with the numbers it is judged by.
pub(crate) fn reasons(verdict: Verdict, measured: &Measured, findings: &[Finding]) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(refusal) = &measured.refusal {
        reasons.push(format!(
            "the card refused ({refusal}): the log ends at its first refusal, and so does a node"
        ));
    }
    if let Some(hang) = measured.hang {
        reasons.push(format!(
            "it gave no answer for {:.0} s, and was not waited for any longer",
            hang.as_secs_f64()
        ));
    }
    let Some((p50, longest)) = measured.syncs() else {
        if reasons.is_empty() {
            reasons.push("nothing could be measured".into());
        }
        return reasons;
    };
    reasons.push(about_p50(p50));
    reasons.push(about_longest(longest));
    if verdict == Verdict::NotTrusted || findings.iter().any(Finding::is_failing_card) {
        reasons.push("what stands above as SERIOUS outweighs the times".into());
    }
    reasons
}

fn about_p50(p50: Duration) -> String {
    let (told, bound) = (print(p50), print_bound(P50_FINE));
    if p50 <= P50_FINE {
        format!("half of the syncs take {told} or less (up to {bound} is fine)")
    } else {
        format!(
            "half of the syncs take {told} or more (up to {bound} is fine): each write takes as long as the middle \
             card of the cluster, none is lost"
        )
    }
}

fn about_longest(longest: Duration) -> String {
    let told = print(longest);
    if longest <= PAUSE_FINE {
        format!("the longest took {told} (cards are known for up to {})", print_bound(PAUSE_FINE))
    } else if longest <= PAUSE_SAFE {
        format!(
            "the longest took {told}: under {} that is safe, and felt only while a majority of the boards pause \
             together",
            print_bound(PAUSE_SAFE)
        )
    } else if longest <= PAUSE_LAST {
        format!(
            "the longest took {told}: over {} leadership moves away from this board; let a majority of the boards \
             have better cards",
            print_bound(PAUSE_SAFE)
        )
    } else {
        format!(
            "the longest took {told}: over {} programs on the cluster give up; replace the card",
            print_bound(PAUSE_LAST)
        )
    }
}

/// A measured time: seconds from one on, so that it compares with the bounds at a glance.
fn print(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 1.0 { format!("{seconds:.1} s") } else { print_ms(seconds * 1_000.0) }
}

/// A bound: whole by definition.
fn print_bound(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_board::storage::Card;

    pub(crate) fn measured(milliseconds: &[u64]) -> Measured {
        let mut measured = Measured { bulk: (16 << 20, Duration::from_millis(1_678)), ..Measured::default() };
        for ms in milliseconds {
            measured.appends.record(Duration::from_millis(*ms));
        }
        measured
    }

    #[test]
    fn an_ordinary_card_is_expected_to_do_what_was_measured_on_one() {
        // README: 44 ms a put of one client, 1,147 puts/s of 64, on a card of 42 ms.
        let expected = Expected::of(&measured(&[42; 9])).unwrap();
        assert!((20.0..=24.0).contains(&expected.clients_1), "{expected:?}");
        assert!((1_050.0..=1_300.0).contains(&expected.clients_64), "{expected:?}");
        assert_eq!(Expected::of(&measured(&[])), None);
    }

    #[test]
    fn a_fast_card_is_not_promised_more_than_a_board_does() {
        let mut fast = Measured::default();
        fast.appends.record(Duration::from_micros(30));
        let expected = Expected::of(&fast).unwrap();
        assert_eq!((expected.clients_1, expected.clients_64), (CLIENT_1_MAX, CLIENTS_64_MAX));
    }

    #[test]
    fn figures_have_two_digits() {
        assert_eq!((round(1_147.3), round(23.81), round(2.38), round(0.213)), (1_100.0, 24.0, 2.4, 0.21));
    }

    #[test]
    fn the_documented_card_lives_as_documented() {
        let card =
            |name: &str, card| Device { name: name.into(), bytes: 8_000_000_000, card, ..Device::default() };
        let life = Life::of(&card("mmcblk0", Some(Card::default()))).unwrap();
        assert!((life.years - 823.0 / 3.5 / 365.25).abs() < 1e-9, "{life:?}");
        assert_eq!(Life::of(&card("nvme0n1", None)), None);
    }

    #[test]
    fn each_bound_has_its_words() {
        let said = |ms: &[u64]| reasons(Verdict::Fine, &measured(ms), &[]).join("; ");
        assert!(said(&[40, 40, 90]).contains("up to 60 ms is fine)"), "{}", said(&[40, 40, 90]));
        assert!(said(&[120, 120, 300]).contains("none is lost"));
        assert!(said(&[40, 40, 2_000]).contains("pause together"));
        assert!(said(&[40, 40, 4_000]).contains("leadership moves away"));
        assert!(said(&[40, 40, 11_000]).contains("replace the card"));
    }

    #[test]
    fn refusals_and_hangs_are_told_first() {
        let refused = Measured { refusal: Some("Input/output error".into()), ..measured(&[40]) };
        assert!(reasons(Verdict::AboutToDie, &refused, &[])[0].contains("Input/output error"));
        let hung = Measured { hang: Some(Duration::from_secs(31)), ..Measured::default() };
        let said = reasons(Verdict::AboutToDie, &hung, &[]);
        assert!(said[0].contains("no answer for 31 s"), "{said:?}");
        assert_eq!(reasons(Verdict::NotTrusted, &Measured::default(), &[]), ["nothing could be measured"]);
        let lies = Finding::BarriersOff { option: "nobarrier".into() };
        assert!(reasons(Verdict::NotTrusted, &measured(&[1]), &[lies])[2].contains("SERIOUS"));
    }
}
