//! What the card has to write: as this node counts it, and as the kernel counts it at the device.
//!
//! A task looks once a minute and remembers an hour, so that whoever asks is told what a day costs at the rate of
//! late. The kernel answers from memory: neither the card nor a thread that waits for it is asked.

use crate::metrics::Written;
use core::time::Duration;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use quorate_board::storage::{Device, DeviceCounts};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Between two looks: sixty in memory, and one wake-up a minute.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// How far back a rate goes.
const WINDOW: Duration = Duration::from_secs(3_600);

/// Of less time no rate is told.
const WINDOW_MIN: Duration = Duration::from_secs(60);

/// A log's first segments are filled with zeros once: what is written meanwhile, so long after the start at most, is no
/// day's work, and the rates begin after it.
const PREPARING_MAX: Duration = Duration::from_secs(1_800);

const DAY_MS: u128 = 24 * 3_600 * 1_000;

/// The node's account of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Wear(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    written: Written,
    device: Option<Device>,
    account: Mutex<Account>,
}

impl Wear {
    /// From now on, of what `written` counts and of the device under the data folder, if there is one.
    #[must_use]
    pub fn new(written: Written, device: Option<Device>) -> Wear {
        let wear =
            Wear(Arc::new(Inner { begun: Instant::now(), written, device, account: Mutex::default() }));
        wear.look(true);
        wear
    }

    /// Looks once a minute, for ever.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.look(true);
        }
    }

    /// What it is now.
    fn look(&self, is_remembered: bool) -> Figures {
        let Inner { begun, written, device, account } = &*self.0;
        let node = Amount { bytes: written.bytes(), syncs: Some(written.syncs.get()) };
        let counts = device.as_ref().and_then(Device::counts);
        let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Seen { at: begun.elapsed(), node, zeros: written.zeros.get(), counts };
        account.look(seen, is_remembered)
    }
}

/// Bytes written and syncs or flushes; these none where nobody counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Amount {
    bytes: u64,
    syncs: Option<u64>,
}

impl Amount {
    /// What came since `earlier`, as of a day if that took `elapsed`.
    fn per_day(self, earlier: Amount, elapsed: Duration) -> Amount {
        let scaled = |now: u64, then: u64| {
            let day = u128::from(now.saturating_sub(then)) * DAY_MS / elapsed.as_millis().max(1);
            u64::try_from(day).unwrap_or(u64::MAX)
        };
        Amount {
            bytes: scaled(self.bytes, earlier.bytes),
            syncs: self.syncs.zip(earlier.syncs).map(|(now, then)| scaled(now, then)),
        }
    }
}

/// What is there to be seen at a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Since the start.
    at: Duration,
    node: Amount,
    /// Bytes of zeros among it.
    zeros: u64,
    /// As the kernel counts.
    counts: Option<DeviceCounts>,
}

/// Totals since the node's start.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Duration,
    node: Amount,
    zeros: u64,
    device: Option<Amount>,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Figures {
    /// Since the start.
    device: Option<Amount>,
    /// How long the rates were watched; none yet in the first minute.
    window: Option<Duration>,
    node_per_day: Option<Amount>,
    device_per_day: Option<Amount>,
}

#[derive(Debug, Default)]
struct Account {
    /// Oldest first: those within the window, and the one at its beginning.
    looks: VecDeque<Look>,
    /// The kernel's counts at the last look, and what had come to them since the start.
    device: Option<(DeviceCounts, Amount)>,
}

impl Account {
    fn look(&mut self, seen: Seen, is_remembered: bool) -> Figures {
        let Seen { at, node, zeros, counts } = seen;
        if let Some(counts) = counts {
            self.device = Some((counts, self.device_total(counts)));
        }
        let now = Look { at, node, zeros, device: self.device.map(|(_, total)| total) };
        if at <= PREPARING_MAX && self.looks.front().is_some_and(|oldest| oldest.zeros != zeros) {
            self.looks.clear();
        }
        // The oldest goes when the next is old enough to begin the window.
        while self.looks.get(1).is_some_and(|second| at.saturating_sub(second.at) >= WINDOW) {
            self.looks.pop_front();
        }
        let figures = self.figures(&now);
        if is_remembered {
            self.looks.push_back(now);
        }
        figures
    }

    /// The kernel counts since it knows the device: if it begins anew, so does the difference.
    fn device_total(&self, counts: DeviceCounts) -> Amount {
        let Some((before, total)) = self.device else {
            return Amount { bytes: 0, syncs: counts.flushes.map(|_| 0) };
        };
        let came = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let flushes = counts.flushes.zip(before.flushes).map(|(now, before)| came(now, before));
        Amount {
            bytes: total.bytes.saturating_add(came(counts.written_bytes, before.written_bytes)),
            syncs: total.syncs.zip(flushes).map(|(total, came)| total.saturating_add(came)),
        }
    }

    fn figures(&self, now: &Look) -> Figures {
        let oldest = self.looks.front().filter(|oldest| now.at.saturating_sub(oldest.at) >= WINDOW_MIN);
        let Some(oldest) = oldest else { return Figures { device: now.device, ..Figures::default() } };
        let window = now.at.saturating_sub(oldest.at);
        Figures {
            device: now.device,
            window: Some(window),
            node_per_day: Some(now.node.per_day(oldest.node, window)),
            device_per_day: now.device.zip(oldest.device).map(|(now, then)| now.per_day(then, window)),
        }
    }
}

/// What is not known is left out.
impl Collector for Wear {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(device) = &self.0.device {
            encode_device(&mut encoder, device)?;
        }
        self.look(false).encode(&mut encoder)
    }
}

impl Figures {
    fn encode(self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(total) = self.device {
            let bytes =
                "Bytes written to the device under the data folder since the node's start, by all programs";
            counter(encoder, "quorate_device_written_bytes", bytes, total.bytes)?;
            if let Some(flushes) = total.syncs {
                let help = "Flushes of that device's cache since the node's start, by all programs.";
                counter(encoder, "quorate_device_flushes", help, flushes)?;
            }
        }
        if let Some(window) = self.window {
            let help =
                "Time the figures per day were watched: the last hour, or since the start and its preparing";
            gauge(encoder, "quorate_per_day_window_seconds", help, window.as_secs())?;
        }
        for (name, help, value) in [
            (
                "quorate_written_bytes_per_day",
                "Bytes this node writes a day, at the rate of the last hour.",
                self.node_per_day.map(|amount| amount.bytes),
            ),
            (
                "quorate_syncs_per_day",
                "Syncs this node asks for a day, at the rate of the last hour.",
                self.node_per_day.and_then(|amount| amount.syncs),
            ),
            (
                "quorate_device_written_bytes_per_day",
                "Bytes all programs write to the device a day, at the rate of the last hour.",
                self.device_per_day.map(|amount| amount.bytes),
            ),
            (
                "quorate_device_flushes_per_day",
                "Flushes of the device a day by all programs, at the rate of the last hour.",
                self.device_per_day.and_then(|amount| amount.syncs),
            ),
        ] {
            if let Some(value) = value {
                gauge(encoder, name, help, value)?;
            }
        }
        Ok(())
    }
}

/// What the device is, and what it says of its life.
fn encode_device(encoder: &mut DescriptorEncoder<'_>, device: &Device) -> fmt::Result {
    let help = "Size of the device under the data folder.";
    let mut size = encoder.encode_descriptor("quorate_device_size_bytes", help, None, MetricType::Gauge)?;
    ConstGauge::new(device.bytes).encode(size.encode_family(&[("device", device.name.as_str())])?)?;
    if let Some(bytes) = device.endurance_bytes() {
        let help = "What a new card of this size takes if it lasts as long for its size as one that died: 8 GB after 823 GB.";
        gauge(encoder, "quorate_device_endurance_bytes", help, bytes)?;
    }
    if let Some(tenths) = device.card.as_ref().and_then(|card| card.life_used_tenths) {
        let help = "At most that share of the card's life is used, by its own estimate in steps of 0.1; over 1 is past its end.";
        gauge(encoder, "quorate_card_life_used_ratio", help, f64::from(tenths) / 10.0)?;
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: N,
) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

#[cfg(test)]
mod tests;
