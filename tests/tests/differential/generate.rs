//! Random questions over few keys, so that they meet; a share of them wrong on purpose.

use crate::ask::{Question, Told};
use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// The keys; some are prefixes of others, one holds a zero byte.
const KEYS: [&[u8]; 8] = [b"a", b"a\0", b"aa", b"ab", b"b", b"b/1", b"b/2", b"c"];
const VALUES: [&[u8]; 5] = [b"", b"0", b"1", b"2", b"zz"];
/// Leases by the ids the clients give; each has a time of its own so that their order is known.
pub(crate) const LEASES: [i64; 4] = [11, 12, 13, 14];
const UNKNOWN_LEASE: i64 = 99;
/// Whose alarms are raised: nobody's, so that it is the same on both.
const ALARM_MEMBER: u64 = 42;

/// Transactions within the outermost one.
const NESTING_MAX: u32 = 2;

/// Draws questions, following what the answers say of revisions.
pub(crate) struct Generator {
    random: SmallRng,
    revision: i64,
    compacted: i64,
    alarmed: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64, revision: i64, compacted: i64) -> Generator {
        Generator { random: SmallRng::seed_from_u64(seed), revision, compacted, alarmed: false }
    }

    /// Follows an answer.
    pub(crate) fn learn(&mut self, question: &Question, told: &Told) {
        self.revision = self.revision.max(told.revision().unwrap_or(0));
        match (question, told) {
            (Question::Compact(compact), Told::Compact(_)) => self.compacted = compact.revision,
            (Question::Alarm(alarm), Told::Alarm(answer)) => match alarm.action {
                0 if alarm.alarm == 0 => self.alarmed = !answer.alarms.is_empty(),
                1 => self.alarmed = true,
                _ => {}
            },
            _ => {}
        }
    }

    /// The next question.
    pub(crate) fn question(&mut self) -> Question {
        // An alarm refuses most of what follows: it does not stand for long.
        if self.alarmed && self.chance(15) {
            let alarm = self.pick(&[1, 2]);
            return Question::Alarm(pb::AlarmRequest { action: 2, member_id: ALARM_MEMBER, alarm });
        }
        match self.random.random_range(0..1000) {
            0..295 => Question::Range(self.range()),
            295..300 => {
                // Only outside transactions, where the known difference leaves no trace. An unknown sort target
                // is not asked at all: it ends an etcd 3.5.16.
                Question::Range(pb::RangeRequest { sort_order: 7, ..self.range() })
            }
            300..530 => Question::Put(self.put()),
            530..600 => Question::DeleteRange(self.delete()),
            // etcd's NOSPACE overlooks puts in nested transactions; ours must not. So none are asked then.
            600..850 => {
                let mut txn = self.txn(if self.alarmed { NESTING_MAX } else { 0 });
                if puts(&txn) {
                    bound_deletions(&mut txn);
                }
                Question::Txn(txn)
            }
            850..880 => Question::Compact(self.compact()),
            880..925 => Question::Grant(self.grant()),
            925..945 => Question::Revoke(pb::LeaseRevokeRequest { id: self.lease() }),
            945..960 => {
                Question::TimeToLive(pb::LeaseTimeToLiveRequest { id: self.lease(), keys: self.chance(70) })
            }
            960..975 => Question::Leases,
            975..988 => Question::Alarm(self.alarm()),
            988..996 => Question::HashKv(pb::HashKvRequest { revision: self.revision_asked() }),
            _ => Question::MemberCount,
        }
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from.choose(&mut self.random).unwrap().clone()
    }

    pub(crate) fn below(&mut self, end: i64) -> i64 {
        self.random.random_range(0..end)
    }

    /// Of the store, as the answers said.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    fn key(&mut self) -> Bytes {
        if self.random.random_ratio(1, 120) { Bytes::new() } else { self.some_key() }
    }

    pub(crate) fn some_key(&mut self) -> Bytes {
        Bytes::from_static(self.pick(&KEYS))
    }

    fn value(&mut self) -> Bytes {
        Bytes::from_static(self.pick(&VALUES))
    }

    /// Start and end: one key, an interval, all from a key, all, a prefix, the wrong way round.
    pub(crate) fn span(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.random.random_range(0..8) {
            0..3 => (key, Bytes::new()),
            3 => (key, Bytes::from_static(b"\0")),
            4 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            5 => (Bytes::from_static(b"b/"), Bytes::from_static(b"b0")),
            _ => (key, self.some_key()),
        }
    }

    /// A revision to read at: mostly now, else around the edges of what is kept.
    fn revision_asked(&mut self) -> i64 {
        match self.random.random_range(0..10) {
            0..5 => 0,
            5..8 if self.compacted < self.revision => {
                self.random.random_range(self.compacted.max(1)..=self.revision)
            }
            5..9 => self.pick(&[self.compacted - 1, self.compacted, self.compacted + 1, 1]),
            _ => self.pick(&[self.revision + 1, self.revision + 1000, -1, self.revision]),
        }
    }

    fn bound(&mut self) -> i64 {
        if self.chance(80) {
            return 0;
        }
        let near = self.random.random_range(-2..20);
        if self.random.random_ratio(1, 30) { -1 } else { (self.revision - near).max(0) }
    }

    fn range(&mut self) -> pb::RangeRequest {
        let (key, range_end) = self.span();
        let sort = self.chance(50);
        pb::RangeRequest {
            key,
            range_end,
            limit: self.pick(&[0, 0, 0, 1, 2, 3, 8, -1, i64::MAX]),
            revision: self.revision_asked(),
            sort_order: if sort { self.pick(&[0, 1, 2]) } else { 0 },
            sort_target: if sort { self.pick(&[0, 1, 2, 3, 4]) } else { 0 },
            serializable: self.chance(20),
            keys_only: self.chance(15),
            count_only: self.chance(10),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    fn lease(&mut self) -> i64 {
        if self.random.random_ratio(1, 12) { self.pick(&[UNKNOWN_LEASE, -1, 0]) } else { self.pick(&LEASES) }
    }

    fn put(&mut self) -> pb::PutRequest {
        let ignore_value = self.chance(8);
        let ignore_lease = self.chance(8);
        let large = self.random.random_ratio(1, 400);
        pb::PutRequest {
            key: self.key(),
            value: match (large, ignore_value && !self.chance(10)) {
                // Around etcd's limit of a request.
                (true, _) => vec![b'x'; 1_572_864 - 200 + usize::try_from(self.below(400)).unwrap()].into(),
                (false, true) => Bytes::new(),
                (false, false) => self.value(),
            },
            lease: if self.chance(if ignore_lease { 10 } else { 35 }) { self.lease() } else { 0 },
            prev_kv: self.chance(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.span();
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.chance(50) }
    }

    fn compact(&mut self) -> pb::CompactionRequest {
        let kept = self.revision - self.compacted;
        let revision = match self.random.random_range(0..10) {
            0..4 if kept > 0 => self.compacted + 1 + self.below(kept),
            4 => self.revision,
            5 => self.revision + 1,
            6 => self.compacted,
            7 => self.compacted - 1,
            8 => self.pick(&[0, -1, 1, i64::MAX]),
            _ => self.compacted + 1,
        };
        pb::CompactionRequest { revision, physical: self.chance(50) }
    }

    fn grant(&mut self) -> pb::LeaseGrantRequest {
        if self.chance(20) {
            // The server draws the id; short times become the least there is.
            let ttl = self.pick(&[-5, 0, 1, 2, 100, 9_000_000_000, 9_000_000_001]);
            return pb::LeaseGrantRequest { id: 0, ttl };
        }
        let id = self.lease();
        let ttl = if self.random.random_ratio(1, 15) { 9_000_000_001 } else { 200_000 - id.abs() * 1_000 };
        pb::LeaseGrantRequest { id, ttl }
    }

    /// Only known kinds are raised, and no unknown action is asked: either ends an etcd 3.5.16.
    fn alarm(&mut self) -> pb::AlarmRequest {
        let action = self.pick(&[0, 0, 1, 2]);
        if action == 1 && self.alarmed {
            // Of two kinds etcd minds the one raised last only; we mind both.
            return pb::AlarmRequest::default();
        }
        let alarm = if action == 1 { self.pick(&[1, 2]) } else { self.pick(&[0, 1, 2, 5]) };
        pb::AlarmRequest { action, member_id: ALARM_MEMBER, alarm }
    }

    fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        if depth == 0 && self.random.random_ratio(1, 60) {
            return self.oversized_txn();
        }
        let compares = self.random.random_range(0..3);
        let mut branch = || {
            let count = self.random.random_range(0..4);
            (0..count).map(|_| self.operation(depth)).collect::<Vec<_>>()
        };
        let (success, failure) = (branch(), branch());
        pb::TxnRequest { compare: (0..compares).map(|_| self.compare()).collect(), success, failure }
    }

    /// As many operations as allowed, or one more; nested ones share the bound.
    fn oversized_txn(&mut self) -> pb::TxnRequest {
        let count = self.pick(&[127, 128, 129]);
        let get = |index: usize| {
            let range = pb::RangeRequest {
                key: vec![b'k', u8::try_from(index).unwrap()].into(),
                ..Default::default()
            };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(range)) }
        };
        let flat = pb::TxnRequest { success: (0..count).map(get).collect(), ..Default::default() };
        if self.chance(50) {
            return flat;
        }
        let nested = pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(flat)) };
        pb::TxnRequest { failure: vec![nested], ..Default::default() }
    }

    fn operation(&mut self, depth: u32) -> pb::RequestOp {
        use pb::request_op::Request;
        let request = match self.random.random_range(0..100) {
            0..35 => Request::RequestRange(self.range()),
            35..70 => Request::RequestPut(self.put()),
            70..84 => Request::RequestDeleteRange(self.delete()),
            84..98 if depth < NESTING_MAX => Request::RequestTxn(self.txn(depth + 1)),
            84..99 => Request::RequestPut(self.put()),
            _ => return pb::RequestOp { request: None },
        };
        pb::RequestOp { request: Some(request) }
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::TargetUnion;
        let target = if self.random.random_ratio(1, 60) { 8 } else { self.pick(&[0, 1, 2, 3, 4]) };
        let near = self.revision - self.below(12);
        let fitting = match target {
            0 => TargetUnion::Version(self.below(4)),
            1 => TargetUnion::CreateRevision(self.pick(&[0, near])),
            2 => TargetUnion::ModRevision(self.pick(&[0, near])),
            3 => TargetUnion::Value(self.value()),
            _ => TargetUnion::Lease(self.pick(&[0, 11, 12])),
        };
        let target_union = match self.random.random_range(0..50) {
            0 => None,
            1 => Some(TargetUnion::Version(1)),
            2 => Some(TargetUnion::Value(Bytes::from_static(b"1"))),
            _ => Some(fitting),
        };
        let (key, range_end) = if self.chance(60) { (self.key(), Bytes::new()) } else { self.span() };
        let result = if self.random.random_ratio(1, 60) { 6 } else { self.pick(&[0, 1, 2, 3]) };
        pb::Compare { result, target, key, range_end, target_union }
    }
}

fn puts(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    txn.success.iter().chain(&txn.failure).any(|operation| match &operation.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => puts(nested),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => false,
    })
}

/// Gives deletions of everything from a key on an end. etcd's check for clashes overlooks them, so a key can be
/// deleted and put in one transaction: an etcd ends at once if the put keeps the old value or lease, else after
/// a later compaction ("range failed to find revision pair"), seen with 3.5.16.
fn bound_deletions(txn: &mut pb::TxnRequest) {
    use pb::request_op::Request;
    for operation in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut operation.request {
            Some(Request::RequestDeleteRange(delete)) if delete.range_end == b"\0"[..] => {
                delete.range_end = Bytes::from_static(b"d");
            }
            Some(Request::RequestTxn(nested)) => bound_deletions(nested),
            Some(Request::RequestRange(_) | Request::RequestPut(_) | Request::RequestDeleteRange(_))
            | None => {}
        }
    }
}
