//! View changes (Castro & Liskov, OSDI'99, section 4.4, with the sets P and Q of TOCS'02): a replica that suspects its
//! primary leaves the view and tells the others what it has pre-prepared and prepared; the primary of the next view
//! starts it on Q such messages; what it proposes again follows from them.
//!
//! A view-change is kept for each replica, the newest one, so nothing here grows with what others claim. Loss is
//! repaired by the status exchange, like every other loss: whoever waits for a view tells whose view-changes it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decision::{Decision, decide, is_well_formed};
use super::distrust::principal_of;
use super::transitions::Phase;
use super::{Pbft, Turn};
use crate::protocol::message::{Checkpoint, NewView, Signed, ViewChange, Vote};
use crate::protocol::planted::Planted;
use crate::protocol::sets::set_of;
use crate::protocol::{Ignored, Message, Record};
use crate::requests::Batch;
use crate::types::{Digest, ReplicaId, SequenceNumber, Time, View};

/// Where this replica stands between views.
#[derive(Debug)]
pub(super) struct Views {
    /// Whether the current view has started here. If not, this replica has left the one before and waits.
    pub(super) active: bool,
    /// The last view that started here: what replies tell.
    pub(super) entered: View,
    /// The newest view-change of each replica, the own one included.
    newest: Vec<Option<Known>>,
    /// What started the current view: passed on to whoever missed it. Nothing started view 0.
    proof: Option<Proof>,
    /// From each sender a new-view some of whose view-changes are not here yet.
    awaiting: Vec<Option<Proof>>,
    /// At or below, everything was settled when the view started: there are no votes on it in this view.
    pub(super) floor: SequenceNumber,
    /// Digests that the new view assigned above the own high watermark.
    beyond: BTreeMap<SequenceNumber, Digest>,
    /// How many view changes this replica has begun.
    pub(super) begun: u64,
}

#[derive(Clone, Debug)]
struct Known {
    signed: Signed<ViewChange>,
    digest: Digest,
}

/// A new-view with its view-changes, in the order in which it names them.
#[derive(Clone, Debug)]
struct Proof {
    new_view: Signed<NewView>,
    changes: Vec<Option<Signed<ViewChange>>>,
}

impl Proof {
    /// The view-changes, if all are here.
    fn complete(&self) -> Option<Vec<Signed<ViewChange>>> {
        self.changes.iter().cloned().collect()
    }
}

impl Views {
    /// In view 0, which needs no start, with `n` replicas.
    pub(super) fn new(n: usize) -> Self {
        Self {
            active: true,
            entered: View(0),
            newest: vec![None; n],
            proof: None,
            awaiting: vec![None; n],
            floor: SequenceNumber(0),
            beyond: BTreeMap::new(),
            begun: 0,
        }
    }

    /// Whose view-changes to `view` are here.
    pub(super) fn known(&self, view: View) -> u64 {
        let to_view = |known: &Known| known.signed.content.view == view;
        let mut set = (0u16..).zip(&self.newest).fold(0, |set, (replica, known)| {
            if known.as_ref().is_some_and(to_view) { set | set_of(ReplicaId(replica)) } else { set }
        });
        // What an awaited new-view names is had in just that version, or is still to be sent.
        let mut missing = 0;
        for awaiting in self.awaiting.iter().flatten().filter(|awaiting| awaiting.new_view.content.view == view) {
            for ((replica, _), found) in awaiting.new_view.content.view_changes.iter().zip(&awaiting.changes) {
                *(if found.is_some() { &mut set } else { &mut missing }) |= set_of(*replica);
            }
        }
        set & !missing
    }

    /// The view that `replica` has asked for last.
    pub(super) fn asked(&self, replica: usize) -> Option<View> {
        self.newest[replica].as_ref().map(|known| known.signed.content.view)
    }

    /// How many replicas have asked for `view` or a later one.
    pub(super) fn count_from(&self, view: View) -> usize {
        self.newest.iter().flatten().filter(|known| known.signed.content.view >= view).count()
    }

    /// The highest view that `count` replicas have asked for, or gone beyond.
    fn asked_by(&self, count: usize) -> View {
        let mut views: Vec<View> = self.newest.iter().flatten().map(|known| known.signed.content.view).collect();
        views.sort_unstable_by(|a, b| b.cmp(a));
        views.get(count - 1).copied().unwrap_or(View(0))
    }

    fn find(&self, replica: ReplicaId, digest: Digest) -> Option<Signed<ViewChange>> {
        let known = self.newest.get(usize::from(replica.0))?.as_ref()?;
        (known.digest == digest).then(|| known.signed.clone())
    }

    /// Notes a replica's view-change.
    pub(super) fn note(&mut self, signed: Signed<ViewChange>) {
        let digest = signed.content.digest();
        let replica = usize::from(signed.content.replica.0);
        self.newest[replica] = Some(Known { signed, digest });
    }

    /// What a replica that waits for the current view, or has missed it, is to be sent.
    pub(super) fn help(&self, own: ReplicaId, has: u64) -> Vec<Message> {
        let lacks = |replica: ReplicaId| has & set_of(replica) == 0;
        let mut messages = Vec::new();
        if let Some(proof) = self.proof.as_ref().filter(|_| self.active) {
            // The view-changes come first, so that the new-view is understood when it arrives.
            let changes = proof.changes.iter().flatten().filter(|change| lacks(change.content.replica));
            messages.extend(changes.cloned().map(Message::ViewChange));
            messages.push(Message::NewView(proof.new_view.clone()));
        } else if let Some(known) = self.newest[usize::from(own.0)].as_ref().filter(|_| !self.active && lacks(own)) {
            messages.push(Message::ViewChange(known.signed.clone()));
        }
        messages
    }

    /// The assignments above the old high watermark that are within `high` by now.
    pub(super) fn take_assigned(&mut self, high: SequenceNumber) -> BTreeMap<SequenceNumber, Digest> {
        let later = self.beyond.split_off(&high.next());
        std::mem::replace(&mut self.beyond, later)
    }
}

impl Pbft {
    /// Leaves the current view for `target`: from now on nothing is voted for in any view before it.
    pub(super) fn start_view_change(&mut self, target: View, turn: &mut Turn<'_>) {
        // A replica that does not vote has nothing to tell; it follows when the others have moved.
        if !self.config.voting || target <= self.view {
            return;
        }
        self.leave_view(target, turn);
        self.views.begun += 1;
        self.suspicion.back_off();
        let mut change = self.own_view_change();
        if self.config.has(Planted::PreparedStateDropped) {
            change.prepared.clear();
        }
        let change = Arc::new(change);
        self.persist(turn, || Record::ViewChange(Arc::clone(&change)));
        let signed = Signed { content: change, signature: None };
        self.views.note(signed.clone());
        turn.broadcast(Message::ViewChange(signed));
        self.await_view(turn);
        self.count_suspicions(turn);
    }

    /// Ends the current view at every slot. The next view is not active.
    fn leave_view(&mut self, next: View, turn: &mut Turn<'_>) {
        let (view, own, was_primary) = (self.view, self.config.own, self.is_primary());
        self.roll_back(self.log.committed, turn);
        self.accuse_unproven();
        let stale = self.config.has(Planted::StaleCertificate);
        for slot in self.log.slots_mut() {
            let votes = stale.then(|| (slot.prepares.clone(), slot.commits.clone()));
            slot.leave_view(view, own, was_primary, turn.now);
            if let Some((prepares, commits)) = votes {
                slot.prepares = prepares.without(own);
                slot.commits = commits.without(own);
            }
        }
        self.announced.clear();
        self.views.beyond.clear();
        self.views.active = false;
        self.view = next;
        self.batch_timer = None;
        self.queue.leave_view();
        // What waits here for a batch goes on to the next primary.
        let left: Vec<_> = std::iter::from_fn(|| self.queue.take_admitted()).collect();
        for table in left {
            self.await_requests(&table, turn);
        }
    }

    pub(super) fn own_view_change(&self) -> ViewChange {
        let (low, high) = (self.log.low(), self.log.high());
        let in_window = |own: &Checkpoint| own.sequence <= high;
        let mut change = ViewChange {
            replica: self.config.own,
            view: self.view,
            stable: low,
            // The state of the stable one is missing where nothing but votes of others led to it, and one that was
            // fetched may lie farther ahead than the others are known to be.
            checkpoints: self.checkpoints.own_from(low).filter(in_window).collect(),
            prepared: Vec::new(),
            pre_prepared: Vec::new(),
        };
        for sequence in (low.0 + 1..=high.0).map(SequenceNumber) {
            let past = &self.log.slot(sequence).past;
            let entry = |&(view, digest): &(View, Digest)| Vote { view, sequence, digest };
            change.prepared.extend(past.prepared().as_ref().map(entry));
            let start = change.pre_prepared.len();
            change.pre_prepared.extend(past.pre_prepared().iter().map(entry));
            change.pre_prepared[start..].sort_unstable_by_key(|entry| entry.digest);
        }
        change
    }

    /// A replica leaves its view; perhaps passed on by another.
    pub(super) fn on_view_change(&mut self, signed: &Signed<ViewChange>, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        let change = &*signed.content;
        if usize::from(change.replica.0) >= self.config.quorums.n() {
            return Err(Ignored::UnknownSender);
        }
        if !is_well_formed(change, self.config.window, self.config.checkpoint_interval) {
            return Err(Ignored::MalformedViewChange);
        }
        // A new-view may name an own one that this replica does not remember.
        if self.fill_awaited(signed, turn) {
            return Ok(());
        }
        if change.replica == self.config.own {
            return Err(Ignored::UnknownSender);
        }
        if change.view < self.view || (change.view == self.view && self.views.active) {
            return Err(Ignored::StaleViewChange);
        }
        let known = self.views.newest[usize::from(change.replica.0)].as_ref();
        if known.is_some_and(|known| known.signed.content.view >= change.view) {
            return Err(Ignored::StaleViewChange);
        }
        self.views.note(signed.clone());
        // Of f + 1 replicas one is correct: the view before is over. A single one moves nobody.
        let asked = self.views.asked_by(self.config.quorums.weak());
        if asked > self.view {
            self.start_view_change(asked, turn);
        } else {
            self.await_view(turn);
            self.count_suspicions(turn);
        }
        Ok(())
    }

    /// Completes awaited new-views, if this is what they lacked. True if it was of use.
    fn fill_awaited(&mut self, signed: &Signed<ViewChange>, turn: &mut Turn<'_>) -> bool {
        if self.views.awaiting.iter().all(Option::is_none) {
            return false;
        }
        let named = (signed.content.replica, signed.content.digest());
        let mut complete = Vec::new();
        let mut of_use = false;
        for slot in &mut self.views.awaiting {
            let Some(awaiting) = slot else { continue };
            let named_there = awaiting.new_view.content.view_changes.iter().position(|entry| *entry == named);
            let Some(index) = named_there.filter(|index| awaiting.changes[*index].is_none()) else { continue };
            of_use = true;
            awaiting.changes[index] = Some(signed.clone());
            if let Some(changes) = awaiting.complete() {
                complete.push((awaiting.new_view.clone(), changes));
                *slot = None;
            }
        }
        for (new_view, changes) in complete {
            if let Err(reason) = self.try_enter(new_view, changes, turn) {
                turn.outputs.push(crate::protocol::Output::Ignored(reason));
            }
        }
        of_use
    }

    /// Whatever the view-changes at hand allow while this replica waits for its view: its primary starts it, a backup's
    /// patience begins to run out.
    fn await_view(&mut self, turn: &mut Turn<'_>) {
        if self.views.active || self.views.count_from(self.view) < self.config.quorums.quorum() {
            return;
        }
        if !self.is_primary() {
            self.suspicion.await_view(turn.now);
            self.arm_view_timer(turn);
            return;
        }
        let here = |known: &&Known| known.signed.content.view == self.view;
        let known: Vec<&Known> = self.views.newest.iter().flatten().filter(here).collect();
        let contents: Vec<&ViewChange> = known.iter().map(|known| &*known.signed.content).collect();
        // Its new-view stands for its pre-prepares. What lies beyond its window it could not even remember to have
        // assigned, and prepared batches would miss a witness in the next view change. And what it starts from it must
        // have executed: a lie may have raised that to a checkpoint whose state is to be had from nobody. With more
        // view-changes it may be a lower one.
        let starts_here =
            |decision: &Decision| decision.last() <= self.log.high() && decision.stable.sequence <= self.log.done();
        let decision = decide(self.config.quorums, &contents).filter(starts_here);
        if let Some(decision) = decision {
            let named = known.iter().map(|known| (known.signed.content.replica, known.digest)).collect();
            let new_view = Signed::own(NewView { view: self.view, view_changes: named });
            let changes = known.iter().map(|known| known.signed.clone()).collect();
            self.enter_view(new_view, changes, &decision, turn);
        } else {
            // If no more view-changes come, somebody else must try.
            self.suspicion.await_view(turn.now);
            self.arm_view_timer(turn);
        }
    }

    /// The primary of a view starts it; perhaps passed on by another replica, `sender`.
    pub(super) fn on_new_view(
        &mut self,
        sender: ReplicaId,
        signed: &Signed<NewView>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        let NewView { view, view_changes } = &*signed.content;
        let (view, quorums) = (*view, self.config.quorums);
        if view < self.view || (view == self.view && self.views.active) {
            return Err(Ignored::StaleNewView);
        }
        // An own one comes back only to a replica that has lost its memory, and does not lead any more.
        if quorums.primary(view) == self.config.own && self.config.voting {
            return Err(Ignored::StaleNewView);
        }
        let in_range = view_changes.iter().all(|(replica, _)| usize::from(replica.0) < quorums.n());
        let distinct = view_changes.is_sorted_by(|a, b| a.0 < b.0);
        if view_changes.len() < quorums.quorum() || !in_range || !distinct {
            return Err(Ignored::UnjustifiedNewView);
        }
        let found: Vec<_> = view_changes.iter().map(|(replica, digest)| self.views.find(*replica, *digest)).collect();
        let proof = Proof { new_view: signed.clone(), changes: found };
        if let Some(changes) = proof.complete() {
            return self.try_enter(signed.clone(), changes, turn);
        }
        // One of each sender: a faulty primary may name view-changes that nobody has, and must not crowd out the
        // new-view that others have entered the view on. That of the view which this replica waits for comes first.
        let slot = &mut self.views.awaiting[usize::from(sender.0)];
        let awaited = slot.as_ref().map(|awaiting| awaiting.new_view.content.view);
        if awaited == Some(view) || (awaited == Some(self.view) && !self.views.active) {
            return Err(Ignored::StaleNewView);
        }
        *slot = Some(proof);
        Ok(())
    }

    /// Enters a view on a new-view and all view-changes that it names, if they justify it.
    fn try_enter(
        &mut self,
        new_view: Signed<NewView>,
        changes: Vec<Signed<ViewChange>>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        let view = new_view.content.view;
        if view < self.view || (view == self.view && self.views.active) {
            return Err(Ignored::StaleNewView);
        }
        let contents: Vec<&ViewChange> = changes.iter().map(|change| &*change.content).collect();
        let to_it = contents.iter().all(|change| change.view == view);
        let decision = to_it.then(|| decide(self.config.quorums, &contents)).flatten();
        let Some(decision) = decision else { return Err(Ignored::UnjustifiedNewView) };
        self.enter_view(new_view, changes, &decision, turn);
        Ok(())
    }

    /// Takes part in a view that has been justified. As its primary, starts it.
    fn enter_view(
        &mut self,
        new_view: Signed<NewView>,
        changes: Vec<Signed<ViewChange>>,
        decision: &Decision,
        turn: &mut Turn<'_>,
    ) {
        let view = new_view.content.view;
        if self.view < view {
            self.leave_view(view, turn);
        }
        self.persist(turn, || Record::NewView(new_view.clone(), changes.clone()));
        if self.is_primary() && self.config.voting {
            turn.broadcast(Message::NewView(new_view.clone()));
        }
        self.take_up_view(new_view, changes, decision);
        let principals = Arc::clone(&self.config.principals);
        let committed = self.log.committed;
        self.suspicion.enter_view(turn.now, decision.last(), committed, |client| principal_of(&principals, client));
        self.next = decision.last().next();
        self.admission.clear();
        self.take_assignments(turn);
        self.forward_awaited(turn);
        for authentic in self.early.take(self.log.high()) {
            self.on_message(authentic, turn);
        }
        self.arm_view_timer(turn);
        // Bodies and votes that are missing are asked for soon.
        self.expect_more_repairs(turn);
        self.propose(turn);
        // Others may have been here long enough to suspect the primary already.
        self.count_suspicions(turn);
    }

    /// What entering a view leaves behind in the state of views.
    pub(super) fn take_up_view(
        &mut self,
        new_view: Signed<NewView>,
        changes: Vec<Signed<ViewChange>>,
        decision: &Decision,
    ) {
        self.view = new_view.content.view;
        self.views.active = true;
        self.views.entered = self.view;
        self.views.awaiting.fill(None);
        self.views.proof = Some(Proof { new_view, changes: changes.into_iter().map(Some).collect() });
        self.views.floor = decision.stable.sequence;
        self.views.beyond = decision.assignments().filter(|(sequence, _)| *sequence > self.log.low()).collect();
        // A weak quorum of view-changes vouches for it, so whoever has this state has the right one.
        self.checkpoints.settle(decision.stable);
    }

    /// Takes the new view's assignments within the watermarks up, each as if its pre-prepare had come.
    pub(super) fn take_assignments(&mut self, turn: &mut Turn<'_>) {
        for (sequence, digest) in self.views.take_assigned(self.log.high()) {
            if sequence > self.log.low() {
                self.assign_one(sequence, digest, turn);
            }
        }
    }

    fn assign_one(&mut self, sequence: SequenceNumber, digest: Digest, turn: &mut Turn<'_>) {
        let (view, own, votes) = (self.view, self.config.own, self.config.voting);
        let primary = self.is_primary();
        let slot = self.log.slot_mut(sequence);
        slot.pre_prepared = Some(digest);
        slot.reproposed = true;
        if slot.phase >= Phase::CommittedLocal {
            // Decided here, in an earlier view: only this digest can have been assigned, and voting for it again binds
            // nothing new. It may be what others lack to decide.
            if slot.has_body(digest) && votes {
                if !primary {
                    let _ = slot.prepares.record(own, digest, None);
                    turn.broadcast(Message::Prepare(Vote { view, sequence, digest }));
                }
                let _ = slot.commits.record(own, digest, None);
                turn.broadcast(Message::Commit(Vote { view, sequence, digest }));
            }
            return;
        }
        let null = Batch::null();
        let body = if digest == null.digest { Some(null) } else { slot.past.body(digest).cloned() };
        if let Some(body) = body {
            self.take_assigned_body(sequence, body, turn);
        }
        self.progress(sequence, turn);
    }

    /// The body of an assignment of the new view is here.
    pub(super) fn take_assigned_body(&mut self, sequence: SequenceNumber, body: Arc<Batch>, turn: &mut Turn<'_>) {
        let slot = self.log.slot_mut(sequence);
        slot.stamps.received = turn.now;
        slot.batch = Some(Arc::clone(&body));
        self.admission.note(&body.requests);
        self.accept(sequence, turn);
    }

    /// Makes a record durable before whatever is said next, where that is asked for.
    pub(super) fn persist(&self, turn: &mut Turn<'_>, record: impl FnOnce() -> Record) {
        if self.config.durable {
            turn.outputs.push(crate::protocol::Output::Persist(record()));
        }
    }

    /// When the state of views began to be what it is: for a replica that goes on from its records.
    pub(super) fn resume_change(&mut self, change: &Arc<ViewChange>, now: Time) {
        self.view = change.view;
        self.views.active = false;
        self.views.beyond.clear();
        self.views.note(Signed { content: Arc::clone(change), signature: None });
        self.suspicion.await_view(now);
    }
}
