//! What it costs the driver to tell a thousand watchers of one prefix, and of a thousand.
//!
//! `cargo run --release --example fan_out -p quorate-watch`

use quorate_store::{Command, KeyRange, Put, Store};
use quorate_types::{ClusterTime, Index};
use quorate_watch::{Delivery, Hub, StreamId, WatchRequest};
use std::time::{Duration, Instant};

const WATCHERS: u64 = 1_000;
const PUTS: u64 = 5_000;

fn main() {
    run("all of one prefix, a stream each", |_| span("/registry/pods/", "/registry/pods0"), |n| n);
    run("all of one prefix, 64 streams", |_| span("/registry/pods/", "/registry/pods0"), |n| n % 64);
    run(
        "each of its own prefix, 64 streams",
        |n| span(&format!("/own/{n}/"), &format!("/own/{n}0")),
        |n| n % 64,
    );
    run("each of its own key, 64 streams", |n| KeyRange::One(format!("/own/{n}").into()), |n| n % 64);
}

fn span(start: &str, end: &str) -> KeyRange {
    KeyRange::Span { start: start.into(), end: end.into() }
}

fn run(what: &str, range: impl Fn(u64) -> KeyRange, stream: impl Fn(u64) -> u64) {
    let mut store = Store::new();
    let mut hub = Hub::new(store.revision());
    let names: std::collections::BTreeSet<u64> = (0..WATCHERS).map(&stream).collect();
    names.iter().for_each(|name| hub.open(StreamId(*name)));
    for n in 0..WATCHERS {
        let request = WatchRequest {
            id: None,
            range: range(n),
            revision_start: 0,
            prev_kv: false,
            progress_notify: false,
            no_put: false,
            no_delete: false,
            fragment: false,
        };
        hub.create(StreamId(stream(n)), request, &store);
    }
    drop(hub.take_deliveries());
    let (mut took, mut told) = (Vec::new(), 0_u64);
    for index in 1..=PUTS {
        let key = format!("/registry/pods/default/pod-{:04}", index % 500).into();
        let put = Put { key, value: vec![0; 1_000], ..Put::default() };
        let events = store.apply(Index(index), ClusterTime(index), &Command::Put(put)).events.expect("a put");
        let start = Instant::now();
        hub.publish(&events);
        let deliveries = hub.take_deliveries();
        took.push(start.elapsed());
        for (name, delivery) in deliveries {
            if let Delivery::Events { bytes, .. } = delivery {
                told += 1;
                hub.credit(name, bytes);
            }
        }
    }
    took.sort_unstable();
    let total: Duration = took.iter().sum();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    let share = total.as_secs_f64() / 5.0 * 100.0;
    println!("{what:<36} median {median:>9.1?} a put, {share:>4.1} % of a core at 1,000 puts/s, {told} told");
}
