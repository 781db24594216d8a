//! What a thread does with replies to whole batches, which one replica sends and the others vouch for, and how it tells
//! them who is to.

use hippodrome_engine::limits::REPLIES_BYTES_MAX;
use hippodrome_engine::platform::prefetch::prefetch;
use hippodrome_engine::protocol::client::batches::{BatchOutcome, BatchReply, Batches, Heard};
use hippodrome_engine::requests::ReplyTable;
use hippodrome_engine::types::{ClientId, ReplicaId, SequenceNumber, Time, View};
use hippodrome_engine::wire::{DecodedBatchDigest, Frame, encode_answering};

use super::Driver;

/// How many replies ahead a client's state is prefetched: each reply is to another client.
const ROWS_AHEAD: usize = 8;

impl Driver {
    /// A replica vouches for the replies to a batch.
    pub(super) fn on_batch_digest(&mut self, connection: u32, frame: &Frame, read: Time) {
        let replica = ReplicaId(frame.sender.0);
        let Ok(decoded) = self.decoder.batch_digest(replica, frame.body.clone()) else {
            self.summary.bad_replies += 1;
            return;
        };
        let DecodedBatchDigest { view, sequence, digest, block, proof } = decoded;
        if !self.is_proven(frame.sender, block, &proof) {
            self.summary.bad_replies += 1;
            return;
        }
        let heard = Heard { read, counted: self.parts.clock.now() };
        let reply = BatchReply { replica, sequence, digest, replies: None, short: false, heard };
        self.on_batch_reply(connection, view, reply);
    }

    /// Counts what a replica in `view` says of a batch, and completes its operations if enough say so.
    pub(super) fn on_batch_reply(&mut self, connection: u32, view: View, reply: BatchReply) {
        self.parts.table.note_view(reply.replica, view);
        let primary = self.parts.table.primary();
        let index = connection.wrapping_sub(self.parts.owned.start) as usize;
        let Some(batches) = self.batches.get_mut(index) else {
            self.summary.bad_replies += 1; // nobody has asked for that
            return;
        };
        let (sequence, now) = (reply.sequence, reply.heard.counted);
        let BatchOutcome::Agreed { replies, voters } = batches.on_reply(reply, primary) else { return };
        self.results_in_a_frame = results_in_a_frame(&replies);
        self.watch(index, sequence, voters, &replies);
        for (row, result) in replies.results().enumerate() {
            if let Some(&client) = replies.clients.get(row + ROWS_AHEAD) {
                self.prefetch(client);
            }
            let client = replies.clients[row];
            let timestamp = replies.timestamps[row];
            if self.parts.table.on_agreed(client, timestamp, result, voters) {
                let is_possible = self.parts.workload.check(client, timestamp, result);
                self.summary.wrong_results += u64::from(!is_possible);
                self.complete_checked(now, client);
            }
        }
    }

    /// Prefetches what is kept of a client.
    fn prefetch(&self, client: ClientId) {
        self.parts.table.prefetch(client);
        if let Some(slot) = self.slots.get(client.0.wrapping_sub(self.parts.clients.start) as usize) {
            prefetch(slot);
        }
    }

    /// Notes when replies came to operations that are followed.
    fn watch(&mut self, index: usize, sequence: SequenceNumber, voters: u64, replies: &ReplyTable) {
        self.watched.clear();
        self.followed.find(replies, &mut self.watched);
        if self.watched.is_empty() {
            return;
        }
        let heard = self.batches[index].heard(voters, sequence);
        for &row in &self.watched {
            let of = (replies.clients[row], replies.timestamps[row]);
            self.followed.on_agreed(of);
            heard.iter().for_each(|(replica, at)| self.followed.on_counted(of, *replica, at.read, at.counted));
        }
    }

    /// Tells replicas how they are to answer, where that has changed.
    pub(super) fn tell(&mut self, now: Time) {
        for (connection, batches) in self.parts.owned.clone().zip(&mut self.batches) {
            while let Some((replica, form)) = batches.tell(now) {
                self.parts.links.send(replica, connection, encode_answering(form, self.own));
            }
        }
    }

    /// Until when operations were sent that lack their replies, though enough replicas vouch for these.
    pub(super) fn take_missing(&mut self, now: Time) -> Option<Time> {
        let (pause_ns, primary) = (self.retries.missing_after_ns(), self.parts.table.primary());
        let missing = self.batches.iter_mut().filter_map(|batches| batches.take_missing(now, pause_ns, primary)).max();
        if missing.is_some() {
            self.tell(now);
        }
        missing
    }

    /// When the next of these is due.
    pub(super) fn next_missing(&mut self) -> Option<Time> {
        let pause_ns = self.retries.missing_after_ns();
        self.batches.iter_mut().filter_map(|batches| batches.next_due(pause_ns)).min()
    }

    /// How many batches' replies were missing, and how often another replica was designated to send them.
    pub(super) fn missing_replies(&self) -> (u64, u64) {
        let sum = |of: fn(&Batches) -> u64| self.batches.iter().map(of).sum();
        (sum(Batches::missing), sum(Batches::replier_changes))
    }

    /// For each replica, how many of its replies contradict what a reply quorum agrees on.
    pub(super) fn wrong_replies(&self) -> Vec<u64> {
        let mut wrong = self.parts.table.wrong().to_vec();
        for batches in &self.batches {
            wrong.iter_mut().zip(batches.wrong()).for_each(|(all, more)| *all += more);
        }
        wrong
    }
}

/// How many results as long as these may be asked for at a time: all in one answer out of a replica's cache.
fn results_in_a_frame(replies: &ReplyTable) -> usize {
    let mean = replies.results.len().div_ceil(replies.len().max(1));
    // Half of the room: some may be longer.
    (REPLIES_BYTES_MAX / 2 / mean.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_fits_in_an_answer() {
        let table = |count: u32, bytes: u32| ReplyTable {
            clients: vec![hippodrome_engine::types::ClientId(0); count as usize],
            result_ends: (1..=count).map(|end| end * bytes).collect(),
            results: vec![7; (count * bytes) as usize].into(),
            ..ReplyTable::default()
        };
        assert_eq!(results_in_a_frame(&table(10, 0)), REPLIES_BYTES_MAX / 2);
        assert_eq!(results_in_a_frame(&table(10, 16 << 10)), 128);
        assert_eq!(results_in_a_frame(&table(2, 1 << 20)), 2);
        assert_eq!(results_in_a_frame(&ReplyTable::default()), REPLIES_BYTES_MAX / 2);
    }
}
