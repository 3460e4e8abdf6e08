//! What kind of a run a seed is: which faults it knows, how many boards, what cards. Each leaves some out, so that
//! the others come closer together.

use crate::card::{BAD, FREE, Model, ORDINARY, QUICK};
use crate::faults::Kind;
use crate::queue::{MS, Nanos, SECOND};
use crate::rng::Rng;

/// So many seeds are storms.
const STORM_PER_MILLE: u64 = 350;

/// One seed's settings.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) boards: usize,
    /// Boards that join before anything breaks.
    pub(crate) joined_first: usize,
    pub(crate) models: Vec<Model>,
    pub(crate) faults: Vec<Kind>,
    /// Mean time between faults.
    pub(crate) fault_every: Nanos,
    /// From the first fault to the last cure.
    pub(crate) trouble: Nanos,
    pub(crate) clients: usize,
    pub(crate) lease_clients: usize,
    pub(crate) watchers: usize,
    /// Mean time a client thinks.
    pub(crate) think: Nanos,
    pub(crate) keys: u64,
    /// Bytes of a value.
    pub(crate) value_bytes: usize,
    /// Clocks run within this many millionths of true time.
    pub(crate) drift_ppm: u64,
    /// Mean time between two acts of whoever looks after members.
    pub(crate) operator_every: Nanos,
    pub(crate) changes_members: bool,
}

impl Profile {
    /// Free cards, right clocks, nobody who asks, nothing that breaks.
    #[cfg(test)]
    pub(crate) fn calm(boards: usize) -> Profile {
        Profile {
            boards,
            joined_first: 3,
            models: vec![FREE; boards],
            faults: Vec::new(),
            fault_every: SECOND,
            trouble: 0,
            clients: 0,
            lease_clients: 0,
            watchers: 0,
            think: SECOND,
            keys: 1,
            value_bytes: 0,
            drift_ppm: 0,
            operator_every: SECOND,
            changes_members: false,
        }
    }

    pub(crate) fn of(rng: &mut Rng) -> Profile {
        if rng.per_mille(STORM_PER_MILLE) { Profile::storm(rng) } else { Profile::ordinary(rng) }
    }

    /// Short and violent: slow cards, tiny writes, a new leader every second or so, power lost at the worst moments.
    fn storm(rng: &mut Rng) -> Profile {
        let boards = usize::try_from(*rng.pick(&[3, 3, 5, 5, 4]).expect("a list")).expect("small");
        let always = [Kind::Depose, Kind::Depose, Kind::Topple, Kind::Doom];
        let sometimes = [
            Kind::Gale,
            Kind::Cut,
            Kind::Kill,
            Kind::Power,
            Kind::Stall,
            Kind::SlowCard,
            Kind::Pause,
            Kind::Clock,
        ];
        let sometimes = sometimes.iter().copied().filter(|_| rng.per_mille(350));
        let faults = always.into_iter().chain(sometimes).collect();
        let models =
            (0..boards).map(|_| *rng.pick(&[QUICK, QUICK, ORDINARY, BAD]).expect("a list")).collect();
        Profile {
            boards,
            joined_first: boards,
            models,
            faults,
            fault_every: rng.between_log(300, 1_200) * MS,
            trouble: rng.between(8, 20) * SECOND,
            // So many that each leader has something in its log that is nowhere else.
            clients: usize::try_from(rng.between(4, 8)).expect("small"),
            lease_clients: usize::try_from(rng.between(0, 1)).expect("small"),
            watchers: 1,
            think: rng.between_log(2, 60) * MS,
            keys: rng.between(1, 2),
            value_bytes: 0,
            drift_ppm: 200,
            operator_every: rng.between_log(300, 3_000) * MS,
            changes_members: rng.per_mille(500),
        }
    }

    fn ordinary(rng: &mut Rng) -> Profile {
        let boards = usize::try_from(*rng.pick(&[1, 3, 3, 3, 4, 5, 5, 6]).expect("a list")).expect("small");
        let is_heavy = rng.per_mille(60);
        let mut faults: Vec<Kind> = Kind::ALL.iter().copied().filter(|_| rng.per_mille(450)).collect();
        if faults.is_empty() {
            faults.push(Kind::Kill);
        }
        let all_models = [FREE, QUICK, QUICK, ORDINARY, ORDINARY, BAD];
        let is_mixed = rng.coin();
        let one = *rng.pick(&all_models).expect("a list");
        let mut model = || if is_mixed { *rng.pick(&all_models).expect("a list") } else { one };
        let models = (0..boards).map(|_| if is_heavy { FREE } else { model() }).collect();
        Profile {
            boards,
            joined_first: boards.min(if rng.per_mille(300) { 5 } else { 3 }),
            models,
            faults,
            fault_every: rng.between_log(150, 4_000) * MS,
            trouble: rng.between(10, 40) * SECOND,
            clients: usize::try_from(rng.between(2, 6)).expect("small"),
            lease_clients: usize::try_from(rng.between(0, 2)).expect("small"),
            watchers: usize::try_from(rng.between(1, 3)).expect("small"),
            think: if is_heavy { 5 * MS } else { rng.between_log(2, 300) * MS },
            keys: rng.between(1, 6),
            value_bytes: if is_heavy { 96 * 1024 } else { 0 },
            drift_ppm: *rng.pick(&[0, 200, 100_000]).expect("a list"),
            operator_every: rng.between_log(300, 8_000) * MS,
            changes_members: rng.per_mille(600),
        }
    }
}
