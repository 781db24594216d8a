//! What runs have met: a simulator that finds nothing must show that it looked.

use std::collections::BTreeMap;

/// Why a run's liveness is not judged: progress is promised with f faulty replicas, and plans may take memories
/// besides.
pub const UNJUDGED: &str = "more than f replicas were Byzantine or had lost their votes in the end";

/// What one run met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Messages and replies of Byzantine replicas that were changed, withheld or made up, and what twins said in
    /// contradiction to each other.
    pub lies: u64,
    /// Those of twins.
    pub contradictions: u64,
    /// Requests of faulty clients that no correct client would have sent.
    pub hostile_requests: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Processes that were started again.
    pub restarts: u64,
    /// Those of them that had lost their votes, or a part of them.
    pub forgetful: u64,
    /// Times when all honest processes died at once.
    pub power_failures: u64,
    /// Records that had survived the death of a process in the page cache, not yet synced, when the power failed: what
    /// a recovery that does not sync would have lost.
    pub unsynced_records_lost: u64,
    /// Partitions.
    pub partitions: u64,
    /// Processes that stood still.
    pub pauses: u64,
    /// The highest view that an honest replica entered.
    pub highest_view: u64,
    /// How often honest replicas entered a view other than the first.
    pub views_entered: u64,
    /// View changes of honest replicas that told of something prepared.
    pub prepared_told: u64,
    /// Those of them that told of a sequence number of which the same replica's view change before had told already.
    pub prepared_told_again: u64,
    /// New views that assigned batches of earlier ones again (a set O that is not empty).
    pub reassigning_views: u64,
    /// Null requests that were executed, each counted once.
    pub null_requests: u64,
    /// Frames of correct clients in which requests of several of them were proven as one group.
    pub grouped: u64,
    /// Batches that honest primaries proposed with a part of such a group.
    pub parted: u64,
    /// Batches that honest primaries proposed by digests.
    pub by_digests: u64,
    /// Those that honest primaries sent whole to a replica that lacked some of their requests.
    pub supplied: u64,
    /// Bodies that Byzantine replicas sent to all, before anybody had asked for them.
    pub early_bodies: u64,
    /// Batches that honest replicas executed before they were committed.
    pub tentative: u64,
    /// Those of them that they undid.
    pub rolled_back: u64,
    /// Operations that were complete because a quorum had prepared them.
    pub promised: u64,
    /// How often replicas took over a state.
    pub states_installed: u64,
    /// Those states that came in more than one chunk.
    pub states_of_chunks: u64,
    /// How often an honest replica's log went ahead of the state that it was still fetching.
    pub went_ahead: u64,
    /// Whether liveness was not judged: see [`UNJUDGED`].
    pub unjudged: bool,
    /// From the network's healing until correct clients had their answers and honest replicas had caught up;
    /// `None` if that never came.
    pub recovery_ns: Option<u64>,
    /// The plan's view time-out, to compare that with.
    pub view_timeout_ns: u64,
    /// Reads of correct clients that a quorum answered without ordering them.
    pub reads: u64,
    /// Reads that were ordered after all.
    pub reads_fallen_back: u64,
    /// Results that came as digests.
    pub digests: u64,
    /// Batches of which a digest came in place of the replies.
    pub batch_digests: u64,
    /// Times that clients asked again because nobody had sent the replies to a batch.
    pub missing_replies: u64,
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
    /// Whether a view change was seen.
    #[must_use]
    pub const fn changed_view(&self) -> bool {
        self.highest_view > 0
    }
}
