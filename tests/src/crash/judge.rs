//! The model: follows the whole history and says what of it broke a promise.

use super::op::{Attempt, Author, Fate, Op, author_of};
use crate::client::{Client, revision};
use anyhow::{Context, Result, bail, ensure};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Only ends a broken run.
const WATCH_LIMIT: Duration = Duration::from_secs(60);

/// Leases asked for their keys one by one after each crash.
const LEASES_ASKED: usize = 8;

/// A key as one revision left it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    author: Author,
    lease: i64,
    version: i64,
    create_revision: i64,
}

/// One event: a key was written, or deleted.
type Change = (String, Option<Written>);

/// What is known to be so, from all restarts up to now.
#[derive(Debug, Default)]
pub struct Judge {
    /// Every revision above `compacted`.
    history: BTreeMap<i64, Vec<Change>>,
    /// The keys after `revision`.
    keys: BTreeMap<String, (i64, Written)>,
    revision: i64,
    compacted: i64,
    leases: BTreeSet<i64>,
    /// Attempts whose answer was lost and that happened nevertheless.
    pub unknown_happened: usize,
}

impl Judge {
    /// Of a fresh node, which is at revision 1.
    #[must_use]
    pub fn new() -> Judge {
        Judge { revision: 1, compacted: 1, ..Judge::default() }
    }

    /// Last revision seen to be as promised.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Judges a node after a restart. `attempts` are all since the last judgement; `watch_from` is where its
    /// watch begins: what was judged before is compared again.
    ///
    /// # Errors
    /// The promise that was broken, or what the node said instead of an answer.
    pub async fn judge(&mut self, endpoint: &str, attempts: Vec<Attempt>, watch_from: i64) -> Result<()> {
        let mut client = Client::connect(endpoint).await?;
        let all = pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
        let range = client.kv.range(all).await?.into_inner();
        let current = revision(range.header);
        ensure!(current >= self.revision, "the revision fell from {} to {current}", self.revision);
        let first = watch_from.clamp(self.compacted + 1, self.revision + 1);
        let mut open: HashMap<Author, Attempt> =
            attempts.into_iter().map(|attempt| (attempt.author, attempt)).collect();
        let mut leases = self.leases_asked_for(&open);
        for (at, seen) in read_history(&mut client, first, current).await? {
            if at <= self.revision {
                ensure!(
                    self.history.get(&at) == Some(&seen),
                    "revision {at} was {:?}, now it is {seen:?}",
                    self.history.get(&at)
                );
            } else {
                self.take_in(at, seen, &mut open).with_context(|| format!("revision {at} of {current}"))?;
            }
        }
        self.nothing_lost(&open)?;
        self.same_keys(&range.kvs)?;
        leases.resolve(&mut client, self).await
    }

    /// A revision that is new to the judge: it has to be one whole attempt.
    fn take_in(&mut self, at: i64, seen: Vec<Change>, open: &mut HashMap<Author, Attempt>) -> Result<()> {
        let author = self.author_of_revision(&seen, open)?;
        let attempt =
            open.remove(&author).with_context(|| format!("{author:?} did not ask for {seen:?} now"))?;
        let expected = self.changes_of(&attempt, at);
        ensure!(seen == expected, "{attempt:?} makes {expected:?}, but there is {seen:?}");
        match attempt.fate {
            Fate::Acknowledged(promised) => {
                ensure!(promised == at, "{attempt:?} was promised at another revision");
            }
            Fate::Unknown => self.unknown_happened += 1,
        }
        for (key, written) in &seen {
            match written {
                Some(written) => self.keys.insert(key.clone(), (at, written.clone())),
                None => self.keys.remove(key),
            };
        }
        self.history.insert(at, seen);
        self.revision = at;
        Ok(())
    }

    fn author_of_revision(&self, seen: &[Change], open: &HashMap<Author, Attempt>) -> Result<Author> {
        if let Some(author) = seen.iter().find_map(|(_, written)| Some(written.as_ref()?.author)) {
            return Ok(author);
        }
        // Only deletions: the end of a lease.
        let (key, _) = seen.first().context("a revision without events")?;
        let (_, written) =
            self.keys.get(key).with_context(|| format!("{key} was not there to be deleted"))?;
        open.values()
            .find(|attempt| attempt.op == Op::Revoke { lease: written.lease })
            .map(|attempt| attempt.author)
            .with_context(|| format!("nobody asked for the end of {written:?}"))
    }

    /// What an attempt does to the keys as they are.
    fn changes_of(&self, attempt: &Attempt, at: i64) -> Vec<Change> {
        let put = |key: &String, lease: i64| {
            let before = self.keys.get(key).map(|(_, written)| written);
            let written = Written {
                author: attempt.author,
                lease,
                version: before.map_or(0, |before| before.version) + 1,
                create_revision: before.map_or(at, |before| before.create_revision),
            };
            (key.clone(), Some(written))
        };
        match &attempt.op {
            Op::Put { keys, lease, .. } => keys.iter().map(|key| put(key, *lease)).collect(),
            Op::Move { from, to, .. } => {
                let deleted = self.keys.contains_key(from).then(|| (from.clone(), None));
                deleted.into_iter().chain([put(to, 0)]).collect()
            }
            Op::Revoke { lease } => self.keys_of(*lease).map(|key| (key.clone(), None)).collect(),
            Op::Grant { .. } => Vec::new(),
        }
    }

    fn keys_of(&self, lease: i64) -> impl Iterator<Item = &String> {
        self.keys.iter().filter(move |(_, (_, written))| written.lease == lease).map(|(key, _)| key)
    }

    /// What no revision was: it may not have been promised one.
    fn nothing_lost(&self, open: &HashMap<Author, Attempt>) -> Result<()> {
        for attempt in open.values() {
            let Fate::Acknowledged(promised) = attempt.fate else { continue };
            match &attempt.op {
                Op::Put { .. } | Op::Move { .. } => {
                    bail!("LOST: {attempt:?} was acknowledged at revision {promised} and is not there");
                }
                Op::Revoke { lease } => {
                    let left: Vec<&String> = self.keys_of(*lease).collect();
                    ensure!(left.is_empty(), "{attempt:?} was acknowledged and {left:?} are still there");
                }
                Op::Grant { .. } => {}
            }
        }
        Ok(())
    }

    /// The keys by a range are those the history led to.
    fn same_keys(&self, kvs: &[mvccpb::KeyValue]) -> Result<()> {
        let mut seen = BTreeMap::new();
        for kv in kvs {
            let (key, written) = written_of(kv)?;
            seen.insert(key, (kv.mod_revision, written));
        }
        if seen == self.keys {
            return Ok(());
        }
        let differing: Vec<_> = (seen.keys().chain(self.keys.keys()))
            .filter(|key| seen.get(*key) != self.keys.get(*key))
            .map(|key| (key, seen.get(key), self.keys.get(key)))
            .take(5)
            .collect();
        bail!("a range differs from the history (key, range, history): {differing:?}")
    }

    /// Compacts up to what was judged last; history below it is not asked for any more.
    ///
    /// # Errors
    /// What the node says.
    pub async fn compact(&mut self, endpoint: &str) -> Result<()> {
        let mut client = Client::connect(endpoint).await?;
        let at = self.revision;
        client.kv.compact(pb::CompactionRequest { revision: at, physical: true }).await?;
        self.compacted = at;
        self.history = self.history.split_off(&(at + 1));
        Ok(())
    }

    /// The compaction that was promised last is in force, if there was one: a watch below it is told so.
    ///
    /// # Errors
    /// If it is not.
    pub async fn compaction_holds(&self, endpoint: &str) -> Result<()> {
        if self.compacted == 1 {
            return Ok(());
        }
        let mut client = Client::connect(endpoint).await?;
        let (_requests, mut answers) = watch_all(&mut client, self.compacted - 1).await?;
        while let Some(answer) = answers.message().await? {
            if answer.canceled {
                ensure!(
                    answer.compact_revision == self.compacted,
                    "compacted at {} and not at {}",
                    answer.compact_revision,
                    self.compacted
                );
                return Ok(());
            }
            ensure!(answer.created, "a watch below the compaction gets events");
        }
        bail!("a watch below the compaction just ends")
    }

    fn leases_asked_for(&self, open: &HashMap<Author, Attempt>) -> Leases {
        let mut leases = Leases { live: self.leases.clone(), maybe: BTreeSet::new() };
        for attempt in open.values() {
            match (&attempt.op, attempt.fate) {
                (Op::Grant { lease }, Fate::Acknowledged(_)) => drop(leases.live.insert(*lease)),
                (Op::Grant { lease }, Fate::Unknown) => drop(leases.maybe.insert(*lease)),
                (Op::Put { .. } | Op::Move { .. } | Op::Revoke { .. }, _) => {}
            }
        }
        for attempt in open.values() {
            if let Op::Revoke { lease } = attempt.op {
                leases.live.remove(&lease);
                if attempt.fate == Fate::Unknown {
                    leases.maybe.insert(lease);
                }
            }
        }
        leases
    }
}

/// Leases that have to be there, and those that may.
struct Leases {
    live: BTreeSet<i64>,
    maybe: BTreeSet<i64>,
}

impl Leases {
    async fn resolve(&mut self, client: &mut Client, judge: &mut Judge) -> Result<()> {
        let list = client.lease.lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner();
        let seen: BTreeSet<i64> = list.leases.iter().map(|lease| lease.id).collect();
        let lost: Vec<&i64> = self.live.difference(&seen).collect();
        ensure!(lost.is_empty(), "LOST: leases {lost:?} were granted and are not there");
        let strange: Vec<&i64> =
            seen.iter().filter(|id| !self.live.contains(id) && !self.maybe.contains(id)).collect();
        ensure!(strange.is_empty(), "leases {strange:?} are there and should have ended");
        let attached: BTreeSet<i64> = judge.keys.values().map(|(_, written)| written.lease).collect();
        for id in seen.iter().filter(|id| attached.contains(id)).take(LEASES_ASKED) {
            let ask = pb::LeaseTimeToLiveRequest { id: *id, keys: true };
            let lease = client.lease.lease_time_to_live(ask).await?.into_inner();
            ensure!(lease.ttl > 0, "lease {id} has {} s left", lease.ttl);
            let keys: BTreeSet<Vec<u8>> = lease.keys.iter().map(|key| key.to_vec()).collect();
            let known: BTreeSet<Vec<u8>> = judge.keys_of(*id).map(|key| key.clone().into_bytes()).collect();
            ensure!(keys == known, "lease {id} has {} keys, its history {}", keys.len(), known.len());
        }
        judge.leases = seen;
        Ok(())
    }
}

fn written_of(kv: &mvccpb::KeyValue) -> Result<(String, Written)> {
    let key = String::from_utf8(kv.key.to_vec())?;
    let Some(author) = author_of(&key, &kv.value) else {
        let start = String::from_utf8_lossy(&kv.value[..kv.value.len().min(60)]).into_owned();
        bail!("HALF: the value of {key}, {} bytes, is nobody's: {start:?}", kv.value.len());
    };
    let written =
        Written { author, lease: kv.lease, version: kv.version, create_revision: kv.create_revision };
    Ok((key, written))
}

type Answers = tonic::Streaming<pb::WatchResponse>;

/// A watch of every key. The sender keeps it open.
async fn watch_all(
    client: &mut Client,
    start_revision: i64,
) -> Result<(mpsc::Sender<pb::WatchRequest>, Answers)> {
    let create = pb::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision,
        ..Default::default()
    };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    let (requests, outgoing) = mpsc::channel(1);
    requests.send(pb::WatchRequest { request_union: Some(union) }).await?;
    Ok((requests, client.watch.watch(ReceiverStream::new(outgoing)).await?.into_inner()))
}

/// Every revision from `first` to `last`, each exactly once and in order.
async fn read_history(client: &mut Client, first: i64, last: i64) -> Result<Vec<(i64, Vec<Change>)>> {
    let mut history: Vec<(i64, Vec<Change>)> = Vec::new();
    if first > last {
        return Ok(history);
    }
    let (_requests, mut answers) = watch_all(client, first).await?;
    while history.last().is_none_or(|(at, _)| *at < last) {
        let answer = tokio::time::timeout(WATCH_LIMIT, answers.message()).await;
        let answer =
            answer.with_context(|| format!("no events after {:?}", history.last().map(|(at, _)| at)))?;
        let answer = answer?.context("the watch ended")?;
        ensure!(!answer.canceled, "the watch from {first} was canceled: {}", answer.cancel_reason);
        let mut seen_before = history.last().map_or(first - 1, |(at, _)| *at);
        for event in answer.events {
            let is_delete = event.r#type() == mvccpb::event::EventType::Delete;
            let kv = event.kv.context("an event without its key")?;
            let at = kv.mod_revision;
            let change =
                if is_delete { (String::from_utf8(kv.key.to_vec())?, None) } else { some(written_of(&kv)?) };
            match history.last_mut() {
                // All events of a revision come in one answer.
                Some((same, changes)) if *same == at && seen_before < at => changes.push(change),
                Some(_) | None => {
                    let expected = history.last().map_or(first, |(at, _)| at + 1);
                    ensure!(
                        at == expected,
                        "the watch from {first} gives revision {at} where {expected} is next"
                    );
                    history.push((at, vec![change]));
                    seen_before = at - 1;
                }
            }
        }
    }
    ensure!(history.last().is_some_and(|(at, _)| *at == last), "events beyond the range's revision {last}");
    Ok(history)
}

fn some((key, written): (String, Written)) -> Change {
    (key, Some(written))
}
