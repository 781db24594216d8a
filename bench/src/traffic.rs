//! What a run's replicas sent, beside what the protocol's message complexity says of its settings and its batches.

use hippodrome_analysis::report::Report;
use hippodrome_analysis::traffic::{self, Traffic};
use hippodrome_engine::settings::Reads;

use crate::cli::run::RunOptions;
use crate::roofline::shape;

/// What they sent and what is expected; `None` if no operation was ordered, or if reads were not: what their answers
/// add is no part of a batch.
///
/// # Errors
/// If keys can not be made.
pub(crate) fn of_run(options: &RunOptions, report: &Report) -> anyhow::Result<Option<Traffic>> {
    let batch = report.batches.mean_requests;
    if batch <= 0.0 || options.cluster.reads == Reads::ReadOnly {
        return Ok(None);
    }
    Ok(traffic::of_run(report, &shape(&options.clone().with_numbers_of(&report.generator), batch)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::run::RunFile;

    const OPERATIONS: u64 = 1000;

    fn expected(flags: &[&str], batch: f64) -> Option<Traffic> {
        let options = RunFile::try_parse_from(flags).unwrap().options;
        let mut report = Report::default();
        report.generator.connections = options.generator.connections.given().unwrap_or(1);
        report.batches.mean_requests = batch;
        report.audit.operations_completed = OPERATIONS;
        of_run(&options, &report).unwrap()
    }

    #[track_caller]
    fn assert_bytes(flags: &[&str], batch: f64, frames: [f64; 5]) {
        let told = expected(flags, batch).unwrap();
        let bytes: Vec<f64> = told.parts.iter().map(|part| part.frame_bytes.unwrap()).collect();
        assert!(bytes.iter().zip(frames).all(|(bytes, frame)| (bytes - frame).abs() < 1e-6), "{flags:?}: {bytes:?}");
    }

    /// By hand, from the layouts in docs/wire.md: a header of 16 bytes; a MAC of 16, a signature of 64.
    #[test]
    fn frames_are_as_long_as_their_layout_says() {
        // Columns of clients, timestamps and lengths: their heads; 4,000 clients and hundreds of timestamps in 2 bytes
        // each, where they differ, and lengths that do not in none.
        let columns = |requests: f64| 27.0 + requests * if requests > 1.0 { 4.0 } else { 2.0 };
        // View, sequence number; the table's head, columns, operations and their tags; the proof.
        let pre_prepare = |requests: f64| 16.0 + 16.0 + 8.0 + columns(requests) + requests * (16.0 + 16.0) + 16.0;
        let vote = 16.0 + 16.0 + 32.0 + 16.0;
        // View, sequence number, count and forms; columns and results; the proof.
        let whole = |requests: f64| 16.0 + 21.0 + columns(requests) + requests * 16.0 + 16.0;
        // Three replicas of four send a digest of what takes 256 bytes and more: view, sequence number, digest, proof.
        let replies = |requests: f64| {
            let is_long = whole(requests) - 16.0 - 16.0 - 16.0 >= 256.0;
            if is_long { (whole(requests) + 3.0 * (16.0 + 16.0 + 32.0 + 16.0)) / 4.0 } else { whole(requests) }
        };
        let checkpoint = 16.0 + 8.0 + 32.0 + 16.0;
        for requests in [1.0, 2.5, 20.0] {
            assert_bytes(&[], requests, [pre_prepare(requests), vote, vote, replies(requests), checkpoint]);
        }
        // Digests of 32 bytes instead of operations and tags.
        let digests = 16.0 + 20.0 + 18.0 + 20.0 * (2.0 + 2.0 + 32.0) + 16.0;
        assert_bytes(&["--dissemination", "digest"], 20.0, [digests, vote, vote, replies(20.0), checkpoint]);
        let signed_replies = (16.0 + 21.0 + columns(20.0) + 20.0 * 16.0 + 64.0 + 3.0 * 128.0) / 4.0;
        let signed =
            [16.0 + 16.0 + 8.0 + columns(20.0) + 20.0 * (16.0 + 64.0) + 64.0, 128.0, 128.0, signed_replies, 120.0];
        assert_bytes(&["--auth", "ed25519"], 20.0, signed);
        // Half of eight requests' replies in each of two frames, but for one batch in 128.
        let halves = (replies(8.0) + (2.0 - 2.0 / 256.0 - 1.0) * 80.0) / (2.0 - 2.0 / 256.0);
        assert_bytes(&["--connections", "2"], 8.0, [pre_prepare(8.0), vote, vote, halves, checkpoint]);
    }

    #[test]
    fn larger_clusters_send_more_messages() {
        let messages = |replicas: &str| expected(&["--replicas", replicas], 1.0).unwrap().expected_messages_per_op;
        for (replicas, votes_and_all) in [("4", 28.0), ("7", 91.0), ("10", 190.0), ("16", 496.0), ("31", 1891.0)] {
            let n: f64 = replicas.parse().unwrap();
            let checkpoints = n * (n - 1.0) / 128.0;
            assert!((messages(replicas) - votes_and_all - checkpoints).abs() < 1e-9, "{replicas}");
        }
    }

    #[test]
    fn what_is_not_ordered_or_differs_in_size_has_no_exact_bytes() {
        assert_eq!(expected(&["--app", "kv"], 20.0).unwrap().expected_bytes_per_op, None);
        assert_eq!(expected(&["--app", "kv", "--reads", "read-only"], 20.0), None);
        assert_eq!(expected(&[], 0.0), None);
    }
}
