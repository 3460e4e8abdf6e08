//! How much a card takes before it dies, judged by the one whose life is documented.

use super::Device;

/// A card of this many bytes …
pub const DIED_CARD_BYTES: u64 = 8_000_000_000;

/// … died after so many had been written to it (tablix.org, May 2020; slow-cards).
pub const DIED_AFTER_BYTES: u64 = 823_000_000_000;

impl Device {
    /// What it takes before it has been written over as often as the card that died. None of devices that do not wear
    /// like a card: disks with wear levelling of their own live longer than this tells.
    #[must_use]
    pub fn endurance_bytes(&self) -> Option<u64> {
        let wears = self.card.is_some() || (self.name.starts_with("sd") && !self.is_rotational);
        let bytes = u128::from(self.bytes) * u128::from(DIED_AFTER_BYTES) / u128::from(DIED_CARD_BYTES);
        (wears && self.bytes > 0).then(|| u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Card;

    #[test]
    fn the_documented_card_lives_as_documented() {
        let device = |name: &str, card| Device {
            name: name.into(),
            bytes: DIED_CARD_BYTES,
            card,
            ..Device::default()
        };
        let card = device("mmcblk0", Some(Card::default()));
        assert_eq!(card.endurance_bytes(), Some(DIED_AFTER_BYTES));
        assert_eq!(
            Device { bytes: 4 * DIED_CARD_BYTES, ..card }.endurance_bytes(),
            Some(4 * DIED_AFTER_BYTES)
        );
        assert_eq!(device("sda", None).endurance_bytes(), Some(DIED_AFTER_BYTES), "a stick");
        assert_eq!(device("nvme0n1", None).endurance_bytes(), None);
        assert_eq!(Device { is_rotational: true, ..device("sda", None) }.endurance_bytes(), None);
        assert_eq!(Device { bytes: 0, ..device("sda", None) }.endurance_bytes(), None);
    }
}
