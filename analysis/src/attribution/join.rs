//! Puts together what the load generator and the replicas noted of the same operations.
//!
//! They choose the same operations without telling each other, so nothing of this is on the wire. Times are ns on each
//! process's own monotonic clock; processes of one machine read the same one.

use std::collections::HashMap;

use super::{PARTS, Part, Sample};

/// What the load generator noted of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// Its client.
    pub client: u32,
    /// Which of the client's operations.
    pub timestamp: u64,
    /// When it was to be sent.
    pub intended: u64,
    /// When the generator began with it.
    pub begun: u64,
    /// When its frame was handed to the kernel for the first time.
    pub handed: u64,
    /// When the first reply of the quorum was read.
    pub read: u64,
    /// When it was counted.
    pub counted: u64,
    /// When the quorum was complete.
    pub completed: u64,
    /// Who gave the first reply of the quorum.
    pub first_replica: u16,
    /// Who gave the last.
    pub last_replica: u16,
    /// Whether its request was sent more than once.
    pub sent_again: bool,
}

/// What a replica noted of a request that it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its client.
    pub client: u32,
    /// Which of the client's operations.
    pub timestamp: u64,
    /// When its frame was read.
    pub received: u64,
    /// When a verify stage took it.
    pub started: u64,
    /// When it was verified.
    pub verified: u64,
}

/// What a replica noted of an operation that it executed. Times are of its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// Its client.
    pub client: u32,
    /// Which of the client's operations.
    pub timestamp: u64,
    /// The sequence number.
    pub sequence: u64,
    /// The view that it committed in.
    pub view: u64,
    /// When the pre-prepare was sent (primary) or accepted (backup).
    pub pre_prepared: u64,
    /// When it was prepared.
    pub prepared: u64,
    /// When it was committed-local.
    pub committed: u64,
    /// When its votes were durable; `None` without a log.
    pub durable: Option<u64>,
    /// When its execution began.
    pub started: u64,
    /// When it ended.
    pub executed: u64,
}

/// When a replica sealed a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its client.
    pub client: u32,
    /// Which of the client's operations it answers.
    pub timestamp: u64,
    /// When.
    pub sealed: u64,
}

/// All that one replica noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Which replica.
    pub replica: u16,
    /// Requests that it was sent.
    pub requests: Vec<Request>,
    /// Operations that it executed.
    pub executions: Vec<Execution>,
    /// Replies that it sealed.
    pub replies: Vec<Reply>,
}

/// Follows each operation through what replicas noted. `replicas` is n; `began` is when the load began.
///
/// Whatever was noted twice, because it came again, counts when it came first.
#[must_use]
pub fn join(
    operations: &[Operation],
    witnesses: &[Witness],
    replicas: u16,
    began: u64,
    shared_clock: bool,
) -> Vec<Sample> {
    let witnesses: HashMap<u16, Indexed> =
        witnesses.iter().map(|witness| (witness.replica, Indexed::new(witness))).collect();
    let follow = |operation: &Operation| {
        let seen = Seen::new(operation, &witnesses, replicas);
        let parts = if shared_clock { follow_path(operation, &seen) } else { add_durations(operation, &seen) };
        Sample {
            client: operation.client,
            timestamp: operation.timestamp,
            completed_ns: operation.completed.saturating_sub(began),
            latency_ns: operation.completed.saturating_sub(operation.intended),
            sequence: seen.answering.map(|execution| execution.sequence),
            primary: seen.primary,
            first_replica: operation.first_replica,
            last_replica: operation.last_replica,
            sent_again: operation.sent_again,
            parts,
        }
    };
    operations.iter().map(follow).collect()
}

type Key = (u32, u64);

/// One replica's notes by operation.
struct Indexed {
    requests: HashMap<Key, Request>,
    executions: HashMap<Key, Execution>,
    replies: HashMap<Key, Reply>,
}

impl Indexed {
    fn new(witness: &Witness) -> Self {
        Self {
            requests: first_of(&witness.requests, |request| (request.client, request.timestamp, request.received)),
            executions: first_of(&witness.executions, |done| (done.client, done.timestamp, done.executed)),
            replies: first_of(&witness.replies, |reply| (reply.client, reply.timestamp, reply.sealed)),
        }
    }
}

/// Of each operation the note that was made first.
fn first_of<T: Copy>(notes: &[T], of: impl Fn(&T) -> (u32, u64, u64)) -> HashMap<Key, T> {
    let mut first: HashMap<Key, T> = HashMap::new();
    for note in notes {
        let (client, timestamp, at) = of(note);
        let known = first.entry((client, timestamp)).or_insert(*note);
        if of(known).2 > at {
            *known = *note;
        }
    }
    first
}

/// What is known of one operation besides what its client noted.
struct Seen {
    primary: Option<u16>,
    /// Where it was verified: at the primary, or else where it came first.
    request: Option<Request>,
    /// Its batch at the primary.
    proposed: Option<Execution>,
    /// Its batch at the replica that answered first.
    answering: Option<Execution>,
    reply: Option<Reply>,
}

impl Seen {
    fn new(operation: &Operation, witnesses: &HashMap<u16, Indexed>, replicas: u16) -> Self {
        let key = (operation.client, operation.timestamp);
        let first = witnesses.get(&operation.first_replica);
        let answering = first.and_then(|witness| witness.executions.get(&key)).copied();
        let primary = answering.and_then(|execution| u16::try_from(execution.view % u64::from(replicas.max(1))).ok());
        let leader = primary.and_then(|primary| witnesses.get(&primary));
        let anywhere = || {
            let all = witnesses.values().filter_map(|witness| witness.requests.get(&key));
            all.min_by_key(|request| request.received)
        };
        Self {
            primary,
            request: leader.and_then(|leader| leader.requests.get(&key)).or_else(anywhere).copied(),
            proposed: leader.and_then(|leader| leader.executions.get(&key)).copied(),
            answering,
            reply: first.and_then(|witness| witness.replies.get(&key)).copied(),
        }
    }
}

/// The points of the path on the clock that all share, one after the other. A point that is missing, or that lies
/// before the one in front of it or after the end, leaves a gap: what passed in it is unattributed.
fn follow_path(operation: &Operation, seen: &Seen) -> [u64; PARTS] {
    let (request, answering) = (seen.request, seen.answering);
    let points = [
        (Part::ClientWait, Some(operation.begun)),
        (Part::ClientSend, Some(operation.handed)),
        (Part::RequestNetwork, request.map(|request| request.received)),
        (Part::VerifyWait, request.map(|request| request.started)),
        (Part::Verify, request.map(|request| request.verified)),
        (Part::OrderWait, seen.proposed.map(|batch| batch.pre_prepared)),
        (Part::Prepare, answering.map(|batch| batch.prepared)),
        (Part::Commit, answering.map(|batch| batch.committed)),
        (Part::Persist, answering.and_then(|batch| batch.durable)),
        (Part::ExecuteWait, answering.map(|batch| batch.started)),
        (Part::Execute, answering.map(|batch| batch.executed)),
        (Part::ReplyWait, seen.reply.map(|reply| reply.sealed)),
        (Part::ReplyNetwork, Some(operation.read)),
        (Part::ClientReceive, Some(operation.counted)),
        (Part::QuorumWait, Some(operation.completed)),
    ];
    let mut parts = [0; PARTS];
    let mut last = operation.intended;
    let mut gap = false;
    for (part, point) in points {
        match point {
            Some(at) if (last..=operation.completed).contains(&at) => {
                parts[if gap { Part::Unattributed } else { part } as usize] += at - last;
                (last, gap) = (at, false);
            }
            // Without a log there is no such point on the path.
            None if part == Part::Persist && answering.is_some() => {}
            _ => gap = true,
        }
    }
    parts
}

/// What passes within one process, by its own clock; the rest of what passes between the client's frame leaving and the
/// first reply coming is the network's, both ways and between replicas.
fn add_durations(operation: &Operation, seen: &Seen) -> [u64; PARTS] {
    let mut parts = [0; PARTS];
    let latency = operation.completed.saturating_sub(operation.intended);
    let at_client = [
        (Part::ClientWait, operation.intended, operation.begun),
        (Part::ClientSend, operation.begun, operation.handed),
        (Part::ClientReceive, operation.read, operation.counted),
        (Part::QuorumWait, operation.counted, operation.completed),
    ];
    let at_replicas = durations_at_replicas(seen);
    let sum = |spans: &[(Part, u64, u64)]| spans.iter().map(|(_, from, to)| to.checked_sub(*from)).sum::<Option<u64>>();
    let add = |parts: &mut [u64; PARTS], spans: &[(Part, u64, u64)]| {
        spans.iter().for_each(|(part, from, to)| parts[*part as usize] += to - from);
    };
    let outside = sum(&at_client).and_then(|at_client| latency.checked_sub(at_client));
    let Some(outside) = outside else {
        parts[Part::Unattributed as usize] = latency;
        return parts;
    };
    add(&mut parts, &at_client);
    let inside = at_replicas.as_deref().and_then(|spans| Some((spans, outside.checked_sub(sum(spans)?)?)));
    match inside {
        Some((spans, between)) => {
            add(&mut parts, spans);
            parts[Part::Network as usize] = between;
        }
        None => parts[Part::Unattributed as usize] = outside,
    }
    parts
}

/// Begin and end of what passes within the primary and within the replica that answers first; `None` if any is not
/// known.
fn durations_at_replicas(seen: &Seen) -> Option<Vec<(Part, u64, u64)>> {
    let (request, proposed, batch, reply) = (seen.request?, seen.proposed?, seen.answering?, seen.reply?);
    let durable = batch.durable.unwrap_or(batch.committed);
    Some(vec![
        (Part::VerifyWait, request.received, request.started),
        (Part::Verify, request.started, request.verified),
        (Part::OrderWait, request.verified, proposed.pre_prepared),
        (Part::Prepare, batch.pre_prepared, batch.prepared),
        (Part::Commit, batch.prepared, batch.committed),
        (Part::Persist, batch.committed, durable),
        (Part::ExecuteWait, durable, batch.started),
        (Part::Execute, batch.started, batch.executed),
        (Part::ReplyWait, batch.executed, reply.sealed),
    ])
}

#[cfg(test)]
mod tests;
