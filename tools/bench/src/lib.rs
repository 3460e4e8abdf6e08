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
mod keep;
mod keys;
mod load;
mod orchestrate;
mod progress;
mod put;
mod random;
mod record;
mod report;
mod stats;
mod tally;
mod timeline;
mod verify;
mod watch;

pub use arrival::{Arrival, Schedule};
pub use device::{DeviceCounts, Meter, block_device_meter};
pub use endpoint::EndpointArgs;
pub use get::{GetArgs, get};
pub use keep::{KeepArgs, KeepReport, keep};
pub use keys::KeySpace;
pub use load::LoadArgs;
pub use orchestrate::{OrchestrateArgs, OrchestrateReport, orchestrate};
pub use put::{PutArgs, put};
pub use record::{Attempt, History, RecordWriter, Run};
pub use report::{DeviceReport, MemberReport, Report, WatchReport};
pub use stats::{Bar, Latencies, Quantiles, print_bars, print_ms};
pub use tally::print_status;
pub use verify::{Verification, verify};
pub use watch::{WatchArgs, watch};
