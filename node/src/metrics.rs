//! The node's counters, under etcd's names where etcd has the thing and `quorate_…` where not.

use crate::memory;
use core::sync::atomic::AtomicU64;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use quorate_api::CardState;

/// First bound of the sync histogram in seconds, doubled 14 times: etcd's own buckets.
const SYNC_BUCKET_FIRST: f64 = 0.001;
const SYNC_BUCKET_COUNT: u16 = 14;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerVersion {
    server_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterVersion {
    cluster_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Release {
    release: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

/// What this process asks of the card, by whichever thread; cheap to clone, each clone counts into the same.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Syncs, all kinds.
    pub syncs: Counter,
    /// Bytes of the log: batches, headers.
    pub log: Counter,
    /// Bytes by which new segments are filled with zeros, once in a segment's life.
    pub zeros: Counter,
    /// Bytes of own images.
    pub images: Counter,
    /// Bytes of images that peers sent.
    pub received_images: Counter,
    /// Bytes of small files beside the log, replaced as a whole.
    pub small_files: Counter,
}

impl Written {
    /// By kind: the word `quorate_written_bytes_total` has for it.
    fn kinds(&self) -> [(&'static str, &Counter); 5] {
        [
            ("log", &self.log),
            ("zeros", &self.zeros),
            ("images", &self.images),
            ("received_images", &self.received_images),
            ("small_files", &self.small_files),
        ]
    }

    /// Bytes of all kinds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.kinds().iter().map(|(_, counter)| counter.get()).sum()
    }
}

/// All of them; cheap to clone, each clone counts into the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// 1 while a leader is known.
    pub has_leader: Gauge,
    /// 1 while this node leads.
    pub is_leader: Gauge,
    /// 1 while this node only learns.
    pub is_learner: Gauge,
    /// Leaders seen since the start.
    pub leader_changes: Counter,
    /// Hand-overs because of the own card.
    pub card_hand_overs: Counter,
    /// Last index committed.
    pub committed: Gauge,
    /// Last index applied.
    pub applied: Gauge,
    /// Proposals that wait.
    pub pending: Gauge,
    /// Proposals that timed out or were refused for overload.
    pub failed: Counter,
    /// The quota in bytes.
    pub quota_bytes: Gauge,
    /// Logical bytes held.
    pub bytes_total: Gauge,
    /// The same; there is no fragmentation.
    pub bytes_in_use: Gauge,
    /// Keys that exist now.
    pub keys: Gauge,
    /// Store revision.
    pub revision: Gauge,
    /// Compacted revision.
    pub compacted: Gauge,
    /// Puts applied.
    pub puts: Counter,
    /// Range deletions applied.
    pub deletes: Counter,
    /// Transactions applied.
    pub txns: Counter,
    /// Ranges read.
    pub ranges: Counter,
    /// Leases granted.
    pub leases_granted: Counter,
    /// Leases revoked by clients.
    pub leases_revoked: Counter,
    /// Leases expired.
    pub leases_expired: Counter,
    /// Watch streams open.
    pub watch_streams: Gauge,
    /// Watchers registered.
    pub watchers: Gauge,
    /// Watchers that catch up.
    pub watchers_slow: Gauge,
    /// How long a WAL sync takes, in seconds.
    pub sync_seconds: Histogram,
    /// Entries a batch carries.
    pub batch_entries: Histogram,
    /// What is asked of the card.
    pub written: Written,
    /// Images written.
    pub images: Counter,
    /// What the own card takes until a write is durable, in seconds: the median of late, zero if unknown.
    pub card_write_seconds: Gauge<f64, AtomicU64>,
    /// 1 while the own card has work and makes none of it durable.
    pub card_stands_still: Gauge,
    resident_bytes: Gauge,
    open_fds: Gauge,
    start_seconds: Gauge,
    cpu_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Registers all of them. `api_version` is the etcd level spoken.
    #[must_use]
    pub fn register(registry: &mut Registry, api_version: &str) -> Metrics {
        let metrics = Metrics::new();
        metrics.register_server(registry);
        metrics.register_store(registry);
        metrics.register_disk(registry);
        metrics.register_process(registry);
        let server = Family::<ServerVersion, Gauge>::default();
        server.get_or_create(&ServerVersion { server_version: api_version.into() }).set(1);
        registry.register("etcd_server_version", "Which etcd API level this node speaks", server);
        let cluster = Family::<ClusterVersion, Gauge>::default();
        let minor = api_version.rsplit_once('.').map_or(api_version, |(minor, _)| minor);
        cluster.get_or_create(&ClusterVersion { cluster_version: minor.into() }).set(1);
        registry.register("etcd_cluster_version", "Which etcd API level the cluster speaks", cluster);
        let release = Family::<Release, Gauge>::default();
        release.get_or_create(&Release { release: env!("CARGO_PKG_VERSION").into() }).set(1);
        registry.register("quorate_release", "Which release of Quorate this is", release);
        metrics
    }

    fn new() -> Metrics {
        Metrics {
            has_leader: Gauge::default(),
            is_leader: Gauge::default(),
            is_learner: Gauge::default(),
            leader_changes: Counter::default(),
            card_hand_overs: Counter::default(),
            committed: Gauge::default(),
            applied: Gauge::default(),
            pending: Gauge::default(),
            failed: Counter::default(),
            quota_bytes: Gauge::default(),
            bytes_total: Gauge::default(),
            bytes_in_use: Gauge::default(),
            keys: Gauge::default(),
            revision: Gauge::default(),
            compacted: Gauge::default(),
            puts: Counter::default(),
            deletes: Counter::default(),
            txns: Counter::default(),
            ranges: Counter::default(),
            leases_granted: Counter::default(),
            leases_revoked: Counter::default(),
            leases_expired: Counter::default(),
            watch_streams: Gauge::default(),
            watchers: Gauge::default(),
            watchers_slow: Gauge::default(),
            sync_seconds: Histogram::new(exponential_buckets(SYNC_BUCKET_FIRST, 2.0, SYNC_BUCKET_COUNT)),
            batch_entries: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            written: Written::default(),
            images: Counter::default(),
            card_write_seconds: Gauge::default(),
            card_stands_still: Gauge::default(),
            resident_bytes: Gauge::default(),
            open_fds: Gauge::default(),
            start_seconds: Gauge::default(),
            cpu_seconds: Gauge::default(),
        }
    }

    fn register_server(&self, registry: &mut Registry) {
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("etcd_server_has_leader", "Whether a leader is known", &self.has_leader);
        gauge("etcd_server_is_leader", "Whether this node leads", &self.is_leader);
        gauge("etcd_server_is_learner", "Whether this node only learns", &self.is_learner);
        gauge("etcd_server_proposals_committed_total", "Last log index durable on a quorum", &self.committed);
        gauge("etcd_server_proposals_applied_total", "Last log index applied", &self.applied);
        gauge("etcd_server_proposals_pending", "Proposals that wait for their outcome", &self.pending);
        gauge("etcd_server_quota_backend_bytes", "The quota in bytes", &self.quota_bytes);
        registry.register("etcd_server_leader_changes_seen", "Leaders seen", self.leader_changes.clone());
        registry.register(
            "quorate_card_hand_overs",
            "Times leadership was handed over because of the own card",
            self.card_hand_overs.clone(),
        );
        registry.register(
            "etcd_server_proposals_failed",
            "Proposals refused or timed out",
            self.failed.clone(),
        );
    }

    fn register_store(&self, registry: &mut Registry) {
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("etcd_mvcc_db_total_size_in_bytes", "Logical bytes held, history included", &self.bytes_total);
        gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Logical bytes in use", &self.bytes_in_use);
        gauge("etcd_debugging_mvcc_keys_total", "Keys that exist", &self.keys);
        gauge("etcd_debugging_mvcc_current_revision", "Revision of the store", &self.revision);
        gauge("etcd_debugging_mvcc_compact_revision", "Compacted revision", &self.compacted);
        gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams open", &self.watch_streams);
        gauge("etcd_debugging_mvcc_watcher_total", "Watchers registered", &self.watchers);
        gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that catch up", &self.watchers_slow);
        let mut counter =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("etcd_mvcc_put", "Puts applied", &self.puts);
        counter("etcd_mvcc_delete", "Range deletions applied", &self.deletes);
        counter("etcd_mvcc_txn", "Transactions applied", &self.txns);
        counter("etcd_mvcc_range", "Ranges read", &self.ranges);
        counter("etcd_debugging_lease_granted", "Leases granted", &self.leases_granted);
        counter("etcd_debugging_lease_revoked", "Leases revoked", &self.leases_revoked);
        counter("etcd_debugging_server_lease_expired", "Leases expired", &self.leases_expired);
    }

    fn register_disk(&self, registry: &mut Registry) {
        let seconds = self.sync_seconds.clone();
        registry.register("etcd_disk_wal_fsync_duration_seconds", "Time of a WAL sync", seconds);
        registry.register("quorate_wal_batch_entries", "Entries a batch carries", self.batch_entries.clone());
        let mut counter =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        let Written { syncs, log, zeros, images, .. } = &self.written;
        counter("quorate_syncs", "Syncs asked of the card", syncs);
        counter("quorate_wal_written_bytes", "Bytes written to the log", log);
        counter("quorate_zeroed_bytes", "Bytes written to prepare new segments, once", zeros);
        counter("quorate_images", "Images written", &self.images);
        counter("quorate_image_written_bytes", "Bytes of images written", images);
        registry.register_collector(Box::new(self.written.clone()));
        registry.register(
            "quorate_card_write_seconds",
            "What the own card takes until a write is durable, queueing and all: the median of late; 0 if too little \
             was written to tell",
            self.card_write_seconds.clone(),
        );
        registry.register(
            "quorate_card_stands_still",
            "Whether the own card has work and made none of it durable for a second",
            self.card_stands_still.clone(),
        );
    }

    fn register_process(&self, registry: &mut Registry) {
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("process_resident_memory_bytes", "Resident memory", &self.resident_bytes);
        gauge("process_open_fds", "Open file descriptors", &self.open_fds);
        gauge("process_start_time_seconds", "Start of the process, seconds since 1970", &self.start_seconds);
        registry.register("process_cpu_seconds_total", "CPU time used", self.cpu_seconds.clone());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.start_seconds.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }

    /// How the own card does: seconds until a write is durable if known, or that it stands still. A card that stands
    /// still keeps the figure it had before.
    pub(crate) fn show_card(&self, card: CardState) {
        self.card_stands_still.set(i64::from(card == CardState::StandsStill));
        match card {
            CardState::Takes { ms } => self.card_write_seconds.set(f64::from(ms) / 1_000.0),
            CardState::Unknown => self.card_write_seconds.set(0.0),
            CardState::StandsStill => self.card_write_seconds.get(),
        };
    }

    /// Brings what the system knows of the process up to date; called when somebody reads.
    pub fn refresh_process(&self) {
        self.resident_bytes.set(i64::try_from(memory::resident_bytes()).unwrap_or(i64::MAX));
        let fds = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.open_fds.set(i64::try_from(fds).unwrap_or(i64::MAX));
        let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = core::time::Duration::new(
            u64::try_from(usage.tv_sec).unwrap_or(0),
            u32::try_from(usage.tv_nsec).unwrap_or(0),
        );
        self.cpu_seconds.set(cpu.as_secs_f64());
    }
}

impl Collector for Written {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), core::fmt::Error> {
        let help = "Bytes this node wrote, by what: log, zeros (segments prepared, once), images, images received, small \
                    files it replaced while it ran.";
        let mut family =
            encoder.encode_descriptor("quorate_written_bytes", help, None, MetricType::Counter)?;
        for (what, counter) in self.kinds() {
            counter.encode(family.encode_family(&What { what })?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_there() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, "3.5.24");
        metrics.has_leader.set(1);
        metrics.written.log.inc_by(4_096);
        metrics.written.received_images.inc_by(7);
        metrics.show_card(CardState::Takes { ms: 42 });
        metrics.show_card(CardState::StandsStill);
        metrics.refresh_process();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "etcd_server_has_leader 1",
            "etcd_server_leader_changes_seen_total 0",
            "etcd_server_proposals_failed_total 0",
            "etcd_disk_wal_fsync_duration_seconds_bucket",
            "etcd_mvcc_db_total_size_in_bytes 0",
            "etcd_server_version{server_version=\"3.5.24\"} 1",
            "etcd_cluster_version{cluster_version=\"3.5\"} 1",
            "process_resident_memory_bytes ",
            "quorate_syncs_total 0",
            "quorate_wal_written_bytes_total 4096",
            "quorate_written_bytes_total{what=\"log\"} 4096",
            "quorate_written_bytes_total{what=\"zeros\"} 0",
            "quorate_written_bytes_total{what=\"images\"} 0",
            "quorate_written_bytes_total{what=\"received_images\"} 7",
            "quorate_written_bytes_total{what=\"small_files\"} 0",
            "quorate_card_write_seconds 0.042",
            "quorate_card_stands_still 1",
            "quorate_card_hand_overs_total 0",
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
        assert_eq!(metrics.written.bytes(), 4_103);
    }

    #[test]
    fn a_card_nobody_writes_to_is_unknown_not_fast() {
        let metrics = Metrics::new();
        metrics.show_card(CardState::Takes { ms: 42 });
        metrics.show_card(CardState::Unknown);
        assert!(metrics.card_write_seconds.get() == 0.0 && metrics.card_stands_still.get() == 0);
    }
}
