//! State transfer: a replica that can not be repaired any more, because nobody keeps what it misses, takes over the
//! whole state at a checkpoint (after Castro & Liskov, TOCS'02, section 5.3, which fetches parts of past checkpoints;
//! here the checkpoint is still to come, so that only replicas that are asked to keep a snapshot pay for it).
//!
//! The laggard picks a checkpoint ahead of what f + 1 replicas have reached and asks everybody to keep a snapshot
//! there; every other time the one that they have reached, in case they stand there and wait for this very replica.
//! When f + 1 vouch for one digest of it, the state exists and the digest is right. The chunks are fetched from one
//! source after another, until those of one give a state with that digest. The executor goes on behind it; the log goes
//! there when Q replicas share the state, or others are known to have left it behind, and until then the votes of this
//! replica below are to be had. The status exchange repairs the rest.
//!
//! This is the laggard's side up to the state; `takeover` is what becomes of the log then, and `wishes` the side of
//! those that have the state.

use super::gathering::Gathering;
use super::votes::Votes;
use super::wishes::Wishes;
use super::{Pbft, Turn};
use crate::limits::HISTORY_BATCHES_MAX;
use crate::protocol::message::{Checkpoint, FetchState, Signature, StateChunk};
use crate::protocol::planted::Planted;
use crate::protocol::sets::{set_of, size};
use crate::protocol::{Ignored, Message, Output};
use crate::types::{Digest, ReplicaId, SequenceNumber, Time};

// Times are in status intervals. Those marked * double with each attempt, up to ATTEMPTS_MAX times.

/// Without progress for so long, what others have reached is taken to be out of the reach of repairs.
const STOOD_INTERVALS: u64 = 8;
/// The same, where they have gone on by more than anybody keeps.
const OUT_OF_REACH_INTERVALS: u64 = 2;
/// A checkpoint ahead that was asked for is vouched for within this time*, or another one is asked for.
const AHEAD_INTERVALS: u64 = 16;
/// The same for one that the others have reached.
const REACHED_INTERVALS: u64 = 8;
/// What is not answered is asked again after this time.
pub(super) const AGAIN_INTERVALS: u64 = 4;
/// A source that sends nothing new for so long* is skipped.
const SILENT_INTERVALS: u64 = 12;
/// A source that has not sent everything by then* is skipped: it may claim any number of chunks.
const SOURCE_INTERVALS: u64 = 100;
/// How often times and the distance to the checkpoint double.
const ATTEMPTS_MAX: u32 = 6;
/// No cluster gets there: beyond it, sequence numbers are not worth calculating with.
const SEQUENCE_MAX: SequenceNumber = SequenceNumber(u64::MAX / 2);

/// Both sides of state transfer at one replica.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Where this replica stands, and since when it stands there although others have gone on.
    standing: (SequenceNumber, Time),
    /// The transfer under way.
    fetch: Option<Fetch>,
    /// How many targets in a row came to nothing.
    attempt: u32,
    /// Sources that failed, now or for an earlier target: the last to be asked.
    shunned: u64,
    /// How often a state was installed.
    pub(super) installed: u64,
    /// What others asked for.
    pub(super) wishes: Wishes,
}

/// A transfer under way.
#[derive(Debug)]
struct Fetch {
    target: SequenceNumber,
    /// Who vouches for which state there.
    votes: Votes,
    began: Time,
    /// When everybody was last asked to keep it.
    asked: Time,
    gathering: Option<Gathering>,
}

impl Transfer {
    /// Nothing under way, among `n` replicas.
    pub(super) fn new(n: usize, now: Time) -> Self {
        Self {
            standing: (SequenceNumber(0), now),
            fetch: None,
            attempt: 0,
            shunned: 0,
            installed: 0,
            wishes: Wishes::new(n),
        }
    }

    /// Whether the executor is replacing its state.
    pub(super) fn is_installing(&self) -> bool {
        self.gathering().is_some_and(|gathering| gathering.installing)
    }

    /// The checkpoint whose state is being fetched, and from whom.
    pub(super) fn fetching(&self) -> Option<(SequenceNumber, Option<ReplicaId>)> {
        let fetch = self.fetch.as_ref()?;
        Some((fetch.target, fetch.gathering.as_ref().map(|gathering| gathering.source)))
    }

    fn gathering(&self) -> Option<&Gathering> {
        self.fetch.as_ref()?.gathering.as_ref()
    }

    /// Ends what is under way, successfully or because there is no need any more.
    fn end(&mut self) {
        self.fetch = None;
        self.attempt = 0;
    }
}

impl Pbft {
    /// Called at each status interval: asks for a state when others have got to where repairs do not lead, and looks
    /// after what was asked for.
    pub(super) fn check_reach(&mut self, turn: &mut Turn<'_>) {
        self.leave_gap(turn);
        let (reaches, reached) = (self.log.reaches(), self.reached());
        if self.transfer.standing.0 != reaches || !self.lacks_state() {
            self.transfer.standing = (reaches, turn.now);
        }
        match &self.transfer.fetch {
            Some(_) if self.transfer.is_installing() => {}
            Some(fetch) if self.has_passed(fetch.target) => self.transfer.end(),
            Some(_) => self.look_after_fetch(turn),
            None => {
                let lost = reached.0.saturating_sub(reaches.0) > HISTORY_BATCHES_MAX as u64;
                let patience = if lost { OUT_OF_REACH_INTERVALS } else { STOOD_INTERVALS };
                if self.lacks_state() && turn.now.since(self.transfer.standing.1) >= self.intervals(patience) {
                    self.want_state(turn);
                }
            }
        }
    }

    /// Whether others have executed what this replica has not.
    pub(super) fn is_behind(&self) -> bool {
        let told = self.repair.committed_by(self.config.quorums.weak());
        self.transfer.fetch.is_some() || self.lacks_state() || told > self.log.reaches()
    }

    /// Whether a state at `target` is of no use any more.
    fn has_passed(&self, target: SequenceNumber) -> bool {
        target < self.log.low() || target <= self.log.reaches()
    }

    /// Whether there is a state that this replica does not have.
    fn lacks_state(&self) -> bool {
        self.log.lacks_state() || self.reached() > self.log.reaches()
    }

    /// The highest checkpoint that f + 1 replicas say to have reached or passed: a correct one is among them.
    pub(super) fn reached(&self) -> SequenceNumber {
        self.checkpoints.reached_by(self.config.quorums.weak())
    }

    pub(super) const fn intervals(&self, count: u64) -> u64 {
        self.config.status_interval_ns.saturating_mul(count)
    }

    /// A time that doubles with each attempt.
    const fn patience(&self, intervals: u64) -> u64 {
        self.intervals(intervals << self.transfer.attempt)
    }

    /// Asks everybody to keep the state at a checkpoint.
    ///
    /// First at one so far ahead that nobody has passed it when the message comes. Nobody may ever get there: where
    /// faulty replicas keep checkpoints from becoming stable, the others stand at their high watermark until this
    /// replica has caught up. So every second wish is for the checkpoint that they have reached; if they stand there,
    /// their state is still the one at that checkpoint.
    fn want_state(&mut self, turn: &mut Turn<'_>) {
        let (interval, attempt) = (self.config.checkpoint_interval, self.transfer.attempt);
        let margin = if self.is_reached_wanted() { 0 } else { ((2 * interval) << attempt).min(self.log.window()) };
        let earlier = self.transfer.fetch.take();
        let target = SequenceNumber(self.reached().max(self.log.done()).0.saturating_add(margin));
        if target > SEQUENCE_MAX {
            return;
        }
        let known = match earlier {
            Some(earlier) if earlier.target == target => Some(earlier.votes),
            _ => self.checkpoints.votes_at(self.log.low(), target).cloned(),
        };
        self.transfer.fetch =
            Some(Fetch { target, votes: known.unwrap_or_default(), began: turn.now, asked: turn.now, gathering: None });
        turn.broadcast(Message::StateWanted(target));
        self.gather_if_vouched(turn);
    }

    /// Whether the present wish is for a checkpoint that the others have reached.
    const fn is_reached_wanted(&self) -> bool {
        self.transfer.attempt % 2 == 1
    }

    /// Nothing came of the present target: another one, farther ahead and with more patience, if it is still needed.
    fn want_another_state(&mut self, turn: &mut Turn<'_>) {
        if self.is_reached_wanted() {
            self.go_ahead(turn);
        }
        self.transfer.attempt =
            if self.transfer.attempt < ATTEMPTS_MAX { self.transfer.attempt + 1 } else { ATTEMPTS_MAX - 1 };
        if self.lacks_state() {
            self.want_state(turn);
        } else {
            self.transfer.fetch = None;
        }
    }

    fn look_after_fetch(&mut self, turn: &mut Turn<'_>) {
        let vouched = self.patience(if self.is_reached_wanted() { REACHED_INTERVALS } else { AHEAD_INTERVALS });
        let again = self.intervals(AGAIN_INTERVALS);
        let [silent, source] = [SILENT_INTERVALS, SOURCE_INTERVALS].map(|intervals| self.patience(intervals));
        let Some(fetch) = &mut self.transfer.fetch else { return };
        let Some(gathering) = &mut fetch.gathering else {
            if turn.now.since(fetch.began) >= vouched {
                self.want_another_state(turn);
            } else if turn.now.since(fetch.asked) >= again {
                fetch.asked = turn.now;
                turn.broadcast(Message::StateWanted(fetch.target));
            }
            return;
        };
        if turn.now.since(gathering.heard) >= silent || turn.now.since(gathering.began) >= source {
            self.next_source(turn);
        } else if turn.now.since(gathering.heard.max(gathering.asked_again)) >= again {
            gathering.asked_again = turn.now;
            let (sequence, source) = (fetch.target, gathering.source);
            for index in (0..gathering.asked).filter(|index| !gathering.has(*index)) {
                turn.send(source, Message::FetchState(FetchState { sequence, index }));
            }
        }
    }

    /// A replica vouches for a state. True if it is the one that is waited for.
    pub(super) fn on_voucher(
        &mut self,
        sender: ReplicaId,
        message: Checkpoint,
        signature: Option<Signature>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(fetch) = self.transfer.fetch.as_mut().filter(|fetch| fetch.target == message.sequence) else {
            return false;
        };
        let counted = fetch.votes.record(sender, message.digest, signature).is_ok();
        self.gather_if_vouched(turn);
        counted
    }

    /// Starts to gather the state when enough replicas vouch for it: one of f + 1 is correct, so their state is the one
    /// that every correct replica has there.
    fn gather_if_vouched(&mut self, turn: &mut Turn<'_>) {
        let enough = match self.config.planted {
            Some(Planted::CheckpointLie) => 1,
            _ => self.config.quorums.weak(),
        };
        let Some(fetch) = self.transfer.fetch.as_ref().filter(|fetch| fetch.gathering.is_none()) else { return };
        let vouched = fetch.votes.candidates().find(|(_, voters)| size(*voters) >= enough).map(|(digest, _)| digest);
        // A weak quorum of view-changes is as good.
        if let Some(digest) = vouched.or_else(|| self.checkpoints.settled_at(fetch.target)) {
            self.gather_from_next(digest, 0, turn);
        }
    }

    /// The present source has failed.
    fn next_source(&mut self, turn: &mut Turn<'_>) {
        let Some(failed) = self.transfer.gathering() else { return };
        let (digest, tried) = (failed.digest, failed.tried);
        self.transfer.shunned |= set_of(failed.source);
        self.gather_from_next(digest, tried, turn);
    }

    /// Starts to gather chunks from a replica that is not among `tried`.
    fn gather_from_next(&mut self, digest: Digest, tried: u64, turn: &mut Turn<'_>) {
        let Some(source) = self.choose_source(digest, tried) else {
            self.transfer.shunned = 0; // one is as bad as the other, or it was the network
            self.want_another_state(turn);
            return;
        };
        let Some(fetch) = &mut self.transfer.fetch else { return };
        let gathering = Gathering::new(digest, source, tried | set_of(source), turn.now);
        fetch.gathering = Some(gathering);
        self.ask(turn);
    }

    /// Who vouches for the state has it; who has failed before comes last.
    fn choose_source(&self, digest: Digest, tried: u64) -> Option<ReplicaId> {
        let vouchers = self.transfer.fetch.as_ref()?.votes.voters(digest);
        let shunned = self.transfer.shunned;
        let (n, own) = (self.config.quorums.n(), usize::from(self.config.own.0));
        #[allow(clippy::cast_possible_truncation, reason = "n <= REPLICAS_MAX")]
        let others = || (1..n).map(|ahead| ReplicaId(((own + ahead) % n) as u16));
        [vouchers & !shunned, !shunned, vouchers, u64::MAX]
            .into_iter()
            .find_map(|these| others().find(|other| set_of(*other) & these & !tried != 0))
    }

    fn ask(&mut self, turn: &mut Turn<'_>) {
        let Some(fetch) = &mut self.transfer.fetch else { return };
        let Some(gathering) = &mut fetch.gathering else { return };
        for index in gathering.wanted() {
            turn.send(gathering.source, Message::FetchState(FetchState { sequence: fetch.target, index }));
        }
    }

    /// A chunk of a source.
    pub(super) fn on_state_chunk(
        &mut self,
        sender: ReplicaId,
        chunk: &StateChunk,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        let passed = self.transfer.fetch.as_ref().is_some_and(|fetch| self.has_passed(fetch.target));
        let Some(fetch) = &mut self.transfer.fetch else { return Err(Ignored::UnwantedState) };
        let target = fetch.target;
        let gathering = fetch.gathering.as_mut().filter(|gathering| {
            gathering.source == sender
                && target == chunk.sequence
                && !gathering.installing
                && !gathering.has(chunk.index)
        });
        let Some(gathering) = gathering else { return Err(Ignored::UnwantedState) };
        if !gathering.is_plausible(chunk) {
            self.next_source(turn);
            return Err(Ignored::UnwantedState);
        }
        if !gathering.add(chunk.clone(), turn.now) {
            self.ask(turn);
        } else if passed {
            self.transfer.end();
        } else {
            gathering.installing = true;
            let (digest, chunks) = (gathering.digest, std::mem::take(&mut gathering.chunks));
            self.roll_back(self.log.committed, turn);
            turn.outputs.push(Output::InstallState { sequence: target, digest, chunks });
        }
        Ok(())
    }

    /// The executor has the fetched state, or found it to be another one.
    pub(super) fn on_state_installed(
        &mut self,
        sequence: SequenceNumber,
        good: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        let installs = self.transfer.fetch.as_ref().is_some_and(|fetch| fetch.target == sequence);
        if !installs || !self.transfer.is_installing() {
            return Err(Ignored::UnexpectedExecution);
        }
        if !good {
            self.next_source(turn);
            self.hand_out(turn);
            return Ok(());
        }
        let Some(Fetch { votes, gathering: Some(gathering), .. }) = self.transfer.fetch.take() else { return Ok(()) };
        self.transfer.end();
        self.transfer.installed += 1;
        self.take_over(Checkpoint { sequence, digest: gathering.digest }, &votes, turn);
        Ok(())
    }
}
