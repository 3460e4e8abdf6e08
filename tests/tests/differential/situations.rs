//! What a run has to have met: a generator that never gets there proves nothing.

use std::collections::BTreeMap;

/// Situations met, by name.
#[derive(Debug, Default)]
pub(crate) struct Situations(BTreeMap<String, u64>);

impl Situations {
    /// Notes one.
    pub(crate) fn met(&mut self, name: impl Into<String>) {
        *self.0.entry(name.into()).or_default() += 1;
    }

    /// Fails if one of the required was never met; shows all counts either way.
    pub(crate) fn require(&self, required: &[&str]) {
        for (name, count) in &self.0 {
            println!("{count:8} {name}");
        }
        let missed: Vec<_> = required.iter().filter(|name| !self.0.contains_key(**name)).collect();
        assert!(missed.is_empty(), "the generator never came to: {missed:#?}");
    }
}
