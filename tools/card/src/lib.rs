//! The simulated SD card: a block device that is as slow, and as forgetful, as a real one.
//!
//! Way in:   `CardOptions` (from a test, the torture table or `quorate card`). Way out: a mounted ext4, `Stats`.
//! May touch: FUSE, loop devices, mounts below its own folder.  Must not: know what a store writes on it.
//! Always:   one queue, in the order the block layer issued; a flushed sector is never lost; an unflushed one may
//!           be; a loop device attached before a power cut never writes again; whatever ends, is unmounted.
#![forbid(unsafe_code)]

mod bytes;
mod card;
pub mod cli;
mod control;
mod device;
mod figures;
mod fuse;
mod host;
mod medium;
mod queue;
mod serve;
mod table;

pub use bytes::{format_bytes, parse_bytes};
pub use card::{Card, CardOptions};
pub use control::{Control, CutReport, Ready};
pub use device::Stats;
pub use figures::{Figures, Model};
pub use table::{Appends, FileKind, TableOptions, measure_appends, measure_table, prepare_file};
