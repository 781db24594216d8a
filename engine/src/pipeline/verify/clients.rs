//! The work for clients that a verify stage has begun: tables of requests, checked slice by slice.
//!
//! Where requests are signed a table of thousands takes a good part of a second, so a slice is a bounded number of
//! checks, an equal share of every source that waits. A table is handed on whole, once all its verdicts are known. Tags
//! are so cheap, and so much cheaper side by side, that a slice is everything there.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use zerocopy::IntoBytes as _;

use crate::auth::{Keyring, LinkClass, Part, Verifier};
use crate::limits::PROVEN_TABLES_MAX;
use crate::pipeline::blame::{Blame, SUSPECT_FRACTION};
use crate::pipeline::credit::Loan;
use crate::pipeline::intake::{self, Source};
use crate::protocol::message::Signature;
use crate::requests::{Groups, Proofs, RequestTable};
use crate::scratch::emptied;
use crate::types::{Digest, Time};

/// The number of the batch that all share who have sent nothing bad lately. The others' have numbers of their own.
const COMMON_BATCH: usize = 0;

/// A table that is being checked.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) source: Source,
    /// When its frame was read.
    pub(super) received: Time,
    /// When this stage took it.
    pub(super) started: Time,
    pub(super) table: RequestTable,
    /// Of a forward: the peer's signature, where peers sign.
    pub(super) signature: Option<Signature>,
    /// Whether they are read-only requests.
    pub(super) reads: bool,
    /// The verdicts so far.
    pub(super) good: Vec<bool>,
    /// What its source gets back when all that came with it is done.
    pub(super) loan: Option<Arc<Loan>>,
    /// What it is remembered by, if it is to be when all of it has proven itself.
    key: Option<Digest>,
}

/// How a table came.
#[derive(Debug)]
pub(super) enum Origin {
    /// From a client node, to be ordered or read-only.
    Client { reads: bool },
    /// A peer passes it on, with its signature where peers sign.
    Peer { signature: Option<Signature> },
}

/// The tables that are being checked.
#[derive(Debug)]
pub(super) struct Clients {
    /// In the order in which they came, those of all sources.
    tables: VecDeque<Pending>,
    /// Checks of one slice: of requests, or of groups of them.
    slice: usize,
    shares: Vec<Share>,
    /// What is in the slice: its batch, the number of its table, the requests.
    taken: Vec<(usize, usize, Range<usize>)>,
    /// The same as it is checked; empty between slices.
    parts: Vec<Part<'static>>,
    good: Vec<bool>,
    proven: Proven,
    now: Time,
}

/// What a source may have checked in a slice.
#[derive(Debug)]
struct Share {
    source: Source,
    batch: usize,
    left: usize,
}

impl Clients {
    pub(super) fn new(keyring: &Keyring) -> Self {
        let is_heavy = keyring.strategy(LinkClass::ClientToReplica).is_heavy();
        Self {
            tables: VecDeque::new(),
            slice: if is_heavy { intake::quantum(keyring) as usize } else { usize::MAX },
            shares: Vec::new(),
            taken: Vec::new(),
            parts: Vec::new(),
            good: Vec::new(),
            proven: Proven::default(),
            now: Time(0),
        }
    }

    /// It is `now`: what is pushed from here on was taken then.
    pub(super) const fn set_time(&mut self, now: Time) {
        self.now = now;
    }

    pub(super) fn push(&mut self, source: Source, received: Time, table: RequestTable, origin: Origin) {
        let (reads, signature) = match origin {
            Origin::Client { reads } => (reads, None),
            Origin::Peer { signature } => (false, signature),
        };
        let key = Proven::key(&table, reads);
        let known = key.is_some_and(|key| self.proven.known.contains(&key));
        let good = if known { vec![true; table.len()] } else { Vec::new() };
        let started = self.now;
        self.tables.push_back(Pending { source, received, started, table, signature, reads, good, loan: None, key });
    }

    pub(super) fn len(&self) -> usize {
        self.tables.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Has all tables but the first `known` hold this credit: they came together, and it is given back when the last of
    /// them is done with. One alone must not hold it: what becomes of reads and of requests takes differently long.
    pub(super) fn hold(&mut self, known: usize, loan: &Arc<Loan>) {
        for pending in self.tables.iter_mut().skip(known) {
            pending.loan = Some(Arc::clone(loan));
        }
    }

    /// Checks one slice.
    pub(super) fn check_slice(&mut self, verifier: &mut Verifier, blame: &Blame) {
        self.share_out(blame);
        self.take();
        let mut parts: Vec<Part<'_>> = emptied(std::mem::take(&mut self.parts));
        parts.extend(self.taken.iter().map(|(batch, table, range)| Part {
            table: &self.tables[*table].table,
            range: range.clone(),
            batch: *batch,
            reads: self.tables[*table].reads,
        }));
        verifier.verify_requests(&parts, &mut self.good);
        let odd = verifier.odd(&parts);
        self.parts = emptied(parts);
        let mut good = &self.good[..];
        for (part, (_, table, range)) in self.taken.drain(..).enumerate() {
            let (own, others) = good.split_at(range.len());
            let table = &mut self.tables[table];
            table.good.extend_from_slice(own);
            let proven = own.iter().filter(|good| **good).count();
            // Who sent them to this replica answers for them: a client node is not to blame for what a peer passes on.
            // A tag that does not hold here may well hold where it was passed on from.
            let tells = !matches!(table.source, Source::Forwards(_)) || table.table.proofs.columns() == 0;
            // What is good and made others search is as much to be blamed, though not on who passed it on.
            let odd = odd.get(part).filter(|_| matches!(table.source, Source::Client(_))).copied().unwrap_or(0);
            if tells {
                blame.note(table.source.node(), proven, own.len() - proven + odd);
            }
            good = others;
        }
    }

    /// The oldest table that is done. Those of a source are checked in order, and so are done in order.
    pub(super) fn pop_done(&mut self) -> Option<Pending> {
        let done = self.tables.iter().position(|pending| pending.good.len() == pending.table.len())?;
        let done = self.tables.remove(done)?;
        if let Some(key) = done.key
            && done.good.iter().all(|good| *good)
        {
            self.proven.insert(key);
        }
        Some(done)
    }

    /// Finds out who waits and what each may have checked.
    fn share_out(&mut self, blame: &Blame) {
        self.shares.clear();
        for pending in &self.tables {
            if self.shares.iter().all(|share| share.source != pending.source) {
                let source = pending.source;
                let common = matches!(source, Source::Client(_)) && !blame.is_suspect(source.node());
                let batch = if common { COMMON_BATCH } else { COMMON_BATCH + 1 + self.shares.len() };
                self.shares.push(Share { source, batch, left: 0 });
            }
        }
        let each = self.slice / self.shares.len().max(1);
        for share in &mut self.shares {
            let suspect = blame.is_suspect(share.source.node());
            share.left = (if suspect { each / usize::from(SUSPECT_FRACTION) } else { each }).max(1);
        }
    }

    /// Takes what is to be checked, that of one batch next to each other.
    fn take(&mut self) {
        for (number, pending) in self.tables.iter().enumerate() {
            let Some(share) = self.shares.iter_mut().find(|share| share.source == pending.source) else { continue };
            let next = pending.good.len();
            let (end, checks) = pending.table.proofs.slice(next, pending.table.len(), share.left);
            share.left -= checks;
            if checks == 0 {
                continue;
            }
            self.taken.push((share.batch, number, next..end));
        }
        self.taken.sort_by_key(|(batch, ..)| *batch);
    }
}

/// Signed tables of which every request has proven itself, by a digest of all that was checked and of the signatures.
/// They come again, from clients that ask again and from replicas that pass on what this one has been sent, too, and
/// cost next to nothing then.
#[derive(Debug, Default)]
struct Proven {
    known: HashSet<Digest>,
    by_age: VecDeque<Digest>,
}

impl Proven {
    /// `None` of a table that is not signed: tags are cheaper than to remember them.
    /// Nor does a table of read-only requests prove one of others, though all digests in it be the same.
    fn key(table: &RequestTable, reads: bool) -> Option<Digest> {
        let (groups, signatures) = match &table.proofs {
            Proofs::Signatures(signatures) => (None, signatures),
            Proofs::Groups(groups) if groups.columns() == 0 => (Some(groups), groups.proofs()),
            Proofs::None | Proofs::Tags { .. } | Proofs::Groups(_) => return None,
        };
        // A request's digest covers its client, its timestamp and its operation.
        let mut hasher = blake3::Hasher::new();
        // How many there are of each, or bytes of one could be taken for another's.
        let counts = [table.len(), signatures.len()].map(usize::to_le_bytes);
        hasher.update(&[u8::from(reads)]).update(counts.as_flattened());
        hasher.update(table.digests.as_bytes()).update(signatures);
        for group in groups.into_iter().flat_map(Groups::all) {
            hasher.update(&group.present.to_le_bytes()).update(&[group.size]).update(&group.node.0.to_le_bytes());
        }
        for hole in groups.into_iter().flat_map(Groups::holes) {
            hasher.update(&hole.0);
        }
        Some(hasher.finalize().into())
    }

    fn insert(&mut self, key: Digest) {
        if !self.known.insert(key) {
            return;
        }
        self.by_age.push_back(key);
        if self.by_age.len() > PROVEN_TABLES_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
