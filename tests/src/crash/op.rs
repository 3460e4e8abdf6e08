//! What clients ask for, and values that name who wrote them and prove that they are whole.

/// Who wrote a value: one client asks for one thing at a time, so its numbers order its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Author {
    /// The client's connection; never used again by a later round.
    pub client: u64,
    /// The attempt of that client.
    pub sequence: u64,
}

/// A change of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Puts all keys: several in one transaction, each with a value of its own.
    Put {
        /// In the order of the transaction.
        keys: Vec<String>,
        /// Lease of all of them, 0 for none.
        lease: i64,
        /// Bytes of each value.
        value_bytes: usize,
    },
    /// Deletes one key and puts another, in one transaction.
    Move {
        /// Deleted, if it is there.
        from: String,
        /// Put.
        to: String,
        /// Bytes of its value.
        value_bytes: usize,
    },
    /// Ends a lease and deletes what hangs on it.
    Revoke {
        /// The lease.
        lease: i64,
    },
    /// Begins a lease; makes no revision.
    Grant {
        /// The lease, by the client's choice.
        lease: i64,
    },
}

/// What became of an attempt, as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The server promised it, at that revision.
    Acknowledged(i64),
    /// The connection ended first.
    Unknown,
}

/// One change asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// By whom.
    pub author: Author,
    /// What.
    pub op: Op,
    /// And then.
    pub fate: Fate,
}

/// The only value this author may have written under this key: it names both, then fills up to `bytes` from
/// a generator they seed. A torn or mixed value equals none.
#[must_use]
pub fn value_of(key: &str, author: Author, bytes: usize) -> Vec<u8> {
    let mut value = format!("{key}|{}|{}|{bytes}|", author.client, author.sequence).into_bytes();
    let mut state = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    while value.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value
}

/// Who wrote a value, if it is whole and belongs to this key.
#[must_use]
pub(crate) fn author_of(key: &str, value: &[u8]) -> Option<Author> {
    let mut fields = value.splitn(5, |byte| *byte == b'|').skip(1);
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u64>().ok();
    let author = Author { client: number()?, sequence: number()? };
    let bytes = usize::try_from(number()?).ok()?;
    (value_of(key, author, bytes) == value).then_some(author)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_author_and_no_part_of_it_does() {
        let author = Author { client: 7, sequence: 9 };
        for bytes in [0, 40, 5_000] {
            let value = value_of("k/7/1", author, bytes);
            assert!(value.len() >= bytes);
            assert_eq!(author_of("k/7/1", &value), Some(author));
            assert_eq!(author_of("k/7/2", &value), None, "another key");
            assert_eq!(author_of("k/7/1", &value[..value.len() - 1]), None, "torn");
            let mut mixed = value.clone();
            *mixed.last_mut().unwrap() ^= 1;
            assert_eq!(author_of("k/7/1", &mixed), None, "flipped");
        }
        assert_eq!(author_of("k", b"nonsense"), None);
    }
}
