//! Images from node to node, file to file, as `node/src/receiver.rs` and the peer room move them: in pieces, cut at
//! any of them, gone on with later.

use crate::board::Slot;
use crate::card::{Card, CardFile};
use crate::queue::{Event, Life, MS, Nanos, SECOND};
use crate::situation::Situation;
use crate::world::World;
use quorate_types::NodeId;
use quorate_wal::{ImageReceiver, ImageSource};
use quorated::inbox::{Inbound, Installed};
use quorated::receiver::take_whole;

/// Bytes between two looks at the link: a sixteenth of the image, within these bounds.
const PIECE_BYTES_MIN: u64 = 4 * 1024;
const PIECE_BYTES_MAX: u64 = 512 * 1024;

/// A link that carries nothing for so long ends the transfer.
const PATIENCE: Nanos = 3 * SECOND;

/// An image on its way.
pub(crate) struct Transfer {
    source: (Slot, Life),
    target: (Slot, Life),
    to: NodeId,
    file: ImageSource<CardFile>,
    receiver: Option<ImageReceiver<Card>>,
    has_begun: bool,
    blocked_since: Option<Nanos>,
    installed: Option<Box<Installed>>,
    is_installed: bool,
}

impl World {
    /// The driver of `slot` wants its newest image sent.
    pub(crate) fn send_image(&mut self, slot: Slot, to: NodeId) {
        let life = self.boards[slot.0].life;
        let target = self.slot_of(to).map(|target| (target, self.boards[target.0].life));
        let file = ImageSource::newest(&self.boards[slot.0].card).ok().flatten();
        let (Some(target), Some(file)) = (target, file) else {
            self.tell(format!("{slot} has no image to send, or {to} is nowhere"));
            return self.image_sent(slot, life, to, None);
        };
        let number = self.transfer_last + 1;
        self.transfer_last = number;
        let transfer = Transfer {
            source: (slot, life),
            target,
            to,
            file,
            receiver: None,
            has_begun: false,
            blocked_since: None,
            installed: None,
            is_installed: false,
        };
        self.transfers.insert(number, transfer);
        let delay = self.delay();
        self.queue.push(self.now + delay, Event::Transfer(number));
    }

    fn image_sent(&mut self, slot: Slot, life: Life, to: NodeId, position: Option<quorate_types::Position>) {
        let board = &self.boards[slot.0];
        if board.life == life
            && let Some(process) = &board.process
        {
            process.tell(Inbound::ImageSent { to, position });
            self.wake_soon(slot);
        }
    }

    pub(crate) fn transfer(&mut self, number: u64) {
        let Some(mut transfer) = self.transfers.remove(&number) else { return };
        let ((source, source_life), (target, target_life)) = (transfer.source, transfer.target);
        if self.boards[source.0].life != source_life {
            return self.end_transfer(transfer, false);
        }
        let is_there = self.boards[target.0].life == target_life && self.boards[target.0].process.is_some();
        let held = [source, target].map(|slot| self.boards[slot.0].card_held_until(self.now));
        let is_open = is_there && held == [None, None] && self.is_passable(source, target);
        if !is_open {
            let since = *transfer.blocked_since.get_or_insert(self.now);
            if !is_there || self.now - since > PATIENCE {
                self.situations.reach_if(transfer.receiver.is_some(), Situation::ImageCut);
                return self.end_transfer(transfer, false);
            }
            self.transfers.insert(number, transfer);
            return self.queue.push(self.now + 100 * MS, Event::Transfer(number));
        }
        transfer.blocked_since = None;
        if self.rng.per_mille(20) && !self.faults.is_over {
            self.situations.reach_if(transfer.receiver.is_some(), Situation::ImageCut);
            return self.end_transfer(transfer, false);
        }
        let went_on = self.step_transfer(&mut transfer);
        if transfer.is_installed || !went_on {
            return self.end_transfer(transfer, went_on);
        }
        let done = self.card_time(target);
        let delay = self.delay();
        self.transfers.insert(number, transfer);
        self.queue.push(done + delay, Event::Transfer(number));
    }

    /// One piece; false if the image will not arrive this time.
    fn step_transfer(&mut self, transfer: &mut Transfer) -> bool {
        let (target, _) = transfer.target;
        let name = transfer.file.name();
        let board = &mut self.boards[target.0];
        let Some(process) = board.process.as_mut() else { return false };
        if let Some(installed) = transfer.installed.take() {
            process.tell(Inbound::ImageInstalled(installed));
            process.is_receiving_image = false;
            transfer.is_installed = true;
            self.wake_soon(target);
            return true;
        }
        let Some(receiver) = transfer.receiver.as_mut() else {
            if process.is_receiving_image {
                return false;
            }
            let Ok(receiver) = ImageReceiver::open(board.card.clone(), name, process.identity) else {
                return false;
            };
            process.is_receiving_image = true;
            self.situations.reach_if(receiver.offset() > 0, Situation::ImageResumed);
            transfer.receiver = Some(receiver);
            transfer.has_begun = true;
            return true;
        };
        if receiver.offset() < name.bytes {
            let piece = (name.bytes / 16).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
            let mut bytes = vec![0; usize::try_from(piece).expect("half a MiB")];
            let Ok(count) = transfer.file.read_at(receiver.offset(), &mut bytes) else { return false };
            return count > 0 && receiver.write(&bytes[..count]).is_ok() && receiver.sync_so_far().is_ok();
        }
        let Some(receiver) = transfer.receiver.take() else { return false };
        match take_whole(receiver, &process.image_number) {
            Ok(installed) => transfer.installed = Some(Box::new(installed)),
            Err(words) => {
                self.tell(format!("{target} cannot take the image at {}: {words}", name.position));
                return false;
            }
        }
        true
    }

    fn end_transfer(&mut self, transfer: Transfer, is_sent: bool) {
        let (target, life) = transfer.target;
        let board = &mut self.boards[target.0];
        if transfer.has_begun
            && board.life == life
            && let Some(process) = board.process.as_mut()
        {
            process.is_receiving_image = false;
        }
        let position = is_sent.then(|| transfer.file.name().position);
        let (source, life) = transfer.source;
        if !is_sent {
            let position = transfer.file.name().position;
            self.tell(format!("the image at {position} does not get from {source} to {target}"));
        }
        if is_sent && self.is_partitioned() {
            self.situations.reach(Situation::ImageDuringPartition);
        }
        self.image_sent(source, life, transfer.to, position);
    }
}
