//! Who is to misbehave, as people write it: `3:silent,3:flood` and `replays,garbage`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use hippodrome_engine::byzantine::Kind;
use hippodrome_loadgen::hostile;
use serde::{Serialize, Serializer};

/// Which replicas misbehave, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Byzantine(Vec<(u16, Kind)>);

impl Byzantine {
    /// Each faulty replica with all of its kinds, in order of their ids.
    pub(crate) fn replicas(&self) -> BTreeMap<u16, Vec<Kind>> {
        let mut replicas: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for (id, kind) in &self.0 {
            replicas.entry(*id).or_default().push(*kind);
        }
        replicas
    }

    /// Lets a replica misbehave in these ways too. What is said twice counts once.
    pub(crate) fn add(&mut self, id: u16, kinds: impl IntoIterator<Item = Kind>) {
        for kind in kinds {
            if !self.0.contains(&(id, kind)) {
                self.0.push((id, kind));
            }
        }
    }

    /// How this replica misbehaves: `silent,flood`; `None` if it does not.
    pub(crate) fn of(&self, id: u16) -> Option<String> {
        self.replicas().get(&id).map(|kinds| list(kinds))
    }
}

impl FromStr for Byzantine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |text: &str| {
            let (id, kind) = text.split_once(':').ok_or_else(|| format!("'{text}': allowed: ID:KIND[,ID:KIND..]"))?;
            let id = id.trim().parse().map_err(|_| format!("'{id}': allowed: a replica's number"))?;
            Ok((id, kind.trim().parse::<Kind>().map_err(|error| error.to_string())?))
        };
        text.split(',').map(one).collect::<Result<_, String>>().map(Self)
    }
}

impl fmt::Display for Byzantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(id, kind)| format!("{id}:{kind}")).collect();
        f.write_str(&parts.join(","))
    }
}

impl Serialize for Byzantine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hostile clients, each a client node of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hostile(pub(crate) Vec<hostile::Kind>);

impl FromStr for Hostile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|kind| kind.trim().parse()).collect::<Result<_, String>>().map(Self)
    }
}

impl fmt::Display for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&list(&self.0))
    }
}

impl Serialize for Hostile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn list(kinds: &[impl fmt::Display]) -> String {
    kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_what_they_write() {
        for text in ["3:silent", "3:silent,5:flood,3:random"] {
            assert_eq!(text.parse::<Byzantine>().unwrap().to_string(), text);
        }
        let byzantine: Byzantine = "3:silent, 5:flood,3:random".parse().unwrap();
        assert_eq!(byzantine.of(3).unwrap(), "silent,random");
        assert_eq!((byzantine.of(4), byzantine.replicas().len()), (None, 2));
        assert_eq!("replays,half-open".parse::<Hostile>().unwrap().to_string(), "replays,half-open");
    }

    #[test]
    fn errors_name_what_is_wrong_and_what_is_allowed() {
        for (text, part) in [
            ("silent", "'silent': allowed: ID:KIND"),
            ("x:silent", "'x': allowed: a replica's number"),
            ("3:evil", "'evil' is not allowed; allowed: silent, slow"),
            ("", "allowed: ID:KIND"),
        ] {
            let error = text.parse::<Byzantine>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!("".parse::<Hostile>().unwrap_err().contains("allowed: bad-signatures"));
    }
}
