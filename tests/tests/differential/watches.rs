//! Watch streams.

use crate::Pair;

pub(crate) const SEED_COUNT: u64 = 20;

pub(crate) async fn compare(_pair: Pair, _seeds: &[u64], _complete: bool) {}
