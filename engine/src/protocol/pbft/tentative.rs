//! Tentative execution (Castro & Liskov, OSDI'99, section 5.1; TOCS'02, section 5.1.2): a batch goes to the executor as
//! soon as it is prepared, which spares clients the commit phase. Q replicas that tell of it prove that it stays where
//! it is: Q - f of them are correct and have prepared it, so every quorum of view-changes hears of it.
//!
//! In the paper all before it must be committed. Here it is enough that they are prepared in the same view, or
//! committed: else nothing would be gained while several batches are under way. Those Q - f replicas have prepared
//! them, too, so what makes the batch stay does the same for all before it. That takes replies of one view: clients
//! count no others together ([`client`](crate::protocol::client)).
//!
//! Two bounds keep it simple. Nothing is handed out beyond a checkpoint that is not committed, so that states are of
//! what is committed; and who leaves a view takes back what it has not committed, whatever the next one makes of it.

use std::sync::Arc;

use super::transitions::Phase;
use super::{Pbft, Turn};
use crate::protocol::{Execution, Output};
use crate::settings::options::ExecutionChoice;
use crate::types::SequenceNumber;

impl Pbft {
    /// Hands prepared batches to the executor, in order and without a gap behind what it was handed before.
    pub(super) fn hand_out_prepared(&mut self, turn: &mut Turn<'_>) {
        while let Some(sequence) = self.next_prepared() {
            let slot = self.log.slot(sequence);
            let batch = Arc::clone(slot.batch.as_ref().expect("a prepared slot has its batch"));
            let mut stamps = slot.stamps;
            stamps.committed = stamps.prepared; // it does not wait for that
            self.log.tentative = sequence;
            let view = self.view;
            turn.outputs.push(Output::Execute(Execution { sequence, view, tentative: true, batch, stamps }));
        }
    }

    /// The next sequence number to be handed out before it is committed, if it may be.
    fn next_prepared(&self) -> Option<SequenceNumber> {
        // Clients rely on it that this replica tells of the batch when it leaves the view.
        let takes_part = self.views.active && self.config.voting;
        if self.config.execution == ExecutionChoice::Committed || !takes_part {
            return None;
        }
        // A state that is ahead, missing or about to be replaced is nothing to go on from.
        let (committed, executed) = (self.log.committed, self.log.executed);
        if executed > committed || self.log.lacks_state() || self.transfer.is_installing() {
            return None;
        }
        let handed_out = self.log.handed_out();
        let checkpoint = handed_out.0 - handed_out.0 % self.config.checkpoint_interval;
        let sequence = handed_out.next();
        if checkpoint > committed.0 || !self.log.holds(sequence) {
            return None;
        }
        let slot = self.log.slot(sequence);
        let prepared = slot.phase == Phase::Prepared && slot.commits.of(self.config.own) == slot.pre_prepared;
        (prepared || slot.phase == Phase::CommittedLocal).then_some(sequence)
    }

    /// Takes back what was handed out tentatively above `to`.
    pub(super) fn roll_back(&mut self, to: SequenceNumber, turn: &mut Turn<'_>) {
        if self.log.handed_out() > to {
            assert!(to >= self.log.committed, "what is committed is not taken back");
            self.log.tentative = to;
            turn.outputs.push(Output::RollBack(to));
        }
    }
}
