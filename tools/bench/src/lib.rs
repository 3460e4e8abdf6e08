//! Loads and measurements against any etcd v3 server, and the proof that acknowledged puts are still there.
//!
//! Way in:   arguments, a running server.              Way out: Report, Verification; text or JSON.
//! May touch: sockets, clock, threads, /sys counters.  Must not: the server's files; what a store means by it.
//! Always:   an open loop measures from the intended start, so that a stalled server cannot hide its stall;
//!           a put stands in the record before it is sent and is marked acknowledged only after its answer.
#![forbid(unsafe_code)]

mod arrival;
mod compact;
mod device;
mod endpoint;
mod get;
mod keys;
mod load;
mod progress;
mod put;
mod random;
mod record;
mod report;
mod stats;
mod verify;
mod watch;

pub use arrival::{Arrival, Schedule};
pub use device::{DeviceCounts, Meter, block_device_meter};
pub use endpoint::EndpointArgs;
pub use get::{GetArgs, get};
pub use keys::KeySpace;
pub use load::{LoadArgs, print_status};
pub use put::{PutArgs, put};
pub use record::{Attempt, History, RecordWriter, Run};
pub use report::{DeviceReport, Report, WatchReport};
pub use stats::{Bar, Latencies, Quantiles};
pub use verify::{Verification, verify};
pub use watch::{WatchArgs, watch};
