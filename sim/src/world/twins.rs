//! Twins: two correct copies of one replica that share its identity, each heard by a part of the others (Bano et al.,
//! "Twins: BFT systems made robust", OPODIS'21).

use std::collections::BTreeMap;

use hippodrome_engine::protocol::Message;
use hippodrome_engine::protocol::message::Vote;
use hippodrome_engine::types::{Digest, ReplicaId, SequenceNumber, View};

use super::Endpoint;
use crate::plan::Plan;
use crate::random::Random;

/// Who is on which twin's side.
pub(super) struct Twins {
    any: bool,
    replicas: usize,
    random: Random,
    /// For each identity and each peer (clients last): whether it deals with the first, the second or both.
    sides: Vec<Vec<[bool; 2]>>,
    /// What each pair voted for, by kind, view and position.
    said: BTreeMap<(ReplicaId, &'static str, View, SequenceNumber), Digest>,
}

impl Twins {
    pub(super) fn new(plan: &Plan) -> Self {
        let any = plan.faulty.iter().any(|faulty| faulty.twins);
        let random = Random::new(plan.seed, "twins", 0);
        Self { any, replicas: plan.replicas, random, sides: Vec::new(), said: BTreeMap::new() }
    }

    pub(super) const fn any(&self) -> bool {
        self.any
    }

    /// Draws new sides.
    pub(super) fn turn(&mut self) {
        let peers = self.replicas + 1;
        let random = &mut self.random;
        let mut side = || random.pick(&[[true, false], [false, true], [true, true]]);
        self.sides = (0..self.replicas).map(|_| (0..peers).map(|_| side()).collect()).collect();
    }

    /// Whether twin `twin` of `own` and `peer` deal with each other. One without a twin deals with all.
    pub(super) fn deal(&self, own: u16, twin: Option<usize>, peer: Endpoint) -> bool {
        let peer = if peer == Endpoint::CLIENTS { self.replicas } else { usize::from(peer.0 / 2) };
        match (twin, self.sides.get(usize::from(own))) {
            (Some(twin), Some(sides)) => sides[peer][twin],
            _ => true,
        }
    }

    /// One of the twins called `own` says something. Whether they contradict each other in it.
    pub(super) fn contradict(&mut self, own: ReplicaId, message: &Message) -> bool {
        let (what, view, sequence, digest) = match message {
            Message::PrePrepare(message) => ("pre-prepare", message.view, message.sequence, message.batch.digest),
            Message::DigestPrePrepare(message) => {
                ("pre-prepare", message.view, message.sequence, message.manifest.digest())
            }
            Message::Prepare(Vote { view, sequence, digest }) => ("prepare", *view, *sequence, *digest),
            Message::Commit(Vote { view, sequence, digest }) => ("commit", *view, *sequence, *digest),
            Message::ViewChange(signed) if signed.content.replica == own => {
                ("view-change", signed.content.view, SequenceNumber(0), signed.content.digest())
            }
            Message::NewView(signed) if signed.signature.is_none() => {
                ("new-view", signed.content.view, SequenceNumber(0), signed.content.digest())
            }
            _ => return false,
        };
        *self.said.entry((own, what, view, sequence)).or_insert(digest) != digest
    }
}
