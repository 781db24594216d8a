//! PBFT's replica (Castro & Liskov, OSDI'99, sections 4.2 to 4.4; TOCS'02): three phases between two watermarks,
//! checkpoints, view changes, state transfer, recovery from a log, and repair of whatever gets lost.
//!
//! In data-path order: `primary` (admission and proposals), `vouched` (requests that only backups can prove), `bodies`
//! and `announced` (requests that clients send to everybody, and pre-prepares by their digests), `backup` (the three
//! phases, at every replica), `tentative` (what is executed when it is prepared), `checkpoint` (states that are shared,
//! and the low watermark), `repair` (the status exchange), `transfer` (the state itself, for whoever is beyond repair),
//! `takeover` (what becomes of the log then), `wishes` (the side of those that have the state). They work on the `log`,
//! a ring of `slot`s whose phases follow one table of `transitions`; `votes` counts them, `early` keeps messages that
//! are one window ahead, and `gathering` the chunks of a state.
//!
//! What replaces a primary: `suspicion` (when it has had its time), `awaited` (the requests that it is to order),
//! `slowness` (whether it is late all the same), `distrust` (clients that stop one primary after the other), `views`
//! (the view change), `decision` (what a new view starts from, a pure function), `past` (what was voted for in earlier
//! views). `recovery` goes on from what a replica made durable.

mod announced;
mod awaited;
mod backup;
mod bodies;
mod checkpoint;
mod decision;
mod distrust;
mod early;
mod gathering;
mod log;
mod past;
mod primary;
mod recovery;
mod repair;
mod slot;
mod slowness;
mod suspicion;
mod takeover;
mod tentative;
mod transfer;
mod transitions;
mod views;
mod votes;
mod vouched;
mod wishes;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use announced::Announced;
use bodies::Bodies;
use checkpoint::Checkpoints;
use early::Early;
use log::Log;
use primary::Admission;
pub use recovery::Recovery;
use repair::Repair;
use suspicion::Suspicion;
use transfer::Transfer;
use views::Views;
use vouched::Vouched;

use crate::limits::CLIENTS_MAX;
use crate::protocol::batching::Batching;
use crate::protocol::batching::queue::Queue;
use crate::protocol::message::Verdict;
use crate::protocol::planted::Planted;
use crate::protocol::{Authentic, Ignored, Input, Message, Output, Position, Protocol, Timer};
use crate::quorum::Quorums;
use crate::requests::RequestTable;
use crate::settings::options::{Dissemination, ExecutionChoice};
use crate::types::{ReplicaId, SequenceNumber, Time, View};

/// What one replica needs to know of its cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sizes of quorums; with them n.
    pub quorums: Quorums,
    /// Which replica this is.
    pub own: ReplicaId,
    /// L, the size of the watermark window: at least twice the checkpoint interval. Rounded down to a multiple of it,
    /// so that a cluster which stands at its high watermark stands at a checkpoint, whose state can be handed over.
    pub window: u64,
    /// K: a checkpoint is taken every K sequence numbers.
    pub checkpoint_interval: u64,
    /// When the primary closes a batch.
    pub batching: Batching,
    /// Whether clients send requests to all replicas, and pre-prepares carry digests.
    pub dissemination: Dissemination,
    /// Whether batches are executed when they are committed, or already when they are prepared.
    pub execution: ExecutionChoice,
    /// How many logical clients the cluster has, numbered densely from 0.
    pub clients: u32,
    /// Which of them share one principal (a client node with its key), each a contiguous range. What a client's faults
    /// lead to concerns its whole range. Clients in no range are a principal each of their own.
    pub principals: Arc<[Range<u32>]>,
    /// How often a replica tells the others where it stands, while there is anything to tell.
    pub status_interval_ns: u64,
    /// How long the primary may take to commit what it has to order, and to start its view. Doubles with each view
    /// change that leads to nothing, up to `view_timeout_max_ns`.
    pub view_timeout_ns: u64,
    /// The longest that a view time-out grows to.
    pub view_timeout_max_ns: u64,
    /// Whether [`Output::Persist`] is wanted.
    pub durable: bool,
    /// Whether this replica may vote. One that was started anew without its memory must not: it might contradict its
    /// own earlier votes. It follows along, executes and answers clients, and counts as faulty.
    pub voting: bool,
    /// The simulator's planted bug, to see whether it is found. Nothing else sets it.
    pub planted: Option<Planted>,
}

impl Config {
    /// Whether this bug is planted.
    fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }
}

/// A replica of PBFT. See [`Protocol`] for how it is driven.
#[derive(Debug)]
pub struct Pbft {
    config: Config,
    /// The current view: the one that this replica takes part in, or waits for.
    view: View,
    views: Views,
    suspicion: Suspicion,
    log: Log,
    checkpoints: Checkpoints,
    early: Early,
    repair: Repair,
    transfer: Transfer,
    diverged: bool,
    /// Primary: what was admitted of each client.
    admission: Admission,
    /// Primary: requests that prove themselves to backups only.
    vouched: Vouched,
    /// Requests that clients sent to everybody, until they are executed.
    bodies: Bodies,
    /// Backup: what was assigned by digests and lacks bodies.
    announced: Announced,
    /// Primary: what waits for a batch.
    queue: Queue,
    /// Primary: the next sequence number to assign.
    next: SequenceNumber,
    /// Primary: when the batch timer expires, if it is set.
    batch_timer: Option<Time>,
}

/// One step's time and outputs, passed down to the handlers.
struct Turn<'a> {
    now: Time,
    outputs: &'a mut Vec<Output>,
}

impl Turn<'_> {
    fn send(&mut self, to: ReplicaId, message: Message) {
        self.outputs.push(Output::Send(to, Arc::new(message)));
    }

    fn broadcast(&mut self, message: Message) {
        self.outputs.push(Output::Broadcast(Arc::new(message)));
    }
}

impl Pbft {
    /// A replica at the initial state, in view 0. Sets the status timer, by way of `outputs`.
    ///
    /// # Panics
    /// If the configuration is out of the ranges that [`crate::settings`] enforces.
    #[must_use]
    pub fn new(mut config: Config, now: Time, outputs: &mut Vec<Output>) -> Self {
        if config.has(Planted::QuorumOffByOne) {
            config.quorums = config.quorums.off_by_one();
        }
        let n = config.quorums.n();
        assert!(usize::from(config.own.0) < n, "own id out of range");
        assert!(config.checkpoint_interval > 0, "checkpoint interval is 0");
        assert!(config.window >= 2 * config.checkpoint_interval, "window below two checkpoint intervals");
        assert!(config.clients <= CLIENTS_MAX, "too many clients");
        assert!(config.status_interval_ns > 0, "status interval is 0");
        assert!(config.view_timeout_ns > 0, "view time-out is 0");
        config.window -= config.window % config.checkpoint_interval;
        let status_due = now.after(config.status_interval_ns);
        outputs.push(Output::SetTimer(Timer::Status, status_due));
        Self {
            view: View(0),
            views: Views::new(n),
            suspicion: Suspicion::new(n, config.view_timeout_ns, config.view_timeout_max_ns, now),
            log: Log::new(config.window),
            checkpoints: Checkpoints::new(n, config.checkpoint_interval, config.window),
            early: Early::new(n),
            repair: Repair::new(n, status_due),
            transfer: Transfer::new(n, now),
            diverged: false,
            admission: Admission::new(config.clients),
            vouched: Vouched::new(n),
            bodies: Bodies::new(
                if config.dissemination == Dissemination::Digest { config.clients } else { 0 },
                config.view_timeout_ns,
            ),
            announced: Announced::new(config.status_interval_ns),
            queue: Queue::new(config.batching.clone()),
            next: SequenceNumber(1),
            batch_timer: None,
            config,
        }
    }

    /// Keeps at most so many executed batches for replicas that fell behind: for the simulator, whose runs are too
    /// short to get to the limit that replicas have.
    pub const fn limit_history(&mut self, batches: usize) {
        self.log.limit_history(batches);
    }

    const fn primary(&self) -> ReplicaId {
        self.config.quorums.primary(self.view)
    }

    fn is_primary(&self) -> bool {
        self.primary() == self.config.own
    }

    /// Whether this replica assigns sequence numbers now.
    fn leads(&self) -> bool {
        self.is_primary() && self.views.active && self.config.voting
    }

    /// Handles a message and reports why, if it was ignored.
    fn on_message(&mut self, authentic: Authentic, turn: &mut Turn<'_>) {
        if let Err(reason) = self.dispatch(authentic, turn) {
            turn.outputs.push(Output::Ignored(reason));
        }
    }

    fn dispatch(&mut self, authentic: Authentic, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        let sender = authentic.sender;
        if usize::from(sender.0) >= self.config.quorums.n() || sender == self.config.own {
            return Err(Ignored::UnknownSender);
        }
        match &authentic.message {
            Message::PrePrepare(_) | Message::DigestPrePrepare(_) | Message::Prepare(_) | Message::Commit(_) => {
                self.on_phase_message(authentic, turn)
            }
            Message::Checkpoint(message) => self.on_checkpoint(sender, *message, authentic.signature, turn),
            Message::Status(status) => self.on_status(sender, status, turn),
            Message::Forward(table) => self.on_forward(sender, table, &authentic.requests, turn),
            Message::Committed(vote) => self.on_committed(sender, *vote, turn),
            Message::Body(body) => self.on_body(sender, body, turn),
            Message::ViewChange(signed) => self.on_view_change(signed, turn),
            Message::NewView(signed) => self.on_new_view(sender, signed, turn),
            Message::StateWanted(target) => self.on_state_wanted(sender, *target, turn),
            Message::FetchState(fetch) => self.on_fetch_state(sender, *fetch, turn),
            Message::StateChunk(chunk) => self.on_state_chunk(sender, chunk, turn),
        }
    }

    /// Requests straight from clients. A backup asks its executor first: a reply may have been lost.
    fn on_requests(&mut self, table: Arc<RequestTable>, turn: &mut Turn<'_>) {
        if self.sends_digests() {
            self.on_disseminated(table, turn);
        } else if self.leads() {
            self.on_requests_at_primary(table, turn);
        } else if !table.is_empty() {
            turn.outputs.push(Output::Recall(table));
        }
    }

    /// Requests that a backup passes on to the primary. One that does not prove itself here is admitted as soon as f +
    /// 1 backups have passed it on: to one that is correct it does. A client whose authenticators hold everywhere but
    /// at the primary would cost it its place otherwise.
    fn on_forward(
        &mut self,
        sender: ReplicaId,
        table: &Arc<RequestTable>,
        verdict: &Verdict,
        turn: &mut Turn<'_>,
    ) -> Result<(), Ignored> {
        if !self.leads() {
            return Err(Ignored::NotPrimary);
        }
        if verdict.invalid {
            return Err(Ignored::InvalidOperation);
        }
        if verdict.is_proven() {
            self.on_requests_at_primary(Arc::clone(table), turn);
            return Ok(());
        }
        let good = self.vouched.sift(sender, table, &verdict.unproven, self.config.quorums.weak());
        if good.is_empty() {
            return Err(Ignored::UnprovenRequests);
        }
        self.on_requests_at_primary(Arc::new(table.select(&good)), turn);
        Ok(())
    }

    /// Requests that came again and have not been executed: under way at the primary, perhaps unknown to it at a
    /// backup, which waits for it to order them from now on.
    fn on_not_executed(&mut self, table: Arc<RequestTable>, turn: &mut Turn<'_>) -> Result<(), Ignored> {
        if self.leads() {
            return Err(Ignored::RequestInProgress);
        }
        let to_forward = self.await_requests(&table, turn);
        if self.views.active && !self.is_primary() && !to_forward.is_empty() {
            let whole = to_forward.len() == table.len();
            let forwarded = if whole { table } else { Arc::new(table.select(&to_forward)) };
            turn.send(self.primary(), Message::Forward(forwarded));
        }
        Ok(())
    }
}

impl Protocol for Pbft {
    fn step(&mut self, now: Time, input: Input, outputs: &mut Vec<Output>) {
        let turn = &mut Turn { now, outputs };
        let handled = match input {
            Input::Requests(table) => {
                self.on_requests(table, turn);
                Ok(())
            }
            Input::Message(authentic) => {
                self.on_message(authentic, turn);
                Ok(())
            }
            Input::Timer(Timer::Batch) => {
                self.on_batch_timer(turn);
                Ok(())
            }
            Input::Timer(Timer::Status) => {
                self.on_status_timer(turn);
                Ok(())
            }
            Input::Timer(Timer::Bodies) => {
                self.on_bodies_timer(turn);
                Ok(())
            }
            Input::Executed(sequence) => self.on_executed(sequence, turn),
            Input::CheckpointTaken(sequence, digest) => self.on_checkpoint_taken(sequence, digest, turn),
            Input::NotExecuted(table) => self.on_not_executed(table, turn),
            Input::Timer(Timer::View) => {
                self.on_view_timer(turn);
                Ok(())
            }
            Input::StateRead(to, chunk) => {
                turn.send(to, Message::StateChunk(chunk));
                Ok(())
            }
            Input::StateInstalled { sequence, good } => self.on_state_installed(sequence, good, turn),
            Input::Timer(Timer::Adversary) => Ok(()),
        };
        if let Err(reason) = handled {
            turn.outputs.push(Output::Ignored(reason));
        }
    }

    fn position(&self) -> Position {
        Position {
            view: self.view,
            committed: self.log.committed,
            executed: self.log.done(),
            stable_checkpoint: self.log.low(),
            waiting_requests: self.queue.len(),
            active: self.views.active,
            view_changes: self.views.begun,
            states_installed: self.transfer.installed,
            fetching: self.transfer.fetching(),
        }
    }
}
