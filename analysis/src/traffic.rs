//! What replicas send for one operation, beside what the protocol's message complexity says.
//!
//! Counted as in PBFT's normal case (Castro & Liskov, OSDI'99, section 4.2; TOCS'02, section 2.3): for a batch the
//! primary sends a pre-prepare to each backup, each backup a prepare and each replica a commit to all others, each
//! replica its replies, and every K batches a checkpoint message to all others. Exact but for what the normal case has
//! not (retransmissions, probes and what answers them, status messages, repairs, view changes), and for a byte of each
//! timestamp, whose column is as wide as clients are apart. Pure; lengths on the wire are measured elsewhere.

use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::roofline::Shape;

/// `traffic` of `report.json`: frames and bytes that all replicas sent, to each other and to clients, for each ordered
/// operation over the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames that they sent.
    pub messages_per_op: f64,
    /// Frames that message complexity says, for the batches that were made.
    pub expected_messages_per_op: f64,
    /// Bytes that they sent.
    pub bytes_per_op: f64,
    /// Bytes that it says; `null` where operations differ in size, so that nothing exact can be said.
    pub expected_bytes_per_op: Option<f64>,
    /// What is expected, kind by kind.
    pub parts: Vec<Sent>,
}

/// One kind of message as it is expected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Which: one of [`KINDS`].
    pub name: String,
    /// How many of them for a batch, over all replicas.
    pub messages_per_batch: f64,
    /// Bytes of one, on average, its frame's header included; `null` if they are not known.
    pub frame_bytes: Option<f64>,
    /// How many for one operation.
    pub messages_per_op: f64,
    /// Their bytes for one operation; `null` if they are not known.
    pub bytes_per_op: Option<f64>,
}

/// The kinds of messages of the normal case, in the order of [`expected`].
pub const KINDS: [&str; 5] = ["pre_prepare", "prepare", "commit", "reply", "checkpoint"];

/// What all replicas send for a batch, kind by kind. Empty if the shape is none: without replicas or requests.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
pub fn expected(shape: &Shape) -> Vec<Sent> {
    let Shape { replicas, batch, bytes, .. } = shape;
    if *replicas == 0 || *batch <= 0.0 {
        return Vec::new();
    }
    let n = *replicas as f64;
    let others = n - 1.0;
    let reply_frames = frames_of_replies(shape.connections as f64, *batch);
    let of_operations = |bytes: f64| Some(bytes).filter(|_| !shape.sizes_vary);
    let counts = [
        (others, of_operations(bytes.pre_prepare)),
        (others * others, Some(bytes.vote)),
        (n * others, Some(bytes.vote)),
        (n * reply_frames, of_operations(bytes.all_replies(n, reply_frames) / (n * reply_frames))),
        (n * others / shape.checkpoint_interval.max(1) as f64, Some(bytes.checkpoint)),
    ];
    let sent = KINDS.iter().zip(counts).map(|(name, (messages_per_batch, frame_bytes))| {
        let messages_per_op = messages_per_batch / batch;
        let bytes_per_op = frame_bytes.map(|bytes| bytes * messages_per_op);
        Sent { name: (*name).to_owned(), messages_per_batch, frame_bytes, messages_per_op, bytes_per_op }
    });
    sent.collect()
}

/// In how many frames a replica's replies to a batch leave: one for each connection that carries a client of the batch.
/// Of c connections that carry equal shares of the clients, b clients drawn by chance fall on c (1 - (1 - 1/c)^b).
fn frames_of_replies(connections: f64, batch: f64) -> f64 {
    let connections = connections.max(1.0);
    (connections * (1.0 - (1.0 - 1.0 / connections).powf(batch))).max(1.0)
}

/// What a run's replicas sent, beside what is expected of a run whose batches look like `shape`; `None` if no operation
/// was ordered, or if there is no shape.
#[must_use]
pub fn of_run(report: &Report, shape: &Shape) -> Option<Traffic> {
    let parts = expected(shape);
    let (messages_per_op, bytes_per_op) = sent_per_op(report)?;
    (!parts.is_empty()).then(|| Traffic {
        messages_per_op,
        expected_messages_per_op: parts.iter().map(|part| part.messages_per_op).sum(),
        bytes_per_op,
        expected_bytes_per_op: parts.iter().map(|part| part.bytes_per_op).sum(),
        parts,
    })
}

/// Frames and bytes that all replicas sent for each ordered operation over the whole run; `None` without any.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "no run counts 2^53 of anything")]
pub fn sent_per_op(report: &Report) -> Option<(f64, f64)> {
    let operations = report.audit.operations_completed;
    let per_operation = |count: u64| count as f64 / operations as f64;
    let messages = report.replicas.iter().map(|replica| replica.messages_sent).sum();
    let bytes = report.replicas.iter().map(|replica| replica.bytes_sent).sum();
    (operations > 0).then(|| (per_operation(messages), per_operation(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Replica;
    use crate::roofline::FrameBytes;

    /// Every length another power of ten, so that a sum tells what it is made of.
    fn shape(replicas: u64, batch: f64) -> Shape {
        let bytes = FrameBytes {
            pre_prepare: 1e2,
            vote: 1e4,
            replies: 1e6,
            replies_head: 1.0,
            checkpoint: 1e8,
            ..FrameBytes::default()
        };
        Shape { replicas, batch, checkpoint_interval: 4, connections: 1, bytes, ..Shape::default() }
    }

    #[track_caller]
    fn assert_counts(shape: &Shape, per_batch: [f64; 5]) {
        let parts = expected(shape);
        let counts: Vec<f64> = parts.iter().map(|part| part.messages_per_batch).collect();
        assert!(counts.iter().zip(per_batch).all(|(count, expected)| (count - expected).abs() < 1e-9), "{counts:?}");
        assert!(parts.iter().map(|part| part.name.as_str()).eq(KINDS));
    }

    /// Drawn and counted by hand: Castro and Liskov's figure of the normal case for four replicas, and larger clusters.
    #[test]
    fn messages_are_those_of_the_normal_case() {
        assert_counts(&shape(4, 1.0), [3.0, 9.0, 12.0, 4.0, 3.0]);
        assert_counts(&shape(7, 1.0), [6.0, 36.0, 42.0, 7.0, 10.5]);
        assert_counts(&shape(31, 1.0), [30.0, 900.0, 930.0, 31.0, 232.5]);
        assert_eq!(expected(&Shape::default()), []);
    }

    /// Ten requests share what is sent once, and have the bytes of their frames in common.
    #[test]
    fn batches_share_their_messages() {
        let run = |replicas, batch| of_run(&report(), &shape(replicas, batch)).unwrap();
        assert!((run(4, 1.0).expected_messages_per_op - 31.0).abs() < 1e-9);
        assert!((run(4, 10.0).expected_messages_per_op - 3.1).abs() < 1e-9);
        let bytes = 3.0 * 1e2 + 21.0 * 1e4 + 4.0 * 1e6 + 3.0 * 1e8;
        assert!((run(4, 10.0).expected_bytes_per_op.unwrap() - bytes / 10.0).abs() < 1e-3);
    }

    #[test]
    fn what_differs_in_size_has_no_exact_bytes() {
        let vary = Shape { sizes_vary: true, ..shape(4, 1.0) };
        let told = of_run(&report(), &vary).unwrap();
        assert_eq!(told.expected_bytes_per_op, None);
        assert!((told.expected_messages_per_op - 31.0).abs() < 1e-9);
        let known: Vec<bool> = told.parts.iter().map(|part| part.bytes_per_op.is_some()).collect();
        assert_eq!(known, [false, true, true, false, true]);
    }

    /// Replies leave in a frame for each connection of which a client is in the batch, and a frame more is a head more.
    #[test]
    fn replies_are_split_by_connections() {
        let replies = |connections, batch| {
            let parts = expected(&Shape { connections, ..shape(4, batch) });
            (parts[3].messages_per_batch, parts[3].bytes_per_op.unwrap() * batch)
        };
        let close = |(count, bytes): (f64, f64), (expected, more): (f64, f64)| {
            (count - expected).abs() < 1e-6 && (bytes - 4e6 - more).abs() < 1e-3
        };
        assert!(close(replies(1, 7.0), (4.0, 0.0)));
        assert!(close(replies(8, 1.0), (4.0, 0.0)), "one request has one connection");
        assert!(close(replies(2, 2.0), (6.0, 2.0)), "two fall on one connection as often as on two");
        assert!(close(replies(4, 1000.0), (16.0, 12.0)), "many requests fall on all");
    }

    /// One replica sends the replies in two frames, three send a digest for each of these.
    #[test]
    fn digests_stand_for_whole_frames() {
        let mut shape = Shape { connections: 2, ..shape(4, 1000.0) };
        shape.bytes.batch_digest = 50.0;
        let replies = &expected(&shape)[3];
        assert!((replies.messages_per_batch - 8.0).abs() < 1e-6);
        assert!((replies.bytes_per_op.unwrap() * 1000.0 - (1e6 + 1.0 + 6.0 * 50.0)).abs() < 1e-3);
    }

    fn report() -> Report {
        let replica = |messages_sent, bytes_sent| Replica { messages_sent, bytes_sent, ..Replica::default() };
        let mut report = Report { replicas: vec![replica(10, 300), replica(20, 500)], ..Report::default() };
        report.audit.operations_completed = 5;
        report
    }

    #[test]
    fn what_was_sent_is_for_each_operation() {
        let told = of_run(&report(), &shape(4, 1.0)).unwrap();
        assert!((told.messages_per_op - 6.0).abs() < 1e-9 && (told.bytes_per_op - 160.0).abs() < 1e-9, "{told:?}");
        assert_eq!(of_run(&Report::default(), &shape(4, 1.0)), None);
        assert_eq!(of_run(&report(), &Shape::default()), None);
    }
}
