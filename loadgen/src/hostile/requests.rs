//! The kinds that prove who they are and then send requests: badly proven, twice, out of all bounds, or without ever
//! listening.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use hippodrome_engine::types::ReplicaId;
use hippodrome_engine::{auth::LinkClass, limits::CLIENTS_MAX};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::forge::{Forge, Holds};
use super::session::Session;
use super::{Ground, Hostile, Kind, Tally};

/// Requests in a frame, at most as many as there are logical clients. With up to six frames each [`super::TICK`], at
/// most some 10,000 requests a second to each replica.
const FRAME_REQUESTS: usize = 16;
/// The same where they are signed: more than a small machine can verify, so that it is seen who has to wait then.
const FRAME_REQUESTS_SIGNED: usize = 512;
/// Frames that are sent again in each tick.
const REPLAYED: usize = 4;
/// Frames that are kept to be sent again.
const KEPT_MAX: usize = 256;
/// For so many ticks authenticators hold for replica 0 alone.
const FOR_THE_FIRST_ALONE: u64 = 100;
/// After so many ticks a timestamp has doubled.
const DOUBLING_TICKS: u64 = 4;

/// One of these kinds at work.
pub(super) struct Requests {
    kind: Kind,
    forge: Forge,
    sessions: Vec<Session>,
    clients: Range<u32>,
    /// Requests in a frame.
    count: usize,
    /// Whether requests carry tags, one for each replica.
    tags: bool,
    sent: VecDeque<Bytes>,
    ticks: u64,
    random: SmallRng,
}

impl Requests {
    pub(super) fn new(ground: Ground, kind: Kind) -> Self {
        let Ground { keyring, replicas, application, seed } = ground;
        let clients = keyring.clients_of(keyring.own()).unwrap_or_default();
        let sessions = (0u16..).zip(&replicas);
        let strategy = keyring.strategy(LinkClass::ClientToReplica);
        Self {
            kind,
            sessions: sessions.map(|(id, address)| Session::new(keyring.clone(), ReplicaId(id), *address)).collect(),
            clients,
            count: if strategy.is_heavy() { FRAME_REQUESTS_SIGNED } else { FRAME_REQUESTS },
            tags: strategy.is_for_receiver(),
            forge: Forge::new(keyring, &application),
            sent: VecDeque::new(),
            ticks: 0,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// The next request of each of some clients: every tick has a timestamp of its own.
    fn next_requests(&self) -> Vec<(u32, u64)> {
        self.clients.clone().take(self.count).map(|client| (client, self.ticks)).collect()
    }

    fn send_to_all(&mut self, frame: &Bytes, tally: &mut Tally) {
        for session in &mut self.sessions {
            session.send(frame, tally);
        }
    }

    fn send_partly_proven(&mut self, tally: &mut Tally) {
        let requests = self.next_requests();
        if !self.tags {
            // Each replica gets another operation under the same timestamp.
            for (salt, session) in (self.ticks << 8..).zip(&mut self.sessions) {
                session.send(&self.forge.frame(&requests, salt, Holds::Everywhere), tally);
            }
            return;
        }
        let everybody = u64::MAX >> (64 - self.sessions.len().clamp(1, 64));
        let set = if self.ticks < FOR_THE_FIRST_ALONE { 1 } else { self.random.random::<u64>() & everybody };
        let frame = self.forge.frame(&requests, self.ticks, Holds::At(set));
        self.send_to_all(&frame, tally);
    }

    /// A new frame, kept; and some of those that were sent before.
    fn send_again(&mut self, tally: &mut Tally) {
        let frame = self.forge.frame(&self.next_requests(), self.ticks, Holds::Everywhere);
        if self.sent.len() == KEPT_MAX {
            // The very first one stays: nothing is as old.
            self.sent.remove(1);
        }
        self.sent.push_back(frame.clone());
        self.send_to_all(&frame, tally);
        for _ in 0..REPLAYED {
            let old = self.sent[self.random.random_range(0..self.sent.len())].clone();
            self.send_to_all(&old, tally);
        }
        let first = self.sent[0].clone();
        self.send_to_all(&first, tally);
    }

    /// Timestamps that reach the last one within seconds, and clients that are not there or are somebody else's.
    fn send_growing(&mut self, tally: &mut Tally) {
        let doublings = u32::try_from(self.ticks / DOUBLING_TICKS).unwrap_or(u32::MAX);
        let timestamp = 1u64.checked_shl(doublings).unwrap_or(u64::MAX).saturating_add(self.ticks);
        let own: Vec<(u32, u64)> = self.clients.clone().take(self.count).map(|client| (client, timestamp)).collect();
        let grown =
            u32::try_from(self.ticks).unwrap_or(u32::MAX).saturating_mul(1 + (self.random.random::<u32>() >> 8));
        let strangers = [0, self.clients.end, CLIENTS_MAX, grown, u32::MAX];
        let others: Vec<(u32, u64)> = strangers.iter().map(|client| (*client, timestamp)).collect();
        for requests in [own, others] {
            let frame = self.forge.frame(&requests, self.ticks, Holds::Everywhere);
            self.send_to_all(&frame, tally);
        }
    }
}

impl Hostile for Requests {
    fn act(&mut self, now: Instant, tally: &mut Tally) {
        self.ticks += 1;
        for session in &mut self.sessions {
            session.connect(now, tally);
            session.flush(tally);
            if self.kind != Kind::SlowReader {
                session.drain(tally);
            }
        }
        match self.kind {
            Kind::PartialAuthenticators => self.send_partly_proven(tally),
            Kind::Replays | Kind::SlowReader => self.send_again(tally),
            Kind::GrowingIdentifiers => self.send_growing(tally),
            Kind::BadSignatures | Kind::Garbage | Kind::HalfOpen => {
                let frame = self.forge.frame(&self.next_requests(), self.ticks, Holds::Nowhere);
                self.send_to_all(&frame, tally);
            }
        }
    }
}
