//! The floor: CPU time per operation that no implementation of the protocol could go below on a machine.
//!
//! Composed from how often each thing must be done for a batch in PBFT's normal case (Castro & Liskov, OSDI'99, section
//! 4.2) and what it costs on the machine. Pure; the costs are measured elsewhere. Counts are lower bounds: what a
//! cleverer implementation could leave out is left out.

use serde::{Deserialize, Serialize};

/// What a batch looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Replicas n.
    pub replicas: u64,
    /// Most faulty replicas f.
    pub faulty: u64,
    /// Requests in a batch, on average.
    pub batch: f64,
    /// Sequence numbers from one checkpoint to the next.
    pub checkpoint_interval: u64,
    /// Most batches that are under way at a time: messages of so many may share a system call.
    pub in_flight: f64,
    /// Cores that the run may use.
    pub cores: u64,
    /// Tags that a client makes for one request: n with MACs, 1 with a signature, 0 with neither.
    pub request_proofs: u64,
    /// Most requests that these are for: more than 1 where clients prove groups.
    pub requests_per_proof: u64,
    /// Whether one proof of a message between replicas convinces all receivers: signatures do, MACs do not.
    pub shared_message_proofs: bool,
    /// Whether a frame of replies is proven: its proof covers a digest of it then.
    pub replies_proven: bool,
    /// To how many replicas a client sends its requests: 1, or n where pre-prepares have but their digests.
    pub request_copies: u64,
    /// Connections from a client node to each replica, over which replies go.
    pub connections: u64,
    /// Whether operations and results differ in size: frames have at least these bytes then.
    pub sizes_vary: bool,
    /// Bytes of frames, headers included.
    pub bytes: FrameBytes,
}

/// Bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameBytes {
    /// A frame of the batch's requests.
    pub requests: f64,
    /// A pre-prepare of the batch.
    pub pre_prepare: f64,
    /// A prepare or a commit.
    pub vote: f64,
    /// A frame of the batch's replies.
    pub replies: f64,
    /// A frame with their digest, which all replicas but one send in place of it; 0 where all send the replies.
    #[serde(default)]
    pub batch_digest: f64,
    /// What each frame more adds to that: header, head and proof.
    pub replies_head: f64,
    /// A checkpoint message.
    pub checkpoint: f64,
}

impl FrameBytes {
    /// Bytes of the replies of all of `replicas` replicas to a batch that each of them answers in `frames` frames.
    #[must_use]
    pub fn all_replies(&self, replicas: f64, frames: f64) -> f64 {
        let whole = self.replies + (frames - 1.0) * self.replies_head;
        let of_another = if self.batch_digest > 0.0 { frames * self.batch_digest } else { whole };
        whole + (replicas - 1.0) * of_another
    }

    /// Those of a batch on the line through these ones' and another's: at this share of the way, which may lie beyond
    /// it.
    #[must_use]
    pub fn towards(&self, other: &Self, share: f64) -> Self {
        let on_line = |of: fn(&Self) -> f64| of(self) + share * (of(other) - of(self));
        Self {
            requests: on_line(|bytes| bytes.requests),
            pre_prepare: on_line(|bytes| bytes.pre_prepare),
            vote: on_line(|bytes| bytes.vote),
            replies: on_line(|bytes| bytes.replies),
            // Digests are all alike, or there are none.
            batch_digest: self.batch_digest.min(other.batch_digest),
            replies_head: on_line(|bytes| bytes.replies_head),
            checkpoint: on_line(|bytes| bytes.checkpoint),
        }
    }
}

/// What things cost on a machine, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// The digest of one request, among a batch of them.
    pub digest: f64,
    /// One proof of a request, or of a group of them, made among those of a batch.
    pub make_request_proof: f64,
    /// One checked.
    pub check_request_proof: f64,
    /// A proof of a message between replicas made.
    pub make_message_proof: f64,
    /// .. and checked.
    pub check_message_proof: f64,
    /// A proof of a frame of replies made.
    pub make_reply_proof: f64,
    /// .. and checked.
    pub check_reply_proof: f64,
    /// What each byte adds to the digest of something long.
    pub hash_byte: f64,
    /// The smallest send and the receive of it, over loopback, without waiting.
    pub send_receive: f64,
    /// What each byte adds to that.
    pub send_receive_byte: f64,
    /// One byte copied.
    pub copy_byte: f64,
    /// One process giving its core to another.
    pub switch: f64,
}

/// Something that must be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// What.
    pub name: String,
    /// How often for one operation.
    pub count_per_op: f64,
    /// What it costs each time, ns.
    pub unit_ns: f64,
    /// Both multiplied, µs.
    pub us_per_op: f64,
}

/// `efficiency` of `report.json`: how near a run came to the floor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Efficiency {
    /// CPU time per operation that can not be gone below, µs.
    pub floor_us_per_op: f64,
    /// What the run took, over all processes, µs.
    pub achieved_us_per_op: f64,
    /// The floor in percent of that.
    pub percent: f64,
    /// What the floor is made of.
    pub components: Vec<Component>,
}

/// Bytes of a digest.
const DIGEST_BYTES: f64 = 32.0;

/// Names of the components, in the order of [`compose`].
pub const COMPONENTS: [&str; 11] = [
    "request_digest",
    "make_request_proof",
    "check_request_proof",
    "make_message_proof",
    "check_message_proof",
    "make_reply_proof",
    "check_reply_proof",
    "hash_byte",
    "send_receive",
    "send_receive_byte",
    "copy_byte",
];

/// The component that is there only where processes outnumber cores.
pub const SWITCH: &str = "switch";

/// What must be done for one operation and what that costs. Empty if the shape is none: without replicas or requests.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
pub fn compose(shape: &Shape, costs: &Costs) -> Vec<Component> {
    let Shape { replicas, faulty, batch, in_flight, .. } = *shape;
    if replicas == 0 || batch <= 0.0 || in_flight <= 0.0 {
        return Vec::new();
    }
    let (n, f) = (replicas as f64, faulty as f64);
    let others = n - 1.0;
    let quorum = ((n + f + 1.0) / 2.0).ceil();
    let checkpoints = 1.0 / (shape.checkpoint_interval.max(1) as f64);
    let bytes = &shape.bytes;
    let proofs = shape.request_proofs as f64;
    let per_proof = shape.requests_per_proof.max(1) as f64;

    // Sent for a batch: the pre-prepare to each backup, each backup's prepare and everybody's commit to all others.
    let votes = others * others + n * others;
    let checkpoint_messages = n * others * checkpoints;
    // One signature is made for all receivers of a message.
    let proofs_made = others + votes + checkpoint_messages;
    let proofs_made = if shape.shared_message_proofs { 1.0 + others + n + n * checkpoints } else { proofs_made };
    // Checked: the pre-prepare by each backup; of prepares as many as a quorum needs besides the pre-prepare and one's
    // own, of commits as many as it needs besides one's own. The rest may be thrown away unread.
    let prepares_checked = (quorum - 1.0) + others * (quorum - 2.0).max(0.0);
    let commits_checked = n * (quorum - 1.0);
    let checked = others + prepares_checked + commits_checked + n * (quorum - 1.0) * checkpoints;
    // Checkpoint messages may ride along with others.
    let copies = shape.request_copies.max(1) as f64;
    let messages = copies + others + votes + n;
    let replies = bytes.all_replies(n, 1.0);
    let moved = copies * bytes.requests
        + others * bytes.pre_prepare
        + votes * bytes.vote
        + replies
        + checkpoint_messages * bytes.checkpoint;
    let digesters = n + if proofs > 0.0 { 1.0 } else { 0.0 };
    // Each replica makes the batch's digest out of its requests'. A proof of replies covers a digest of them, which the
    // client makes of what it is sent: where one replica sends replies, of one frame.
    let replies_body = (bytes.replies - bytes.replies_head).max(0.0);
    let whole_frames = if bytes.batch_digest > 0.0 { 1.0 } else { f + 1.0 };
    let digested_replies = if shape.replies_proven { (n + whole_frames) * replies_body } else { 0.0 };
    let per_batch = |count: f64| count / batch;
    let counts = [
        (digesters, costs.digest),
        (proofs / per_proof, costs.make_request_proof),
        (if proofs > 0.0 { n / per_proof } else { 0.0 }, costs.check_request_proof),
        (per_batch(proofs_made), costs.make_message_proof),
        (per_batch(checked), costs.check_message_proof),
        (per_batch(n), costs.make_reply_proof),
        (per_batch(f + 1.0), costs.check_reply_proof),
        (n * DIGEST_BYTES + per_batch(digested_replies), costs.hash_byte),
        (per_batch(messages) / in_flight.max(1.0), costs.send_receive),
        (per_batch(moved), costs.send_receive_byte),
        // The client writes its requests down once, each replica what it sends of replies.
        (per_batch(bytes.requests + replies), costs.copy_byte),
    ];
    let named = COMPONENTS.iter().zip(counts).filter(|(_, (count, _))| *count > 0.0);
    let mut components: Vec<Component> =
        named.map(|(name, (count, unit_ns))| component(name, count, unit_ns)).collect();
    // A quorum of replicas and the client must run at least once for each round of batches that are under way.
    let switches = (quorum + 1.0 - shape.cores as f64).max(0.0) / batch / in_flight.max(1.0);
    if switches > 0.0 {
        components.push(component(SWITCH, switches, costs.switch));
    }
    components
}

fn component(name: &str, count_per_op: f64, unit_ns: f64) -> Component {
    Component { name: name.to_owned(), count_per_op, unit_ns, us_per_op: count_per_op * unit_ns / 1e3 }
}

/// How near a run that took `achieved_us_per_op` came to the floor; `None` if it did nothing, or there is no floor.
#[must_use]
pub fn efficiency(shape: &Shape, costs: &Costs, achieved_us_per_op: f64) -> Option<Efficiency> {
    let components = compose(shape, costs);
    let floor_us_per_op: f64 = components.iter().map(|component| component.us_per_op).sum();
    let is_told = achieved_us_per_op > 0.0 && floor_us_per_op > 0.0;
    is_told.then(|| Efficiency {
        floor_us_per_op,
        achieved_us_per_op,
        percent: 100.0 * floor_us_per_op / achieved_us_per_op,
        components,
    })
}

/// The components as a table with their sum.
#[must_use]
pub fn table(components: &[Component]) -> String {
    let mut text = format!("{:<22} {:>12} {:>12} {:>12}\n", "component", "per op", "ns each", "µs per op");
    let row = |name: &str, count: &str, unit: &str, us: f64| format!("{name:<22} {count:>12} {unit:>12} {us:>12.4}\n");
    for Component { name, count_per_op, unit_ns, us_per_op } in components {
        text += &row(name, &format!("{count_per_op:.4}"), &format!("{unit_ns:.3}"), *us_per_op);
    }
    text + &row("floor", "", "", components.iter().map(|component| component.us_per_op).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cost another power of ten, so that a sum tells what it is made of.
    const COSTS: Costs = Costs {
        digest: 1.0,
        make_request_proof: 10.0,
        check_request_proof: 100.0,
        make_message_proof: 1e3,
        check_message_proof: 1e4,
        make_reply_proof: 1e5,
        check_reply_proof: 1e6,
        hash_byte: 1e7,
        send_receive: 1e8,
        send_receive_byte: 1e9,
        copy_byte: 1e10,
        switch: 1e11,
    };

    fn shape() -> Shape {
        Shape {
            replicas: 4,
            faulty: 1,
            batch: 1.0,
            checkpoint_interval: 4,
            in_flight: 1.0,
            cores: 8,
            request_proofs: 4,
            requests_per_proof: 1,
            shared_message_proofs: false,
            replies_proven: true,
            request_copies: 1,
            connections: 1,
            sizes_vary: false,
            bytes: FrameBytes {
                requests: 100.0,
                pre_prepare: 60.0,
                vote: 80.0,
                replies: 30.0,
                batch_digest: 0.0,
                replies_head: 5.0,
                checkpoint: 40.0,
            },
        }
    }

    fn counts(shape: &Shape) -> Vec<(String, f64)> {
        compose(shape, &COSTS).into_iter().map(|component| (component.name, component.count_per_op)).collect()
    }

    #[track_caller]
    fn assert_counts(shape: &Shape, expected: &[(&str, f64)]) {
        let counts = counts(shape);
        assert_eq!(counts.len(), expected.len(), "{counts:?}");
        for ((name, count), (expected_name, expected)) in counts.iter().zip(expected) {
            assert!(name == expected_name && (count - expected).abs() < 1e-9, "{name}: {count}, not {expected}");
        }
    }

    /// Four replicas, one request a batch, counted by hand.
    #[test]
    fn one_request_costs_all_of_a_batch() {
        assert_counts(
            &shape(),
            &[
                ("request_digest", 5.0), // the client and each replica
                ("make_request_proof", 4.0),
                ("check_request_proof", 4.0),
                ("make_message_proof", 3.0 + 9.0 + 12.0 + 3.0), // 12 checkpoint messages every 4 batches
                // Pre-prepares 3; prepares: 2 at the primary, 1 at each backup; commits: 2 at each; checkpoints: 2 at
                // each every 4 batches.
                ("check_message_proof", 3.0 + 2.0 + 3.0 + 8.0 + 2.0),
                ("make_reply_proof", 4.0),
                ("check_reply_proof", 2.0),
                ("hash_byte", 4.0 * 32.0 + (4.0 + 2.0) * 25.0),
                ("send_receive", 1.0 + 3.0 + 9.0 + 12.0 + 4.0),
                ("send_receive_byte", 100.0 + 3.0 * 60.0 + 21.0 * 80.0 + 4.0 * 30.0 + 3.0 * 40.0),
                ("copy_byte", 100.0 + 4.0 * 30.0),
            ],
        );
    }

    /// One replica sends replies, three a digest; all four and the client make one of the replies.
    #[test]
    fn replies_that_one_replica_sends_are_moved_once() {
        let bytes = FrameBytes { batch_digest: 20.0, ..shape().bytes };
        let counts = counts(&Shape { bytes, ..shape() });
        let count = |name: &str| counts.iter().find(|(other, _)| other == name).unwrap().1;
        let whole = 100.0 + 3.0 * 60.0 + 21.0 * 80.0 + 4.0 * 30.0 + 3.0 * 40.0;
        assert!((count("send_receive_byte") - (whole - 3.0 * 10.0)).abs() < 1e-9);
        assert!((count("hash_byte") - (4.0 * 32.0 + 5.0 * 25.0)).abs() < 1e-9);
        assert!((count("copy_byte") - (100.0 + 30.0 + 3.0 * 20.0)).abs() < 1e-9);
    }

    /// Per operation only what is done per request stays; calls are shared by batches that are under way together.
    #[test]
    fn large_batches_share_what_is_done_once() {
        let bytes = FrameBytes { requests: 10_000.0, pre_prepare: 6000.0, replies: 3000.0, ..shape().bytes };
        let large = Shape { batch: 100.0, in_flight: 4.0, cores: 2, checkpoint_interval: 128, bytes, ..shape() };
        let checkpoints = 1.0 / 128.0;
        assert_counts(
            &large,
            &[
                ("request_digest", 5.0),
                ("make_request_proof", 4.0),
                ("check_request_proof", 4.0),
                ("make_message_proof", (24.0 + 12.0 * checkpoints) / 100.0),
                ("check_message_proof", (16.0 + 8.0 * checkpoints) / 100.0),
                ("make_reply_proof", 0.04),
                ("check_reply_proof", 0.02),
                ("hash_byte", 128.0 + 6.0 * 29.95),
                ("send_receive", 29.0 / 400.0),
                ("send_receive_byte", (10_000.0 + 18_000.0 + 1680.0 + 12_000.0 + 480.0 * checkpoints) / 100.0),
                ("copy_byte", 220.0),
                ("switch", 2.0 / 400.0), // a quorum and the client on two cores
            ],
        );
    }

    /// Where clients send to all replicas, each copy is a message with all of its bytes; it is written down once.
    #[test]
    fn requests_to_everybody_are_moved_as_often() {
        let (one, all) = (counts(&shape()), counts(&Shape { request_copies: 4, ..shape() }));
        let more: Vec<f64> = one.iter().zip(&all).map(|((_, one), (_, all))| all - one).collect();
        assert_eq!(more, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 300.0, 0.0]);
    }

    #[test]
    fn bytes_of_other_batches_are_in_proportion() {
        let (one, other) = (shape().bytes, FrameBytes { requests: 200.0, ..shape().bytes });
        assert_eq!(one.towards(&other, 0.25), FrameBytes { requests: 125.0, ..one });
        assert_eq!(one.towards(&other, 3.0), FrameBytes { requests: 400.0, ..one });
    }

    #[test]
    fn without_proofs_clients_need_no_digest() {
        let none = Shape { request_proofs: 0, ..shape() };
        assert_eq!(counts(&none)[0], ("request_digest".to_owned(), 4.0));
        assert!(counts(&none).iter().all(|(name, _)| !name.contains("request_proof")));
        let bytes = counts(&Shape { replies_proven: false, ..none }).into_iter().find(|(name, _)| name == "hash_byte");
        assert_eq!(bytes, Some(("hash_byte".to_owned(), 128.0)), "a batch has a name all the same");
        // Signed: a request once; the pre-prepare, 3 prepares, 4 commits, and 4 checkpoint messages every 4 batches.
        let signed = Shape { request_proofs: 1, shared_message_proofs: true, ..shape() };
        assert_eq!(counts(&signed)[1..4].iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1.0, 4.0, 9.0]);
    }

    /// One proof for 64 requests: a 64th of the proofs for each, and all else as before.
    #[test]
    fn groups_share_their_proofs() {
        let grouped = counts(&Shape { requests_per_proof: 64, ..shape() });
        for ((name, count), (_, single)) in grouped.iter().zip(counts(&shape())) {
            let share = if name.contains("request_proof") { 64.0 } else { 1.0 };
            assert!((count * share - single).abs() < 1e-9, "{name}: {count}");
        }
    }

    #[test]
    fn seven_replicas_need_larger_quorums() {
        let seven = Shape { replicas: 7, faulty: 2, request_proofs: 7, ..shape() };
        // Q = 5: pre-prepares 6; prepares 4 at the primary and 3 at each backup; commits 4 at each; checkpoints 28 / 4.
        let checked = counts(&seven).into_iter().find(|(name, _)| name == "check_message_proof").unwrap().1;
        assert!((checked - (6.0 + 4.0 + 18.0 + 28.0 + 7.0)).abs() < 1e-9, "{checked}");
    }

    #[test]
    fn efficiency_is_the_floor_in_percent_of_what_was_taken() {
        let costs = Costs { digest: 200.0, ..Costs::default() };
        let told = efficiency(&shape(), &costs, 4.0).unwrap();
        assert!((told.floor_us_per_op - 1.0).abs() < 1e-9 && (told.percent - 25.0).abs() < 1e-9, "{told:?}");
        let sum: f64 = told.components.iter().map(|component| component.us_per_op).sum();
        assert!((sum - told.floor_us_per_op).abs() < 1e-12);
        assert_eq!(efficiency(&shape(), &costs, 0.0), None);
        assert_eq!(efficiency(&Shape::default(), &costs, 1.0), None);
        let text = table(&told.components);
        assert!(text.contains("request_digest               5.0000      200.000       1.0000\n"), "{text}");
        assert!(text.ends_with("\nfloor                                                  1.0000\n"), "{text}");
    }
}
