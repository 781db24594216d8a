//! Bodies that nobody has asked for, sent before anybody can: right ones, which come without any proof of their
//! requests, others that nobody proposed, and some for what is not proposed yet. Who took such a body for the primary's
//! word would never ask for the proofs, so a client that sends to the primary and to this replica alone would stop
//! every view.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Byzantine, Letter, To};
use crate::protocol::message::{Body, DigestPrePrepare, PrePrepare, Vote};
use crate::protocol::{Authentic, Input, Message};
use crate::requests::{Batch, Manifest, RequestTable, TableBuilder};
use crate::types::{Digest, ReplicaId, SequenceNumber, View};

/// Most bytes of requests that are remembered.
const KNOWN_BYTES_MAX: usize = 16 << 20;
/// At one in so many sequence numbers each of the tricks is played that need not be played at all.
const TRICKS: u64 = 4;

/// The requests of which it knows the bodies, and what was proposed in this step.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Oldest first.
    tables: VecDeque<Arc<RequestTable>>,
    bytes: usize,
    places: BTreeMap<Digest, (Arc<RequestTable>, usize)>,
    /// By whom, in which view, where and what.
    proposal: Option<(ReplicaId, View, SequenceNumber, Arc<Manifest>)>,
}

impl Known {
    /// Takes note of requests, wherever they come from, and of a proposal.
    pub(super) fn hear(&mut self, input: &Input) {
        self.proposal = None;
        match input {
            Input::Requests(table) => self.keep(table),
            Input::Message(Authentic { sender, message, .. }) => match message {
                Message::Forward(table) => self.keep(table),
                Message::Body(Body { batch, .. }) => self.keep(&Arc::new(batch.requests.clone())),
                Message::PrePrepare(PrePrepare { view, sequence, batch }) => {
                    self.keep(&Arc::new(batch.requests.clone()));
                    self.proposal = Some((*sender, *view, *sequence, Arc::new(Manifest::of(batch))));
                }
                Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest }) => {
                    self.proposal = Some((*sender, *view, *sequence, Arc::clone(manifest)));
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn keep(&mut self, table: &Arc<RequestTable>) {
        if table.is_empty() || table.bytes() > KNOWN_BYTES_MAX {
            return;
        }
        self.bytes += table.bytes();
        self.tables.push_back(Arc::clone(table));
        for (index, digest) in table.digests.iter().enumerate() {
            self.places.insert(*digest, (Arc::clone(table), index));
        }
        while self.bytes > KNOWN_BYTES_MAX
            && let Some(oldest) = self.tables.pop_front()
        {
            self.bytes -= oldest.bytes();
            for digest in &oldest.digests {
                if self.places.get(digest).is_some_and(|(table, _)| Arc::ptr_eq(table, &oldest)) {
                    self.places.remove(digest);
                }
            }
        }
    }

    /// Those of these requests whose bodies are known, in this order, without proofs; `None` if they are too long.
    fn batch<'a>(&self, digests: impl Iterator<Item = &'a Digest>) -> Option<Arc<Batch>> {
        let mut builder = TableBuilder::default();
        for (table, index) in digests.filter_map(|digest| self.places.get(digest)) {
            if !builder.has_room_for(table, *index) {
                return None;
            }
            builder.push_unproven(table, *index);
        }
        Some(Batch::new(builder.finish()))
    }
}

impl Byzantine {
    /// As a backup, as soon as the primary proposes something: its body to all others, before they can have asked for
    /// it.
    pub(super) fn bring_early(&mut self, out: &mut Vec<Letter>) {
        let Some((sender, view, sequence, manifest)) = self.known.proposal.take() else { return };
        // Two liars that answer each other's proposals would never end.
        if view != self.view() || sender != view.primary(self.n) {
            return;
        }
        let digests = manifest.digests();
        match sequence.0 % TRICKS {
            // One that nobody proposed comes first.
            1 => {
                let other = self.known.batch(digests.iter().rev().take(digests.len().max(2) - 1));
                self.bring(To::All, sequence, other, out);
            }
            // Who knows nothing of the proposal yet keeps the body of what is said to be decided.
            2 => out.push(claim(To::All, view, sequence, manifest.digest())),
            // What the primary may propose next.
            3 => {
                let next = self.known.tables.back().and_then(|table| self.known.batch(table.digests.iter().take(1)));
                if let Some(next) = &next {
                    out.push(claim(To::All, view, sequence.next(), next.digest));
                }
                self.bring(To::All, sequence.next(), next, out);
            }
            _ => {}
        }
        let right = self.known.batch(digests.iter()).filter(|batch| batch.digest == manifest.digest());
        self.bring(To::All, sequence, right, out);
    }

    /// Never says that it would vouch for anything. As the primary it sends the body ahead of its proposal, and says
    /// that it is decided.
    pub(super) fn vouch_for_nothing(&self, letter: Letter, out: &mut Vec<Letter>) {
        match &*letter.message {
            Message::Prepare(_) => {}
            Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest }) => {
                out.push(claim(letter.to, *view, *sequence, manifest.digest()));
                self.bring(letter.to, *sequence, self.known.batch(manifest.digests().iter()), out);
                out.push(letter);
            }
            _ => out.push(letter),
        }
    }

    fn bring(&self, to: To, sequence: SequenceNumber, batch: Option<Arc<Batch>>, out: &mut Vec<Letter>) {
        if let Some(batch) = batch {
            out.push(Letter { to, message: Arc::new(Message::Body(Body { sequence, batch })) });
        }
    }
}

/// That a batch is decided.
fn claim(to: To, view: View, sequence: SequenceNumber, digest: Digest) -> Letter {
    Letter { to, message: Arc::new(Message::Committed(Vote { view, sequence, digest })) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, table};
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest() {
        let mut known = Known::default();
        let large = |client: u32| {
            let mut table = table(&[(client, 1)]);
            table.operation_ends = vec![4 << 20];
            table.operations = vec![7; 4 << 20].into();
            Arc::new(table)
        };
        for client in 0..20 {
            known.hear(&Input::Requests(large(client)));
            assert!(known.bytes <= KNOWN_BYTES_MAX && known.places.len() <= 4, "{} bytes", known.bytes);
        }
        let newest = large(19);
        assert_eq!(known.batch(newest.digests.iter()).unwrap().requests.clients, newest.clients);
        assert_eq!(known.batch(large(0).digests.iter()).unwrap().requests.len(), 0);
        // More than fits into a batch is none.
        let digests: Vec<Digest> = (17..20).flat_map(|client| large(client).digests.clone()).collect();
        assert_eq!(known.batch(digests.iter()), None);
    }

    #[test]
    fn a_body_is_made_of_requests_from_anywhere() {
        let mut known = Known::default();
        known.hear(&Input::Requests(Arc::new(table(&[(3, 1), (1, 1)]))));
        known.hear(&Input::Requests(Arc::new(table(&[(2, 1)]))));
        let wanted = batch(&[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(known.batch(Manifest::of(&wanted).digests().iter()), Some(wanted));
    }
}
