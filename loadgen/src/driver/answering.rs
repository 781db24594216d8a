//! What a thread does with replies to whole batches, which one replica sends and the others vouch for, and how it tells
//! them who is to.

use hippodrome_engine::protocol::client::batches::{BatchOutcome, BatchReply, Heard};
use hippodrome_engine::requests::ReplyTable;
use hippodrome_engine::types::{ReplicaId, SequenceNumber, Time};
use hippodrome_engine::wire::{DecodedBatchDigest, Frame, encode_answering};

use super::Driver;

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
        self.parts.table.note_view(replica, view);
        let heard = Heard { read, counted: self.parts.clock.now() };
        self.on_batch_reply(connection, BatchReply { replica, sequence, digest, replies: None, short: false, heard });
    }

    /// Counts what a replica says of a batch, and completes its operations if enough say so.
    pub(super) fn on_batch_reply(&mut self, connection: u32, reply: BatchReply) {
        let primary = self.parts.table.primary();
        let index = connection.wrapping_sub(self.parts.owned.start) as usize;
        let Some(batches) = self.batches.get_mut(index) else { return };
        let (sequence, now) = (reply.sequence, reply.heard.counted);
        let BatchOutcome::Agreed { replies, voters } = batches.on_reply(reply, primary) else { return };
        self.watch(index, sequence, voters, &replies);
        for row in 0..replies.len() {
            let client = replies.clients[row];
            if self.parts.table.on_agreed(client, replies.timestamps[row], replies.result(row), voters) {
                self.complete(now, client);
            }
        }
    }

    /// Notes when replies came to operations that are followed.
    fn watch(&mut self, index: usize, sequence: SequenceNumber, voters: u64, replies: &ReplyTable) {
        self.watched.clear();
        self.followed.find(replies, &mut self.watched);
        for &row in &self.watched {
            let of = (replies.clients[row], replies.timestamps[row]);
            let voters = (0..u64::BITS as u16).filter(|replica| voters >> replica & 1 == 1).map(ReplicaId);
            let heard = voters.filter_map(|replica| Some((replica, self.batches[index].heard(replica, sequence)?)));
            let mut heard: Vec<(ReplicaId, Heard)> = heard.collect();
            heard.sort_by_key(|(_, heard)| heard.counted);
            heard.iter().for_each(|(replica, at)| self.followed.on_counted(of, *replica, at.read, at.counted));
        }
    }

    /// Tells replicas how they are to answer, where that has changed.
    pub(super) fn tell(&mut self) {
        for (connection, batches) in self.parts.owned.clone().zip(&mut self.batches) {
            while let Some((replica, form)) = batches.tell(self.parts.clock.now()) {
                self.parts.links.send(replica, connection, encode_answering(form, self.own));
            }
        }
    }

    /// Has operations sent again that have their votes, and replies that nobody has sent.
    pub(super) fn ask_for_missing(&mut self, now: Time) {
        let pause_ns = self.retries.missing_after_ns();
        let missing = self.batches.iter_mut().filter_map(|batches| batches.take_missing(now, pause_ns)).max();
        if let Some(until) = missing {
            self.retries.on_missing(until);
            self.tell();
        }
    }

    /// When the next of these is due.
    pub(super) fn next_missing(&mut self) -> Option<Time> {
        let pause_ns = self.retries.missing_after_ns();
        self.batches.iter_mut().filter_map(|batches| batches.next_due(pause_ns)).min()
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
