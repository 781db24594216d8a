//! Load for BFT clusters: thousands of logical clients on few connections, in closed or open loop, timed from the intended send to the
//! completed reply quorum.
//!
//! In data-path order: [schedule] (when to send) with its pacing, [workload] (what to send), [generator] (threads that drive the load), [recorder] (what it
//! took), [report] (what is told).

mod driver;
pub mod generator;
mod links;
mod outbox;
mod pacing;
pub mod recorder;
pub mod report;
pub mod schedule;
pub mod workload;
