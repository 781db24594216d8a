//! An application with a handicap: it burns CPU time for each operation, so that a difference of known size can be
//! planted and looked for.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{Application, InvalidOperation};
use crate::requests::Operations;
use crate::types::Digest;

/// Time is burned in pieces of at least this, ns: to look at a thread's clock costs more than an operation does.
const PIECE_NS: i64 = 20_000;
/// Steps of arithmetic between two looks at the clock, some hundreds of nanoseconds.
const STEPS_PER_LOOK: u64 = 500;

/// Another application that burns CPU time besides. Its results and its state are those of the other one.
pub struct Burning {
    inner: Box<dyn Application>,
    ns_per_operation: u64,
    /// What is still to be burned; below zero if more than that was.
    owed_ns: Cell<i64>,
}

impl Burning {
    /// Wraps `inner`: for each operation that it executes or answers without order so many nanoseconds of this thread's
    /// CPU time are burned, on average. Time in which the thread had no core does not count, so that the handicap is
    /// the same on a busy machine.
    #[must_use]
    pub const fn new(inner: Box<dyn Application>, ns_per_operation: u64) -> Self {
        Self { inner, ns_per_operation, owed_ns: Cell::new(0) }
    }

    fn owe(&self) {
        let owed_ns = self.owed_ns.get().saturating_add_unsigned(self.ns_per_operation);
        self.owed_ns.set(if owed_ns >= PIECE_NS { owed_ns - burn(owed_ns) } else { owed_ns });
    }
}

/// Burns at least so much; how much it was, ns.
fn burn(ns: i64) -> i64 {
    let began = thread_cpu();
    loop {
        black_box((0..STEPS_PER_LOOK).fold(0, |sum, step| black_box(sum ^ step)));
        let burned = i64::try_from(thread_cpu().saturating_sub(began).as_nanos()).unwrap_or(i64::MAX);
        if burned >= ns {
            return burned;
        }
    }
}

/// CPU time of this thread so far.
fn thread_cpu() -> Duration {
    // A clock that runs from the thread's first instruction is never below zero.
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

impl Application for Burning {
    fn validate(&self, operation: &[u8]) -> Result<(), InvalidOperation> {
        self.inner.validate(operation)
    }

    fn execute(&mut self, operation: &[u8], result: &mut Vec<u8>) {
        self.inner.execute(operation, result);
        self.owe();
    }

    fn execute_run(
        &mut self,
        operations: Operations<'_>,
        enough_bytes: usize,
        results: &mut Vec<u8>,
        lengths: &mut Vec<u32>,
    ) {
        let before = lengths.len();
        self.inner.execute_run(operations, enough_bytes, results, lengths);
        (before..lengths.len()).for_each(|_| self.owe());
    }

    fn execute_undoably(&mut self, operation: &[u8], result: &mut Vec<u8>, record: &mut Vec<u8>) {
        self.inner.execute_undoably(operation, result, record);
        self.owe();
    }

    fn undo(&mut self, record: &[u8]) {
        self.inner.undo(record);
    }

    fn query(&self, operation: &[u8], result: &mut Vec<u8>) -> Option<u64> {
        let version = self.inner.query(operation, result)?;
        self.owe();
        Some(version)
    }

    fn digest(&mut self) -> Digest {
        self.inner.digest()
    }

    fn snapshot(&self, chunk: &mut dyn FnMut(&[u8])) {
        self.inner.snapshot(chunk);
    }

    fn fresh(&self) -> Box<dyn Application> {
        Box::new(Self::new(self.inner.fresh(), self.ns_per_operation))
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), InvalidOperation> {
        self.inner.restore(chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::null::{self, Null};
    use crate::requests::RequestTable;

    #[test]
    fn what_is_owed_is_burned_as_cpu_time_and_nothing_else_changes() {
        let mut plain = Null::new(16);
        let mut burning = Burning::new(Box::new(Null::new(16)), 1000);
        let began = thread_cpu();
        for _ in 0..5000 {
            let mut result = Vec::new();
            burning.execute(b"", &mut result);
            plain.execute(b"", &mut Vec::new());
            assert_eq!(result, null::result(16));
            let (mut slow, mut quick) = (Vec::new(), Vec::new());
            assert_eq!(burning.query(b"", &mut slow), plain.query(b"", &mut quick));
            assert_eq!(slow, quick);
        }
        let burned = thread_cpu().saturating_sub(began);
        assert!(burned >= Duration::from_micros(9980), "{burned:?} of 10 ms");

        let table = RequestTable { operation_ends: vec![0; 10_000], ..RequestTable::empty() };
        let (began, mut lengths) = (thread_cpu(), vec![1]);
        burning.execute_run(table.operations(0..10_000), usize::MAX, &mut Vec::new(), &mut lengths);
        plain.execute_run(table.operations(0..10_000), usize::MAX, &mut Vec::new(), &mut Vec::new());
        let burned = thread_cpu().saturating_sub(began);
        assert!(burned >= Duration::from_micros(9980), "{burned:?} of 10 ms for a run");
        assert_eq!(lengths.len(), 10_001);
        assert!(burning.owed_ns.get() < PIECE_NS);
        assert_eq!(burning.digest(), plain.digest());
    }

    #[test]
    fn what_was_burned_too_much_is_given_back() {
        let mut burning = Burning::new(Box::new(Null::new(0)), 1);
        burning.owed_ns.set(PIECE_NS - 1);
        burning.execute(b"", &mut Vec::new());
        let ahead = burning.owed_ns.get();
        assert!(ahead <= 0);
        burning.execute(b"", &mut Vec::new());
        assert_eq!(burning.owed_ns.get(), ahead + 1);
    }
}
