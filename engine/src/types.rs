//! The vocabulary of the protocol as types: identifiers, positions, digests and time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zerocopy::{Immutable, IntoBytes};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// A node of the cluster file: a replica or a load generator. Replicas come first, so the node with number i < n is
    /// replica i.
    NodeId(u16)
}
number! {
    /// A replica's index, 0 to n − 1.
    ReplicaId(u16)
}
number! {
    /// A logical client, numbered densely over the whole cluster: each client node owns one contiguous range (see
    /// [`crate::settings::ClusterFile`]), so tables of clients are arrays.
    ClientId(u32)
}
number! {
    /// A client's operation counter: strictly increasing for each logical client, starting at 1 (PBFT's request
    /// timestamp).
    Timestamp(u64)
}
number! {
    /// A view. Its primary is replica `view mod n`.
    View(u64)
}
number! {
    /// A position in the total order. The first batch has sequence number 1; 0 is the initial stable checkpoint.
    SequenceNumber(u64)
}
number! {
    /// Nanoseconds since the process's own epoch (monotonic). The protocol core never reads a clock: time is an
    /// argument.
    Time(u64)
}

impl NodeId {
    /// The node that a replica is.
    #[must_use]
    pub const fn of(replica: ReplicaId) -> Self {
        Self(replica.0)
    }
}

impl View {
    /// The primary of this view among `n` replicas (Castro & Liskov, OSDI'99, section 4).
    #[must_use]
    pub const fn primary(self, n: usize) -> ReplicaId {
        #[allow(clippy::cast_possible_truncation, reason = "n <= REPLICAS_MAX, so the remainder fits")]
        ReplicaId((self.0 % n as u64) as u16)
    }
}

impl SequenceNumber {
    /// The next sequence number. Saturates: a run never gets near the end.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Time {
    /// This time plus `nanos` nanoseconds, saturating.
    #[must_use]
    pub const fn after(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// This time plus `duration`, saturating.
    #[must_use]
    pub const fn after_duration(self, duration: Duration) -> Self {
        self.after(nanos(duration))
    }

    /// Nanoseconds from `earlier` to this time, 0 if it lies after.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A duration in the unit of [`Time`], ns, saturating at some centuries.
#[must_use]
pub const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    #[allow(clippy::cast_possible_truncation, reason = "compared before")]
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

/// A 256-bit BLAKE3 digest.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Immutable, IntoBytes)]
#[repr(transparent)] // a column of them is hashed as it lies in memory
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}..)", hex::encode(&self.0[..4]))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}
