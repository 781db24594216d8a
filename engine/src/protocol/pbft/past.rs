//! What a replica pre-prepared and prepared at one sequence number in views that are over: its share of the sets P and
//! Q of a view-change (Castro & Liskov, TOCS'02, section 4.4), and the bodies, which survive view changes.

use std::sync::Arc;

use crate::limits::PRE_PREPARED_MAX;
use crate::requests::Batch;
use crate::types::{Digest, View};

/// Votes of earlier views. Empty unless there was a view change, and then it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The highest view in which a batch was prepared, and its digest: the entry of P.
    prepared: Option<(View, Digest)>,
    /// Each digest that was pre-prepared, with the highest view in which it was: the entries of Q, at most
    /// [`PRE_PREPARED_MAX`].
    pre_prepared: Vec<(View, Digest)>,
    /// Bodies of these, as far as they are here.
    bodies: Vec<Arc<Batch>>,
}

impl Past {
    /// The batch with `digest` was pre-prepared in `view`.
    pub(super) fn note_pre_prepared(&mut self, digest: Digest, view: View, body: Option<&Arc<Batch>>) {
        match self.pre_prepared.iter_mut().find(|(_, known)| *known == digest) {
            Some((highest, _)) => *highest = view.max(*highest),
            None => self.pre_prepared.push((view, digest)),
        }
        if self.pre_prepared.len() > PRE_PREPARED_MAX {
            // What was prepared last has been pre-prepared in a higher view than the one that goes, or is it.
            let kept = self.prepared.map(|(_, digest)| digest);
            let oldest = (0..self.pre_prepared.len())
                .filter(|&index| Some(self.pre_prepared[index].1) != kept)
                .min_by_key(|&index| self.pre_prepared[index]);
            if let Some(oldest) = oldest {
                self.pre_prepared.remove(oldest);
            }
        }
        if let Some(body) = body.filter(|body| body.digest == digest) {
            self.keep_body(body);
        }
    }

    /// The batch with `digest` was prepared in `view`, and so pre-prepared.
    pub(super) fn note_prepared(&mut self, digest: Digest, view: View, body: Option<&Arc<Batch>>) {
        if self.prepared.is_none_or(|(highest, _)| highest < view) {
            self.prepared = Some((view, digest));
        }
        self.note_pre_prepared(digest, view, body);
    }

    /// Keeps a body that a new view may ask for. For want of room one of a digest that does not count goes: there are
    /// no more digests that count than places, so the bodies of these stay.
    pub(super) fn keep_body(&mut self, body: &Arc<Batch>) {
        if self.bodies.iter().any(|kept| kept.digest == body.digest) {
            return;
        }
        if self.bodies.len() >= PRE_PREPARED_MAX {
            let counts = |body: &Arc<Batch>| self.pre_prepared.iter().any(|(_, digest)| *digest == body.digest);
            let Some(useless) = self.bodies.iter().position(|kept| !counts(kept)) else { return };
            self.bodies.remove(useless);
        }
        self.bodies.push(Arc::clone(body));
    }

    /// The body with `digest`, if it is here.
    pub(super) fn body(&self, digest: Digest) -> Option<&Arc<Batch>> {
        self.bodies.iter().find(|body| body.digest == digest)
    }

    /// The entry of P.
    pub(super) const fn prepared(&self) -> Option<(View, Digest)> {
        self.prepared
    }

    /// The entries of Q, in no particular order.
    pub(super) fn pre_prepared(&self) -> &[(View, Digest)] {
        &self.pre_prepared
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.prepared = None;
        self.pre_prepared.clear();
        self.bodies.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn digest(number: u8) -> Digest {
        Digest([number; 32])
    }

    #[test]
    fn the_highest_views_count() {
        let mut past = Past::default();
        past.note_prepared(digest(1), View(3), None);
        past.note_prepared(digest(2), View(2), None);
        assert_eq!(past.prepared(), Some((View(3), digest(1))));
        past.note_pre_prepared(digest(2), View(7), None);
        past.note_pre_prepared(digest(2), View(5), None);
        assert_eq!(past.pre_prepared(), [(View(3), digest(1)), (View(7), digest(2))]);
    }

    #[test]
    fn a_body_that_counts_never_goes_for_one_that_does_not() {
        let batch = |number: u64| {
            Batch::new(crate::requests::RequestTable {
                clients: vec![crate::types::ClientId(1)],
                timestamps: vec![crate::types::Timestamp(number)],
                operation_ends: vec![0],
                operations: bytes::Bytes::new(),
                digests: vec![digest(u8::try_from(number).unwrap())],
                proofs: crate::requests::Proofs::None,
            })
        };
        let counting: Vec<_> = (0..PRE_PREPARED_MAX as u64).map(batch).collect();
        let mut past = Past::default();
        past.keep_body(&batch(100));
        for (view, body) in (0..).map(View).zip(&counting) {
            past.note_pre_prepared(body.digest, view, Some(body));
        }
        assert_eq!(past.body(batch(100).digest), None);
        for held in (50..60).map(batch) {
            past.keep_body(&held);
            assert_eq!(past.body(held.digest), None);
        }
        assert!(counting.iter().all(|body| past.body(body.digest).is_some()));
        // The digest that was pre-prepared first does not count any more.
        let newest = batch(70);
        past.note_pre_prepared(newest.digest, View(9), Some(&newest));
        assert_eq!((past.body(newest.digest), past.body(counting[0].digest)), (Some(&newest), None));
    }

    #[test]
    fn it_is_bounded_and_never_forgets_what_was_prepared() {
        let mut past = Past::default();
        let null = Batch::null();
        past.note_prepared(null.digest, View(0), Some(&null));
        for number in 1..50 {
            past.note_pre_prepared(digest(number), View(u64::from(number)), None);
        }
        assert_eq!(past.pre_prepared().len(), PRE_PREPARED_MAX);
        assert!(past.pre_prepared().contains(&(View(0), null.digest)));
        assert!(past.pre_prepared().contains(&(View(49), digest(49))));
        assert_eq!(past.body(null.digest), Some(&null));
        past.clear();
        assert_eq!((past.prepared(), past.body(null.digest)), (None, None));
    }
}
