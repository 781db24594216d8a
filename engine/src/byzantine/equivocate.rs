//! Saying different things to different replicas. The others are split into two halves, differently for each sequence
//! number; who belongs to which half, and what the second half is told, is the same for every equivocator, so that
//! several of them work together.

use std::sync::Arc;

use super::{Byzantine, Letter, To};
use crate::protocol::message::{Checkpoint, DigestPrePrepare, NewView, PrePrepare, Signed, ViewChange, Vote};
use crate::protocol::{Input, Message};
use crate::requests::{Batch, Manifest};
use crate::types::{ReplicaId, SequenceNumber};

impl Byzantine {
    /// The first half is told what the replica inside says, the second half something else.
    pub(super) fn equivocate(&mut self, letter: Letter, out: &mut Vec<Letter>) {
        match &*letter.message {
            Message::PrePrepare(proposal) => self.propose_two(letter.to, proposal, out),
            Message::DigestPrePrepare(proposal) => self.announce_two(letter.to, proposal, out),
            Message::Prepare(vote) => self.vote_for_two(&letter, *vote, Message::Prepare, out),
            Message::Commit(vote) => self.vote_for_two(&letter, *vote, Message::Commit, out),
            Message::Committed(vote) => self.vote_for_two(&letter, *vote, Message::Committed, out),
            Message::ViewChange(signed) if self.is_own(signed) => {
                let other = Message::ViewChange(Signed::own(other_history(&signed.content)));
                self.split(&letter, SequenceNumber(signed.content.view.0), &other, out);
            }
            Message::NewView(Signed { content, signature: None }) => {
                let other = Message::NewView(Signed::own(self.other_new_view(content)));
                self.split(&letter, SequenceNumber(content.view.0), &other, out);
            }
            _ => out.push(letter),
        }
    }

    /// Two batches for one sequence number, each with a commit for it: a replica that counts votes wrongly will find
    /// two decisions.
    fn propose_two(&mut self, to: To, proposal: &PrePrepare, out: &mut Vec<Letter>) {
        let PrePrepare { view, sequence, batch } = proposal;
        let other = alternative(*sequence, batch);
        self.memory.assign(*view, *sequence, [batch.digest, other.digest]);
        for receiver in self.receivers(to) {
            let shown = if in_second_half(*sequence, receiver, self.n) { &other } else { batch };
            let (view, sequence, digest) = (*view, *sequence, shown.digest);
            let batch = Arc::clone(shown);
            out.push(Letter::to(receiver, Message::PrePrepare(PrePrepare { view, sequence, batch })));
            out.push(Letter::to(receiver, Message::Commit(Vote { view, sequence, digest })));
        }
    }

    /// The same by digests, of which everybody may have the bodies.
    fn announce_two(&mut self, to: To, proposal: &DigestPrePrepare, out: &mut Vec<Letter>) {
        let DigestPrePrepare { view, sequence, manifest } = proposal;
        let other = Arc::new(other_manifest(*sequence, manifest));
        self.memory.assign(*view, *sequence, [manifest.digest(), other.digest()]);
        for receiver in self.receivers(to) {
            let shown = if in_second_half(*sequence, receiver, self.n) { &other } else { manifest };
            let (view, sequence, digest) = (*view, *sequence, shown.digest());
            let manifest = Arc::clone(shown);
            out.push(Letter::to(receiver, Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest })));
            out.push(Letter::to(receiver, Message::Commit(Vote { view, sequence, digest })));
        }
    }

    /// As backup: works out what the other half was told, as another equivocator at the primary would have chosen it.
    pub(super) fn note_proposal(&mut self, input: &Input) {
        let Input::Message(authentic) = input else { return };
        let (view, sequence, told, other) = match &authentic.message {
            Message::PrePrepare(PrePrepare { view, sequence, batch }) => {
                (*view, *sequence, batch.digest, alternative(*sequence, batch).digest)
            }
            Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest }) => {
                (*view, *sequence, manifest.digest(), other_manifest(*sequence, manifest).digest())
            }
            _ => return,
        };
        let second = in_second_half(sequence, self.own, self.n);
        let digests = if second { [other, told] } else { [told, other] };
        self.memory.assign(view, sequence, digests);
    }

    fn vote_for_two(&self, letter: &Letter, vote: Vote, message: fn(Vote) -> Message, out: &mut Vec<Letter>) {
        let null = Batch::null().digest;
        let assigned = self.memory.assigned(vote.view, vote.sequence);
        let [first, second] = assigned.unwrap_or([vote.digest, null]);
        for receiver in self.receivers(letter.to) {
            let digest = if in_second_half(vote.sequence, receiver, self.n) { second } else { first };
            out.push(Letter::to(receiver, message(Vote { digest, ..vote })));
        }
    }

    fn split(&self, letter: &Letter, at: SequenceNumber, other: &Message, out: &mut Vec<Letter>) {
        for receiver in self.receivers(letter.to) {
            if in_second_half(at, receiver, self.n) {
                out.push(Letter::to(receiver, other.clone()));
            } else {
                out.push(Letter { to: To::One(receiver), message: Arc::clone(&letter.message) });
            }
        }
    }

    /// The same new view, resting on what the second half was told of this replica's own history.
    fn other_new_view(&self, new_view: &NewView) -> NewView {
        let own = self.memory.view_change.as_deref().filter(|own| own.view == new_view.view);
        let mut view_changes = new_view.view_changes.clone();
        match (view_changes.iter_mut().find(|(origin, _)| *origin == self.own), own) {
            (Some((_, digest)), Some(own)) => *digest = other_history(own).digest(),
            _ => drop(view_changes.pop()),
        }
        NewView { view: new_view.view, view_changes }
    }
}

/// Which half a replica is in at a sequence number. Both have somebody among any n − 1 replicas for n of at least 4.
fn in_second_half(sequence: SequenceNumber, replica: ReplicaId, n: usize) -> bool {
    let n = n as u64;
    (sequence.0 % n + u64::from(replica.0)) % n >= n.div_ceil(2)
}

/// What the second half is told at a sequence number: the requests in reverse, all but the last, or none. Never the
/// same as `batch`.
fn alternative(sequence: SequenceNumber, batch: &Batch) -> Arc<Batch> {
    let other = Batch::new(batch.requests.select(&other_order(sequence, batch.requests.len())));
    // One client's request twice, or a null request: there is nothing to reverse or to leave out.
    if other.digest == batch.digest { repeated(batch) } else { other }
}

/// The same of a batch that is told by its digests.
fn other_manifest(sequence: SequenceNumber, manifest: &Manifest) -> Manifest {
    let select = |indices: &[usize]| {
        let clients = indices.iter().map(|&index| manifest.clients()[index]).collect();
        let timestamps = indices.iter().map(|&index| manifest.timestamps()[index]).collect();
        Manifest::new(clients, timestamps, indices.iter().map(|&index| manifest.digests()[index]).collect())
    };
    let len = manifest.len();
    let other = select(&other_order(sequence, len));
    if other.digest() != manifest.digest() {
        return other;
    }
    select(&(0..len).chain((len > 0).then_some(0)).collect::<Vec<_>>())
}

/// Which of `len` requests the second half is told of, in what order.
fn other_order(sequence: SequenceNumber, len: usize) -> Vec<usize> {
    match sequence.0 % 4 {
        _ if len < 2 => Vec::new(),
        0 => (0..len - 1).collect(),
        1 => Vec::new(),
        _ => (0..len).rev().collect(),
    }
}

/// The first request once more at the end; of a null request nothing but itself can be made.
fn repeated(batch: &Batch) -> Arc<Batch> {
    let len = batch.requests.len();
    let indices: Vec<usize> = (0..len).chain((len > 0).then_some(0)).collect();
    Batch::new(batch.requests.select(&indices))
}

/// Another history than the one told: nothing prepared, nothing pre-prepared, and a state that nobody has.
pub(super) fn other_history(told: &ViewChange) -> ViewChange {
    let mut other = ViewChange { prepared: Vec::new(), pre_prepared: Vec::new(), ..told.clone() };
    if told.prepared.is_empty() && told.pre_prepared.is_empty() {
        // Nothing to hide: a claim to have prepared the null request instead.
        let sequence = told.stable.next();
        let view = crate::types::View(told.view.0.saturating_sub(1));
        let vote = Vote { view, sequence, digest: Batch::null().digest };
        (other.prepared, other.pre_prepared) = (vec![vote], vec![vote]);
    }
    if let Some(Checkpoint { digest, .. }) = other.checkpoints.last_mut() {
        digest.0[0] ^= 1;
    }
    other
}

#[cfg(test)]
mod tests {
    use super::super::tests::batch;
    use super::*;

    #[test]
    fn both_halves_have_somebody_whoever_equivocates() {
        for n in 4..=10u16 {
            for own in 0..n {
                for sequence in 0..50 {
                    let second =
                        |replica: &u16| in_second_half(SequenceNumber(sequence), ReplicaId(*replica), usize::from(n));
                    let count = (0..n).filter(|replica| *replica != own).filter(second).count();
                    assert!(count > 0 && count < usize::from(n) - 1, "n = {n}, own {own}, {sequence}: {count}");
                }
            }
        }
    }

    #[test]
    fn alternatives_differ_from_every_batch_with_requests() {
        for sequence in 0..8 {
            for requests in [&[(1, 1)][..], &[(1, 1), (2, 1)], &[(1, 1), (2, 1), (3, 1)], &[(1, 1), (1, 1)]] {
                let batch = batch(requests);
                let other = alternative(SequenceNumber(sequence), &batch);
                assert_ne!(other.digest, batch.digest, "{sequence}: {requests:?}");
            }
        }
        // What two equivocators hold for the two halves is the same where the requests are reversed.
        let batch = batch(&[(1, 1), (2, 1), (3, 1)]);
        let other = alternative(SequenceNumber(2), &batch);
        assert_eq!(alternative(SequenceNumber(2), &other).digest, batch.digest);
    }
}
