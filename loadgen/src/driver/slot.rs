//! What a thread keeps of one logical client.

use hippodrome_engine::short;
use hippodrome_engine::types::{Time, Timestamp};
use smallvec::SmallVec;

/// Bytes of an operation that are kept in place: as many as pointer and length of a longer one take.
const INLINE_BYTES: usize = 16;

/// One logical client, in one line of the cache: every operation is of another client.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Slot {
    /// Of the last operation that was to be ordered.
    pub(super) timestamp: u64,
    /// When the operation was to be sent.
    pub(super) intended: Time,
    pub(super) sent: Time,
    /// When it was sent to be ordered.
    pub(super) ordered: Time,
    /// Kept for retransmission; the memory is used again.
    pub(super) operation: SmallVec<[u8; INLINE_BYTES]>,
    pub(super) outstanding: bool,
    pub(super) timed_out: bool,
    /// What is outstanding is a read-only request, which was not ordered (yet).
    pub(super) reading: bool,
    /// Whether its operation is followed.
    pub(super) followed: bool,
}

const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    /// Keeps the operation that is begun, in place if it fits.
    #[inline]
    pub(super) fn keep(&mut self, operation: &[u8]) {
        if self.operation.len() != operation.len() {
            self.operation.resize(operation.len(), 0);
        }
        short::copy(operation, &mut self.operation);
    }

    /// Whether the client still waits for this operation.
    pub(super) const fn waits_for(&self, timestamp: u64) -> bool {
        self.outstanding && !self.reading && self.timestamp == timestamp
    }

    /// The timestamp of what is outstanding. A read-only request has none unless it comes to be ordered: the next one.
    pub(super) const fn current(&self) -> Timestamp {
        Timestamp(self.timestamp + self.reading as u64)
    }

    /// How many operations were ordered and are complete: the last one is not yet, if it is outstanding.
    pub(super) const fn completed(&self) -> u64 {
        self.timestamp - (self.outstanding && !self.reading) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_kept_whatever_was_there() {
        let mut slot = Slot::default();
        for bytes in [0, 5, 16, 17, 3, 16, 100, 16, 0, 40] {
            let operation: Vec<u8> = (1..=bytes).collect();
            slot.keep(&operation);
            assert_eq!(slot.operation.as_slice(), operation);
        }
    }

    #[test]
    fn what_is_complete_follows_from_what_was_begun() {
        let slot = |timestamp, outstanding, reading| Slot { timestamp, outstanding, reading, ..Slot::default() };
        for (told, slot, completed, current) in [
            ("fresh", slot(0, false, false), 0, 0),
            ("its first is to be ordered", slot(1, true, false), 0, 1),
            ("its first is a read", slot(0, true, true), 0, 1),
            ("a read came to be ordered", slot(1, true, false), 0, 1),
            ("a read was answered", slot(1, false, true), 1, 2),
            ("what was ordered is complete", slot(3, false, false), 3, 3),
            ("a read after that", slot(3, true, true), 3, 4),
        ] {
            assert_eq!((slot.completed(), slot.current()), (completed, Timestamp(current)), "{told}");
        }
    }
}
