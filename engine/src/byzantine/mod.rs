//! Replicas that misbehave on purpose, to see that the others survive it.
//!
//! [`Byzantine`] is a correct replica with a liar at its mouth: the protocol inside runs as it should, and what it says
//! to other replicas is changed, held back, multiplied or made up. It is a [`Protocol`] as pure as the one inside (its
//! random numbers follow from a seed), so that real replicas and the simulator run the same liar. It holds no keys: it
//! can say anything as itself, but what others have signed it can only repeat, with the signature that it received.
//!
//! In the order of a message's way out: `memory` (what was heard and said), `equivocate`, `lies`, `early`, `nuisance`
//! and `mutate` (what the kinds do), [`Byzantine`]'s mouth (what is silent or slow). Some kinds act where proofs and
//! replies are made, outside the protocol; [`Kind`] tells whoever makes them.

mod early;
mod equivocate;
mod kind;
mod lies;
mod memory;
mod mutate;
mod nuisance;
mod random;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use early::Known;
pub use kind::Kind;
use memory::Memory;
use random::SplitMix;

use crate::protocol::message::{Signed, ViewChange};
use crate::protocol::{Input, Message, Output, Position, Protocol, Timer};
use crate::types::{ReplicaId, SequenceNumber, Time, View};

/// Most messages that are made up in answer to one input, for any number of kinds.
pub const EXTRA_MAX: usize = 50;
/// How many messages a second are made up, unless it is told otherwise: enough to be felt by the others, little enough
/// that two who provoke each other do not drown a machine.
const EXTRA_PER_SECOND: u64 = 5_000;
/// Most messages that are held back at a time; more are never sent.
const HELD_MAX: usize = 1 << 14;
/// What a slow replica takes the view time-out to be, unless it is told.
const VIEW_TIMEOUT_NS: u64 = 1_000_000_000;

/// A replica that misbehaves. Every output of the protocol inside but its messages stays as it is.
pub struct Byzantine {
    inner: Box<dyn Protocol>,
    kinds: Vec<Kind>,
    n: usize,
    own: ReplicaId,
    random: SplitMix,
    memory: Memory,
    /// What it can bring before it is asked for; kept by those kinds alone that do so.
    known: Known,
    /// Correct until it has committed this and until this time.
    from: (SequenceNumber, Time),
    delay_ns: u64,
    held: VecDeque<(Time, Letter)>,
    budget: Budget,
    /// Outputs of the protocol inside: the same memory from step to step.
    inside: Vec<Output>,
}

/// A message with those that are to get it.
#[derive(Clone, Debug)]
struct Letter {
    to: To,
    message: Arc<Message>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    All,
    One(ReplicaId),
}

impl Letter {
    fn to(receiver: ReplicaId, message: Message) -> Self {
        Self { to: To::One(receiver), message: Arc::new(message) }
    }

    /// The same for another message.
    fn with(&self, message: Message) -> Self {
        Self { to: self.to, message: Arc::new(message) }
    }

    fn into_output(self) -> Output {
        match self.to {
            To::All => Output::Broadcast(self.message),
            To::One(receiver) => Output::Send(receiver, self.message),
        }
    }
}

/// How many messages may still be made up. Refills with time.
#[derive(Clone, Copy, Debug)]
struct Budget {
    per_second: u64,
    /// In billionths of a message.
    left: u64,
    at: Time,
}

impl Budget {
    const fn new(per_second: u64) -> Self {
        Self { per_second, left: 0, at: Time(0) }
    }

    /// Takes up to [`EXTRA_MAX`].
    fn take(&mut self, now: Time) -> usize {
        const ONE: u64 = 1_000_000_000;
        let earned = now.since(self.at).saturating_mul(self.per_second);
        self.at = now;
        self.left = self.left.saturating_add(earned).min(EXTRA_MAX as u64 * ONE);
        let whole = self.left / ONE;
        self.left -= whole * ONE;
        usize::try_from(whole).unwrap_or(EXTRA_MAX)
    }
}

impl Byzantine {
    /// Makes `inner`, replica `own` of `n`, misbehave in all of `kinds`. Everything it does follows from `seed` and
    /// what it hears.
    #[must_use]
    pub fn new(inner: Box<dyn Protocol>, mut kinds: Vec<Kind>, n: usize, own: ReplicaId, seed: u64) -> Self {
        kinds.sort_unstable();
        kinds.dedup();
        Self {
            inner,
            kinds,
            n,
            own,
            random: SplitMix::new(seed),
            memory: Memory::default(),
            known: Known::default(),
            from: (SequenceNumber(0), Time(0)),
            delay_ns: delay(VIEW_TIMEOUT_NS),
            held: VecDeque::new(),
            budget: Budget::new(EXTRA_PER_SECOND),
            inside: Vec::new(),
        }
    }

    /// Tells it the view time-out: a slow one stays below.
    #[must_use]
    pub const fn with_view_timeout(mut self, view_timeout_ns: u64) -> Self {
        self.delay_ns = delay(view_timeout_ns);
        self
    }

    /// Behaves well until it has committed `sequence` and until `time`.
    #[must_use]
    pub const fn starting_at(mut self, sequence: SequenceNumber, time: Time) -> Self {
        self.from = (sequence, time);
        self
    }

    /// How many messages a second it makes up.
    #[must_use]
    pub const fn with_extra_per_second(mut self, messages: u64) -> Self {
        self.budget = Budget::new(messages);
        self
    }

    fn is(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    fn view(&self) -> View {
        self.inner.position().view
    }

    /// Every other replica that gets this letter.
    fn receivers(&self, to: To) -> Vec<ReplicaId> {
        match to {
            To::One(receiver) => vec![receiver],
            To::All => (0u16..).take(self.n).map(ReplicaId).filter(|replica| *replica != self.own).collect(),
        }
    }

    /// Any other replica.
    fn anybody(&mut self) -> ReplicaId {
        let others = self.receivers(To::All);
        others[self.random.index(others.len())]
    }

    /// Whether a view-change or new-view is this replica's own to sign.
    fn is_own(&self, view_change: &Signed<ViewChange>) -> bool {
        view_change.signature.is_none() && view_change.content.replica == self.own
    }

    /// What becomes of one message of the replica inside.
    fn distort(&mut self, letter: Letter) -> Vec<Letter> {
        let mut letters = vec![letter];
        for kind in self.kinds.clone() {
            let mut changed = Vec::with_capacity(letters.len());
            for letter in letters {
                self.distort_by(kind, letter, &mut changed);
            }
            letters = changed;
        }
        letters
    }

    fn distort_by(&mut self, kind: Kind, letter: Letter, out: &mut Vec<Letter>) {
        match kind {
            Kind::Equivocate => self.equivocate(letter, out),
            Kind::WrongDigest => self.vote_wrongly(letter, out),
            Kind::WithholdBody => self.withhold(letter, out),
            Kind::EarlyBody => self.vouch_for_nothing(letter, out),
            Kind::LyingCheckpoint => self.lie_about_checkpoints(letter, out),
            Kind::LyingState => self.lie_about_state(letter, out),
            Kind::Random => self.mutate(letter, out),
            Kind::Silent
            | Kind::Slow
            | Kind::StaleView
            | Kind::Flood
            | Kind::CorruptMac
            | Kind::PartialAuthenticator
            | Kind::WrongReply => out.push(letter),
        }
    }

    /// What is made up besides, at most [`EXTRA_MAX`] messages.
    fn make_up(&mut self, now: Time) -> Vec<Letter> {
        let mut letters = Vec::new();
        if self.is(Kind::LyingState) {
            self.invent_state(&mut letters);
        }
        let random = self.is(Kind::Random);
        if self.is(Kind::EarlyBody) || (random && self.random.once_in(4)) {
            self.bring_early(&mut letters);
        }
        let floods = self.is(Kind::Flood) || (random && self.random.once_in(16));
        let repeats = self.is(Kind::StaleView) || (random && self.random.once_in(8));
        if floods || repeats {
            let count = self.budget.take(now);
            let stale = if floods && repeats { count / 2 } else { count };
            if repeats {
                self.speak_of_other_views(stale.min(nuisance::STALE_MAX), &mut letters);
            }
            if floods {
                self.flood(count, &mut letters);
            }
        }
        letters.truncate(EXTRA_MAX);
        letters
    }

    /// Lets a letter go, holds it back, or swallows it.
    fn send(&mut self, now: Time, letter: Letter, outputs: &mut Vec<Output>) {
        if self.is(Kind::Silent) {
            return;
        }
        if !self.is(Kind::Slow) {
            outputs.push(letter.into_output());
        } else if self.held.len() < HELD_MAX {
            let due = now.after(self.delay_ns);
            if self.held.is_empty() {
                outputs.push(Output::SetTimer(Timer::Adversary, due));
            }
            self.held.push_back((due, letter));
        }
    }

    /// Lets go what has been held back for long enough.
    fn release(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while self.held.front().is_some_and(|(due, _)| *due <= now) {
            outputs.extend(self.held.pop_front().map(|(_, letter)| letter.into_output()));
        }
        if let Some((due, _)) = self.held.front() {
            outputs.push(Output::SetTimer(Timer::Adversary, *due));
        }
    }

    fn is_awake(&self, now: Time) -> bool {
        let (sequence, time) = self.from;
        now >= time && self.inner.position().committed >= sequence
    }
}

/// How long a slow replica holds everything back: as primary it commits within the time-out, but only just.
const fn delay(view_timeout_ns: u64) -> u64 {
    view_timeout_ns / 4 * 3
}

impl Protocol for Byzantine {
    fn step(&mut self, now: Time, input: Input, outputs: &mut Vec<Output>) {
        if matches!(input, Input::Timer(Timer::Adversary)) {
            self.release(now, outputs);
            return;
        }
        let awake = self.is_awake(now);
        self.memory.hear(&input);
        if self.is(Kind::Equivocate) {
            self.note_proposal(&input);
        }
        if self.is(Kind::EarlyBody) || self.is(Kind::Random) {
            self.known.hear(&input);
        }
        let mut inside = std::mem::take(&mut self.inside);
        self.inner.step(now, input, &mut inside);
        for output in inside.drain(..) {
            let letter = match output {
                Output::Send(to, message) => Letter { to: To::One(to), message },
                Output::Broadcast(message) => Letter { to: To::All, message },
                other => {
                    outputs.push(other);
                    continue;
                }
            };
            self.memory.say(&letter.message);
            if !awake {
                outputs.push(letter.into_output());
                continue;
            }
            for letter in self.distort(letter) {
                self.send(now, letter, outputs);
            }
        }
        self.inside = inside;
        if awake {
            for letter in self.make_up(now) {
                self.send(now, letter, outputs);
            }
        }
    }

    fn position(&self) -> Position {
        self.inner.position()
    }
}

impl std::fmt::Debug for Byzantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Byzantine(replica {} of {}: {:?})", self.own, self.n, self.kinds)
    }
}
