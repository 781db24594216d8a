//! The timeline: processes that die and come back or stand still, and a network that comes apart.

use super::World;
use super::event::Event;
use crate::plan::What;

impl World<'_> {
    pub(super) fn begin_fault(&mut self, index: usize) {
        let fault = &self.plan.timeline[index];
        let until = (self.now + fault.for_ns).min(self.plan.heal_ns);
        self.trace.line("**", || format!("{:?} for {} ms", fault.what, (until - fault.at_ns) / 1_000_000));
        match &fault.what {
            What::Partition(part) => {
                let part = set(part);
                self.coverage.partitions += 1;
                self.network.cut(index, vec![(part, !part), (!part, part)]);
            }
            What::OneWay(from, to) => {
                self.coverage.partitions += 1;
                self.network.cut(index, vec![(set(from), set(to))]);
            }
            What::Crash(replica) => self.crash(*replica, false),
            What::Loss(replica) => self.crash(*replica, true),
            What::PowerFailure => self.fail_power(),
            What::Pause(replica) => {
                self.coverage.pauses += 1;
                for at in 0..self.replicas.len() {
                    if self.replicas[at].id.0 == *replica {
                        self.replicas[at].paused_until = until;
                    }
                }
            }
            What::Drop(permille) => self.network.drop_more(index, *permille),
            What::Slow(factor) => self.network.slow_down(index, *factor),
            What::SlowDisk(replica) => {
                for other in self.replicas.iter_mut().filter(|other| other.id.0 == *replica) {
                    other.slow_disk_until = until;
                }
            }
        }
        self.queue.push(until, Event::Repair { index });
    }

    pub(super) fn end_fault(&mut self, index: usize) {
        self.network.repair(index);
        match &self.plan.timeline[index].what {
            What::Crash(replica) | What::Loss(replica) => self.restart(*replica),
            What::PowerFailure => {
                for id in 0..self.plan.replicas {
                    self.restart(u16::try_from(id).unwrap_or(0));
                }
            }
            _ => {}
        }
    }

    /// Everything that was broken works again, but for those who are malicious.
    pub(super) fn heal(&mut self) {
        self.trace.line("**", || "the network heals".to_owned());
        self.network.heal();
        self.healed = true;
        for at in 0..self.replicas.len() {
            self.replicas[at].slow_disk_until = 0;
            if self.replicas[at].process.is_none() {
                self.start(at);
            }
        }
    }

    fn crash(&mut self, replica: u16, disk_too: bool) {
        let Some(at) = self.replicas.iter().position(|other| other.id.0 == replica) else { return };
        let replica = &mut self.replicas[at];
        // A faulty one is not made better by a restart; one that is down can not go down.
        if replica.process.is_none() || !replica.is_honest() {
            return;
        }
        self.coverage.crashes += 1;
        if disk_too {
            replica.lose_disk()
        } else {
            replica.crash()
        }
        let name = replica.name();
        self.trace.line(&name, || if disk_too { "** dies and loses its disk" } else { "** dies" }.to_owned());
        self.check_durability(self.checks.acknowledged());
    }

    /// All honest processes die at once, and what was not synced is lost, also where a process had died before.
    fn fail_power(&mut self) {
        self.coverage.power_failures += 1;
        for replica in self.replicas.iter_mut().filter(|replica| replica.is_honest()) {
            self.coverage.crashes += u64::from(replica.process.is_some());
            self.coverage.unsynced_records_lost += replica.lose_power();
        }
        self.check_durability(self.checks.acknowledged());
    }

    fn restart(&mut self, replica: u16) {
        let Some(at) = self.replicas.iter().position(|other| other.id.0 == replica) else { return };
        if self.replicas[at].process.is_none() {
            self.start(at);
        }
    }

    pub(super) fn start(&mut self, at: usize) {
        let outputs = self.replicas[at].start(self.plan, self.planted, self.now);
        let replica = &self.replicas[at];
        if replica.life > 1 {
            self.coverage.restarts += 1;
            self.coverage.forgetful += u64::from(replica.forgetful);
            let (name, forgetful) = (replica.name(), replica.forgetful);
            self.trace.line(&name, || if forgetful { "** starts without memory" } else { "** starts" }.to_owned());
        }
        self.emit(at, outputs);
    }
}

fn set(replicas: &[u16]) -> u64 {
    replicas.iter().fold(0, |set, replica| set | 1 << replica)
}
