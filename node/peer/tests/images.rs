//! Images in transit: whole, cut and gone on with, beside heartbeats.

mod common;

use bytes::Bytes;
use common::{Node, eventually, heartbeat, next, pair, send};
use quorate_peer::{IMAGE_CHUNK_BYTES_MAX, ImageOffer, ImageSendError, ImageSource};
use quorate_types::{Index, NodeId, Position, Term};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: u64 = 1024 * 1024;

/// Bytes that tell where they stand.
fn byte_at(offset: u64) -> u8 {
    offset.wrapping_mul(0x9e37_79b9).to_le_bytes()[3]
}

/// A file of that length; remembers the offsets it was read at.
#[derive(Clone)]
struct Made {
    bytes: u64,
    fails_at: u64,
    read: Arc<AtomicU64>,
    lowest: Arc<AtomicU64>,
}

impl Made {
    fn new(bytes: u64) -> Made {
        let lowest = Arc::new(AtomicU64::new(u64::MAX));
        Made { bytes, fails_at: u64::MAX, read: Arc::default(), lowest }
    }

    fn offer(&self) -> ImageOffer {
        let position = Position { term: Term(1), index: Index(10) };
        ImageOffer { position, bytes: self.bytes, id: 77 }
    }
}

impl ImageSource for Made {
    async fn read(&mut self, offset: u64, bytes_max: usize) -> io::Result<Bytes> {
        assert!(bytes_max <= IMAGE_CHUNK_BYTES_MAX && offset + bytes_max as u64 <= self.bytes);
        if offset >= self.fails_at {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.lowest.fetch_min(offset, Ordering::Relaxed);
        self.read.store(offset + bytes_max as u64, Ordering::Relaxed);
        Ok((offset..offset + bytes_max as u64).map(byte_at).collect())
    }
}

/// Sends in the background.
fn start(from: &Node, to: NodeId, source: Made) -> tokio::task::JoinHandle<Result<(), ImageSendError>> {
    let peers = from.peers.clone();
    tokio::spawn(async move { peers.send_image(to, source.offer(), source).await })
}

#[tokio::test]
async fn an_image_arrives_whole_and_its_verdict_comes_back() {
    let (a, mut b) = pair().await;
    let source = Made::new(3 * MIB + 17);
    let sending = start(&a, b.id, source.clone());
    let (from, offer, mut intake) = next(&mut b.told.images).await;
    assert_eq!((from, offer), (a.id, source.offer()));
    let mut got = Vec::new();
    while let Some(chunk) = intake.next().await {
        assert!(chunk.len() <= IMAGE_CHUNK_BYTES_MAX);
        got.extend_from_slice(&chunk);
    }
    assert_eq!(got.len() as u64, source.bytes);
    assert!((0..).zip(&got).all(|(offset, &byte)| byte == byte_at(offset)));
    intake.finish(Ok(()));
    sending.await.unwrap().unwrap();
    assert_eq!(a.stats_of(b.id).image, None);
}

#[tokio::test]
async fn an_empty_image_is_an_image() {
    let (a, mut b) = pair().await;
    let sending = start(&a, b.id, Made::new(0));
    let (_, _, mut intake) = next(&mut b.told.images).await;
    assert_eq!(intake.next().await, None);
    intake.finish(Ok(()));
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_receiver_has_is_not_sent_again() {
    let (a, mut b) = pair().await;
    *b.hall.begin.lock().unwrap() = Arc::new(|_| Some(MIB));
    let source = Made::new(2 * MIB);
    let sending = start(&a, b.id, source.clone());
    let (_, _, mut intake) = next(&mut b.told.images).await;
    let mut offset = MIB;
    while let Some(chunk) = intake.next().await {
        assert!((offset..).zip(&chunk).all(|(offset, &byte)| byte == byte_at(offset)));
        offset += chunk.len() as u64;
    }
    assert_eq!(offset, 2 * MIB);
    intake.finish(Ok(()));
    sending.await.unwrap().unwrap();
    assert_eq!(source.lowest.load(Ordering::Relaxed), MIB);
}

#[tokio::test]
async fn a_cut_image_goes_on_where_it_was() {
    let (a, mut b) = pair().await;
    let kept = Arc::new(AtomicU64::new(0));
    let has = Arc::clone(&kept);
    *b.hall.begin.lock().unwrap() = Arc::new(move |_| Some(has.load(Ordering::Relaxed)));
    let source = Made::new(6 * MIB);
    let sending = start(&a, b.id, source.clone());
    // Twice the receiver's hall goes away in the middle, as a process that is killed.
    for upto in [2 * MIB, 4 * MIB] {
        let (_, _, mut intake) = next(&mut b.told.images).await;
        let mut has = kept.load(Ordering::Relaxed);
        while has < upto {
            has += intake.next().await.unwrap().len() as u64;
        }
        kept.store(has, Ordering::Relaxed);
        source.lowest.store(u64::MAX, Ordering::Relaxed);
        drop(intake);
    }
    let (_, _, mut intake) = next(&mut b.told.images).await;
    let mut offset = kept.load(Ordering::Relaxed);
    while let Some(chunk) = intake.next().await {
        assert!((offset..).zip(&chunk).all(|(offset, &byte)| byte == byte_at(offset)));
        offset += chunk.len() as u64;
    }
    assert_eq!(offset, source.bytes);
    intake.finish(Ok(()));
    sending.await.unwrap().unwrap();
    assert!(source.lowest.load(Ordering::Relaxed) >= 4 * MIB);
}

#[tokio::test]
async fn a_receiver_that_restarts_gets_the_rest() {
    let (mut a, mut b) = pair().await;
    let source = Made::new(12 * MIB);
    let sending = start(&a, b.id, source.clone());
    let (_, _, mut intake) = next(&mut b.told.images).await;
    let mut has = 0;
    while has < MIB {
        has += intake.next().await.unwrap().len() as u64;
    }
    let (key, address, id) = (b.key.clone(), b.address, b.id);
    let members = common::membership(&[a.member(), b.member()], 1);
    b.peers.close().await;
    drop((b, intake));
    a.until_down(id).await;
    let mut b = Node::restart(2, key, address).await;
    *b.hall.begin.lock().unwrap() = Arc::new(move |_| Some(has));
    b.peers.set_members(&members, Index(1));
    let (_, _, mut intake) = next(&mut b.told.images).await;
    let mut offset = has;
    while let Some(chunk) = intake.next().await {
        offset += chunk.len() as u64;
    }
    assert_eq!(offset, source.bytes);
    intake.finish(Ok(()));
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn each_no_is_told_apart() {
    let (a, mut b) = pair().await;
    let error = start(&a, NodeId(9), Made::new(1)).await.unwrap().unwrap_err();
    assert!(matches!(error, ImageSendError::NotAMember));

    *b.hall.begin.lock().unwrap() = Arc::new(|_| None);
    let error = start(&a, b.id, Made::new(1)).await.unwrap().unwrap_err();
    assert!(matches!(error, ImageSendError::NotWanted), "{error}");

    *b.hall.begin.lock().unwrap() = Arc::new(|_| Some(0));
    let sending = start(&a, b.id, Made::new(1));
    let (_, _, mut intake) = next(&mut b.told.images).await;
    let error = start(&a, b.id, Made::new(1)).await.unwrap().unwrap_err();
    assert!(matches!(error, ImageSendError::Busy), "{error}");
    while intake.next().await.is_some() {}
    intake.finish(Err("its checksum does not fit".repeat(100)));
    let error = sending.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, ImageSendError::Rejected(words) if words.starts_with("its checksum")),
        "{error}"
    );

    let failing = Made { fails_at: 0, ..Made::new(5) };
    let error = start(&a, b.id, failing).await.unwrap().unwrap_err();
    assert!(matches!(error, ImageSendError::Source(_)), "{error}");
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_holds_the_sender_back() {
    let (a, mut b) = pair().await;
    let source = Made::new(64 * MIB);
    let sending = start(&a, b.id, source.clone());
    let (_, _, intake) = next(&mut b.told.images).await;
    // Heartbeats go round often enough for the image to have gone as far as it can.
    let mut before = u64::MAX;
    for round in 0.. {
        send(&a, b.id, heartbeat(round));
        b.message().await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let now = source.read.load(Ordering::Relaxed);
        if now == before && round > 50 {
            break;
        }
        before = now;
    }
    let read = source.read.load(Ordering::Relaxed);
    assert!(read < 8 * MIB, "{read} bytes are somewhere between the files");
    drop(intake);
    sending.abort();
    eventually("the progress ends", || a.stats_of(b.id).image.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_get_through_while_an_image_is_sent() {
    let (a, mut b) = pair().await;
    let source = Made::new(64 * MIB);
    let sending = start(&a, b.id, source.clone());
    let (_, _, mut intake) = next(&mut b.told.images).await;
    let received = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&received);
    let taking = tokio::spawn(async move {
        while let Some(chunk) = intake.next().await {
            counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        intake.finish(Ok(()));
    });
    // Each must come back before the next goes out: one lost or stuck heartbeat and this never ends.
    let mut rounds = 0;
    while !sending.is_finished() {
        send(&a, b.id, heartbeat(rounds));
        assert_eq!(b.message().await.1, heartbeat(rounds));
        rounds += 1;
        let stats = a.stats_of(b.id);
        assert!(stats.queued_count <= 1 && stats.queued_bytes == 0);
        if let Some(image) = stats.image {
            assert!(image.sent_bytes <= image.total_bytes);
            let between = source.read.load(Ordering::Relaxed) - received.load(Ordering::Relaxed);
            assert!(between <= 8 * MIB, "{between} bytes are held in memory");
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    sending.await.unwrap().unwrap();
    taking.await.unwrap();
    assert_eq!(received.load(Ordering::Relaxed), 64 * MIB);
    assert!(rounds > 20, "{rounds} rounds in an image that takes two seconds at its rate");
}
