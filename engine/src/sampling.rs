//! Operations that are followed all the way, one in so many, to tell where time goes.
//!
//! Which ones is a function of client and timestamp alone, so the load generator and all replicas choose the same ones
//! without a word about it. Each stage notes when they passed, in a buffer of a fixed size; what they are asked for in
//! the end is put together by whoever runs the cluster. A stage looks for them once a table, by a multiplication or two
//! a request, and reads no clock unless it finds one.
//!
//! A buffer that is full makes room by following only every second operation of those it has followed. What is still
//! followed was followed from the beginning, so buffers that thin out at different times still have operations in
//! common over the whole run.

use serde::{Deserialize, Serialize};

use crate::limits::{NOTES_PER_POST_MAX, SAMPLES_MAX};
use crate::requests::ReplyTable;
use crate::types::{ClientId, ReplicaId, SequenceNumber, Time, Timestamp, View};

/// Which operations are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// One in so many; 0 for none.
    one_in: u64,
    /// An operation is followed if its hash is below.
    threshold: u64,
}

/// Odd numbers without a pattern: the fractional parts of the golden ratio and of the square root of two.
const MIX: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0x6A09_E667_F3BC_C909];

impl Sampling {
    /// None.
    pub const OFF: Self = Self { one_in: 0, threshold: 0 };

    /// One in `many`, 0 for none.
    #[must_use]
    pub const fn one_in(many: u64) -> Self {
        let threshold = match u64::MAX.checked_div(many) {
            Some(threshold) => threshold,
            None => 0,
        };
        Self { one_in: many, threshold }
    }

    /// One in how many is followed; 0 if none is.
    #[must_use]
    pub const fn many(self) -> u64 {
        self.one_in
    }

    /// Whether any is.
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.threshold > 0
    }

    /// Whether this operation is followed.
    #[inline]
    #[must_use]
    pub const fn follows(self, client: ClientId, timestamp: Timestamp) -> bool {
        // Timestamps of one client and clients of one timestamp are consecutive: one product alone would keep a pattern
        // that may march in step with checkpoints.
        let mixed = (timestamp.0.rotate_left(32) ^ client.0 as u64).wrapping_mul(MIX[0]);
        (mixed ^ (mixed >> 32)).wrapping_mul(MIX[1]) < self.threshold
    }

    /// Calls `found` with the place of each operation of these columns that is followed.
    #[inline]
    pub fn find(self, clients: &[ClientId], timestamps: &[Timestamp], mut found: impl FnMut(usize)) {
        if !self.is_on() {
            return;
        }
        for (index, (client, timestamp)) in clients.iter().zip(timestamps).enumerate() {
            if self.follows(*client, *timestamp) {
                found(index);
            }
        }
    }

    /// About half of these operations, and no others.
    const fn halved(self) -> Self {
        Self::one_in(self.one_in.saturating_mul(2))
    }
}

/// What is noted of an operation that is followed.
pub trait Note: Copy {
    /// Which operation.
    fn operation(&self) -> (ClientId, Timestamp);
}

/// Notes of a fixed number at most.
#[derive(Clone, Debug, Default)]
pub struct Notes<T> {
    sampling: Sampling,
    most: usize,
    notes: Vec<T>,
}

impl<T: Note> Notes<T> {
    /// Room for `most` notes of the operations that `sampling` follows, allocated at once.
    #[must_use]
    pub fn new(sampling: Sampling, most: usize) -> Self {
        let notes = Vec::with_capacity(if sampling.is_on() { most } else { 0 });
        Self { sampling, most, notes }
    }

    /// The notes that one stage makes between two postings of its counters.
    #[must_use]
    pub fn of_stage(sampling: Sampling) -> Self {
        Self::new(sampling, NOTES_PER_POST_MAX)
    }

    /// Which operations are followed now.
    #[must_use]
    pub const fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// What was noted of those.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.notes
    }

    /// Adds a note. One of an operation that is not followed any more is left out.
    pub fn push(&mut self, note: T) {
        if self.notes.len() >= self.most {
            self.make_room();
        }
        let (client, timestamp) = note.operation();
        if self.sampling.follows(client, timestamp) {
            self.notes.push(note);
        }
    }

    /// Moves the notes of `other` here. Both follow the same operations after that.
    pub fn take(&mut self, other: &mut Self) {
        if self.sampling.one_in < other.sampling.one_in {
            self.restrict(other.sampling);
        }
        for note in other.notes.drain(..) {
            self.push(note);
        }
        other.sampling = self.sampling;
    }

    /// Follows these operations from now on, which are some of those that were followed.
    pub fn restrict(&mut self, sampling: Sampling) {
        self.sampling = sampling;
        self.notes.retain(|note| {
            let (client, timestamp) = note.operation();
            sampling.follows(client, timestamp)
        });
    }

    fn make_room(&mut self) {
        while self.notes.len() >= self.most {
            // Whoever asks for the same operation again and again may have filled all of it with notes of that one.
            if self.sampling.one_in >= 1 << 40 {
                self.notes.clear();
                return;
            }
            self.restrict(self.sampling.halved());
        }
    }
}

/// A verified request. Times are on the replica's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 5]", into = "[u64; 5]")]
pub struct RequestNote {
    /// Its client.
    pub client: ClientId,
    /// Which of the client's operations.
    pub timestamp: Timestamp,
    /// When its frame was read.
    pub received: Time,
    /// When a verify stage took it.
    pub started: Time,
    /// When it was verified.
    pub verified: Time,
}

/// An operation of a batch that was executed. Times are on the replica's clock, those of its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 10]", into = "[u64; 10]")]
pub struct ExecutionNote {
    /// Its client.
    pub client: ClientId,
    /// Which of the client's operations.
    pub timestamp: Timestamp,
    /// The batch's sequence number.
    pub sequence: SequenceNumber,
    /// The view in which it committed.
    pub view: View,
    /// When the pre-prepare was sent (primary) or accepted (backup).
    pub pre_prepared: Time,
    /// When the batch was prepared.
    pub prepared: Time,
    /// When it was committed-local.
    pub committed: Time,
    /// When the votes on it were durable; 0 where nothing is made durable.
    pub durable: Time,
    /// When its execution began.
    pub started: Time,
    /// When it ended.
    pub executed: Time,
}

/// A reply that was sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 3]", into = "[u64; 3]")]
pub struct ReplyNote {
    /// Its client.
    pub client: ClientId,
    /// Which of the client's operations it answers.
    pub timestamp: Timestamp,
    /// When, on the replica's clock.
    pub sealed: Time,
}

/// What a load generator notes of an operation of the measured window. Times are on its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 11]", into = "[u64; 11]")]
pub struct OperationNote {
    /// Its client.
    pub client: ClientId,
    /// Which of the client's operations.
    pub timestamp: Timestamp,
    /// When it was to be sent.
    pub intended: Time,
    /// When the generator began with it.
    pub begun: Time,
    /// When its frame was handed to the kernel for the first time.
    pub handed: Time,
    /// When the first reply of its quorum was read.
    pub read: Time,
    /// When that was counted.
    pub counted: Time,
    /// When the quorum was complete.
    pub completed: Time,
    /// Who gave the first reply of the quorum.
    pub first: ReplicaId,
    /// Who gave the last.
    pub last: ReplicaId,
    /// Whether the request was sent more than once.
    pub sent_again: bool,
}

/// A note as a row of numbers, which is shorter than a table of names.
macro_rules! row {
    ($note:ident[$count:literal] { $($field:ident: $type:ty),* $(,)? }) => {
        impl From<[u64; $count]> for $note {
            fn from([$($field),*]: [u64; $count]) -> Self {
                Self { $($field: <$type as Cell>::read($field)),* }
            }
        }

        impl From<$note> for [u64; $count] {
            fn from(note: $note) -> Self {
                [$(note.$field.write()),*]
            }
        }

        impl Note for $note {
            fn operation(&self) -> (ClientId, Timestamp) {
                (self.client, self.timestamp)
            }
        }
    };
}

/// A number of a row.
trait Cell {
    fn read(number: u64) -> Self;
    fn write(self) -> u64;
}

macro_rules! cell {
    ($($type:ident),*) => {
        $(impl Cell for $type {
            /// What is out of range is none of this cluster's numbers.
            fn read(number: u64) -> Self {
                Self(number.try_into().unwrap_or_default())
            }

            fn write(self) -> u64 {
                self.0.into()
            }
        })*
    };
}

cell!(ClientId, Timestamp, SequenceNumber, View, Time, ReplicaId);

impl Cell for bool {
    fn read(number: u64) -> Self {
        number != 0
    }

    fn write(self) -> u64 {
        self.into()
    }
}

row!(RequestNote[5] { client: ClientId, timestamp: Timestamp, received: Time, started: Time, verified: Time });
row!(ExecutionNote[10] {
    client: ClientId,
    timestamp: Timestamp,
    sequence: SequenceNumber,
    view: View,
    pre_prepared: Time,
    prepared: Time,
    committed: Time,
    durable: Time,
    started: Time,
    executed: Time,
});
row!(ReplyNote[3] { client: ClientId, timestamp: Timestamp, sealed: Time });
row!(OperationNote[11] {
    client: ClientId,
    timestamp: Timestamp,
    intended: Time,
    begun: Time,
    handed: Time,
    read: Time,
    counted: Time,
    completed: Time,
    first: ReplicaId,
    last: ReplicaId,
    sent_again: bool,
});

/// All that the stages of a replica have noted.
#[derive(Clone, Debug, Default)]
pub struct ReplicaNotes {
    /// By verify stages.
    pub requests: Notes<RequestNote>,
    /// By the execute stage.
    pub executions: Notes<ExecutionNote>,
    /// By egress.
    pub replies: Notes<ReplyNote>,
}

impl ReplicaNotes {
    /// Room for what is noted of the operations that `sampling` follows.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        Self {
            requests: Notes::new(sampling, SAMPLES_MAX),
            executions: Notes::new(sampling, SAMPLES_MAX),
            replies: Notes::new(sampling, SAMPLES_MAX),
        }
    }

    /// The operations that all of these still follow.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        let all = [self.requests.sampling, self.executions.sampling, self.replies.sampling];
        all.into_iter().max_by_key(|sampling| sampling.one_in).unwrap_or_default()
    }
}

/// So few operations that it costs less to look for each of them among many than for each of many among them.
const FEW: usize = 8;

/// Which rows of these columns are of one of the `wanted` operations, in order; `wanted` may be in any order, and
/// either may have an operation more than once.
///
/// A table has hundreds of rows of which none or one is wanted, so whole columns are compared, not rows.
pub fn find_wanted(
    wanted: &[(ClientId, Timestamp)],
    clients: &[ClientId],
    timestamps: &[Timestamp],
    mut found: impl FnMut(usize),
) {
    let rows = || clients.iter().copied().zip(timestamps.iter().copied()).enumerate();
    if wanted.len() <= FEW {
        // A comparison of client ids alone takes many of them at a time.
        let any = |clients: &[ClientId]| {
            wanted.iter().any(|(client, _)| clients.iter().fold(false, |any, other| any | (client == other)))
        };
        let chunks = clients.chunks(64).enumerate().filter(|(_, clients)| any(clients));
        for (index, row) in chunks.flat_map(|(chunk, clients)| rows().skip(chunk * 64).take(clients.len())) {
            if wanted.contains(&row) {
                found(index);
            }
        }
        return;
    }
    let mut sorted = wanted.to_vec();
    sorted.sort_unstable();
    rows().filter(|(_, row)| sorted.binary_search(row).is_ok()).for_each(|(index, _)| found(index));
}

/// Those of `followed` that `replies` answers, taken out, in the order of `followed`. Both may be in any order, and
/// either may have an operation more than once: replies out of the cache lie between, and `followed` is of all nodes.
pub fn take_answered(followed: &mut Vec<(ClientId, Timestamp)>, replies: &ReplyTable) -> Vec<(ClientId, Timestamp)> {
    if followed.is_empty() {
        return Vec::new();
    }
    let mut answered = Vec::new();
    find_wanted(followed, &replies.clients, &replies.timestamps, |row| {
        answered.push((replies.clients[row], replies.timestamps[row]));
    });
    answered.sort_unstable();
    followed.extract_if(.., |operation| answered.binary_search(operation).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    fn note(client: u32, timestamp: u64) -> ReplyNote {
        ReplyNote { client: ClientId(client), timestamp: Timestamp(timestamp), sealed: Time(1) }
    }

    fn followed(sampling: Sampling, clients: u32, timestamps: u64) -> Vec<(u32, u64)> {
        let all = (0..clients).flat_map(|client| (1..=timestamps).map(move |timestamp| (client, timestamp)));
        all.filter(|(client, timestamp)| sampling.follows(ClientId(*client), Timestamp(*timestamp))).collect()
    }

    #[test]
    fn about_one_in_so_many_is_followed_whoever_asks_and_whenever() {
        assert_eq!(followed(Sampling::one_in(1), 10, 10).len(), 100);
        assert_eq!(followed(Sampling::OFF, 10, 10), []);
        assert_eq!(Sampling::one_in(0), Sampling::OFF);
        for (clients, timestamps) in [(1, 100_000), (100_000, 1), (300, 300)] {
            let many = followed(Sampling::one_in(64), clients, timestamps).len();
            let expected = clients as usize * usize::try_from(timestamps).unwrap() / 64;
            // Five standard deviations of a fair lottery.
            let spread = 5 * expected.isqrt();
            assert!(many.abs_diff(expected) < spread, "{many} of {clients} × {timestamps}: {expected} expected");
        }
    }

    /// A client on its own whose operations are batches: every place between two checkpoints is as likely as another.
    #[test]
    fn what_is_followed_does_not_march_in_step_with_checkpoints() {
        let mut places = [0_usize; 128];
        for (_, timestamp) in followed(Sampling::one_in(16), 1, 128 * 1600) {
            places[usize::try_from(timestamp % 128).unwrap()] += 1;
        }
        assert!(places.iter().all(|many| (40..180).contains(many)), "{places:?}");
    }

    #[test]
    fn a_full_buffer_follows_some_of_those_that_it_followed_before() {
        let mut notes = Notes::new(Sampling::one_in(2), 100);
        let all = followed(Sampling::one_in(2), 50, 50);
        all.iter().for_each(|(client, timestamp)| notes.push(note(*client, *timestamp)));
        let sampling = notes.sampling();
        assert!(sampling.many() >= 16 && sampling.many().is_power_of_two(), "{sampling:?}");
        let left: Vec<(u32, u64)> = notes.as_slice().iter().map(|note| (note.client.0, note.timestamp.0)).collect();
        assert_eq!(left, followed(sampling, 50, 50), "those of the whole run, none of them lost");
        assert!(left.len() <= 100 && notes.notes.capacity() == 100);
    }

    #[test]
    fn two_buffers_agree_on_what_they_follow_when_one_takes_the_others_notes() {
        let (mut all, mut stage) = (Notes::new(Sampling::one_in(1), 1000), Notes::new(Sampling::one_in(1), 10));
        (0..100).for_each(|client| stage.push(note(client, 1)));
        let sampling = stage.sampling();
        assert!(sampling.many() > 1);
        all.take(&mut stage);
        assert_eq!((all.sampling(), stage.sampling(), stage.as_slice().len()), (sampling, sampling, 0));
        assert_eq!(all.as_slice().len(), followed(sampling, 100, 1).len());
        let mut fresh = Notes::new(Sampling::one_in(1), 10);
        all.take(&mut fresh);
        assert_eq!(fresh.sampling(), sampling, "the stage learns what is left to follow");
    }

    #[test]
    fn one_operation_that_comes_again_and_again_takes_no_more_room_than_there_is() {
        let mut notes = Notes::new(Sampling::one_in(1), 8);
        (0..1000).for_each(|_| notes.push(note(1, 1)));
        assert!(notes.as_slice().len() <= 8);
    }

    #[test]
    fn notes_are_rows_of_numbers() {
        let mut first = ExecutionNote { client: ClientId(1), timestamp: Timestamp(2), ..ExecutionNote::default() };
        (first.sequence, first.view, first.executed) = (SequenceNumber(3), View(4), Time(10));
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(text, "[1,2,3,4,0,0,0,0,0,10]");
        assert_eq!(serde_json::from_str::<ExecutionNote>(&text).unwrap(), first);
        let second = OperationNote { last: ReplicaId(7), sent_again: true, ..OperationNote::default() };
        let text = serde_json::to_string(&second).unwrap();
        assert_eq!(text, "[0,0,0,0,0,0,0,0,0,7,1]");
        assert_eq!(serde_json::from_str::<OperationNote>(&text).unwrap(), second);
    }

    #[test]
    fn each_reply_table_takes_what_it_answers() {
        let replies = ReplyTable {
            clients: vec![ClientId(1), ClientId(2)],
            timestamps: vec![Timestamp(5), Timestamp(6)],
            ..ReplyTable::default()
        };
        let of = |client, timestamp| (ClientId(client), Timestamp(timestamp));
        let mut followed = vec![of(1, 5), of(2, 5), of(3, 6), of(2, 6)];
        assert_eq!(take_answered(&mut followed, &replies), [of(1, 5), of(2, 6)]);
        assert_eq!(followed, [of(2, 5), of(3, 6)]);
    }

    proptest! {
        /// Few or many, in whatever order.
        #[test]
        fn wanted_rows_are_found(
            wanted in collection::vec((0..9_u32, 0..9_u64), 0..2 * FEW),
            rows in collection::vec((0..9_u32, 0..9_u64), 0..200),
        ) {
            let of = |(client, timestamp)| (ClientId(client), Timestamp(timestamp));
            let asked: Vec<_> = wanted.iter().copied().map(of).collect();
            let (clients, timestamps): (Vec<_>, Vec<_>) = rows.iter().copied().map(of).unzip();
            let mut found = Vec::new();
            find_wanted(&asked, &clients, &timestamps, |row| found.push(row));
            let expected = (0..rows.len()).filter(|row| wanted.contains(&rows[*row]));
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }

        /// Whatever the orders are, and if operations come twice: what a look at each pair finds.
        #[test]
        fn what_is_answered_is_found_in_any_order(
            mut followed in collection::vec((0..4_u32, 0..8_u64), 0..40),
            answered in collection::vec((0..4_u32, 0..8_u64), 0..40),
        ) {
            let of = |(client, timestamp)| (ClientId(client), Timestamp(timestamp));
            let (clients, timestamps) = answered.iter().copied().map(of).unzip();
            let replies = ReplyTable { clients, timestamps, ..ReplyTable::default() };
            let mut left = followed.iter().copied().map(of).collect();
            let taken = take_answered(&mut left, &replies);
            let expected: Vec<(u32, u64)> = followed.extract_if(.., |row| answered.contains(row)).collect();
            prop_assert_eq!(taken, expected.into_iter().map(of).collect::<Vec<_>>());
            prop_assert_eq!(left, followed.into_iter().map(of).collect::<Vec<_>>());
        }
    }
}
