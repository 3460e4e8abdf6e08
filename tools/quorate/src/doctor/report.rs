//! What an examination showed, for people and for programs.

use super::measure::Measured;
use super::words::{Expected, Life, reasons};
use quorate_bench::{Bar, Quantiles, print_bars, print_ms};
use quorate_board::storage::{Card, Facts, Finding, Verdict, Weight};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// One examination.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    folder: String,
    file_system: String,
    device: Option<String>,
    device_bytes: Option<u64>,
    /// `SD` or `MMC`, where the device is a card.
    card_kind: Option<String>,
    card_name: Option<String>,
    card_date: Option<String>,
    /// What an eMMC says of its own life: at most this share is used.
    card_life_used_percent: Option<u8>,
    free_bytes: u64,
    bytes_written: u64,
    /// 4 KiB into zeros, each synced.
    appends: Option<Quantiles>,
    histogram: Vec<Bar>,
    /// The same while another program writes and syncs 2 MiB a second.
    beside_neighbour: Option<Quantiles>,
    write_bytes_per_second: Option<f64>,
    read_bytes_per_second: Option<f64>,
    /// Whether reading went past the page cache for certain.
    read_is_direct: Option<bool>,
    flushes_per_append: Option<f64>,
    device_bytes_per_append: Option<f64>,
    findings: Vec<FindingReport>,
    verdict: &'static str,
    /// Whether a node may stand on it: exit code 0.
    pub(crate) is_trusted: bool,
    reasons: Vec<String>,
    expected_puts_per_second: Option<Expected>,
    life_at_rest: Option<Life>,
    #[serde(skip)]
    verdict_words: String,
}

#[derive(Debug, Clone, Serialize)]
struct FindingReport {
    code: &'static str,
    is_serious: bool,
    what: String,
    remedy: &'static str,
}

/// What is examined, in a line.
pub(crate) fn heading(folder: &Path, facts: &Facts) -> String {
    let mut text = format!("{}  {} on {}", folder.display(), facts.mount.kind, facts.mount.source);
    if let Some(device) = &facts.device {
        if let Some(Card { kind, name, maker, date, .. }) = &device.card {
            let kind = if kind == "MMC" { "eMMC" } else { "SD card" };
            text.push_str(&format!(", {kind} {name} (maker {maker}) of {date}"));
        }
        text.push_str(&format!(", {}", print_bytes(device.bytes as f64)));
    }
    text.push_str(&format!(", {} free", print_bytes(facts.free_bytes as f64)));
    text
}

impl Report {
    pub(crate) fn new(
        folder: &Path,
        facts: &Facts,
        mut findings: Vec<Finding>,
        measured: &Measured,
    ) -> Report {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.weight()));
        let verdict = Verdict::of(measured.syncs(), measured.refusal.is_some(), &findings);
        let device = facts.device.as_ref();
        let card = device.and_then(|device| device.card.as_ref());
        let appends = measured.appends.quantiles();
        let each = |count: u64| appends.map(|appends| count as f64 / appends.count as f64);
        let (written, took) = measured.bulk;
        Report {
            folder: folder.display().to_string(),
            file_system: facts.mount.kind.clone(),
            device: device.map(|device| device.name.clone()),
            device_bytes: device.map(|device| device.bytes),
            card_kind: card.map(|card| card.kind.clone()),
            card_name: card.map(|card| card.name.clone()),
            card_date: card.map(|card| card.date.clone()),
            card_life_used_percent: card
                .and_then(|card| card.life_used_tenths)
                .map(|tenths| tenths.saturating_mul(10)),
            free_bytes: facts.free_bytes,
            bytes_written: measured.bytes_written,
            appends,
            histogram: measured.appends.bars(),
            beside_neighbour: measured.beside.quantiles(),
            write_bytes_per_second: (written > 0).then(|| written as f64 / took.as_secs_f64().max(1e-9)),
            read_bytes_per_second: measured
                .read
                .map(|read| read.bytes as f64 / read.took.as_secs_f64().max(1e-9)),
            read_is_direct: measured.read.map(|read| read.is_direct),
            flushes_per_append: measured.device.and_then(|counts| each(counts.flushes)),
            device_bytes_per_append: measured.device.and_then(|counts| each(counts.bytes)),
            reasons: reasons(verdict, measured, &findings),
            findings: findings.iter().map(FindingReport::of).collect(),
            verdict: verdict.code(),
            is_trusted: verdict.is_trusted(),
            expected_puts_per_second: Expected::of(measured).filter(|_| verdict.is_trusted()),
            life_at_rest: device.and_then(Life::of),
            verdict_words: verdict.to_string(),
        }
    }

    /// For people.
    pub(crate) fn print(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail; the result says so and is dropped.
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        self.write_figures(text)?;
        for finding in &self.findings {
            let weight = if finding.is_serious { "SERIOUS" } else { "warning" };
            writeln!(text, "{weight}: {}\n         what to do: {}", finding.what, finding.remedy)?;
        }
        if !self.findings.is_empty() {
            text.push('\n');
        }
        writeln!(text, "This card is {}.", self.verdict_words)?;
        for reason in &self.reasons {
            writeln!(text, "  - {reason}")?;
        }
        if let Some(Expected { clients_1, clients_64 }) = self.expected_puts_per_second {
            writeln!(
                text,
                "  - expect about {clients_1} puts/s of 1 client, {clients_64} of 64, where two cards of three are \
                 no slower"
            )?;
        }
        if let Some(Life { bytes_per_day, years }) = self.life_at_rest {
            writeln!(
                text,
                "  - at 10 puts/s of 1 KiB ({} a day) it has taken as much for its size as a card that died of it \
                 after {years:.1} years",
                print_bytes(bytes_per_day)
            )?;
        }
        if let Some(percent) = self.card_life_used_percent {
            writeln!(text, "  - by its own estimate at most {percent} % of its life are used")?;
        }
        Ok(())
    }

    fn write_figures(&self, text: &mut String) -> std::fmt::Result {
        let quantiles = |quantiles: &Quantiles| {
            let Quantiles { p50_ms, p99_ms, p999_ms, max_ms, .. } = *quantiles;
            let [p50, p99, p999, longest] = [p50_ms, p99_ms, p999_ms, max_ms].map(print_ms);
            format!("p50 {p50}  p99 {p99}  p99.9 {p999}  longest {longest}")
        };
        if let Some(appends) = &self.appends {
            writeln!(
                text,
                "{} appends of 4 KiB into zeros, each synced\n  {}",
                appends.count,
                quantiles(appends)
            )?;
            text.push_str(&print_bars(&self.histogram));
        }
        if let Some(beside) = &self.beside_neighbour {
            writeln!(
                text,
                "{} beside a neighbour that writes and syncs 2 MiB a second\n  {}",
                beside.count,
                quantiles(beside)
            )?;
        }
        if let (Some(flushes), Some(bytes)) = (self.flushes_per_append, self.device_bytes_per_append) {
            writeln!(
                text,
                "the device saw {flushes:.2} flushes and {bytes:.0} bytes an append, other programs' among them"
            )?;
        }
        if let Some(rate) = self.write_bytes_per_second {
            write!(text, "bandwidth {}/s written and synced", print_bytes(rate))?;
            if let (Some(rate), Some(is_direct)) = (self.read_bytes_per_second, self.read_is_direct) {
                let how = if is_direct { "past the page cache" } else { "perhaps out of memory" };
                write!(text, ", {}/s read back {how}", print_bytes(rate))?;
            }
            writeln!(text, "; {} MiB written in all\n", self.bytes_written >> 20)?;
        }
        Ok(())
    }
}

impl FindingReport {
    fn of(finding: &Finding) -> FindingReport {
        FindingReport {
            code: finding.code(),
            is_serious: finding.weight() == Weight::Serious,
            what: finding.to_string(),
            remedy: finding.remedy(),
        }
    }
}

/// As makers of cards count: 1 MB is a million.
fn print_bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.0} KB", bytes / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_bench::DeviceCounts;
    use quorate_board::storage::{Device, Mount, ReadBack};
    use std::time::Duration;

    fn emmc() -> Facts {
        let line = "27 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw";
        let card = Card {
            kind: "MMC".into(),
            name: "BJTD4R".into(),
            maker: "0x000015".into(),
            date: "06/2021".into(),
            life_used_tenths: Some(3),
            spare_blocks: Some(1),
        };
        Facts {
            mount: Mount::of(line, Path::new("/q")).unwrap(),
            device: Some(Device {
                name: "mmcblk0".into(),
                bytes: 31_268_536_320,
                has_cache: Some(true),
                card: Some(card),
                ..Device::default()
            }),
            free_bytes: 12_000_000_000,
            free_files: Some(100_000),
            zfs_sync: None,
            swap: None,
            year: 2026,
        }
    }

    fn measured() -> Measured {
        let mut measured = Measured {
            bulk: (16_000_000, Duration::from_secs(2)),
            read: Some(ReadBack {
                bytes: 16_000_000,
                took: Duration::from_secs(1),
                wrong_blocks: 0,
                is_direct: true,
            }),
            device: Some(DeviceCounts { writes: 100, bytes: 100 * 4_200, flushes: 100 }),
            bytes_written: 40 << 20,
            ..Measured::default()
        };
        for ms in 0..100 {
            measured.appends.record(Duration::from_millis(35 + ms % 10));
        }
        measured.beside.record(Duration::from_millis(250));
        measured
    }

    fn report(measured: &Measured) -> Report {
        let findings = measured.findings(&emmc());
        Report::new(Path::new("/q"), &emmc(), findings, measured)
    }

    #[test]
    fn a_fine_card_is_told_with_all_its_figures() {
        let report = report(&measured());
        let text = report.print();
        for part in [
            "100 appends of 4 KiB",
            "p50 39.0 ms",
            "beside a neighbour",
            "1.00 flushes and 4200 bytes",
            "8.0 MB/s written and synced, 16.0 MB/s read back past the page cache",
            "This card is fine.",
            "1 client",
            "2.5 years",
            "at most 30 % of its life",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
        assert!(!text.contains("warning") && !text.contains("SERIOUS"), "{text}");
        assert!(report.is_trusted);
        let heading = heading(Path::new("/q"), &emmc());
        assert_eq!(
            heading,
            "/q  ext4 on /dev/mmcblk0p2, eMMC BJTD4R (maker 0x000015) of 06/2021, 31.3 GB, 12.0 GB free"
        );
    }

    #[test]
    fn programs_get_the_same() {
        let json = serde_json::to_value(report(&measured())).unwrap();
        assert_eq!((&json["verdict"], &json["is_trusted"]), (&"fine".into(), &true.into()));
        assert_eq!(json["appends"]["count"], 100);
        assert_eq!(json["card_life_used_percent"], 30);
        assert!(json.get("verdict_words").is_none());
    }

    #[test]
    fn syncs_that_the_device_never_sees_are_serious() {
        let counts = |flushes| Some(DeviceCounts { writes: 100, bytes: 1, flushes });
        for (flushes, is_found) in [(0, true), (49, true), (50, false), (130, false)] {
            let report = report(&Measured { device: counts(flushes), ..measured() });
            assert_eq!(
                report.findings.iter().any(|finding| finding.code == "syncs-do-not-arrive"),
                is_found,
                "{flushes}"
            );
            assert_eq!(report.is_trusted, !is_found);
        }
        let none = Measured { device: None, ..measured() };
        assert!(report(&none).is_trusted, "nobody counted: nothing is claimed");
        let mut facts = emmc();
        facts.device.as_mut().unwrap().has_cache = Some(false);
        let findings = Measured { device: counts(0), ..measured() }.findings(&facts);
        assert_eq!(findings, [], "a device without a cache needs no flush");
    }

    #[test]
    fn wrong_bytes_and_refusals_end_the_card() {
        let mut wrong = measured();
        wrong.read.as_mut().unwrap().wrong_blocks = 2;
        let told = report(&wrong);
        assert_eq!((told.verdict, told.is_trusted), ("about-to-die", false));
        assert!(told.print().contains("SERIOUS: the card gave back other bytes"), "{}", told.print());
        let refused =
            Measured { refusal: Some("Input/output error (os error 5)".into()), ..Measured::default() };
        assert_eq!(report(&refused).verdict, "about-to-die");
    }

    #[test]
    fn a_full_disk_is_no_dying_card() {
        let full = report(&Measured { is_full: true, ..Measured::default() });
        assert_eq!((full.verdict, full.findings[0].code), ("not-trusted", "no-space"));
        assert!(full.print().contains("what to do: make room"));
    }
}
