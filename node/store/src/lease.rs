//! Leases: what is replicated (`Leases`), and what only the leader knows (`LeaseClock`).
//!
//! Deadlines are not replicated: a keep-alive writes nothing. A new leader, or a node that starts, gives
//! every lease its full time again, so a lease may live longer than promised, never shorter.

use crate::{LeaseView, StoreError};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};
use quorate_types::{ClusterTime, LeaseId, limits};

/// Logical bytes of a lease.
pub(crate) const LEASE_BYTES: u64 = 160;

/// Logical bytes of a key's tie to its lease.
pub(crate) const LEASE_KEY_BYTES: u64 = 48;

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    /// Log index of the grant.
    granted: u64,
    /// Derived from the newest state of the keys; never stored.
    keys: BTreeSet<Arc<[u8]>>,
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    pub(crate) bytes: u64,
}

impl Leases {
    /// Makes a lease; answers its time to live, raised to the shortest one.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl_seconds: i64, granted: u64) -> Result<i64, StoreError> {
        if !id.is_some() {
            return Err(StoreError::LeaseNotFound);
        }
        if ttl_seconds > limits::LEASE_TTL_SECONDS_MAX {
            return Err(StoreError::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(StoreError::LeaseExists);
        }
        let ttl_seconds = ttl_seconds.max(limits::LEASE_TTL_SECONDS_MIN);
        self.insert(id, ttl_seconds, granted);
        Ok(ttl_seconds)
    }

    /// Puts a lease back as it was, from an image. The id must be free.
    pub(crate) fn insert(&mut self, id: LeaseId, ttl_seconds: i64, granted: u64) {
        self.bytes += LEASE_BYTES;
        let before = self.leases.insert(id, Lease { ttl_seconds, granted, keys: BTreeSet::new() });
        assert!(before.is_none(), "a lease id is only taken when free");
    }

    /// Ends a lease; its keys, in order, are the caller's to delete.
    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<BTreeSet<Arc<[u8]>>> {
        let lease = self.leases.remove(&id)?;
        let keys = u64::try_from(lease.keys.len()).expect("what is in memory can be counted");
        self.bytes -= LEASE_BYTES + LEASE_KEY_BYTES * keys;
        Some(lease.keys)
    }

    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Log index of that lease's grant.
    pub(crate) fn granted(&self, id: LeaseId) -> Option<u64> {
        self.leases.get(&id).map(|lease| lease.granted)
    }

    /// Moves a key from one lease to another; either may be none.
    pub(crate) fn retie(&mut self, key: &Arc<[u8]>, source: LeaseId, target: LeaseId) {
        if source == target {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&source)
            && lease.keys.remove(key)
        {
            self.bytes -= LEASE_KEY_BYTES;
        }
        if target.is_some() {
            let lease = self.leases.get_mut(&target).expect("a put names a lease that was checked to exist");
            if lease.keys.insert(Arc::clone(key)) {
                self.bytes += LEASE_KEY_BYTES;
            }
        }
    }

    pub(crate) fn view(&self, id: LeaseId, with_keys: bool) -> Option<LeaseView> {
        self.leases.get(&id).map(|lease| LeaseView {
            id,
            ttl_seconds: lease.ttl_seconds,
            granted: lease.granted,
            keys: if with_keys { lease.keys.iter().map(Arc::clone).collect() } else { Vec::new() },
        })
    }

    /// All, ordered by id, without their keys.
    pub(crate) fn views(&self) -> impl Iterator<Item = LeaseView> + '_ {
        self.leases.iter().map(|(id, lease)| LeaseView {
            id: *id,
            ttl_seconds: lease.ttl_seconds,
            granted: lease.granted,
            keys: Vec::new(),
        })
    }
}

/// What applying a command did to a lease: input of `LeaseClock::note`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease was made.
    Granted {
        /// Its id.
        id: LeaseId,
        /// Its time to live in seconds.
        ttl_seconds: i64,
        /// Log index of the grant.
        granted: u64,
    },
    /// A lease has ended.
    Ended {
        /// Its id.
        id: LeaseId,
    },
}

/// When leases end, as the leader counts. Not replicated, not durable.
#[derive(Debug, Default)]
pub struct LeaseClock {
    timers: BTreeMap<LeaseId, Timer>,
    /// Those that run, by deadline.
    deadlines: BTreeSet<(ClusterTime, LeaseId)>,
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    ttl_seconds: i64,
    granted: u64,
    deadline: ClusterTime,
    /// An expiry was handed out and not yet applied; the lease is not in `deadlines` then.
    expiring: bool,
}

/// What became of a keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It has its full time again.
    Renewed {
        /// Its time to live in seconds.
        ttl_seconds: i64,
    },
    /// Its expiry is on its way through the log: ask again when that was applied (rule 16).
    Expiring,
    /// No such lease.
    Unknown,
}

impl LeaseClock {
    /// Counts for these leases, each with its full time from now: at start, and with each new leadership.
    ///
    /// A leader starts it when it has *applied the first entry of its own term*, not when it is elected. An expiry
    /// that an older leader appended may stand in the log before that entry, and names the same grant that a
    /// keep-alive at the new leader would renew: the log holds no renewals, so apply could not tell that it is
    /// void. But every entry of an older term stands before the first of a newer one, in every log that holds
    /// both; so once that one is applied, each older expiry is applied or will never be, and only what is still
    /// there is renewed. For the same reason an expiry is never proposed again in a later term: the clock of
    /// that term decides anew. Within a term `Renewal::Expiring` keeps renewal and expiry apart. (Both halves of
    /// rule 16; etcd #15247.)
    #[must_use]
    pub fn start(leases: impl IntoIterator<Item = LeaseView>, now: ClusterTime) -> LeaseClock {
        let mut clock = LeaseClock::default();
        for LeaseView { id, ttl_seconds, granted, keys: _ } in leases {
            clock.note(LeaseChange::Granted { id, ttl_seconds, granted }, now);
        }
        clock
    }

    /// Follows the store.
    pub fn note(&mut self, change: LeaseChange, now: ClusterTime) {
        match change {
            LeaseChange::Granted { id, ttl_seconds, granted } => {
                self.forget(id);
                let timer = Timer { ttl_seconds, granted, deadline: now, expiring: false };
                self.timers.insert(id, timer);
                self.run(id, now);
            }
            LeaseChange::Ended { id } => self.forget(id),
        }
    }

    /// Gives a lease its full time again.
    pub fn renew(&mut self, id: LeaseId, now: ClusterTime) -> Renewal {
        let Some(timer) = self.timers.get(&id) else { return Renewal::Unknown };
        if timer.expiring {
            return Renewal::Expiring;
        }
        let ttl_seconds = timer.ttl_seconds;
        self.run(id, now);
        Renewal::Renewed { ttl_seconds }
    }

    /// Gives every lease its full time again, but for those whose expiry is on its way: what stands in the log
    /// will be applied whatever this clock says.
    pub fn renew_all(&mut self, now: ClusterTime) {
        let running: Vec<LeaseId> = self.deadlines.iter().map(|(_, id)| *id).collect();
        for id in running {
            self.run(id, now);
        }
    }

    /// Leases whose time is over, earliest first, with the grant their expiry must name. Each is handed out
    /// once, until `note` tells its end or `retry` takes it back.
    pub fn expired(&mut self, now: ClusterTime, count_max: usize) -> Vec<(LeaseId, u64)> {
        let mut expired = Vec::new();
        while expired.len() < count_max
            && let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, id));
            let timer = self.timers.get_mut(&id).expect("a deadline stands for a timer");
            timer.expiring = true;
            expired.push((id, timer.granted));
        }
        expired
    }

    /// The expiry of the lease of that grant did not come through: it is due again. One of an earlier grant says
    /// nothing of the lease that has the id now.
    pub fn retry(&mut self, id: LeaseId, granted: u64) {
        if let Some(timer) = self.timers.get_mut(&id)
            && timer.expiring
            && timer.granted == granted
        {
            timer.expiring = false;
            self.deadlines.insert((timer.deadline, id));
        }
    }

    /// When the next lease ends, if one runs.
    #[must_use]
    pub fn deadline_next(&self) -> Option<ClusterTime> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Milliseconds a lease has left; zero once its time is over.
    #[must_use]
    pub fn remaining_ms(&self, id: LeaseId, now: ClusterTime) -> Option<u64> {
        self.timers.get(&id).map(|timer| timer.deadline.ms_since(now))
    }

    /// (Re)starts a lease's time.
    fn run(&mut self, id: LeaseId, now: ClusterTime) {
        let timer = self.timers.get_mut(&id).expect("the caller saw it");
        self.deadlines.remove(&(timer.deadline, id));
        let seconds = u64::try_from(timer.ttl_seconds).expect("a lease lives two seconds at least");
        timer.deadline = now.plus_ms(seconds.saturating_mul(1_000));
        self.deadlines.insert((timer.deadline, id));
    }

    fn forget(&mut self, id: LeaseId) {
        if let Some(timer) = self.timers.remove(&id) {
            self.deadlines.remove(&(timer.deadline, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Outcome, Store};
    use quorate_types::Index;

    const ID: LeaseId = LeaseId(7);

    fn clock() -> LeaseClock {
        let lease = LeaseView { id: ID, ttl_seconds: 5, granted: 3, keys: Vec::new() };
        LeaseClock::start([lease], ClusterTime(1_000))
    }

    #[test]
    fn a_lease_has_its_full_time_and_no_less() {
        let mut clock = clock();
        assert_eq!(clock.remaining_ms(ID, ClusterTime(2_000)), Some(4_000));
        assert_eq!(clock.expired(ClusterTime(5_999), 10), []);
        assert_eq!(clock.expired(ClusterTime(6_000), 10), [(ID, 3)]);
        assert_eq!(clock.expired(ClusterTime(9_000), 10), [], "handed out once");
        assert_eq!(clock.remaining_ms(ID, ClusterTime(9_000)), Some(0));
    }

    /// A stalled leader gives every lease its time again; one whose expiry stands in the log must not be told alive.
    #[test]
    fn renewing_all_leaves_out_what_is_expiring() {
        let mut clock = clock();
        let other = LeaseId(ID.0 + 1);
        clock.note(LeaseChange::Granted { id: other, ttl_seconds: 60, granted: 4 }, ClusterTime(1_000));
        assert_eq!(clock.expired(ClusterTime(6_000), 10), [(ID, 3)]);
        clock.renew_all(ClusterTime(30_000));
        assert_eq!(clock.renew(ID, ClusterTime(30_000)), Renewal::Expiring);
        assert_eq!(clock.remaining_ms(other, ClusterTime(30_000)), Some(60_000));
    }

    #[test]
    fn a_keep_alive_moves_the_deadline_and_waits_for_an_expiry_in_flight() {
        let mut clock = clock();
        assert_eq!(clock.renew(ID, ClusterTime(5_000)), Renewal::Renewed { ttl_seconds: 5 });
        assert_eq!(clock.deadline_next(), Some(ClusterTime(10_000)));
        assert_eq!(clock.expired(ClusterTime(9_999), 10), []);
        assert_eq!(clock.expired(ClusterTime(10_000), 10), [(ID, 3)]);
        assert_eq!(clock.renew(ID, ClusterTime(10_001)), Renewal::Expiring);
        clock.retry(ID, 2);
        assert_eq!(clock.renew(ID, ClusterTime(10_001)), Renewal::Expiring, "that was an earlier grant's");
        clock.retry(ID, 3);
        assert_eq!(clock.expired(ClusterTime(10_002), 10), [(ID, 3)], "due again at once");
        clock.note(LeaseChange::Ended { id: ID }, ClusterTime(10_003));
        assert_eq!(clock.renew(ID, ClusterTime(10_004)), Renewal::Unknown);
        assert_eq!(clock.deadline_next(), None);
    }

    /// The log of three terms: an old leader's expiry, appended before it lost the leadership, commits under the
    /// next one. Whatever the place of the clients' keep-alives, no lease ends after one was answered.
    #[test]
    fn an_old_leaders_expiry_ends_no_lease_that_a_new_leader_renewed() {
        let grant = Command::LeaseGrant { id: ID, ttl_seconds: 5 };
        let expire = Command::LeaseExpire { id: ID, granted: 1 };
        // Whether the old expiry got into the new leader's log.
        for is_in_log in [false, true] {
            let mut store = Store::new();
            store.apply(Index(1), ClusterTime(1_000), &grant).outcome.unwrap();
            let mut old = LeaseClock::start(store.leases(), ClusterTime(1_000));
            assert_eq!(
                old.expired(ClusterTime(6_000), 9),
                [(ID, 1)],
                "the old leader appends this as entry 2"
            );
            // Elected, and not through with its log: what stands there is not renewed by anybody yet.
            if is_in_log {
                let ended = store.apply(Index(2), ClusterTime(6_000), &expire).outcome;
                assert_eq!(ended, Ok(Outcome::LeaseExpire { ended: true }));
            }
            store.advance(Index(3));
            let mut new = LeaseClock::start(store.leases(), ClusterTime(7_000));
            let expected = if is_in_log { Renewal::Unknown } else { Renewal::Renewed { ttl_seconds: 5 } };
            assert_eq!(new.renew(ID, ClusterTime(7_500)), expected);
            assert_eq!(new.remaining_ms(ID, ClusterTime(7_500)), (!is_in_log).then_some(5_000));
        }
        // Why not at the election: the clock would answer a client, and the entry would then end its lease.
        let mut store = Store::new();
        store.apply(Index(1), ClusterTime(1_000), &grant).outcome.unwrap();
        let mut early = LeaseClock::start(store.leases(), ClusterTime(7_000));
        assert_eq!(early.renew(ID, ClusterTime(7_500)), Renewal::Renewed { ttl_seconds: 5 });
        let ended = store.apply(Index(2), ClusterTime(6_000), &expire).outcome;
        assert_eq!(ended, Ok(Outcome::LeaseExpire { ended: true }), "apply cannot know of the renewal");
    }

    /// An expiry names the grant it saw: a lease granted anew under the same id lives on.
    #[test]
    fn an_expiry_is_void_for_a_lease_granted_anew() {
        let mut store = Store::new();
        let grant = Command::LeaseGrant { id: ID, ttl_seconds: 5 };
        let commands =
            [grant.clone(), Command::LeaseRevoke(ID), grant, Command::LeaseExpire { id: ID, granted: 1 }];
        let outcomes = (1..)
            .zip(&commands)
            .map(|(index, command)| store.apply(Index(index), ClusterTime(0), command).outcome.unwrap());
        assert_eq!(outcomes.last(), Some(Outcome::LeaseExpire { ended: false }));
        assert_eq!(store.lease(ID, false).map(|lease| lease.granted), Some(3));
    }

    #[test]
    fn expiries_are_bounded_and_earliest_first() {
        let leases = (1..=10).map(|n| LeaseView {
            id: LeaseId(n),
            ttl_seconds: 20 - n,
            granted: u64::try_from(n).unwrap(),
            keys: Vec::new(),
        });
        let mut clock = LeaseClock::start(leases, ClusterTime(0));
        let late = ClusterTime(60_000);
        let ids = |expired: Vec<(LeaseId, u64)>| expired.iter().map(|(id, _)| id.0).collect::<Vec<_>>();
        assert_eq!(ids(clock.expired(late, 3)), [10, 9, 8]);
        assert_eq!(ids(clock.expired(late, 100)), [7, 6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn the_longest_lease_does_not_overflow_the_clock() {
        let lease =
            LeaseView { id: ID, ttl_seconds: limits::LEASE_TTL_SECONDS_MAX, granted: 1, keys: Vec::new() };
        let mut clock = LeaseClock::start([lease], ClusterTime(u64::MAX - 5));
        assert_eq!(clock.expired(ClusterTime(u64::MAX - 1), 1), []);
    }
}
