//! Load for BFT clusters: thousands of logical clients on few connections, in closed or open loop, timed from the
//! intended send to the completed reply quorum.
//!
//! In data-path order: [schedule] (when to send) and `pacing` (who sends then), [workload] (what to send), [generator]
//! (the threads of a load) with `options` (what it is told), `thread` and `driver` (one of them), `timetable` (what an
//! operation counts for), `retries` (what is sent again), `outbox` and `links` (requests out, replies in), `followed`
//! (some operations, all the way), [recorder] (what it took), [tenths] (how many, ten times a second) and `sampler`
//! (merged over threads), [report] (what is told). Beside them [hostile]: clients that misbehave on purpose.

mod driver;
mod followed;
pub mod generator;
pub mod hostile;
mod links;
mod options;
mod outbox;
mod pacing;
mod reads;
pub mod recorder;
pub mod report;
mod retries;
mod sampler;
pub mod schedule;
pub mod tenths;
mod thread;
mod timetable;
pub mod workload;
