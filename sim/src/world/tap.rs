//! What a Byzantine replica means and what it says: how it is known whether it lied at all.

use std::sync::{Arc, Mutex, PoisonError};

use hippodrome_engine::protocol::{Input, Message, Output, Position, Protocol};
use hippodrome_engine::types::{ReplicaId, Time};

/// A protocol with an ear at its mouth, to be put inside of a liar.
pub(super) struct Tapped<P> {
    inner: P,
    tap: Tap,
}

/// The ear: what was said in the last step, to whom; to nobody in particular where it goes to all.
#[derive(Clone, Debug, Default)]
pub(super) struct Tap(Arc<Mutex<Vec<Letter>>>);

/// A message and its receiver; `None` if it goes to all.
type Letter = (Option<ReplicaId>, Arc<Message>);

impl<P> Tapped<P> {
    pub(super) const fn new(inner: P, tap: Tap) -> Self {
        Self { inner, tap }
    }
}

impl Tap {
    /// How many messages of `said`, which came out of the liar, differ from what was meant in the last step: changed,
    /// withheld or held back, and made up. Forgets what was meant.
    pub(super) fn lies(&self, said: &[Output], own: ReplicaId, n: usize) -> u64 {
        let meant = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let meant = spread(meant.iter().map(|(to, message)| (*to, message)), own, n);
        let said = spread(said.iter().filter_map(message), own, n);
        let same = meant.iter().zip(&said).filter(|(meant, said)| meant == said).count();
        (meant.len().max(said.len()) - same) as u64
    }
}

/// Each message with each of its receivers.
fn spread<'a>(
    messages: impl Iterator<Item = (Option<ReplicaId>, &'a Arc<Message>)>,
    own: ReplicaId,
    n: usize,
) -> Vec<(ReplicaId, &'a Arc<Message>)> {
    let receivers = |to: Option<ReplicaId>| -> Vec<ReplicaId> {
        to.map_or_else(|| (0..).take(n).map(ReplicaId).filter(|to| *to != own).collect(), |to| vec![to])
    };
    messages.flat_map(|(to, message)| receivers(to).into_iter().map(move |to| (to, message))).collect()
}

const fn message(output: &Output) -> Option<(Option<ReplicaId>, &Arc<Message>)> {
    match output {
        Output::Send(to, message) => Some((Some(*to), message)),
        Output::Broadcast(message) => Some((None, message)),
        _ => None,
    }
}

impl<P: Protocol> Protocol for Tapped<P> {
    fn step(&mut self, now: Time, input: Input, outputs: &mut Vec<Output>) {
        let before = outputs.len();
        self.inner.step(now, input, outputs);
        let said = outputs[before..].iter().filter_map(message).map(|(to, message)| (to, Arc::clone(message)));
        self.tap.0.lock().unwrap_or_else(PoisonError::into_inner).extend(said);
    }

    fn position(&self) -> Position {
        self.inner.position()
    }
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::types::SequenceNumber;

    use super::*;

    const OWN: ReplicaId = ReplicaId(0);

    fn wanted(sequence: u64) -> Arc<Message> {
        Arc::new(Message::StateWanted(SequenceNumber(sequence)))
    }

    fn tap(meant: &[(Option<ReplicaId>, u64)]) -> Tap {
        let tap = Tap::default();
        tap.0.lock().unwrap().extend(meant.iter().map(|(to, sequence)| (*to, wanted(*sequence))));
        tap
    }

    #[test]
    fn what_is_said_as_it_was_meant_is_no_lie() {
        let to_all = Output::Broadcast(wanted(1));
        let to_each: Vec<Output> = (1..4).map(|to| Output::Send(ReplicaId(to), wanted(1))).collect();
        assert_eq!(tap(&[]).lies(&[], OWN, 4), 0);
        assert_eq!(tap(&[(None, 1)]).lies(&[to_all], OWN, 4), 0);
        assert_eq!(tap(&[(None, 1)]).lies(&to_each, OWN, 4), 0);
    }

    #[test]
    fn changed_withheld_and_invented_messages_are_lies() {
        let one = |to, sequence| Output::Send(ReplicaId(to), wanted(sequence));
        assert_eq!(tap(&[(None, 1)]).lies(&[one(1, 1), one(2, 9), one(3, 1)], OWN, 4), 1);
        assert_eq!(tap(&[(None, 1)]).lies(&[], OWN, 4), 3);
        assert_eq!(tap(&[]).lies(&[one(2, 5)], OWN, 4), 1);
        let tap = tap(&[(None, 1)]);
        let _ = tap.lies(&[], OWN, 4);
        assert_eq!(tap.lies(&[], OWN, 4), 0, "it is counted once");
    }
}
