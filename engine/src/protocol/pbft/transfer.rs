//! State transfer: a replica that can not be repaired any more, because nobody keeps what it misses, takes over the
//! whole state at a checkpoint (after Castro & Liskov, TOCS'02, section 5.3, which fetches parts of past checkpoints;
//! here the checkpoint is still to come, so that only replicas that are asked to keep a snapshot pay for it).
//!
//! The laggard picks a checkpoint ahead of what f + 1 replicas have reached and asks everybody to keep a snapshot
//! there; every other time the one that they have reached, in case they stand there and wait for this very replica. When
//! f + 1 vouch for one digest of it, the state exists and the digest is right. The chunks are fetched from one source
//! after another, until those of one give a state with that digest. The executor goes on behind it; the log goes there
//! when Q replicas share the state, or others are known to have left it behind, and until then the votes of this replica
//! below are to be had. The status exchange repairs the rest.
//!
//! An idle cluster gets to the checkpoint by null requests, which the primary owes like anything else that it is to
//! order: one that proposes none for as long as it may take over a batch is suspected. All that a faulty replica gets
//! from asking is a bounded number of null requests and snapshots, at ever longer intervals; and if it asks only some
//! others while no client wants anything, view changes until one of these is the primary.

use super::gathering::Gathering;
use super::votes::{Votes, set_of, size};
use super::{Pbft, Turn};
use crate::limits::HISTORY_BATCHES_MAX;
use crate::protocol::message::{Checkpoint, FetchState, Signature, StateChunk};
use crate::protocol::planted::Planted;
use crate::protocol::{Ignored, Message, Output};
use crate::requests::Batch;
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
const AGAIN_INTERVALS: u64 = 4;
/// A source that sends nothing new for so long* is skipped.
const SILENT_INTERVALS: u64 = 12;
/// A source that has not sent everything by then* is skipped: it may claim any number of chunks.
const SOURCE_INTERVALS: u64 = 100;
/// How often times and the distance to the checkpoint double.
const ATTEMPTS_MAX: u32 = 6;
/// No cluster gets there: beyond it, sequence numbers are not worth calculating with.
const SEQUENCE_MAX: SequenceNumber = SequenceNumber(u64::MAX / 2);

/// One replica's wishes are at least so far apart; the time doubles with each, up to `WISHES_MAX` times, and is short
/// again after it asked for nothing for `WISH_RECOVERY` times as long.
const WISH_INTERVALS: u64 = 4;
const WISHES_MAX: u32 = 7;
const WISH_RECOVERY: u64 = 4;
/// Most chunks that one replica is sent in one interval.
const READS_PER_INTERVAL: u32 = 64;
/// Null requests that are under way at a time for a checkpoint that somebody waits for.
const PADDING_IN_FLIGHT: u64 = 16;

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
    /// What each other replica asked for.
    askers: Vec<Asker>,
    /// The highest checkpoint that somebody waits for.
    padding: SequenceNumber,
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

impl Transfer {
    /// Nothing under way, among `n` replicas.
    pub(super) fn new(n: usize, now: Time) -> Self {
        Self {
            standing: (SequenceNumber(0), now),
            fetch: None,
            attempt: 0,
            shunned: 0,
            installed: 0,
            askers: vec![Asker::default(); n],
            padding: SequenceNumber(0),
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

    /// The checkpoint that `replica` asked to be kept last; 0 if none.
    pub(super) fn wished_by(&self, replica: ReplicaId) -> SequenceNumber {
        self.askers[usize::from(replica.0)].wished
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

/// The laggard's side.
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

    /// The highest checkpoint that is surely stable at a correct replica, by what f + 1 have told: up to there
    /// everything is settled, and f + 1 correct replicas have executed it.
    pub(super) fn settled(&self) -> SequenceNumber {
        let told = self.repair.stable_by(self.config.quorums.weak());
        SequenceNumber(told.0 - told.0 % self.config.checkpoint_interval)
    }

    /// The highest checkpoint that f + 1 replicas say to have reached or passed: a correct one is among them.
    fn reached(&self) -> SequenceNumber {
        self.checkpoints.reached_by(self.config.quorums.weak())
    }

    const fn intervals(&self, count: u64) -> u64 {
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

    /// Takes part again, without a state: nobody has the one at the checkpoint that the others have reached, and they may
    /// not get to the next one, and so to another state, without the votes of this replica.
    ///
    /// The low watermark rises to what is stable at a correct replica, and no farther. Up to there nothing can be
    /// decided otherwise any more, so the votes of this replica are as good as if it had executed everything; what it
    /// must not do is vouch for a state, or execute anything before it has one. And f + 1 correct replicas have the
    /// state, so the votes below are not needed: a checkpoint for which f + 1 vouch is not enough for that, since one
    /// correct replica alone may have got there, which others can not follow without those votes. The paper has no need
    /// of this, since its replicas keep the state of the stable checkpoint (TOCS'02, section 5.3), which costs a copy of
    /// what changes.
    fn go_ahead(&mut self, turn: &mut Turn<'_>) {
        let (to, reached) = (self.settled(), self.reached());
        let votes_count = reached.0.saturating_add(self.config.checkpoint_interval) <= self.log.high().0;
        if to > self.log.committed && !votes_count {
            self.rise_to(to, turn);
        }
    }

    /// Takes over a state: the executor stands at `to` now, and what follows it can be executed.
    ///
    /// Others may need this replica's votes to get there. So the low watermark rises to it by the usual rule only, when
    /// Q replicas share the state, or to what is stable elsewhere; and what lies in between is agreed on as if there
    /// were no such state. With a low watermark at every checkpoint for which f + 1 vouch, a new view might find that
    /// too few replicas have not passed what is to be decided, and too few can vouch for its outcome.
    fn take_over(&mut self, to: Checkpoint, votes: &Votes, turn: &mut Turn<'_>) {
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

/// The side of those that have the state.
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
        if self.transfer.wished_by(sender) == target && coming {
            // It is told again in case it was lost. But what a primary misses keeps it from proposing anything, and
            // nobody else may: on to one that can. With idle clients nothing else would tell.
            // (A message that came twice is not told again. Half the time, since not every message takes as long.)
            let wished_at = self.transfer.askers[usize::from(sender.0)].wished_at;
            let again = wished_at.is_some_and(|at| turn.now.since(at) >= self.intervals(AGAIN_INTERVALS) / 2);
            if again && sender == self.primary() && self.views.active {
                self.suspect(turn);
            }
            return Ok(());
        }
        let asker = &mut self.transfer.askers[usize::from(sender.0)];
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
        self.transfer.padding = self.transfer.padding.max(target);
        self.propose(turn);
        self.arm_view_timer(turn);
        Ok(())
    }

    /// Whether the primary is to get on to a checkpoint that somebody waits for, whatever clients want.
    pub(super) fn owes_padding(&self) -> bool {
        self.log.committed < self.transfer.padding.min(self.log.high())
    }

    /// Proposes null requests up to the checkpoint that somebody waits for, while there are no others to propose.
    pub(super) fn pad(&mut self, turn: &mut Turn<'_>) {
        let last = self.transfer.padding.min(self.log.high());
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
        if !self.transfer.askers[usize::from(sender.0)].may_read(turn.now, interval) {
            return Err(Ignored::StateRefused);
        }
        turn.outputs.push(Output::ReadState { to: sender, fetch });
        Ok(())
    }
}
