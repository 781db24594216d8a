//! Who sends the replies to batches, where the others send a digest.
//!
//! In the beginning all replicas send them. As soon as a batch is agreed on, the client node chooses one of those who
//! answered early, rather not the primary, which has more to do than the others, and tells the others to send digests.
//! Another one is chosen
//!
//! - at once, if a batch has its votes and its replies do not come: the next one that has voted for it;
//! - by and by, if the chosen one is mostly later than the votes of others are: both send replies until the new one is
//!   known to, and the old one has come as far, so that no batch in between is sent by nobody.
//!
//! What was told may be lost with a connection. A replica that sends replies although it was told not to is told again.

use super::batches::BatchForm;
use crate::types::{ReplicaId, SequenceNumber, Time};

/// Batches after which it is judged whether the chosen replica is late.
const JUDGED_BATCHES: u32 = 64;
/// How many of these it may be late with.
const LATE_BATCHES_MAX: u32 = 48;
/// Least time between telling a replica and telling it again, ns.
const TELL_AGAIN_NS: u64 = 100_000_000;

/// Who sends replies.
#[derive(Debug)]
pub(super) struct Designation {
    designated: Option<ReplicaId>,
    /// Since when.
    since: Time,
    next: Option<Next>,
    /// How each replica was told to answer last, and when. A new connection begins with whole replies.
    told: Vec<(BatchForm, Time)>,
    /// How often each was the first to vote for a batch, since it was last judged.
    firsts: Vec<u32>,
    batches: u32,
    late: u32,
}

/// Who is to send replies in place of the designated one.
#[derive(Debug)]
struct Next {
    replica: ReplicaId,
    /// From which batch on it does.
    from: Option<SequenceNumber>,
}

impl Designation {
    /// All of `n` replicas send replies.
    pub(super) fn new(n: usize) -> Self {
        Self {
            designated: None,
            since: Time(0),
            next: None,
            told: vec![(BatchForm::Whole, Time(0)); n],
            firsts: vec![0; n],
            batches: 0,
            late: 0,
        }
    }

    /// Who is chosen.
    pub(super) const fn designated(&self) -> Option<ReplicaId> {
        self.designated
    }

    /// A replica answers in this form, where the form matters.
    pub(super) fn on_form(&mut self, now: Time, replica: ReplicaId, form: BatchForm) {
        let (told, at) = &mut self.told[usize::from(replica.0)];
        if form == BatchForm::Whole && now.since(*at) >= TELL_AGAIN_NS {
            *told = BatchForm::Whole;
        }
    }

    /// A replica has come to this batch, and has sent its replies or not.
    pub(super) fn on_sequence(&mut self, now: Time, replica: ReplicaId, sequence: SequenceNumber, whole: bool) {
        let Some(next) = &mut self.next else { return };
        if replica == next.replica && whole {
            next.from.get_or_insert(sequence);
        }
        if self.designated == Some(replica) && next.from.is_some_and(|from| sequence >= from) {
            (self.designated, self.since) = (Some(next.replica), now);
            self.next = None;
        }
    }

    /// A replica is the first to vote for a batch.
    pub(super) fn on_first(&mut self, replica: ReplicaId) {
        self.firsts[usize::from(replica.0)] += 1;
    }

    /// A batch has its votes before its replies.
    pub(super) const fn on_late(&mut self) {
        self.late += 1;
    }

    /// A batch is agreed on, by these.
    pub(super) fn on_agreed(&mut self, now: Time, voters: u64, primary: ReplicaId) {
        self.batches += 1;
        if self.designated.is_none() {
            (self.designated, self.since) = (self.earliest(voters, primary), now);
        }
        if self.batches < JUDGED_BATCHES {
            return;
        }
        self.next = None; // if it was to take over, it has not
        if self.late > LATE_BATCHES_MAX
            && let Some(replica) = self.earliest(u64::MAX, primary).filter(|replica| self.designated != Some(*replica))
        {
            self.next = Some(Next { replica, from: None });
        }
        (self.batches, self.late) = (0, 0);
        self.firsts.fill(0);
    }

    /// A batch that had its votes at `since`, by these, lacks its replies.
    pub(super) fn on_missing(&mut self, now: Time, since: Time, voters: u64) {
        let Some(designated) = self.designated.filter(|_| since >= self.since) else { return };
        #[allow(clippy::cast_possible_truncation, reason = "at most REPLICAS_MAX")]
        let n = self.told.len() as u16;
        let others = (1..n).map(|by| ReplicaId((designated.0 + by) % n));
        if let Some(next) = others.into_iter().find(|replica| voters >> replica.0 & 1 == 1) {
            (self.designated, self.since, self.next) = (Some(next), now, None);
        }
    }

    /// What to tell which replica now.
    pub(super) fn tell(&mut self, now: Time) -> Option<(ReplicaId, BatchForm)> {
        let designated = self.designated?;
        for (replica, (told, at)) in (0..).map(ReplicaId).zip(&mut self.told) {
            let sends = replica == designated || self.next.as_ref().is_some_and(|next| next.replica == replica);
            let wanted = if sends { BatchForm::Whole } else { BatchForm::Digest };
            if *told != wanted {
                (*told, *at) = (wanted, now);
                return Some((replica, wanted));
            }
        }
        None
    }

    /// Who of these was mostly the first, rather not the primary.
    fn earliest(&self, of: u64, primary: ReplicaId) -> Option<ReplicaId> {
        let candidates = (0..).map(ReplicaId).zip(&self.firsts).filter(|(replica, _)| of >> replica.0 & 1 == 1);
        candidates.max_by_key(|(replica, firsts)| (*replica != primary, **firsts)).map(|(replica, _)| replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: ReplicaId = ReplicaId(0);

    fn tellings(designation: &mut Designation, at: u64) -> Vec<(u16, BatchForm)> {
        std::iter::from_fn(|| designation.tell(Time(at))).map(|(replica, form)| (replica.0, form)).collect()
    }

    fn digests<const N: usize>(replicas: [u16; N]) -> Vec<(u16, BatchForm)> {
        replicas.map(|replica| (replica, BatchForm::Digest)).to_vec()
    }

    /// Of four, replica 2 is chosen, and the others have been told.
    fn chosen() -> Designation {
        let mut designation = Designation::new(4);
        assert_eq!(tellings(&mut designation, 0), [], "all send replies until one is chosen");
        designation.on_first(PRIMARY);
        designation.on_first(ReplicaId(2));
        designation.on_agreed(Time(1), 0b0101, PRIMARY);
        assert_eq!(designation.designated(), Some(ReplicaId(2)), "rather not the primary");
        assert_eq!(tellings(&mut designation, 1), digests([0, 1, 3]));
        assert_eq!(tellings(&mut designation, 2), []);
        designation
    }

    /// As many batches as it takes to be judged, `late` of them late, for all of which this replica is first.
    fn judge(designation: &mut Designation, late: u32, first: u16) {
        (0..late).for_each(|_| designation.on_late());
        let left = JUDGED_BATCHES - designation.batches;
        for _ in 0..left {
            designation.on_first(ReplicaId(first));
            designation.on_agreed(Time(10), 0b1111, PRIMARY);
        }
    }

    #[test]
    fn where_there_is_nobody_else_the_primary_is_chosen() {
        let mut designation = Designation::new(4);
        designation.on_agreed(Time(1), 0b0001, PRIMARY);
        assert_eq!(designation.designated(), Some(PRIMARY));
    }

    #[test]
    fn who_sends_replies_unasked_is_told_again_but_not_at_once() {
        let mut designation = chosen();
        let later = Time(1 + TELL_AGAIN_NS);
        designation.on_form(Time(2), ReplicaId(3), BatchForm::Whole);
        assert_eq!(tellings(&mut designation, 2), [], "it may not have heard of it yet");
        designation.on_form(later, ReplicaId(3), BatchForm::Digest);
        designation.on_form(later, ReplicaId(2), BatchForm::Whole);
        assert_eq!(tellings(&mut designation, later.0), []);
        designation.on_form(later, ReplicaId(3), BatchForm::Whole);
        assert_eq!(tellings(&mut designation, later.0), digests([3]));
    }

    #[test]
    fn when_replies_are_missing_the_next_voter_is_chosen() {
        let mut designation = chosen();
        designation.on_missing(Time(20), Time(5), 0b0011);
        assert_eq!(designation.designated(), Some(PRIMARY), "the next after 2 of those that voted");
        assert_eq!(tellings(&mut designation, 20), [(0, BatchForm::Whole), (2, BatchForm::Digest)]);
        // Batches that had their votes before are the fault of the one before.
        designation.on_missing(Time(21), Time(19), 0b1111);
        assert_eq!(designation.designated(), Some(PRIMARY));
        designation.on_missing(Time(22), Time(20), 0b0001);
        assert_eq!(designation.designated(), Some(PRIMARY), "nobody else has voted");
    }

    #[test]
    fn who_is_mostly_late_is_followed_without_a_gap() {
        let mut designation = chosen();
        judge(&mut designation, LATE_BATCHES_MAX, 1);
        assert_eq!(tellings(&mut designation, 10), [], "not late enough");
        judge(&mut designation, LATE_BATCHES_MAX + 1, 1);
        assert_eq!(tellings(&mut designation, 10), [(1, BatchForm::Whole)], "both send replies now");
        // The new one sends them from batch 8 on; the old one is at batch 6.
        designation.on_sequence(Time(11), ReplicaId(1), SequenceNumber(7), false);
        designation.on_sequence(Time(11), ReplicaId(1), SequenceNumber(8), true);
        designation.on_sequence(Time(11), ReplicaId(2), SequenceNumber(7), true);
        assert_eq!((designation.designated(), tellings(&mut designation, 11)), (Some(ReplicaId(2)), vec![]));
        designation.on_sequence(Time(12), ReplicaId(2), SequenceNumber(8), true);
        assert_eq!(designation.designated(), Some(ReplicaId(1)));
        assert_eq!(tellings(&mut designation, 12), digests([2]));
    }

    #[test]
    fn who_does_not_take_over_is_not_waited_for() {
        let mut designation = chosen();
        judge(&mut designation, JUDGED_BATCHES, 3);
        assert_eq!(tellings(&mut designation, 10), [(3, BatchForm::Whole)]);
        judge(&mut designation, 0, 3);
        assert_eq!(tellings(&mut designation, 10), digests([3]));
        assert_eq!(designation.designated(), Some(ReplicaId(2)));
    }
}
