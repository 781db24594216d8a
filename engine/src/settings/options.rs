//! Run-time options, each written and read as people write it (`ed25519-batch`, `time:100,2ms`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use super::transport::{RingOptions, TransportChoice};
use crate::auth::Strategy;
use crate::named::named_enum;
pub use crate::protocol::batching::Batching;

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
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
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
    /// How requests get to the replicas.
    Dissemination, "dissemination" {
        /// Clients send them to the primary, whose pre-prepares carry them whole.
        Inline = "inline",
        /// Clients send them to all replicas; pre-prepares carry their digests (Castro & Liskov, TOCS'02, section
        /// 5.1.5).
        Digest = "digest",
    }
}

named_option! {
    /// What one authenticator of a client node covers.
    Granularity, "auth-granularity" {
        /// One request.
        Request = "request",
        /// A group of up to 64 requests that follow each other in a frame.
        Frame = "frame",
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
    /// Who sends results (Castro's thesis, section 5.1.1, for `digest`; `protocol::client::batches` for the default).
    Replies, "replies" {
        /// One replica sends the replies to a batch, the others one digest of them.
        BatchDigest = "batch-digest",
        /// Every replica sends the result.
        Full = "full",
        /// One replica of each operation sends the result, the others its digest.
        Digest = "digest",
    }
}

named_option! {
    /// When replicas execute a batch (Castro & Liskov, OSDI'99, section 5.1; TOCS'02, section 5.1.2).
    ExecutionChoice, "execution" {
        /// Once it is committed.
        Committed = "committed",
        /// Once it is prepared: a message delay earlier, by clients that wait for Q replies, and undone if a view
        /// change decides otherwise.
        Tentative = "tentative",
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

/// Strategies that go well together: name, and those of requests, between replicas and of replies.
const MIXTURES: &[(&str, [&str; 3])] = &[("hybrid", ["ed25519-batch", "mac", "mac"])];

impl Authentication {
    /// One strategy for every class of links.
    #[must_use]
    pub const fn all(strategy: Strategy) -> Self {
        Self { clients: strategy, replicas: strategy, replies: strategy }
    }

    /// The names of presets: those of all strategies, each for every class of links, and those of mixtures.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        Strategy::all().map(Strategy::name).chain(MIXTURES.iter().map(|(name, _)| *name))
    }

    /// The strategy of each class of links.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("clients {}, replicas {}, replies {}", self.clients, self.replicas, self.replies)
    }

    /// What [`FromStr`] takes.
    #[must_use]
    pub fn allowed() -> String {
        MIXTURES.iter().fold(Strategy::allowed(), |allowed, (name, _)| allowed + ", " + name)
    }
}

impl FromStr for Authentication {
    type Err = OptionError;

    /// A preset: one strategy for every class, or `hybrid`: signed requests (verified in batches), MACs between
    /// replicas and on replies.
    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mixture = MIXTURES.iter().find(|(name, _)| *name == text);
        let [clients, replicas, replies] = mixture.map_or([text; 3], |(_, strategies)| *strategies);
        let strategy = |name| Strategy::named(name).ok_or_else(|| OptionError::new("auth", text, Self::allowed()));
        Ok(Self { clients: strategy(clients)?, replicas: strategy(replicas)?, replies: strategy(replies)? })
    }
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for preset in Self::presets() {
            if preset.parse::<Self>().as_ref() == Ok(self) {
                return f.write_str(preset);
            }
        }
        f.write_str(&self.in_words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_what_they_write() {
        for preset in Authentication::presets() {
            assert_eq!(preset.parse::<Authentication>().unwrap().to_string(), preset);
        }
        assert_eq!("mac-blake3".parse::<Authentication>().unwrap().to_string(), "mac", "an alias is read only");
        assert_eq!("mac".parse::<Authentication>().unwrap(), Authentication::all(Strategy::MAC));
    }

    #[test]
    fn errors_name_option_value_and_what_is_allowed() {
        let error = "sha1".parse::<Authentication>().unwrap_err().to_string();
        let allowed = "none, mac (or mac-blake3), mac-hmac-sha256, mac-gmac, ed25519, ed25519-batch, \
                       ed25519-zip215-batch, ed25519-merkle, mac-siphash, hybrid"; // mac-siphash is registered in these tests alone
        assert_eq!(error, format!("auth: 'sha1' is not allowed; allowed: {allowed}"));
        let error = "hybrid".parse::<Strategy>().unwrap_err();
        assert_eq!((error.option, format!("{}, hybrid", error.allowed)), ("authentication", allowed.to_owned()));
        assert!("sleep".parse::<WaitChoice>().is_err());
    }
}
