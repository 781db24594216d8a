//! The replies to one operation: who gave which result, and whether one has enough.

use super::ReplyOutcome;
use crate::protocol::Reply;
use crate::requests::result_digest;
use crate::types::{Digest, ReplicaId};

/// The replies to a client's current or last operation. Buffers are kept from one operation to the next.
#[derive(Debug, Default)]
pub(super) struct Tally {
    phase: Phase,
    /// Who answered.
    answered: u64,
    /// The first result, or the agreed one once the operation is complete.
    first: Candidate,
    /// Results that differ from it. Empty unless a replica lies, or is asked for what it has not executed.
    rivals: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Complete,
    GivenUp,
}

/// A result that somebody gave, whole or as its digest.
#[derive(Debug, Default)]
struct Candidate {
    /// Who gave it.
    voters: u64,
    /// Whether `result` is known, or else its digest alone.
    whole: bool,
    result: Vec<u8>,
    /// The result's digest, once somebody has sent one. Never computed where nobody does.
    digest: Option<Digest>,
}

impl Tally {
    pub(super) fn begin(&mut self) {
        self.phase = Phase::Open;
        self.answered = 0;
        self.first.voters = 0;
        self.rivals.clear();
    }

    /// Nobody waits for it any more.
    pub(super) const fn give_up(&mut self) {
        if matches!(self.phase, Phase::Open) {
            self.phase = Phase::GivenUp;
        }
    }

    /// Whether nobody waits for it.
    pub(super) fn is_over(&self) -> bool {
        self.phase != Phase::Open
    }

    /// What enough replicas agreed on.
    pub(super) fn result(&self) -> Option<&[u8]> {
        (self.phase == Phase::Complete).then_some(&self.first.result)
    }

    /// Whether it is complete and this replica is one of those that agreed until then.
    pub(super) fn agreed(&self, replica: ReplicaId) -> bool {
        self.phase == Phase::Complete && self.first.voters >> replica.0 & 1 == 1
    }

    /// Whether no result can get so many votes of `n` any more, or one has them and whoever should have sent it whole
    /// did not.
    pub(super) fn is_hopeless(&self, n: usize, needed: usize) -> bool {
        let most = self.rivals.iter().chain([&self.first]).map(Candidate::votes).max().unwrap_or(0);
        let missing = n - self.answered.count_ones() as usize;
        most + missing < needed || (missing == 0 && most >= needed)
    }

    /// Counts a reply. A vote counts once, for what was said first: whoever sends a digest and another result later
    /// voted for the digest. `wrong` counts, by replica, what contradicts the result.
    #[inline]
    pub(super) fn count(&mut self, reply: &Reply<'_>, needed: usize, mut wrong: Option<&mut [u64]>) -> ReplyOutcome {
        let voter = 1 << reply.replica.0;
        if self.answered & voter != 0 {
            return self.count_again(reply, needed, wrong);
        }
        self.answered |= voter;
        if self.phase == Phase::Complete {
            // Late, but still evidence.
            if let Some(wrong) = &mut wrong {
                wrong[usize::from(reply.replica.0)] += u64::from(!self.first.agrees(reply));
            }
            return ReplyOutcome::Stale;
        }
        if self.phase == Phase::GivenUp {
            return ReplyOutcome::Stale;
        }
        let is_first = self.first.voters == 0;
        if is_first {
            self.first.set(reply);
        }
        let agreed = if is_first || self.first.agrees(reply) {
            self.first.voters |= voter;
            &self.first
        } else {
            self.count_rival(reply, voter)
        };
        if agreed.votes() < needed {
            return ReplyOutcome::Counted;
        }
        if !agreed.whole {
            let just_now = agreed.votes() == needed;
            return if just_now { ReplyOutcome::Vouched } else { ReplyOutcome::Counted };
        }
        let voters = agreed.voters;
        self.complete(voters, wrong);
        ReplyOutcome::Completed
    }

    /// A replica says that it has no vote to give.
    pub(super) fn abstain(&mut self, reply: &Reply<'_>) -> ReplyOutcome {
        let voter = 1 << reply.replica.0;
        if self.answered & voter != 0 {
            return ReplyOutcome::Duplicate;
        }
        self.answered |= voter;
        if self.is_over() { ReplyOutcome::Stale } else { ReplyOutcome::Counted }
    }

    /// A replica that has voted says more: the result whose digest enough have vouched for may be what was missing.
    #[cold]
    fn count_again(&mut self, reply: &Reply<'_>, needed: usize, wrong: Option<&mut [u64]>) -> ReplyOutcome {
        if self.phase != Phase::Open || reply.is_digest {
            return ReplyOutcome::Duplicate;
        }
        let candidates = self.rivals.iter_mut().chain([&mut self.first]);
        let filled = candidates.filter(|candidate| !candidate.whole).find_map(|candidate| {
            // Agreeing with a digest takes over the result.
            candidate.agrees(reply).then_some((candidate.voters, candidate.votes()))
        });
        match filled {
            Some((voters, votes)) if votes >= needed => {
                self.complete(voters, wrong);
                ReplyOutcome::Completed
            }
            _ => ReplyOutcome::Duplicate,
        }
    }

    /// Counts a result that differs from the first one. Cold: some replica lies, or lags.
    #[cold]
    fn count_rival(&mut self, reply: &Reply<'_>, voter: u64) -> &Candidate {
        let at = self.rivals.iter_mut().position(|rival| rival.agrees(reply)).unwrap_or_else(|| {
            self.rivals.push(Candidate::default());
            let last = self.rivals.len() - 1;
            self.rivals[last].set(reply);
            last
        });
        self.rivals[at].voters |= voter;
        &self.rivals[at]
    }

    /// The result of the replicas in `agree` is the operation's. Whoever said otherwise was wrong.
    fn complete(&mut self, agree: u64, wrong: Option<&mut [u64]>) {
        self.phase = Phase::Complete;
        let contradict = self.answered & !agree;
        if contradict == 0 {
            return;
        }
        for (replica, wrong) in wrong.into_iter().flatten().enumerate() {
            *wrong += contradict >> replica & 1;
        }
        if let Some(rival) = self.rivals.iter_mut().find(|rival| rival.voters == agree) {
            std::mem::swap(&mut self.first, rival);
        }
    }
}

impl Candidate {
    const fn votes(&self) -> usize {
        self.voters.count_ones() as usize
    }

    /// Takes what a reply says; nobody has voted for it.
    fn set(&mut self, reply: &Reply<'_>) {
        self.voters = 0;
        self.whole = !reply.is_digest;
        self.result.clear();
        self.digest = None;
        if reply.is_digest {
            self.digest = reply.result.try_into().ok().map(Digest);
        } else {
            self.result.extend_from_slice(reply.result);
        }
    }

    /// Whether a reply says the same. If it has the result of which only the digest was known, that is taken over.
    #[inline]
    fn agrees(&mut self, reply: &Reply<'_>) -> bool {
        match (self.whole, reply.is_digest) {
            (true, false) => self.result == reply.result,
            _ => self.agrees_by_digest(reply),
        }
    }

    fn agrees_by_digest(&mut self, reply: &Reply<'_>) -> bool {
        match (self.whole, reply.is_digest) {
            (true, false) => self.result == reply.result,
            (true, true) => self.digest.get_or_insert_with(|| result_digest(&self.result)).0 == reply.result,
            (false, true) => self.digest.is_some_and(|digest| digest.0 == reply.result),
            (false, false) => {
                let agrees = self.digest == Some(result_digest(reply.result));
                if agrees {
                    self.whole = true;
                    self.result.extend_from_slice(reply.result);
                }
                agrees
            }
        }
    }
}
