//! What happened, for people, and as one number that tells whether two runs were the same.

use std::fmt::Write as _;

use hippodrome_engine::protocol::Message;
use hippodrome_engine::requests::RequestTable;
use hippodrome_engine::types::{ClientId, Digest, Timestamp};

/// Lines kept of one run, at most; the newest count.
const LINES_MAX: usize = 200_000;

/// The story of a run.
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
    hash: u64,
    now: u64,
}

impl Trace {
    /// With `lines` or with the number alone.
    pub(crate) fn new(lines: bool) -> Self {
        Self { lines: lines.then(Vec::new), hash: 0xcbf2_9ce4_8422_2325, now: 0 }
    }

    /// The time of all that follows.
    pub(crate) const fn at(&mut self, now: u64) {
        self.now = now;
        self.count(now);
    }

    /// Something happened.
    pub(crate) const fn count(&mut self, what: u64) {
        let mixed = (self.hash ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }

    /// Something happened that a person may want to read about.
    pub(crate) fn line(&mut self, who: &str, what: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == LINES_MAX {
            lines.drain(..LINES_MAX / 2);
        }
        let (ms, us) = (self.now / 1_000_000, self.now / 1000 % 1000);
        lines.push(format!("{ms:>6}.{us:03} ms  {who:<4} {}", what()));
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// A message in a few words.
pub(crate) fn describe(message: &Message) -> String {
    match message {
        Message::PrePrepare(message) => {
            let (view, sequence, digest) = (message.view, message.sequence, short(&message.batch.digest));
            format!("pre-prepare v{view} s{sequence} {digest} {}", requests(&message.batch.requests))
        }
        Message::DigestPrePrepare(message) => {
            let (view, sequence, manifest) = (message.view, message.sequence, &message.manifest);
            let requests = named(manifest.clients(), manifest.timestamps());
            format!("pre-prepare by digests v{view} s{sequence} {} {requests}", short(&manifest.digest()))
        }
        Message::Prepare(vote) => format!("prepare v{} s{} {}", vote.view, vote.sequence, short(&vote.digest)),
        Message::Commit(vote) => format!("commit v{} s{} {}", vote.view, vote.sequence, short(&vote.digest)),
        Message::Committed(vote) => format!("committed v{} s{} {}", vote.view, vote.sequence, short(&vote.digest)),
        Message::Checkpoint(message) => format!("checkpoint s{} {}", message.sequence, short(&message.digest)),
        Message::Status(status) => {
            let waiting = if status.active { "" } else { " (waits)" };
            format!("status v{}{waiting} stable s{} committed s{}", status.view, status.stable, status.committed)
        }
        Message::Forward(table) => format!("forward {}", requests(table)),
        Message::Body(body) => {
            format!("body s{} {} {}", body.sequence, short(&body.batch.digest), requests(&body.batch.requests))
        }
        Message::ViewChange(signed) => {
            let content = &signed.content;
            let mut text =
                format!("view-change of r{} to v{} stable s{}", content.replica, content.view, content.stable);
            for (name, votes) in [("P", &content.prepared), ("Q", &content.pre_prepared)] {
                for vote in votes {
                    let _ = write!(text, " {name}:s{}@v{} {}", vote.sequence, vote.view, short(&vote.digest));
                }
            }
            text
        }
        Message::NewView(signed) => {
            let from: Vec<String> =
                signed.content.view_changes.iter().map(|(replica, _)| format!("r{replica}")).collect();
            format!("new-view v{} from {}", signed.content.view, from.join(" "))
        }
        Message::StateWanted(sequence) => format!("state-wanted s{sequence}"),
        Message::FetchState(fetch) => format!("fetch-state s{} chunk {}", fetch.sequence, fetch.index),
        Message::StateChunk(chunk) => format!("state-chunk s{} {} of {}", chunk.sequence, chunk.index, chunk.count),
    }
}

/// The requests of a table: client and timestamp of each.
pub(crate) fn requests(table: &RequestTable) -> String {
    named(&table.clients, &table.timestamps)
}

fn named(clients: &[ClientId], timestamps: &[Timestamp]) -> String {
    let requests = clients.iter().zip(timestamps).map(|(client, timestamp)| format!("c{client}t{timestamp}"));
    format!("[{}]", requests.collect::<Vec<_>>().join(" "))
}

/// Enough of a digest to tell it from others.
pub(crate) fn short(digest: &Digest) -> String {
    digest.to_string()[..6].to_owned()
}
