//! What to send, and whether what came back is possible.
//!
//! [fixed] (operations and results of fixed sizes, for the `null` application), [ycsb] (the YCSB core mixes, for the
//! `kv` application).

use hippodrome_engine::types::{ClientId, Timestamp};

pub mod fixed;
pub mod ycsb;

/// A source of operations, with what it knows of their results. Each thread of a load generator has one of its own; a
/// client stays with one thread and has one operation outstanding.
pub trait Workload: Send {
    /// Appends the operation that `client` sends under `timestamp`.
    fn next(&mut self, client: ClientId, timestamp: Timestamp, operation: &mut Vec<u8>);

    /// Whether `result`, on which a reply quorum agreed, is one that the operation of `client` under `timestamp` can
    /// have in a correct cluster. `true` proves nothing; `false` is proof that something was executed wrongly.
    fn check(&mut self, client: ClientId, timestamp: Timestamp, result: &[u8]) -> bool;

    /// How many results so far were possible but too old: older than what was complete before they were asked for. Each
    /// is proof that reads do not respect real time.
    fn stale_reads(&self) -> u64 {
        0
    }
}
