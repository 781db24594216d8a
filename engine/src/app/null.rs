//! The null application: ignores the operation and answers with a fixed number of bytes, as in the 0/0, 4/0 and 0/4
//! micro-benchmarks of Castro & Liskov (OSDI'99, section 7.1). What remains is the cost of agreement itself.

use super::{Application, InvalidOperation};
use crate::limits::RESULT_BYTES_MAX;
use crate::requests::Operations;
use crate::types::Digest;

/// The result that every operation has: `reply_bytes` bytes of a fixed pattern, so that a client can check what it
/// gets.
#[must_use]
pub fn result(reply_bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(reply_bytes).collect()
}

/// The null application. Its state is the number of operations that it executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Null {
    result: Vec<u8>,
    executed: u64,
}

impl Null {
    /// One whose results have `reply_bytes` bytes.
    ///
    /// # Panics
    /// If that is more than [`RESULT_BYTES_MAX`]: the cluster file was not validated.
    #[must_use]
    pub fn new(reply_bytes: usize) -> Self {
        assert!(reply_bytes <= RESULT_BYTES_MAX, "reply_bytes: at most {RESULT_BYTES_MAX}");
        Self { result: result(reply_bytes), executed: 0 }
    }
}

impl Application for Null {
    fn validate(&self, _operation: &[u8]) -> Result<(), InvalidOperation> {
        Ok(())
    }

    fn execute(&mut self, _operation: &[u8], result: &mut Vec<u8>) {
        self.executed += 1;
        result.extend_from_slice(&self.result);
    }

    fn execute_run(
        &mut self,
        operations: Operations<'_>,
        enough_bytes: usize,
        results: &mut Vec<u8>,
        lengths: &mut Vec<u32>,
    ) {
        let each = self.result.len();
        let executed = match enough_bytes.saturating_sub(results.len()) {
            0 => operations.len().min(1),
            _ if each == 0 => operations.len(),
            room => operations.len().min(room.div_ceil(each)),
        };
        self.executed += executed as u64;
        #[allow(clippy::cast_possible_truncation, reason = "at most RESULT_BYTES_MAX")]
        lengths.resize(lengths.len() + executed, each as u32);
        // The first result is copied, then what there is, twice as much each time.
        let (start, bytes) = (results.len(), executed * each);
        results.reserve(bytes);
        results.extend_from_slice(&self.result[..bytes.min(each)]);
        while results.len() < start + bytes {
            let more = (results.len() - start).min(start + bytes - results.len());
            results.extend_from_within(start..start + more);
        }
    }

    fn execute_undoably(&mut self, operation: &[u8], result: &mut Vec<u8>, _record: &mut Vec<u8>) {
        self.execute(operation, result);
    }

    fn undo(&mut self, _record: &[u8]) {
        self.executed -= 1;
    }

    /// Every operation may count as read-only, as in the read-only variants of the micro-benchmarks.
    fn query(&self, _operation: &[u8], result: &mut Vec<u8>) -> Option<u64> {
        result.extend_from_slice(&self.result);
        Some(0)
    }

    fn digest(&mut self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 null application");
        hasher.update(&(self.result.len() as u64).to_le_bytes());
        hasher.update(&self.executed.to_le_bytes());
        hasher.finalize().into()
    }

    fn snapshot(&self, chunk: &mut dyn FnMut(&[u8])) {
        chunk(&self.executed.to_le_bytes());
    }

    fn fresh(&self) -> Box<dyn Application> {
        Box::new(Self::new(self.result.len()))
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), InvalidOperation> {
        let malformed = || InvalidOperation("a snapshot of the null application is one chunk of 8 bytes".into());
        let executed = chunks.next().and_then(|chunk| chunk.try_into().ok()).ok_or_else(malformed)?;
        if chunks.next().is_some() {
            return Err(malformed());
        }
        self.executed = u64::from_le_bytes(executed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_size_that_was_asked_for() {
        for reply_bytes in [0, 4, 300] {
            let mut results = b"before".to_vec();
            Null::new(reply_bytes).execute(b"whatever", &mut results);
            assert_eq!(results, [b"before".as_slice(), &result(reply_bytes)].concat());
            assert_eq!(results.len(), 6 + reply_bytes);
        }
    }

    #[test]
    fn a_restored_state_has_the_same_digest() {
        let mut null = Null::new(4);
        let initial = null.digest();
        null.execute(b"", &mut Vec::new());
        assert_ne!(null.digest(), initial);

        let mut restored = Null::new(4);
        let mut chunks = Vec::new();
        null.snapshot(&mut |chunk| chunks.push(chunk.to_vec()));
        restored.restore(&mut chunks.into_iter()).unwrap();
        assert_eq!(restored, null);
        assert_eq!(restored.digest(), null.digest());
        assert!(restored.restore(&mut std::iter::empty()).is_err());
        assert!(restored.restore(&mut std::iter::once(vec![0; 7])).is_err());
        assert!(restored.restore(&mut vec![vec![0; 8]; 2].into_iter()).is_err());
        assert_eq!(restored, null, "what is refused changes nothing");
    }
}
