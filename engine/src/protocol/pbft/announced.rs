//! Pre-prepares by digests: paired with the bodies that clients have sent, and with those that have to be fetched
//! (Castro & Liskov, TOCS'02, section 5.1.5).
//!
//! A backup prepares a batch only when it has all of its bodies, so whatever is prepared has bodies at the same
//! replicas as where pre-prepares carry them: view changes and repairs need to know nothing of this. Bodies that do not
//! come from their clients soon are asked for by a status message, once; the primary answers by the pre-prepare as a
//! whole, as it would have sent it otherwise, up to what an answer may carry; the rest is asked for when some of it has
//! come. What gets lost then, or what a faulty primary keeps to itself, the status exchange brings (see `repair`), from
//! whoever has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bodies::{Kept, Pairing};
use super::distrust::principal_of;
use super::transitions::{Event, Phase};
use super::{Pbft, Turn};
use crate::protocol::message::{DigestPrePrepare, Verdict};
use crate::protocol::planted::Planted;
use crate::protocol::{Ignored, Message, Output, Timer};
use crate::requests::{Batch, Manifest, RequestTable};
use crate::settings::options::Dissemination;
use crate::types::{Digest, SequenceNumber, Time};

/// Bodies are waited for at least this part of a status interval,
const PATIENCE_FRACTION: u64 = 32;
/// and at most this one: a faulty client can make all others wait so long.
const PATIENCE_MAX_FRACTION: u64 = 2;
/// In between: so many times as long as it usually takes until they come. Those that come when they have been fetched
/// and executed already have taken all that time at least.
const PATIENCE_TIMES: u64 = 4;
/// One in so many of the latest waits makes up what is usual.
const USUAL_OF: u64 = 16;

/// What this view's primary has assigned by digests and is not paired yet.
#[derive(Debug)]
pub(super) struct Announced {
    /// At most one for each sequence number of the window. Some may have been settled by other means.
    slots: BTreeMap<SequenceNumber, Waiting>,
    /// How long bodies take to come from clients, where they come after the pre-prepare.
    usual_ns: u64,
    /// When the timer expires, if it is set.
    armed: Option<Time>,
}

#[derive(Debug)]
struct Waiting {
    manifest: Arc<Manifest>,
    /// How many of its bodies, from the first on, have been here.
    found: usize,
    since: Time,
    /// From when on they are waited for, until they are asked for. None once they were.
    unasked_since: Option<Time>,
}

impl Waiting {
    /// Its bodies are looked for from now on.
    const fn new(manifest: Arc<Manifest>, now: Time) -> Self {
        Self { manifest, found: 0, since: now, unasked_since: Some(now) }
    }

    /// The same where the primary has shown all that it has already: nobody needs to ask it for more.
    const fn shown(manifest: Arc<Manifest>, now: Time) -> Self {
        Self { manifest, found: 0, since: now, unasked_since: None }
    }
}

impl Announced {
    /// Nothing is waited for, under this status interval.
    pub(super) const fn new(status_interval_ns: u64) -> Self {
        Self { slots: BTreeMap::new(), usual_ns: status_interval_ns / PATIENCE_FRACTION, armed: None }
    }

    /// The batch at `sequence` needs no pairing any more.
    pub(super) fn settle(&mut self, sequence: SequenceNumber) {
        // Mostly there is none, and where requests travel in pre-prepares there never is.
        if !self.slots.is_empty() {
            self.slots.remove(&sequence);
        }
    }

    /// The view is over.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    /// Bodies have come this long after the pre-prepare, from clients.
    const fn note_wait(&mut self, waited_ns: u64) {
        self.usual_ns = self.usual_ns - self.usual_ns / USUAL_OF + waited_ns / USUAL_OF;
    }

    fn patience_ns(&self, status_interval_ns: u64) -> u64 {
        let least = status_interval_ns / PATIENCE_FRACTION;
        self.usual_ns.saturating_mul(PATIENCE_TIMES).clamp(least, status_interval_ns / PATIENCE_MAX_FRACTION)
    }
}

impl Pbft {
    /// Whether clients send requests to all replicas.
    pub(super) fn sends_digests(&self) -> bool {
        self.config.dissemination == Dissemination::Digest
    }

    /// Keeps requests that a client has sent to all replicas. Those that come again are for the executor to answer, or
    /// for this replica to see to that they are ordered: the first time says nothing, since everybody gets them.
    pub(super) fn on_disseminated(&mut self, table: Arc<RequestTable>, turn: &mut Turn<'_>) {
        let Some(first) = table.clients.first() else { return };
        let principal = principal_of(&self.config.principals, *first);
        let table = table.unchunked_if_small();
        let Kept { again, any, late } = self.bodies.keep(&table, principal, turn.now);
        if late {
            self.announced.note_wait(self.announced.patience_ns(self.config.status_interval_ns));
        }
        if self.leads() {
            self.on_requests_at_primary(table, turn);
        } else if again.len() == table.len() {
            turn.outputs.push(Output::Recall(table));
        } else if !again.is_empty() {
            turn.outputs.push(Output::Recall(Arc::new(table.select(&again))));
        }
        if any {
            self.pair_waiting(turn);
        }
    }

    /// The primary assigns a batch, without its bodies.
    pub(super) fn on_digest_pre_prepare(
        &mut self,
        message: &DigestPrePrepare,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        let DigestPrePrepare { sequence, ref manifest, .. } = *message;
        if !self.sends_digests() {
            // Nobody would have the bodies.
            self.suspect(turn);
            return Err(Ignored::UnexpectedDigests);
        }
        let slot = self.log.slot_mut(sequence);
        if let Some(digest) = slot.pre_prepared {
            if digest != manifest.digest() {
                self.suspect(turn);
                return Err(Ignored::ConflictingPrePrepare);
            }
            return Err(Ignored::DuplicatePrePrepare);
        }
        if slot.phase >= Phase::CommittedLocal {
            return Err(Ignored::AlreadyCommitted);
        }
        slot.pre_prepared = Some(manifest.digest());
        slot.stamps.received = turn.now;
        self.suspicion.note_proposed(sequence, self.log.committed, turn.now);
        self.announced.slots.insert(sequence, Waiting::new(Arc::clone(manifest), turn.now));
        self.pair(sequence, turn);
        self.progress(sequence, turn);
        self.arm_bodies_timer(turn);
        self.arm_view_timer(turn);
        Ok(())
    }

    /// New bodies are here.
    fn pair_waiting(&mut self, turn: &mut Turn<'_>) {
        if self.announced.slots.is_empty() {
            return;
        }
        self.drop_settled();
        let waiting: Vec<SequenceNumber> = self.announced.slots.keys().copied().collect();
        for sequence in waiting {
            let since = self.announced.slots.get(&sequence).map(|waiting| waiting.since);
            if self.pair(sequence, turn) {
                if let Some(since) = since {
                    self.announced.note_wait(turn.now.since(since));
                }
                self.progress(sequence, turn);
            }
        }
    }

    /// Accepts what was announced at `sequence` if all of its bodies are here, each of which has proven itself. True if
    /// they are.
    fn pair(&mut self, sequence: SequenceNumber, turn: &mut Turn<'_>) -> bool {
        let by_timestamp = self.config.has(Planted::BodyByTimestamp);
        let Some(waiting) = self.announced.slots.get_mut(&sequence) else { return false };
        match self.bodies.pair(&waiting.manifest, &mut waiting.found, by_timestamp) {
            Pairing::Missing => false,
            Pairing::TooLong => {
                self.announced.settle(sequence);
                self.suspect(turn);
                false
            }
            Pairing::Complete(batch) => {
                self.log.slot_mut(sequence).batch = Some(batch);
                self.accept(sequence, turn);
                true
            }
        }
    }

    /// A batch that the primary had shown by its digests alone, as a whole and from itself. Its requests may not all
    /// prove themselves.
    pub(super) fn take_shown(
        &mut self,
        sequence: SequenceNumber,
        batch: &Arc<Batch>,
        verdict: &Verdict,
        turn: &mut Turn<'_>,
    ) {
        let slot = self.log.slot_mut(sequence);
        slot.batch = Some(Arc::clone(batch));
        slot.brought = false;
        if verdict.is_proven() {
            self.accept(sequence, turn);
        } else {
            slot.hold(batch, verdict, turn.now);
        }
        self.ask_for_the_rest(turn);
    }

    /// The primary has shown a batch as a whole that does not prove itself here: one that was started anew has its
    /// batches without proofs, and some clients' proofs hold for others only. What its clients have sent to this
    /// replica has proven itself, whatever came with the pre-prepare.
    pub(super) fn pair_unproven(&mut self, sequence: SequenceNumber, batch: &Batch, turn: &mut Turn<'_>) {
        if self.sends_digests() {
            let manifest = Arc::new(Manifest::of(batch));
            self.announced.slots.insert(sequence, Waiting::shown(manifest, turn.now));
            self.pair(sequence, turn);
        }
    }

    /// The same from another replica: its requests have not proven themselves here, so others have to vouch for them,
    /// or the primary to show their proofs.
    pub(super) fn take_brought(&mut self, sequence: SequenceNumber, batch: &Arc<Batch>, turn: &mut Turn<'_>) {
        let slot = self.log.slot_mut(sequence);
        slot.batch = Some(Arc::clone(batch));
        slot.brought = true;
        slot.enter(Event::Hold, turn.now);
    }

    /// Whether this is assigned to `sequence` by digests, and its body is not here.
    pub(super) fn lacks_announced(&self, sequence: SequenceNumber, digest: Digest) -> bool {
        let slot = self.log.slot(sequence);
        slot.is_announced() && slot.pre_prepared == Some(digest) && !slot.has_body(digest)
    }

    /// Forgets what was settled by other means: a decision, a checkpoint.
    fn drop_settled(&mut self) {
        let log = &self.log;
        self.announced.slots.retain(|sequence, waiting| {
            log.holds(*sequence) && {
                let slot = log.slot(*sequence);
                slot.phase <= Phase::Held && slot.pre_prepared == Some(waiting.manifest.digest()) && !slot.reproposed
            }
        });
    }

    /// Some of what was asked for has come. One answer carries so much only, so what else is missing is asked for
    /// again, if it is not on its way.
    fn ask_for_the_rest(&mut self, turn: &mut Turn<'_>) {
        self.drop_settled();
        let log = &self.log;
        let asked = self.announced.slots.iter_mut().filter(|(_, waiting)| waiting.unasked_since.is_none());
        for (_, waiting) in asked.filter(|(sequence, _)| log.slot(**sequence).is_announced()) {
            waiting.unasked_since = Some(turn.now);
        }
        self.arm_bodies_timer(turn);
    }

    /// Sets the timer for the oldest that was not asked for. An earlier setting is left to come.
    fn arm_bodies_timer(&mut self, turn: &mut Turn<'_>) {
        let Some(oldest) = self.announced.slots.values().filter_map(|waiting| waiting.unasked_since).min() else {
            return;
        };
        let due = oldest.after(self.announced.patience_ns(self.config.status_interval_ns));
        if self.announced.armed.is_none() {
            self.announced.armed = Some(due);
            turn.outputs.push(Output::SetTimer(Timer::Bodies, due));
        }
    }

    /// Bodies may have been waited for long enough: the primary is told which.
    pub(super) fn on_bodies_timer(&mut self, turn: &mut Turn<'_>) {
        self.announced.armed = None;
        self.drop_settled();
        let patience_ns = self.announced.patience_ns(self.config.status_interval_ns);
        let mut ask = false;
        for waiting in self.announced.slots.values_mut() {
            ask |= waiting.unasked_since.take_if(|since| turn.now.since(*since) >= patience_ns).is_some();
        }
        if ask && self.views.active && !self.is_primary() {
            turn.send(self.primary(), Message::Status(self.status()));
        }
        self.arm_bodies_timer(turn);
    }
}
