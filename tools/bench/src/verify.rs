//! After a crash: every acknowledged put is there, and no unacknowledged one is half there.

use crate::endpoint::EndpointArgs;
use crate::keys::{KeySpace, prefix_end};
use crate::record::{History, Run};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use quorate_proto::etcdserverpb::RangeRequest;
use quorate_proto::etcdserverpb::kv_client::KvClient;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Keys read at a time.
const PAGE_COUNT: i64 = 1_000;
/// Reads of history under way at a time.
const READS_AT_ONCE: usize = 64;
/// Problems told in words; the rest is only counted.
const PROBLEM_TEXT_COUNT_MAX: usize = 20;

/// What a check of a record found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Puts that were tried.
    pub attempted: usize,
    /// Of these, acknowledged.
    pub acknowledged: usize,
    /// Keys of the record that hold a value now.
    pub keys_found: usize,
    /// Unacknowledged puts that are there all the same, whole.
    pub unacknowledged_found: usize,
    /// Acknowledged puts that later ones replaced, and whose revision still shows them.
    pub history_checked: usize,
    /// Acknowledged puts whose revision is compacted: their own trace is gone rightly.
    pub history_compacted: usize,
    /// What is wrong.
    pub problem_count: usize,
    /// The first of these in words.
    pub problems: Vec<String>,
}

impl Verification {
    /// Whether the server kept its word.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problem_count == 0
    }

    fn add_problem(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEM_TEXT_COUNT_MAX {
            self.problems.push(problem);
        }
    }
}

/// What a key holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    value: Bytes,
    mod_revision: i64,
}

/// One attempt on one key, with where its value comes from.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    space: &'a KeySpace,
    put_number: u64,
    revision: Option<i64>,
}

impl Candidate<'_> {
    fn value(&self) -> Bytes {
        self.space.value(self.put_number)
    }
}

/// Compares the servers' keys with the record. Nothing may write below the record's prefixes meanwhile.
///
/// # Errors
/// The servers cannot be read. What is wrong with their answers stands in the [`Verification`].
pub async fn verify(endpoint: &EndpointArgs, history: &History) -> Result<Verification> {
    let channel = endpoint.connect(1).await?.remove(0);
    let prefixes: BTreeSet<&str> = history.runs.iter().map(|run| run.space.prefix.as_str()).collect();
    let mut stored = BTreeMap::new();
    for prefix in prefixes {
        read_prefix(&channel, prefix, &mut stored).await?;
    }
    let keys = candidates(&history.runs);
    let mut verification = Verification {
        attempted: history.attempted_count(),
        acknowledged: history.acknowledged_count(),
        ..Verification::default()
    };
    for (key, candidates) in &keys {
        let now = stored.get(key.as_bytes());
        verification.keys_found += usize::from(now.is_some());
        match judge(candidates, now) {
            Ok(acknowledged) => {
                verification.unacknowledged_found += usize::from(now.is_some() && !acknowledged);
            }
            Err(problem) => verification.add_problem(format!("{key}: {problem}")),
        }
    }
    check_history(&channel, &keys, &stored, &mut verification).await?;
    Ok(verification)
}

fn candidates(runs: &[Run]) -> BTreeMap<String, Vec<Candidate<'_>>> {
    let mut keys: BTreeMap<String, Vec<Candidate<'_>>> = BTreeMap::new();
    for run in runs {
        for attempt in &run.attempts {
            let candidate =
                Candidate { space: &run.space, put_number: attempt.put_number, revision: attempt.revision };
            keys.entry(run.space.key(attempt.key_number)).or_default().push(candidate);
        }
    }
    keys
}

/// Whether what a key holds can be so, and whether it was acknowledged.
///
/// The newest acknowledged put must be there, or an unacknowledged one after it: a put without an answer
/// may have happened. In both cases with every byte.
fn judge(candidates: &[Candidate<'_>], now: Option<&Stored>) -> Result<bool, String> {
    let newest = candidates.iter().filter_map(|candidate| candidate.revision).max();
    let Some(now) = now else {
        return match newest {
            Some(revision) => Err(format!("the put acknowledged at revision {revision} is lost")),
            None => Ok(false),
        };
    };
    if newest.is_some_and(|newest| now.mod_revision < newest) {
        return Err(format!(
            "holds revision {}, but revision {} was acknowledged: it is lost",
            now.mod_revision,
            newest.unwrap_or(0)
        ));
    }
    let matching = |candidate: &&Candidate<'_>| candidate.value() == now.value;
    if let Some(candidate) = candidates.iter().find(|candidate| candidate.revision == Some(now.mod_revision))
    {
        let whole = candidate.value() == now.value;
        return if whole {
            Ok(true)
        } else {
            Err(format!("revision {} does not hold the value put there", now.mod_revision))
        };
    }
    if candidates
        .iter()
        .filter(|candidate| candidate.revision.is_none())
        .any(|candidate| matching(&candidate))
    {
        return Ok(false);
    }
    Err(match candidates.iter().find(matching) {
        Some(candidate) => format!(
            "put {} was acknowledged at revision {} and stands at {}",
            candidate.put_number,
            candidate.revision.unwrap_or(0),
            now.mod_revision
        ),
        None => format!("revision {} holds {} bytes that no put wrote", now.mod_revision, now.value.len()),
    })
}

/// Acknowledged puts that were replaced must still show at their own revision, unless compacted.
async fn check_history(
    channel: &Channel,
    keys: &BTreeMap<String, Vec<Candidate<'_>>>,
    stored: &BTreeMap<Bytes, Stored>,
    verification: &mut Verification,
) -> Result<()> {
    let replaced = keys.iter().flat_map(|(key, candidates)| {
        let current = stored.get(key.as_bytes()).map_or(0, |now| now.mod_revision);
        let is_replaced = move |revision: &i64| *revision < current;
        candidates
            .iter()
            .filter_map(move |candidate| Some((candidate, candidate.revision.filter(is_replaced)?)))
            .map(move |(candidate, revision)| (key, candidate, revision))
    });
    let checks = replaced.map(|(key, candidate, revision)| async move {
        Ok::<_, Status>((key, revision, look_back(channel, key, candidate, revision).await?))
    });
    let mut checks = stream::iter(checks).buffer_unordered(READS_AT_ONCE);
    while let Some(check) = checks.next().await {
        let (key, revision, trace) = check.context("the history cannot be read")?;
        match trace {
            Trace::Kept => verification.history_checked += 1,
            Trace::Compacted => verification.history_compacted += 1,
            Trace::Lost => {
                verification.add_problem(format!(
                    "{key}: revision {revision} no longer shows the put acknowledged there"
                ));
            }
        }
    }
    Ok(())
}

/// What the history still says of one put.
enum Trace {
    Kept,
    Compacted,
    Lost,
}

async fn look_back(
    channel: &Channel,
    key: &str,
    candidate: &Candidate<'_>,
    revision: i64,
) -> Result<Trace, Status> {
    let request = RangeRequest { key: key.to_owned().into(), revision, ..RangeRequest::default() };
    match client(channel).range(request).await {
        Ok(answer) => {
            let kvs = answer.into_inner().kvs;
            let kept =
                kvs.first().is_some_and(|kv| kv.mod_revision == revision && kv.value == candidate.value());
            Ok(if kept { Trace::Kept } else { Trace::Lost })
        }
        Err(status) if is_compacted(&status) => Ok(Trace::Compacted),
        Err(status) => Err(status),
    }
}

fn is_compacted(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("compacted")
}

/// Every key of a prefix as of one revision.
async fn read_prefix(channel: &Channel, prefix: &str, stored: &mut BTreeMap<Bytes, Stored>) -> Result<()> {
    let mut key = Bytes::copy_from_slice(prefix.as_bytes());
    let range_end = Bytes::from(prefix_end(prefix.as_bytes()));
    let mut revision = 0;
    loop {
        let request = RangeRequest {
            key,
            range_end: range_end.clone(),
            limit: PAGE_COUNT,
            revision,
            ..RangeRequest::default()
        };
        let answer = client(channel).range(request).await.context("the keys cannot be read")?.into_inner();
        if revision == 0 {
            revision = answer.header.context("an answer without a header")?.revision;
        }
        let Some(last) = answer.kvs.last() else { return Ok(()) };
        // The first key after the last one of this page.
        key = [&last.key[..], &[0]].concat().into();
        for kv in answer.kvs {
            stored.insert(kv.key, Stored { value: kv.value, mod_revision: kv.mod_revision });
        }
        if !answer.more {
            return Ok(());
        }
    }
}

fn client(channel: &Channel) -> KvClient<Channel> {
    KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> KeySpace {
        KeySpace { prefix: "b/".into(), key_bytes: 20, value_bytes: 64, key_count: 1, seed: 5 }
    }

    /// Put 0 acknowledged at 10, put 1 at 20, put 2 without an answer.
    fn tried(space: &KeySpace) -> [Candidate<'_>; 3] {
        [Some(10), Some(20), None].map({
            let mut put_number = 0;
            move |revision| {
                put_number += 1;
                Candidate { space, put_number: put_number - 1, revision }
            }
        })
    }

    fn stored(value: Bytes, mod_revision: i64) -> Stored {
        Stored { value, mod_revision }
    }

    #[test]
    fn what_may_be_there_after_a_crash() {
        let space = space();
        let tried = tried(&space);
        assert_eq!(judge(&tried, Some(&stored(space.value(1), 20))), Ok(true));
        assert_eq!(judge(&tried, Some(&stored(space.value(2), 21))), Ok(false));
        assert_eq!(judge(&tried[2..], None), Ok(false));
    }

    #[test]
    fn what_breaks_the_word() {
        let space = space();
        let tried = tried(&space);
        let half: Bytes = [&space.value(2)[..32], &[0; 32]].concat().into();
        for (now, reason) in [
            (None, "is lost"),
            (Some(stored(space.value(0), 10)), "is lost"),
            (Some(stored(half, 21)), "no put wrote"),
            (Some(stored(space.value(2), 20)), "does not hold the value"),
            (Some(stored(space.value(0), 30)), "stands at 30"),
        ] {
            let problem = judge(&tried, now.as_ref()).unwrap_err();
            assert!(problem.contains(reason), "{problem}");
        }
    }
}
