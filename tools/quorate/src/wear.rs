//! What the card has to write a day, and what that means for how long it lives.

use crate::metrics::Metrics;
use quorate_board::storage::{DIED_AFTER_BYTES, DIED_CARD_BYTES};
use serde::Serialize;

/// How long the node watches before a rate says something of the card's life: one busy minute is no day.
const SENSIBLE_SECONDS: f64 = 3_600.0;

/// Further than this no card's life can be told ahead.
const YEARS_MAX: f64 = 20.0;

const DAYS_A_YEAR: f64 = 365.25;

/// As the node counts and measures it. What it does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct WearView {
    /// The rates are of so long: of the last hour, or since the start.
    window_seconds: Option<f64>,
    /// By the node itself.
    written_bytes_per_day: Option<f64>,
    syncs_per_day: Option<f64>,
    /// The block device under its folder.
    device: Option<String>,
    device_bytes: Option<f64>,
    /// By all programs, since the node's start.
    device_written_bytes: Option<f64>,
    device_flushes: Option<f64>,
    /// By all programs.
    device_written_bytes_per_day: Option<f64>,
    device_flushes_per_day: Option<f64>,
    /// What a new card of this size takes, by one that died.
    device_endurance_bytes: Option<f64>,
    /// How long a new card takes these rates; only after an hour.
    days_of_a_new_card: Option<f64>,
    /// At most this share of its life is used, as the card itself says.
    card_life_used_percent: Option<f64>,
}

impl WearView {
    pub(crate) fn new(metrics: &Metrics) -> WearView {
        let value = |name: &str| metrics.value(name);
        let mut view = WearView {
            window_seconds: value("quorate_per_day_window_seconds"),
            written_bytes_per_day: value("quorate_written_bytes_per_day"),
            syncs_per_day: value("quorate_syncs_per_day"),
            device: metrics.label("quorate_device_size_bytes", "device"),
            device_bytes: value("quorate_device_size_bytes"),
            device_written_bytes: value("quorate_device_written_bytes_total"),
            device_flushes: value("quorate_device_flushes_total"),
            device_written_bytes_per_day: value("quorate_device_written_bytes_per_day"),
            device_flushes_per_day: value("quorate_device_flushes_per_day"),
            device_endurance_bytes: value("quorate_device_endurance_bytes"),
            days_of_a_new_card: None,
            card_life_used_percent: value("quorate_card_life_used_ratio")
                .map(|ratio| (ratio * 100.0).round()),
        };
        view.days_of_a_new_card = view.days();
        view
    }

    /// What the device sees counts, where it is known: the card does not care who writes.
    fn days(&self) -> Option<f64> {
        self.window_seconds.filter(|seconds| *seconds >= SENSIBLE_SECONDS)?;
        let rate = self.device_written_bytes_per_day.or(self.written_bytes_per_day)?;
        let endurance = self.device_endurance_bytes.filter(|_| rate > 0.0)?;
        Some(endurance / rate)
    }

    /// For people, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((bytes, seconds)) = self.written_bytes_per_day.zip(self.window_seconds) {
            let syncs = self
                .syncs_per_day
                .map_or_else(String::new, |syncs| format!(" in {} syncs", print_count(syncs)));
            lines.push(format!(
                "writes {}{syncs} a day to its card, {}",
                print_si(bytes),
                print_window(seconds)
            ));
        }
        lines.extend(self.device_line());
        lines.extend(self.days_of_a_new_card.map(|days| self.life_line(days)));
        lines.extend(self.card_life_used_percent.map(|percent| {
            if percent > 100.0 {
                "the card says that it is past the end of its life: replace it".to_owned()
            } else {
                format!("the card says that at most {percent:.0} % of its life are used")
            }
        }));
        lines
    }

    fn device_line(&self) -> Option<String> {
        const BY: &str = "from all programs together";
        let device = self.device.as_ref()?;
        let since = self.device_written_bytes.map(|bytes| format!("{} since the start", print_si(bytes)));
        let Some(bytes) = self.device_written_bytes_per_day else {
            return Some(format!("{device} took {} {BY}", since?));
        };
        let flushes = self
            .device_flushes_per_day
            .map_or_else(String::new, |flushes| format!(" and {} flushes", print_count(flushes)));
        let since = since.map_or_else(String::new, |since| format!("; {since}"));
        Some(format!("{device} takes {}{flushes} a day {BY}{since}", print_si(bytes)))
    }

    fn life_line(&self, days: f64) -> String {
        let size = self.device_bytes.map_or_else(String::new, |bytes| format!(" of {}", print_si(bytes)));
        let years = days / DAYS_A_YEAR;
        let time = if years > YEARS_MAX {
            format!("more than {YEARS_MAX:.0} years")
        } else if years >= 3.0 {
            format!("about {years:.0} years")
        } else {
            format!("about {} days", print_count(days))
        };
        format!(
            "a card of {} died after {}: by that a new one{size} lasts {time} at this rate",
            print_si(DIED_CARD_BYTES as f64),
            print_si(DIED_AFTER_BYTES as f64)
        )
    }
}

/// As the sizes of cards are told: in thousands. Two digits at least, three at most.
fn print_si(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KB", "MB", "GB", "TB"];
    let mut value = bytes;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 999.5 {
            break;
        }
        value /= 1_000.0;
        unit = next;
    }
    if unit == UNITS[0] || value >= 9.95 || (value - value.round()).abs() < 0.05 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Two digits: a rate's third is chance.
fn print_count(count: f64) -> String {
    if count >= 99_500.0 {
        let millions = count / 1_000_000.0;
        return if millions < 0.995 {
            format!("{millions:.2} million")
        } else {
            format!("{millions:.1} million")
        };
    }
    let unit = 10f64.powf((count.max(1.0).log10().floor() - 1.0).max(0.0));
    format!("{:.0}", (count / unit).round() * unit)
}

fn print_window(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= SENSIBLE_SECONDS => "at the rate of the last hour".to_owned(),
        seconds if seconds < 120.0 => "at the rate of the last minute".to_owned(),
        seconds => format!("at the rate of the last {:.0} min", (seconds / 60.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a node says it whose card is an eMMC of 8 GB.
    const PAGE: &str = "\
quorate_device_size_bytes{device=\"mmcblk0\"} 8000000000
quorate_device_endurance_bytes 823000000000
quorate_card_life_used_ratio 0.3
quorate_device_written_bytes_total 55000000
quorate_device_flushes_total 9000
quorate_per_day_window_seconds 3600
quorate_written_bytes_per_day 1000000000
quorate_syncs_per_day 243210
quorate_device_written_bytes_per_day 1210000000
quorate_device_flushes_per_day 1260000
";

    fn view(page: &str) -> WearView {
        WearView::new(&Metrics::of(page))
    }

    #[test]
    fn what_a_day_costs_and_how_long_a_card_takes_it_is_said() {
        assert_eq!(
            view(PAGE).lines(),
            [
                "writes 1 GB in 0.24 million syncs a day to its card, at the rate of the last hour",
                "mmcblk0 takes 1.2 GB and 1.3 million flushes a day from all programs together; 55 MB since the start",
                "a card of 8 GB died after 823 GB: by that a new one of 8 GB lasts about 680 days at this rate",
                "the card says that at most 30 % of its life are used",
            ]
        );
        let json = serde_json::to_value(view(PAGE)).unwrap();
        assert_eq!(json["device"], "mmcblk0");
        assert_eq!(
            (&json["device_flushes"], &json["card_life_used_percent"]),
            (&9_000.0.into(), &30.0.into())
        );
        assert!((680.0..681.0).contains(&json["days_of_a_new_card"].as_f64().unwrap()), "{json}");
    }

    #[test]
    fn the_first_hour_says_nothing_of_a_life() {
        let young = view(&PAGE.replace("seconds 3600", "seconds 725"));
        assert_eq!(young.days_of_a_new_card, None);
        assert!(young.lines()[0].ends_with("at the rate of the last 12 min"), "{:?}", young.lines());
        assert!(!young.lines().join("\n").contains("died"));
        let younger = view(&PAGE.replace("seconds 3600", "seconds 61"));
        assert!(younger.lines()[0].ends_with("at the rate of the last minute"), "{:?}", younger.lines());
    }

    #[test]
    fn a_larger_or_idle_card_lasts() {
        let large = PAGE.replace("823000000000", "6584000000000").replace("} 8000000000", "} 64000000000");
        let said = view(&large).lines().join("\n");
        assert!(said.contains("a new one of 64 GB lasts about 15 years"), "{said}");
        let idle = view(&PAGE.replace("1210000000", "12100000")).lines().join("\n");
        assert!(idle.contains("takes 12 MB") && idle.contains("more than 20 years"), "{idle}");
        let still = view(&PAGE.replace("1210000000", "0"));
        assert_eq!(still.days_of_a_new_card, None, "nothing is written");
    }

    #[test]
    fn without_a_device_the_node_counts_alone_and_a_disk_is_given_no_life() {
        let node: String = PAGE
            .lines()
            .filter(|line| !line.contains("device") && !line.contains("life"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            view(&node).lines(),
            ["writes 1 GB in 0.24 million syncs a day to its card, at the rate of the last hour"]
        );
        assert_eq!(view("etcd_server_has_leader 1\n"), WearView::default());
        assert!(WearView::default().lines().is_empty());
        let disk: String =
            PAGE.lines().filter(|line| !line.contains("endurance")).map(|line| format!("{line}\n")).collect();
        assert_eq!(view(&disk).days_of_a_new_card, None);
    }

    #[test]
    fn a_start_tells_what_its_device_took() {
        let page: String = PAGE.lines().take(5).map(|line| format!("{line}\n")).collect();
        let said = "mmcblk0 took 55 MB since the start from all programs together";
        assert_eq!(view(&page).lines()[0], said);
    }

    #[test]
    fn a_card_past_its_end_says_so() {
        let said = view("quorate_card_life_used_ratio 1.1\n").lines();
        assert_eq!(said, ["the card says that it is past the end of its life: replace it"]);
    }

    #[test]
    fn figures_are_as_long_as_they_are_good() {
        for (bytes, said) in [
            (0.0, "0 bytes"),
            (999.0, "999 bytes"),
            (4_160.0, "4.2 KB"),
            (999_700.0, "1 MB"),
            (96_400_000.0, "96 MB"),
            (9_960_000_000.0, "10 GB"),
            (3.5e15, "3500 TB"),
        ] {
            assert_eq!(print_si(bytes), said);
        }
        for (count, said) in [
            (0.0, "0"),
            (7.0, "7"),
            (86.4, "86"),
            (24_321.0, "24000"),
            (243_210.0, "0.24 million"),
            (999_900.0, "1.0 million"),
        ] {
            assert_eq!(print_count(count), said);
        }
    }
}
