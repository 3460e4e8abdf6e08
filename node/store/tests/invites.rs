//! Invites against the plainest list, in images and digests, and beside alarms.

#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use proptest::prelude::*;
use quorate_store::{
    AlarmKind, Command, ImageLoader, InviteTaken, InviteView, Outcome, Put, Store, StoreError,
};
use quorate_types::limits::INVITE_COUNT_MAX;
use quorate_types::{ClusterTime, Index, NodeId, PeerKey, Revision};

const KEY: PeerKey = PeerKey([1; 32]);
const OTHER_KEY: PeerKey = PeerKey([2; 32]);

/// A store, told commands at chosen times.
struct Node(Store);

impl Node {
    fn apply(&mut self, time: u64, command: &Command) -> Result<Outcome, StoreError> {
        let index = Index(self.0.applied().0 + 1);
        let applied = self.0.apply(index, ClusterTime(time), command);
        assert_eq!((applied.revision, applied.events, applied.lease), (Revision(1), None, None));
        applied.outcome
    }

    fn add(&mut self, time: u64, number: u8, ttl_ms: u64) -> Result<Outcome, StoreError> {
        self.apply(time, &Command::InviteAdd { hash: [number; 32], ttl_ms })
    }

    fn take(&mut self, time: u64, number: u8, key: PeerKey) -> InviteTaken {
        match self.apply(time, &Command::InviteTake { hash: [number; 32], key }) {
            Ok(Outcome::InviteTake(taken)) => taken,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_invite_lets_one_node_in_and_in_time() {
    let mut node = Node(Store::new());
    assert_eq!(node.take(0, 1, KEY), InviteTaken::Unknown);
    assert_eq!(node.add(1_000, 1, 500), Ok(Outcome::InviteAdd { expires: ClusterTime(1_500) }));
    assert_eq!(
        node.add(1_200, 1, 9_000),
        Ok(Outcome::InviteAdd { expires: ClusterTime(1_500) }),
        "it stands"
    );
    node.add(1_200, 2, 300).unwrap();
    assert_eq!(node.take(1_499, 1, KEY), InviteTaken::Taken);
    // Its answer was lost; it comes again, however late. Nobody else does.
    assert_eq!(node.take(1_499, 1, KEY), InviteTaken::Taken);
    assert_eq!(node.take(99_000, 1, KEY), InviteTaken::Taken);
    assert_eq!(node.take(99_000, 1, OTHER_KEY), InviteTaken::Used);
    // Time never falls: a stamp from a slower clock changes nothing.
    assert_eq!(node.take(0, 2, KEY), InviteTaken::Expired);
    let revoke = Command::InviteRevoke { hash: [1; 32] };
    assert_eq!(node.apply(0, &revoke), Ok(Outcome::InviteRevoke { revoked: true }));
    assert_eq!(node.apply(0, &revoke), Ok(Outcome::InviteRevoke { revoked: false }));
    assert_eq!(node.take(0, 1, KEY), InviteTaken::Unknown);
    let left = InviteView { hash: [2; 32], expires: ClusterTime(1_500), used_by: None };
    assert_eq!(node.0.invites().collect::<Vec<_>>(), [left]);
    // The longest time does not overflow the clock.
    assert_eq!(node.add(0, 3, u64::MAX), Ok(Outcome::InviteAdd { expires: ClusterTime(u64::MAX) }));
}

#[test]
fn invites_are_bounded_and_those_over_make_room() {
    let mut node = Node(Store::new());
    let count = u8::try_from(INVITE_COUNT_MAX).unwrap();
    for number in 0..count {
        // The 5th ends first, the 3rd next.
        let ttl_ms = match number {
            5 => 100,
            3 => 200,
            _ => 10_000,
        };
        node.add(0, number, ttl_ms).unwrap();
    }
    let digest = node.0.digest();
    assert_eq!(node.add(0, 200, 5), Err(StoreError::TooManyInvites));
    assert_eq!(node.0.digest(), digest, "what is refused changes nothing");
    node.add(250, 200, 10_000).unwrap();
    assert_eq!(
        (node.take(250, 5, KEY), node.take(250, 3, KEY)),
        (InviteTaken::Unknown, InviteTaken::Expired)
    );
    node.add(250, 201, 10_000).unwrap();
    assert_eq!(node.take(250, 3, KEY), InviteTaken::Unknown);
    assert_eq!(node.add(250, 202, 10_000), Err(StoreError::TooManyInvites));
    assert_eq!(node.0.invites().count(), INVITE_COUNT_MAX);
}

/// Who replaces a damaged or full board must be let in.
#[test]
fn alarms_do_not_keep_a_new_node_out() {
    for kind in [AlarmKind::NoSpace, AlarmKind::Corrupt] {
        let mut node = Node(Store::new());
        node.apply(0, &Command::AlarmRaise { node: NodeId(1), kind }).unwrap();
        let put = Command::Put(Put { key: b"k".to_vec(), ..Put::default() });
        assert!(node.apply(0, &put).is_err(), "the alarm is in force");
        let add = Command::InviteAdd { hash: [1; 32], ttl_ms: 100 };
        assert_eq!(add.growth_bytes(), 0);
        node.apply(0, &add).unwrap();
        assert_eq!(node.take(0, 1, KEY), InviteTaken::Taken);
        assert_eq!(
            node.apply(0, &Command::InviteRevoke { hash: [1; 32] }),
            Ok(Outcome::InviteRevoke { revoked: true })
        );
    }
}

fn reload(store: &Store) -> Store {
    let (mut export, mut bytes) = (store.begin_export(), Vec::new());
    while store.export_next(&mut export, 50, &mut bytes) {}
    let mut loader = ImageLoader::new();
    loader.push(&bytes).unwrap();
    loader.finish().unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Add { number: u8, ttl_ms: u64 },
    Take { number: u8, key: u8 },
    Revoke(u8),
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..80, 0_u64..300).prop_map(|(number, ttl_ms)| Step::Add { number, ttl_ms }),
        3 => (0_u8..80, 0_u8..3).prop_map(|(number, key)| Step::Take { number, key }),
        1 => (0_u8..80).prop_map(Step::Revoke),
        1 => Just(Step::Reload),
    ]
}

proptest! {
    /// Against a list; a digest differs exactly when what stands differs, and images bring it back.
    #[test]
    fn invites_are_what_a_plain_list_says(steps in proptest::collection::vec(step(), 1..400)) {
        let mut node = Node(Store::new());
        let mut list: Vec<InviteView> = Vec::new();
        for (time, step) in (0_u64..).zip(steps) {
            let before = (list.clone(), node.0.digest());
            match step {
                Step::Add { number, ttl_ms } => {
                    let hash = [number; 32];
                    let stands = list.iter().any(|invite| invite.hash == hash);
                    if !stands && list.len() == INVITE_COUNT_MAX {
                        let over = list.iter().filter(|invite| invite.expires.0 <= time);
                        let oldest = over.min_by_key(|invite| (invite.expires, invite.hash)).copied();
                        list.retain(|invite| Some(*invite) != oldest);
                    }
                    let fits = list.len() < INVITE_COUNT_MAX;
                    if !stands && fits {
                        list.push(InviteView { hash, expires: ClusterTime(time + ttl_ms), used_by: None });
                        list.sort_by_key(|invite| invite.hash);
                    }
                    prop_assert_eq!(node.add(time, number, ttl_ms).is_ok(), stands || fits);
                }
                Step::Take { number, key } => {
                    let key = PeerKey([key; 32]);
                    let expected = match list.iter_mut().find(|invite| invite.hash == [number; 32]) {
                        None => InviteTaken::Unknown,
                        Some(InviteView { used_by: Some(known), .. }) if *known != key => InviteTaken::Used,
                        Some(InviteView { used_by: None, expires, .. }) if expires.0 <= time => InviteTaken::Expired,
                        Some(invite) => {
                            invite.used_by = Some(key);
                            InviteTaken::Taken
                        }
                    };
                    prop_assert_eq!(node.take(time, number, key), expected);
                }
                Step::Revoke(number) => {
                    node.apply(time, &Command::InviteRevoke { hash: [number; 32] }).unwrap();
                    list.retain(|invite| invite.hash != [number; 32]);
                }
                Step::Reload => {
                    let again = reload(&node.0);
                    prop_assert_eq!(again.digest(), node.0.digest());
                    node = Node(again);
                    prop_assert_eq!(before.1, node.0.digest());
                    continue;
                }
            }
            prop_assert_eq!(node.0.invites().collect::<Vec<_>>(), &list[..]);
        }
    }
}

#[test]
fn a_digest_sees_every_part_of_an_invite() {
    let mut digests = Vec::new();
    for (number, ttl_ms, key) in
        [(1, 50, None), (2, 50, None), (1, 51, None), (1, 50, Some(KEY)), (1, 50, Some(OTHER_KEY))]
    {
        let mut node = Node(Store::new());
        node.add(0, number, ttl_ms).unwrap();
        if let Some(key) = key {
            node.take(0, number, key);
        }
        digests.push(node.0.digest());
    }
    digests.push(Store::new().digest());
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}
