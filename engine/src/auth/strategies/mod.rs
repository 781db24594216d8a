//! The authentication strategies: each is a file of its own here, and one line of the list below.
//!
//! A file says everything that there is to know of its strategy ([`About`]) and makes the two things that do the work:
//! what seals ([`Seal`]) and what judges ([`Judge`]). They are made once for a node and a class of links, so that a
//! strategy is chosen once for a frame or a table of requests, never for a request. Two families take most of the work
//! off a file: [`shared_key`] for tags that one receiver can check, [`signed`] for signatures that convince everybody.
//! What every strategy must do, `conformance` tests, for whatever is registered. CONTRIBUTING.md shows how to add one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use super::signature::Effort;
use super::{AuthBlock, Check, Keyring, Part, RequestChecks};
use crate::settings::OptionError;
use crate::settings::options::text_serde;
use crate::types::NodeId;

pub mod by_signer;
pub mod shared_key;
pub mod signed;

/// Declares each file and lists what it defines.
macro_rules! register {
    ($($(#[$when:meta])* $file:ident,)*) => {
        $($(#[$when])* pub mod $file;)*

        static REGISTRY: &[&dyn Definition] = &[$($(#[$when])* &$file::STRATEGY,)*];
    };
}

// In the order in which people are told of them.
register! {
    none,
    mac_blake3,
    mac_hmac_sha256,
    mac_gmac,
    ed25519,
    ed25519_batch,
    ed25519_zip215_batch,
    ed25519_merkle,
    #[cfg(test)] mac_siphash,
}

/// What a strategy says of itself.
#[derive(Debug)]
pub struct About {
    /// What people type, what files hold and what reports print.
    pub name: &'static str,
    /// Other names that are read, and never written.
    pub aliases: &'static [&'static str],
    /// What it is, in one line: for `--help` and for docs/strategies.md.
    pub summary: &'static str,
    /// Where its keys come from, in one line.
    pub keys: &'static str,
    /// Bytes of one proof.
    pub proof_bytes: usize,
    /// Whom a proof convinces.
    pub reach: Reach,
    /// What it costs to check one.
    pub weight: Weight,
}

/// Whom a proof convinces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Nobody: there is no proof.
    Nobody,
    /// Its receiver, which could have made it as well: each receiver needs a proof of its own, and none can be shown to
    /// others.
    Receiver,
    /// Everybody: one proof is for all, and can be passed on.
    Everybody,
}

/// What it costs to check a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weight {
    /// So little that whole tables are checked at a time.
    Light,
    /// Tens of microseconds: work is cut into slices, so that nobody takes the others' turn.
    Heavy,
    /// The same, though once for all blocks that were sealed together, where their sender made it so.
    HeavyTogether,
}

/// One strategy, as it is registered.
pub trait Definition: fmt::Debug + Send + Sync {
    /// What it says of itself.
    fn about(&self) -> &'static About;

    /// What makes the proofs of `keyring`'s node.
    fn seal(&self, keyring: &Arc<Keyring>) -> Box<dyn Seal>;

    /// What checks the proofs that are made for `keyring`'s node.
    fn judge(&self, keyring: &Arc<Keyring>) -> Box<dyn Judge>;
}

/// Makes the proofs of one node.
pub trait Seal: fmt::Debug + Send {
    /// Appends the proof of `block` for `to`: exactly [`About::proof_bytes`].
    ///
    /// # Panics
    /// If `to` is not in the cluster and proofs differ from receiver to receiver: that would be our own error.
    fn seal(&self, to: NodeId, block: &AuthBlock, out: &mut Vec<u8>);

    /// Appends the proofs of all `blocks`, in order. To be written anew where many at a time cost less.
    fn seal_all(&self, to: NodeId, blocks: &[AuthBlock], out: &mut Vec<u8>) {
        for block in blocks {
            self.seal(to, block, out);
        }
    }
}

/// Checks proofs that are made for one node. Keeps its scratch memory from call to call.
pub trait Judge: fmt::Debug + Send {
    /// Sets in `good`, which is all false, what is proven: one verdict for each of `checks`, in order. No verdict may
    /// depend on what else is checked with it. A signer outside the cluster or a proof of the wrong length is bad.
    fn judge(&mut self, checks: &[Check<'_>], shares: Shares<'_>, good: &mut [bool]);

    /// The same of requests of one signer; `good` is all false here, too. To be written anew where checks are so light
    /// that it is cheaper not to make each of them.
    ///
    /// # Panics
    /// If the proofs are not of the strategy's length: a verifier asks for no others.
    fn judge_requests(&mut self, requests: &RequestChecks<'_>, good: &mut [bool]) {
        let checks: Vec<Check<'_>> = requests.checks().collect();
        self.judge(&checks, Shares::OfSigners, good);
    }

    /// Claims of the last call that are proven, and yet made combined checks fail, in no order.
    fn odd(&self) -> &[usize] {
        &[]
    }

    /// What verdicts about signatures have cost so far.
    fn effort(&self) -> Effort {
        Effort::default()
    }
}

/// Whose business claims are that are checked together. This decides what a verdict costs, never what it is.
#[derive(Clone, Copy, Debug)]
pub enum Shares<'a> {
    /// Each signer answers for its own.
    OfSigners,
    /// Claims follow each other part by part, and each part is the business of another party.
    OfParts(&'a [Part<'a>]),
}

/// Of each combined check, in order, which claims belong to which of its parts.
fn batches<'a>(parts: &'a [Part<'_>]) -> impl Iterator<Item = Vec<Range<usize>>> + use<'a> {
    let mut start = 0;
    parts.chunk_by(|a, b| a.batch == b.batch).map(move |batch| {
        let own = |part: &Part<'_>| {
            let own = start..start + part.checks();
            start = own.end;
            own
        };
        batch.iter().map(own).collect()
    })
}

/// A registered strategy: how one class of links proves who sent what. Two are equal if their names are.
#[derive(Clone, Copy)]
pub struct Strategy(&'static dyn Definition);

impl Strategy {
    /// Nothing is proven.
    pub const NONE: Self = Self(&none::STRATEGY);
    /// Where nothing else is asked for.
    pub const MAC: Self = Self(&mac_blake3::STRATEGY);

    /// Every strategy there is.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        REGISTRY.iter().map(|definition| Self(*definition))
    }

    /// The strategy of this name, or with this alias.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|strategy| strategy.name() == name || strategy.about().aliases.contains(&name))
    }

    /// What [`FromStr`] takes.
    #[must_use]
    pub fn allowed() -> String {
        let names = Self::all().map(|strategy| match strategy.about().aliases {
            [] => strategy.name().to_owned(),
            aliases => format!("{} (or {})", strategy.name(), aliases.join(", ")),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// What it says of itself.
    #[must_use]
    pub fn about(self) -> &'static About {
        self.0.about()
    }

    /// Its name in options, files and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// Bytes of one proof.
    #[must_use]
    pub fn proof_bytes(self) -> usize {
        self.about().proof_bytes
    }

    /// Whether each receiver needs a proof of its own.
    #[must_use]
    pub fn is_for_receiver(self) -> bool {
        self.about().reach == Reach::Receiver
    }

    /// Whether a proof convinces everybody, third parties included.
    #[must_use]
    pub fn is_transferable(self) -> bool {
        self.about().reach == Reach::Everybody
    }

    /// Whether a check is so dear that work is cut into slices.
    #[must_use]
    pub fn is_heavy(self) -> bool {
        self.about().weight != Weight::Light
    }

    /// Whether it is so dear for each block, whatever that was sealed together with.
    #[must_use]
    pub fn is_heavy_for_each(self) -> bool {
        self.about().weight == Weight::Heavy
    }

    /// What makes the proofs of `keyring`'s node.
    #[must_use]
    pub fn seal(self, keyring: &Arc<Keyring>) -> Box<dyn Seal> {
        self.0.seal(keyring)
    }

    /// What checks the proofs that are made for `keyring`'s node.
    #[must_use]
    pub fn judge(self, keyring: &Arc<Keyring>) -> Box<dyn Judge> {
        self.0.judge(keyring)
    }
}

impl PartialEq for Strategy {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Strategy {}

impl Hash for Strategy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Strategy({})", self.name())
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        Self::named(text).ok_or_else(|| OptionError::new("authentication", text, Self::allowed()))
    }
}

text_serde!(Strategy);

#[cfg(test)]
mod conformance;
