//! Clients that say anything as their authority are answered.

use crate::garbage::{PREFACE, frame};
use crate::node::{Served, get, put};
use prost::Message;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A client's side of HPACK, as etcd's clients use it: a field that is in the table goes by its index, any
/// other goes into the table.
#[derive(Default)]
struct Encoder {
    table: VecDeque<(String, String)>,
    evicted: usize,
    by_index: usize,
}

impl Encoder {
    fn field(&mut self, name: &str, value: &str) -> Vec<u8> {
        let known = |(one, other): &(String, String)| one == name && other == value;
        if let Some(at) = self.table.iter().position(known) {
            self.by_index += 1;
            return integer(0x80, 0x7f, 62 + at);
        }
        self.table.push_front((name.to_owned(), value.to_owned()));
        while self.table.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() > 4_096 {
            self.table.pop_back();
            self.evicted += 1;
        }
        if name == ":authority" {
            return [vec![0x41], string(value)].concat();
        }
        [vec![0x40], string(name), string(value)].concat()
    }

    /// The head of a put over this authority.
    fn head(&mut self, authority: &str) -> Vec<u8> {
        let path = self.field(":path", "/etcdserverpb.KV/Put");
        let authority = self.field(":authority", authority);
        let kind = self.field("content-type", "application/grpc");
        // POST and http are in everyone's table.
        [vec![0x83, 0x86], path, authority, kind, self.field("te", "trailers")].concat()
    }
}

fn integer(head: u8, prefix: u8, value: usize) -> Vec<u8> {
    let most = usize::from(prefix);
    if value < most {
        return vec![head | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![head | prefix];
    let mut rest = value - most;
    while rest > 0x7f {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// In Huffman code where it is made of `#012`, plain otherwise.
fn string(text: &str) -> Vec<u8> {
    let Some(codes) = text.chars().map(huffman).collect::<Option<Vec<_>>>() else {
        return [integer(0, 0x7f, text.len()), text.as_bytes().to_vec()].concat();
    };
    let bits = codes.iter().flat_map(|(code, bits)| (0..*bits).rev().map(move |at| (code >> at) & 1));
    let mut bits: Vec<u16> = bits.collect();
    bits.resize(bits.len().next_multiple_of(8), 1);
    let byte = |bits: &[u16]| u8::try_from(bits.iter().fold(0, |byte, bit| byte << 1 | bit)).unwrap();
    let bytes: Vec<u8> = bits.chunks(8).map(byte).collect();
    [integer(0x80, 0x7f, bytes.len()), bytes].concat()
}

/// Codes and their bits (RFC 7541, appendix B).
fn huffman(letter: char) -> Option<(u16, u32)> {
    match letter {
        '#' => Some((0xffa, 12)),
        '0' => Some((0, 5)),
        '1' => Some((1, 5)),
        '2' => Some((2, 5)),
        _ => None,
    }
}

/// A call that puts `key`, its head cut into so many frames. The HTTP/2 library takes up to six.
fn call(stream: u32, head: &[u8], frames: usize, key: &str) -> Vec<u8> {
    let mut call = Vec::new();
    let parts: Vec<&[u8]> = head.chunks(head.len().div_ceil(frames)).collect();
    for (at, part) in parts.iter().enumerate() {
        let end_headers = if at + 1 == parts.len() { 4 } else { 0 };
        if at == 0 {
            // Padded, and with a priority.
            let payload = [&[3, 0, 0, 0, 0, 9], *part, &[0; 3]].concat();
            call.extend(frame(1, 0x28 | end_headers, stream, &payload));
        } else {
            call.extend(frame(9, end_headers, stream, part));
        }
    }
    let message = put(key, "1").encode_to_vec();
    let body = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat();
    call.extend(frame(0, 1, stream, &body));
    call
}

/// Says it in pieces, and waits until the streams ended. Panics if one is reset, or all are.
async fn say(served: &Served, said: &[u8], piece: usize, mut streams: BTreeSet<u32>) {
    let stream = TcpStream::connect(served.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let said = said.to_vec();
    let saying = tokio::spawn(async move {
        for piece in said.chunks(piece) {
            writer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        writer
    });
    let hearing = async {
        while !streams.is_empty() {
            let mut head = [0; 9];
            reader.read_exact(&mut head).await.unwrap();
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let stream = head[5..].iter().fold(0, |stream, byte| stream << 8 | u32::from(*byte));
            let mut payload = vec![0; length];
            reader.read_exact(&mut payload).await.unwrap();
            assert!(![3, 7].contains(&head[3]), "stream {stream} is answered: {head:?} {payload:?}");
            if head[3] == 1 && head[4] & 1 != 0 {
                streams.remove(&stream);
            }
        }
    };
    timeout(Duration::from_secs(30), hearing).await.unwrap();
    saying.await.unwrap();
}

async fn is_there(served: &Served, key: &str) -> bool {
    let found = served.keys().await.range(get(key)).await.unwrap();
    found.into_inner().count == 1
}

/// clientv3 3.5.0 sends `#initially=[...]`, etcdctl 3.4 a URL; others have sent worse.
#[tokio::test]
async fn an_authority_that_is_none_is_overlooked() {
    let served = Served::start().await;
    let long = format!("unix:///{}", "x/".repeat(100));
    let authorities =
        ["http://127.0.0.1:1", "#initially=[http://x]", "#0", "a b@:c:1", "http://127.0.0.1:1", &long];
    for piece in [1, 10_000] {
        let mut encoder = Encoder::default();
        let mut said = [PREFACE, &frame(4, 0, 0, &[])].concat();
        let mut streams = BTreeSet::new();
        for (stream, authority) in (1..).step_by(2).zip(authorities) {
            said.extend(call(stream, &encoder.head(authority), 1, &format!("{piece} {stream}")));
            streams.insert(stream);
        }
        assert!(encoder.by_index > 10);
        say(&served, &said, piece, streams.clone()).await;
        for stream in streams {
            assert!(is_there(&served, &format!("{piece} {stream}")).await);
        }
    }
}

/// The authorities stand in the client's table with more octets than in ours. Were an index to mean another
/// field here than there, a put would not arrive as one.
#[tokio::test]
async fn both_sides_agree_on_the_table_while_it_overflows() {
    let served = Served::start().await;
    let mut encoder = Encoder::default();
    let mut said = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let mut streams = BTreeSet::new();
    for call_number in 0..200_u32 {
        let stream = 2 * call_number + 1;
        let length = usize::try_from(20 + call_number / 3 * 7).unwrap();
        let mut head = encoder.head(&format!("#{}", "012".repeat(length)));
        head.extend(encoder.field("x-call", &call_number.to_string().repeat(10)));
        if call_number % 50 == 0 {
            // Into no table; over many frames.
            head.extend([vec![0], string("x-large"), string(&"large".repeat(2_000))].concat());
        }
        let frames = usize::try_from(1 + call_number % 6).unwrap();
        said.extend(call(stream, &head, frames, &format!("call {call_number}")));
        streams.insert(stream);
    }
    assert!(encoder.evicted > 100 && encoder.by_index > 100);
    say(&served, &said, 777, streams).await;
    for call_number in 0..200 {
        assert!(is_there(&served, &format!("call {call_number}")).await, "{call_number}");
    }
}
