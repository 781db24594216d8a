//! Requests that clients sent to this backup, or to everybody again: each has its time to be ordered.
//!
//! Whoever makes requests that no primary can order must not wear out one primary after the other: the time of a
//! principal's requests doubles each time that one of them was waited for in vain, until none is waited for any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Pbft, Turn};
use crate::limits::PENDING_BYTES_MAX;
use crate::protocol::{Ignored, Message, Output};
use crate::requests::{RequestTable, TableBuilder};
use crate::types::{ClientId, Time, Timestamp};

/// The time-outs of requests of a principal that was waited for in vain double up to this power.
const PATIENCE_MAX: u32 = 6;

/// A request is passed on to the primary again after this part of the time-out, however often its client asks.
const FORWARD_FRACTION: u64 = 4;

/// The requests that the primary is to order.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    /// By client, at most one each.
    requests: BTreeMap<ClientId, AwaitedRequest>,
    /// The same, by the time at which they are due.
    due: BTreeSet<(Time, ClientId)>,
    bytes: usize,
    /// By principal: requests that were waited for in vain.
    in_vain: BTreeMap<u32, InVain>,
}

/// A request that the primary is to order.
#[derive(Debug)]
pub(super) struct AwaitedRequest {
    /// Since when this primary has had time for it.
    pub(super) since: Time,
    /// For how long the primary had been idle by then.
    pub(super) idle_ns: u64,
    due: Time,
    /// When it was last passed on to the primary.
    forwarded: Time,
    /// Its time is up, and the executor was asked whether it has been executed by a path that is not known here.
    recalled: bool,
    /// It was waited for in vain, it or an earlier request of its client.
    in_vain: bool,
    /// This request alone, with all its proofs.
    request: RequestTable,
}

/// Requests of one principal that were waited for in vain.
#[derive(Clone, Copy, Debug, Default)]
struct InVain {
    /// How often, one after the other.
    times: u32,
    /// How many of them are still waited for. With the last one, all is forgiven.
    outstanding: u32,
}

impl Awaited {
    /// All get their full time again. By now the primary has been idle for `idle_ns`.
    pub(super) fn time_anew(&mut self, now: Time, timeout_ns: u64, idle_ns: u64, principal: impl Fn(ClientId) -> u32) {
        self.due.clear();
        for (client, awaited) in &mut self.requests {
            let in_vain = self.in_vain.get(&principal(*client));
            awaited.since = now;
            awaited.idle_ns = idle_ns;
            awaited.recalled = false;
            awaited.due = now.after(patience_ns(timeout_ns, in_vain));
            self.due.insert((awaited.due, *client));
        }
    }

    /// Whether none is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// When the first of them is due.
    pub(super) fn first_due(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Whether a request of this client is waited for that is done when this timestamp is.
    pub(super) fn is_covered(&self, client: ClientId, timestamp: Timestamp) -> bool {
        self.requests.get(&client).is_some_and(|awaited| awaited.request.timestamps[0] <= timestamp)
    }

    /// Whether requests of a principal were waited for in vain, and some still are.
    pub(super) fn is_in_vain(&self, principal: u32) -> bool {
        self.in_vain.contains_key(&principal)
    }

    /// How often requests of a principal were waited for in vain, one after the other.
    #[cfg(test)]
    pub(super) fn in_vain_times(&self, principal: u32) -> u32 {
        self.in_vain.get(&principal).map_or(0, |in_vain| in_vain.times)
    }

    /// Waits no longer for the request of a client.
    pub(super) fn remove(&mut self, client: ClientId, principal: u32) -> Option<AwaitedRequest> {
        let awaited = self.requests.remove(&client)?;
        self.due.remove(&(awaited.due, client));
        self.bytes -= awaited.request.bytes();
        if awaited.in_vain
            && let Some(in_vain) = self.in_vain.get_mut(&principal)
        {
            in_vain.outstanding -= 1;
            if in_vain.outstanding == 0 {
                self.in_vain.remove(&principal);
            }
        }
        Some(awaited)
    }

    /// Waits for a request that nobody waited for, or for a newer one of its client. By now the primary has been idle
    /// for `idle_ns`.
    fn insert(
        &mut self,
        client: ClientId,
        principal: u32,
        request: RequestTable,
        now: Time,
        timeout_ns: u64,
        idle_ns: u64,
    ) {
        // A newer request of a client whose last one was in vain takes its place in that, too.
        let in_vain = self.requests.get_mut(&client).is_some_and(|earlier| std::mem::take(&mut earlier.in_vain));
        self.remove(client, principal);
        let due = now.after(patience_ns(timeout_ns, self.in_vain.get(&principal)));
        self.bytes += request.bytes();
        self.due.insert((due, client));
        let awaited = AwaitedRequest { since: now, idle_ns, due, forwarded: now, recalled: false, in_vain, request };
        self.requests.insert(client, awaited);
    }

    /// Requests whose time is up, for the executor to say whether they have been executed. Those of which it had
    /// nothing to say the last time have been.
    pub(super) fn take_due(
        &mut self,
        now: Time,
        timeout_ns: u64,
        principal: impl Fn(ClientId) -> u32,
    ) -> Vec<RequestTable> {
        let mut clients = Vec::new();
        while let Some(&(due, client)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, client));
            let Some(awaited) = self.requests.get_mut(&client) else { continue };
            if awaited.recalled {
                self.remove(client, principal(client));
            } else {
                awaited.recalled = true;
                awaited.due = now.after(timeout_ns);
                clients.push((awaited.due, client));
            }
        }
        self.due.extend(&clients);
        tables(clients.iter().map(|(_, client)| &self.requests[client].request))
    }

    /// The executor has not executed requests that it was asked about: they were waited for in vain, which counts once
    /// for each principal. Where nothing else was committed meanwhile, the last batch being that of `committed_at`,
    /// that says nothing of whoever made them.
    fn note_in_vain(&mut self, clients: &[(ClientId, u32)], committed_at: Option<Time>) {
        let mut principals = BTreeSet::new();
        for (client, principal) in clients {
            let Some(awaited) = self.requests.get_mut(client) else { continue };
            awaited.recalled = false;
            if committed_at.is_none_or(|at| at < awaited.since) {
                continue;
            }
            let in_vain = self.in_vain.entry(*principal).or_default();
            in_vain.times = in_vain.times.saturating_add(u32::from(principals.insert(*principal)));
            in_vain.outstanding += u32::from(!awaited.in_vain);
            awaited.in_vain = true;
        }
    }
}

/// Requests, each in a table of its own, in as few tables as possible.
fn tables<'a>(requests: impl Iterator<Item = &'a RequestTable>) -> Vec<RequestTable> {
    let mut tables = Vec::new();
    let mut builder = TableBuilder::default();
    for request in requests {
        if !builder.has_room_for(request, 0) {
            tables.push(builder.finish());
        }
        builder.push(request, 0);
    }
    if !builder.is_empty() {
        tables.push(builder.finish());
    }
    tables
}

/// How long a request may take whose principal was waited for in vain.
fn patience_ns(timeout_ns: u64, in_vain: Option<&InVain>) -> u64 {
    timeout_ns.saturating_mul(1 << in_vain.map_or(0, |in_vain| in_vain.times).min(PATIENCE_MAX))
}

impl Pbft {
    /// Backup: these requests reached this replica and have not been executed. The primary has its time for them from
    /// now on, unless it runs already. Returns those that the primary is to be told of.
    pub(super) fn await_requests(&mut self, table: &RequestTable, turn: &mut Turn<'_>) -> Vec<usize> {
        let mut to_forward = Vec::new();
        if !self.config.voting {
            return to_forward;
        }
        let again_ns = self.config.view_timeout_ns / FORWARD_FRACTION;
        let (mut full, mut in_vain) = (false, Vec::new());
        for (index, (&client, &timestamp)) in table.clients.iter().zip(&table.timestamps).enumerate() {
            if client.0 >= self.config.clients || self.is_distrusted(client) {
                continue;
            }
            let principal = self.principal(client);
            let known = self.suspicion.awaited.requests.get_mut(&client);
            match known.filter(|awaited| awaited.request.timestamps[0] >= timestamp) {
                Some(awaited) if awaited.request.timestamps[0] > timestamp => {}
                Some(awaited) => {
                    if turn.now.since(awaited.forwarded) >= again_ns {
                        awaited.forwarded = turn.now;
                        to_forward.push(index);
                    }
                    if awaited.recalled {
                        in_vain.push((client, principal));
                    }
                }
                None => {
                    let request = table.select(&[index]);
                    if self.suspicion.awaited.bytes + request.bytes() > PENDING_BYTES_MAX {
                        full = true;
                        continue;
                    }
                    let (timeout_ns, idle_ns) = (self.suspicion.timeout_ns, self.suspicion.idle_ns(turn.now));
                    self.suspicion.awaited.insert(client, principal, request, turn.now, timeout_ns, idle_ns);
                    to_forward.push(index);
                }
            }
        }
        if full {
            turn.outputs.push(Output::Ignored(Ignored::RequestQueueFull));
        }
        self.suspicion.awaited.note_in_vain(&in_vain, self.suspicion.committed_at);
        if !in_vain.is_empty() && self.views.active && !self.is_primary() {
            self.suspect(turn);
        }
        self.arm_view_timer(turn);
        to_forward
    }

    /// The view has started: its primary gets what is waited for.
    pub(super) fn forward_awaited(&mut self, turn: &mut Turn<'_>) {
        for awaited in self.suspicion.awaited.requests.values_mut() {
            awaited.forwarded = turn.now;
        }
        for table in tables(self.suspicion.awaited.requests.values().map(|awaited| &awaited.request)) {
            if self.is_primary() {
                self.on_requests_at_primary(Arc::new(table), turn);
            } else {
                turn.send(self.primary(), Message::Forward(Arc::new(table)));
            }
        }
        // What clients have sent to everybody need not be sent again.
        if self.leads() {
            for table in self.bodies.newest() {
                self.on_requests_at_primary(Arc::new(table), turn);
            }
        }
    }
}
