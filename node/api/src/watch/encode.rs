//! Watch answers as bytes. A run of events is encoded once, straight from the store's bytes, however
//! many watchers get it; what differs between them (header, id, flags) stands before it in the message.

use super::{Bytes, VecDeque, pb};
use bytes::{BufMut, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, int64, key_len};
use quorate_store::{Event, EventKind, KeyValue};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// One WatchResponse on its way out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WatchFrame {
    /// Everything but events. `events` is the message's last field, so what follows are its bytes.
    pub(super) head: pb::WatchResponse,
    /// The encoded events, each with its field key.
    pub(super) events: Bytes,
}

impl WatchFrame {
    /// A response without events.
    pub(super) fn bare(head: pb::WatchResponse) -> WatchFrame {
        WatchFrame { head, events: Bytes::new() }
    }

    pub(super) fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.events.len()
    }
}

/// Splits a response as etcd does: each part stays below the limit unless one event alone is larger,
/// and all but the last say that more follows.
pub(super) fn fragments(frame: WatchFrame, events: &[Event], bytes_max: usize) -> VecDeque<WatchFrame> {
    let WatchFrame { head, events: mut run } = frame;
    let more = pb::WatchResponse { fragment: true, ..head.clone() };
    let head_bytes = more.encoded_len();
    let mut parts = VecDeque::new();
    let mut part_bytes = 0;
    for event in events {
        let bytes = event_field_len(event);
        if part_bytes > 0 && head_bytes + part_bytes + bytes >= bytes_max {
            parts.push_back(WatchFrame { head: more.clone(), events: run.split_to(part_bytes) });
            part_bytes = 0;
        }
        part_bytes += bytes;
    }
    parts.push_back(WatchFrame { head, events: run });
    parts
}

/// The last runs of events encoded for more than one watcher.
///
/// Watchers of one prefix share a run; they fetch it one after the other while the connections are
/// served. The place of a run is given up once the last of them has it.
#[derive(Debug, Default)]
pub(super) struct RunCache {
    runs: Mutex<VecDeque<(Arc<Vec<Event>>, Bytes)>>,
}

impl RunCache {
    /// The run's bytes.
    pub(super) fn encoded(&self, events: &Arc<Vec<Event>>) -> Bytes {
        if Arc::strong_count(events) == 1 {
            return encode_run(events);
        }
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = runs.iter().position(|(cached, _)| Arc::ptr_eq(cached, events)) {
            let last = Arc::strong_count(events) == 2;
            let bytes = runs[at].1.clone();
            if last {
                runs.remove(at);
            }
            return bytes;
        }
        let bytes = encode_run(events);
        if bytes.len() <= CACHED_RUN_BYTES_MAX {
            // Runs nobody waits for any more: their last watcher left without fetching them.
            runs.retain(|(cached, _)| Arc::strong_count(cached) > 1);
            if runs.len() == CACHED_RUN_COUNT_MAX {
                runs.pop_front();
            }
            runs.push_back((Arc::clone(events), bytes.clone()));
        }
        bytes
    }
}

/// Runs kept: as many as a busy store makes between two turns of a connection. With the bytes below at
/// most 2 MiB, and next to nothing while nobody lags.
const CACHED_RUN_COUNT_MAX: usize = 32;

/// A longer run is encoded anew for each watcher: copying its values is what costs, either way.
const CACHED_RUN_BYTES_MAX: usize = 64 * 1024;

fn encode_run(events: &[Event]) -> Bytes {
    let mut run = BytesMut::with_capacity(events.iter().map(event_field_len).sum());
    for event in events {
        encode_key(EVENTS_TAG, WireType::LengthDelimited, &mut run);
        put_length(event_len(event), &mut run);
        if event.kind == EventKind::Delete {
            encode_key(1, WireType::Varint, &mut run);
            encode_varint(1, &mut run);
        }
        put_key_value(2, &event.kv, &mut run);
        if let Some(kv) = &event.prev_kv {
            put_key_value(3, kv, &mut run);
        }
    }
    run.freeze()
}

/// Field number of `WatchResponse.events`.
const EVENTS_TAG: u32 = 11;

fn event_field_len(event: &Event) -> usize {
    delimited_len(EVENTS_TAG, event_len(event))
}

fn event_len(event: &Event) -> usize {
    let kind = if event.kind == EventKind::Delete { key_len(1) + 1 } else { 0 };
    let prev_kv = event.prev_kv.as_ref().map_or(0, |kv| delimited_len(3, key_value_len(kv)));
    kind + delimited_len(2, key_value_len(&event.kv)) + prev_kv
}

fn key_value_len(kv: &KeyValue) -> usize {
    let bytes = |tag, bytes: &[u8]| if bytes.is_empty() { 0 } else { delimited_len(tag, bytes.len()) };
    let number = |tag, number| if number == 0 { 0 } else { int64::encoded_len(tag, &number) };
    bytes(1, &kv.key)
        + number(2, kv.create_revision)
        + number(3, kv.mod_revision)
        + number(4, kv.version)
        + bytes(5, &kv.value)
        + number(6, kv.lease.0)
}

fn put_key_value(tag: u32, kv: &KeyValue, run: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, run);
    put_length(key_value_len(kv), run);
    put_bytes(1, &kv.key, run);
    put_number(2, kv.create_revision, run);
    put_number(3, kv.mod_revision, run);
    put_number(4, kv.version, run);
    put_bytes(5, &kv.value, run);
    put_number(6, kv.lease.0, run);
}

fn put_bytes(tag: u32, bytes: &[u8], run: &mut BytesMut) {
    if !bytes.is_empty() {
        encode_key(tag, WireType::LengthDelimited, run);
        put_length(bytes.len(), run);
        run.put_slice(bytes);
    }
}

fn put_number(tag: u32, number: i64, run: &mut BytesMut) {
    if number != 0 {
        int64::encode(tag, &number, run);
    }
}

fn put_length(length: usize, run: &mut BytesMut) {
    encode_varint(length as u64, run);
}

fn delimited_len(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

/// Requests by prost, responses as they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct WatchCodec;

impl Codec for WatchCodec {
    type Encode = WatchFrame;
    type Decode = pb::WatchRequest;
    type Encoder = WatchCodec;
    type Decoder = WatchCodec;

    fn encoder(&mut self) -> WatchCodec {
        WatchCodec
    }

    fn decoder(&mut self) -> WatchCodec {
        WatchCodec
    }
}

impl Encoder for WatchCodec {
    type Item = WatchFrame;
    type Error = Status;

    fn encode(&mut self, frame: WatchFrame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(frame.encoded_len());
        frame.head.encode_raw(buffer);
        buffer.put_slice(&frame.events);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(STREAM_BUFFER_BYTES, STREAM_YIELD_BYTES)
    }
}

impl Decoder for WatchCodec {
    type Item = pb::WatchRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<pb::WatchRequest>, Status> {
        pb::WatchRequest::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(STREAM_BUFFER_BYTES, STREAM_YIELD_BYTES)
    }
}

/// First size of a stream's buffers; they grow as needed. Most of a node's streams are idle watches, and
/// the library's 8 KiB each way would be most of what they cost.
const STREAM_BUFFER_BYTES: usize = 1_024;

/// Responses are gathered up to this many bytes before the connection gets them.
const STREAM_YIELD_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::{RunCache, WatchFrame, encode_run, fragments};
    use crate::convert;
    use prost::Message;
    use quorate_proto::{etcdserverpb as pb, mvccpb};
    use quorate_store::{Event, EventKind, KeyValue};
    use quorate_types::LeaseId;
    use std::sync::Arc;

    /// A change as prost would be told it.
    fn event(event: &Event) -> mvccpb::Event {
        let kind = match event.kind {
            EventKind::Put => mvccpb::event::EventType::Put,
            EventKind::Delete => mvccpb::event::EventType::Delete,
        };
        mvccpb::Event {
            r#type: kind.into(),
            kv: Some(convert::key_value(event.kv.clone())),
            prev_kv: event.prev_kv.clone().map(convert::key_value),
        }
    }

    fn key_value(key: &str, value: &[u8], revision: i64) -> KeyValue {
        KeyValue {
            key: key.as_bytes().into(),
            value: value.into(),
            create_revision: revision / 2,
            mod_revision: revision,
            version: revision % 3,
            lease: LeaseId(if revision % 2 == 0 { -7 } else { 0 }),
        }
    }

    fn events() -> Vec<Event> {
        let put = |revision, prev_kv| Event {
            kind: EventKind::Put,
            kv: key_value("a", &vec![9; usize::try_from(revision).unwrap()], revision),
            prev_kv,
        };
        let gone = KeyValue {
            value: quorate_store::Value::default(),
            create_revision: 0,
            ..key_value("b", b"", 300)
        };
        vec![
            put(2, None),
            put(300, Some(key_value("a", b"", 2))),
            Event { kind: EventKind::Delete, kv: gone, prev_kv: Some(key_value("b", &[0; 200], 299)) },
        ]
    }

    fn head() -> pb::WatchResponse {
        let header = pb::ResponseHeader { cluster_id: 1, member_id: u64::MAX, revision: 300, raft_term: 2 };
        pb::WatchResponse { header: Some(header), watch_id: 5, ..Default::default() }
    }

    fn decoded(frame: &WatchFrame) -> pb::WatchResponse {
        let mut bytes = frame.head.encode_to_vec();
        bytes.extend_from_slice(&frame.events);
        assert_eq!(bytes.len(), frame.encoded_len());
        pb::WatchResponse::decode(bytes.as_slice()).unwrap()
    }

    #[test]
    fn a_frame_is_the_message_prost_would_make() {
        let frame = WatchFrame { head: head(), events: encode_run(&events()) };
        let message = pb::WatchResponse { events: events().iter().map(event).collect(), ..head() };
        let mut bytes = frame.head.encode_to_vec();
        bytes.extend_from_slice(&frame.events);
        assert_eq!(bytes, message.encode_to_vec());
    }

    #[test]
    fn fragments_hold_every_event_in_order_below_the_limit() {
        let events: Vec<Event> = (1..50).flat_map(|_| events()).collect();
        let whole = WatchFrame { head: head(), events: encode_run(&events) };
        let parts = fragments(whole.clone(), &events, 2_000);
        assert!(parts.len() > 10);
        let flags: Vec<bool> = parts.iter().map(|part| part.head.fragment).collect();
        assert!(flags[..flags.len() - 1].iter().all(|more| *more) && !flags[flags.len() - 1]);
        assert!(parts.iter().all(|part| part.encoded_len() < 2_000));
        let joined: Vec<_> = parts.iter().flat_map(|part| decoded(part).events).collect();
        assert_eq!(joined, decoded(&whole).events);
    }

    #[test]
    fn an_event_above_the_limit_stands_alone() {
        let events = events();
        let whole = WatchFrame { head: head(), events: encode_run(&events) };
        let parts = fragments(whole, &events, 10);
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|part| decoded(part).events.len() == 1));
    }

    #[test]
    fn a_shared_run_is_encoded_once_and_let_go_by_its_last_watcher() {
        let cache = RunCache::default();
        let first = Arc::new(events());
        let second = Arc::clone(&first);
        let bytes = cache.encoded(&first);
        assert_eq!(Arc::strong_count(&first), 3, "the cache keeps it for the second watcher");
        drop(first);
        let again = cache.encoded(&second);
        assert_eq!(bytes.as_ptr(), again.as_ptr());
        assert_eq!(Arc::strong_count(&second), 1, "nobody else wants it");
    }
}
