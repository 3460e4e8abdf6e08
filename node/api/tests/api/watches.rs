//! Watch.

use crate::node::{Served, put};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::watch_client::WatchClient;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_store::{Command, DeleteRange, KeyRange, Put, Txn, TxnOperation};
use quorate_types::Revision;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// A watch stream with both its ends.
struct Watching {
    wishes: mpsc::Sender<pb::WatchRequest>,
    told: Streaming<pb::WatchResponse>,
}

impl Watching {
    async fn open(served: &Served) -> Watching {
        Watching::open_on(served.channel().await, false).await.unwrap()
    }

    async fn open_on(channel: Channel, wants_leader: bool) -> Result<Watching, Status> {
        let (wishes, receiver) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if wants_leader {
            request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        }
        let told = WatchClient::new(channel)
            .max_decoding_message_size(usize::MAX)
            .watch(request)
            .await?
            .into_inner();
        Ok(Watching { wishes, told })
    }

    async fn ask(&self, union: RequestUnion) {
        self.wishes.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(create)).await;
        self.next().await
    }

    async fn next(&mut self) -> pb::WatchResponse {
        self.told.message().await.unwrap().expect("the stream goes on")
    }
}

fn prefix(key: &str, end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    }
}

fn revision(response: &pb::WatchResponse) -> i64 {
    response.header.as_ref().unwrap().revision
}

#[tokio::test]
async fn created_then_events_then_canceled() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    let mut watching = Watching::open(&served).await;
    let created = watching.create(pb::WatchCreateRequest { prev_kv: true, ..prefix("a", "b") }).await;
    assert_eq!(
        (created.created, created.canceled, created.watch_id, revision(&created)),
        (true, false, 0, 1)
    );
    let second = watching.create(prefix("z", "")).await;
    assert_eq!(second.watch_id, 1);
    keys.put(put("a1", "1")).await.unwrap();
    keys.put(put("a1", "2")).await.unwrap();
    let delete = pb::DeleteRangeRequest { key: "a1".into(), ..Default::default() };
    keys.delete_range(delete).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        let response = watching.next().await;
        assert_eq!(response.watch_id, 0);
        told.extend(response.events);
    }
    let kinds: Vec<_> = told.iter().map(|event| event.r#type).collect();
    assert_eq!(kinds, [0, 0, 1]);
    assert_eq!(told[0].prev_kv, None);
    assert_eq!(told[1].prev_kv.as_ref().unwrap().value, "1");
    let gone = told[2].kv.as_ref().unwrap();
    assert_eq!((gone.mod_revision, gone.create_revision, gone.version, gone.value.len()), (4, 0, 0, 0));
    assert_eq!(told[2].prev_kv.as_ref().unwrap().value, "2");
    // An unknown id is not answered; the next answer is that of the known one.
    watching.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 77 })).await;
    watching.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 1 })).await;
    let canceled = watching.next().await;
    assert_eq!((canceled.canceled, canceled.created, canceled.watch_id), (true, false, 1));
    assert_eq!((canceled.cancel_reason.as_str(), canceled.compact_revision), ("", 0));
}

#[tokio::test]
async fn refused_watchers_are_created_and_canceled_at_once() {
    let served = Served::start().await;
    let mut watching = Watching::open(&served).await;
    let own = |id| pb::WatchCreateRequest { watch_id: id, ..prefix("a", "b") };
    assert_eq!(watching.create(own(9)).await.watch_id, 9);
    let table = [
        (own(9), "mvcc: duplicate watch ID provided on the WatchStream"),
        (prefix("b", "a"), "mvcc: watcher range is empty"),
        (
            pb::WatchCreateRequest { start_revision: -1, ..prefix("a", "") },
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ];
    for (create, reason) in table {
        let refused = watching.create(create).await;
        assert_eq!((refused.created, refused.canceled, refused.watch_id), (true, true, -1));
        assert_eq!(refused.cancel_reason, reason);
    }
    assert_eq!(watching.create(prefix("a", "")).await.watch_id, 0);
}

#[tokio::test]
async fn a_compacted_start_is_created_then_canceled() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    for _ in 0..5 {
        keys.put(put("a", "1")).await.unwrap();
    }
    keys.compact(pb::CompactionRequest { revision: 4, physical: true }).await.unwrap();
    let mut watching = Watching::open(&served).await;
    let created = watching.create(pb::WatchCreateRequest { start_revision: 3, ..prefix("a", "") }).await;
    assert_eq!((created.created, created.canceled, created.watch_id), (true, false, 0));
    let canceled = watching.next().await;
    assert_eq!((canceled.created, canceled.canceled, canceled.compact_revision), (false, true, 4));
    assert_eq!((canceled.cancel_reason.as_str(), revision(&canceled)), ("", 0));
    // From the compacted revision itself on, all is there.
    watching.create(pb::WatchCreateRequest { start_revision: 4, ..prefix("a", "") }).await;
    let mut revisions = Vec::new();
    while revisions.len() < 3 {
        let events = watching.next().await.events;
        revisions.extend(events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
    }
    assert_eq!(revisions, [4, 5, 6]);
}

#[tokio::test]
async fn filters_and_progress() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    let mut watching = Watching::open(&served).await;
    watching.create(pb::WatchCreateRequest { filters: vec![0], ..prefix("", "\0") }).await;
    keys.put(put("a", "1")).await.unwrap();
    keys.delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    let told = watching.next().await;
    assert_eq!(told.events.len(), 1);
    assert_eq!(told.events[0].r#type, 1);
    watching.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, progress.events.len(), revision(&progress)), (-1, 0, 3));
    assert!(!progress.created && !progress.canceled);
}

/// One revision larger than any message: `count` keys of a megabyte, deleted at once with `prev_kv`.
fn delete_megabytes(served: &Served, count: usize) {
    let mut state = served.node.state();
    for number in 0..count {
        let key = format!("m{number}").into_bytes();
        state.store_command(&Command::Put(Put { key, value: vec![7; 1_000_000], ..Default::default() }));
    }
    let range = KeyRange::from_wire(b"m".to_vec(), b"n".to_vec());
    let delete = TxnOperation::DeleteRange(DeleteRange { range, prev_kv: false });
    state.store_command(&Command::Txn(Txn { success: vec![delete], ..Default::default() }));
}

#[tokio::test]
async fn a_long_revision_is_split_only_where_the_watcher_allows() {
    let served = Served::start().await;
    let mut split = Watching::open(&served).await;
    let wanted = pb::WatchCreateRequest { prev_kv: true, filters: vec![0], ..prefix("m", "n") };
    split.create(pb::WatchCreateRequest { fragment: true, ..wanted.clone() }).await;
    let mut whole = Watching::open(&served).await;
    whole.create(wanted).await;
    delete_megabytes(&served, 5);
    let told = whole.next().await;
    assert_eq!((told.events.len(), told.fragment), (5, false));
    let mut parts = vec![split.next().await];
    while parts.last().unwrap().fragment {
        parts.push(split.next().await);
    }
    let sizes: Vec<_> = parts.iter().map(|part| part.events.len()).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert!(parts.iter().all(|part| revision(part) == revision(&told) && part.watch_id == 0));
    let joined: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
    assert_eq!(joined, told.events);
}

#[tokio::test]
async fn credit_goes_back_as_the_client_reads() {
    let served = Served::start().await;
    let mut watching = Watching::open(&served).await;
    watching.create(prefix("a", "b")).await;
    for number in 0..100 {
        let mut state = served.node.state();
        let key = format!("a{number}").into_bytes();
        state.store_command(&Command::Put(Put { key, value: vec![1; 100_000], ..Default::default() }));
    }
    // Ten megabytes, of which the hub hands out one before it wants credit: all of it only comes if the
    // credit does.
    let mut seen = 0;
    while seen < 100 {
        for event in watching.next().await.events {
            assert_eq!(event.kv.unwrap().mod_revision, seen + 2);
            seen += 1;
        }
    }
    assert!(served.node.state().credit > 8_000_000);
}

#[tokio::test]
async fn a_client_that_has_said_all_is_still_told() {
    let served = Served::start().await;
    let mut watching = Watching::open(&served).await;
    watching.create(prefix("a", "")).await;
    let Watching { wishes, mut told } = watching;
    drop(wishes);
    served.keys().await.put(put("a", "1")).await.unwrap();
    let response = told.message().await.unwrap().expect("half-closing does not end a watch");
    assert_eq!(response.events.len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_watchers() {
    let served = Served::start().await;
    let mut watching = Watching::open(&served).await;
    watching.create(prefix("a", "")).await;
    assert_eq!(served.node.state().hub.stream_count(), 1);
    drop(watching);
    while served.node.state().hub.stream_count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn streams_that_want_a_leader_end_without_one() {
    let served = Served::start().await;
    let channel = served.channel().await;
    let mut wanting = Watching::open_on(channel.clone(), true).await.unwrap();
    wanting.create(prefix("a", "")).await;
    let mut content = Watching::open_on(channel.clone(), false).await.unwrap();
    content.create(prefix("a", "")).await;
    served.node.state().leader = 0;
    let status = wanting.told.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    let refused = Watching::open_on(channel, true).await.err().expect("there is no leader");
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
    served.keys().await.put(put("a", "1")).await.unwrap();
    assert_eq!(content.next().await.events.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watchers_of_one_prefix_are_told_everything_in_order() {
    let served = Served::start().await;
    let channel = served.channel().await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut watching = Watching::open_on(channel.clone(), false).await.unwrap();
        watching.create(prefix("a", "b")).await;
        readers.spawn(async move {
            let mut last = Revision(1);
            while last < Revision(301) {
                for event in watching.next().await.events {
                    assert_eq!(Revision(event.kv.unwrap().mod_revision), last.next());
                    last = last.next();
                }
            }
        });
    }
    let mut keys = served.keys().await;
    for number in 0..300 {
        keys.put(put(&format!("a{number}"), "value")).await.unwrap();
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}
