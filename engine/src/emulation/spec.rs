//! The emulated network as people describe it: a preset, a TOML file, or a few values in one line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::emulation::emulator::OutgoingLinks;
use crate::emulation::model::LinkModel;
use crate::limits::{LINK_DELAY_MAX, REGIONS_MAX};
use crate::settings::OptionError;
use crate::types::NodeId;

/// What is wrong with the description of a network.
#[derive(Debug, Error)]
pub enum SpecError {
    /// A value of the line can not be used.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// It names neither a preset nor a file that can be read.
    #[error("network = {name}: allowed: {}, a TOML file ({error}), or values: {}", presets().join(", "), LinkModel::ALLOWED)]
    Unknown {
        /// What was given.
        name: String,
        /// Why it is no file.
        error: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        error: String,
    },
    /// A value of the file is out of its range.
    #[error("{key} = {value}: allowed: {allowed}")]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What may be given.
        allowed: String,
    },
}

/// An emulated network: what every link does, and how far apart regions are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSpec {
    /// What it is called: the preset's or, unless it says otherwise, the file's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where its numbers come from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// When they were measured.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub measured: String,
    /// What every link does, whatever the regions at its ends.
    pub link: LinkModel,
    /// Of all that is random; each process draws its own numbers from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// The regions' names, in the order of the rows and columns of `round_trip_ms`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// The region of each node, replicas first, then load generators; again from the front when there are more nodes.
    /// Empty: all regions in turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Whether `round_trip_ms` says the same in both directions, which is checked.
    pub symmetric: bool,
    /// Milliseconds there and back again. A frame from the row's region to the column's takes half of it, which is
    /// added to the delay of `link`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub round_trip_ms: Vec<Vec<f64>>,
    /// Links that differ, in this order.
    #[serde(rename = "override", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
}

/// Links, by the nodes at their ends, that differ from the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    /// From these nodes; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<NodeId>>,
    /// To these nodes; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<NodeId>>,
    /// Values that differ.
    pub link: String,
}

macro_rules! presets {
    ($($name:literal),*) => { &[$(($name, include_str!(concat!("presets/", $name, ".toml")))),*] };
}

/// The shipped networks: name and TOML.
const PRESETS: &[(&str, &str)] = presets!["lan", "lossy-lan", "wan-aws-5", "wan-eu", "wan-us"];
/// A network that does nothing.
const NONE: &str = "none";

/// The names of the shipped networks.
#[must_use]
pub fn presets() -> Vec<&'static str> {
    std::iter::once(NONE).chain(PRESETS.iter().map(|(name, _)| *name)).collect()
}

impl NetworkSpec {
    /// Reads `[PRESET|FILE][,KEY=VALUE..]`: values change what every link of the preset or file does.
    ///
    /// # Errors
    /// Names what can not be used, and what is allowed.
    pub fn open(text: &str) -> Result<Self, SpecError> {
        let (name, values) = match text.split_once(',') {
            // A file's name may hold anything.
            _ if Path::new(text).is_file() => (Some(text), ""),
            Some((first, rest)) if !first.contains('=') => (Some(first), rest),
            None if !text.contains('=') => (Some(text), ""),
            _ => (None, text),
        };
        let mut spec = name.map_or_else(|| Ok(Self::default()), |name| Self::named(name.trim()))?;
        spec.link = spec.link.with(values)?;
        Ok(spec)
    }

    fn named(name: &str) -> Result<Self, SpecError> {
        if name == NONE {
            return Ok(Self::default());
        }
        if let Some((name, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) {
            let spec = Self { name: (*name).to_owned(), ..Self::parse(text, Path::new(name))? };
            return Ok(spec);
        }
        let text =
            std::fs::read_to_string(name).map_err(|error| SpecError::Unknown { name: name.to_owned(), error })?;
        let mut spec = Self::parse(&text, Path::new(name))?;
        if spec.name.is_empty() {
            spec.name = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        Ok(spec)
    }

    /// Reads and checks the text of the TOML file at `path`.
    ///
    /// # Errors
    /// Names the file, and the key or value that can not be used.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SpecError> {
        let file = |error: String| SpecError::File { path: path.to_owned(), error };
        let spec: Self = toml::from_str(text).map_err(|error| file(error.to_string()))?;
        spec.validate().map_err(|error| file(error.to_string()))?;
        Ok(spec)
    }

    /// The file's text.
    ///
    /// # Panics
    /// Never: every field has a TOML form.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a network serialises")
    }

    fn validate(&self) -> Result<(), SpecError> {
        let value = |key: String, value: String, allowed: String| Err(SpecError::Value { key, value, allowed });
        let count = self.regions.len();
        if count > REGIONS_MAX {
            return value("regions".into(), format!("{count} of them"), format!("at most {REGIONS_MAX}"));
        }
        let rows = self.round_trip_ms.len();
        if rows != count || self.round_trip_ms.iter().any(|row| row.len() != count) {
            let allowed = format!("one row and one column for each of the {count} regions");
            return value("round_trip_ms".into(), format!("{rows} rows"), allowed);
        }
        for (from, row) in self.round_trip_ms.iter().enumerate() {
            for (to, ms) in row.iter().enumerate() {
                let key = || format!("round_trip_ms from {} to {}", self.regions[from], self.regions[to]);
                // Not "ms > max": that would let through what is no number.
                if !(0.0..=2e3 * LINK_DELAY_MAX.as_secs_f64()).contains(ms) {
                    return value(key(), ms.to_string(), "0 to 120000".into());
                }
                let back = self.round_trip_ms[to][from];
                if self.symmetric && ms.to_bits() != back.to_bits() {
                    return value(key(), ms.to_string(), format!("{back}, as back, in a symmetric network"));
                }
            }
        }
        if let Some(region) = self.nodes.iter().find(|region| !self.regions.contains(region)) {
            return value("nodes".into(), region.clone(), self.regions.join(", "));
        }
        for changed in &self.overrides {
            LinkModel::CLEAR.with(&changed.link)?;
        }
        Ok(())
    }

    /// Checks what only the size of the cluster tells.
    ///
    /// # Errors
    /// If it names a node that is not there.
    pub fn check(&self, nodes: usize) -> Result<(), SpecError> {
        let named = self.overrides.iter().flat_map(|changed| changed.from.iter().chain(&changed.to)).flatten();
        match named.into_iter().find(|node| usize::from(node.0) >= nodes) {
            None => Ok(()),
            Some(node) => Err(SpecError::Value {
                key: "override".into(),
                value: format!("node {node}"),
                allowed: format!("nodes 0 to {}", nodes.saturating_sub(1)),
            }),
        }
    }

    /// Whether it does nothing at all.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.link.is_clear() && self.round_trip_ms.is_empty() && self.overrides.is_empty()
    }

    /// The region of a node, if there are regions.
    #[must_use]
    pub fn region_of(&self, node: NodeId) -> Option<&str> {
        let regions = if self.nodes.is_empty() { &self.regions } else { &self.nodes };
        let region = regions.get(usize::from(node.0).checked_rem(regions.len())?)?;
        Some(region)
    }

    /// What the links of one node to each of `nodes` nodes do.
    #[must_use]
    pub fn links(&self, own: NodeId, nodes: usize, seed: u64) -> OutgoingLinks {
        let models = (0u16..).take(nodes).map(|to| self.link(own, NodeId(to))).collect();
        OutgoingLinks { own, models, seed: self.seed.map_or(seed, u64::from) }
    }

    /// What the link from one node to another does.
    #[must_use]
    pub fn link(&self, from: NodeId, to: NodeId) -> LinkModel {
        let mut model = self.link;
        model.delay = model.delay.saturating_add(self.one_way(from, to));
        for changed in &self.overrides {
            let concerns = |nodes: &Option<Vec<NodeId>>, node| nodes.as_ref().is_none_or(|nodes| nodes.contains(&node));
            if concerns(&changed.from, from) && concerns(&changed.to, to) {
                // Checked when it was read.
                model = model.with(&changed.link).unwrap_or(model);
            }
        }
        model
    }

    fn one_way(&self, from: NodeId, to: NodeId) -> Duration {
        let index = |node| {
            let region = self.region_of(node)?;
            self.regions.iter().position(|name| name == region)
        };
        let ms = index(from).zip(index(to)).and_then(|(from, to)| self.round_trip_ms.get(from)?.get(to));
        // Whole microseconds read well, and no measurement is finer.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked when it was read")]
        ms.map_or(Duration::ZERO, |ms| Duration::from_micros((ms * 500.0).round() as u64))
    }
}

impl fmt::Display for NetworkSpec {
    /// In one line, for reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clear() {
            return f.write_str(NONE);
        }
        let mut parts = Vec::new();
        if !self.name.is_empty() {
            parts.push(self.name.clone());
        }
        if !self.regions.is_empty() {
            let ways = self.round_trip_ms.iter().enumerate();
            let apart = ways.flat_map(|(from, row)| row.iter().enumerate().filter(move |(to, _)| *to != from));
            let apart: Vec<f64> = apart.map(|(_, ms)| ms / 2.0).collect();
            let (least, most) =
                (apart.iter().copied().fold(f64::MAX, f64::min), apart.iter().copied().fold(0.0, f64::max));
            parts.push(match apart.len() {
                0 => format!("1 region ({})", self.regions[0]),
                _ => format!("{} regions {least:.1} to {most:.1} ms apart", self.regions.len()),
            });
        }
        if !self.link.is_clear() {
            parts.push(format!("every link {}", self.link));
        }
        if !self.overrides.is_empty() {
            parts.push(format!("{} overrides", self.overrides.len()));
        }
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests;
