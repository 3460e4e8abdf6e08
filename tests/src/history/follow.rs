//! Watches as clients hold them over a failure: on one member, and again from the next revision when a stream ends.
//! Each has to see every change of the load once, in order.

use super::worker::{PREFIX, key_of, value_of};
use super::{History, Outcome};
use crate::client::Client;
use crate::linear::{Key, Value};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb::event::EventType;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// The last change of a trial; watches end with it.
pub const SENTINEL: &str = "h/end";

const REST_AFTER_ERROR: Duration = Duration::from_millis(50);

/// One change, by its revision: the key, and its value unless it was deleted.
pub type Changes = BTreeMap<i64, (Key, Option<Value>)>;

/// A watch of all keys of a load through one member.
#[derive(Debug)]
pub struct Follower {
    endpoint: String,
    has_leader: bool,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    changes: Changes,
    /// Streams opened, so that a test knows whether a failure reached this one.
    streams: u64,
    has_ended: bool,
    /// What should never have come.
    violation: Option<String>,
}

impl Follower {
    /// Begins at the first revision of all; `has_leader` asks to be told when there is none.
    #[must_use]
    pub fn start(endpoint: &str, has_leader: bool) -> Follower {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(follow(endpoint.to_owned(), has_leader, Arc::clone(&seen)));
        Follower { endpoint: endpoint.to_owned(), has_leader, seen, task }
    }

    /// Where it watches.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether it asked to be told when there is no leader.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.has_leader
    }

    /// Streams opened so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.seen.lock().expect("nobody panics with it").streams
    }

    /// Waits until the last change was seen, and gives all before it.
    ///
    /// # Panics
    /// If it is not seen, or a change came twice, out of order, or under an older header.
    pub async fn end(self) -> Changes {
        let began = Instant::now();
        loop {
            {
                let seen = self.seen.lock().expect("nobody panics with it");
                if let Some(violation) = &seen.violation {
                    panic!("the watch on {}: {violation}", self.endpoint);
                }
                if seen.has_ended {
                    self.task.abort();
                    return seen.changes.clone();
                }
                let last = seen.changes.keys().next_back();
                assert!(
                    began.elapsed() < crate::cluster::LIMIT,
                    "the watch on {} does not end: it is at {last:?}",
                    self.endpoint
                );
            }
            tokio::time::sleep(crate::process::POLL).await;
        }
    }
}

async fn follow(endpoint: String, has_leader: bool, seen: Arc<Mutex<Seen>>) {
    let client = Client::lazy(&endpoint).expect("a URL");
    loop {
        // However a stream ends, the next one goes on behind the last revision seen.
        follow_stream(&client, has_leader, &seen).await.ok();
        if seen.lock().expect("nobody panics with it").violation.is_some() {
            return;
        }
        tokio::time::sleep(REST_AFTER_ERROR).await;
    }
}

async fn follow_stream(client: &Client, has_leader: bool, seen: &Mutex<Seen>) -> Result<(), tonic::Status> {
    let next = {
        let mut seen = seen.lock().expect("nobody panics with it");
        seen.streams += 1;
        seen.changes.keys().next_back().map_or(1, |last| last + 1)
    };
    let create = pb::WatchCreateRequest {
        key: PREFIX.into(),
        range_end: "h0".into(),
        start_revision: next,
        ..Default::default()
    };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    let (requests, outgoing) = mpsc::channel(1);
    requests.send(pb::WatchRequest { request_union: Some(union) }).await.expect("room for one");
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    if has_leader {
        request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    }
    let mut answers = client.watch.clone().watch(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let mut seen = seen.lock().expect("nobody panics with it");
        if let Err(violation) = take(&mut seen, answer, next) {
            seen.violation = Some(violation);
            return Ok(());
        }
    }
    Ok(())
}

fn take(seen: &mut Seen, answer: pb::WatchResponse, asked: i64) -> Result<(), String> {
    if answer.canceled {
        return Err(format!(
            "canceled: {:?}, compacted at {}",
            answer.cancel_reason, answer.compact_revision
        ));
    }
    let told = crate::client::revision(answer.header);
    for event in answer.events {
        // What was unknown may still happen, behind the end.
        if seen.has_ended {
            return Ok(());
        }
        let is_delete = event.r#type() == EventType::Delete;
        let kv = event.kv.ok_or("an event without its key")?;
        let at = kv.mod_revision;
        let last = seen.changes.keys().next_back().copied().unwrap_or(0);
        // Each operation of a load changes one key, so each revision is one event.
        if at <= last || at < asked {
            return Err(format!("revision {at} after {last}, asked from {asked}"));
        }
        if told < at {
            return Err(format!("revision {at} under a header of {told}"));
        }
        if kv.key == SENTINEL {
            seen.has_ended = true;
            return Ok(());
        }
        let key = key_of(&kv.key).ok_or("a key of nobody's")?;
        seen.changes.insert(at, (key, (!is_delete).then(|| value_of(&kv.value))));
    }
    Ok(())
}

impl History {
    /// Judges what a watch saw: every acknowledged write at its revision, nothing that was refused, nothing twice.
    ///
    /// # Panics
    /// If not so.
    pub fn check_changes(&self, changes: &Changes) {
        let mut by_value = BTreeMap::new();
        for (&revision, &(key, value)) in changes {
            let Some(value) = value else { continue };
            let other = by_value.insert((key, value), revision);
            assert_eq!(other, None, "value {value} of key {key} was written at {revision}, too");
        }
        for operation in self.operations() {
            let revision = operation.written_at();
            if let Some(value) = operation.writes() {
                let seen = by_value.remove(&(operation.key, value));
                match (operation.outcome, revision) {
                    (Outcome::Done { .. }, Some(revision)) => {
                        assert_eq!(seen, Some(revision), "the watch about {operation}");
                    }
                    (Outcome::Done { .. } | Outcome::Refused, _) => {
                        assert_eq!(seen, None, "the watch about {operation}");
                    }
                    (Outcome::Unknown, _) => {}
                }
            } else if let Some(revision) = revision {
                assert_eq!(changes.get(&revision), Some(&(operation.key, None)), "about {operation}");
            }
        }
        assert!(by_value.is_empty(), "written by nobody: {by_value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::mvccpb::{Event, KeyValue};

    fn answer(header: i64, puts: &[(&str, i64)]) -> pb::WatchResponse {
        let event = |&(key, mod_revision): &(&str, i64)| Event {
            kv: Some(KeyValue {
                key: key.to_owned().into(),
                value: "7".into(),
                mod_revision,
                ..Default::default()
            }),
            ..Default::default()
        };
        pb::WatchResponse {
            header: Some(pb::ResponseHeader { revision: header, ..Default::default() }),
            events: puts.iter().map(event).collect(),
            ..Default::default()
        }
    }

    /// What a follower says to these answers on one stream that asked from `asked` on.
    fn follow_all(asked: i64, answers: Vec<pb::WatchResponse>) -> Result<Seen, String> {
        let mut seen = Seen::default();
        for answer in answers {
            take(&mut seen, answer, asked)?;
        }
        Ok(seen)
    }

    #[test]
    fn order_is_demanded_and_nothing_twice() {
        let seen = follow_all(1, vec![answer(3, &[("h/1", 2), ("h/2", 3)]), answer(9, &[("h/1", 7)])]);
        assert_eq!(seen.unwrap().changes.len(), 3);
        assert!(follow_all(1, vec![answer(3, &[("h/1", 2)]), answer(3, &[("h/1", 2)])]).is_err());
        assert!(follow_all(1, vec![answer(3, &[("h/1", 3)]), answer(3, &[("h/1", 2)])]).is_err());
        assert!(follow_all(5, vec![answer(5, &[("h/1", 4)])]).is_err(), "before what was asked for");
        assert!(follow_all(1, vec![answer(2, &[("h/1", 3)])]).is_err(), "newer than its header");
        let canceled = pb::WatchResponse { canceled: true, ..Default::default() };
        assert!(follow_all(1, vec![canceled]).is_err());
        let ended = follow_all(1, vec![answer(4, &[("h/1", 2), ("h/end", 4)]), answer(5, &[("h/1", 5)])]);
        let ended = ended.unwrap();
        assert!(ended.has_ended && ended.changes.len() == 1);
    }
}
