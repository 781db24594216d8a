//! Bugs planted on purpose, one for each class of mistake that implementations of the protocol are known for.
//!
//! The simulator switches one on at run time, in its own replicas, to show that it finds it: a simulator is worth what
//! it finds (`hippodrome sim --mutants`, `--planted`). Nothing that a replica's process can be given reaches this: no
//! setting, option or message.

use crate::named::named_enum;

named_enum! {
    /// A planted bug.
    Planted {
        /// A quorum is taken to be one smaller than it is.
        QuorumOffByOne = "quorum-off-by-one",
        /// Sequence numbers outside the window are accepted.
        WatermarkUnchecked = "watermark-unchecked",
        /// A view-change tells nothing of what was prepared.
        PreparedStateDropped = "prepared-state-dropped",
        /// A request that comes twice is executed twice.
        DuplicateExecution = "duplicate-execution",
        /// A vote that comes twice counts twice.
        VoteCountedTwice = "vote-counted-twice",
        /// Votes of an earlier view count in a later one.
        StaleCertificate = "stale-certificate",
        /// One replica's word is enough for the digest of a fetched state.
        CheckpointLie = "checkpoint-lie",
        /// Replicas differ in which signatures they accept.
        SignatureRules = "signature-rules",
        /// A prepare from the primary counts, beside its pre-prepare.
        PrimaryPrepares = "primary-prepares",
        /// A commit is sent before the batch is prepared.
        CommitUnprepared = "commit-unprepared",
        /// A vote is sent before it is durable.
        VoteBeforeDurable = "vote-before-durable",
        /// What outlived its process in the page cache is taken for durable when the log is read again.
        RecoveredUnsynced = "recovered-unsynced",
        /// A body is taken for the one that was announced because its client and timestamp are the same.
        BodyByTimestamp = "body-by-timestamp",
        /// A read-only request is complete with f + 1 equal replies.
        ReadQuorumWeak = "read-quorum-weak",
        /// Where there are read-only requests, an operation is complete with f + 1 equal replies.
        WriteQuorumWeak = "write-quorum-weak",
        /// An operation is complete with f + 1 tentative replies.
        TentativeQuorumWeak = "tentative-quorum-weak",
        /// One replica's word is enough for the replies to a batch.
        BatchQuorumWeak = "batch-quorum-weak",
        /// What was executed tentatively is not undone in the application.
        RollBackForgotten = "roll-back-forgotten",
        /// The view timer is never started, so a faulty primary stays.
        TimerForgotten = "timer-forgotten",
    }
}
