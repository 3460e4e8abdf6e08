//! Every time of the core, in ticks, in one place.

/// Ticks are this many milliseconds; the hall makes them, nothing here measures time.
pub const TICK_MS: u64 = 10;

/// A leader says this often that it lives.
pub const HEARTBEAT_TICKS: u64 = 10;

/// Shortest election timeout: six heartbeats may be lost, and a pause of 300 ms on Wi-Fi is no failure.
pub const ELECTION_TICKS_MIN: u64 = 60;

/// Longest election timeout, and how long a leader believes in a quorum that does not answer.
pub const ELECTION_TICKS_MAX: u64 = 85;

/// A node that heard its leader this recently answers no vote request: one heartbeat shorter than the shortest
/// timeout, so that the first to time out finds the others willing.
pub const STICKINESS_TICKS: u64 = 50;

/// After a restart no vote for this long: what was promised to a leader stood in memory only.
pub const RESTART_SILENCE_TICKS: u64 = ELECTION_TICKS_MIN;

/// A hand-over that has not happened by then is given up.
pub const TRANSFER_TICKS: u64 = ELECTION_TICKS_MAX;

/// A follower's read that the leader has not answered by then is refused.
pub const READ_TICKS: u64 = 2 * ELECTION_TICKS_MAX;

/// A follower asks again for a read this often: the request or its answer may have been lost.
pub const READ_RESEND_TICKS: u64 = 2 * HEARTBEAT_TICKS;

/// An append without an answer is sent again after this long, at first.
pub const RESEND_TICKS_MIN: u64 = 3 * HEARTBEAT_TICKS;

/// The back-off of sending again ends here.
pub const RESEND_TICKS_MAX: u64 = 16 * HEARTBEAT_TICKS;

/// A peer that was sent an image and does not say by then that it stands on it is probed.
pub const IMAGE_INSTALL_TICKS: u64 = 1_000;

/// A learner is caught up once it has kept up for this long: three seconds.
pub const CAUGHT_UP_TICKS: u64 = 300;

/// A removed peer is told for this long, at most, that it was removed.
pub const FAREWELL_TICKS: u64 = 1_000;

/// A card that has work, and makes none of it durable for this long, stands still, for the time being.
pub const STANDSTILL_TICKS: u64 = 100;

/// A leader whose card stands still for this long goes: three seconds, what Linux grants a card for one write. So much
/// longer than `STANDSTILL_TICKS` that by then it has heard which cards stand still for the same reason.
pub const SICK_TICKS: u64 = 300;

/// A leader's card that is much slower than another voter's for this long is a reason to hand over.
pub const SLOW_TICKS: u64 = 1_000;

/// After a hand-over because of a card that came to nothing, the next is tried after this, at first.
pub const GUARD_TICKS_MIN: u64 = 500;

/// The back-off of trying again ends here.
pub const GUARD_TICKS_MAX: u64 = 6_000;

/// Longest time `ticks_until_due` names when nothing is due.
pub const IDLE_TICKS: u64 = 100;

const _: () = assert!(STICKINESS_TICKS + HEARTBEAT_TICKS <= ELECTION_TICKS_MIN);
const _: () = assert!(ELECTION_TICKS_MIN < ELECTION_TICKS_MAX);
const _: () = assert!(HEARTBEAT_TICKS * 5 <= STICKINESS_TICKS);
const _: () = assert!(STANDSTILL_TICKS + STICKINESS_TICKS < SICK_TICKS);
const _: () = assert!(TRANSFER_TICKS < GUARD_TICKS_MIN && GUARD_TICKS_MIN < GUARD_TICKS_MAX);
const _: () = assert!(RESEND_TICKS_MIN < RESEND_TICKS_MAX);
