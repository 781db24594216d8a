//! Operations and results of fixed sizes: the 0/0, 4/0 and 0/4 micro-benchmarks of Castro & Liskov (OSDI'99), for the
//! `null` application.

use hippodrome_engine::app::null;
use hippodrome_engine::short;
use hippodrome_engine::types::{ClientId, Timestamp};

use super::Workload;

/// What operations are filled up with.
const FILL: u8 = 0xA5;
const FILL_WORD: u64 = u64::from_le_bytes([FILL; 8]);

/// Operations of `request_bytes` bytes: client, timestamp, fill, cut to size; no two are equal from 12 bytes on. Every
/// result must be that of the `null` application.
#[derive(Clone, Debug)]
pub struct Fixed {
    request_bytes: usize,
    result: Vec<u8>,
}

impl Fixed {
    /// Operations of `request_bytes` with results of `reply_bytes`.
    #[must_use]
    pub fn new(request_bytes: usize, reply_bytes: usize) -> Self {
        Self { request_bytes, result: null::result(reply_bytes) }
    }
}

impl Workload for Fixed {
    fn next(&mut self, client: ClientId, timestamp: Timestamp, operation: &mut Vec<u8>) {
        // Written as the two words in which `short` copies it.
        let words = [u64::from(client.0) | timestamp.0 << 32, timestamp.0 >> 32 | FILL_WORD << 32];
        let Some(rest) = self.request_bytes.checked_sub(size_of_val(&words)) else {
            let head = words.map(u64::to_le_bytes);
            operation.extend_from_slice(&head.as_flattened()[..self.request_bytes]);
            return;
        };
        words.iter().for_each(|word| operation.extend_from_slice(&word.to_le_bytes()));
        operation.resize(operation.len() + rest, FILL);
    }

    fn check(&mut self, _client: ClientId, _timestamp: Timestamp, result: &[u8]) -> bool {
        short::equal(result, &self.result)
    }
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::app::Application;
    use hippodrome_engine::app::null::Null;

    use super::*;

    #[test]
    fn operations_have_their_size_and_differ() {
        for request_bytes in [0, 4, 12, 14, 16, 17, 100] {
            let mut workload = Fixed::new(request_bytes, 0);
            let mut operations = b"before".to_vec();
            workload.next(ClientId(1), Timestamp(2), &mut operations);
            assert_eq!(operations.len(), 6 + request_bytes);
            assert_eq!(operations[..6], *b"before");
            let of = |client, timestamp| {
                let mut operation = Vec::new();
                Fixed::new(request_bytes, 0).next(ClientId(client), Timestamp(timestamp), &mut operation);
                operation
            };
            assert_eq!(of(1, 2), operations[6..]);
            assert_eq!(of(1, 2) != of(2, 2), request_bytes >= 4);
            assert_eq!(of(1, 2) != of(1, 3), request_bytes >= 12);
            let whole = [&1_u32.to_le_bytes()[..], &(u64::MAX - 1).to_le_bytes(), &[FILL; 100]].concat();
            assert_eq!(of(1, u64::MAX - 1), whole[..request_bytes]);
        }
    }

    #[test]
    fn the_results_of_the_null_application_are_expected_and_no_others() {
        for reply_bytes in [0, 4, 1000] {
            let mut result = Vec::new();
            Null::new(reply_bytes).execute(b"", &mut result);
            let mut workload = Fixed::new(0, reply_bytes);
            assert!(workload.check(ClientId(0), Timestamp(1), &result));
            result.push(0);
            assert!(!workload.check(ClientId(0), Timestamp(1), &result));
        }
        assert!(!Fixed::new(0, 2).check(ClientId(0), Timestamp(1), &[9, 9]));
    }
}
