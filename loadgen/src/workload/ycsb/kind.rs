//! The six core workloads of YCSB and their mixes.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

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

/// A name that is no workload's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "workload = {0}: allowed: ycsb-a (50 % reads, 50 % updates), ycsb-b (95/5), ycsb-c (reads only), ycsb-d (95 % reads of the latest, 5 % inserts), \
     ycsb-e (95 % scans, 5 % inserts), ycsb-f (50 % reads, 50 % read-modify-writes); the letter alone will do"
)]
pub struct UnknownWorkload(pub String);

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

    /// The letter.
    const fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
            Self::C => 'c',
            Self::D => 'd',
            Self::E => 'e',
            Self::F => 'f',
        }
    }

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

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ycsb-{}", self.letter())
    }
}

impl FromStr for WorkloadKind {
    type Err = UnknownWorkload;

    fn from_str(text: &str) -> Result<Self, UnknownWorkload> {
        let name = text.to_ascii_lowercase();
        let letter = name.strip_prefix("ycsb-").unwrap_or(&name);
        let found = Self::ALL.into_iter().find(|kind| letter.chars().eq([kind.letter()]));
        found.ok_or_else(|| UnknownWorkload(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_what_they_write() {
        for kind in WorkloadKind::ALL {
            let name = kind.to_string();
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(name[5..].parse(), Ok(kind));
            assert_eq!(name.to_uppercase().parse(), Ok(kind));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        for name in ["", "g", "ycsb-", "ycsb-aa", "null"] {
            let error = name.parse::<WorkloadKind>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("workload = {name}:")) && error.contains("ycsb-a") && error.contains("ycsb-f")
            );
        }
    }
}
