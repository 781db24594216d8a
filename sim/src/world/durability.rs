//! What a client was told to be done outlasts whatever happens to correct replicas.

use std::collections::BTreeSet;

use hippodrome_engine::protocol::Message;
use hippodrome_engine::protocol::message::Vote;
use hippodrome_engine::types::{Digest, ReplicaId, SequenceNumber};

use super::World;
use super::replica::Replica;
use crate::check::Checker;

impl World<'_> {
    /// Checks that enough correct replicas keep these batches, of which clients were told.
    ///
    /// A client is told by f + 1 replicas, one of them honest; that one has seen commits of Q. Or it is told
    /// tentatively by Q replicas, which have sent commits. Whoever sent one has the batch prepared, on its disk if it
    /// has one, so at most the u unreliable ones of the Q can lose it. Q - u keepers are in every quorum of
    /// view-changes; with fewer, a new view could put another batch there.
    pub(super) fn check_durability(&mut self, batches: Vec<(SequenceNumber, Digest)>) {
        if batches.is_empty() {
            return;
        }
        let correct = self.checks.correct();
        let needed = self.quorums.quorum() - self.plan.unreliable().len();
        let keepers: Vec<Keeper> = self
            .replicas
            .iter()
            .filter(|replica| correct & 1 << replica.id.0 != 0)
            .map(|replica| self.keeper(replica))
            .collect();
        for (sequence, digest) in batches {
            let keeps = |keeper: &&Keeper| {
                keeper.state >= sequence
                    || keeper.batches.contains(&(sequence, digest))
                    || (self.plan.disk.is_none() && self.checks.has_committed(keeper.replica, sequence, digest))
            };
            let keeping: Vec<String> =
                keepers.iter().filter(keeps).map(|keeper| format!("r{}", keeper.replica)).collect();
            if keeping.len() < needed {
                return self.checks.fail(Checker::Durability, || {
                    let keeping = if keeping.is_empty() { "no correct replica".to_owned() } else { keeping.join(", ") };
                    format!(
                        "clients were told that something at {sequence} is done; {keeping} would still know of it if \
                         the power failed now, {needed} must"
                    )
                });
            }
        }
    }

    /// Checks what that rests on: an honest replica that votes has on its disk, if it has one, what it votes for.
    pub(super) fn check_vote(&mut self, at: usize, message: &Message) {
        let replica = &self.replicas[at];
        let (sequence, digest, commits) = match message {
            Message::PrePrepare(message) => (message.sequence, message.batch.digest, false),
            Message::DigestPrePrepare(message) => (message.sequence, message.manifest.digest(), false),
            Message::Prepare(Vote { sequence, digest, .. }) => (*sequence, *digest, false),
            Message::Commit(Vote { sequence, digest, .. }) => (*sequence, *digest, true),
            _ => return,
        };
        if self.plan.disk.is_some() && !replica.blank && !replica.disk.keeps(sequence, digest, !commits) {
            let name = replica.name();
            let votes = if commits { "commits to" } else { "pre-prepares" };
            self.checks.fail(Checker::Durability, || {
                format!("{name} {votes} {digest:?} at {sequence} and would not know of it if the power failed now")
            });
        }
    }

    /// Without a disk, correct replicas are those that never die: what they have, they keep.
    fn keeper(&self, replica: &Replica) -> Keeper {
        let (state, batches) = match (&self.plan.disk, &replica.process) {
            (Some(_), _) => replica.disk.outlasting(),
            (None, Some(process)) => (process.executor.confirmed(), BTreeSet::new()),
            (None, None) => (SequenceNumber(0), BTreeSet::new()),
        };
        Keeper { replica: replica.id, state, batches }
    }
}

/// What a correct replica will still know after a power failure.
struct Keeper {
    replica: ReplicaId,
    state: SequenceNumber,
    batches: BTreeSet<(SequenceNumber, Digest)>,
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::protocol::Record;
    use hippodrome_engine::types::View;

    use super::*;
    use crate::plan::{Disk, Plan};

    /// Whether something that clients were told of lasts if `synced` replicas have it on their disks, and one more has
    /// it on the way there.
    fn lasts(plan: &Plan, synced: usize) -> bool {
        let mut world = World::new(plan, None, false);
        let (sequence, digest) = (SequenceNumber(1), Digest([7; 32]));
        for at in 0..=synced {
            let disk = &mut world.replicas[at].disk;
            disk.append(Record::Prepared(Vote { view: View(0), sequence, digest }));
            if at < synced {
                let records = disk.begin_sync().expect("there is something to sync");
                disk.synced(records);
            }
        }
        world.check_durability(vec![(sequence, digest)]);
        world.checks.violation.is_none_or(|violation| {
            assert_eq!(violation.checker, Checker::Durability);
            false
        })
    }

    #[test]
    fn a_quorum_must_keep_what_clients_were_told_of() {
        let disk = Some(Disk { sync_min_ns: 1, sync_max_ns: 1, snapshot_every: 1 });
        let plan = Plan { replicas: 7, disk, faulty: Vec::new(), timeline: Vec::new(), ..Plan::draw(0) };
        assert_eq!([3, 4, 5, 6].map(|synced| lasts(&plan, synced)), [false, false, true, true]);
    }
}
