//! Load whose outcome can be judged after a crash: what was promised, what was only asked for, and a model
//! that follows every revision.
//!
//! Each change a client asks for is an [`Attempt`] that the client keeps with its fate. After each restart
//! [`Judge`] reads back the history by a watch, every revision of it, and takes each revision for exactly one
//! attempt: an acknowledged one at the revision it was promised, or whole one whose answer the crash ate.

mod judge;
mod load;
mod op;

pub use judge::Judge;
pub use load::{Load, Shape, Tally};
pub use op::{Attempt, Author, Fate, Op, value_of};
