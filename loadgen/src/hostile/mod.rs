//! Clients that misbehave on purpose, beside an honest load, to see that it does not suffer.
//!
//! Each is a client node of the cluster file, with a key and logical clients of its own, and speaks to every replica
//! over real sockets with a real handshake where one is needed. One thread looks after all of its connections every
//! [`TICK`] and sends at a limited rate: what is tried is whether replicas refuse it, not whether the machine is fast
//! enough for both. Nothing that it does is counted as load.
//!
//! In the order of the connections' life: `session` (a connection that has proven itself), `forge` (requests and what
//! is wrong with them), `requests` (the kinds that send requests), `strangers` (those that send garbage or nothing).

mod forge;
mod requests;
mod session;
mod strangers;

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hippodrome_engine::auth::{Keyring, NodeKey};
use hippodrome_engine::named_enum;
use hippodrome_engine::settings::ClusterFile;
use hippodrome_engine::types::NodeId;
use serde::{Deserialize, Serialize};

use crate::options::LoadError;

/// How often a hostile client acts.
pub const TICK: Duration = Duration::from_millis(10);
/// How often it tells what it did.
const TELL_EVERY: Duration = Duration::from_millis(500);

named_enum! {
    /// One way in which a client misbehaves.
    Kind {
        /// Requests whose authenticators or signatures hold for nobody.
        BadSignatures = "bad-signatures",
        /// Requests whose authenticators hold for some replicas only: at first for replica 0, later for any subset.
        /// Where requests are signed, which convinces all or none, each replica gets another operation under one
        /// timestamp.
        PartialAuthenticators = "partial-authenticators",
        /// Good requests, sent to all replicas again and again, the old ones too.
        Replays = "replays",
        /// Timestamps that grow to the last one, and numbers of clients that are not its own or nobody's.
        GrowingIdentifiers = "growing-identifiers",
        /// Random bytes in place of a handshake or after it, and frames of every kind around random bodies; hung up on,
        /// it comes again.
        Garbage = "garbage",
        /// Hundreds of connections that say a part of a handshake or of a frame, and then nothing.
        HalfOpen = "half-open",
        /// Good requests whose replies are never read.
        SlowReader = "slow-reader",
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("hostile: '{text}' is not allowed; allowed: {}", names.join(", "))
        })
    }
}

/// What a hostile client is told.
pub struct HostileOptions {
    /// The cluster, validated.
    pub cluster: ClusterFile,
    /// This node's identity.
    pub key: NodeKey,
    /// Which client node it is.
    pub node: NodeId,
    /// How it misbehaves.
    pub kind: Kind,
    /// For how long.
    pub duration: Duration,
    /// Of its random numbers.
    pub seed: u64,
    /// Set to stop early.
    pub stop: Arc<AtomicBool>,
}

/// What it did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Connections that were made.
    pub connections: u64,
    /// Connections that the replicas closed.
    pub closed: u64,
    /// Frames sent, good and bad.
    pub frames: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Bytes of replies that were read.
    pub bytes_read: u64,
}

/// What every kind works with.
struct Ground {
    keyring: Arc<Keyring>,
    /// Where each replica listens, in order of their ids.
    replicas: Vec<SocketAddr>,
    /// The application's name: operations must look like its own.
    application: String,
    seed: u64,
}

/// One kind at work.
trait Hostile {
    /// Does what is due.
    fn act(&mut self, now: Instant, tally: &mut Tally);
}

/// Misbehaves until the time is up or it is told to stop; `tell` is called now and then. A replica that can not be
/// reached is tried again: to be refused is what this is for.
///
/// # Errors
/// If the key does not fit the cluster file.
pub fn run(options: &HostileOptions, tell: &mut dyn FnMut(&Tally)) -> Result<Tally, LoadError> {
    let keyring = Keyring::new(&options.cluster, options.node, &options.key)?;
    if keyring.clients_of(options.node).is_none() {
        return Err(LoadError::NotAClient(options.node));
    }
    let ground = Ground {
        keyring,
        replicas: options.cluster.voters().filter_map(|node| node.address).collect(),
        application: options.cluster.settings.application.clone(),
        seed: options.seed,
    };
    let mut hostile: Box<dyn Hostile> = match options.kind {
        Kind::Garbage => Box::new(strangers::Garbage::new(ground)),
        Kind::HalfOpen => Box::new(strangers::HalfOpen::new(ground)),
        kind => Box::new(requests::Requests::new(ground, kind)),
    };
    let mut tally = Tally::default();
    let until = Instant::now() + options.duration;
    let mut told = Instant::now();
    tell(&tally);
    while !options.stop.load(Ordering::Relaxed) && Instant::now() < until {
        hostile.act(Instant::now(), &mut tally);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tell(&tally);
        }
        std::thread::sleep(TICK);
    }
    tell(&tally);
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_what_they_write() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), *kind);
        }
        let error = "rude".parse::<Kind>().unwrap_err();
        assert!(error.contains("'rude'") && error.contains("allowed: bad-signatures, partial-auth"), "{error}");
    }
}
