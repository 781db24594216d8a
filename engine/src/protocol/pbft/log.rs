//! The log: a ring of slots between the watermarks, and the decided batches below them that are kept for laggards.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::slot::Slot;
use super::transitions::{Event, Phase};
use crate::limits::{HISTORY_BATCHES_MAX, HISTORY_BYTES_MAX, WINDOW_MAX};
use crate::requests::Batch;
use crate::types::{SequenceNumber, Time};

/// Where a sequence number lies (Castro & Liskov, OSDI'99, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At or below the low watermark h.
    Below,
    /// In (h, h + L].
    Window,
    /// In (h + L, h + 2L]: a replica that is one window behind its peers hears of these.
    Early,
    /// Above h + 2L.
    Above,
}

/// Slots of the sequence numbers in (h, h + L], at index sequence mod L.
#[derive(Debug)]
pub(super) struct Log {
    slots: Vec<Slot>,
    /// The low watermark h: the own stable checkpoint.
    low: SequenceNumber,
    /// The highest sequence number that anything was recorded for.
    highest: SequenceNumber,
    /// Up to here all is decided and, where the executor's state does not hold it already, handed to the executor.
    pub(super) committed: SequenceNumber,
    /// Up to here all was handed to the executor, as far as it is above `committed`: tentatively.
    pub(super) tentative: SequenceNumber,
    /// Where the executor's state stands. Above `committed` if it was fetched; below `low` if it is still to be.
    pub(super) executed: SequenceNumber,
    history: History,
}

impl Log {
    /// An empty log with room for `window` sequence numbers.
    pub(super) fn new(window: u64) -> Self {
        assert!((1..=WINDOW_MAX).contains(&window), "window out of range");
        Self {
            slots: (0..window).map(|_| Slot::default()).collect(),
            low: SequenceNumber(0),
            highest: SequenceNumber(0),
            committed: SequenceNumber(0),
            tentative: SequenceNumber(0),
            executed: SequenceNumber(0),
            history: History::default(),
        }
    }

    /// L, the size of the window.
    pub(super) const fn window(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The low watermark h.
    pub(super) const fn low(&self) -> SequenceNumber {
        self.low
    }

    /// The high watermark h + L.
    pub(super) const fn high(&self) -> SequenceNumber {
        SequenceNumber(self.low.0.saturating_add(self.window()))
    }

    /// The highest sequence number that anything is known of.
    pub(super) fn highest(&self) -> SequenceNumber {
        self.highest.max(self.committed)
    }

    /// Where `sequence` lies.
    pub(super) fn place(&self, sequence: SequenceNumber) -> Place {
        match sequence.0.checked_sub(self.low.0) {
            None | Some(0) => Place::Below,
            Some(ahead) if ahead <= self.window() => Place::Window,
            Some(ahead) if ahead <= 2 * self.window() => Place::Early,
            Some(_) => Place::Above,
        }
    }

    /// The slot of a sequence number in the window.
    pub(super) fn slot(&self, sequence: SequenceNumber) -> &Slot {
        debug_assert_eq!(self.place(sequence), Place::Window);
        &self.slots[self.index(sequence)]
    }

    /// The slot of a sequence number in the window, to record something in it.
    pub(super) fn slot_mut(&mut self, sequence: SequenceNumber) -> &mut Slot {
        debug_assert_eq!(self.place(sequence), Place::Window);
        self.highest = self.highest.max(sequence);
        let index = self.index(sequence);
        &mut self.slots[index]
    }

    /// Whether `sequence` has a slot.
    pub(super) fn holds(&self, sequence: SequenceNumber) -> bool {
        self.place(sequence) == Place::Window
    }

    /// Keeps fewer decided batches for laggards than there is room for.
    pub(super) const fn limit_history(&mut self, batches: usize) {
        self.history.batches_max = batches;
    }

    /// Starts at a checkpoint instead of the initial state. Nothing has been recorded yet. Of the decided batches,
    /// those that lead up to the checkpoint are history: after a power failure nobody else may have them any more.
    pub(super) fn start_from(&mut self, stable: SequenceNumber, decided: &BTreeMap<SequenceNumber, Arc<Batch>>) {
        assert_eq!(self.highest, SequenceNumber(0), "an empty log is started");
        self.low = stable;
        self.highest = stable;
        self.committed = stable;
        self.executed = stable;
        let before = decided.range(..=stable).rev().zip((0..=stable.0).rev());
        let history: Vec<_> = before.take_while(|((sequence, _), expected)| sequence.0 == *expected).collect();
        for ((_, batch), _) in history.into_iter().rev() {
            self.history.push(Arc::clone(batch));
        }
    }

    /// All slots, in no particular order.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// All slots, in no particular order.
    pub(super) fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    /// The batch decided at `sequence`, if it was handed to the executor and is still kept.
    pub(super) fn decided_batch(&self, sequence: SequenceNumber) -> Option<&Arc<Batch>> {
        if sequence > self.committed {
            return None;
        }
        if sequence > self.low { self.slot(sequence).batch.as_ref() } else { self.history.get(self.low, sequence) }
    }

    /// The lowest sequence number whose batch is still kept, one above the low watermark if none below is.
    pub(super) fn oldest_kept(&self) -> SequenceNumber {
        SequenceNumber(self.low.0 + 1 - self.history.batches.len() as u64)
    }

    /// Raises the low watermark. The batches up to it that were executed here become history, as far as no gap follows
    /// them: where the state was fetched, or is still to be, there are none.
    pub(super) fn advance(&mut self, stable: SequenceNumber, now: Time) {
        assert!(stable > self.low, "h only rises");
        let last = stable.min(self.high());
        for sequence in (self.low.0 + 1..=last.0).map(SequenceNumber) {
            let slot = self.slot_mut(sequence);
            if slot.phase == Phase::Executed {
                slot.enter(Event::Collect, now);
                let batch = slot.clear().expect("an executed slot has its batch");
                self.history.push(batch);
            } else {
                slot.clear();
                self.forget_history();
            }
            self.low = sequence;
        }
        if last < stable {
            self.forget_history();
            self.low = stable;
        }
        self.highest = self.highest.max(stable);
        self.committed = self.committed.max(stable);
    }

    /// The executor's state is now the one at `to`, which was fetched. The low watermark stays, and so does what is
    /// known of the slots in between: they are agreed on as before, for those that may need them, but not executed.
    pub(super) fn take_state(&mut self, to: SequenceNumber) {
        assert!(to > self.executed, "a state is fetched to get ahead");
        self.executed = to;
    }

    /// Whether the executor's state lacks what lies up to the low watermark.
    pub(super) fn lacks_state(&self) -> bool {
        self.executed < self.low
    }

    /// Up to where everything is in the executor's state or on its way there.
    pub(super) fn reaches(&self) -> SequenceNumber {
        if self.lacks_state() { self.executed } else { self.committed.max(self.executed) }
    }

    /// Up to where everything was handed to the executor, committed or not.
    pub(super) fn handed_out(&self) -> SequenceNumber {
        self.tentative.max(self.committed)
    }

    /// Up to where nothing is left to be done here but to fetch a state.
    pub(super) fn done(&self) -> SequenceNumber {
        self.executed.max(self.low)
    }

    /// Keeps no batch below the low watermark any longer.
    pub(super) fn forget_history(&mut self) {
        self.history = History { batches_max: self.history.batches_max, ..History::default() };
    }

    #[allow(clippy::cast_possible_truncation, reason = "the remainder is below the window, at most WINDOW_MAX")]
    const fn index(&self, sequence: SequenceNumber) -> usize {
        (sequence.0 % self.slots.len() as u64) as usize
    }
}

/// Decided batches up to the low watermark, newest last, bounded in number and bytes.
#[derive(Debug)]
struct History {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    batches_max: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { batches: VecDeque::new(), bytes: 0, batches_max: HISTORY_BATCHES_MAX }
    }
}

impl History {
    fn push(&mut self, batch: Arc<Batch>) {
        let batch = batch.to_keep();
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
        while self.bytes > HISTORY_BYTES_MAX || self.batches.len() > self.batches_max {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }

    fn get(&self, low: SequenceNumber, sequence: SequenceNumber) -> Option<&Arc<Batch>> {
        let back = usize::try_from(low.0.checked_sub(sequence.0)?).ok()?;
        self.batches.get(self.batches.len().checked_sub(back + 1)?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::limits::READ_CHUNK_BYTES;
    use crate::requests::{Proofs, RequestTable};
    use crate::types::{ClientId, Digest, Timestamp};

    #[test]
    fn a_kept_batch_keeps_no_chunk_and_no_proofs() {
        let chunk = Bytes::from(vec![5; 3 * READ_CHUNK_BYTES]);
        for (bytes, is_copied_at_once) in [(0, true), (100, true), (READ_CHUNK_BYTES, false)] {
            let received = RequestTable {
                clients: vec![ClientId(1)],
                timestamps: vec![Timestamp(2)],
                operation_ends: vec![u32::try_from(bytes).unwrap()],
                operations: chunk.slice(64..64 + bytes),
                digests: vec![Digest([3; 32])],
                proofs: Proofs::Signatures(chunk.slice(..64)),
            };
            let batch = Batch::received(received.clone());
            assert_eq!((&batch.requests, batch.digest), (&received, Batch::new(received.clone()).digest));
            let Proofs::Signatures(proofs) = &batch.requests.proofs else { panic!("{:?}", batch.requests.proofs) };
            let is_in_chunk = |bytes: &Bytes| chunk.as_ptr_range().contains(&bytes.as_ptr());
            assert_eq!(is_in_chunk(proofs), !is_copied_at_once, "{bytes}");
            assert_eq!(is_in_chunk(&batch.requests.operations), !is_copied_at_once, "{bytes}");
            for batch in [Batch::new(received.clone()), batch] {
                let mut history = History::default();
                history.push(Arc::clone(&batch));
                let kept = history.get(SequenceNumber(9), SequenceNumber(9)).unwrap();
                assert_eq!((kept.digest, &kept.requests.operations), (batch.digest, &batch.requests.operations));
                assert!(!is_in_chunk(&kept.requests.operations), "{bytes}");
                assert_eq!(kept.requests.proofs, Proofs::None);
                assert_eq!(history.bytes, 64 + bytes);
            }
        }
    }
}
