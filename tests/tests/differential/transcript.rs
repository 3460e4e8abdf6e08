//! One watch stream, and all it was told, by watcher.

use quorate_proto::{etcdserverpb as pb, mvccpb};
use quorate_tests::client::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Longer values are compared by length: they are all of one byte.
const VALUE_BYTES_SHOWN: usize = 64;

/// An open stream. Dropping it ends the call.
pub(crate) struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    told: Arc<Mutex<Transcript>>,
}

#[derive(Default)]
struct Transcript {
    /// Per watcher, in order. Responses that follow each other are merged: how much of history goes into one
    /// is each server's own matter.
    by_id: BTreeMap<i64, Vec<String>>,
    /// Ids in the order of the `created` answers.
    created: Vec<i64>,
    live: BTreeSet<i64>,
    /// Ids of watchers that lost to compaction.
    lost: BTreeSet<i64>,
    /// Highest revision of a progress answer since the last create request was answered: an older one says
    /// nothing of that watcher.
    progress: i64,
    /// What must not be told any more: events below this, by watcher.
    next: BTreeMap<i64, i64>,
    /// Revision of the last event told and whether more of it may follow, by watcher.
    last: BTreeMap<i64, (i64, bool)>,
    situations: BTreeSet<String>,
    failure: Option<String>,
}

impl Stream {
    /// Opens a stream; a strict one fails on answers that break etcd's promises.
    pub(crate) async fn open(client: &Client, strict: bool) -> Stream {
        let (requests, outbound) = mpsc::channel(16);
        let mut watch = client.watch.clone();
        let told = Arc::new(Mutex::new(Transcript::default()));
        let writer = Arc::clone(&told);
        tokio::spawn(async move {
            // The call is answered with the first response, so it is opened beside the first request.
            let mut inbound = watch.watch(ReceiverStream::new(outbound)).await.unwrap().into_inner();
            loop {
                let message = inbound.message().await;
                let mut transcript = writer.lock().unwrap();
                match message {
                    Ok(Some(response)) => transcript.take(response, strict),
                    Ok(None) => return,
                    Err(status) => {
                        transcript.failure = Some(format!("the stream ended: {status}"));
                        return;
                    }
                }
            }
        });
        Stream { requests, told }
    }

    pub(crate) async fn send(&self, request: pb::watch_request::RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    fn with<T>(&self, look: impl FnOnce(&Transcript) -> T) -> T {
        let transcript = self.told.lock().unwrap();
        assert!(transcript.failure.is_none(), "{}", transcript.failure.as_deref().unwrap());
        look(&transcript)
    }

    /// Answers to create requests so far.
    pub(crate) fn created(&self) -> usize {
        self.with(|told| told.created.len())
    }

    pub(crate) fn is_live(&self, id: i64) -> bool {
        self.with(|told| told.live.contains(&id))
    }

    /// Ids of watchers that lost to compaction.
    pub(crate) fn lost(&self) -> BTreeSet<i64> {
        self.with(|told| told.lost.clone())
    }

    pub(crate) fn progress(&self) -> i64 {
        self.with(|told| told.progress)
    }

    pub(crate) fn situations(&self) -> BTreeSet<String> {
        self.with(|told| told.situations.clone())
    }

    /// The first thing told otherwise here than there.
    pub(crate) fn difference(&self, etcd: &Stream) -> Option<String> {
        let other = etcd.with(|told| (told.created.clone(), told.by_id.clone()));
        self.with(|told| {
            if told.created != other.0 {
                return Some(format!("created: node {:?}\netcd {:?}", told.created, other.0));
            }
            let ids: BTreeSet<_> = told.by_id.keys().chain(other.1.keys()).collect();
            ids.into_iter().find_map(|id| {
                let none = Vec::new();
                let (node, etcd) = (told.by_id.get(id).unwrap_or(&none), other.1.get(id).unwrap_or(&none));
                let at = node.iter().zip(etcd).take_while(|(node, etcd)| node == etcd).count();
                let before = &node[at.saturating_sub(3)..at];
                (node != etcd).then(|| {
                    format!(
                        "watcher {id}, after {before:#?}\nnode: {:?} and {} more\netcd: {:?} and {} more",
                        node.get(at),
                        node.len().saturating_sub(at + 1),
                        etcd.get(at),
                        etcd.len().saturating_sub(at + 1),
                    )
                })
            })
        })
    }
}

impl Transcript {
    fn take(&mut self, response: pb::WatchResponse, strict: bool) {
        let id = response.watch_id;
        let revision = response.header.as_ref().unwrap().revision;
        if response.created {
            self.created.push(id);
            self.progress = 0;
        }
        if response.created || response.canceled {
            self.note(
                id,
                format!(
                    "created {} canceled {} compacted {} because {:?} at {revision}",
                    response.created, response.canceled, response.compact_revision, response.cancel_reason
                ),
            );
            self.situations.insert(format!(
                "told: created {} canceled {} compacted {} because {:?}",
                response.created,
                response.canceled,
                response.compact_revision > 0,
                response.cancel_reason
            ));
            if response.canceled {
                self.live.remove(&id);
                if response.compact_revision > 0 {
                    self.lost.insert(id);
                }
            } else {
                self.live.insert(id);
            }
            self.next.remove(&id);
            self.last.remove(&id);
        } else if response.events.is_empty() {
            self.progress = self.progress.max(revision);
            if strict {
                self.next.extend(self.live.iter().map(|id| (*id, revision + 1)));
            }
        }
        if response.fragment {
            self.situations.insert("told: a fragment".into());
        }
        self.take_events(id, revision, &response);
    }

    fn take_events(&mut self, id: i64, revision: i64, response: &pb::WatchResponse) {
        let event_revision = |event: &mvccpb::Event| event.kv.as_ref().unwrap().mod_revision;
        let (Some(first), Some(last)) =
            (response.events.first().map(event_revision), response.events.last().map(event_revision))
        else {
            return;
        };
        if self.next.get(&id).is_some_and(|next| first < *next) {
            self.failure = Some(format!("watcher {id} is told of {first} after progress beyond it"));
        }
        if self.last.get(&id).is_some_and(|(told, more)| first < *told || (first == *told && !more)) {
            self.failure = Some(format!("watcher {id} is told of revision {first} in parts"));
        }
        if last > revision {
            self.failure = Some(format!("watcher {id}: header of {revision} with an event of {last}"));
        }
        self.last.insert(id, (last, response.fragment));
        for event in &response.events {
            let is_delete = event.r#type == 1;
            let line = format!("{} {} before {}", event.r#type, shown(&event.kv), shown(&event.prev_kv));
            self.note(id, line);
            let prev = if event.prev_kv.is_some() { " with prev_kv" } else { "" };
            self.situations.insert(format!("told: {}{prev}", if is_delete { "a delete" } else { "a put" }));
        }
    }

    fn note(&mut self, id: i64, line: String) {
        self.by_id.entry(id).or_default().push(line);
    }
}

fn shown(kv: &Option<mvccpb::KeyValue>) -> String {
    let Some(kv) = kv else { return "nothing".into() };
    let value = if kv.value.len() > VALUE_BYTES_SHOWN {
        format!("{} bytes", kv.value.len())
    } else {
        format!("{:?}", kv.value)
    };
    let (create, modified, version, lease) = (kv.create_revision, kv.mod_revision, kv.version, kv.lease);
    format!("{:?}={value} create {create} mod {modified} version {version} lease {lease}", kv.key)
}
