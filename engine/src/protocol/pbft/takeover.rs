//! Where the log stands when a state was taken over, or when there is none to be had: what has to be agreed on all the
//! same, because others may need the votes of this replica, and what need not be any more.

use super::votes::Votes;
use super::{Pbft, Turn};
use crate::protocol::message::Checkpoint;
use crate::types::SequenceNumber;

impl Pbft {
    /// Takes over a state: the executor stands at `to` now, and what follows it can be executed.
    ///
    /// Others may need this replica's votes to get there. So the low watermark rises to it by the usual rule only, when
    /// Q replicas share the state, or to what is stable elsewhere; and what lies in between is agreed on as if there
    /// were no such state. With a low watermark at every checkpoint for which f + 1 vouch, a new view might find that
    /// too few replicas have not passed what is to be decided, and too few can vouch for its outcome.
    pub(super) fn take_over(&mut self, to: Checkpoint, votes: &Votes, turn: &mut Turn<'_>) {
        self.log.take_state(to.sequence);
        self.diverged = false;
        if let Some(settled) = self.needless() {
            self.raise_low(settled, turn);
        }
        let low = self.log.low();
        self.checkpoints.add_votes(low, to.sequence, votes);
        self.vouch(to, turn);
        self.stabilise(to.sequence, turn);
        self.time_anew(turn.now);
        self.go_on_in_window(turn);
        self.expect_more_repairs(turn);
    }

    /// Takes part again, without a state: nobody has the one at the checkpoint that the others have reached, and they
    /// may not get to the next one, and so to another state, without the votes of this replica.
    ///
    /// The low watermark rises to what is stable at a correct replica, and no farther. Up to there nothing can be
    /// decided otherwise any more, so the votes of this replica are as good as if it had executed everything; what it
    /// must not do is vouch for a state, or execute anything before it has one. And f + 1 correct replicas have the
    /// state, so the votes below are not needed: a checkpoint for which f + 1 vouch is not enough for that, since one
    /// correct replica alone may have got there, which others can not follow without those votes. The paper has no need
    /// of this, since its replicas keep the state of the stable checkpoint (TOCS'02, section 5.3), which costs a copy
    /// of what changes.
    pub(super) fn go_ahead(&mut self, turn: &mut Turn<'_>) {
        let (to, reached) = (self.settled(), self.reached());
        let votes_count = reached.0.saturating_add(self.config.checkpoint_interval) <= self.log.high().0;
        if to > self.log.committed && !votes_count {
            self.rise_to(to, turn);
        }
    }

    /// Leaves behind what need not be agreed on any more, if others have told so by now.
    pub(super) fn leave_gap(&mut self, turn: &mut Turn<'_>) {
        if let Some(settled) = self.needless() {
            self.rise_to(settled, turn);
        }
    }

    /// Makes the newest own checkpoint stable that is so elsewhere.
    pub(super) fn follow_settled(&mut self, turn: &mut Turn<'_>) {
        let (low, settled) = (self.log.low(), self.settled());
        if settled > low {
            let own = self.checkpoints.own_above(low).rev().find(|own| own.sequence <= settled);
            if let Some(own) = own {
                self.stabilise(own.sequence, turn);
            }
        }
    }

    /// The highest checkpoint that is surely stable at a correct replica, by what f + 1 have told: up to there
    /// everything is settled, and f + 1 correct replicas have executed it.
    pub(super) fn settled(&self) -> SequenceNumber {
        let told = self.repair.stable_by(self.config.quorums.weak());
        SequenceNumber(told.0 - told.0 % self.config.checkpoint_interval)
    }

    /// What lies below the fetched state and is stable elsewhere.
    fn needless(&self) -> Option<SequenceNumber> {
        let (committed, executed) = (self.log.committed, self.log.executed);
        (executed > committed).then(|| self.settled().min(executed)).filter(|settled| *settled > committed)
    }

    fn rise_to(&mut self, to: SequenceNumber, turn: &mut Turn<'_>) {
        self.raise_low(to, turn);
        // Votes that came before may be enough by now.
        for own in self.checkpoints.own_above(to).collect::<Vec<_>>() {
            self.stabilise(own.sequence, turn);
        }
        self.go_on_in_window(turn);
        self.expect_more_repairs(turn);
    }
}
