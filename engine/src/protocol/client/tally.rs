//! The replies to one operation, whatever they are: who gave which result, and whether one has enough.
//!
//! A result may be told for good or tentatively, by a replica that has prepared the batch in some view. What is told
//! tentatively counts only together with what others tell of the same view: that Q replicas prepared something each in
//! a view of its own proves nothing. Whoever tells something for good has more to say than that, and counts in any
//! case.

use super::ReplyOutcome;
use crate::protocol::Reply;
use crate::requests::result_digest;
use crate::types::{Digest, ReplicaId, View};

/// Room for a result that is kept for the next operation.
const RESULT_BYTES_KEPT: usize = 4 << 10;

/// How many equal replies complete an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    /// If all are for good.
    pub(super) committed: usize,
    /// If some are tentative.
    pub(super) tentative: usize,
}

/// The replies to one operation. Buffers are kept from one operation to the next.
#[derive(Debug, Default)]
pub(super) struct Tally {
    phase: Phase,
    /// Who answered for good.
    answered: u64,
    /// Who answered tentatively.
    tentative: u64,
    /// The first result, or the agreed one once the operation is complete.
    first: Candidate,
    /// Results that differ from it, or are told of another view. Empty unless a replica lies, is asked for what it has
    /// not executed, or views change.
    rivals: Vec<Candidate>,
    /// The view that the agreement rests on, if it does on what is tentative.
    agreed_in: Option<View>,
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
    /// Who gave it for good.
    voters: u64,
    /// Who gave it tentatively, and the view of all these.
    tentative: u64,
    view: View,
    /// Whether `result` is known, or else its digest alone.
    whole: bool,
    result: Vec<u8>,
    /// The result's digest, once somebody has sent one. Never computed where nobody does.
    digest: Option<Digest>,
}

impl Tally {
    /// Goes on from where all that was said so far is one result, for good and whole: `answered` have answered, of whom
    /// `voters` gave it before the operation was complete, if it is. Whatever was counted before is of an operation
    /// that is over.
    pub(super) fn resume(&mut self, answered: u64, voters: u64, result: &[u8]) {
        self.phase = Phase::Open;
        self.answered = answered;
        self.tentative = 0;
        self.first.restart(voters, result);
        self.rivals.clear();
        self.agreed_in = None;
    }

    /// Lets go of what nobody asks for any more: what liars have said, and room for long results.
    pub(super) fn forget(&mut self) {
        self.rivals.clear();
        if self.first.result.capacity() > RESULT_BYTES_KEPT {
            self.first.result = Vec::new();
        }
    }

    /// What was said first is what enough replicas have agreed on.
    pub(super) const fn close(&mut self) {
        self.phase = Phase::Complete;
    }

    /// Takes a result that enough replicas have vouched for together. Whether that completes the operation.
    pub(super) fn agree(&mut self, voters: u64, result: &[u8]) -> bool {
        let open = self.phase == Phase::Open;
        if open {
            self.resume(self.answered | voters, voters, result);
            self.close();
        }
        open
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

    /// The view that the agreement rests on, if it does on what is tentative.
    pub(super) const fn agreed_in(&self) -> Option<View> {
        self.agreed_in
    }

    /// Whether it is complete and this replica is one of those that agreed until then.
    pub(super) fn agreed(&self, replica: ReplicaId) -> bool {
        self.phase == Phase::Complete && (self.first.voters | self.first.tentative) >> replica.0 & 1 == 1
    }

    /// Whether no result can get so many votes for good of `n` any more, or one has them and whoever should have sent
    /// it whole did not.
    pub(super) fn is_hopeless(&self, n: usize, needed: usize) -> bool {
        let votes = |candidate: &Candidate| candidate.voters.count_ones() as usize;
        let most = self.rivals.iter().chain([&self.first]).map(votes).max().unwrap_or(0);
        let missing = n - self.answered.count_ones() as usize;
        most + missing < needed || (missing == 0 && most >= needed)
    }

    /// Bytes of memory for results.
    #[cfg(test)]
    pub(super) fn result_bytes(&self) -> usize {
        self.rivals.iter().chain([&self.first]).map(|candidate| candidate.result.capacity()).sum()
    }

    /// How many results are remembered besides the first one.
    #[cfg(test)]
    pub(super) const fn rivals(&self) -> usize {
        self.rivals.len()
    }

    /// Counts a reply. A vote counts once, for what was said first: whoever sends a digest and another result later
    /// voted for the digest. Only a tentative one is followed by another, of a later view or for good. `wrong` counts,
    /// by replica, what contradicts the result.
    #[inline]
    pub(super) fn count(&mut self, reply: &Reply<'_>, needed: Needed, mut wrong: Option<&mut [u64]>) -> ReplyOutcome {
        let voter = 1 << reply.replica.0;
        if !self.is_news(reply, voter) {
            return self.count_again(reply, needed, wrong);
        }
        *(if reply.tentative { &mut self.tentative } else { &mut self.answered }) |= voter;
        if self.phase == Phase::Complete {
            // Late, but still evidence. What was told of another view may have been undone since, which is no lie.
            if let Some(wrong) = wrong.as_mut().filter(|_| !reply.tentative || self.agreed_in == Some(reply.view)) {
                wrong[usize::from(reply.replica.0)] += u64::from(!self.first.agrees(reply));
            }
            return ReplyOutcome::Stale;
        }
        if self.phase == Phase::GivenUp {
            return ReplyOutcome::Stale;
        }
        let is_first = self.first.is_vacant() && self.rivals.is_empty();
        if is_first {
            self.first.set(reply);
        } else if !self.rivals.is_empty() || !self.first.takes(reply) {
            return self.count_among_rivals(reply, voter, needed, wrong);
        }
        let before = self.first.is_enough(needed);
        self.first.vote(reply, voter);
        if !self.first.is_enough(needed) {
            return ReplyOutcome::Counted;
        }
        if !self.first.whole {
            return if before { ReplyOutcome::Counted } else { ReplyOutcome::Vouched };
        }
        self.complete(0, needed, wrong);
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

    /// Whether a reply is a vote that was not counted yet. A tentative one takes the place of the same replica's of an
    /// earlier view, so that nobody has more than one.
    fn is_news(&mut self, reply: &Reply<'_>, voter: u64) -> bool {
        if self.answered & voter != 0 {
            return false;
        }
        if !reply.tentative || self.tentative & voter == 0 {
            return true;
        }
        let as_late = |candidate: &Candidate| candidate.tentative & voter != 0 && candidate.view >= reply.view;
        if self.phase != Phase::Open || self.rivals.iter().chain([&self.first]).any(as_late) {
            return false;
        }
        self.rivals.iter_mut().chain([&mut self.first]).for_each(|candidate| candidate.tentative &= !voter);
        true
    }

    /// A replica that has voted says more: the result whose digest enough have vouched for may be what was missing.
    #[cold]
    fn count_again(&mut self, reply: &Reply<'_>, needed: Needed, wrong: Option<&mut [u64]>) -> ReplyOutcome {
        if self.phase != Phase::Open || reply.is_digest {
            return ReplyOutcome::Duplicate;
        }
        self.take_over(reply);
        self.complete_if_enough(needed, wrong).unwrap_or(ReplyOutcome::Duplicate)
    }

    /// Counts a vote where not all say the same. Cold: some replica lies or lags, or views change.
    #[cold]
    fn count_among_rivals(
        &mut self,
        reply: &Reply<'_>,
        voter: u64,
        needed: Needed,
        wrong: Option<&mut [u64]>,
    ) -> ReplyOutcome {
        self.take_over(reply);
        let (mut voted, mut vouched) = (false, false);
        for candidate in self.rivals.iter_mut().chain([&mut self.first]).filter(|candidate| !candidate.is_vacant()) {
            if candidate.takes(reply) {
                let before = candidate.is_enough(needed);
                candidate.vote(reply, voter);
                vouched |= !before && candidate.is_enough(needed);
                voted = true;
            }
        }
        if !voted {
            vouched = self.nominate(reply, voter, needed);
        }
        let outcome = if vouched { ReplyOutcome::Vouched } else { ReplyOutcome::Counted };
        self.complete_if_enough(needed, wrong).unwrap_or(outcome)
    }

    /// Counts a vote for what nobody has said so far, at least not of this view. Whether it has enough votes at once:
    /// those for good count in whatever view the others are.
    fn nominate(&mut self, reply: &Reply<'_>, voter: u64, needed: Needed) -> bool {
        let candidates = self.rivals.iter_mut().chain([&mut self.first]);
        let voters = candidates.filter(|other| !other.is_vacant()).find_map(|other| {
            // All that agree have the same votes for good.
            other.agrees(reply).then_some(other.voters)
        });
        let vacant = [&self.first].into_iter().chain(&self.rivals).position(Candidate::is_vacant);
        let index = vacant.unwrap_or(self.rivals.len() + 1);
        if index > self.rivals.len() {
            self.rivals.push(Candidate::default());
        }
        let candidate = match index.checked_sub(1) {
            Some(rival) => &mut self.rivals[rival],
            None => &mut self.first,
        };
        candidate.set(reply);
        candidate.voters = voters.unwrap_or(0);
        candidate.vote(reply, voter);
        candidate.is_enough(needed)
    }

    /// Takes a whole result over wherever only its digest is known.
    fn take_over(&mut self, reply: &Reply<'_>) {
        if !reply.is_digest {
            let unknown = |candidate: &&mut Candidate| !candidate.is_vacant() && !candidate.whole;
            for candidate in self.rivals.iter_mut().chain([&mut self.first]).filter(unknown) {
                candidate.agrees(reply); // taking over the result
            }
        }
    }

    fn complete_if_enough(&mut self, needed: Needed, wrong: Option<&mut [u64]>) -> Option<ReplyOutcome> {
        let done = |candidate: &Candidate| candidate.whole && !candidate.is_vacant() && candidate.is_enough(needed);
        let index = [&self.first].into_iter().chain(&self.rivals).position(done)?;
        self.complete(index, needed, wrong);
        Some(ReplyOutcome::Completed)
    }

    /// The result of candidate number `index`, counted from the first one, is the operation's. Whoever said otherwise
    /// was wrong; what was told tentatively of another view may have been undone since.
    fn complete(&mut self, index: usize, needed: Needed, wrong: Option<&mut [u64]>) {
        self.phase = Phase::Complete;
        if let Some(rival) = index.checked_sub(1) {
            std::mem::swap(&mut self.first, &mut self.rivals[rival]);
        }
        let Candidate { voters, tentative, view, .. } = self.first;
        let by_tentative = (voters.count_ones() as usize) < needed.committed;
        self.agreed_in = by_tentative.then_some(view);
        if self.rivals.is_empty() {
            return;
        }
        let contradict = self.rivals.iter().fold(0, |all, rival| {
            let binding = if self.agreed_in == Some(rival.view) { rival.tentative & !tentative } else { 0 };
            all | (rival.voters & !voters) | binding
        });
        for (replica, wrong) in wrong.into_iter().flatten().enumerate() {
            *wrong += contradict >> replica & 1;
        }
    }
}

impl Candidate {
    /// Whether nobody says this, so that something else can take its place.
    const fn is_vacant(&self) -> bool {
        self.voters | self.tentative == 0
    }

    /// Whether so many say this that it is true.
    const fn is_enough(&self, needed: Needed) -> bool {
        let all = (self.voters | self.tentative).count_ones() as usize;
        self.voters.count_ones() as usize >= needed.committed || (self.tentative != 0 && all >= needed.tentative)
    }

    /// Counts a vote.
    const fn vote(&mut self, reply: &Reply<'_>, voter: u64) {
        if reply.tentative {
            self.tentative |= voter;
            self.view = reply.view;
        } else {
            self.voters |= voter;
        }
    }

    /// Takes a whole result, for which `voters` have voted for good.
    fn restart(&mut self, voters: u64, result: &[u8]) {
        (self.voters, self.tentative, self.whole, self.digest) = (voters, 0, true, None);
        self.result.clear();
        self.result.extend_from_slice(result);
    }

    /// Takes what a reply says; nobody has voted for it.
    fn set(&mut self, reply: &Reply<'_>) {
        (self.voters, self.tentative) = (0, 0);
        self.whole = !reply.is_digest;
        self.result.clear();
        self.digest = None;
        if reply.is_digest {
            self.digest = reply.result.try_into().ok().map(Digest);
        } else {
            self.result.extend_from_slice(reply.result);
        }
    }

    /// Whether a reply is a vote for this: the same result, and of the same view, if it is tentative.
    fn takes(&mut self, reply: &Reply<'_>) -> bool {
        let of_view = !reply.tentative || self.tentative == 0 || self.view == reply.view;
        of_view && self.agrees(reply)
    }

    /// Whether a reply says the same. If it has the result of which only the digest was known, that is taken over.
    #[inline]
    fn agrees(&mut self, reply: &Reply<'_>) -> bool {
        if self.whole && !reply.is_digest { self.result == reply.result } else { self.agrees_by_digest(reply) }
    }

    /// The same where one of the two is known by its digest alone.
    fn agrees_by_digest(&mut self, reply: &Reply<'_>) -> bool {
        match (self.whole, reply.is_digest) {
            (true, _) => self.digest.get_or_insert_with(|| result_digest(&self.result)).0 == reply.result,
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
