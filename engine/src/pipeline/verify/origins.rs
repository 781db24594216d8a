//! What peers pass on with its origin's signature, view-changes and new-views: signed in every mode, so that each costs
//! as much as dozens of messages. What was verified last of an origin is known when it comes again, and of the rest
//! each sender has only so many verified.

use std::collections::HashMap;

use crate::auth::Verifier;
use crate::types::{NodeId, ReplicaId, Time};
use crate::wire::Origin;

/// A sender earns as many verifications as there are messages in one view change in so long.
const EARN_NS: u64 = 100_000_000;
/// It saves up those of so many view changes.
const SAVED_MAX: u64 = 4;

/// What was verified, and what senders may still have verified.
#[derive(Debug)]
pub(super) struct Origins {
    /// The last that proved itself, by origin and kind.
    proven: HashMap<(NodeId, u8), Origin>,
    /// By sender: when all that it has had verified will have been earned (Turner, 1986: a leaky bucket as one time).
    earned_at: Vec<Time>,
    cost_ns: u64,
}

impl Origins {
    /// Nothing was said yet by any of `replicas`.
    pub(super) fn new(replicas: usize) -> Self {
        Self {
            proven: HashMap::new(),
            earned_at: vec![Time(0); replicas],
            // A view-change of each and the new-view.
            cost_ns: EARN_NS / (replicas as u64 + 1),
        }
    }

    /// Whether the origin has said what `sender` passes on.
    ///
    /// # Errors
    /// The reason for refusing it: it has not, or the sender has had too many verified.
    pub(super) fn check(
        &mut self,
        now: Time,
        sender: ReplicaId,
        origin: &Origin,
        verifier: &Verifier,
    ) -> Result<(), &'static str> {
        let key = (origin.signer, origin.block.0[0]);
        if self.proven.get(&key) == Some(origin) {
            return Ok(());
        }
        let earned_at = &mut self.earned_at[usize::from(sender.0)];
        if *earned_at > now.after(SAVED_MAX * EARN_NS) {
            return Err("too_many_signed_messages");
        }
        *earned_at = (*earned_at).max(now).after(self.cost_ns);
        if !verifier.is_origin(origin) {
            return Err("bad_origin_signature");
        }
        self.proven.insert(key, origin.clone());
        Ok(())
    }
}
