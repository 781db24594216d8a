//! What runs have met: a simulator that finds nothing must show that it looked.

use std::collections::BTreeMap;

use crate::plan::Plan;

/// What one run met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Replicas.
    pub replicas: usize,
    /// Whether a replica misbehaved or was a pair of twins.
    pub byzantine: bool,
    /// Whether one was a pair of twins.
    pub twins: bool,
    /// Whether clients misbehaved.
    pub hostile: bool,
    /// Processes that died.
    pub crashes: u64,
    /// Processes that were started again.
    pub restarts: u64,
    /// Those of them that had lost their memory.
    pub forgetful: u64,
    /// Times when all correct processes died at once.
    pub power_failures: u64,
    /// Partitions.
    pub partitions: u64,
    /// Processes that stood still.
    pub pauses: u64,
    /// The highest view that an honest replica entered.
    pub highest_view: u64,
    /// How often honest replicas entered a view other than the first.
    pub views_entered: u64,
    /// How often replicas took over a state.
    pub states_installed: u64,
    /// Operations of correct clients.
    pub operations: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Events in all.
    pub events: u64,
    /// How long it took, in the simulated world.
    pub virtual_ns: u64,
    /// What replicas ignored, by reason.
    pub ignored: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self {
            replicas: plan.replicas,
            byzantine: !plan.faulty.is_empty(),
            twins: plan.faulty.iter().any(|faulty| faulty.twins),
            hostile: !plan.hostile.is_empty(),
            ..Self::default()
        }
    }

    /// Whether a view-change was seen.
    #[must_use]
    pub const fn changed_view(&self) -> bool {
        self.highest_view > 0
    }
}
