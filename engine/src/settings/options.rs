//! Run-time options, each written and read as people write it (`ed25519-batch`, `time:100,2ms`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{IN_FLIGHT_MAX, REQUESTS_MAX};
use crate::named::named_enum;

/// An option's value that can not be used: names the option, the value and what is allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{option}: '{value}' is not allowed; allowed: {allowed}")]
pub struct OptionError {
    /// The option's name.
    pub option: &'static str,
    /// What was given.
    pub value: String,
    /// What may be given.
    pub allowed: String,
}

impl OptionError {
    pub(crate) fn new(option: &'static str, value: &str, allowed: impl Into<String>) -> Self {
        Self { option, value: value.to_owned(), allowed: allowed.into() }
    }
}

/// Serialises a type through its `Display` and `FromStr`, so that files and flags share one spelling.
macro_rules! text_serde {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A named enum that is read from its names.
macro_rules! named_option {
    ($(#[$doc:meta])* $name:ident, $option:literal { $($(#[$value_doc:meta])* $value:ident = $text:literal,)* }) => {
        named_enum! { $(#[$doc])* $name { $($(#[$value_doc])* $value = $text,)* } }

        impl FromStr for $name {
            type Err = OptionError;

            fn from_str(text: &str) -> Result<Self, OptionError> {
                Self::ALL.iter().copied().find(|value| value.name() == text)
                    .ok_or_else(|| OptionError::new($option, text, [$($text,)*].join(", ")))
            }
        }

        text_serde!($name);
    };
}

pub(crate) use {named_option, text_serde};

named_option! {
    /// How one class of links proves who sent what.
    Strategy, "authentication" {
        /// Nothing is proven: the crypto-free baseline.
        None = "none",
        /// Authenticators: one keyed BLAKE3 tag (128 bits) for each receiver.
        Mac = "mac",
        /// Ed25519 signatures, verified one by one.
        Ed25519 = "ed25519",
        /// Ed25519 signatures, verified in batches, with a fall-back that finds the bad ones.
        Ed25519Batch = "ed25519-batch",
    }
}

named_option! {
    /// Which backend moves the bytes.
    TransportChoice, "transport" {
        /// `tokio-uring` if a probe shows that it works, else `epoll`.
        Auto = "auto",
        /// `io_uring` by way of `tokio-uring`.
        TokioUring = "tokio-uring",
        /// Readiness by epoll.
        Epoll = "epoll",
    }
}

named_option! {
    /// What a thread does while it has nothing to do.
    WaitChoice, "wait" {
        /// Spin where each thread has a core of its own, else park.
        Auto = "auto",
        /// Poll without pause. Only for threads with a core of their own.
        Spin = "spin",
        /// Poll, giving the core away in between.
        Yield = "yield",
        /// Sleep until woken.
        Park = "park",
    }
}

named_option! {
    /// What a replica makes durable.
    Durability, "durability" {
        /// Nothing: a replica that is started again has forgotten its votes.
        None = "none",
        /// Every vote, before it is sent, in a write-ahead log.
        Wal = "wal",
    }
}

named_option! {
    /// What replicas answer clients (Castro's thesis, section 5.1.1).
    Replies, "replies" {
        /// Every replica sends the result.
        Full = "full",
        /// One replica of each operation sends the result, the others its digest.
        Digest = "digest",
    }
}

named_option! {
    /// How operations that change nothing are done (Castro's thesis, section 5.1.3).
    Reads, "reads" {
        /// As all others are.
        Ordered = "ordered",
        /// At once, by a quorum of replicas that answer alike from what they have executed.
        ReadOnly = "read-only",
    }
}

named_option! {
    /// What to do about a log whose middle is damaged, so that votes may be forgotten.
    OnCorruptLog, "on-corrupt-log" {
        /// Do not start.
        Refuse = "refuse",
        /// Set it aside and start without a vote; the state is fetched from the others.
        Refetch = "refetch",
    }
}

/// The strategies of the three classes of links, cluster-wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authentication {
    /// Requests, client to replica.
    pub clients: Strategy,
    /// Replica to replica.
    pub replicas: Strategy,
    /// Replies, replica to client.
    pub replies: Strategy,
}

impl Authentication {
    /// The names that [`FromStr`] takes.
    pub const PRESETS: &[&str] = &["none", "mac", "ed25519", "ed25519-batch", "hybrid"];
}

impl FromStr for Authentication {
    type Err = OptionError;

    /// A preset: one strategy for every class, or `hybrid`: signed requests (verified in batches), MACs between
    /// replicas and on replies.
    fn from_str(text: &str) -> Result<Self, OptionError> {
        if text == "hybrid" {
            return Ok(Self { clients: Strategy::Ed25519Batch, replicas: Strategy::Mac, replies: Strategy::Mac });
        }
        let strategy: Strategy = text.parse().map_err(|_| OptionError::new("auth", text, Self::PRESETS.join(", ")))?;
        Ok(Self { clients: strategy, replicas: strategy, replies: strategy })
    }
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for preset in Self::PRESETS {
            if preset.parse::<Self>().as_ref() == Ok(self) {
                return f.write_str(preset);
            }
        }
        write!(f, "clients {}, replicas {}, replies {}", self.clients, self.replicas, self.replies)
    }
}

/// When the primary closes a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Batching {
    /// One request a batch.
    None,
    /// `size` requests a batch. A partial batch leaves when no request has joined it for [`FIXED_FLUSH`].
    Fixed {
        /// Requests a batch.
        size: usize,
    },
    /// Up to `size` requests; a partial batch leaves `delay` after its first request arrived.
    Time {
        /// Most requests a batch.
        size: usize,
        /// Longest wait of the first request.
        delay: Duration,
    },
    /// Castro's window rule (thesis, section 5.1.4): propose while fewer than `in_flight` batches are between proposal
    /// and execution; otherwise let requests accumulate, up to `size`. Adapts by itself and needs no timer at low load.
    Adaptive {
        /// Most requests a batch.
        size: usize,
        /// Most batches between proposal and execution.
        in_flight: u64,
    },
}

/// How long a partial batch of [`Batching::Fixed`] waits for another request, so that fewer waiting clients than the
/// batch's size do not hang.
pub const FIXED_FLUSH: Duration = Duration::from_millis(20);

impl Batching {
    /// What [`FromStr`] takes.
    pub const ALLOWED: &str = "none, fixed:N, time:N,DELAY (for example time:100,2ms), adaptive[:MAX[,IN_FLIGHT]] (N, MAX 1 to 4096; IN_FLIGHT 1 to 1024; DELAY 1us to 10s)";

    /// Most requests of a batch.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::None => 1,
            Self::Fixed { size } | Self::Time { size, .. } | Self::Adaptive { size, .. } => size,
        }
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self::Adaptive { size: 1024, in_flight: 8 }
    }
}

impl FromStr for Batching {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let error = || OptionError::new("batch", text, Self::ALLOWED);
        let size = |text: &str| text.parse().ok().filter(|n| (1..=REQUESTS_MAX).contains(n)).ok_or_else(error);
        let (name, arguments) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        match (name, arguments) {
            ("none", None) => Ok(Self::None),
            ("fixed", Some(n)) => Ok(Self::Fixed { size: size(n)? }),
            ("time", Some(rest)) => {
                let (n, delay) = rest.split_once(',').ok_or_else(error)?;
                let delay = humantime::parse_duration(delay).map_err(|_| error())?;
                if delay < Duration::from_micros(1) || delay > Duration::from_secs(10) {
                    return Err(error());
                }
                Ok(Self::Time { size: size(n)?, delay })
            }
            ("adaptive", None) => Ok(Self::default()),
            ("adaptive", Some(rest)) => {
                let (n, in_flight) = rest.split_once(',').map_or((rest, None), |(n, w)| (n, Some(w)));
                let Self::Adaptive { in_flight: default, .. } = Self::default() else { return Err(error()) };
                let in_flight = in_flight.map_or(Ok(default), |w| {
                    w.parse().ok().filter(|w| (1..=IN_FLIGHT_MAX).contains(w)).ok_or_else(error)
                })?;
                Ok(Self::Adaptive { size: size(n)?, in_flight })
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Batching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Fixed { size } => write!(f, "fixed:{size}"),
            Self::Time { size, delay } => write!(f, "time:{size},{}", humantime::format_duration(*delay)),
            Self::Adaptive { size, in_flight } => write!(f, "adaptive:{size},{in_flight}"),
        }
    }
}

text_serde!(Batching);

/// Which stages share a thread, and which core each thread is pinned to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// By the cores that the process may use and how many replicas share the machine.
    #[default]
    Auto,
    /// All stages in one loop on one thread.
    Fused,
    /// Each stage on a thread of its own, unpinned unless there are enough cores; verify as wide as the cores allow.
    Pipelined,
    /// Each stage on a thread pinned to a core: network, order, execute, egress, then one core for each verify stage.
    /// The same core twice fuses the stages on it into one thread.
    Cores(Vec<usize>),
}

impl Placement {
    /// What [`FromStr`] takes.
    pub const ALLOWED: &str =
        "auto, fused, pipelined, or cores as NETWORK,ORDER,EXECUTE,EGRESS,VERIFY[,VERIFY..] (for example 0,1,2,2,3,4)";
}

impl FromStr for Placement {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let error = || OptionError::new("placement", text, Self::ALLOWED);
        match text {
            "auto" => Ok(Self::Auto),
            "fused" => Ok(Self::Fused),
            "pipelined" => Ok(Self::Pipelined),
            cores => {
                let cores: Vec<usize> =
                    cores.split(',').map(|core| core.trim().parse().map_err(|_| error())).collect::<Result<_, _>>()?;
                if cores.len() < 5 || cores.iter().any(|&core| core >= 4096) {
                    return Err(error());
                }
                Ok(Self::Cores(cores))
            }
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fused => f.write_str("fused"),
            Self::Pipelined => f.write_str("pipelined"),
            Self::Cores(cores) => {
                let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
                f.write_str(&cores.join(","))
            }
        }
    }
}

text_serde!(Placement);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_what_they_write() {
        for text in ["none", "fixed:10", "time:100,2ms", "adaptive:512,4"] {
            assert_eq!(text.parse::<Batching>().unwrap().to_string(), text);
        }
        assert_eq!("adaptive".parse::<Batching>().unwrap(), Batching::default());
        for preset in Authentication::PRESETS {
            assert_eq!(preset.parse::<Authentication>().unwrap().to_string(), *preset);
        }
        for text in ["auto", "fused", "pipelined", "0,1,2,2,3,4"] {
            assert_eq!(text.parse::<Placement>().unwrap().to_string(), text);
        }
        assert_eq!("epoll".parse::<TransportChoice>().unwrap(), TransportChoice::Epoll);
    }

    #[test]
    fn errors_name_option_value_and_what_is_allowed() {
        let error = "sha1".parse::<Authentication>().unwrap_err().to_string();
        assert_eq!(error, "auth: 'sha1' is not allowed; allowed: none, mac, ed25519, ed25519-batch, hybrid");
        for text in [
            "fixed",
            "fixed:0",
            "fixed:4097",
            "time:5",
            "time:5,xs",
            "time:5,1h",
            "adaptive:8,0",
            "adaptive:8,1025",
            "none:1",
            "",
        ] {
            let error = text.parse::<Batching>().unwrap_err();
            assert_eq!((error.option, error.value.as_str()), ("batch", text));
        }
        for text in ["", "0,1", "0,1,2,3,x", "0,1,2,3,99999"] {
            assert!(text.parse::<Placement>().is_err(), "{text}");
        }
        assert!("kqueue".parse::<TransportChoice>().is_err());
        assert!("sleep".parse::<WaitChoice>().is_err());
    }
}
