//! The whole state in slices, for an image, a client's snapshot, or a hash. The driver never stops for
//! longer than one slice.

use super::{Driver, ReadReply};
use crate::inbox::{ExportId, ExportSlice, ExportStart, Reply};
use quorate_api::{ReadOutcome, Refusal};
use quorate_store::KeyHash;
use quorate_types::Position;
use quorate_types::limits::EXPORT_SLICE_BYTES;

/// Exports at once: one image, and a few clients. Each holds compaction's sweep.
const EXPORT_COUNT_MAX: usize = 8;

impl Driver {
    pub(super) fn export_begin(&mut self, reply: Reply<ExportStart>) {
        if let Some(refusal) = self.refusal() {
            return reply.send(Err(refusal));
        }
        if self.work.exports.len() >= EXPORT_COUNT_MAX {
            return reply.send(Err(Refusal::Overloaded));
        }
        let start = self.export_start();
        reply.send(Ok(start));
    }

    pub(super) fn export_start(&mut self) -> ExportStart {
        self.work.export_last = ExportId(self.work.export_last.0 + 1);
        let export = self.work.export_last;
        self.work.exports.insert(export, self.store.begin_export());
        ExportStart { export, position: self.position_applied(), bytes_estimate: self.store.bytes_total() }
    }

    pub(super) fn export_next(&mut self, export: ExportId, reply: Reply<ExportSlice>) {
        let Some(running) = self.work.exports.get_mut(&export) else {
            return reply.send(Err(Refusal::Stopping));
        };
        let mut bytes = Vec::with_capacity(EXPORT_SLICE_BYTES + EXPORT_SLICE_BYTES / 8);
        let is_last = !self.store.export_next(running, EXPORT_SLICE_BYTES, &mut bytes);
        reply.send(Ok(ExportSlice { bytes, is_last }));
    }

    pub(super) fn export_end(&mut self, export: ExportId) {
        // Dropping it lets compaction's sweep go on.
        self.work.exports.remove(&export);
    }

    /// Begins a hash over the keys; it goes on a slice a turn.
    pub(super) fn hash_begin(&mut self, revision: i64, reply: ReadReply) {
        if self.work.hashing.len() >= EXPORT_COUNT_MAX {
            return reply.send(Err(Refusal::Overloaded));
        }
        match self.store.begin_hash(revision) {
            Ok(hasher) => self.work.hashing.push_back((hasher, reply)),
            Err(error) => reply.send(Err(Refusal::Store(error))),
        }
    }

    /// One slice of the oldest hash. True while there is more.
    pub(super) fn hash_slice(&mut self) -> bool {
        let Some((hasher, _)) = self.work.hashing.front_mut() else { return false };
        if let Some(hash) = self.store.hash_next(hasher, EXPORT_SLICE_BYTES) {
            let KeyHash { hash, compact_revision, hash_revision } = hash;
            let answer = self.answer(ReadOutcome::HashKv { hash, compact_revision, hash_revision });
            if let Some((_, reply)) = self.work.hashing.pop_front() {
                reply.send(Ok(answer));
            }
        }
        !self.work.hashing.is_empty()
    }

    fn position_applied(&self) -> Position {
        Position { term: self.applied_term, index: self.store.applied() }
    }
}
