//! What correct replicas say to each other must fit what they said before.

use std::collections::BTreeMap;

use hippodrome_engine::protocol::Message;
use hippodrome_engine::protocol::message::Vote;
use hippodrome_engine::types::{Digest, ReplicaId, SequenceNumber, View};

use super::{Checker, Checks};

/// What was said, by all correct replicas in all their lives.
#[derive(Default)]
pub(super) struct Votes {
    said: BTreeMap<(ReplicaId, &'static str, View, SequenceNumber), Digest>,
    /// What was prepared, by view and position: correct replicas that commit have a certificate.
    prepared: BTreeMap<(View, SequenceNumber), (ReplicaId, Digest)>,
    /// The view that a replica left all earlier ones for.
    left_for: BTreeMap<ReplicaId, View>,
}

impl Checks {
    /// A correct replica says something to another one. `primary` is that of the message's view.
    pub(crate) fn said(&mut self, who: ReplicaId, message: &Message, primary: impl Fn(View) -> ReplicaId) {
        match message {
            Message::PrePrepare(message) => {
                let vote = Vote { view: message.view, sequence: message.sequence, digest: message.batch.digest };
                if primary(message.view) != who {
                    self.fail(Checker::Consistency, || {
                        format!("r{who} proposes in view {}, which is not its", message.view)
                    });
                }
                self.voted(who, "pre-prepare", vote);
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

    /// A replica that forgot all of its votes says something: it must not vote.
    pub(crate) fn said_blankly(&mut self, who: ReplicaId, message: &Message) {
        let votes = match message {
            Message::PrePrepare(_) | Message::Prepare(_) | Message::Commit(_) => true,
            // What it said in an earlier life comes back to it, and may be passed on.
            Message::ViewChange(signed) => signed.content.replica == who && signed.signature.is_none(),
            Message::NewView(signed) => signed.signature.is_none(),
            _ => false,
        };
        if votes {
            self.fail(Checker::Consistency, || format!("r{who} forgot its votes and votes again"));
        }
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
