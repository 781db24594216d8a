//! How a thread sends operations that are to be ordered: when they are due, gathered into frames, and again where no
//! reply quorum comes.

use bytes::Bytes;
use hippodrome_engine::pipeline::egress::connection_of;
use hippodrome_engine::protocol::client::{ClientTable, Recipients};
use hippodrome_engine::types::{ClientId, ReplicaId, Time, Timestamp};

use super::Driver;
use crate::pacing::{Due, Pacing};
use crate::retries::Retry;

/// Sends later than this, by the generator's own fault, are counted as late.
const LATE_NS: u64 = 1_000_000;

impl Driver {
    /// Sends what is due: new operations, what is to be ordered after all, what is to be sent again, a probe.
    pub(crate) fn send(&mut self, now: Time) {
        self.send_due(now);
        self.give_up_reads(now);
        self.retransmit_due(now);
        self.probe(now);
        self.flush();
    }

    fn send_due(&mut self, now: Time) {
        while self.may_send(now) {
            let Pacing::Open(open) = &mut self.parts.pacing else { return };
            let Some((client, Due { intended, lag_ns, waited })) = open.take_due(now) else { return };
            if self.parts.timetable.measures(intended) {
                self.summary.offered_operations += 1;
                self.summary.late_sends += u64::from(lag_ns > LATE_NS);
                self.summary.waited_for_client += u64::from(waited);
                self.lag.record(lag_ns);
            }
            self.begin(client, intended, now);
        }
    }

    /// Puts a client's operation into the outbox of its connection, which is sent when full.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, client: u32, to: Recipients) {
        let id = ClientId(self.parts.clients.start + client);
        let index = connection_of(id, &self.parts.node_clients, self.parts.connections) - self.parts.owned.start;
        let bytes = self.slots[client as usize].operation.len();
        if self.outboxes[index as usize].is_full(bytes) {
            self.flush_one(index, to);
        }
        let slot = &self.slots[client as usize];
        self.outboxes[index as usize].push(id, Timestamp(slot.timestamp), &slot.operation);
    }

    pub(super) fn flush(&mut self) {
        for index in 0..self.parts.owned.len() {
            #[allow(clippy::cast_possible_truncation, reason = "at most CONNECTIONS_MAX")]
            self.flush_one(index as u32, self.first_recipients());
            #[allow(clippy::cast_possible_truncation, reason = "at most CONNECTIONS_MAX")]
            self.flush_reads(index as u32);
        }
    }

    pub(super) fn retransmit_due(&mut self, now: Time) {
        let mut due = Vec::new();
        let missing = self.take_missing(now);
        let slots = &self.slots;
        self.retries.take_due(now, missing, |client, timestamp| slots[client as usize].waits_for(timestamp), &mut due);
        if due.is_empty() {
            return;
        }
        // New operations leave first: what follows may go to other recipients.
        self.flush();
        let dissemination = self.parts.dissemination;
        for recipients in [Recipients::Primary, Recipients::All] {
            let due = due.iter().filter(|retry| ClientTable::send_to(dissemination, retry.attempt) == recipients);
            for (count, retry) in due.enumerate() {
                // A replica answers one frame out of its cache with so many bytes at most.
                if count > 0 && count.is_multiple_of(self.results_in_a_frame) {
                    self.flush_all(recipients);
                }
                self.enqueue(retry.client, recipients);
            }
            self.flush_all(recipients);
        }
        for retry in due {
            self.note_retry(now, retry);
        }
    }

    /// Sends the oldest operation to everybody if it is time for a probe.
    pub(super) fn probe(&mut self, now: Time) {
        let slots = &self.slots;
        let probe = self.retries.take_probe(now, |client, timestamp| slots[client as usize].waits_for(timestamp));
        let Some(client) = probe else { return };
        // New operations leave first: they may go to the primary alone.
        self.flush();
        self.followed.on_sent_again(ClientId(self.parts.clients.start + client));
        self.enqueue(client, Recipients::All);
        self.flush_all(Recipients::All);
        self.summary.probes += u64::from(self.parts.timetable.measures(now));
    }

    pub(super) fn send_to_all(&mut self, connection: u32, bytes: &Bytes) {
        for replica in 0..self.parts.keyring.quorums().n() {
            #[allow(clippy::cast_possible_truncation, reason = "n <= REPLICAS_MAX")]
            self.parts.links.send(ReplicaId(replica as u16), connection, bytes.clone());
        }
    }

    /// To whom an operation goes at first.
    pub(super) const fn first_recipients(&self) -> Recipients {
        ClientTable::send_to(self.parts.dissemination, 0)
    }

    fn flush_all(&mut self, to: Recipients) {
        for index in 0..self.parts.owned.len() {
            #[allow(clippy::cast_possible_truncation, reason = "at most CONNECTIONS_MAX")]
            self.flush_one(index as u32, to);
        }
    }

    fn flush_one(&mut self, index: u32, to: Recipients) {
        let outbox = &mut self.outboxes[index as usize];
        if outbox.is_empty() {
            return;
        }
        let bytes = outbox.seal(false, &mut self.digester, &mut self.sealer);
        let connection = self.parts.owned.start + index;
        match to {
            Recipients::Primary => self.parts.links.send(self.parts.table.primary(), connection, bytes),
            Recipients::All => self.send_to_all(connection, &bytes),
        }
    }

    fn note_retry(&mut self, now: Time, retry: Retry) {
        self.second_retransmissions += 1;
        self.followed.on_sent_again(ClientId(self.parts.clients.start + retry.client));
        let slot = &mut self.slots[retry.client as usize];
        let measures = self.parts.timetable.measures(now);
        self.summary.retransmissions += u64::from(measures);
        if !slot.timed_out && now.since(slot.sent) >= self.parts.timetable.timeout_ns {
            slot.timed_out = true;
            self.summary.timeouts += u64::from(measures);
        }
        self.retries.on_sent_again(now, retry);
    }
}
