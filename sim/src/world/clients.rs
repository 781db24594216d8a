//! Correct clients: each asks for one operation after the other and waits for a reply quorum.

use std::sync::Arc;

use hippodrome_engine::app::kv::{Operation, is_read};
use hippodrome_engine::protocol::client::batches::Batches;
use hippodrome_engine::protocol::client::{ClientTable, Recipients, ReplyOutcome};
use hippodrome_engine::protocol::planted::Planted;
use hippodrome_engine::protocol::{Input, Reply};
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::requests::RequestTable;
use hippodrome_engine::settings::options::{Granularity, Reads, Replies};
use hippodrome_engine::types::{ClientId, ReplicaId, Timestamp};

use super::event::{Event, Reply as Told};
use super::replica::Work;
use super::{Endpoint, World};
use crate::check::RECORDS;
use crate::plan::Plan;
use crate::random::Random;
use crate::trace::requests;

/// Operations of each client that begin after the network has healed, at least.
const AFTER_HEALING: u32 = 2;
/// The longest pause between two attempts.
const RETRY_MAX_NS: u64 = 1_000_000_000;

/// Bytes of a value whose digest is shorter.
const LONG_VALUE_BYTES: usize = 40;

/// All correct clients, behind one table as a load generator has it.
pub(super) struct Clients {
    pub(super) table: ClientTable,
    pub(super) batches: Batches,
    clients: Vec<Client>,
    finished: usize,
    completed: u64,
}

struct Client {
    random: Random,
    timestamp: u64,
    done: u32,
    done_healed: u32,
    began_healed: bool,
    request: Arc<RequestTable>,
    /// What is to be ordered if that is not answered.
    reading: Vec<u8>,
    finished: bool,
}

impl Clients {
    pub(super) fn new(plan: &Plan, quorums: Quorums, planted: Option<Planted>) -> Self {
        let count = plan.clients.count;
        let client = |index: u32| Client {
            random: Random::new(plan.seed, "client", u64::from(index)),
            timestamp: 0,
            done: 0,
            done_healed: 0,
            began_healed: false,
            request: Arc::new(RequestTable::empty()),
            reading: Vec::new(),
            finished: false,
        };
        let mut table = ClientTable::new(quorums, ClientId(0), count);
        if plan.reads == Reads::ReadOnly {
            table = table.with_reads();
        }
        table.plant(planted);
        let mut batches = Batches::new(plan.replicas, table.needed(), plan.window);
        batches.plant(planted);
        Self { table, batches, clients: (0..count).map(client).collect(), finished: 0, completed: 0 }
    }

    pub(super) const fn all_finished(&self) -> bool {
        self.finished == self.clients.len()
    }

    pub(super) const fn completed(&self) -> u64 {
        self.completed
    }

    /// Who has not got its answer.
    pub(super) fn waiting(&self) -> Vec<String> {
        let clients = (0..).zip(&self.clients).filter(|(_, client)| !client.finished);
        clients.map(|(index, client)| format!("c{index} t{}", client.timestamp)).collect()
    }

    /// The last request of a client, for those who listen in.
    pub(super) fn request(&self, client: ClientId) -> Option<&Arc<RequestTable>> {
        self.clients.get(client.0 as usize).map(|client| &client.request).filter(|request| !request.is_empty())
    }
}

impl World<'_> {
    pub(super) fn begin_clients(&mut self) {
        for index in 0..self.plan.clients.count {
            let pause = self.clients.clients[index as usize].random.below(self.plan.clients.think_ns + 1_000_000);
            self.queue.push(pause, Event::Begin { client: ClientId(index) });
        }
        for index in 0..self.hostile.len() {
            self.queue.push(1_000_000, Event::Hostile { index });
        }
    }

    /// A client begins its next operation.
    pub(super) fn begin_operation(&mut self, id: ClientId) {
        let client = &mut self.clients.clients[id.0 as usize];
        client.timestamp += client.random.range(1, 3);
        client.began_healed = self.healed;
        let operation = operation(&mut client.random, id, client.timestamp, self.plan);
        self.checks.began(id);
        if self.plan.reads == Reads::ReadOnly && is_read(&operation) {
            return self.begin_read(id, operation);
        }
        self.order(id, operation);
    }

    /// A client asks all replicas for something that changes nothing.
    fn begin_read(&mut self, id: ClientId, operation: Vec<u8>) {
        self.clients.clients[id.0 as usize].reading.clone_from(&operation);
        let number = self.clients.table.begin_read(id);
        let all = (1 << self.plan.replicas) - 1;
        let table = Arc::new(self.prover.request(id, number.0, operation, all));
        self.trace.line(&format!("c{id}"), || format!("asks all, read-only: {}", requests(&table)));
        for to in (0..).take(self.plan.replicas).map(ReplicaId) {
            self.ask_by(to, |to| Event::Reads { to, table: Arc::clone(&table) });
        }
        self.queue.push(self.now + self.plan.clients.retry_ns, Event::GiveUpRead { client: id, number });
    }

    /// A client has the operation ordered that it wanted to be read-only, unless that was answered.
    pub(super) fn give_up_read(&mut self, id: ClientId, number: Timestamp) {
        if self.clients.table.outstanding_read(id) != Some(number) {
            return;
        }
        self.clients.table.give_up_read(id);
        self.coverage.reads_fallen_back += 1;
        let operation = std::mem::take(&mut self.clients.clients[id.0 as usize].reading);
        self.order(id, operation);
    }

    /// A client's operation under its present timestamp is to be ordered.
    fn order(&mut self, id: ClientId, operation: Vec<u8>) {
        let client = &mut self.clients.clients[id.0 as usize];
        let all = (1 << self.plan.replicas) - 1;
        let table = self.prover.request(id, client.timestamp, operation, all);
        let timestamp = Timestamp(client.timestamp);
        self.checks.asked(table.digests[0], all);
        client.request = Arc::new(table);
        self.clients.table.begin(id, timestamp);
        self.send_request(id, timestamp, 0);
    }

    /// Sends a client's request for the time number `attempt`, unless it was answered in the meantime.
    pub(super) fn send_request(&mut self, id: ClientId, timestamp: Timestamp, attempt: u32) {
        if self.clients.table.outstanding(id) != Some(timestamp) {
            return;
        }
        let request = self.frame_of(id);
        let to: Vec<ReplicaId> = match ClientTable::send_to(self.plan.dissemination, attempt) {
            Recipients::Primary => vec![self.clients.table.primary()],
            Recipients::All => (0..).take(self.plan.replicas).map(ReplicaId).collect(),
        };
        let name = format!("c{id}");
        self.trace.line(&name, || match attempt {
            0 if to.len() == 1 => format!("asks r{}: {}", to[0], requests(&request)),
            0 => format!("asks all: {}", requests(&request)),
            _ => format!("asks all again: {}", requests(&request)),
        });
        for to in to {
            self.ask(to, &request);
        }
        let first = self.plan.clients.retry_ns;
        let wait = ClientTable::retransmit_after_ns(attempt, first, RETRY_MAX_NS.max(first));
        self.queue.push(self.now + wait, Event::Retry { client: id, timestamp, attempt: attempt + 1 });
    }

    /// A client's request; where groups are proven, in one with requests of others that wait for their answers too, as
    /// a load generator sends them.
    fn frame_of(&mut self, id: ClientId) -> Arc<RequestTable> {
        let clients = &mut self.clients.clients;
        if self.plan.auth_granularity == Granularity::Request {
            return Arc::clone(&clients[id.0 as usize].request);
        }
        let mut random = clients[id.0 as usize].random.clone();
        let waits = |other: &ClientId| self.clients.table.outstanding(*other).is_some();
        let others: Vec<ClientId> = (0..self.plan.clients.count).map(ClientId).filter(|other| *other != id).collect();
        let others = others.into_iter().filter(waits).filter(|_| random.chance(600));
        let mut all: Vec<ClientId> = others.collect();
        all.insert(random.index(all.len() + 1), id);
        clients[id.0 as usize].random = random;
        let tables: Vec<&RequestTable> = all.iter().map(|client| &*clients[client.0 as usize].request).collect();
        self.coverage.grouped += u64::from(tables.len() > 1);
        Arc::new(self.prover.frame(&tables, (1 << self.plan.replicas) - 1))
    }

    /// Puts requests on the network.
    pub(super) fn ask(&mut self, to: ReplicaId, table: &Arc<RequestTable>) {
        self.ask_by(to, |to| Event::Requests { to, table: Arc::clone(table) });
    }

    /// The same, by an event at each place where that replica runs.
    pub(super) fn ask_by(&mut self, to: ReplicaId, event: impl Fn(usize) -> Event) {
        for index in 0..self.replicas.len() {
            let replica = &self.replicas[index];
            if replica.id != to || !self.twins.deal(to.0, replica.twin, Endpoint::CLIENTS) {
                continue;
            }
            let endpoint = Endpoint::replica(to, replica.twin);
            for arrival in self.network.arrivals(self.now, Endpoint::CLIENTS, endpoint).into_iter().flatten() {
                self.queue.push(arrival, event(index));
            }
        }
    }

    /// Requests arrive: what proves itself goes on to the core.
    pub(super) fn on_requests(&mut self, to: usize, table: &RequestTable) {
        if self.replicas[to].process.is_none() {
            return;
        }
        if let Some(table) = self.prover.admit(table, self.replicas[to].id) {
            self.trace.count(to as u64);
            let name = self.replicas[to].name();
            self.trace.line(&name, || format!("<- clients: {}", requests(&table)));
            self.step(to, Input::Requests(Arc::new(table)));
        }
    }

    /// Read-only requests arrive: those that prove themselves and are reads go to the executor, before or behind what
    /// it has to do.
    pub(super) fn on_reads(&mut self, to: usize, table: &RequestTable) {
        let Some(table) = self.prover.admit(table, self.replicas[to].id) else { return };
        let reads: Vec<usize> = (0..table.len()).filter(|&index| is_read(table.operation(index))).collect();
        let replica = &mut self.replicas[to];
        if let Some(process) = replica.process.as_ref().filter(|_| !reads.is_empty()) {
            self.trace.count(to as u64);
            let work = Work::Query(process.position.view, Arc::new(table.select(&reads)));
            let first = replica.random.chance(500);
            self.work_at(to, work, first);
        }
    }

    pub(super) fn on_reply(&mut self, told: &Told) {
        let Told { from: replica, view, client, timestamp, ref result, is_digest, reads, tentative } = *told;
        self.coverage.digests += u64::from(is_digest);
        let reply = Reply { replica, view, client, timestamp, result, is_digest, tentative };
        let table = &mut self.clients.table;
        match if reads { table.on_read_reply(&reply) } else { table.on_reply(&reply) } {
            ReplyOutcome::Completed if reads => self.read(client),
            ReplyOutcome::Completed => self.complete(client, timestamp),
            ReplyOutcome::Hopeless => self.give_up_read(client, timestamp),
            _ => {}
        }
    }

    /// A quorum has answered a read-only request.
    fn read(&mut self, id: ClientId) {
        let accepted = self.clients.table.read_result(id).unwrap_or_default().to_vec();
        let operation = std::mem::take(&mut self.clients.clients[id.0 as usize].reading);
        self.trace.line(&format!("c{id}"), || "** has read".to_owned());
        self.trace.count(u64::from(id.0));
        self.checks.read(id, &operation, &accepted);
        self.coverage.reads += 1;
        self.go_on_with(id);
    }

    pub(super) fn complete(&mut self, id: ClientId, timestamp: Timestamp) {
        let name = format!("c{id}");
        self.trace.line(&name, || format!("** t{timestamp} is done"));
        self.trace.count(timestamp.0);
        let accepted = self.clients.table.result(id).unwrap_or_default().to_vec();
        let agreed_in = self.clients.table.agreed_in(id);
        self.coverage.promised += u64::from(agreed_in.is_some());
        let batch = self.checks.completed(id, timestamp, &accepted, agreed_in);
        self.check_durability(batch.into_iter().collect());
        self.go_on_with(id);
    }

    /// A client has its answer and goes on with its next operation.
    fn go_on_with(&mut self, id: ClientId) {
        self.clients.completed += 1;
        let client = &mut self.clients.clients[id.0 as usize];
        client.done += 1;
        client.done_healed += u32::from(client.began_healed);
        let enough = client.done >= self.plan.clients.operations;
        if self.healed && client.done_healed >= AFTER_HEALING {
            client.finished = true;
            self.clients.finished += 1;
            return;
        }
        let mut next = self.now + client.random.below(self.plan.clients.think_ns + 1);
        if enough && !self.healed {
            next = next.max(self.plan.heal_ns + 1);
        }
        self.queue.push(next, Event::Begin { client: id });
    }
}

/// An operation on one of a few keys, with a value that nobody else writes; where reads are not ordered, also with one
/// that others write too, so that a record may come back to what it was, and in every other plan mostly on one record.
fn operation(random: &mut Random, client: ClientId, timestamp: u64, plan: &Plan) -> Vec<u8> {
    let mut key = random.below(RECORDS + 2);
    let mut value = format!("c{client} t{timestamp}").into_bytes();
    if plan.reads == Reads::ReadOnly {
        if plan.seed.is_multiple_of(2) && random.chance(800) {
            key = 0;
        }
        if random.chance(600) {
            value = format!("common {}", random.below(2)).into_bytes();
        }
    }
    if plan.replies == Replies::Digest {
        value.resize(LONG_VALUE_BYTES, b'.');
    }
    let operation = match random.below(8) {
        0 | 1 => Operation::Read { key },
        2 | 3 => Operation::Insert { key, value: &value },
        4 | 5 => Operation::Update { key, value: &value },
        6 => Operation::ReadModifyWrite { key, value: &value },
        _ => Operation::Scan { start: key, count: 4 },
    };
    let mut bytes = Vec::new();
    operation.encode(&mut bytes);
    bytes
}
