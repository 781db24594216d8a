//! What correct replicas say to each other must fit what they said before.

use std::collections::{BTreeMap, BTreeSet};

use hippodrome_engine::protocol::Message;
use hippodrome_engine::protocol::message::{DigestPrePrepare, PrePrepare, ViewChange, Vote};
use hippodrome_engine::types::{Digest, ReplicaId, SequenceNumber, View};

use super::{Checker, Checks};

/// What was said, by all correct replicas in all their lives.
#[derive(Default)]
pub(super) struct Votes {
    said: BTreeMap<(ReplicaId, &'static str, View, SequenceNumber), Digest>,
    /// What was prepared, by view and position: correct replicas that commit have a certificate.
    prepared: BTreeMap<(View, SequenceNumber), (ReplicaId, Digest)>,
    /// Each replica's newest commit at each position, but for those to what it had seen decided before.
    committed: BTreeMap<(ReplicaId, SequenceNumber), Vote>,
    /// What each replica has seen decided, as far as it recorded that.
    decided: BTreeSet<(ReplicaId, SequenceNumber)>,
    /// Commits to what the replica had seen decided before, which it records no more: a new view can assign nothing
    /// else there, and those who decided it remember.
    for_decided: BTreeSet<(ReplicaId, View, SequenceNumber)>,
    /// The view that a replica left all earlier ones for.
    left_for: BTreeMap<ReplicaId, View>,
}

impl Checks {
    /// A correct replica says something to another one. `primary` is that of the message's view.
    pub(crate) fn said(&mut self, who: ReplicaId, message: &Message, primary: impl Fn(View) -> ReplicaId) {
        match message {
            Message::PrePrepare(PrePrepare { view, sequence, batch }) => {
                let vote = Vote { view: *view, sequence: *sequence, digest: batch.digest };
                self.proposed(who, vote, primary(*view));
            }
            Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest }) => {
                let vote = Vote { view: *view, sequence: *sequence, digest: manifest.digest() };
                self.proposed(who, vote, primary(*view));
            }
            Message::Prepare(vote) => {
                if primary(vote.view) == who {
                    self.fail(Checker::Consistency, || {
                        format!("r{who} prepares in view {}, whose primary it is", vote.view)
                    });
                }
                self.voted(who, "prepare", *vote);
            }
            Message::Commit(vote) => {
                self.voted(who, "commit", *vote);
                if !self.votes.for_decided.contains(&(who, vote.view, vote.sequence)) {
                    let newest = self.votes.committed.entry((who, vote.sequence)).or_insert(*vote);
                    if newest.view < vote.view {
                        *newest = *vote;
                    }
                }
                let at = (vote.view, vote.sequence);
                let (other, digest) = *self.votes.prepared.entry(at).or_insert((who, vote.digest));
                if digest != vote.digest {
                    self.fail(Checker::Certificates, || {
                        let (view, sequence, own) = (vote.view, vote.sequence, vote.digest);
                        format!("in view {view} at {sequence} r{who} prepared {own:?} and r{other} {digest:?}")
                    });
                }
            }
            Message::ViewChange(signed) if signed.content.replica == who => {
                let (view, digest) = (signed.content.view, signed.content.digest());
                self.same(who, "view-change", view, SequenceNumber(0), digest);
                self.keeps_its_commits(&signed.content);
                let left_for = self.votes.left_for.entry(who).or_insert(view);
                *left_for = view.max(*left_for);
            }
            Message::NewView(signed) if primary(signed.content.view) == who => {
                self.same(who, "new-view", signed.content.view, SequenceNumber(0), signed.content.digest());
            }
            Message::Checkpoint(checkpoint) => self.state(who, checkpoint.sequence, checkpoint.digest),
            Message::Committed(vote) => {
                let decided = self.ledger.get(&vote.sequence).map(|entry| entry.batch.digest);
                if let Some(decided) = decided.filter(|decided| *decided != vote.digest) {
                    self.fail(Checker::Agreement, || {
                        format!(
                            "r{who} says {:?} is decided at {}, {decided:?} was executed",
                            vote.digest, vote.sequence
                        )
                    });
                }
            }
            _ => {}
        }
    }

    /// A correct replica assigns a batch, whole or by digests.
    fn proposed(&mut self, who: ReplicaId, vote: Vote, primary: ReplicaId) {
        if primary != who {
            self.fail(Checker::Consistency, || format!("r{who} proposes in view {}, which is not its", vote.view));
        }
        self.voted(who, "pre-prepare", vote);
    }

    /// A replica that forgot all of its votes says something: it must not vote.
    pub(crate) fn said_blankly(&mut self, who: ReplicaId, message: &Message) {
        let votes = match message {
            Message::PrePrepare(_) | Message::DigestPrePrepare(_) | Message::Prepare(_) | Message::Commit(_) => true,
            // What it said in an earlier life comes back to it, and may be passed on.
            Message::ViewChange(signed) => signed.content.replica == who && signed.signature.is_none(),
            Message::NewView(signed) => signed.signature.is_none(),
            _ => false,
        };
        if votes {
            self.fail(Checker::Consistency, || format!("r{who} forgot its votes and votes again"));
        }
    }

    /// A correct replica's view change must tell of every commit that it has ever sent for a position in its window:
    /// that it prepared the batch in that view, or that it prepared one in a later view. What was decided may rest on
    /// nothing else.
    fn keeps_its_commits(&mut self, change: &ViewChange) {
        let (who, low) = (change.replica, change.stable);
        let high = SequenceNumber(low.0.saturating_add(self.window));
        let forgotten = self.votes.committed.range((who, low.next())..=(who, high)).find(|((_, sequence), vote)| {
            let told = change.prepared.iter().find(|told| told.sequence == *sequence);
            vote.view < change.view
                && told
                    .is_none_or(|told| told.view < vote.view || (told.view == vote.view && told.digest != vote.digest))
        });
        if let Some((_, vote)) = forgotten {
            let (view, Vote { view: of, sequence, digest }) = (change.view, *vote);
            let told = change.prepared.iter().find(|told| told.sequence == sequence);
            self.fail(Checker::ViewChange, || {
                format!(
                    "r{who} committed to {digest:?} at {sequence} in view {of}; its view change to {view} tells {told:?}"
                )
            });
        }
    }

    /// A correct replica records that this is decided.
    pub(crate) fn decided(&mut self, who: ReplicaId, sequence: SequenceNumber) {
        self.votes.decided.insert((who, sequence));
    }

    /// A correct replica is going to send a commit, once the records before it are durable.
    pub(crate) fn is_going_to_commit(&mut self, who: ReplicaId, vote: &Vote) {
        if self.votes.decided.contains(&(who, vote.sequence)) {
            self.votes.for_decided.insert((who, vote.view, vote.sequence));
        }
    }

    /// Whether a correct replica has ever sent a commit for this batch.
    pub(crate) fn has_committed(&self, who: ReplicaId, sequence: SequenceNumber, digest: Digest) -> bool {
        self.votes.committed.get(&(who, sequence)).is_some_and(|vote| vote.digest == digest)
    }

    fn voted(&mut self, who: ReplicaId, phase: &'static str, vote: Vote) {
        if let Some(&left_for) = self.votes.left_for.get(&who)
            && vote.view < left_for
        {
            self.fail(Checker::Consistency, || {
                format!("r{who} sends a {phase} of view {} after its view-change to {left_for}", vote.view)
            });
        }
        self.same(who, phase, vote.view, vote.sequence, vote.digest);
    }

    fn same(&mut self, who: ReplicaId, what: &'static str, view: View, sequence: SequenceNumber, digest: Digest) {
        let before = *self.votes.said.entry((who, what, view, sequence)).or_insert(digest);
        if before != digest {
            self.fail(Checker::Consistency, || {
                format!("r{who} sends two {what}s in view {view} at {sequence}: {before:?} and {digest:?}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::protocol::message::Signed;

    use super::*;

    const WHO: ReplicaId = ReplicaId(1);

    /// Who refuses a view change to view 5 that tells of `told`, after a commit in view 3 at 9.
    fn refused(told: Option<(u64, u8)>) -> Option<Checker> {
        let vote = |view, digest| Vote { view: View(view), sequence: SequenceNumber(9), digest: Digest([digest; 32]) };
        let mut checks = Checks::new(1, 0b1111, 8);
        let primary = |_| ReplicaId(0);
        checks.said(WHO, &Message::Commit(vote(3, 7)), primary);
        let change = ViewChange {
            replica: WHO,
            view: View(5),
            stable: SequenceNumber(4),
            checkpoints: Vec::new(),
            prepared: told.map(|(view, digest)| vote(view, digest)).into_iter().collect(),
            pre_prepared: Vec::new(),
        };
        checks.said(WHO, &Message::ViewChange(Signed::own(change)), primary);
        checks.violation.map(|violation| violation.checker)
    }

    #[test]
    fn a_view_change_must_tell_of_every_commit_in_its_window() {
        assert_eq!(refused(Some((3, 7))), None);
        assert_eq!(refused(Some((4, 8))), None, "something else may be prepared in a later view");
        for told in [None, Some((3, 8)), Some((2, 7))] {
            assert_eq!(refused(told), Some(Checker::ViewChange), "{told:?}");
        }
    }
}
