//! Requests waiting at the primary. When they leave as a batch is up to a [`Policy`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Batching, Decision, Executed, Policy, Waiting};
use crate::limits::{REQUESTS_MAX, WAITING_BYTES_MAX};
use crate::requests::{RequestTable, TableBuilder};
use crate::types::{SequenceNumber, Time};

/// The queue of admitted requests, in order of arrival.
///
/// Requests wait in the tables that they came in. At most one request of a client waits (admission sees to that), so
/// the queue is bounded by the number of clients, and by [`WAITING_BYTES_MAX`].
#[derive(Debug)]
pub(in crate::protocol) struct Queue {
    batching: Batching,
    /// Of this view.
    policy: Box<dyn Policy>,
    tables: VecDeque<Table>,
    requests: usize,
    /// Bytes of the waiting operations.
    operation_bytes: usize,
    /// Bytes of the tables that they are in.
    table_bytes: usize,
    newest: Time,
    /// What left in this view and was not executed yet, in order; bounded by the watermark window.
    under_way: VecDeque<UnderWay>,
}

/// A batch that was proposed.
#[derive(Debug)]
struct UnderWay {
    sequence: SequenceNumber,
    requests: usize,
    arrived: Time,
    proposed: Time,
}

#[derive(Debug)]
struct Table {
    table: Arc<RequestTable>,
    /// Which of its requests were admitted.
    admitted: Vec<u32>,
    /// How many of these have left.
    taken: usize,
    arrived: Time,
}

impl Table {
    /// Whether every request of the table was admitted and none has left.
    fn is_whole(&self) -> bool {
        self.taken == 0 && self.admitted.len() == self.table.len()
    }
}

impl Queue {
    /// An empty queue.
    pub(in crate::protocol) fn new(batching: Batching) -> Self {
        Self {
            policy: batching.policy(),
            batching,
            tables: VecDeque::new(),
            requests: 0,
            operation_bytes: 0,
            table_bytes: 0,
            newest: Time(0),
            under_way: VecDeque::new(),
        }
    }

    /// How many requests wait.
    pub(in crate::protocol) const fn len(&self) -> usize {
        self.requests
    }

    /// Whether there is room for requests of one more table.
    pub(in crate::protocol) fn has_room(&self, table: &RequestTable) -> bool {
        self.table_bytes + table.bytes() <= WAITING_BYTES_MAX
    }

    /// Appends the `admitted` requests of `table`.
    pub(in crate::protocol) fn push(&mut self, table: Arc<RequestTable>, admitted: Vec<u32>, now: Time) {
        if admitted.is_empty() {
            return;
        }
        self.requests += admitted.len();
        self.operation_bytes += admitted.iter().map(|&index| table.operation(index as usize).len()).sum::<usize>();
        self.table_bytes += table.bytes();
        self.newest = now;
        self.tables.push_back(Table { table, admitted, taken: 0, arrived: now });
    }

    /// What the policy wants, if anything waits: a batch to leave as sequence number `next`, or not yet. The executor
    /// has done all up to `executed`.
    pub(in crate::protocol) fn decide(
        &self,
        now: Time,
        next: SequenceNumber,
        executed: SequenceNumber,
    ) -> Option<Decision> {
        let oldest = self.tables.front()?.arrived;
        let decision = self.policy.decide(&Waiting {
            now,
            requests: self.requests,
            operation_bytes: self.operation_bytes,
            oldest,
            newest: self.newest,
            next,
            executed,
        });
        if let Decision::At(due) = decision {
            assert!(due > now, "{} waits for what is past", self.policy);
        }
        Some(decision)
    }

    /// Takes out the next batch, of at most `requests_max` requests and within the limits of a table, to be proposed as
    /// `sequence`; and when its oldest request arrived. Something must wait.
    pub(in crate::protocol) fn take(
        &mut self,
        requests_max: usize,
        sequence: SequenceNumber,
        now: Time,
    ) -> (RequestTable, Time) {
        let size = requests_max.clamp(1, REQUESTS_MAX);
        let arrived = self.tables.front().map_or(now, |table| table.arrived);
        let batch = self.take_whole_table(size).unwrap_or_else(|| self.gather(size));
        self.requests -= batch.len();
        self.operation_bytes -= batch.operations.len();
        self.under_way.push_back(UnderWay { sequence, requests: batch.len(), arrived, proposed: now });
        (batch, arrived)
    }

    /// The batch at `sequence` was executed: the policy is told, if it is one that left here. What lies below was
    /// executed by way of a fetched state, and nothing is known of it.
    pub(in crate::protocol) fn on_executed(&mut self, sequence: SequenceNumber, now: Time) {
        while self.under_way.front().is_some_and(|batch| batch.sequence < sequence) {
            self.under_way.pop_front();
        }
        if self.under_way.front().is_some_and(|batch| batch.sequence == sequence)
            && let Some(UnderWay { requests, arrived, proposed, .. }) = self.under_way.pop_front()
        {
            self.policy.on_executed(&Executed { now, sequence, requests, arrived, proposed });
        }
    }

    /// The view ends: what is under way is not this replica's any more, and what its policy has learned is past.
    pub(in crate::protocol) fn leave_view(&mut self) {
        self.under_way.clear();
        self.policy = self.batching.policy();
    }

    /// Takes out a table of what waits, whatever the policy says; `None` if nothing does.
    pub(in crate::protocol) fn take_admitted(&mut self) -> Option<RequestTable> {
        let waiting = self.tables.pop_front()?;
        let left: Vec<usize> = waiting.admitted[waiting.taken..].iter().map(|&index| index as usize).collect();
        let requests = waiting.table.select(&left);
        self.table_bytes -= waiting.table.bytes();
        self.requests -= requests.len();
        self.operation_bytes -= requests.operations.len();
        Some(requests)
    }

    /// A single table that makes up the batch is passed on as it is.
    fn take_whole_table(&mut self, size: usize) -> Option<RequestTable> {
        let front = self.tables.front()?;
        let alone = self.tables.len() == 1 || front.table.len() == size;
        if !alone || !front.is_whole() || front.table.len() > size {
            return None;
        }
        let waiting = self.tables.pop_front()?;
        self.table_bytes -= waiting.table.bytes();
        Some(Arc::unwrap_or_clone(waiting.table))
    }

    fn gather(&mut self, size: usize) -> RequestTable {
        let mut batch = TableBuilder::default();
        'full: while let Some(waiting) = self.tables.front_mut() {
            let mut requests = batch.taking_from(&waiting.table);
            while let Some(&index) = waiting.admitted.get(waiting.taken) {
                let (index, gathered) = (index as usize, requests.builder());
                let fits = gathered.len() < size && gathered.has_room_for(&waiting.table, index);
                if !fits && !gathered.is_empty() {
                    break 'full;
                }
                requests.push(index);
                waiting.taken += 1;
            }
            self.table_bytes -= waiting.table.bytes();
            self.tables.pop_front();
        }
        batch.finish()
    }
}
