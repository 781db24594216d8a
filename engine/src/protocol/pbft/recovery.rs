//! A replica that is started anew and goes on from what it made durable: it has forgotten no vote, so it contradicts
//! none.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decision::decide;
use super::transitions::{Event, Phase};
use super::{Config, Pbft, Turn};
use crate::protocol::message::{Checkpoint, PrePrepare, ViewChange, Vote};
use crate::protocol::{Execution, Output, Record, Stamps};
use crate::requests::Batch;
use crate::types::{Digest, SequenceNumber, Time, View};

/// What a replica remembers when it is started anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The last stable checkpoint whose state the executor has; sequence number 0, with any digest, for the initial
    /// state.
    pub stable: Checkpoint,
    /// What it made durable, in order. Records of sequence numbers up to `stable` may be missing.
    pub records: Vec<Record>,
}

impl Recovery {
    /// From the records and the checkpoint at which the executor's state was saved: what the executor has to execute
    /// before the protocol goes on, in order, and where the protocol goes on then. More than a window may lie between
    /// the two.
    #[must_use]
    pub fn plan(saved: Checkpoint, records: Vec<Record>) -> (Vec<Execution>, Self) {
        let decided = decided_batches(&records);
        let mut executions = Vec::new();
        let mut sequence = saved.sequence.next();
        while let Some(batch) = decided.get(&sequence) {
            let stamps = Stamps::default();
            let batch = Arc::clone(batch);
            executions.push(Execution { sequence, view: View(0), tentative: false, batch, stamps });
            sequence = sequence.next();
        }
        let stable = records.iter().filter_map(|record| match record {
            Record::Stable(checkpoint) => Some(*checkpoint),
            _ => None,
        });
        let reached = stable.filter(|checkpoint| checkpoint.sequence < sequence);
        let stable = reached.max_by_key(|checkpoint| checkpoint.sequence);
        let stable = stable.filter(|stable| stable.sequence > saved.sequence).unwrap_or(saved);
        executions.retain(|execution| execution.sequence <= stable.sequence);
        (executions, Self { stable, records })
    }

    /// Whether the records hold every vote above `stable`. They do not if the state was replaced by a fetched one
    /// that was not durable yet: votes of the window behind that can not be taken up again, so they are as good as
    /// forgotten.
    #[must_use]
    pub fn is_whole(&self, window: u64) -> bool {
        let high = self.stable.sequence.0.saturating_add(window);
        self.records.iter().all(|record| match record {
            Record::PrePrepared(PrePrepare { sequence, .. }) | Record::Prepared(Vote { sequence, .. }) => {
                sequence.0 <= high
            }
            Record::Stable(checkpoint) => checkpoint.sequence.0 <= high,
            Record::Committed(..) | Record::ViewChange(_) | Record::NewView(..) | Record::Suspected(_) => true,
        })
    }
}

/// The batches that the records say were decided, as far as their bodies are there too.
fn decided_batches(records: &[Record]) -> BTreeMap<SequenceNumber, Arc<Batch>> {
    let mut bodies: BTreeMap<(SequenceNumber, Digest), &Arc<Batch>> = BTreeMap::new();
    let mut decided = BTreeMap::new();
    for record in records {
        match record {
            Record::PrePrepared(PrePrepare { sequence, batch, .. }) => {
                bodies.insert((*sequence, batch.digest), batch);
            }
            Record::Committed(sequence, digest) => drop(decided.insert(*sequence, *digest)),
            Record::Stable(_)
            | Record::Prepared(_)
            | Record::ViewChange(_)
            | Record::NewView(..)
            | Record::Suspected(_) => {}
        }
    }
    let null = Batch::null();
    let batch = |(sequence, digest)| {
        let body = if digest == null.digest { &null } else { *bodies.get(&(sequence, digest))? };
        Some((sequence, Arc::clone(body)))
    };
    decided.into_iter().filter_map(batch).collect()
}

impl Pbft {
    /// A replica that goes on where its records end: its executor stands at `recovery.stable`, whose state it has, and
    /// is handed what was decided after it. Votes that were recorded are kept, so that none is ever contradicted. If
    /// they are not [whole](Recovery::is_whole) it votes no more.
    ///
    /// # Panics
    /// As [`new`](Self::new) does, or if `recovery.stable` is no multiple of the checkpoint interval.
    #[must_use]
    pub fn recover(mut config: Config, recovery: Recovery, now: Time, outputs: &mut Vec<Output>) -> Self {
        config.voting &= recovery.is_whole(config.window);
        let Recovery { stable, records } = recovery;
        assert!(stable.sequence.0.is_multiple_of(config.checkpoint_interval), "recovered at no checkpoint");
        let mut replica = Self::new(config, now, outputs);
        replica.log.start_from(stable.sequence, &decided_batches(&records));
        replica.checkpoints.start_from(stable);
        replica.next = stable.sequence.next();
        let turn = &mut Turn { now, outputs };
        let votes = replica.read(records, now);
        replica.resume_votes(votes, turn);
        replica.arm_view_timer(turn);
        replica.expect_more_repairs(turn);
        replica
    }

    /// Takes views and past votes from the records. Returns the votes.
    fn read(&mut self, records: Vec<Record>, now: Time) -> Remembered {
        let mut remembered = Remembered::default();
        let mut left: Option<Arc<ViewChange>> = None;
        for record in records {
            match record {
                Record::PrePrepared(message) => {
                    if self.log.holds(message.sequence) {
                        remembered.pre_prepared.push(message);
                    }
                }
                Record::Prepared(vote) => {
                    if self.log.holds(vote.sequence) {
                        remembered.prepared.insert((vote.view, vote.sequence), vote.digest);
                    }
                }
                Record::Committed(sequence, digest) => {
                    if self.log.holds(sequence) {
                        remembered.decided.insert(sequence, digest);
                    }
                }
                Record::ViewChange(change) => left = Some(change),
                Record::Suspected(view) => self.resume_suspicion(view),
                Record::NewView(new_view, changes) => {
                    let contents: Vec<&ViewChange> = changes.iter().map(|change| &*change.content).collect();
                    if let Some(decision) = decide(self.config.quorums, &contents) {
                        self.next = self.next.max(decision.last().next());
                        self.suspicion.proposed = decision.last();
                        self.take_up_view(new_view, changes, &decision);
                    }
                }
                Record::Stable(_) => {}
            }
        }
        if let Some(change) = left.filter(|change| change.view > self.view) {
            self.resume_change(&change, now);
        }
        remembered
    }

    /// Puts the votes into their slots: those of the current view as if they had just been cast, earlier ones as past.
    fn resume_votes(&mut self, remembered: Remembered, turn: &mut Turn<'_>) {
        if self.views.active {
            self.resume_assignments();
        }
        for message in remembered.pre_prepared {
            self.resume_pre_prepared(&message, turn);
        }
        for ((view, sequence), digest) in remembered.prepared {
            self.resume_prepared(view, sequence, digest, turn);
        }
        for (sequence, digest) in remembered.decided {
            let slot = self.log.slot_mut(sequence);
            let body = slot.past.body(digest).cloned().or_else(|| Some(Batch::null()));
            // Without its body it is asked for again, like anything that was missed.
            if let Some(body) = body.filter(|body| body.digest == digest) {
                slot.batch = Some(body);
                slot.enter(Event::Decide, turn.now);
            }
        }
        self.hand_out(turn);
    }

    /// What the active view assigned when it began.
    fn resume_assignments(&mut self) {
        for (sequence, digest) in self.views.take_assigned(self.log.high()) {
            if sequence > self.log.low() {
                let slot = self.log.slot_mut(sequence);
                slot.pre_prepared = Some(digest);
                slot.reproposed = true;
            }
        }
    }

    fn resume_pre_prepared(&mut self, message: &PrePrepare, turn: &mut Turn<'_>) {
        let (own, primary) = (self.config.own, self.is_primary());
        let PrePrepare { view, sequence, batch } = message;
        let current = self.views.active && *view == self.view;
        let slot = self.log.slot_mut(*sequence);
        slot.past.note_pre_prepared(batch.digest, *view, Some(batch));
        if current && slot.phase == Phase::Idle {
            slot.pre_prepared = Some(batch.digest);
            slot.batch = Some(Arc::clone(batch));
            slot.enter(Event::Accept, turn.now);
            if !primary {
                let _ = slot.prepares.record(own, batch.digest, None);
            }
            self.next = self.next.max(sequence.next());
            self.suspicion.note_proposed(*sequence, self.log.committed, turn.now);
        }
    }

    fn resume_prepared(&mut self, view: View, sequence: SequenceNumber, digest: Digest, turn: &mut Turn<'_>) {
        let own = self.config.own;
        let current = self.views.active && view == self.view;
        let slot = self.log.slot_mut(sequence);
        slot.past.note_prepared(digest, view, None);
        if current {
            if slot.phase == Phase::PrePrepared && slot.pre_prepared == Some(digest) {
                slot.enter(Event::Prepare, turn.now);
            }
            let _ = slot.commits.record(own, digest, None);
        }
    }
}

/// What the records say of the window.
#[derive(Debug, Default)]
struct Remembered {
    pre_prepared: Vec<PrePrepare>,
    prepared: BTreeMap<(View, SequenceNumber), Digest>,
    decided: BTreeMap<SequenceNumber, Digest>,
}
