//! Nothing a client says stops the node.

use crate::node::{Served, put};
use crate::pages::fetch;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Says it, then listens for a moment.
async fn say(served: &Served, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // The other side may hang up in the middle of it: that is its good right.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(timeout(Duration::from_millis(50), stream.read_to_end(&mut answer)).await);
    answer
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut frame = length.to_string().into_bytes();
    frame.clear();
    frame.extend([16, 8, 0].map(|shift| u8::try_from((length >> shift) & 0xff).unwrap()));
    frame.extend([kind, flags]);
    frame.extend([24, 16, 8, 0].map(|shift| u8::try_from((stream >> shift) & 0xff).unwrap()));
    frame.extend_from_slice(payload);
    frame
}

/// A header as HPACK writes one that stands in no table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(u8::try_from(value.len()).unwrap());
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

fn call_head(path: &str, authority: &str) -> Vec<u8> {
    [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":path", path),
        literal(":authority", authority),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat()
}

#[tokio::test]
async fn random_bytes_are_survived() {
    let served = Served::start().await;
    let mut random = SmallRng::seed_from_u64(1);
    for round in 0..60 {
        let mut bytes = vec![0; random.random_range(1..400)];
        random.fill_bytes(&mut bytes);
        let said = match round % 3 {
            0 => bytes,
            1 => [PREFACE, &bytes].concat(),
            _ => {
                let kind = random.random_range(0..12);
                let flags = random.random();
                let stream = random.random_range(0..4);
                [PREFACE, &frame(4, 0, 0, &[]), &frame(kind, flags, stream, &bytes)].concat()
            }
        };
        say(&served, &said).await;
    }
    served.keys().await.put(put("a", "1")).await.unwrap();
    assert_eq!(fetch(served.address, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn garbage_in_the_place_of_messages_is_refused() {
    let served = Served::start().await;
    let mut random = SmallRng::seed_from_u64(2);
    for path in ["/etcdserverpb.KV/Txn", "/etcdserverpb.Watch/Watch", "/etcdserverpb.KV/Put", "/x/y", "/"] {
        for _ in 0..8 {
            let mut message = vec![0; random.random_range(0..200)];
            random.fill_bytes(&mut message);
            let length = u8::try_from(message.len()).unwrap();
            let body = [&[0, 0, 0, 0, length], &message[..]].concat();
            let said = [
                PREFACE,
                &frame(4, 0, 0, &[]),
                &frame(1, 4, 1, &call_head(path, "node:2379")),
                &frame(0, 1, 1, &body),
            ]
            .concat();
            let answer = say(&served, &said).await;
            assert!(!answer.is_empty(), "something is answered to {path}");
        }
    }
    served.keys().await.put(put("a", "1")).await.unwrap();
}
