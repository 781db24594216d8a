//! What the things cost on this machine that no implementation of the protocol can do without, for the settings of a
//! run.
//!
//! Each cost is the least of several repetitions: what a thread's clock counts is never too little, and too much
//! whenever something interferes. Authentication is the engine's own, over whole frames; sockets are TCP over loopback,
//! both ends in one thread, so that nobody waits.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hippodrome_analysis::report::Report;
use hippodrome_analysis::roofline::{Costs, Efficiency, FrameBytes, Shape, efficiency};
use hippodrome_engine::auth::strategies::Reach;
use hippodrome_engine::auth::{AuthBlock, BlockKind, Check, Digester, Keyring, LinkClass, Part, Sealer, Verifier};
use hippodrome_engine::limits::{DIGEST_BYTES, GROUP_REQUESTS_MAX, OPERATIONS_BYTES_MAX, REQUESTS_MAX};
use hippodrome_engine::pipeline::cores::Cores;
use hippodrome_engine::platform;
use hippodrome_engine::protocol::Message;
use hippodrome_engine::protocol::message::{Checkpoint, DigestPrePrepare, PrePrepare, Vote};
use hippodrome_engine::requests::{Batch, BatchForm, Manifest, ReplyTable, RequestTable};
use hippodrome_engine::settings::options::ExecutionChoice;
use hippodrome_engine::settings::{Dissemination, Granularity, Reads, Replies};
use hippodrome_engine::types::{ClientId, Digest, NodeId, ReplicaId, SequenceNumber, Timestamp, View};
use hippodrome_engine::wire::{self, FrameKind};
use rustix::time::{ClockId, clock_gettime};

use crate::cli::run::RunOptions;
use crate::cli::values::App;
use crate::cluster::NewCluster;
use crate::launch::Generator;

/// Repetitions of a measurement, of which the least counts.
const REPETITIONS: usize = 5;
/// About how long one measurement takes with all of its repetitions.
const MEASURE: Duration = Duration::from_millis(20);
/// How far the timestamps of a batch's clients are apart, about: some hundreds in a closed loop of thousands of clients
/// and some seconds.
const TIMESTAMPS_APART: u32 = 300;
/// Bytes of the small and the large write whose difference is what a byte costs.
const SMALL: usize = 64;
const LARGE: usize = 32 << 10;

/// What a batch of so many requests looks like under these options, and what its parts cost here.
///
/// # Errors
/// If keys or sockets can not be made.
pub(crate) fn measure(options: &RunOptions, batch: f64) -> anyhow::Result<(Shape, Costs)> {
    let nodes = Nodes::new(options)?;
    let mut costs = Costs { hash_byte: hash_byte(), copy_byte: copy_byte(), switch: switch(), ..Costs::default() };
    Sample::new(options, &nodes, whole(batch.round())).authentication(&nodes, &mut costs);
    (costs.send_receive, costs.send_receive_byte) = send_receive()?;
    Ok((shape_among(options, &nodes, batch), costs))
}

/// What a batch of so many requests, on average, looks like under these options.
///
/// # Errors
/// If keys can not be made.
pub(crate) fn shape(options: &RunOptions, batch: f64) -> anyhow::Result<Shape> {
    Ok(shape_among(options, &Nodes::new(options)?, batch))
}

fn shape_among(options: &RunOptions, nodes: &Nodes, batch: f64) -> Shape {
    let replicas = u64::from(options.replicas);
    Shape {
        replicas,
        faulty: nodes.client().quorums().f() as u64,
        batch,
        checkpoint_interval: options.cluster.checkpoint_interval,
        in_flight: in_flight(options, batch),
        cores: platform::cores().len().max(1) as u64,
        request_proofs: match nodes.client().strategy(LinkClass::ClientToReplica).about().reach {
            Reach::Nobody => 0,
            Reach::Receiver => replicas,
            Reach::Everybody => 1,
        },
        requests_per_proof: requests_per_proof(options) as u64,
        shared_message_proofs: Sealer::new(Arc::clone(nodes.client())).same_for_all(LinkClass::ReplicaToReplica),
        replies_proven: nodes.client().strategy(LinkClass::ReplicaToClient).about().reach != Reach::Nobody,
        request_copies: match options.cluster.dissemination {
            Dissemination::Inline => 1,
            Dissemination::Digest => replicas,
        },
        connections: u64::from(connections_of(options)),
        sizes_vary: options.cluster.app != App::Null,
        bytes: frame_bytes(options, nodes, batch),
    }
}

/// Bytes of the frames of batches that have so many requests on average: those of the two batches around it.
fn frame_bytes(options: &RunOptions, nodes: &Nodes, batch: f64) -> FrameBytes {
    let of = |requests| Sample::new(options, nodes, requests).bytes(options, nodes);
    let (fewer, more) = (whole(batch.floor()), whole(batch.ceil()));
    let low = of(fewer);
    if fewer == more { low } else { low.towards(&of(more), batch - real(fewer)) }
}

/// As many requests as a batch may have.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded")]
fn whole(requests: f64) -> usize {
    (requests as usize).clamp(1, REQUESTS_MAX)
}

/// How near a run came to the floor; `None` if it did nothing, or if reads were not ordered: how many of them were
/// answered without order is no setting, and what that needs at least is not what a batch needs.
///
/// # Errors
/// As [`measure`].
pub(crate) fn of_run(options: &RunOptions, report: &Report) -> anyhow::Result<Option<Efficiency>> {
    let (batch, achieved) = (report.batches.mean_requests, report.cpu.us_per_op_total);
    if batch <= 0.0 || achieved <= 0.0 || options.cluster.reads == Reads::ReadOnly {
        return Ok(None);
    }
    let (shape, costs) = measure(&options.clone().with_numbers_of(&report.generator), batch)?;
    Ok(efficiency(&shape, &costs, achieved))
}

/// Connections of the load generator to each replica: as many as were asked for, or as it would have here.
fn connections_of(options: &RunOptions) -> u32 {
    let given = options.generator.connections.given();
    given.unwrap_or_else(|| Generator::of(options, &Cores::here()).connections)
}

/// Most requests that one proof of clients is for: a full group, or one of all that clients can have outstanding, or
/// that fit into a frame.
fn requests_per_proof(options: &RunOptions) -> usize {
    match options.cluster.auth_granularity {
        Granularity::Request => 1,
        Granularity::Frame => {
            let fitting = OPERATIONS_BYTES_MAX as u64 / payload_bytes(options).0.max(1);
            GROUP_REQUESTS_MAX.min(options.clients as usize).min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1)
        }
    }
}

/// Most batches that can be under way: what batching allows, the window, and what the clients can have outstanding.
#[allow(clippy::cast_precision_loss, reason = "at most a window")]
fn in_flight(options: &RunOptions, batch: f64) -> f64 {
    let allowed = options.replica.batch.in_flight_max().min(options.cluster.window);
    (allowed as f64).min(f64::from(options.clients) / batch.max(1.0)).max(1.0)
}

/// A cluster's keys: those of each replica, and the client's at the end.
struct Nodes {
    keyrings: Vec<Arc<Keyring>>,
}

impl Nodes {
    fn new(options: &RunOptions) -> anyhow::Result<Self> {
        let addresses: Vec<_> = (0..options.replicas).map(|id| ([127, 0, 0, 1], 10_000 + id).into()).collect();
        let clients = u32::try_from(REQUESTS_MAX).context("clients")?.max(options.clients);
        let new = NewCluster::with_shares(options.cluster.settings(), &addresses, &[clients])?;
        Ok(Self { keyrings: new.keyrings()? })
    }

    fn client(&self) -> &Arc<Keyring> {
        &self.keyrings[self.keyrings.len() - 1]
    }
}

/// One batch with all that belongs to it.
struct Sample {
    table: RequestTable,
    /// A frame of requests in groups that are as large as they can be; the batch where each request is proven.
    frame: RequestTable,
    /// How many proofs each replica needs for the frame.
    proofs: usize,
    block: AuthBlock,
    replies: ReplyTable,
}

impl Sample {
    fn new(options: &RunOptions, nodes: &Nodes, requests: usize) -> Self {
        let table = requests_of(options, nodes, requests);
        let (frame, proofs) = match (options.cluster.auth_granularity, requests_per_proof(options)) {
            (Granularity::Request, _) => (table.clone(), requests),
            (Granularity::Frame, GROUP_REQUESTS_MAX) => {
                let groups = requests.div_ceil(GROUP_REQUESTS_MAX);
                (requests_of(options, nodes, groups * GROUP_REQUESTS_MAX), groups)
            }
            (Granularity::Frame, fewer) => (requests_of(options, nodes, fewer), 1),
        };
        let cluster = nodes.client().cluster();
        let digest = Digest([3; 32]);
        let block = AuthBlock::message(BlockKind::Commit, cluster, ReplicaId(1), View(0), SequenceNumber(1), &digest);
        let (clients, timestamps) = (table.clients.clone(), table.timestamps.clone());
        let (result_ends, results) = repeated(requests, payload_bytes(options).1);
        let replies = ReplyTable { clients, timestamps, result_ends, results, digested: Vec::new() };
        Self { table, frame, proofs, block, replies }
    }

    /// Bytes of its frames.
    fn bytes(&self, options: &RunOptions, nodes: &Nodes) -> FrameBytes {
        let sealer = Sealer::new(Arc::clone(&nodes.keyrings[0]));
        let encoded = |message: &Message| real(wire::encode_message(message, ReplicaId(1), &sealer).len());
        let (view, sequence, digest) = (View(0), SequenceNumber(1), Digest([3; 32]));
        let batch = Batch::new(self.table.clone());
        let client = NodeId(options.replicas);
        let replies = |table: &ReplyTable| {
            wire::encode_replies(table, view, client, &sealer).iter().map(Bytes::len).sum::<usize>()
        };
        let mut replies_bytes = real(replies(&self.replies));
        // Tentative replies are sent by all.
        let in_batches =
            options.cluster.replies == Replies::BatchDigest && options.cluster.execution == ExecutionChoice::Committed;
        let batch_digest =
            if in_batches { self.batch_digest_bytes(connections_of(options), client, &sealer) } else { 0.0 };
        if options.cluster.replies == Replies::Digest
            && let Some(digests) = self.digests_of_replies()
        {
            // Of each result one replica sends all of it.
            let n = f64::from(options.replicas);
            replies_bytes = (replies_bytes + (n - 1.0) * real(replies(&digests))) / n;
        }
        let pre_prepare = match options.cluster.dissemination {
            Dissemination::Inline => Message::PrePrepare(PrePrepare { view, sequence, batch }),
            Dissemination::Digest => {
                let manifest = Arc::new(Manifest::of(&batch));
                Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest })
            }
        };
        FrameBytes {
            requests: self.requests_bytes(client),
            pre_prepare: encoded(&pre_prepare),
            vote: encoded(&Message::Commit(Vote { view, sequence, digest })),
            replies: replies_bytes,
            batch_digest,
            replies_head: 2.0 * real(replies(&empty_replies(1))) - real(replies(&empty_replies(2))),
            checkpoint: encoded(&Message::Checkpoint(Checkpoint { sequence, digest })),
        }
    }

    /// Bytes of a frame of the batch's requests, with its share of proofs.
    fn requests_bytes(&self, client: NodeId) -> f64 {
        real(wire::encode_requests(&self.frame, client).len()) * real(self.table.len()) / real(self.frame.len())
    }

    /// Bytes of a frame with the digest of the batch's replies over one of so many connections, of which each has its
    /// share of them; 0 if these are so short that all replicas send them.
    fn batch_digest_bytes(&self, connections: u32, client: NodeId, sealer: &Sealer) -> f64 {
        let each = self.replies.len().div_ceil(connections.max(1) as usize);
        let ends = self.replies.result_ends[..each].to_vec();
        let results = self.replies.results.slice(..ends.last().map_or(0, |end| *end as usize));
        let part = ReplyTable {
            clients: self.replies.clients[..each].to_vec(),
            timestamps: self.replies.timestamps[..each].to_vec(),
            result_ends: ends,
            results,
            digested: Vec::new(),
        };
        let (sequence, form) = (SequenceNumber(1), BatchForm::Digest);
        match &wire::encode_batch_replies(&part, View(0), sequence, form, client, sealer)[..] {
            [frame] if FrameKind::of(frame) == Some(FrameKind::BatchDigest) => real(frame.len()),
            _ => 0.0,
        }
    }

    /// The same replies as digests; `None` if a digest is no shorter.
    fn digests_of_replies(&self) -> Option<ReplyTable> {
        let count = self.replies.len();
        let replies = ReplyTable {
            #[allow(clippy::cast_possible_truncation, reason = "a batch is bounded")]
            result_ends: (1..=count).map(|end| (end * DIGEST_BYTES) as u32).collect(),
            results: vec![7; count * DIGEST_BYTES].into(),
            digested: vec![true; count],
            ..self.replies.clone()
        };
        (replies.results.len() < self.replies.results.len()).then_some(replies)
    }

    fn authentication(&self, nodes: &Nodes, costs: &mut Costs) {
        let requests = real(self.table.len());
        let mut table = self.table.clone();
        let mut digester = Digester::default();
        costs.digest = least(|| digester.digest(black_box(&mut table))) / requests;

        let mut client = Sealer::new(Arc::clone(nodes.client()));
        let mut replica = Verifier::new(Arc::clone(&nodes.keyrings[0]));
        let strategy = nodes.client().strategy(LinkClass::ClientToReplica);
        let columns = if strategy.is_for_receiver() { real(nodes.keyrings.len() - 1) } else { 1.0 };
        let (frame, proofs) = (&self.frame, real(self.proofs));
        costs.make_request_proof = least(|| client.seal_requests(black_box(frame))) / proofs / columns;
        let mut good = Vec::new();
        let check = least(|| replica.verify_requests(&[Part::whole(black_box(frame), 0)], &mut good)) / proofs;
        assert!(good.iter().all(|good| *good), "what is refused at once costs nothing");
        // A tag is checked by making it anew: what the checks besides cost might be done in another way.
        costs.check_request_proof =
            if strategy.is_for_receiver() { check.min(costs.make_request_proof) } else { check };

        let client_node = nodes.client().own().0;
        (costs.make_message_proof, costs.check_message_proof) =
            self.message_proofs(nodes, LinkClass::ReplicaToReplica, (1, 0));
        (costs.make_reply_proof, costs.check_reply_proof) =
            self.message_proofs(nodes, LinkClass::ReplicaToClient, (0, client_node));
    }

    /// What one proof of a message costs to make at node `from` and to check at node `to`. Several are checked at a
    /// time where signatures are verified in batches, as many as a large cluster's votes.
    fn message_proofs(&self, nodes: &Nodes, class: LinkClass, (from, to): (u16, u16)) -> (f64, f64) {
        const TOGETHER: usize = 64;
        let sealer = Sealer::new(Arc::clone(&nodes.keyrings[usize::from(from)]));
        let mut proof = Vec::new();
        let make = least(|| {
            proof.clear();
            sealer.seal(class, NodeId(to), black_box(&self.block), &mut proof);
        });
        let mut verifier = Verifier::new(Arc::clone(&nodes.keyrings[usize::from(to)]));
        let checks = vec![Check { signer: NodeId(from), block: self.block, proof: &proof }; TOGETHER];
        let mut good = Vec::new();
        let check = least(|| verifier.verify(class, black_box(&checks), &mut good)) / real(TOGETHER);
        // Tags for one receiver can be made side by side, as they are checked.
        let is_tag = nodes.client().strategy(class).is_for_receiver();
        (if is_tag { make.min(check) } else { make }, check)
    }
}

/// Bytes of an operation and of its result. What a workload's are made of differs from one to the next: of those the
/// least is taken.
fn payload_bytes(options: &RunOptions) -> (u64, u64) {
    match options.cluster.app {
        App::Null => (options.load.request_bytes.0, options.cluster.reply_bytes.0),
        App::Kv => (0, 0),
    }
}

/// The ends of so many pieces of `bytes` bytes each, and the pieces.
#[allow(clippy::cast_possible_truncation, reason = "a batch is bounded")]
fn repeated(count: usize, bytes: u64) -> (Vec<u32>, Bytes) {
    let ends = (1..=count as u64).map(|end| (end * bytes) as u32).collect();
    (ends, vec![7; count * bytes as usize].into())
}

/// So many replies without results.
fn empty_replies(count: usize) -> ReplyTable {
    let (result_ends, results) = repeated(count, 0);
    let (clients, timestamps) = ((0..).map(ClientId).take(count).collect(), vec![Timestamp(1); count]);
    ReplyTable { clients, timestamps, result_ends, results, digested: Vec::new() }
}

/// `count` different numbers: 0, then from `most` downwards (from `count` - 1, if that is more), so that a column of
/// them is as wide as in a run.
fn apart(count: usize, most: u32) -> impl Iterator<Item = u32> {
    let range = most.max(u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX));
    (0..=range).take(1).chain((0..=range).rev()).take(count)
}

/// How many operations of theirs clients of one batch are apart: no exact number, but what the width of timestamps
/// shows. One client is at its own.
const fn timestamps_apart(options: &RunOptions) -> u32 {
    if options.clients == 1 { 0 } else { TIMESTAMPS_APART }
}

/// So many requests, each of another client, proven.
fn requests_of(options: &RunOptions, nodes: &Nodes, count: usize) -> RequestTable {
    let (operation_ends, operations) = repeated(count, payload_bytes(options).0);
    let mut table = RequestTable {
        clients: apart(count, options.clients - 1).map(ClientId).collect(),
        timestamps: apart(count, timestamps_apart(options)).map(|apart| Timestamp(1 + u64::from(apart))).collect(),
        operation_ends,
        operations,
        ..RequestTable::empty()
    };
    Digester::default().digest(&mut table);
    table.proofs = Sealer::new(Arc::clone(nodes.client())).seal_requests(&table);
    table
}

/// The smallest send and its receive, and what each byte adds, ns.
fn send_receive() -> anyhow::Result<(f64, f64)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("loopback")?;
    let mut sender = TcpStream::connect(listener.local_addr()?).context("loopback")?;
    let (mut receiver, _) = listener.accept().context("loopback")?;
    sender.set_nodelay(true)?;
    let (sent, mut received) = (vec![7; LARGE], vec![0; LARGE]);
    let mut failed = None;
    let mut cost = |bytes: usize| {
        least(|| {
            let moved = sender.write_all(&sent[..bytes]).and_then(|()| receiver.read_exact(&mut received[..bytes]));
            failed = failed.take().or(moved.err());
        })
    };
    let (small, large) = (cost(SMALL), cost(LARGE));
    if let Some(error) = failed {
        return Err(error).context("loopback");
    }
    let byte = ((large - small) / real(LARGE - SMALL)).max(0.0);
    Ok(((small - byte * real(SMALL)).max(0.0), byte))
}

/// One byte of something long digested, ns.
fn hash_byte() -> f64 {
    let bytes = vec![7_u8; LARGE];
    least(|| blake3::hash(black_box(&bytes))) / real(LARGE)
}

/// One byte copied from one buffer to another that the caches hold, ns.
fn copy_byte() -> f64 {
    let (from, mut to) = (vec![7_u8; LARGE], vec![0_u8; LARGE]);
    least(|| black_box(&mut to).copy_from_slice(black_box(&from))) / real(LARGE)
}

/// One thread giving its core to another, ns; 0 where two can not be put on one core.
fn switch() -> f64 {
    const SWITCHES: u32 = 2000;
    let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.first().copied()) else { return 0.0 };
    let turn = move || {
        let pinned = core_affinity::set_for_current(core);
        let before = thread_ns();
        (0..SWITCHES).for_each(|_| std::thread::yield_now());
        pinned.then(|| (thread_ns() - before) / f64::from(SWITCHES))
    };
    let pair = || {
        let threads = [std::thread::spawn(turn), std::thread::spawn(turn)];
        let costs = threads.map(|thread| thread.join().ok().flatten());
        costs.into_iter().collect::<Option<Vec<f64>>>().map(|costs| costs.into_iter().fold(f64::INFINITY, f64::min))
    };
    let least = (0..REPETITIONS).filter_map(|_| pair()).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 0.0 }
}

/// The least CPU time of one call, ns.
fn least<T>(mut call: impl FnMut() -> T) -> f64 {
    let started = Instant::now();
    black_box(call());
    let once = started.elapsed().max(Duration::from_nanos(1));
    #[allow(clippy::cast_possible_truncation, reason = "at most as many as nanoseconds in MEASURE")]
    let calls = ((MEASURE.as_nanos() / once.as_nanos()) as u32 / u32::try_from(REPETITIONS).unwrap_or(1)).max(1);
    let repetition = |_| {
        let before = thread_ns();
        for _ in 0..calls {
            black_box(call());
        }
        (thread_ns() - before) / f64::from(calls)
    };
    (0..REPETITIONS).map(repetition).fold(f64::INFINITY, f64::min).max(0.0)
}

/// CPU time of this thread so far, ns.
#[allow(clippy::cast_precision_loss, reason = "less than a day")]
fn thread_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

#[allow(clippy::cast_precision_loss, reason = "bytes and requests of a batch")]
fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use hippodrome_analysis::roofline::{COMPONENTS, compose};

    use super::*;
    use crate::cli::run::RunFile;

    fn options(flags: &[&str]) -> RunOptions {
        // One connection, whatever machine this is.
        let flags = std::iter::once(&"--connections=1").chain(flags);
        RunFile::try_parse_from(flags).unwrap().options
    }

    /// Everything costs something here, and what a batch looks like is what its frames are.
    #[test]
    fn every_strategy_has_costs_and_bytes() {
        for (auth, proofs, request_bytes) in [("none", 0, 0.0), ("mac", 4, 64.0), ("hybrid", 1, 64.0)] {
            let (shape, costs) = measure(&options(&["--auth", auth, "--request-bytes", "100"]), 20.0).unwrap();
            assert_eq!((shape.replicas, shape.faulty, shape.request_proofs), (4, 1, proofs), "{auth}");
            assert_eq!(shape.replies_proven, auth != "none", "{auth}");
            // Client and timestamp, the operation, its proofs; and at most 64 bytes around all of them.
            let least = 20.0 * (4.0 + 100.0 + request_bytes);
            assert!((least..least + 64.0).contains(&shape.bytes.requests), "{auth}: {:?}", shape.bytes);
            let components = compose(&shape, &costs);
            for component in &components {
                let free = auth == "none" && component.name.contains("proof");
                assert!(free || component.name == "switch" || component.us_per_op > 0.0, "{auth}: {component:?}");
            }
            let named = components.iter().filter(|component| COMPONENTS.contains(&component.name.as_str())).count();
            assert_eq!(named, if auth == "none" { 9 } else { 11 }, "{auth}");
        }
    }

    /// Groups of 64: a 64th of a signature each, in frames whose proofs are next to nothing; smaller ones where clients
    /// are fewer. Batches are as they are.
    #[test]
    fn groups_share_proofs_and_bytes() {
        let of = |flags: &[&str]| measure(&options(&[flags, &["--request-bytes", "100"]].concat()), 20.0).unwrap();
        for auth in ["mac", "hybrid"] {
            let (single, single_costs) = of(&["--auth", auth]);
            let (grouped, costs) = of(&["--auth", auth, "--auth-granularity", "frame"]);
            assert_eq!((single.requests_per_proof, grouped.requests_per_proof), (1, 64));
            assert!(costs.check_request_proof > 0.0 && costs.make_request_proof > 0.0 && single_costs.digest > 0.0);
            // 4 bytes of columns, the operation; and a share of heads, group and proof that is below 4 bytes.
            assert!((20.0 * 104.0..20.0 * 108.0).contains(&grouped.bytes.requests), "{auth}: {:?}", grouped.bytes);
            let saved = single.bytes.pre_prepare - grouped.bytes.pre_prepare;
            let proof = if auth == "mac" { 16.0 } else { 64.0 };
            assert!((saved - (19.0 * proof - 15.0)).abs() < 1e-6, "{auth}: {saved}, 19 proofs for a group's head");
            let (few, _) = of(&["--auth", auth, "--auth-granularity", "frame", "--clients", "10"]);
            assert_eq!(few.requests_per_proof, 10);
            let large = options(&["--auth-granularity", "frame", "--request-bytes", "1MiB"]);
            assert_eq!(measure(&large, 1.0).unwrap().0.requests_per_proof, 4, "as many as a frame may have");
        }
    }

    /// Of four results three need no more than 32 bytes; short ones are sent whole.
    #[test]
    fn results_by_digest_need_fewer_bytes_where_they_are_long() {
        let replies = |arguments: &[&str]| {
            let (shape, _) = measure(&options(arguments), 20.0).unwrap();
            shape.bytes.replies
        };
        for (bytes, saved) in [("32", 0.0), ("1000", 20.0 * 968.0 * 3.0 / 4.0)] {
            let whole = replies(&["--reply-bytes", bytes]);
            let digests = replies(&["--reply-bytes", bytes, "--replies", "digest"]);
            // And a byte of each that says which it is, with digests.
            let forms = if saved > 0.0 { 20.0 * 3.0 / 4.0 } else { 0.0 };
            assert!((whole - digests - saved + forms).abs() < 1e-6, "{bytes}: {whole} and {digests}");
        }
    }

    /// Whatever the replies take, a header, view, sequence number, digest and proof; short ones are sent whole.
    #[test]
    fn a_digest_stands_for_the_replies_to_a_batch() {
        let bytes = |requests: f64, flags: &[&str]| measure(&options(flags), requests).unwrap().0.bytes;
        let digest = 16.0 + 16.0 + 32.0 + 16.0;
        for requests in [20.0, 500.0] {
            let found = bytes(requests, &[]);
            assert!((found.batch_digest - digest).abs() < 1e-9, "{found:?}");
            let full = bytes(requests, &["--replies", "full"]);
            assert_eq!((full.batch_digest, full.replies.total_cmp(&found.replies)), (0.0, std::cmp::Ordering::Equal));
        }
        assert!(bytes(500.0, &["--execution", "tentative"]).batch_digest.abs() < 1e-9, "all send tentative ones");
        assert!(bytes(5.0, &[]).batch_digest.abs() < 1e-9, "they take less than 256 bytes");
        assert!(bytes(20.0, &["--connections", "4"]).batch_digest.abs() < 1e-9, "on each connection they do");
    }

    /// A floor of what is ordered would be too high for what was not.
    #[test]
    fn where_reads_are_not_ordered_there_is_no_floor() {
        let mut report = Report::default();
        (report.batches.mean_requests, report.cpu.us_per_op_total) = (20.0, 50.0);
        assert!(of_run(&options(&[]), &report).unwrap().is_some());
        assert!(of_run(&options(&["--reads", "read-only"]), &report).unwrap().is_none());
    }

    #[test]
    fn batches_under_way_are_bounded_by_batching_window_and_clients() {
        for (flags, batch, expected) in [
            (&["--batch", "adaptive:512,4"][..], 100.0, 4.0),
            (&["--batch", "fixed:10"], 10.0, 256.0),
            (&["--batch", "fixed:10", "--clients", "50"], 10.0, 5.0),
            (&["--clients", "1"], 1.0, 1.0),
        ] {
            let found = in_flight(&options(flags), batch);
            assert!((found - expected).abs() < 1e-9, "{flags:?}: {found}");
        }
    }
}
