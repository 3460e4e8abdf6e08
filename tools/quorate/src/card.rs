//! `quorate card`: simulated SD cards.
pub(crate) use quorate_card::cli::{CardArgs, run};
