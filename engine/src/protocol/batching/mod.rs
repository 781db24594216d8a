//! Batching strategies: when the primary closes a batch, and of how many requests.
//!
//! The `queue` holds what waits; a strategy's [`Policy`] decides when some of it leaves. A strategy is one file of this
//! folder and one line of the registry below: options, help, simulator, fuzzing and tests take it from there, and the
//! conformance suite (`engine/src/protocol/pbft/tests/batching.rs`) runs over it.
//!
//! Policies are as pure as the protocol core that they are part of: time is an argument, and nothing is drawn.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::OPERATIONS_BYTES_MAX;
use crate::settings::options::{OptionError, text_serde};
use crate::types::{SequenceNumber, Time};

mod arguments;
pub(super) mod queue;

/// Makes modules of the strategies' files, and the list of what they offer.
macro_rules! registry {
    ($($(#[$attribute:meta])* $module:ident,)*) => {
        $($(#[$attribute])* mod $module;)*

        /// Every strategy, in the order in which documents list them.
        pub static STRATEGIES: &[Strategy] = &[$($(#[$attribute])* $module::STRATEGY,)*];
    };
}

registry! {
    none,
    fixed,
    time,
    adaptive,
    latency_target,
    #[cfg(test)] half, // the example of CONTRIBUTING.md
}

/// The one that is used where nothing else is said.
const DEFAULT: &str = "adaptive";

/// What a strategy's file offers.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    /// Its name, which an option's value begins with.
    pub name: &'static str,
    /// How it is written, arguments and all. Those between brackets may be left out.
    pub usage: &'static str,
    /// What its arguments may be; empty if it has none.
    pub allowed: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Values that between them show what it can do with few clients. Tests, the simulator and fuzzing use them.
    pub samples: &'static [&'static str],
    /// Reads its arguments, which are what stands behind the colon, at commas. `None` if they are not allowed.
    pub parse: fn(arguments: &[&str]) -> Option<Box<dyn Policy>>,
}

/// What decides when a batch closes, and of how many requests. Its `Display` writes it as it is read.
///
/// There is one for each view that this replica is the primary of, a copy of what was read from the option: what it
/// learns ends with the view.
pub trait Policy: fmt::Debug + fmt::Display + Fresh + Send + Sync {
    /// What is to happen now. Asked whenever that may have changed: requests arrived, a batch was executed, the low
    /// watermark rose, or the time of an earlier [`Decision::At`] has come; and again after each batch, while anything
    /// waits and the high watermark allows.
    fn decide(&self, waiting: &Waiting) -> Decision;

    /// Most requests that it ever lets into a batch, at most [`REQUESTS_MAX`](crate::limits::REQUESTS_MAX).
    fn requests_max(&self) -> usize;

    /// Most batches that it ever lets be between proposal and execution; the window bounds them too.
    fn in_flight_max(&self) -> u64 {
        u64::MAX
    }

    /// The longest that it keeps the oldest request waiting while no batch is in flight. While one is, a policy may
    /// wait for its execution. So nothing waits for ever as long as batches are executed.
    fn hold(&self) -> Duration;

    /// One of its batches was executed.
    fn on_executed(&mut self, executed: &Executed) {
        let _ = executed;
    }
}

/// What a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A batch closes now, of what has waited longest.
    Close {
        /// Most requests of it, at least 1.
        requests_max: usize,
    },
    /// Nothing leaves yet. Unless something else happens before, the policy is asked again then: later than now.
    At(Time),
    /// Nothing leaves before another request arrives or another batch is executed. Only while batches are in flight.
    Wait,
}

/// What waits at the primary, at least one request, and what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The time.
    pub now: Time,
    /// How many requests wait, at least 1.
    pub requests: usize,
    /// Bytes of their operations.
    pub operation_bytes: usize,
    /// When the one that has waited longest arrived.
    pub oldest: Time,
    /// When the newest arrived.
    pub newest: Time,
    /// The sequence number that the next batch gets.
    pub next: SequenceNumber,
    /// Up to here all batches are executed.
    pub executed: SequenceNumber,
}

impl Waiting {
    /// How many sequence numbers are between proposal and execution.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.next.0.saturating_sub(1).saturating_sub(self.executed.0)
    }

    /// Whether what waits is enough for a batch of `requests`, or for one of the most bytes.
    #[must_use]
    pub const fn fills(&self, requests: usize) -> bool {
        self.requests >= requests || self.operation_bytes >= OPERATIONS_BYTES_MAX
    }
}

/// A batch that was executed. Times are those of its oldest request, which of all its requests spent longest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The time.
    pub now: Time,
    /// Where it is in the order.
    pub sequence: SequenceNumber,
    /// How many requests it had, at least 1.
    pub requests: usize,
    /// When its oldest request arrived.
    pub arrived: Time,
    /// When it was proposed.
    pub proposed: Time,
}

impl Executed {
    /// From the arrival of its oldest request to its execution, ns.
    #[must_use]
    pub const fn total_ns(&self) -> u64 {
        self.now.since(self.arrived)
    }

    /// The part of that before it was proposed, ns.
    #[must_use]
    pub const fn waited_ns(&self) -> u64 {
        self.proposed.since(self.arrived)
    }
}

/// Copies a policy. Every policy that is `Clone` has it.
pub trait Fresh {
    /// A copy.
    fn fresh(&self) -> Box<dyn Policy>;
}

impl<T: Policy + Clone + 'static> Fresh for T {
    fn fresh(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// When the primary closes a batch, as an option has it: a strategy and its arguments, checked.
#[derive(Clone, Debug)]
pub struct Batching(Arc<dyn Policy>);

impl Batching {
    /// A policy to begin a view with.
    #[must_use]
    pub fn policy(&self) -> Box<dyn Policy> {
        self.0.fresh()
    }

    /// Most requests in a batch.
    #[must_use]
    pub fn requests_max(&self) -> usize {
        self.0.requests_max()
    }

    /// Most batches between proposal and execution, the window apart.
    #[must_use]
    pub fn in_flight_max(&self) -> u64 {
        self.0.in_flight_max()
    }

    /// A policy that is in no registry.
    #[cfg(test)]
    pub(super) fn of(policy: impl Policy + 'static) -> Self {
        Self(Arc::new(policy))
    }

    /// The samples of all strategies.
    pub fn samples() -> impl Iterator<Item = Self> {
        let texts = STRATEGIES.iter().flat_map(|strategy| strategy.samples);
        texts.map(|text| text.parse().expect("tests read all samples"))
    }

    /// How each strategy is written, in a row.
    #[must_use]
    pub fn usage() -> String {
        let usages: Vec<&str> = STRATEGIES.iter().map(|strategy| strategy.usage).collect();
        usages.join(", ")
    }

    /// What [`FromStr`] takes, strategy by strategy, each with what it does and what its arguments may be.
    #[must_use]
    pub fn help() -> String {
        let line = |strategy: &Strategy| match strategy.allowed {
            "" => format!("`{}`: {}.", strategy.usage, strategy.summary),
            allowed => format!("`{}`: {}. {allowed}.", strategy.usage, strategy.summary),
        };
        STRATEGIES.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Default for Batching {
    fn default() -> Self {
        DEFAULT.parse().expect("the default is a strategy")
    }
}

impl FromStr for Batching {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let (name, arguments) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let Some(strategy) = STRATEGIES.iter().find(|strategy| strategy.name == name) else {
            return Err(OptionError::new("batch", text, Self::usage()));
        };
        let arguments: Vec<&str> = arguments.map(|rest| rest.split(',').collect()).unwrap_or_default();
        let policy = (strategy.parse)(&arguments).ok_or_else(|| {
            let arguments = if strategy.allowed.is_empty() { "no arguments" } else { strategy.allowed };
            OptionError::new("batch", text, format!("{} ({arguments})", strategy.usage))
        })?;
        Ok(Self(policy.into()))
    }
}

impl fmt::Display for Batching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Batching {
    /// Policies that are written alike are alike, as long as they have learned nothing, which one in here does not.
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Batching {}

text_serde!(Batching);

#[cfg(test)]
mod service;
#[cfg(test)]
mod tests;
