//! What a thread does with operations that are not ordered: sends them to all replicas, and has them ordered if no
//! quorum answers.

use hippodrome_engine::pipeline::egress::connection_of;
use hippodrome_engine::types::{ClientId, Time, Timestamp};

use super::Driver;

impl Driver {
    /// Has operations ordered that no quorum has answered in time without.
    pub(super) fn give_up_reads(&mut self, now: Time) {
        let (table, first) = (&self.parts.table, self.parts.clients.start);
        let waits = |client, number| table.outstanding_read(ClientId(first + client)) == Some(Timestamp(number));
        for client in self.reads.take_due(now, waits) {
            self.fall_back(client, now);
        }
    }

    pub(super) fn fall_back(&mut self, client: u32, now: Time) {
        self.summary.fell_back += u64::from(self.parts.timetable.measures(now));
        self.parts.table.give_up_read(ClientId(self.parts.clients.start + client));
        self.order(client, now);
    }

    /// Puts a client's read-only request into the outbox of its connection, which goes to all replicas when full.
    pub(super) fn enqueue_read(&mut self, client: u32, number: Timestamp) {
        let id = ClientId(self.parts.clients.start + client);
        let index = connection_of(id, &self.parts.node_clients, self.parts.connections) - self.parts.owned.start;
        let bytes = self.slots[client as usize].operation.len();
        if self.read_outboxes[index as usize].is_full(bytes) {
            self.flush_reads(index);
        }
        let slot = &self.slots[client as usize];
        self.read_outboxes[index as usize].push(id, number, &slot.operation);
    }

    pub(super) fn flush_reads(&mut self, index: u32) {
        let outbox = &mut self.read_outboxes[index as usize];
        if !outbox.is_empty() {
            let bytes = outbox.seal(true, &mut self.digester, &mut self.sealer);
            self.send_to_all(self.parts.owned.start + index, &bytes);
        }
    }
}
