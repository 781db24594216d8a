//! Operations that one thread follows, one in so many, to tell where time goes. Pure: time is an argument.

use std::collections::HashMap;

use hippodrome_engine::limits::SAMPLES_MAX;
use hippodrome_engine::requests::ReplyTable;
use hippodrome_engine::sampling::{Notes, OperationNote, Sampling, find_wanted};
use hippodrome_engine::types::{ClientId, ReplicaId, Time, Timestamp};

/// The operations that are followed.
#[derive(Debug)]
pub(crate) struct Followed {
    sampling: Sampling,
    open: HashMap<ClientId, Open>,
    /// Those whose frames were not handed to the kernel yet.
    waiting: Vec<ClientId>,
    notes: Notes<OperationNote>,
}

/// One that is under way.
#[derive(Debug)]
struct Open {
    timestamp: Timestamp,
    begun: Time,
    handed: Time,
    sent_again: bool,
    /// Who answered, when the answer was read, and when it was counted.
    replies: Vec<(ReplicaId, Time, Time)>,
}

impl Followed {
    /// Follows what `sampling` says.
    pub(crate) fn new(sampling: Sampling) -> Self {
        let notes = Notes::new(sampling, SAMPLES_MAX);
        Self { sampling, open: HashMap::new(), waiting: Vec::new(), notes }
    }

    /// A client begins an operation. Whether it is followed.
    #[inline]
    pub(crate) fn on_begun(&mut self, client: ClientId, timestamp: Timestamp, begun: Time) -> bool {
        let follows = self.sampling.follows(client, timestamp);
        if follows {
            let (handed, sent_again, replies) = (Time(0), false, Vec::new());
            self.open.insert(client, Open { timestamp, begun, handed, sent_again, replies });
            self.waiting.push(client);
        }
        follows
    }

    /// Whether a frame waits to be handed to the kernel.
    pub(crate) const fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// All frames are handed to the kernel now.
    pub(crate) fn on_handed(&mut self, now: Time) {
        for client in self.waiting.drain(..) {
            if let Some(open) = self.open.get_mut(&client) {
                open.handed = now;
            }
        }
    }

    /// An operation is sent again.
    pub(crate) fn on_sent_again(&mut self, client: ClientId) {
        if let Some(open) = self.open.get_mut(&client) {
            open.sent_again = true;
        }
    }

    /// Adds to `found` which of these replies, in order, are to operations that are under way and followed.
    pub(crate) fn find(&self, replies: &ReplyTable, found: &mut Vec<usize>) {
        if self.open.is_empty() {
            return;
        }
        let wanted: Vec<_> = self.open.iter().map(|(client, open)| (*client, open.timestamp)).collect();
        find_wanted(&wanted, &replies.clients, &replies.timestamps, |row| found.push(row));
    }

    /// A reply that was read at `read` is counted.
    pub(crate) fn on_counted(&mut self, of: (ClientId, Timestamp), replica: ReplicaId, read: Time, now: Time) {
        let (client, timestamp) = of;
        if let Some(open) = self.open.get_mut(&client).filter(|open| open.timestamp == timestamp) {
            open.replies.push((replica, read, now));
        }
    }

    /// Enough replicas vouch for the reply to an operation: what was counted of it before does not matter.
    pub(crate) fn on_agreed(&mut self, of: (ClientId, Timestamp)) {
        let (client, timestamp) = of;
        if let Some(open) = self.open.get_mut(&client).filter(|open| open.timestamp == timestamp) {
            open.replies.clear();
        }
    }

    /// An operation is complete by the reply that was counted last. `measured`: it belongs to what is measured;
    /// `agreed`: whose replies its quorum is made of.
    pub(crate) fn on_completed(
        &mut self,
        client: ClientId,
        times: (Time, Time),
        measured: bool,
        agreed: impl Fn(ReplicaId) -> bool,
    ) {
        let Some(open) = self.open.remove(&client) else { return };
        let (intended, completed) = times;
        let quorum = || open.replies.iter().filter(|(replica, ..)| agreed(*replica));
        let (Some(&(first, read, counted)), Some(&(last, ..))) = (quorum().next(), quorum().last()) else { return };
        if measured {
            let Open { timestamp, begun, handed, sent_again, .. } = open;
            self.notes.push(OperationNote {
                client,
                timestamp,
                intended,
                begun,
                handed,
                read,
                counted,
                completed,
                first,
                last,
                sent_again,
            });
        }
    }

    /// What was noted.
    pub(crate) fn finish(self) -> Notes<OperationNote> {
        self.notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientId = ClientId(3);

    fn followed() -> Followed {
        let mut followed = Followed::new(Sampling::one_in(1));
        followed.on_begun(CLIENT, Timestamp(1), Time(10));
        assert!(followed.is_waiting());
        followed.on_handed(Time(11));
        assert!(!followed.is_waiting());
        followed
    }

    #[test]
    fn first_and_last_reply_are_those_of_the_quorum() {
        let mut followed = followed();
        let of = (CLIENT, Timestamp(1));
        // Replica 0 lies, and replica 9 answers an operation of before.
        followed.on_counted(of, ReplicaId(0), Time(20), Time(21));
        followed.on_counted((CLIENT, Timestamp(7)), ReplicaId(9), Time(22), Time(23));
        followed.on_counted(of, ReplicaId(2), Time(24), Time(25));
        followed.on_counted(of, ReplicaId(1), Time(26), Time(27));
        followed.on_sent_again(CLIENT);
        followed.on_completed(CLIENT, (Time(9), Time(27)), true, |replica| replica.0 != 0);
        let expected = OperationNote {
            client: CLIENT,
            timestamp: Timestamp(1),
            intended: Time(9),
            begun: Time(10),
            handed: Time(11),
            read: Time(24),
            counted: Time(25),
            completed: Time(27),
            first: ReplicaId(2),
            last: ReplicaId(1),
            sent_again: true,
        };
        assert_eq!(followed.finish().as_slice(), [expected]);
    }

    #[test]
    fn nothing_is_noted_of_what_is_not_measured_or_not_followed() {
        let mut followed = followed();
        followed.on_counted((CLIENT, Timestamp(1)), ReplicaId(0), Time(20), Time(21));
        followed.on_completed(CLIENT, (Time(9), Time(21)), false, |_| true);
        assert!(followed.finish().as_slice().is_empty());
        let mut none = Followed::new(Sampling::OFF);
        none.on_begun(CLIENT, Timestamp(1), Time(10));
        none.on_counted((CLIENT, Timestamp(1)), ReplicaId(0), Time(20), Time(21));
        none.on_completed(CLIENT, (Time(9), Time(21)), true, |_| true);
        assert!(!none.is_waiting() && none.finish().as_slice().is_empty());
    }
}
