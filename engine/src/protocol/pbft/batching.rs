//! Requests waiting at the primary, and when they leave as a batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{OPERATIONS_BYTES_MAX, REQUESTS_MAX, WAITING_BYTES_MAX};
use crate::requests::{RequestTable, TableBuilder};
use crate::settings::options::{Batching, FIXED_FLUSH};
use crate::types::{SequenceNumber, Time};

/// The queue of admitted requests, in order of arrival.
///
/// Requests wait in the tables that they came in. At most one request of a client waits (admission sees to that), so
/// the queue is bounded by the number of clients, and by [`WAITING_BYTES_MAX`].
#[derive(Debug)]
pub(super) struct Queue {
    batching: Batching,
    tables: VecDeque<Waiting>,
    requests: usize,
    /// Bytes of the waiting operations.
    operation_bytes: usize,
    /// Bytes of the tables that they are in.
    table_bytes: usize,
    last_arrival: Time,
}

#[derive(Debug)]
struct Waiting {
    table: Arc<RequestTable>,
    /// Which of its requests were admitted.
    admitted: Vec<u32>,
    /// How many of these have left.
    taken: usize,
    arrived: Time,
}

impl Waiting {
    /// The next request to leave, as an index of the table.
    fn front(&self) -> Option<usize> {
        self.admitted.get(self.taken).map(|&index| index as usize)
    }

    /// Whether every request of the table was admitted and none has left.
    fn is_whole(&self) -> bool {
        self.taken == 0 && self.admitted.len() == self.table.len()
    }
}

impl Queue {
    /// An empty queue.
    pub(super) const fn new(batching: Batching) -> Self {
        Self {
            batching,
            tables: VecDeque::new(),
            requests: 0,
            operation_bytes: 0,
            table_bytes: 0,
            last_arrival: Time(0),
        }
    }

    /// How many requests wait.
    pub(super) const fn len(&self) -> usize {
        self.requests
    }

    /// Whether there is room for requests of one more table.
    pub(super) fn has_room(&self, table: &RequestTable) -> bool {
        self.table_bytes + table.bytes() <= WAITING_BYTES_MAX
    }

    /// Appends the `admitted` requests of `table`.
    pub(super) fn push(&mut self, table: Arc<RequestTable>, admitted: Vec<u32>, now: Time) {
        if admitted.is_empty() {
            return;
        }
        self.requests += admitted.len();
        self.operation_bytes += admitted.iter().map(|&index| table.operation(index as usize).len()).sum::<usize>();
        self.table_bytes += table.bytes();
        self.last_arrival = now;
        self.tables.push_back(Waiting { table, admitted, taken: 0, arrived: now });
    }

    /// Whether a batch may leave as sequence number `next`, when the executor has done all up to `executed`.
    pub(super) fn may_close(&self, now: Time, next: SequenceNumber, executed: SequenceNumber) -> bool {
        if self.requests == 0 {
            return false;
        }
        match self.batching {
            Batching::None => true,
            // Castro's thesis, section 5.1.4: let requests gather while enough batches are under way.
            Batching::Adaptive { in_flight, .. } => next.0 <= executed.0.saturating_add(in_flight),
            Batching::Fixed { .. } | Batching::Time { .. } => {
                self.is_full() || self.due().is_some_and(|due| now >= due)
            }
        }
    }

    /// When a partial batch leaves by the clock, if it does.
    pub(super) fn due(&self) -> Option<Time> {
        let oldest = self.tables.front()?.arrived;
        match self.batching {
            Batching::Fixed { .. } => Some(self.last_arrival.after(nanos(FIXED_FLUSH))),
            Batching::Time { delay, .. } => Some(oldest.after(nanos(delay))),
            Batching::None | Batching::Adaptive { .. } => None,
        }
    }

    /// Takes out the next batch, bounded by the batch size and the limits of a table, and when its oldest request
    /// arrived.
    pub(super) fn take(&mut self) -> (RequestTable, Time) {
        let oldest = self.tables.front().map_or(self.last_arrival, |waiting| waiting.arrived);
        let batch = self.take_whole_table().unwrap_or_else(|| self.gather());
        self.requests -= batch.len();
        self.operation_bytes -= batch.operations.len();
        (batch, oldest)
    }

    /// Takes out a table of what waits, whatever the batching says; `None` if nothing does.
    pub(super) fn take_admitted(&mut self) -> Option<RequestTable> {
        let waiting = self.tables.pop_front()?;
        let left: Vec<usize> = waiting.admitted[waiting.taken..].iter().map(|&index| index as usize).collect();
        let requests = waiting.table.select(&left);
        self.table_bytes -= waiting.table.bytes();
        self.requests -= requests.len();
        self.operation_bytes -= requests.operations.len();
        Some(requests)
    }

    /// A single table that makes up the batch is passed on as it is.
    fn take_whole_table(&mut self) -> Option<RequestTable> {
        let front = self.tables.front()?;
        let alone = self.tables.len() == 1 || front.table.len() == self.size();
        if !alone || !front.is_whole() || front.table.len() > self.size() {
            return None;
        }
        let waiting = self.tables.pop_front()?;
        self.table_bytes -= waiting.table.bytes();
        Some(Arc::unwrap_or_clone(waiting.table))
    }

    fn gather(&mut self) -> RequestTable {
        let mut batch = TableBuilder::default();
        let size = self.size();
        'full: while let Some(waiting) = self.tables.front_mut() {
            while let Some(index) = waiting.front() {
                let bytes = waiting.table.operation(index).len();
                let fits = batch.len() < size && batch.operation_bytes() + bytes <= OPERATIONS_BYTES_MAX;
                if !fits && !batch.is_empty() {
                    break 'full;
                }
                batch.push(&waiting.table, index);
                waiting.taken += 1;
            }
            self.table_bytes -= waiting.table.bytes();
            self.tables.pop_front();
        }
        batch.finish()
    }

    fn is_full(&self) -> bool {
        self.requests >= self.size() || self.operation_bytes >= OPERATIONS_BYTES_MAX
    }

    fn size(&self) -> usize {
        self.batching.size().clamp(1, REQUESTS_MAX)
    }
}

/// Batching delays are at most seconds.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
