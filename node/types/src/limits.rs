//! Every bound of the node: unit, reason, what it costs in memory, and how they hang together.

/// Most bytes of one client request, as etcd's `--max-request-bytes` default.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;

/// What gRPC may add to a request before it is refused unread, as etcd allows.
pub const REQUEST_OVERHEAD_BYTES_MAX: usize = 512 * 1024;

/// Most operations of one transaction, as etcd's `--max-txn-ops` default. Counts each branch apart.
pub const TXN_OPERATIONS_MAX: usize = 128;

/// Most bytes of one entry's payload: a request, its stamp, and what encoding adds.
pub const ENTRY_BYTES_MAX: usize = REQUEST_BYTES_MAX + 64 * 1024;

/// Most bytes of payload in one WAL batch: what one sync may carry. A bound on the buffer the WAL
/// thread holds, and small enough that a 4 MB/s card writes it within a second.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most entries of one WAL batch: bounds the time between a sync and the answers it allows.
pub const BATCH_ENTRY_COUNT_MAX: usize = 4_096;

/// Bytes of one WAL segment file. Sixteen times the longest batch would be waste; four leaves room.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Unit in which the log is written and never rewritten: what cards and ext4 write as one.
pub const BLOCK_BYTES: usize = 4_096;

/// What a card promises to write whole.
pub const SECTOR_BYTES: usize = 512;

/// Proposals that may wait for their outcome; one more is refused as overload. 4,096 closed-loop
/// clients are far beyond what a card serves; each costs about 200 bytes beside its payload.
pub const PENDING_COUNT_MAX: usize = 8_192;

/// Payload bytes of waiting proposals: the same bound in memory.
pub const PENDING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Payload bytes of entries kept in memory beyond what is applied and durable here, so that a follower a
/// little behind is served without reading the log back.
pub const LOG_RETAINED_BYTES_MAX: usize = 1024 * 1024;

/// Payload bytes of one append to a peer; an entry that is larger goes alone.
pub const APPEND_BYTES_MAX: usize = 256 * 1024;

/// Payload bytes on their way to one peer and not yet answered: what one slow peer may cost in memory, and
/// what a link of 10 MB/s holds for 200 ms.
pub const APPEND_IN_FLIGHT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Payload bytes a node holds in memory that its own card has not taken yet. A follower beyond it refuses
/// appends and still answers heartbeats (protocol.md rule 13).
pub const UNPERSISTED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Starts of a node before the running one that it tells its peers, so that a copy of its card is known by them:
/// a copy that was started more often than that without being seen passes for the node itself.
pub const EARLIER_STARTS_COUNT_MAX: usize = 64;

/// Members of a cluster, learners among them: bounds what a membership costs on disk and wire.
pub const MEMBER_COUNT_MAX: usize = 16;

/// Invites that stand at once, used and expired ones among them: some 100 bytes each.
pub const INVITE_COUNT_MAX: usize = 64;

/// Bytes of a member's name.
pub const MEMBER_NAME_BYTES_MAX: usize = 64;

/// Peer addresses, and client URLs, of one member.
pub const MEMBER_ADDRESS_COUNT_MAX: usize = 8;

/// Bytes of one of them: a name of 253, a scheme, a port.
pub const MEMBER_ADDRESS_BYTES_MAX: usize = 272;

/// Bytes of a whole membership as it is encoded: the head of a log segment holds it beside other things, in
/// 64 KiB. Members that say all they may are refused beyond about ten.
pub const MEMBERSHIP_BYTES_MAX: usize = 48 * 1024;

/// Messages in the driver's one queue. Reads and watch requests stand here beside proposals.
pub const INBOX_COUNT_MAX: usize = 16_384;

/// Bytes of undelivered events a watch stream may hold; beyond it its watchers fall to catch-up.
pub const WATCH_STREAM_BYTES_MAX: usize = 1024 * 1024;

/// Watchers of one stream; one more is refused at creation.
pub const WATCH_STREAM_WATCHER_COUNT_MAX: usize = 16_384;

/// Events handed out in one go while a watcher catches up, so that the driver is never held.
pub const WATCH_CATCH_UP_EVENT_COUNT: usize = 1_024;

/// Bytes an export hands out in one go: about half a millisecond of the driver on a slow core.
pub const EXPORT_SLICE_BYTES: usize = 256 * 1024;

/// Revisions a compaction sweeps in one go, for the same reason.
pub const SWEEP_REVISION_COUNT: usize = 1_024;

/// Longest lease, as etcd: nine billion seconds.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Shortest lease a node grants: etcd's is one and a half election timeouts, rounded up.
pub const LEASE_TTL_SECONDS_MIN: i64 = 2;

/// WAL bytes since the last image that start a new one, if the last image was not larger.
pub const IMAGE_TRIGGER_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Most the quota takes by default, whatever the memory: 2 GiB, as etcd.
pub const QUOTA_BYTES_DEFAULT_MAX: u64 = 2 * 1024 * 1024 * 1024;

const _: () = assert!(ENTRY_BYTES_MAX > REQUEST_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX >= 2 * ENTRY_BYTES_MAX, "a batch must hold any entry beside another");
const _: () =
    assert!(SEGMENT_BYTES >= 3 * BATCH_BYTES_MAX as u64, "a segment must hold any batch with room to spare");
const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!(PENDING_BYTES_MAX >= 2 * BATCH_BYTES_MAX);
const _: () = assert!(
    3 * (MEMBER_NAME_BYTES_MAX + 2 * MEMBER_ADDRESS_COUNT_MAX * MEMBER_ADDRESS_BYTES_MAX)
        <= MEMBERSHIP_BYTES_MAX,
    "three members always fit, whatever they say"
);
const _: () = assert!(APPEND_IN_FLIGHT_BYTES_MAX >= ENTRY_BYTES_MAX + APPEND_BYTES_MAX);
const _: () = assert!(UNPERSISTED_BYTES_MAX >= BATCH_BYTES_MAX + APPEND_IN_FLIGHT_BYTES_MAX);
const _: () = assert!(INBOX_COUNT_MAX > PENDING_COUNT_MAX);
