//! One informer: lists everything in pages of one revision, watches from there, asks for progress now and then.

use super::{PREFIX, World, ask};
use crate::keys::prefix_end;
use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::watch_client::WatchClient;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_proto::etcdserverpb::{
    RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

const PAGE_COUNT: i64 = 500;
const LIST_EVERY: Duration = Duration::from_secs(30);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Between two tries when a list or a watch fails.
const REST: Duration = Duration::from_secs(1);

pub(super) async fn inform(world: Arc<World>, number: u32) {
    let mut server = usize::try_from(number).unwrap_or(0);
    while !world.is_over() {
        let began = Instant::now();
        let ended = match list(&world, server).await {
            Ok(revision) => {
                world.count(|counts| counts.lists.record(began.elapsed()));
                watch(&world, server, revision).await
            }
            Err(status) => Err(status),
        };
        if let Err(status) = ended {
            world.failed("list or watch", &status);
            server += 1;
            tokio::time::sleep(REST).await;
        }
    }
}

/// All keys at one revision; that revision.
async fn list(world: &World, server: usize) -> Result<i64, Status> {
    let mut client = KvClient::new(world.channel(server)).max_decoding_message_size(usize::MAX);
    let (mut key, mut revision) = (PREFIX.as_bytes().to_vec(), 0);
    loop {
        let range_end = prefix_end(PREFIX.as_bytes()).into();
        let range = RangeRequest {
            key: key.into(),
            range_end,
            limit: PAGE_COUNT,
            revision,
            ..RangeRequest::default()
        };
        let answer = ask(client.range(range)).await?;
        if revision == 0 {
            revision = answer.header.map_or(0, |header| header.revision);
        }
        match answer.kvs.last() {
            Some(last) if answer.more => key = [&last.key[..], &[0]].concat(),
            Some(_) | None => return Ok(revision),
        }
    }
}

/// Watches until it is time to list again, or all is over.
async fn watch(world: &World, server: usize, revision: i64) -> Result<(), Status> {
    let (requests, queue) = unbounded_channel();
    let create = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX.as_bytes()).into(),
        start_revision: revision + 1,
        progress_notify: true,
        ..WatchCreateRequest::default()
    };
    // The stream cannot be closed yet: its other end is here.
    drop(requests.send(request(RequestUnion::CreateRequest(create))));
    let mut client = WatchClient::new(world.channel(server)).max_decoding_message_size(usize::MAX);
    let mut answers = ask(client.watch(UnboundedReceiverStream::new(queue))).await?;
    let mut seen = Seen { revision, asked: None };
    let (until, mut ask_again) = (Instant::now() + LIST_EVERY, Instant::now() + PROGRESS_EVERY);
    while Instant::now() < until && !world.is_over() {
        if seen.asked.is_none() && Instant::now() >= ask_again {
            ask_progress(&requests);
            (seen.asked, ask_again) = (Some(Instant::now()), Instant::now() + PROGRESS_EVERY);
        }
        if let Ok(answer) = timeout(Duration::from_millis(200), next(&mut answers)).await {
            seen.take(world, &answer?);
        }
    }
    Ok(())
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}

fn ask_progress(requests: &UnboundedSender<WatchRequest>) {
    // A stream that has ended shows where its answers are read.
    drop(requests.send(request(RequestUnion::ProgressRequest(WatchProgressRequest {}))));
}

async fn next(answers: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Status> {
    answers.message().await?.ok_or_else(|| Status::unavailable("the watch stream ended"))
}

/// How far one watch has come.
struct Seen {
    revision: i64,
    /// When progress was asked for that has not come yet.
    asked: Option<Instant>,
}

impl Seen {
    fn take(&mut self, world: &World, answer: &WatchResponse) {
        let mut broken = u64::from(answer.canceled);
        // Several events may share a revision, but never with an earlier answer.
        if let Some(first) = answer.events.first().and_then(|event| event.kv.as_ref()) {
            broken += u64::from(first.mod_revision <= self.revision);
        }
        for kv in answer.events.iter().filter_map(|event| event.kv.as_ref()) {
            broken += u64::from(kv.mod_revision < self.revision);
            self.revision = self.revision.max(kv.mod_revision);
        }
        if answer.events.is_empty() && !answer.created && !answer.canceled {
            // Progress: everything up to there has been sent.
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            broken += u64::from(revision < self.revision);
            self.revision = self.revision.max(revision);
            if let Some(asked) = self.asked.take() {
                world.count(|counts| counts.progress.record(asked.elapsed()));
            }
        }
        world.count(|counts| {
            counts.watches_broken += broken;
            counts.events += u64::try_from(answer.events.len()).unwrap_or(u64::MAX);
        });
    }
}
