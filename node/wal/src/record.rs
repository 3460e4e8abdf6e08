//! What the log remembers: one record each, a small postcard head and the payload raw behind it.

use crate::format_1::{FORMAT_1, Membership1};
use quorate_types::{Entry, EntryKind, HardState, Index, Membership, Position, Start, Term};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One thing to remember. Cloning an entry shares its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An entry; its index follows the last one.
    Entry(Entry),
    /// Term and vote from here on. A term's hard state precedes its entries (rule 3).
    HardState(HardState),
    /// The log is committed at least up to here: spares a restart from waiting, promises nothing.
    CommitHint(Index),
    /// Entries after `last` are void: a leader of `leader_term` has others there (rule 3).
    Truncate {
        /// The log's last position from here on.
        last: Position,
        /// Term of the leader that demanded it.
        leader_term: Term,
    },
    /// All entries are void, the log goes on after `position`: an image was installed (rule 5).
    Reset {
        /// The image's position.
        position: Position,
    },
    /// An image of everything up to `position` is durable.
    ImageMark {
        /// The image's position.
        position: Position,
        /// Images counted by this node.
        number: u64,
    },
    /// A new life of this node begins; written by the log itself.
    Start(Start),
    /// Membership in force from here on; each later segment header repeats it (rule 4).
    Membership(Membership),
    /// Everything before is synced; written when idle, so that damage to the last batch shows as such.
    Seal,
}

/// A record without an entry's payload, as postcard writes it. Variants are only ever appended.
#[derive(Serialize, Deserialize)]
enum RecordHead<M = Membership> {
    Entry { term: Term, index: Index, kind: EntryKind, bytes: u32 },
    HardState(HardState),
    CommitHint(Index),
    Truncate { last: Position, leader_term: Term },
    Reset { position: Position },
    ImageMark { position: Position, number: u64 },
    Start(Start),
    Membership(M),
    Seal,
}

impl Record {
    /// Appends this record to a batch's body.
    pub(crate) fn encode(&self, body: Vec<u8>) -> Vec<u8> {
        let (head, payload): (RecordHead, &[u8]) = match self {
            Record::Entry(entry) => {
                let bytes = u32::try_from(entry.payload.len()).expect("an entry is at most ENTRY_BYTES_MAX");
                let Position { term, index } = entry.position;
                (RecordHead::Entry { term, index, kind: entry.kind, bytes }, &entry.payload)
            }
            Record::HardState(hard_state) => (RecordHead::HardState(*hard_state), &[]),
            Record::CommitHint(index) => (RecordHead::CommitHint(*index), &[]),
            Record::Truncate { last, leader_term } => {
                (RecordHead::Truncate { last: *last, leader_term: *leader_term }, &[])
            }
            Record::Reset { position } => (RecordHead::Reset { position: *position }, &[]),
            Record::ImageMark { position, number } => {
                (RecordHead::ImageMark { position: *position, number: *number }, &[])
            }
            Record::Start(start) => (RecordHead::Start(*start), &[]),
            Record::Membership(membership) => (RecordHead::Membership(membership.clone()), &[]),
            Record::Seal => (RecordHead::Seal, &[]),
        };
        let mut body =
            postcard::to_extend(&head, body).expect("plain values always encode into a growing vector");
        body.extend_from_slice(payload);
        body
    }

    /// All records of a body whose checksum held, from a segment of that format; `None` if they do not fill
    /// it exactly.
    pub(crate) fn decode_all(body: &[u8], format: u16) -> Option<Vec<Record>> {
        if format == FORMAT_1 { decode_all::<Membership1>(body) } else { decode_all::<Membership>(body) }
    }
}

fn decode_all<'a, M: Deserialize<'a> + Into<Membership>>(mut body: &'a [u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let (head, rest) = postcard::take_from_bytes::<RecordHead<M>>(body).ok()?;
        body = rest;
        records.push(match head {
            RecordHead::Entry { term, index, kind, bytes } => {
                let (payload, rest) = body.split_at_checked(bytes as usize)?;
                body = rest;
                Record::Entry(Entry { position: Position { term, index }, kind, payload: Arc::from(payload) })
            }
            RecordHead::HardState(hard_state) => Record::HardState(hard_state),
            RecordHead::CommitHint(index) => Record::CommitHint(index),
            RecordHead::Truncate { last, leader_term } => Record::Truncate { last, leader_term },
            RecordHead::Reset { position } => Record::Reset { position },
            RecordHead::ImageMark { position, number } => Record::ImageMark { position, number },
            RecordHead::Start(start) => Record::Start(start),
            RecordHead::Membership(membership) => Record::Membership(membership.into()),
            RecordHead::Seal => Record::Seal,
        });
    }
    Some(records)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::format::FORMAT;
    use core::fmt::Write;
    use quorate_types::{Member, NodeId, PeerKey};

    fn all() -> Vec<(&'static str, Record)> {
        let position = Position { term: Term(3), index: Index(300) };
        let payload = Arc::from(&b"value"[..]);
        let member = Member {
            id: NodeId(1),
            name: "n1".to_owned(),
            peer_addresses: Vec::new(),
            client_urls: Vec::new(),
            key: PeerKey::default(),
            stays_learner: false,
        };
        vec![
            ("entry of 5 bytes", Record::Entry(Entry { position, kind: EntryKind::Command, payload })),
            ("hard state", Record::HardState(HardState { term: Term(3), vote: Some(NodeId(1)) })),
            ("commit hint", Record::CommitHint(Index(300))),
            ("truncate", Record::Truncate { last: position, leader_term: Term(4) }),
            ("reset", Record::Reset { position }),
            ("image mark", Record::ImageMark { position, number: 2 }),
            ("start", Record::Start(Start { count: 2, incarnation: 200 })),
            ("membership", Record::Membership(Membership::founded_by(member))),
            ("seal", Record::Seal),
        ]
    }

    /// Each kind of record as bytes, for the golden layout.
    pub(crate) fn examples() -> String {
        let mut text = "\nrecords: a postcard head, an entry's payload behind it\n".to_owned();
        for (name, record) in all() {
            let bytes = record.encode(Vec::new());
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "  {name:<16}  {}", bytes.join(" ")).unwrap();
        }
        text
    }

    #[test]
    fn a_body_is_decoded_as_encoded_and_never_half() {
        let records: Vec<Record> = all().into_iter().map(|(_, record)| record).collect();
        let body = records.iter().fold(Vec::new(), |body, record| record.encode(body));
        assert_eq!(Record::decode_all(&body, FORMAT), Some(records.clone()));
        for end in 0..body.len() {
            if let Some(fewer) = Record::decode_all(&body[..end], FORMAT) {
                assert!(records.starts_with(&fewer) && fewer.len() < records.len());
            }
        }
    }
}
