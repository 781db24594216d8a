//! Matching replies to one operation, in a form that shares a cache line with its timestamp.
//!
//! Where results are short, sent whole and for good, replicas mostly say the same of an operation, and it is enough to
//! know the result and who gave it. As soon as a reply is anything else (longer, a digest, tentative, contradicting,
//! late after giving up), the [`Tally`] takes over what was counted, and counts this operation from there on. It takes
//! memory of its own, which is kept for the client's later operations.

use super::ReplyOutcome;
use super::tally::{Needed, Tally};
use crate::protocol::Reply;
use crate::short;
use crate::types::{ReplicaId, View};

/// Bytes of a result that are kept in place: what is left of a cache line.
const SHORT_BYTES_MAX: usize = 30;

/// The replies to a client's current or last operation.
#[derive(Debug, Default)]
pub(super) struct MatchingReplies {
    /// Who answered.
    answered: u64,
    /// Who gave the result until the operation was complete.
    voters: u64,
    /// Counts in place of this while `phase` says so; else it is kept for later.
    tally: Option<Box<Tally>>,
    phase: Phase,
    result_bytes: u8,
    /// Begins with the result, once somebody has given it.
    result: [u8; SHORT_BYTES_MAX],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Complete,
    GivenUp,
    /// Not all replies are of the usual kind: the tally has counted them.
    Tallied,
}

impl MatchingReplies {
    #[inline]
    pub(super) fn begin(&mut self) {
        if self.phase == Phase::Tallied {
            self.hand_over().forget();
        }
        (self.phase, self.answered, self.voters) = (Phase::Open, 0, 0);
    }

    /// Counts a reply; see [`Tally::count`].
    #[inline]
    pub(super) fn count(&mut self, reply: &Reply<'_>, needed: Needed, wrong: Option<&mut [u64]>) -> ReplyOutcome {
        if self.phase == Phase::Tallied
            && let Some(tally) = &mut self.tally
        {
            return tally.count(reply, needed, wrong);
        }
        let voter = 1 << reply.replica.0;
        let is_counted = matches!(self.phase, Phase::Open | Phase::Complete);
        if is_counted && self.answered & voter != 0 {
            return ReplyOutcome::Duplicate;
        }
        if is_counted && !reply.is_digest && !reply.tentative && self.takes(reply.result) {
            self.answered |= voter;
            if self.phase == Phase::Complete {
                return ReplyOutcome::Stale;
            }
            self.voters |= voter;
            if (self.voters.count_ones() as usize) < needed.committed {
                return ReplyOutcome::Counted;
            }
            self.phase = Phase::Complete;
            return ReplyOutcome::Completed;
        }
        self.hand_over().count(reply, needed, wrong)
    }

    /// Takes a result that enough replicas have vouched for together. Whether that completes the operation.
    #[inline]
    pub(super) fn agree(&mut self, voters: u64, result: &[u8]) -> bool {
        if self.phase != Phase::Open || result.len() > SHORT_BYTES_MAX {
            return !self.is_over() && self.hand_over().agree(voters, result);
        }
        self.answered |= voters;
        self.voters = voters;
        self.set_result(result);
        self.phase = Phase::Complete;
        true
    }

    /// A replica says that it has no vote to give.
    pub(super) fn abstain(&mut self, reply: &Reply<'_>) -> ReplyOutcome {
        self.hand_over().abstain(reply)
    }

    /// Nobody waits for it any more.
    pub(super) fn give_up(&mut self) {
        match self.phase {
            Phase::Open => self.phase = Phase::GivenUp,
            Phase::Tallied => self.hand_over().give_up(),
            Phase::Complete | Phase::GivenUp => {}
        }
    }

    /// Whether nobody waits for it.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Complete | Phase::GivenUp => true,
            Phase::Tallied => self.tallied().is_none_or(Tally::is_over),
        }
    }

    /// What enough replicas agreed on.
    pub(super) fn result(&self) -> Option<&[u8]> {
        match self.tallied() {
            Some(tally) => tally.result(),
            None => (self.phase == Phase::Complete).then(|| self.short_result()),
        }
    }

    /// The view that the agreement rests on, if it does on what is tentative.
    pub(super) fn agreed_in(&self) -> Option<View> {
        self.tallied().and_then(Tally::agreed_in)
    }

    /// Whether it is complete and this replica is one of those that agreed until then.
    pub(super) fn agreed(&self, replica: ReplicaId) -> bool {
        match self.tallied() {
            Some(tally) => tally.agreed(replica),
            None => self.phase == Phase::Complete && self.voters >> replica.0 & 1 == 1,
        }
    }

    /// See [`Tally::is_hopeless`]. While all say the same it is not: whoever is missing may say so too.
    pub(super) fn is_hopeless(&self, n: usize, needed: usize) -> bool {
        self.tallied().is_some_and(|tally| tally.is_hopeless(n, needed))
    }

    /// Whether a result is the one that all have given, or the first.
    #[inline]
    fn takes(&mut self, result: &[u8]) -> bool {
        if self.voters != 0 {
            return short::equal(self.short_result(), result);
        }
        let fits = result.len() <= SHORT_BYTES_MAX;
        if fits {
            self.set_result(result);
        }
        fits
    }

    /// Sets the result, of at most [`SHORT_BYTES_MAX`].
    #[inline]
    fn set_result(&mut self, result: &[u8]) {
        #[allow(clippy::cast_possible_truncation, reason = "at most SHORT_BYTES_MAX")]
        let bytes = result.len() as u8;
        self.result_bytes = bytes;
        short::copy(result, &mut self.result[..result.len()]);
    }

    fn short_result(&self) -> &[u8] {
        &self.result[..usize::from(self.result_bytes)]
    }

    fn tallied(&self) -> Option<&Tally> {
        self.tally.as_deref().filter(|_| self.phase == Phase::Tallied)
    }

    /// The tally, which counts from now on if it did not before.
    #[cold]
    fn hand_over(&mut self) -> &mut Tally {
        let Self { answered, voters, phase, result_bytes, result, .. } = *self;
        let tally = self.tally.get_or_insert_default();
        if phase != Phase::Tallied {
            tally.resume(answered, voters, &result[..usize::from(result_bytes)]);
            match phase {
                Phase::Complete => tally.close(),
                Phase::GivenUp => tally.give_up(),
                Phase::Open | Phase::Tallied => {}
            }
            self.phase = Phase::Tallied;
        }
        tally
    }

    /// Bytes of memory for results besides those in place.
    #[cfg(test)]
    pub(super) fn result_bytes(&self) -> usize {
        self.tally.as_deref().map_or(0, Tally::result_bytes)
    }

    /// How many results are remembered besides the first one.
    #[cfg(test)]
    pub(super) fn rivals(&self) -> usize {
        self.tallied().map_or(0, Tally::rivals)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::requests::result_digest;
    use crate::types::{ClientId, Timestamp};

    const N: usize = 7;

    #[derive(Clone, Debug)]
    enum Step {
        Reply { replica: u16, view: u64, result: usize, is_digest: bool, tentative: bool },
        Abstain { replica: u16 },
        Agree { voters: u64, result: usize },
        GiveUp,
        Begin,
    }

    fn results() -> [Vec<u8>; 4] {
        [Vec::new(), b"ok".to_vec(), vec![1; SHORT_BYTES_MAX], vec![1; SHORT_BYTES_MAX + 1]]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let reply = |result: BoxedStrategy<usize>, odd: f64| {
            let kind = (prop::bool::weighted(odd), prop::bool::weighted(odd));
            (0..N as u16, 0u64..2, result, kind).prop_map(|(replica, view, result, (is_digest, tentative))| {
                Step::Reply { replica, view, result, is_digest, tentative }
            })
        };
        let step = prop_oneof![
            20 => reply(Just(1).boxed(), 0.0),
            8 => reply((0usize..4).boxed(), 0.2),
            1 => (0..N as u16).prop_map(|replica| Step::Abstain { replica }),
            1 => (0u64..1 << N, 0usize..4).prop_map(|(voters, result)| Step::Agree { voters, result }),
            1 => Just(Step::GiveUp),
            2 => Just(Step::Begin),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        /// They are a tally, only shorter: whatever is said, they tell the same.
        #[test]
        fn matching_replies_tell_what_a_tally_tells(steps in steps(), committed in 3usize..6) {
            let needed = Needed { committed, tentative: 5 };
            let (results, digests) = (results(), results().map(|result| result_digest(&result)));
            let (mut matching, mut tally) = (MatchingReplies::default(), Tally::default());
            let mut wrong = [[0; N], [0; N]];
            for step in steps {
                match step {
                    Step::Reply { replica, view, result, is_digest, tentative } => {
                        let result = if is_digest { &digests[result].0[..] } else { &results[result] };
                        let (client, timestamp) = (ClientId(0), Timestamp(1));
                        let (replica, view) = (ReplicaId(replica), View(view));
                        let reply = Reply { replica, view, client, timestamp, result, is_digest, tentative };
                        let outcome = matching.count(&reply, needed, Some(&mut wrong[0]));
                        prop_assert_eq!(outcome, tally.count(&reply, needed, Some(&mut wrong[1])));
                    }
                    Step::Abstain { replica } => {
                        let reply = Reply {
                            replica: ReplicaId(replica),
                            view: View(0),
                            client: ClientId(0),
                            timestamp: Timestamp(1),
                            result: b"",
                            is_digest: false,
                            tentative: false,
                        };
                        prop_assert_eq!(matching.abstain(&reply), tally.abstain(&reply));
                    }
                    Step::Agree { voters, result } => {
                        let agreed = tally.agree(voters, &results[result]);
                        prop_assert_eq!(matching.agree(voters, &results[result]), agreed);
                    }
                    Step::GiveUp => {
                        matching.give_up();
                        tally.give_up();
                    }
                    Step::Begin => {
                        matching.begin();
                        tally.resume(0, 0, b"");
                    }
                }
                prop_assert_eq!(matching.result(), tally.result());
                prop_assert_eq!(matching.is_over(), tally.is_over());
                prop_assert_eq!(matching.agreed_in(), tally.agreed_in());
                if !matching.is_over() {
                    prop_assert_eq!(matching.is_hopeless(N, committed), tally.is_hopeless(N, committed));
                }
                for replica in (0..N as u16).map(ReplicaId) {
                    prop_assert_eq!(matching.agreed(replica), tally.agreed(replica));
                }
            }
            prop_assert_eq!(wrong[0], wrong[1]);
        }
    }
}
