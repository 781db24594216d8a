//! The designated replier: who sends the replies to batches, where the others vouch for them by a digest.
//!
//! In the beginning all replicas send replies. As soon as a batch is agreed on, the client node designates one of those
//! who answered early, rather not the primary, which has more to do than the others, and tells the others to send
//! digests. Another replier is designated
//!
//! - at once, if a batch has its votes and its replies do not come: the next one that has voted for it;
//! - gradually, if votes are mostly complete before its replies come, or a new view has made it the primary. The new
//!   one is told to send replies, and is designated when it does. The old one goes on until it has come to the first
//!   batch that the new one has sent, so that no batch in between is sent by nobody.
//!
//! Whoever failed to send replies, or has said something wrong, is passed over for a while, the longer the more often.
//!
//! What was told may be lost with a connection. A replica that sends replies although it was told not to is told again.

use crate::protocol::sets::set_of;
use crate::requests::BatchForm;
use crate::types::{ReplicaId, SequenceNumber, Time};

/// Batches after which it is judged whether the replier is late. Twice as many after each change for that reason, up to
/// the most: where everybody is late, because replies are longer than digests, changes bring nothing.
const JUDGED_BATCHES: u32 = 64;
const JUDGED_BATCHES_MAX: u32 = 4096;
/// With how many of four batches it may be late.
const LATE_OF_FOUR: u32 = 3;
/// Least time between telling a replica and telling it again, ns.
const TELL_AGAIN_NS: u64 = 100_000_000;
/// How long a replica that is to take over may take to send replies, ns.
const TAKE_OVER_NS: u64 = 1_000_000_000;
/// How long a replica is passed over after its first fault, ns; doubles with each other, up to so many times.
const PASSED_OVER_NS: u64 = 1_000_000_000;
const DOUBLINGS_MAX: u32 = 6;

/// Who sends replies.
#[derive(Debug)]
pub(super) struct Replier {
    designated: Option<ReplicaId>,
    /// From when on batches without replies are its fault: until it has heard of it, it sends none.
    answers_from: Time,
    /// Who is to take over, and when it was chosen for that.
    next: Option<(ReplicaId, Time)>,
    /// Who was designated before and still sends replies, up to this batch.
    previous: Option<(ReplicaId, SequenceNumber)>,
    replicas: Vec<Replica>,
    /// How many batches were agreed on since it was designated or last judged, and with how many of these it was late.
    batches: u32,
    late: u32,
    /// After how many it is judged.
    judged: u32,
    /// How often another one was designated.
    changes: u64,
}

/// A batch that lacks its replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Since when it has its votes.
    pub(super) since: Time,
    /// Which.
    pub(super) sequence: SequenceNumber,
    /// Who has voted for it, a bit each.
    pub(super) voters: u64,
    /// How long replies may take.
    pub(super) pause_ns: u64,
}

/// What is known of one replica.
#[derive(Debug)]
struct Replica {
    /// How it was told to answer last, and when. A new connection begins with whole replies.
    told: BatchForm,
    told_at: Time,
    /// With how many of the batches that are judged it was the first.
    firsts: u32,
    faults: u32,
    /// Until when it is passed over.
    passed_over_until: Time,
}

/// A batch that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AgreedOn {
    /// By whom, a bit each.
    pub(super) voters: u64,
    /// Which of them was the first.
    pub(super) first: ReplicaId,
    /// Whether there were enough votes before the replies came.
    pub(super) late: bool,
}

impl Replier {
    /// All of `n` replicas send replies.
    pub(super) fn new(n: usize) -> Self {
        let replica =
            || Replica { told: BatchForm::Whole, told_at: Time(0), firsts: 0, faults: 0, passed_over_until: Time(0) };
        Self {
            designated: None,
            answers_from: Time(0),
            next: None,
            previous: None,
            replicas: (0..n).map(|_| replica()).collect(),
            batches: 0,
            late: 0,
            judged: JUDGED_BATCHES,
            changes: 0,
        }
    }

    /// Who is designated.
    #[cfg(test)]
    pub(super) const fn designated(&self) -> Option<ReplicaId> {
        self.designated
    }

    /// How often another one was designated.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// A replica has come to this batch, and has sent its replies (`whole`) although it could have vouched for them, or
    /// not.
    pub(super) fn on_sequence(&mut self, now: Time, replica: ReplicaId, sequence: SequenceNumber, whole: bool) {
        if whole {
            self.on_whole(now, replica, sequence);
        }
        if self.previous.is_some_and(|(previous, until)| previous == replica && sequence >= until) {
            self.previous = None;
        }
    }

    fn on_whole(&mut self, now: Time, replica: ReplicaId, sequence: SequenceNumber) {
        if self.designated == Some(replica) {
            self.answers_from = self.answers_from.min(now);
        }
        if self.next.is_some_and(|(next, _)| next == replica) {
            let previous = self.designated.map(|previous| (previous, sequence));
            self.designate(replica, now);
            self.previous = previous;
            self.judged = (self.judged * 2).min(JUDGED_BATCHES_MAX);
        }
        let known = &mut self.replicas[usize::from(replica.0)];
        if now.since(known.told_at) >= TELL_AGAIN_NS {
            known.told = BatchForm::Whole;
        }
    }

    /// A batch is agreed on that is long enough for digests. `primary` is who leads the view.
    pub(super) fn on_agreed(&mut self, now: Time, agreed: AgreedOn, primary: ReplicaId) {
        let AgreedOn { voters, first, late } = agreed;
        self.replicas[usize::from(first.0)].firsts += 1;
        let Some(designated) = self.designated else {
            if let Some(replica) = self.earliest(now, voters, primary) {
                self.designate(replica, now);
                self.changes = 0;
            }
            return;
        };
        self.batches += 1;
        self.late += u32::from(late);
        if self.batches < self.judged {
            return;
        }
        if let Some((next, _)) = self.next.take_if(|(_, chosen)| now.since(*chosen) >= TAKE_OVER_NS) {
            self.on_fault(now, next);
        }
        self.previous = None; // it had its time
        let is_late = self.late > self.judged / 4 * LATE_OF_FOUR;
        if self.next.is_none() && (is_late || designated == primary) {
            let others = voters & !set_of(designated);
            self.next = self.earliest(now, others, primary).map(|replica| (replica, now));
        }
        self.begin_to_judge();
    }

    /// A batch has had its votes for a pause, and lacks its replies.
    pub(super) fn on_missing(&mut self, now: Time, missing: Missing, primary: ReplicaId) {
        let Missing { since, sequence, voters, pause_ns } = missing;
        if let Some((previous, _)) = self.previous.take_if(|(_, until)| sequence < *until) {
            return self.on_fault(now, previous);
        }
        let Some(designated) = self.designated.filter(|_| since >= self.answers_from) else { return };
        self.on_fault(now, designated);
        #[allow(clippy::cast_possible_truncation, reason = "at most REPLICAS_MAX")]
        let n = self.replicas.len() as u16;
        let others = (1..n).map(|by| ReplicaId((designated.0 + by) % n));
        let voted = others.filter(|replica| voters & set_of(*replica) != 0);
        // The first of the best.
        if let Some(replica) = voted.min_by_key(|replica| (self.is_passed_over(now, *replica), *replica == primary)) {
            self.designate(replica, now.after(pause_ns));
            self.judged = JUDGED_BATCHES;
        }
    }

    /// A replica did not send the replies that it should have, or has said something wrong.
    pub(super) fn on_fault(&mut self, now: Time, replica: ReplicaId) {
        let known = &mut self.replicas[usize::from(replica.0)];
        known.passed_over_until = now.after(PASSED_OVER_NS << known.faults.min(DOUBLINGS_MAX));
        known.faults = known.faults.saturating_add(1);
    }

    /// What to tell which replica now.
    pub(super) fn tell(&mut self, now: Time) -> Option<(ReplicaId, BatchForm)> {
        let designated = self.designated?;
        let others = [self.next.map(|(next, _)| next), self.previous.map(|(previous, _)| previous)];
        for (replica, known) in (0..).map(ReplicaId).zip(&mut self.replicas) {
            let sends = replica == designated || others.contains(&Some(replica));
            let wanted = if sends { BatchForm::Whole } else { BatchForm::Digest };
            if known.told != wanted {
                (known.told, known.told_at) = (wanted, now);
                return Some((replica, wanted));
            }
        }
        None
    }

    fn designate(&mut self, replica: ReplicaId, answers_from: Time) {
        (self.designated, self.answers_from) = (Some(replica), answers_from);
        (self.next, self.previous) = (None, None);
        self.changes += 1;
        self.begin_to_judge();
    }

    fn begin_to_judge(&mut self) {
        (self.batches, self.late) = (0, 0);
        self.replicas.iter_mut().for_each(|known| known.firsts = 0);
    }

    fn is_passed_over(&self, now: Time, replica: ReplicaId) -> bool {
        self.replicas[usize::from(replica.0)].passed_over_until > now
    }

    /// Who of these, a bit each, was mostly the first, rather not the primary, and nobody who failed a while ago unless
    /// there is nobody else.
    fn earliest(&self, now: Time, of: u64, primary: ReplicaId) -> Option<ReplicaId> {
        let candidates = (0..).map(ReplicaId).zip(&self.replicas).filter(|(replica, _)| of & set_of(*replica) != 0);
        let rank = |(replica, known): &(ReplicaId, &Replica)| {
            (!self.is_passed_over(now, *replica), *replica != primary, known.firsts)
        };
        candidates.max_by_key(rank).map(|(replica, _)| replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: ReplicaId = ReplicaId(0);
    const PAUSE_NS: u64 = 100;

    fn tellings(replier: &mut Replier, at: u64) -> Vec<(u16, BatchForm)> {
        std::iter::from_fn(|| replier.tell(Time(at))).map(|(replica, form)| (replica.0, form)).collect()
    }

    fn digests<const N: usize>(replicas: [u16; N]) -> Vec<(u16, BatchForm)> {
        replicas.map(|replica| (replica, BatchForm::Digest)).to_vec()
    }

    fn agree(replier: &mut Replier, voters: u64, first: u16, late: bool) {
        replier.on_agreed(Time(1), AgreedOn { voters, first: ReplicaId(first), late }, PRIMARY);
    }

    /// Of four, replica 2 is designated, and the others have been told.
    fn designated() -> Replier {
        let mut replier = Replier::new(4);
        assert_eq!(tellings(&mut replier, 0), [], "all send replies until one is designated");
        agree(&mut replier, 0b0101, 0, false);
        assert_eq!((replier.designated(), replier.changes()), (Some(ReplicaId(2)), 0), "rather not the primary");
        assert_eq!(tellings(&mut replier, 1), digests([0, 1, 3]));
        assert_eq!(tellings(&mut replier, 2), []);
        replier
    }

    /// As many batches as it takes to be judged, `late` of them late, for all of which this replica is the first.
    fn judge(replier: &mut Replier, late: u32, first: u16) {
        (0..JUDGED_BATCHES).for_each(|batch| agree(replier, 0b1111, first, batch < late));
    }

    #[test]
    fn where_there_is_nobody_else_the_primary_is_designated() {
        let mut replier = Replier::new(4);
        agree(&mut replier, 0b0001, 0, false);
        assert_eq!(replier.designated(), Some(PRIMARY));
    }

    #[test]
    fn who_sends_replies_unasked_is_told_again_but_not_at_once() {
        let mut replier = designated();
        let later = Time(1 + TELL_AGAIN_NS);
        let whole = |replier: &mut Replier, at, replica| {
            replier.on_sequence(at, ReplicaId(replica), SequenceNumber(1), true);
        };
        whole(&mut replier, Time(2), 3);
        assert_eq!(tellings(&mut replier, 2), [], "it may not have heard of it yet");
        whole(&mut replier, later, 2);
        assert_eq!(tellings(&mut replier, later.0), []);
        whole(&mut replier, later, 3);
        assert_eq!(tellings(&mut replier, later.0), digests([3]));
    }

    fn miss_at(replier: &mut Replier, sequence: u64, since: u64, voters: u64) {
        let missing = Missing { since: Time(since), sequence: SequenceNumber(sequence), voters, pause_ns: PAUSE_NS };
        replier.on_missing(Time(since + PAUSE_NS), missing, PRIMARY);
    }

    fn miss(replier: &mut Replier, since: u64, voters: u64) -> Option<u16> {
        miss_at(replier, 100, since, voters);
        replier.designated().map(|replica| replica.0)
    }

    #[test]
    fn when_replies_are_missing_the_next_voter_is_designated() {
        let mut replier = designated();
        assert_eq!(miss(&mut replier, 5, 0b0011), Some(1), "the next after 2 of those that voted, but the primary");
        assert_eq!(tellings(&mut replier, 105), [(1, BatchForm::Whole), (2, BatchForm::Digest)]);
        // Until it knows, it sends none, and nobody knows when that is.
        assert_eq!(miss(&mut replier, 10, 0b1111), Some(1));
        assert_eq!(miss(&mut replier, 204, 0b1111), Some(1));
        assert_eq!(miss(&mut replier, 205, 0b0010), Some(1), "nobody else has voted");
        assert_eq!((miss(&mut replier, 205, 0b0111), replier.changes()), (Some(0), 2), "2 has failed just now");
        // As soon as it sends some, it knows.
        replier.on_sequence(Time(310), PRIMARY, SequenceNumber(9), true);
        assert_eq!(miss(&mut replier, 310, 0b1001), Some(3));
        // When all have failed, there is no choice.
        assert_eq!(miss(&mut replier, 600, 0b0111), Some(1));
    }

    #[test]
    fn who_failed_is_passed_over_the_longer_the_more_often() {
        let mut replier = designated();
        let passed_over = |replier: &Replier, at| replier.is_passed_over(Time(at), ReplicaId(3));
        for fault in 0..10 {
            replier.on_fault(Time(0), ReplicaId(3));
            let until = PASSED_OVER_NS << fault.min(DOUBLINGS_MAX);
            assert!(passed_over(&replier, until - 1) && !passed_over(&replier, until));
        }
        judge(&mut replier, JUDGED_BATCHES, 3);
        assert_eq!(tellings(&mut replier, 10), [(1, BatchForm::Whole)], "3 is sooner, but has failed");
    }

    #[test]
    fn who_is_mostly_late_is_followed_without_a_gap() {
        let mut replier = designated();
        judge(&mut replier, JUDGED_BATCHES / 4 * LATE_OF_FOUR, 1);
        assert_eq!(tellings(&mut replier, 10), [], "not late enough");
        judge(&mut replier, JUDGED_BATCHES / 4 * LATE_OF_FOUR + 1, 1);
        assert_eq!(tellings(&mut replier, 10), [(1, BatchForm::Whole)], "both send replies now");
        // The new one sends them from batch 8 on; the old one is at batch 6.
        replier.on_sequence(Time(11), ReplicaId(1), SequenceNumber(7), false);
        assert_eq!(replier.designated(), Some(ReplicaId(2)));
        replier.on_sequence(Time(11), ReplicaId(1), SequenceNumber(8), true);
        assert_eq!((replier.designated(), replier.changes()), (Some(ReplicaId(1)), 1));
        replier.on_sequence(Time(11), ReplicaId(2), SequenceNumber(7), true);
        assert_eq!(tellings(&mut replier, 11), [], "the old one still has to send the batches in between");
        replier.on_sequence(Time(12), ReplicaId(2), SequenceNumber(8), true);
        assert_eq!(tellings(&mut replier, 12), digests([2]));
        // Whoever is new is judged by its own batches, and more of them.
        (1..2 * JUDGED_BATCHES).for_each(|_| agree(&mut replier, 0b1111, 3, true));
        assert_eq!(tellings(&mut replier, 13), []);
        agree(&mut replier, 0b1111, 3, true);
        assert_eq!(tellings(&mut replier, 13), [(3, BatchForm::Whole)]);
    }

    #[test]
    fn what_the_old_one_withholds_is_not_the_fault_of_the_new_one() {
        let mut replier = designated();
        judge(&mut replier, JUDGED_BATCHES, 3);
        replier.on_sequence(Time(11), ReplicaId(3), SequenceNumber(8), true);
        miss_at(&mut replier, 7, 12, 0b1011);
        assert_eq!((replier.designated(), replier.is_passed_over(Time(200), ReplicaId(2))), (Some(ReplicaId(3)), true));
        assert!(!replier.is_passed_over(Time(200), ReplicaId(3)));
        miss_at(&mut replier, 8, 12, 0b1011);
        assert_eq!(replier.designated(), Some(ReplicaId(1)));
    }

    /// It votes first, and never sends what it is to send.
    #[test]
    fn who_does_not_take_over_is_not_asked_to_at_once_again() {
        let mut replier = designated();
        judge(&mut replier, JUDGED_BATCHES, 3);
        assert_eq!(tellings(&mut replier, 10), [(3, BatchForm::Whole)]);
        let late = Time(1 + TAKE_OVER_NS);
        for _ in 0..JUDGED_BATCHES {
            replier.on_agreed(late, AgreedOn { voters: 0b1111, first: ReplicaId(3), late: true }, PRIMARY);
        }
        assert_eq!(tellings(&mut replier, late.0), [(1, BatchForm::Whole), (3, BatchForm::Digest)]);
    }

    /// It may well be the first to vote, and hold back what it should send.
    #[test]
    fn who_is_late_is_not_its_own_successor() {
        let mut replier = designated();
        judge(&mut replier, JUDGED_BATCHES, 2);
        assert_eq!(tellings(&mut replier, 10), [(3, BatchForm::Whole)]);
    }

    #[test]
    fn who_becomes_the_primary_is_followed_by_another() {
        let mut replier = designated();
        for _ in 0..JUDGED_BATCHES {
            replier.on_agreed(Time(1), AgreedOn { voters: 0b1111, first: ReplicaId(0), late: false }, ReplicaId(2));
        }
        assert_eq!(tellings(&mut replier, 10), [(0, BatchForm::Whole)]);
    }

    #[test]
    fn the_old_one_is_not_waited_for_for_ever() {
        let mut replier = designated();
        judge(&mut replier, JUDGED_BATCHES, 3);
        replier.on_sequence(Time(11), ReplicaId(3), SequenceNumber(8), true);
        assert_eq!(tellings(&mut replier, 11), [(3, BatchForm::Whole)]);
        judge(&mut replier, 0, 3);
        judge(&mut replier, 0, 3);
        assert_eq!(tellings(&mut replier, 12), digests([2]));
    }

    #[test]
    fn who_does_not_take_over_in_time_is_not_waited_for() {
        let mut replier = designated();
        judge(&mut replier, JUDGED_BATCHES, 3);
        assert_eq!(tellings(&mut replier, 10), [(3, BatchForm::Whole)]);
        judge(&mut replier, 0, 3);
        assert_eq!(tellings(&mut replier, 10), [], "batches may be quicker than the way to it");
        let late = Time(1 + TAKE_OVER_NS);
        for _ in 0..JUDGED_BATCHES {
            replier.on_agreed(late, AgreedOn { voters: 0b1111, first: ReplicaId(3), late: false }, PRIMARY);
        }
        assert_eq!(tellings(&mut replier, late.0), digests([3]));
        assert_eq!(replier.designated(), Some(ReplicaId(2)));
    }
}
