//! Faulty clients. Each has an identity of its own, so that nothing it does is blamed on others.

use std::sync::Arc;

use hippodrome_engine::app::kv::Operation;
use hippodrome_engine::requests::RequestTable;
use hippodrome_engine::types::{ClientId, ReplicaId};

use super::World;
use super::event::Event;
use super::proofs::ODD_SIGNATURE;
use crate::check::Checker;
use crate::plan::{HostileKind, Plan};
use crate::random::Random;

/// Requests that one remembers.
const REMEMBERED: usize = 16;

/// A faulty client.
pub(super) struct HostileClient {
    /// Who it is, and who it says it is.
    own: ClientId,
    id: ClientId,
    kind: HostileKind,
    every_ns: u64,
    random: Random,
    timestamp: u64,
    sent: Vec<Arc<RequestTable>>,
}

impl HostileClient {
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let one = |(index, hostile): (u32, &crate::plan::Hostile)| Self {
            own: ClientId(plan.clients.count + index),
            id: ClientId(plan.clients.count + index),
            kind: hostile.kind,
            every_ns: hostile.every_ns.max(100_000),
            random: Random::new(plan.seed, "hostile", u64::from(index)),
            timestamp: 0,
            sent: Vec::new(),
        };
        (0..).zip(&plan.hostile).map(one).collect()
    }
}

impl World<'_> {
    /// A faulty client does something.
    pub(super) fn act_hostile(&mut self, index: usize) {
        let client = &mut self.hostile[index];
        let pause = client.every_ns / 2 + client.random.below(client.every_ns);
        self.queue.push(self.now + pause, Event::Hostile { index });
        let replicas = self.plan.replicas;
        let all: u64 = (1 << replicas) - 1;
        let client = &mut self.hostile[index];
        match client.kind {
            HostileKind::Partial => {
                let some = client.random.below(all + 1);
                let holds = client.random.pick(&[some, 1, 0b11, all]);
                self.coverage.hostile_requests += u64::from(holds != all);
                self.ask_hostile(index, holds, false);
            }
            HostileKind::Replay => {
                if client.sent.len() < REMEMBERED {
                    return self.ask_hostile(index, all, false);
                }
                let own = client.sent[client.random.index(REMEMBERED)].clone();
                let other =
                    ClientId(u32::try_from(client.random.below(u64::from(self.plan.clients.count))).unwrap_or(0));
                self.coverage.hostile_requests += 1;
                // It may listen in on others as well.
                let heard = if client.random.chance(300) { self.clients.request(other).cloned() } else { None };
                self.show(index, &heard.unwrap_or(own), false);
            }
            HostileKind::TwoFaced => {
                self.coverage.hostile_requests += 1;
                self.ask_hostile(index, all, false);
                let client = &mut self.hostile[index];
                client.timestamp -= 1; // the same once more, for another operation
                self.ask_hostile(index, all, false);
            }
            HostileKind::Invalid => {
                self.coverage.hostile_requests += 1;
                self.ask_hostile(index, all, true);
            }
            HostileKind::Unknown => {
                if client.random.chance(200) {
                    client.timestamp = client.random.pick(&[client.timestamp, u64::MAX - 2, u64::MAX / 2]);
                }
                if client.random.chance(500) {
                    client.id = ClientId(client.random.pick(&[client.own.0, client.own.0 + 7, u32::MAX]));
                }
                self.coverage.hostile_requests += u64::from(client.id != client.own || client.timestamp > u64::MAX / 2);
                self.ask_hostile(index, all, false);
            }
            HostileKind::Torsion => {
                self.coverage.hostile_requests += 1;
                self.check_verdicts();
                self.ask_hostile(index, ODD_SIGNATURE, false);
            }
        }
    }

    /// Correct replicas judge the odd signature alike.
    fn check_verdicts(&mut self) {
        let correct = self.replicas.iter().filter(|replica| replica.is_correct());
        let correct = correct.fold(0, |set: u64, replica| set | 1 << replica.id.0);
        let accepting = self.prover.torsion.accepting() & correct;
        if accepting != 0 && accepting != correct {
            self.checks.fail(Checker::Verdicts, || {
                format!("of the replicas {correct:#b} only {accepting:#b} accept a signature")
            });
        }
    }

    /// Asks for something new, of some replicas.
    fn ask_hostile(&mut self, index: usize, holds: u64, invalid: bool) {
        let client = &mut self.hostile[index];
        client.timestamp = client.timestamp.saturating_add(1);
        let mut operation = Vec::new();
        let (key, value) = (client.random.below(8), client.random.next().to_le_bytes());
        Operation::Insert { key, value: &value }.encode(&mut operation);
        if invalid {
            operation[0] = 99;
        }
        let (id, timestamp) = (client.id, client.timestamp);
        let table = self.prover.request(id, timestamp, operation, holds);
        let really = self.prover.holds(&table, 0);
        self.checks.asked(table.digests[0], really);
        let table = Arc::new(table);
        let client = &mut self.hostile[index];
        if client.sent.len() == REMEMBERED {
            client.sent.remove(0);
        }
        client.sent.push(Arc::clone(&table));
        self.show(index, &table, holds == ODD_SIGNATURE);
    }

    /// Sends a request to all, to one, or to some.
    fn show(&mut self, index: usize, table: &Arc<RequestTable>, to_all: bool) {
        let random = &mut self.hostile[index].random;
        let replicas = self.plan.replicas;
        let to = match random.below(3) {
            0 => 1 << random.index(replicas),
            1 => random.below(1 << replicas),
            _ => u64::MAX,
        };
        for id in (0..).take(replicas).map(ReplicaId) {
            if to_all || to & 1 << id.0 != 0 {
                self.ask(id, table);
            }
        }
    }
}
