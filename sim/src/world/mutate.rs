//! Random change of what a faulty replica sends: any field, any kind, any earlier message again, and two faces.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hippodrome_engine::protocol::Message;
use hippodrome_engine::protocol::message::{
    Body, Checkpoint, DigestPrePrepare, NewView, PrePrepare, Signed, SlotStatus, Status, ViewChange, Vote,
};
use hippodrome_engine::requests::{Batch, Manifest, RequestTable};
use hippodrome_engine::types::{Digest, ReplicaId, SequenceNumber, View};

use crate::plan::Plan;
use crate::random::Random;

/// Messages that a faulty replica remembers.
const REMEMBERED: usize = 96;
/// Positions at which it remembers what it told to whom.
const FACES: usize = 64;

/// Changes what one replica sends.
pub(super) struct Mutator {
    own: ReplicaId,
    random: Random,
    permille: u64,
    interval: u64,
    /// Everything that it heard or said.
    memory: VecDeque<Message>,
    /// Whether it tells two stories: as primary two batches for one position, and votes for what it told to whom.
    two_faced: bool,
    /// The replicas that get to see the second face.
    second: u64,
    /// At a position, in place of a digest, another one.
    faces: BTreeMap<(View, SequenceNumber), (Digest, Face)>,
}

/// What is proposed to those who get to see the second face.
enum Face {
    Batch(Arc<Batch>),
    /// By digests.
    Manifest(Arc<Manifest>),
}

impl Face {
    fn digest(&self) -> Digest {
        match self {
            Self::Batch(batch) => batch.digest,
            Self::Manifest(manifest) => manifest.digest(),
        }
    }
}

impl Mutator {
    pub(super) fn new(plan: &Plan, own: ReplicaId, permille: u64, place: u64) -> Self {
        let mut random = Random::new(plan.seed, "mutator", place);
        Self {
            own,
            permille,
            interval: plan.checkpoint_interval,
            memory: VecDeque::new(),
            two_faced: random.chance(600),
            second: random.below(1 << plan.replicas),
            faces: BTreeMap::new(),
            random,
        }
    }

    /// Takes note of something heard or said.
    pub(super) fn remember(&mut self, message: &Message) {
        if self.memory.len() == REMEMBERED {
            self.memory.pop_front();
        }
        self.memory.push_back(message.clone());
    }

    /// What goes to `to` in place of `message`.
    pub(super) fn change(&mut self, message: &Message, to: ReplicaId) -> Vec<Message> {
        let mut messages = vec![message.clone()];
        if self.two_faced {
            self.turn_face(&mut messages, to);
        }
        if !self.random.chance(self.permille) {
            return messages;
        }
        match self.random.below(8) {
            0 => messages.clear(),
            1 => messages.extend(self.replay()),
            2 => messages.push(messages[0].clone()),
            3 => messages.extend(self.recast(message)),
            _ => messages[0] = self.alter(message.clone()),
        }
        messages
    }

    /// Shows the second face to those who get to see that one.
    fn turn_face(&mut self, messages: &mut Vec<Message>, to: ReplicaId) {
        self.make_face(&messages[0]);
        let at = match &messages[0] {
            Message::PrePrepare(message) => (message.view, message.sequence),
            Message::DigestPrePrepare(message) => (message.view, message.sequence),
            Message::Prepare(vote) | Message::Commit(vote) | Message::Committed(vote) => (vote.view, vote.sequence),
            _ => return,
        };
        let Some((first, other)) = self.faces.get(&at) else { return };
        let second = self.second & 1 << to.0 != 0;
        let mut proposed = None;
        match (&mut messages[0], other) {
            (Message::PrePrepare(message), other) => {
                if let (true, Face::Batch(other)) = (second, other) {
                    message.batch = Arc::clone(other);
                }
                proposed = Some(message.batch.digest);
            }
            (Message::DigestPrePrepare(message), other) => {
                if let (true, Face::Manifest(other)) = (second, other) {
                    message.manifest = Arc::clone(other);
                }
                proposed = Some(message.manifest.digest());
            }
            (Message::Prepare(vote) | Message::Commit(vote) | Message::Committed(vote), other)
                if second && vote.digest == *first =>
            {
                vote.digest = other.digest();
            }
            _ => {}
        }
        // Its own votes for what it tells this one: the prepare of a primary among them, which must not count.
        if let Some(digest) = proposed {
            let vote = Vote { view: at.0, sequence: at.1, digest };
            messages.extend([Message::Prepare(vote), Message::Commit(vote)]);
        }
    }

    /// Decides on the second face of a proposal.
    fn make_face(&mut self, message: &Message) {
        let at = match message {
            Message::PrePrepare(message) => (message.view, message.sequence),
            Message::DigestPrePrepare(message) => (message.view, message.sequence),
            _ => return,
        };
        if self.faces.contains_key(&at) {
            return;
        }
        let face = match message {
            Message::PrePrepare(message) => (message.batch.digest, Face::Batch(self.other_batch(&message.batch))),
            Message::DigestPrePrepare(message) => {
                (message.manifest.digest(), Face::Manifest(self.other_manifest(&message.manifest)))
            }
            _ => return,
        };
        if self.faces.len() == FACES {
            self.faces.pop_first();
        }
        self.faces.insert(at, face);
    }

    /// The same by digests: of requests that were made or not, under their clients or others.
    fn other_manifest(&mut self, manifest: &Manifest) -> Arc<Manifest> {
        let (mut clients, mut timestamps, mut digests) =
            (manifest.clients().to_vec(), manifest.timestamps().to_vec(), manifest.digests().to_vec());
        match self.random.below(6) {
            0 => (clients, timestamps, digests) = (Vec::new(), Vec::new(), Vec::new()),
            1 => {
                clients.reverse();
                timestamps.reverse();
                digests.reverse();
            }
            2 => {
                clients.extend_from_within(..);
                timestamps.extend_from_within(..);
                digests.extend_from_within(..);
            }
            3 if !digests.is_empty() => digests[0].0[0] ^= 1,
            4 if !timestamps.is_empty() => timestamps[0].0 = timestamps[0].0.wrapping_add(1),
            _ => {
                let earlier = self.memory.iter().filter_map(|message| match message {
                    Message::DigestPrePrepare(message) => Some(Arc::clone(&message.manifest)),
                    _ => None,
                });
                let earlier: Vec<Arc<Manifest>> = earlier.collect();
                if !earlier.is_empty() {
                    return Arc::clone(&earlier[self.random.index(earlier.len())]);
                }
            }
        }
        Arc::new(Manifest::new(clients, timestamps, digests))
    }

    /// Another batch that a primary might propose: of requests that were really made, mostly.
    fn other_batch(&mut self, batch: &Batch) -> Arc<Batch> {
        let table = &batch.requests;
        let all: Vec<usize> = (0..table.len()).collect();
        let earlier = self.memory.iter().filter_map(|message| match message {
            Message::PrePrepare(PrePrepare { batch, .. }) => Some(batch.clone()),
            _ => None,
        });
        let earlier: Vec<Arc<Batch>> = earlier.collect();
        match self.random.below(6) {
            0 => Batch::null(),
            1 => Batch::new(table.select(&all.iter().rev().copied().collect::<Vec<_>>())),
            2 => Batch::new(table.select(&[all.as_slice(), all.as_slice()].concat())),
            3 if all.len() > 1 => Batch::new(table.select(&all[1..])),
            4 if !table.is_empty() => self.invented(table),
            _ if !earlier.is_empty() => earlier[self.random.index(earlier.len())].clone(),
            _ => Batch::null(),
        }
    }

    /// Requests that nobody made: the digests are computed again by whoever gets them.
    fn invented(&mut self, table: &RequestTable) -> Arc<Batch> {
        let mut table = table.clone();
        let timestamp = &mut table.timestamps[0];
        timestamp.0 = timestamp.0.wrapping_add(self.random.pick(&[1, 2, u64::MAX]));
        table.digests[0].0[0] ^= 1;
        Batch::new(table)
    }

    fn replay(&mut self) -> Option<Message> {
        let index = self.random.index(self.memory.len());
        self.memory.get(index).cloned()
    }

    /// The same vote in another phase, or about a decision.
    fn recast(&mut self, message: &Message) -> Option<Message> {
        let vote = match message {
            Message::Prepare(vote) | Message::Commit(vote) | Message::Committed(vote) => *vote,
            Message::PrePrepare(PrePrepare { view, sequence, batch }) => {
                Vote { view: *view, sequence: *sequence, digest: batch.digest }
            }
            Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest }) => {
                Vote { view: *view, sequence: *sequence, digest: manifest.digest() }
            }
            _ => return None,
        };
        Some(match self.random.below(3) {
            0 => Message::Prepare(vote),
            1 => Message::Commit(vote),
            _ => Message::Committed(vote),
        })
    }

    fn alter(&mut self, message: Message) -> Message {
        match message {
            Message::PrePrepare(message) => {
                let mut altered = message.clone();
                match self.random.below(3) {
                    0 => altered.view = self.other_view(message.view),
                    1 => altered.sequence = self.other_sequence(message.sequence),
                    _ => altered.batch = self.other_batch(&message.batch),
                }
                Message::PrePrepare(altered)
            }
            Message::DigestPrePrepare(mut message) => {
                match self.random.below(3) {
                    0 => message.view = self.other_view(message.view),
                    1 => message.sequence = self.other_sequence(message.sequence),
                    _ => message.manifest = self.other_manifest(&message.manifest),
                }
                Message::DigestPrePrepare(message)
            }
            Message::Prepare(vote) => Message::Prepare(self.other_vote(vote)),
            Message::Commit(vote) => Message::Commit(self.other_vote(vote)),
            Message::Committed(vote) => Message::Committed(self.other_vote(vote)),
            Message::Body(body) => Message::Body(Body { batch: self.other_batch(&body.batch), ..body }),
            Message::Checkpoint(checkpoint) => Message::Checkpoint(self.other_checkpoint(checkpoint)),
            Message::Status(status) => Message::Status(self.other_status(status)),
            Message::ViewChange(signed) => {
                let mut content = signed.content.as_ref().clone();
                content.replica = self.own;
                Message::ViewChange(Signed::own(self.other_view_change(content)))
            }
            Message::NewView(signed) => Message::NewView(Signed::own(self.other_new_view(&signed.content))),
            Message::StateWanted(sequence) => Message::StateWanted(self.other_sequence(sequence)),
            Message::FetchState(mut fetch) => {
                fetch.sequence = self.other_sequence(fetch.sequence);
                Message::FetchState(fetch)
            }
            Message::StateChunk(mut chunk) => {
                match self.random.below(3) {
                    0 => chunk.count = self.random.pick(&[0, 1, chunk.count.wrapping_add(1), u32::MAX]),
                    1 => chunk.index = chunk.index.wrapping_add(1),
                    _ => chunk.bytes = chunk.bytes.iter().map(|byte| byte ^ 1).collect(),
                }
                Message::StateChunk(chunk)
            }
            Message::Forward(table) => Message::Forward(table),
        }
    }

    fn other_view(&mut self, view: View) -> View {
        View(self.random.pick(&[view.0.wrapping_add(1), view.0.wrapping_sub(1), view.0.wrapping_add(4), 0, u64::MAX]))
    }

    fn other_sequence(&mut self, sequence: SequenceNumber) -> SequenceNumber {
        let step = self.random.pick(&[1, 2, self.interval, 4 * self.interval, 64]);
        SequenceNumber(match self.random.below(5) {
            0 | 1 => sequence.0.wrapping_add(step),
            2 | 3 => sequence.0.wrapping_sub(step),
            _ => u64::MAX,
        })
    }

    fn other_digest(&mut self) -> Digest {
        let known: Vec<Digest> = self
            .memory
            .iter()
            .filter_map(|message| match message {
                Message::PrePrepare(message) => Some(message.batch.digest),
                Message::DigestPrePrepare(message) => Some(message.manifest.digest()),
                Message::Prepare(vote) | Message::Commit(vote) => Some(vote.digest),
                Message::Checkpoint(checkpoint) => Some(checkpoint.digest),
                _ => None,
            })
            .collect();
        if known.is_empty() || self.random.chance(200) { Digest([3; 32]) } else { self.random.pick(&known) }
    }

    fn other_vote(&mut self, mut vote: Vote) -> Vote {
        match self.random.below(3) {
            0 => vote.view = self.other_view(vote.view),
            1 => vote.sequence = self.other_sequence(vote.sequence),
            _ => vote.digest = self.other_digest(),
        }
        vote
    }

    fn other_checkpoint(&mut self, mut checkpoint: Checkpoint) -> Checkpoint {
        match self.random.below(2) {
            0 => checkpoint.sequence = self.other_sequence(checkpoint.sequence),
            _ => checkpoint.digest = self.other_digest(),
        }
        checkpoint
    }

    fn other_status(&mut self, mut status: Status) -> Status {
        match self.random.below(5) {
            0 => status.view = self.other_view(status.view),
            1 => status.committed = self.other_sequence(status.committed),
            2 => status.stable = self.other_sequence(status.stable),
            3 => status.active = !status.active,
            _ => status.slots = vec![SlotStatus::default(); self.random.index(8)],
        }
        status
    }

    /// A view-change that hides or invents what was prepared.
    fn other_view_change(&mut self, mut content: ViewChange) -> ViewChange {
        match self.random.below(7) {
            0 => content.view = self.other_view(content.view),
            1 => content.prepared.clear(),
            2 => content.pre_prepared.clear(),
            3 => {
                let index = self.random.index(content.prepared.len());
                if let Some(vote) = content.prepared.get(index).copied() {
                    content.prepared[index] = self.other_vote(vote);
                }
            }
            4 => {
                let sequence = SequenceNumber(content.stable.0.saturating_add(1 + self.random.below(self.interval)));
                let vote = Vote { view: View(content.view.0.saturating_sub(1)), sequence, digest: self.other_digest() };
                content.prepared.retain(|other| other.sequence != sequence);
                content.prepared.push(vote);
                content.prepared.sort_by_key(|vote| vote.sequence);
                content.pre_prepared.retain(|other| other.sequence != sequence || other.digest != vote.digest);
                content.pre_prepared.push(vote);
                content.pre_prepared.sort_by_key(|vote| (vote.sequence, vote.digest));
            }
            5 => content.stable = self.other_sequence(content.stable),
            _ => {
                let index = self.random.index(content.checkpoints.len());
                if let Some(checkpoint) = content.checkpoints.get(index).copied() {
                    content.checkpoints[index] = self.other_checkpoint(checkpoint);
                }
            }
        }
        content
    }

    fn other_new_view(&mut self, content: &NewView) -> NewView {
        let mut content = content.clone();
        let index = self.random.index(content.view_changes.len());
        match self.random.below(4) {
            0 => content.view = self.other_view(content.view),
            1 if index < content.view_changes.len() => drop(content.view_changes.remove(index)),
            2 if index < content.view_changes.len() => {
                let twice = content.view_changes[index];
                content.view_changes.insert(index, twice);
            }
            _ => {
                // Other view-changes than those that it showed to others.
                let known = self.memory.iter().filter_map(|message| match message {
                    Message::ViewChange(signed) if signed.content.view == content.view => {
                        Some((signed.content.replica, signed.content.digest()))
                    }
                    _ => None,
                });
                let all: BTreeMap<ReplicaId, Digest> = known.collect();
                let most = content.view_changes.len();
                let mut chosen: Vec<(ReplicaId, Digest)> = all.into_iter().collect();
                self.random.shuffle(&mut chosen);
                chosen.truncate(most);
                chosen.sort_unstable();
                content.view_changes = chosen;
            }
        }
        content
    }
}
