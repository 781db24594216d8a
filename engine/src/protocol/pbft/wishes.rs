//! State transfer, the side of those that have the state: what others wish for is kept, told in chunks, and, where
//! nothing else leads there, got to.
//!
//! An idle cluster gets to the checkpoint by null requests, which the primary owes like anything else that it is to
//! order: one that proposes none for as long as it may take over a batch is suspected. All that a faulty replica gets
//! from asking is a bounded number of null requests and snapshots, at ever longer intervals; and if it asks only some
//! others while no client wants anything, view changes until one of these is the primary.

use super::transfer::AGAIN_INTERVALS;
use super::{Pbft, Turn};
use crate::protocol::message::FetchState;
use crate::protocol::{Ignored, Message, Output};
use crate::requests::Batch;
use crate::types::{ReplicaId, SequenceNumber, Time};

/// One replica's wishes are at least so far apart; the time doubles with each, up to `WISHES_MAX` times, and is short
/// again after it asked for nothing for `WISH_RECOVERY` times as long.
const WISH_INTERVALS: u64 = 4;
const WISHES_MAX: u32 = 7;
const WISH_RECOVERY: u64 = 4;
/// Most chunks that one replica is sent in one interval.
const READS_PER_INTERVAL: u32 = 64;
/// Null requests that are under way at a time for a checkpoint that somebody waits for.
const PADDING_IN_FLIGHT: u64 = 16;

/// What others asked for.
#[derive(Debug)]
pub(super) struct Wishes {
    /// Each other replica.
    askers: Vec<Asker>,
    /// The highest checkpoint that somebody waits for.
    padding: SequenceNumber,
}

/// What another replica asked for.
#[derive(Clone, Debug, Default)]
struct Asker {
    wished: SequenceNumber,
    wished_at: Option<Time>,
    /// How many wishes came one soon after the other.
    wishes: u32,
    /// Chunks that it was sent since then.
    reads: (u32, Time),
}

impl Wishes {
    /// Nothing, by any of `n` replicas.
    pub(super) fn new(n: usize) -> Self {
        Self { askers: vec![Asker::default(); n], padding: SequenceNumber(0) }
    }

    /// The checkpoint that `replica` asked to be kept last; 0 if none.
    pub(super) fn of(&self, replica: ReplicaId) -> SequenceNumber {
        self.askers[usize::from(replica.0)].wished
    }
}

impl Asker {
    /// Whether it may have a wish at `now`, given the status interval.
    fn may_wish(&mut self, now: Time, interval: u64) -> bool {
        let Some(at) = self.wished_at else { return true };
        let (quiet, pause) = (now.since(at), interval.saturating_mul(WISH_INTERVALS << self.wishes));
        if quiet >= pause.saturating_mul(WISH_RECOVERY) {
            self.wishes = 0;
        }
        quiet >= pause
    }

    fn may_read(&mut self, now: Time, interval: u64) -> bool {
        if now.since(self.reads.1) >= interval {
            self.reads = (0, now);
        }
        self.reads.0 += 1;
        self.reads.0 <= READS_PER_INTERVAL
    }
}

impl Pbft {
    /// A laggard wishes for a snapshot at a coming checkpoint.
    pub(super) fn on_state_wanted(
        &mut self,
        sender: ReplicaId,
        target: SequenceNumber,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        let (interval, log) = (self.config.status_interval_ns, &self.log);
        // What was handed to the executor is done before the wish gets there: of that, only the last state is left.
        let coming =
            target >= log.committed.max(log.reaches()) && target.0 - log.high().0.min(target.0) <= log.window();
        if self.transfer.wishes.of(sender) == target && coming {
            // It is told again in case it was lost. But what a primary misses keeps it from proposing anything, and
            // nobody else may: on to one that can. With idle clients nothing else would tell.
            // (A message that came twice is not told again. Half the time, since not every message takes as long.)
            let wished_at = self.transfer.wishes.askers[usize::from(sender.0)].wished_at;
            let again = wished_at.is_some_and(|at| turn.now.since(at) >= self.intervals(AGAIN_INTERVALS) / 2);
            if again && sender == self.primary() && self.views.active {
                self.suspect(turn);
            }
            return Ok(());
        }
        let asker = &mut self.transfer.wishes.askers[usize::from(sender.0)];
        let aligned = target.0 > 0 && target.0.is_multiple_of(self.config.checkpoint_interval);
        if !coming || !aligned || !asker.may_wish(turn.now, interval) {
            // Its state is gone, but what it was can be told: another one may have it, if only later.
            let own = self.checkpoints.own_from(target).next().filter(|own| own.sequence == target);
            if let Some(own) = own {
                turn.send(sender, Message::Checkpoint(own));
            }
            return Err(Ignored::StateRefused);
        }
        asker.wished = target;
        asker.wished_at = Some(turn.now);
        asker.wishes = (asker.wishes + 1).min(WISHES_MAX);
        turn.outputs.push(Output::KeepState(target));
        // Every replica takes note: another one may be the primary by then.
        if !self.owes_padding() {
            self.suspicion.note_owed(self.log.committed, turn.now);
        }
        self.transfer.wishes.padding = self.transfer.wishes.padding.max(target);
        self.propose(turn);
        self.arm_view_timer(turn);
        Ok(())
    }

    /// Whether the primary is to get on to a checkpoint that somebody waits for, whatever clients want.
    pub(super) fn owes_padding(&self) -> bool {
        self.log.committed < self.transfer.wishes.padding.min(self.log.high())
    }

    /// Proposes null requests up to the checkpoint that somebody waits for, while there are no others to propose.
    pub(super) fn pad(&mut self, turn: &mut Turn<'_>) {
        let last = self.transfer.wishes.padding.min(self.log.high());
        while self.queue.len() == 0
            && self.next <= last
            && self.next.0 <= self.log.done().0.saturating_add(PADDING_IN_FLIGHT)
        {
            self.assign(Batch::null(), turn.now, turn);
        }
    }

    /// Somebody asks for a chunk of a snapshot that may be kept here.
    pub(super) fn on_fetch_state(
        &mut self,
        sender: ReplicaId,
        fetch: FetchState,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        let interval = self.config.status_interval_ns;
        if !self.transfer.wishes.askers[usize::from(sender.0)].may_read(turn.now, interval) {
            return Err(Ignored::StateRefused);
        }
        turn.outputs.push(Output::ReadState { to: sender, fetch });
        Ok(())
    }
}
