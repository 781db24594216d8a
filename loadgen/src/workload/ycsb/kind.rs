//! The six core workloads of YCSB and their mixes.

/// A core workload of YCSB (Cooper et al., SoCC'10, table 2; F was added in the project's core workloads).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// Update heavy: half reads, half updates.
    A,
    /// Read mostly: 95 % reads, 5 % updates.
    B,
    /// Read only.
    C,
    /// Read latest: 95 % reads of new records, 5 % inserts.
    D,
    /// Short ranges: 95 % scans, 5 % inserts.
    E,
    /// Read-modify-write: half reads, half read-modify-writes.
    F,
}

/// What an operation of a mix does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

impl Action {
    pub(super) const fn writes(self) -> bool {
        matches!(self, Self::Update | Self::Insert | Self::ReadModifyWrite)
    }
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    /// The mix: the frequent action with its share in percent, and the other one.
    pub(super) const fn mix(self) -> (Action, u32, Action) {
        match self {
            Self::A => (Action::Read, 50, Action::Update),
            Self::B => (Action::Read, 95, Action::Update),
            Self::C => (Action::Read, 100, Action::Read),
            Self::D => (Action::Read, 95, Action::Insert),
            Self::E => (Action::Scan, 95, Action::Insert),
            Self::F => (Action::Read, 50, Action::ReadModifyWrite),
        }
    }
}
