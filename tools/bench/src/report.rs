//! What a load showed, for people and for programs.

use crate::device::DeviceCounts;
use crate::load::{LoadArgs, Pace};
use crate::stats::{Bar, Quantiles, print_bars, print_ms};
use crate::tally::{Share, Tally};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One load and its figures.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `put`, `get` or `watch`.
    pub operation: &'static str,
    /// Where.
    pub endpoints: Vec<String>,
    /// Clients of a closed loop; zero for an open one.
    pub clients: u32,
    /// Requests per second an open loop was meant to send.
    pub rate_wanted: Option<f64>,
    /// TCP connections.
    pub connections: usize,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Number of keys; zero: each request its own.
    pub key_count: u64,
    /// Decides keys, values and moments.
    pub seed: u64,
    /// Length of the load.
    pub elapsed_seconds: f64,
    /// Requests answered well.
    pub done: u64,
    /// Requests answered by an error, or not in time.
    pub failed: u64,
    /// Answers per second.
    pub per_second: f64,
    /// Longest time in which nothing was answered well although requests were sent.
    pub gap_max_ms: f64,
    /// Latencies of the answered requests; from the intended start in an open loop.
    pub latency: Option<Quantiles>,
    /// How long requests that failed took to fail.
    pub failed_latency: Option<Quantiles>,
    /// Each server alone, in the order of the endpoints.
    pub members: Vec<MemberReport>,
    /// How late an open loop sent at its 99th percentile: what the bench itself adds.
    pub lag_p99_ms: Option<f64>,
    /// Errors by code and text.
    pub errors: BTreeMap<String, u64>,
    /// The histogram.
    pub histogram: Vec<Bar>,
    /// What the card did meanwhile, if asked for.
    pub device: Option<DeviceReport>,
    /// What the watchers saw, in `watch`.
    pub watch: Option<WatchReport>,
}

/// What one server of a load answered.
#[derive(Debug, Clone, Serialize)]
pub struct MemberReport {
    /// Where it is.
    pub endpoint: String,
    /// Requests it answered well.
    pub done: u64,
    /// Requests it answered by an error, or not in time.
    pub failed: u64,
    /// Longest time in which it answered nothing well although requests were sent to it.
    pub gap_max_ms: f64,
    /// Latencies of what it answered well.
    pub latency: Option<Quantiles>,
}

impl MemberReport {
    fn new(endpoint: &str, share: &Share) -> MemberReport {
        MemberReport {
            endpoint: endpoint.to_owned(),
            done: share.done,
            failed: share.failed,
            gap_max_ms: share.gap_max.as_secs_f64() * 1_000.0,
            latency: share.latencies.quantiles(),
        }
    }
}

/// What the card did during a load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeviceReport {
    /// In total.
    pub counts: DeviceCounts,
    /// Bytes per answered request.
    pub bytes_per_request: f64,
    /// Flushes per answered request.
    pub flushes_per_request: f64,
    /// Device bytes per byte of value.
    pub bytes_per_value_byte: Option<f64>,
}

/// What the watchers of a load saw.
#[derive(Debug, Clone, Serialize)]
pub struct WatchReport {
    /// Watch streams.
    pub streams: usize,
    /// Watchers, over all streams.
    pub watchers: usize,
    /// Events that arrived, over all watchers.
    pub events: u64,
    /// Events each watcher had to see.
    pub events_expected_each: u64,
    /// Watchers that saw every event, each once, with the right revision.
    pub complete: usize,
    /// Events that came with a revision not above the one before.
    pub out_of_order: u64,
    /// Watchers the server ended.
    pub canceled: usize,
    /// From the sending of a put to its event at a watcher.
    pub delivery: Option<Quantiles>,
    /// The same as a histogram.
    pub histogram: Vec<Bar>,
}

impl Report {
    pub(crate) fn new(
        operation: &'static str,
        endpoints: Vec<String>,
        args: &LoadArgs,
        seed: u64,
        tally: &Tally,
    ) -> Report {
        let (seconds, all) = (tally.elapsed.as_secs_f64(), &tally.all);
        let members = endpoints.iter().zip(&tally.members);
        Report {
            operation,
            members: members.map(|(endpoint, share)| MemberReport::new(endpoint, share)).collect(),
            endpoints,
            clients: match args.pace() {
                Pace::Closed { clients } => clients,
                Pace::Open { .. } => 0,
            },
            rate_wanted: args.rate,
            connections: args.connection_count(),
            key_bytes: 0,
            value_bytes: 0,
            key_count: 0,
            seed,
            elapsed_seconds: seconds,
            done: all.done,
            failed: all.failed,
            per_second: all.done as f64 / seconds.max(f64::MIN_POSITIVE),
            gap_max_ms: all.gap_max.as_secs_f64() * 1_000.0,
            latency: all.latencies.quantiles(),
            failed_latency: all.failures.quantiles(),
            lag_p99_ms: tally.lag.quantiles().map(|lag| lag.p99_ms),
            errors: tally.errors.clone(),
            histogram: all.latencies.bars(),
            device: None,
            watch: None,
        }
    }

    /// Adds what the card did, shared out over the answered requests.
    pub(crate) fn set_device(&mut self, counts: DeviceCounts) {
        let requests = self.done.max(1) as f64;
        let value_bytes = self.value_bytes as f64 * self.done as f64;
        self.device = Some(DeviceReport {
            counts,
            bytes_per_request: counts.bytes as f64 / requests,
            flushes_per_request: counts.flushes as f64 / requests,
            bytes_per_value_byte: (value_bytes > 0.0).then(|| counts.bytes as f64 / value_bytes),
        });
    }

    /// Whether nothing failed and no watcher missed anything.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failed == 0
            && self
                .watch
                .as_ref()
                .is_none_or(|watch| watch.complete == watch.watchers && watch.out_of_order == 0)
    }

    /// For people.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail; the result says so and is dropped.
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let load = match self.rate_wanted {
            Some(rate) => format!("{rate} a second"),
            None => count_of(u64::from(self.clients), "client"),
        };
        writeln!(
            text,
            "{}  {load}, {} to {}, values of {} bytes, {}, seed {}",
            self.operation,
            count_of(u64::try_from(self.connections).unwrap_or(u64::MAX), "connection"),
            self.endpoints.join(", "),
            self.value_bytes,
            if self.key_count == 0 { "every key new".into() } else { format!("{} keys", self.key_count) },
            self.seed
        )?;
        writeln!(
            text,
            "{} done, {} failed in {:.1} s: {:.1}/s; longest time without an answer {}",
            self.done,
            self.failed,
            self.elapsed_seconds,
            self.per_second,
            print_ms(self.gap_max_ms)
        )?;
        for (kind, count) in &self.errors {
            writeln!(text, "  {count} × {kind}")?;
        }
        if let Some(device) = &self.device {
            write_device(text, device)?;
        }
        if let Some(latency) = &self.latency {
            write_quantiles(text, "latency ", latency)?;
        }
        if let Some(latency) = &self.failed_latency {
            write_quantiles(text, "failures", latency)?;
        }
        write_members(text, &self.members)?;
        if let Some(lag) = self.lag_p99_ms.filter(|lag| *lag > 5.0) {
            writeln!(
                text,
                "the bench itself sent late (p99 {}): this machine is too busy for that rate",
                print_ms(lag)
            )?;
        }
        text.push_str(&print_bars(&self.histogram));
        if let Some(watch) = &self.watch {
            write_watch(text, watch)?;
        }
        Ok(())
    }
}

fn count_of(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

fn write_quantiles(text: &mut String, name: &str, quantiles: &Quantiles) -> std::fmt::Result {
    writeln!(
        text,
        "{name} p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  mean {}",
        print_ms(quantiles.p50_ms),
        print_ms(quantiles.p90_ms),
        print_ms(quantiles.p99_ms),
        print_ms(quantiles.p999_ms),
        print_ms(quantiles.max_ms),
        print_ms(quantiles.mean_ms)
    )
}

/// Only where there are several to compare.
fn write_members(text: &mut String, members: &[MemberReport]) -> std::fmt::Result {
    for member in members.iter().filter(|_| members.len() > 1) {
        let gap = print_ms(member.gap_max_ms);
        write!(
            text,
            "{}  {} done, {} failed, longest gap {gap}",
            member.endpoint, member.done, member.failed
        )?;
        if let Some(latency) = &member.latency {
            write!(text, ", p50 {}, p99 {}", print_ms(latency.p50_ms), print_ms(latency.p99_ms))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn write_device(text: &mut String, device: &DeviceReport) -> std::fmt::Result {
    write!(
        text,
        "card     {:.0} bytes and {:.2} flushes per request",
        device.bytes_per_request, device.flushes_per_request
    )?;
    if let Some(ratio) = device.bytes_per_value_byte {
        write!(text, ", {ratio:.2} bytes per byte of value")?;
    }
    let counts = device.counts;
    writeln!(text, " (in total {} bytes, {} writes, {} flushes)", counts.bytes, counts.writes, counts.flushes)
}

fn write_watch(text: &mut String, watch: &WatchReport) -> std::fmt::Result {
    writeln!(
        text,
        "watchers {} on {} streams: {} complete ({} events each, {} in total), {} out of order, {} canceled",
        watch.watchers,
        watch.streams,
        watch.complete,
        watch.events_expected_each,
        watch.events,
        watch.out_of_order,
        watch.canceled
    )?;
    if let Some(delivery) = &watch.delivery {
        write_quantiles(text, "delivery", delivery)?;
    }
    text.push_str(&print_bars(&watch.histogram));
    Ok(())
}
