//! Applications: what the replicated state machine does with an operation.
//!
//! Shipped: [null] (a result of a fixed size, as in the 0/0, 4/0 and 0/4 micro-benchmarks of Castro & Liskov) and [kv]
//! (a key-value store for YCSB-style mixes). [faulty] wraps another one and computes wrongly, for tests of the audit;
//! [burning] wraps one and takes longer, so that comparisons can be tested.
//! [mod@validator] tells other stages than the executor's what an application refuses.

use thiserror::Error;

use crate::requests::Operations;
use crate::settings::{ClusterSettings, Reads};
use crate::types::Digest;

pub mod burning;
pub mod faulty;
pub mod kv;
pub mod null;
#[cfg(test)]
mod tests;
pub mod validator;

pub use validator::Validator;

/// The application that a validated cluster file names, in its first state; `None` if none has that name.
///
/// # Panics
/// If a size is out of range: the settings were not validated.
#[must_use]
pub fn open(settings: &ClusterSettings) -> Option<Box<dyn Application>> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    match settings.application.as_str() {
        "null" => Some(Box::new(null::Null::new(size(settings.reply_bytes)))),
        "kv" => {
            let kv = if settings.reads == Reads::ReadOnly { kv::Kv::new().versioned() } else { kv::Kv::new() };
            Some(Box::new(kv.preloaded(settings.records, size(settings.value_bytes))))
        }
        _ => None,
    }
}

/// What the application that [`open`] gives refuses to order; `None` if none has that name.
#[must_use]
pub fn validator(settings: &ClusterSettings) -> Option<Validator> {
    match settings.application.as_str() {
        "null" => Some(Validator::accept_all()),
        "kv" => {
            let valid = |operation: &[u8]| kv::Operation::decode(operation).map(|_| ());
            Some(Validator::new(valid).with_reads(kv::is_read))
        }
        _ => None,
    }
}

/// Why an operation can not be executed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("invalid operation: {0}")]
pub struct InvalidOperation(pub String);

/// A deterministic state machine. Equal operations in equal order give equal results and equal digests on every
/// replica.
pub trait Application: Send {
    /// Whether a replica should agree to order this operation. Must not depend on anything but the operation: replicas
    /// ask before they vote, by the application's [`Validator`], which must say the same.
    ///
    /// # Errors
    /// What is wrong with the operation.
    fn validate(&self, operation: &[u8]) -> Result<(), InvalidOperation>;

    /// Executes an operation and appends its result (at most [`crate::limits::RESULT_BYTES_MAX`] bytes) to `result`. An
    /// operation that does not validate still gets a result that says so: every replica must give the same one.
    fn execute(&mut self, operation: &[u8], result: &mut Vec<u8>);

    /// Executes operations one after the other, as [`execute`](Self::execute) does each, and appends to `lengths` how
    /// many bytes each appended to `results`. Ends with the one that makes `results` at least `enough_bytes` long, or
    /// with the last. To be written anew where many at a time cost less; whoever wraps another application and changes
    /// what it executes keeps this one.
    ///
    /// # Panics
    /// If a result has 4 GiB: an application's results are shorter by far.
    fn execute_run(
        &mut self,
        operations: Operations<'_>,
        enough_bytes: usize,
        results: &mut Vec<u8>,
        lengths: &mut Vec<u32>,
    ) {
        execute_each(operations, enough_bytes, (results, lengths), |operation, results| {
            self.execute(operation, results)
        });
    }

    /// As [`execute`](Self::execute), and appends to `record` what [`undo`](Self::undo) needs to take the operation
    /// back; nothing, if it changed nothing that it would have to know of.
    fn execute_undoably(&mut self, operation: &[u8], result: &mut Vec<u8>, record: &mut Vec<u8>);

    /// Takes back the last of the [undoably](Self::execute_undoably) executed operations that was not taken back yet;
    /// `record` is what that one appended. The state is what it was before, to its digest and the versions of records.
    fn undo(&mut self, record: &[u8]);

    /// Answers a read-only operation without changing the state, and tells the version of what it read. `None`, and
    /// nothing is appended: this operation needs ordering; the application's [`Validator`] says which do.
    ///
    /// Wherever two states give the same result and the same version, all states between them must give that result:
    /// a result that changes and later changes back has another version then. The number of operations executed so far
    /// that changed anything always serves; the closer the version is to what was read, the more often replicas that
    /// have come differently far give the same. Clients compare both.
    fn query(&self, operation: &[u8], result: &mut Vec<u8>) -> Option<u64>;

    /// The digest of the state. Costs in proportion to what changed since the last call.
    fn digest(&mut self) -> Digest;

    /// Gives a snapshot of the present state to `chunk`, piece by piece. Must cost no more than a copy of the state:
    /// nothing is executed meanwhile.
    fn snapshot(&self, chunk: &mut dyn FnMut(&[u8]));

    /// Another instance with the same settings, in any state: a snapshot is restored aside before it takes the place of
    /// this one.
    fn fresh(&self) -> Box<dyn Application>;

    /// Replaces the state by that of these chunks, given in order.
    ///
    /// # Errors
    /// If the chunks are no snapshot of this application; the state has not changed then. Chunks may come from a faulty
    /// replica: they never panic, and nothing is allocated by a length that they only claim.
    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), InvalidOperation>;
}

/// Executes operations one after the other by `execute`, which appends the result of each; see
/// [`execute_run`](Application::execute_run) for the rest.
pub(crate) fn execute_each(
    operations: Operations<'_>,
    enough_bytes: usize,
    (results, lengths): (&mut Vec<u8>, &mut Vec<u32>),
    mut execute: impl FnMut(&[u8], &mut Vec<u8>),
) {
    for operation in operations {
        let start = results.len();
        execute(operation, results);
        let length = results.len().checked_sub(start).expect("an application only appends");
        lengths.push(u32::try_from(length).expect("a result is shorter than 4 GiB"));
        if results.len() >= enough_bytes {
            return;
        }
    }
}
