//! An application that computes wrongly, for tests of the audit: clients must outvote it and its ledger must not pass.

use super::{Application, InvalidOperation};
use crate::requests::ReplyTable;
use crate::types::Digest;

/// Another application whose results are wrong from some operation on. The state itself stays right.
pub struct Wrong {
    inner: Box<dyn Application>,
    from_operation: u64,
    executed: u64,
}

impl Wrong {
    /// Wraps `inner`: the results of its operations `from_operation` (counted from 1) and later are wrong; with 0 or 1
    /// all of them.
    #[must_use]
    pub const fn new(inner: Box<dyn Application>, from_operation: u64) -> Self {
        Self { inner, from_operation, executed: 0 }
    }

    /// Counts an operation whose result begins at `start`, and spoils that if its time has come.
    fn has_executed(&mut self, start: usize, result: &mut Vec<u8>) {
        self.executed += 1;
        if self.executed >= self.from_operation {
            falsify(start, result);
        }
    }
}

impl Application for Wrong {
    fn validate(&self, operation: &[u8]) -> Result<(), InvalidOperation> {
        self.inner.validate(operation)
    }

    fn execute(&mut self, operation: &[u8], result: &mut Vec<u8>) {
        let start = result.len();
        self.inner.execute(operation, result);
        self.has_executed(start, result);
    }

    fn execute_undoably(&mut self, operation: &[u8], result: &mut Vec<u8>, record: &mut Vec<u8>) {
        let start = result.len();
        self.inner.execute_undoably(operation, result, record);
        self.has_executed(start, result);
    }

    fn undo(&mut self, record: &[u8]) {
        self.inner.undo(record);
        self.executed -= 1;
    }

    fn query(&self, operation: &[u8], result: &mut Vec<u8>) -> Option<u64> {
        let start = result.len();
        let answered = self.inner.query(operation, result);
        if answered.is_some() && self.executed + 1 >= self.from_operation {
            falsify(start, result);
        }
        answered
    }

    fn digest(&mut self) -> Digest {
        self.inner.digest()
    }

    fn snapshot(&self, chunk: &mut dyn FnMut(&[u8])) {
        self.inner.snapshot(chunk);
    }

    /// One that goes on computing as wrongly as this one.
    fn fresh(&self) -> Box<dyn Application> {
        Box::new(Self { inner: self.inner.fresh(), ..*self })
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), InvalidOperation> {
        self.inner.restore(chunks)
    }
}

/// Changes the result that begins at `start` in any case: an empty one gets a byte, another one's last byte is
/// inverted.
fn falsify(start: usize, result: &mut Vec<u8>) {
    match result[start..].last_mut() {
        Some(byte) => *byte = !*byte,
        None => result.push(0xBA),
    }
}

/// The same replies with results that are all wrong, and digests of no result.
#[must_use]
pub fn falsified(replies: &ReplyTable) -> ReplyTable {
    let mut results = Vec::with_capacity(replies.results.len() + replies.len());
    let mut result_ends = Vec::with_capacity(replies.len());
    for index in 0..replies.len() {
        let start = results.len();
        results.extend_from_slice(replies.result(index));
        falsify(start, &mut results);
        #[allow(clippy::cast_possible_truncation, reason = "a byte longer for each empty result of a bounded table")]
        result_ends.push(results.len() as u32);
    }
    ReplyTable { result_ends, results: results.into(), ..replies.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::null::{self, Null};

    #[test]
    fn results_are_wrong_from_the_given_operation_on() {
        for reply_bytes in [0, 16] {
            let mut wrong = Wrong::new(Box::new(Null::new(reply_bytes)), 3);
            for operation in 1..=5 {
                let mut result = Vec::new();
                wrong.execute(b"", &mut result);
                assert_eq!(result != null::result(reply_bytes), operation >= 3, "operation {operation}");
            }
        }
    }
}
