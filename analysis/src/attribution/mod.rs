//! Where the time of operations goes: some of them are followed, from the intended send to the completed reply quorum.
//!
//! [join] puts together what the load generator and the replicas noted of each sampled operation, [groups] says what
//! makes up the median and the tail, [rows] is the file of all samples (`attribution.csv`).
//!
//! The parts of one operation are pieces of one path that follow each other, so they add up to its latency, in whole
//! nanoseconds. What can not be told is a part of its own, [`Part::Unattributed`].

use serde::{Deserialize, Serialize};

pub mod groups;
pub mod join;
pub mod rows;

/// A piece of the path of an operation, in the order in which it meets them. The path leads through the primary and the
/// replica whose reply came first, of those that the client's reply quorum is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// From the intended send until the load generator begins: its own lateness, and waiting for a free client.
    ClientWait,
    /// Until the request's frame is sealed and handed to the kernel.
    ClientSend,
    /// Until the primary has read the frame: kernels, wires, and the primary being busy with something else.
    RequestNetwork,
    /// Until the primary's verify stage takes the frame.
    VerifyWait,
    /// Until the request is verified, with the other requests of its frame.
    Verify,
    /// Until the primary sends its pre-prepare: waiting for the order stage and for a batch.
    OrderWait,
    /// Until the batch is prepared at the replica that answers first.
    Prepare,
    /// Until it is committed-local there.
    Commit,
    /// Until its votes are durable there. Only where there is a log.
    Persist,
    /// Until its execution begins there.
    ExecuteWait,
    /// Until it is executed, with the other operations of its batch.
    Execute,
    /// Until its reply is sealed there.
    ReplyWait,
    /// Until the client has read the reply: kernels, wires, and the load generator being busy with something else.
    ReplyNetwork,
    /// Until the reply is verified and counted.
    ClientReceive,
    /// Until the last reply of the quorum is counted.
    QuorumWait,
    /// All that passes between processes, where these have no clock in common.
    Network,
    /// What could not be told: something that is needed was not noted, or lies out of order.
    Unattributed,
}

/// How many parts there are.
pub const PARTS: usize = 17;

impl Part {
    /// All of them, in the order of the path.
    pub const ALL: [Self; PARTS] = [
        Self::ClientWait,
        Self::ClientSend,
        Self::RequestNetwork,
        Self::VerifyWait,
        Self::Verify,
        Self::OrderWait,
        Self::Prepare,
        Self::Commit,
        Self::Persist,
        Self::ExecuteWait,
        Self::Execute,
        Self::ReplyWait,
        Self::ReplyNetwork,
        Self::ClientReceive,
        Self::QuorumWait,
        Self::Network,
        Self::Unattributed,
    ];

    /// Its name in result files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientWait => "client_wait",
            Self::ClientSend => "client_send",
            Self::RequestNetwork => "request_network",
            Self::VerifyWait => "verify_wait",
            Self::Verify => "verify",
            Self::OrderWait => "order_wait",
            Self::Prepare => "prepare",
            Self::Commit => "commit",
            Self::Persist => "persist",
            Self::ExecuteWait => "execute_wait",
            Self::Execute => "execute",
            Self::ReplyWait => "reply_wait",
            Self::ReplyNetwork => "reply_network",
            Self::ClientReceive => "client_receive",
            Self::QuorumWait => "quorum_wait",
            Self::Network => "network",
            Self::Unattributed => "unattributed",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::ClientWait => "before it is sent",
            Self::ClientSend => "making the request",
            Self::RequestNetwork => "network to the primary",
            Self::VerifyWait => "waiting to be verified",
            Self::Verify => "being verified",
            Self::OrderWait => "waiting for a batch",
            Self::Prepare => "pre-prepare to prepared",
            Self::Commit => "prepared to committed-local",
            Self::Persist => "until votes are durable",
            Self::ExecuteWait => "waiting for execution",
            Self::Execute => "being executed",
            Self::ReplyWait => "until the reply is sealed",
            Self::ReplyNetwork => "network to the client",
            Self::ClientReceive => "checking the reply",
            Self::QuorumWait => "waiting for the last reply",
            Self::Network => "network, all ways",
            Self::Unattributed => "unattributed",
        }
    }

    /// The part of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// One sampled operation of the measured window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its client.
    pub client: u32,
    /// Which of the client's operations.
    pub timestamp: u64,
    /// When its reply quorum was complete, ns since the load began.
    pub completed_ns: u64,
    /// From the intended send to the completed reply quorum, ns: the sum of its parts.
    pub latency_ns: u64,
    /// The sequence number that it was executed at, if that is known.
    pub sequence: Option<u64>,
    /// The primary of the view that it committed in, if that is known.
    pub primary: Option<u16>,
    /// Who answered first, of those that agreed.
    pub first_replica: u16,
    /// Whose reply made the quorum complete.
    pub last_replica: u16,
    /// Whether its request was sent more than once.
    pub sent_again: bool,
    /// How long each part took, ns, in the order of [`Part::ALL`].
    pub parts: [u64; PARTS],
}

impl Sample {
    /// How long this part took, ns.
    #[must_use]
    pub const fn part(&self, part: Part) -> u64 {
        self.parts[part as usize]
    }
}

/// `attribution` of `report.json`: what sampled operations spent their time on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// Sampled operations of the measured window.
    pub samples: u64,
    /// One in so many operations was sampled, about.
    pub one_in: u64,
    /// Samples of which a part could not be told.
    pub incomplete: u64,
    /// Whether all processes read the same clock. If not, only what passes within one process is told apart.
    pub shared_clock: bool,
    /// Mean latency of the samples, µs.
    pub mean_us: f64,
    /// The samples around the median: between the 45th and the 55th percentile.
    pub middle: Group,
    /// The slowest samples: those above the 99.9th percentile, and ten at least.
    pub tail: Group,
    /// What they spent their time on, in the order of the path; parts that took no time in any sample are left out.
    pub parts: Vec<PartShare>,
}

/// Sampled operations of similar latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// How many.
    pub samples: u64,
    /// Their mean latency, µs: the sum of the parts' shares.
    pub mean_us: f64,
    /// Shortest latency among them, µs.
    pub from_us: f64,
    /// Longest latency among them, µs.
    pub to_us: f64,
}

/// What one part took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartShare {
    /// Which: [`Part::name`].
    pub name: String,
    /// Mean over the samples around the median, µs.
    pub p50_share_us: f64,
    /// Mean over the slowest samples, µs.
    pub p99_9_share_us: f64,
    /// Mean over all samples, µs.
    pub mean_us: f64,
    /// The part's own median, µs.
    pub p50: f64,
    /// Its own 99th percentile, µs.
    pub p99: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_in_the_order_of_the_path_and_have_names_of_their_own() {
        for (number, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, number);
            assert_eq!(Part::of_name(part.name()), Some(part));
        }
        assert_eq!(Part::of_name("none"), None);
    }
}
