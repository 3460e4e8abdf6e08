//! Images between nodes, file to file: a received one is written, checked, loaded beside the running state and
//! handed to the driver; a sent one is read as the link takes it. Memory: a few chunks either way.

use crate::disk_health::DiskHealth;
use crate::inbox::{Inbound, Inbox, Installed};
use crate::metrics::Written;
use crate::pace::{Pace, Work};
use bytes::Bytes;
use quorate_peer::{ImageIntake, ImageOffer, ImageSink};
use quorate_store::ImageLoader;
use quorate_types::{Identity, NodeId};
use quorate_wal::{Disk, DiskErrorKind, ImageName, ImageReceiver, ImageSource, WalError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Takes images from peers, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct ImageReceiving<D: Disk>(Arc<Inner<D>>);

struct Inner<D: Disk> {
    disk: D,
    identity: Identity,
    /// Images counted by this node.
    number: Arc<AtomicU64>,
    inbox: Inbox,
    /// What the log's syncs say: whether anybody waits for the card.
    health: Arc<DiskHealth>,
    written: Written,
    is_busy: AtomicBool,
}

impl<D: Disk + Sync> ImageReceiving<D> {
    /// Into that folder, for that node.
    #[must_use]
    pub fn new(
        disk: D,
        identity: Identity,
        number: Arc<AtomicU64>,
        inbox: Inbox,
        health: Arc<DiskHealth>,
        written: Written,
    ) -> ImageReceiving<D> {
        let is_busy = AtomicBool::new(false);
        ImageReceiving(Arc::new(Inner { disk, identity, number, inbox, health, written, is_busy }))
    }

    /// A peer offers one. None while another is on its way, or if the card refuses.
    pub async fn begin(&self, from: NodeId, offer: ImageOffer) -> Option<ImageSink> {
        let turn = Turn::of(&self.0)?;
        let inner = Arc::clone(&self.0);
        // What an earlier connection left is read and checked first: on a thread that may wait for the card.
        let begun = tokio::task::spawn_blocking(move || {
            let name = ImageName {
                position: offer.position,
                bytes: offer.bytes,
                checksum: u32::try_from(offer.id).ok()?,
            };
            match ImageReceiver::open(inner.disk.clone(), name, inner.identity) {
                Ok(receiver) => Some((receiver, turn)),
                Err(error) => {
                    tracing::warn!(%error, %from, "an image of a peer cannot be taken");
                    None
                }
            }
        });
        let (receiver, turn) = begun.await.ok().flatten()?;
        tracing::info!(%from, position = %offer.position, bytes = offer.bytes, offset = receiver.offset(), "image comes");
        let (sink, intake) = ImageSink::open(receiver.offset());
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            quorate_board::set_io_priority(quorate_board::IoPriority::Background);
            inner.receive(receiver, intake);
            drop(turn);
        });
        Some(sink)
    }
}

/// The right to take an image: one at a time. It goes with whoever works on it, and comes back however that
/// ends: a link that breaks drops the task that waits, not the thread that reads.
struct Turn<D: Disk>(Arc<Inner<D>>);

impl<D: Disk> Turn<D> {
    fn of(inner: &Arc<Inner<D>>) -> Option<Turn<D>> {
        let is_free = !inner.is_busy.swap(true, Ordering::AcqRel);
        is_free.then(|| Turn(Arc::clone(inner)))
    }
}

impl<D: Disk> Drop for Turn<D> {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Release);
    }
}

impl<D: Disk> Inner<D> {
    fn receive(&self, mut receiver: ImageReceiver<D>, mut intake: ImageIntake) {
        let total = receiver.name().bytes;
        if let Err(error) = write_all(&mut receiver, &mut intake, &self.health, &self.written) {
            tracing::warn!(%error, "an image of a peer could not be written");
            if matches!(&error, WalError::Disk(disk) if disk.kind == DiskErrorKind::NoSpace) {
                // What stands of it may be the room the log needs.
                receiver.abandon();
            }
            return intake.finish(Err(error.to_string()));
        }
        if receiver.offset() < total {
            tracing::info!(
                offset = receiver.offset(),
                total,
                "the image was cut; the next try goes on from here"
            );
            return;
        }
        let taken = take_whole(receiver, &self.number);
        let verdict = taken.map(|installed| {
            // A driver that has ended needs no state.
            let _is_heard: bool = self.inbox.deliver(Inbound::ImageInstalled(Box::new(installed)));
        });
        if let Err(words) = &verdict {
            tracing::warn!(words, "an image of a peer was not taken");
        }
        intake.finish(verdict);
    }
}

/// A whole image becomes what a start begins from: loaded while it is read back, and only then let count, for an
/// image that does not load must never be the newest. `number` counts this node's images.
///
/// # Errors
/// In words: what the card says, or that the bytes are not what was announced.
pub fn take_whole<D: Disk>(mut receiver: ImageReceiver<D>, number: &AtomicU64) -> Result<Installed, String> {
    let say = |error: WalError| error.to_string();
    let mut read = receiver.read_back().map_err(say)?;
    let mut loader = ImageLoader::new();
    let loaded = loop {
        match read.next_block().map_err(say)? {
            Some(block) => {
                if let Err(error) = loader.push(block) {
                    break Err(error);
                }
            }
            None => break loader.finish(),
        }
    };
    let store = match loaded {
        Ok(store) => store,
        Err(error) => {
            receiver.abandon();
            return Err(format!("the image does not load: {error}. Does a newer release lead this cluster?"));
        }
    };
    let (mut head, bytes) = receiver.install(read).map_err(say)?;
    head.number = 1 + number.fetch_add(1, Ordering::Relaxed);
    Ok(Installed { head, store, bytes })
}

fn write_all<D: Disk>(
    receiver: &mut ImageReceiver<D>,
    intake: &mut ImageIntake,
    health: &DiskHealth,
    written: &Written,
) -> Result<(), WalError> {
    let mut pace = Pace::start(Work::Received);
    while let Some(bytes) = intake.next_blocking() {
        receiver.write(&bytes)?;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        written.received_images.inc_by(count);
        if pace.is_piece_full(count) {
            receiver.sync_so_far()?;
            written.syncs.inc();
            pace.rest(health);
        }
    }
    Ok(())
}

/// The newest image, read for a peer.
pub struct ImageSending<D: Disk>(Option<ImageSource<D::File>>);

impl<D: Disk> ImageSending<D> {
    /// Opens it; what it offers, and where its bytes come from.
    ///
    /// # Errors
    /// In words: there is none, or the card refuses.
    pub async fn newest(disk: &D) -> Result<(ImageOffer, ImageSending<D>), String> {
        let disk = disk.clone();
        let opened = tokio::task::spawn_blocking(move || ImageSource::newest(&disk)).await;
        let source = opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let source = source.ok_or("this node has no image")?;
        let ImageName { position, bytes, checksum } = source.name();
        Ok((ImageOffer { position, bytes, id: u64::from(checksum) }, ImageSending(Some(source))))
    }
}

impl<D: Disk> quorate_peer::ImageSource for ImageSending<D> {
    async fn read(&mut self, offset: u64, bytes_max: usize) -> io::Result<Bytes> {
        let mut source = self.0.take().ok_or_else(|| io::Error::other("an earlier read was given up"))?;
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; bytes_max];
            let count =
                source.read_at(offset, &mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
            bytes.truncate(count);
            if bytes.is_empty() {
                return Err(io::Error::other("the image ends before its announced size"));
            }
            Ok((source, Bytes::from(bytes)))
        });
        let (source, bytes) = read.await.map_err(io::Error::other)??;
        self.0 = Some(source);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use quorate_types::{ClusterId, Index, Position, Term};
    use quorate_wal::disk::sim::SimDisk;

    /// A link that broke while the partial image was looked at kept the place for ever: no image came in again.
    #[tokio::test]
    async fn a_link_that_breaks_while_an_image_begins_leaves_the_place_free() {
        let identity = Identity { cluster: ClusterId(1), node: NodeId(2) };
        let (inbox, _arrivals) = Inbox::bounded();
        let written = Written::default();
        let receiving =
            ImageReceiving::new(SimDisk::new(), identity, Arc::default(), inbox, Arc::default(), written);
        let position = Position { term: Term(1), index: Index(9) };
        let offer = ImageOffer { position, bytes: 4_096, id: 7 };
        tokio::select! {
            biased;
            _ = receiving.begin(NodeId(1), offer) => panic!("it waits for a thread"),
            () = std::future::ready(()) => {}
        }
        for _ in 0..500 {
            if receiving.begin(NodeId(1), offer).await.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the place was never free again");
    }
}
