//! Load for BFT clusters: thousands of logical clients on few connections, in closed or open loop, timed from the intended send to the
//! completed reply quorum.
//!
//! In data-path order: [schedule] (when to send), [workload] (what to send), [recorder] (what it took), [report] (what is told).

pub mod recorder;
pub mod report;
pub mod schedule;
pub mod workload;
