//! Which key and which value the n-th put of a run has: both follow from the seed, so that a record needs
//! no values and a verifier can tell every byte.

use crate::random::{Random, hash};
use anyhow::{Result, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The keys and values of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySpace {
    /// What every key begins with.
    pub prefix: String,
    /// Bytes of a key, the prefix included.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Number of keys, drawn from at random; zero: each put has a key of its own.
    pub key_count: u64,
    /// Decides keys and values.
    pub seed: u64,
}

impl KeySpace {
    /// Refuses a key length that cannot hold the prefix and enough digits for every key.
    ///
    /// # Errors
    /// A sentence that names the shortest length that works.
    pub fn check(&self) -> Result<()> {
        let digits = if self.key_count == 0 { 12 } else { digit_count(self.key_count - 1) };
        let needed = self.prefix.len() + digits;
        if self.key_bytes < needed {
            bail!(
                "a key of {} bytes cannot hold the prefix `{}` and {digits} digits: use --key-size {needed} or more",
                self.key_bytes,
                self.prefix
            );
        }
        Ok(())
    }

    /// The key with that number in the space.
    #[must_use]
    pub fn key(&self, key_number: u64) -> String {
        let width = self.key_bytes.saturating_sub(self.prefix.len());
        format!("{}{key_number:0width$}", self.prefix)
    }

    /// Which key the put with that number goes to.
    #[must_use]
    pub fn key_number(&self, put_number: u64) -> u64 {
        if self.key_count == 0 { put_number } else { hash(self.seed, put_number) % self.key_count }
    }

    /// What the put with that number writes.
    #[must_use]
    pub fn value(&self, put_number: u64) -> Bytes {
        let mut random = Random::new(hash(!self.seed, put_number));
        let mut value = Vec::with_capacity(self.value_bytes + 8);
        while value.len() < self.value_bytes {
            value.extend_from_slice(&random.next().to_le_bytes());
        }
        value.truncate(self.value_bytes);
        Bytes::from(value)
    }
}

fn digit_count(number: u64) -> usize {
    number.to_string().len()
}

/// The first key after all keys with that prefix: etcd's `range_end` of a prefix.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // No key is after all of these: etcd's way to say "to the end".
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn space(key_count: u64) -> KeySpace {
        KeySpace { prefix: "bench/".into(), key_bytes: 20, value_bytes: 100, key_count, seed: 9 }
    }

    #[test]
    fn keys_have_their_length_and_cover_the_space() {
        let few = space(50);
        let keys: BTreeSet<String> = (0..1_000).map(|n| few.key(few.key_number(n))).collect();
        assert_eq!(keys.len(), 50);
        assert!(keys.iter().all(|key| key.len() == 20 && key.starts_with("bench/")));
        let own = space(0);
        assert_eq!((0..1_000).map(|n| own.key(own.key_number(n))).collect::<BTreeSet<_>>().len(), 1_000);
    }

    #[test]
    fn values_differ_by_put_and_by_seed_and_stay() {
        let space = space(50);
        let values: BTreeSet<Bytes> = (0..1_000).map(|n| space.value(n)).collect();
        assert_eq!(values.len(), 1_000);
        assert!(values.iter().all(|value| value.len() == 100));
        assert_eq!(space.value(3), space.clone().value(3));
        assert_ne!(KeySpace { seed: 10, ..space.clone() }.value(3), space.value(3));
    }

    #[test]
    fn too_short_keys_are_refused_with_the_length_that_works() {
        let short = KeySpace { key_bytes: 10, key_count: 100_001, ..space(0) };
        assert!(short.check().unwrap_err().to_string().contains("--key-size 12"));
        assert!(KeySpace { key_bytes: 12, ..short }.check().is_ok());
    }

    #[test]
    fn the_end_of_a_prefix_is_etcds() {
        assert_eq!(prefix_end(b"a/"), b"a0");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), [0]);
    }
}
