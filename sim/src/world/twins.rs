//! Twins: two correct copies of one replica that share its identity, each heard by a part of the others (Bano et al.,
//! "Twins: BFT systems made robust", OPODIS'21).

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
}

impl Twins {
    pub(super) fn new(plan: &Plan) -> Self {
        let any = plan.faulty.iter().any(|faulty| faulty.twins);
        let random = Random::new(plan.seed, "twins", 0);
        Self { any, replicas: plan.replicas, random, sides: Vec::new() }
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
}
