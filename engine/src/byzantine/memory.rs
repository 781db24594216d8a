//! What a Byzantine replica remembers of what it heard and said, to lie better. All of it is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::protocol::message::{FetchState, Message, PrePrepare, Signed, ViewChange};
use crate::protocol::{Authentic, Input};
use crate::requests::{Batch, RequestTable};
use crate::types::{Digest, ReplicaId, SequenceNumber, View};

/// Most own messages that are kept to be repeated.
const SAID_MAX: usize = 64;
/// Most signed messages of others that are kept to be repeated.
const SIGNED_MAX: usize = 16;
/// Most sequence numbers whose two digests are remembered.
const ASSIGNMENTS_MAX: usize = 1024;

/// What was heard and said.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Own votes, checkpoints, view-changes and new-views, oldest first.
    pub(super) said: VecDeque<Arc<Message>>,
    /// Others' view-changes and new-views with the signatures that they came with, oldest first.
    pub(super) signed: VecDeque<Arc<Message>>,
    /// The last batch that was seen.
    pub(super) batch: Option<Arc<Batch>>,
    /// The last requests that came straight from clients or were forwarded.
    pub(super) requests: Option<Arc<RequestTable>>,
    /// The own view-change as the replica inside made it.
    pub(super) view_change: Option<Arc<ViewChange>>,
    /// Who asks for what chunk in this step.
    pub(super) asked: Option<(ReplicaId, FetchState)>,
    /// For a view and a sequence number the digest that one half is told and the one that the other half is told.
    assignments: BTreeMap<(View, SequenceNumber), [Digest; 2]>,
}

impl Memory {
    /// Takes note of an input.
    pub(super) fn hear(&mut self, input: &Input) {
        self.asked = None;
        match input {
            Input::Requests(table) => self.requests = Some(Arc::clone(table)),
            Input::Message(authentic) => self.hear_message(authentic),
            _ => {}
        }
    }

    fn hear_message(&mut self, authentic: &Authentic) {
        match &authentic.message {
            Message::PrePrepare(PrePrepare { batch, .. }) => self.batch = Some(Arc::clone(batch)),
            Message::Forward(table) => self.requests = Some(Arc::clone(table)),
            Message::FetchState(fetch) => self.asked = Some((authentic.sender, *fetch)),
            Message::ViewChange(Signed { signature: Some(_), .. })
            | Message::NewView(Signed { signature: Some(_), .. }) => {
                keep(&mut self.signed, Arc::new(authentic.message.clone()), SIGNED_MAX);
            }
            _ => {}
        }
    }

    /// Takes note of what the replica inside says.
    pub(super) fn say(&mut self, message: &Arc<Message>) {
        match &**message {
            Message::PrePrepare(PrePrepare { batch, .. }) => self.batch = Some(Arc::clone(batch)),
            Message::ViewChange(Signed { content, signature: None }) => {
                self.view_change = Some(Arc::clone(content));
                keep(&mut self.said, Arc::clone(message), SAID_MAX);
            }
            Message::Prepare(_)
            | Message::Commit(_)
            | Message::Committed(_)
            | Message::Checkpoint(_)
            | Message::NewView(Signed { signature: None, .. }) => {
                keep(&mut self.said, Arc::clone(message), SAID_MAX);
            }
            _ => {}
        }
    }

    /// Remembers which digests the two halves are told.
    pub(super) fn assign(&mut self, view: View, sequence: SequenceNumber, digests: [Digest; 2]) {
        self.assignments.insert((view, sequence), digests);
        if self.assignments.len() > ASSIGNMENTS_MAX {
            self.assignments.pop_first();
        }
    }

    /// Which digests the two halves were told.
    pub(super) fn assigned(&self, view: View, sequence: SequenceNumber) -> Option<[Digest; 2]> {
        self.assignments.get(&(view, sequence)).copied()
    }
}

fn keep(kept: &mut VecDeque<Arc<Message>>, message: Arc<Message>, most: usize) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(message);
}
