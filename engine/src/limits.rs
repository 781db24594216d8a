//! Every bound on memory, queues and messages in one place, with the relations between them checked when the crate is
//! compiled. What nothing else depends on stays beside the code that it bounds: how much one step of a stage takes, how
//! long something may take, what an application defines.

use std::time::Duration;

/// Fewest replicas of a cluster: n = 3f + 1 with f = 1.
pub const REPLICAS_MIN: usize = 4;
/// Most replicas of a cluster: a set of replicas is one 64-bit word.
pub const REPLICAS_MAX: usize = 64;
/// Most client nodes (load generators) of a cluster.
pub const CLIENT_NODES_MAX: usize = 64;
/// Most connections to a replica whose other end has not proven who it is.
pub const STRANGERS_MAX: usize = 256;
/// Most logical clients of a cluster.
pub const CLIENTS_MAX: u32 = 1 << 20;
/// Most TCP connections from one client node to one replica; no more than it has logical clients, either.
pub const CONNECTIONS_MAX: u32 = 64;
/// File descriptors of a replica that are no connection's: standard streams, listeners, rings, timers, files of log and
/// snapshots.
pub const DESCRIPTORS_OWN: usize = 64;

/// One more than the highest number of a core (a CPU, as Linux calls it).
pub const CORES_MAX: usize = 4096;
/// Most verify stages of a replica.
pub const VERIFY_STAGES_MAX: usize = 64;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 16;
/// Most bytes of a frame's body.
pub const FRAME_BODY_BYTES_MAX: usize = 16 << 20;
/// Most bytes of a frame's body before the handshake is done.
pub const HELLO_BODY_BYTES_MAX: usize = 16 << 10;
/// Most bytes of one operation.
pub const OPERATION_BYTES_MAX: usize = 1 << 20;
/// Most bytes of one operation's result.
pub const RESULT_BYTES_MAX: usize = 1 << 20;
/// Most requests in one table: of a client's frame and of a batch.
pub const REQUESTS_MAX: usize = 4096;
/// Most bytes of operations in one table.
pub const OPERATIONS_BYTES_MAX: usize = 4 << 20;
/// Most bytes of results in one table of replies; a table that would exceed it goes out early.
pub const REPLIES_BYTES_MAX: usize = OPERATIONS_BYTES_MAX;
/// Most bytes of replies on their way from one stage to the next before the one in front waits.
pub const REPLIES_UNDER_WAY_BYTES_MAX: usize = 4 * REPLIES_BYTES_MAX;
/// Bytes of replies after which a step of the execute stage ends.
pub const REPLIES_PER_STEP_BYTES: usize = REPLIES_BYTES_MAX;
/// Read-only requests after which a step of the execute stage ends, however small their results are: each may cost a
/// scan. The rest of their table waits in hand, behind what is ordered.
pub const READS_PER_STEP_MAX: usize = 512;
/// Bytes of a digest (BLAKE3). No result is shorter as a digest than whole where it has no more.
pub const DIGEST_BYTES: usize = 32;
/// Replies to a batch that take fewer bytes than this, without view, sequence number and proof, are sent whole by every
/// replica: nobody has to wait for a certain one then, and a digest would save little.
pub const BATCH_DIGEST_FROM_BYTES: usize = 256;
/// Bytes of a BLAKE3 tag: 128 bits.
pub const TAG_BYTES: usize = 16;
/// Most bytes of one proof under any strategy.
pub const PROOF_BYTES_MAX: usize = 320;
/// The same where each receiver needs a proof of its own, so that a request has one for each replica.
pub const RECEIVER_PROOF_BYTES_MAX: usize = 32;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Most requests that one proof covers with `--auth-granularity frame`: which of them a table has is one word. Each
/// that it lacks costs a digest, so what is left of a group is at most 2 KiB larger than a request that proves itself.
pub const GROUP_REQUESTS_MAX: usize = 64;
/// Most groups that the requests of one table may be of. A correct client's are full but for the last.
pub const GROUPS_MAX: usize = REQUESTS_MAX / 2;
/// Bytes of a group in a table beside its proofs and its holes: which requests are there, how many there were, whose.
pub const GROUP_BYTES: usize = 8 + 1 + 2;

/// Largest watermark window (sequence numbers).
pub const WINDOW_MAX: u64 = 4096;
/// Shortest view time-out, milliseconds: below it, an ordinary hiccup of the machine replaces the primary.
pub const VIEW_TIMEOUT_MS_MIN: u64 = 10;
/// Longest view time-out to begin with, milliseconds.
pub const VIEW_TIMEOUT_MS_MAX: u64 = 60_000;
/// Most batches between proposal and execution that adaptive batching may be told to allow.
pub const IN_FLIGHT_MAX: u64 = 1024;
/// Most bytes of tables that wait at the primary for a batch. A table counts in full until its last waiting request has
/// left, because it keeps its frame alive.
pub const WAITING_BYTES_MAX: usize = 16 * OPERATIONS_BYTES_MAX;
/// Most slots that one status message describes.
pub const STATUS_SLOTS_MAX: usize = 64;
/// Most messages kept for sequence numbers just above the high watermark, over all senders.
pub const EARLY_MESSAGES_MAX: usize = 4096;
/// Most bytes of pre-prepared batches among those.
pub const EARLY_BYTES_MAX: usize = 4 * OPERATIONS_BYTES_MAX;
/// Most sequence numbers that one answer to a status message covers, for a peer that is far behind.
pub const ANSWER_SLOTS_MAX: u64 = 4 * STATUS_SLOTS_MAX as u64;
/// Most bytes of bodies sent in answer to one status message. The first body goes whatever its size.
pub const ANSWER_BYTES_MAX: usize = OPERATIONS_BYTES_MAX;
/// Most bytes of bodies kept from one replica until their decision is known. Twice what a correct one sends at a time.
pub const BODIES_BYTES_MAX: usize = 2 * ANSWER_BYTES_MAX;
/// Most bytes of executed batches kept for replicas that fell behind: at a million small operations a second, those of
/// about a second.
pub const HISTORY_BYTES_MAX: usize = 96 << 20;
/// Most executed batches kept for them, whatever their size.
pub const HISTORY_BATCHES_MAX: usize = 16 * WINDOW_MAX as usize;
/// How many of the newest ledger digests are kept for the audit, which compares replicas at the highest sequence number
/// that all of them executed.
pub const LEDGER_RETAINED: usize = 1 << 14;
/// What the executor keeps to undo tentative executions, bytes: a batch for which there is no room waits until it is
/// committed. Exceeded by what one batch overwrites in the application.
pub const UNDO_BYTES_MAX: usize = 64 << 20;
/// Answers to read-only requests that wait for the commitment of what they were read from, bytes: with more, no others
/// are taken up. Exceeded by those of one step.
pub const HELD_READS_BYTES_MAX: usize = 16 << 20;

/// Most digests that a replica tells to have pre-prepared at one sequence number, in different views. Those of the
/// highest views count; to forget one never endangers safety, since a digest is only chosen where f + 1 replicas tell
/// of it.
pub const PRE_PREPARED_MAX: usize = 4;
/// Most checkpoints that a view-change lists: all that lie between the watermarks.
pub const CHECKPOINTS_MAX: usize = WINDOW_MAX as usize + 1;
/// Most bytes of one chunk of a snapshot.
pub const STATE_CHUNK_BYTES_MAX: usize = 8 << 20;
/// Most bytes of a snapshot that a replica gathers from another one.
pub const STATE_BYTES_MAX: usize = 8 << 30;
/// Most chunks of a snapshot.
pub const STATE_CHUNKS_MAX: u32 = 1 << 20;
/// Most snapshots that a replica keeps for others at a time.
pub const SNAPSHOTS_KEPT_MAX: usize = 2;
/// Most bytes of tables whose requests a backup waits for, to see whether the primary orders them.
pub const PENDING_BYTES_MAX: usize = WAITING_BYTES_MAX;
/// Most bytes of tables that one client node has sent to all replicas and that are kept for pre-prepares by digests.
pub const HELD_NODE_BYTES_MAX: usize = WAITING_BYTES_MAX;
/// Most bytes of such tables of all client nodes.
pub const HELD_BYTES_MAX: usize = 4 * HELD_NODE_BYTES_MAX;

/// Bytes of a segment of a write-ahead log after which the next one is begun.
pub const LOG_SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of one entry of a write-ahead log: a new-view with the view-changes of all replicas is the largest.
pub const LOG_ENTRY_BYTES_MAX: usize = 128 << 20;
/// Bytes of entries after which a group commit waits for no more.
pub const LOG_GROUP_BYTES: usize = 2 * OPERATIONS_BYTES_MAX;
/// Fewest bytes of log between two snapshots.
pub const SNAPSHOT_EVERY_BYTES_MIN: u64 = 1 << 20;
/// Most bytes of log between two snapshots.
pub const SNAPSHOT_EVERY_BYTES_MAX: u64 = 1 << 40;
/// Most snapshots on disk: if the newest can not be read, the one before it can.
pub const SNAPSHOTS_ON_DISK_MAX: usize = 2;

/// Most records that the `kv` application may start with.
pub const KV_RECORDS_MAX: u64 = 10_000_000;

/// Most operations that are followed all the way: notes that a replica keeps of each kind, and a thread of the load
/// generator of all. Enough for sixteen above the 99.9th percentile.
pub const SAMPLES_MAX: usize = 1 << 14;
/// Most notes that one stage makes between two postings of its counters.
pub const NOTES_PER_POST_MAX: usize = SAMPLES_MAX / 4;

/// Most connections to a control port at a time.
pub const CONTROL_CONNECTIONS_MAX: usize = 16;
/// Most bytes of a question to a control port.
pub const QUESTION_BYTES_MAX: usize = 32 << 10;
/// Most sequence numbers in one question.
pub const QUESTION_SEQUENCES_MAX: usize = 1024;

/// Bytes of frames of one node that wait for a verify stage before nothing more is read from it. Requests that a peer
/// passes on are dropped beyond that (counted; clients ask again), so that they do not hold up what else it says.
pub const INTAKE_BYTES_MAX: usize = 1 << 20;
/// Work that is handed to a verify stage at a time, in checks of requests, where they are signed: some milliseconds.
pub const QUANTUM_SIGNED: u32 = 128;
/// The same elsewhere: about one read of a connection, so that tags are computed side by side.
pub const QUANTUM: u32 = 2048;
/// The same where the verify stage has another thread than the sockets: about a batch, so that stages work on different
/// ones at a time.
pub const QUANTUM_ACROSS_THREADS: u32 = 512;
/// What costs at least so much is handed on to another thread by itself: enough that tags are computed side by side, so
/// half of what is handed out at a time.
pub const HANDED_ON_FROM: u32 = QUANTUM_ACROSS_THREADS / 2;
/// Quanta of one node that a verify stage may have, where requests are signed: it must not run dry while the network is
/// busy with its sockets.
pub const QUANTA_SIGNED: u32 = 2;
/// The same elsewhere, each of [`QUANTUM`], in whatever pieces they are handed out.
pub const QUANTA: u32 = 8;
/// Most signed tables that a verify stage remembers as proven.
pub const PROVEN_TABLES_MAX: usize = 1024;
/// Bytes that a transport reads at a time.
pub const READ_CHUNK_BYTES: usize = 64 << 10;
/// Buffers that a transport's ring receives into at first. Whenever a turn finds too few of them, there are twice as
/// many from then on.
pub const RING_BUFFERS: u16 = 8;
/// Most of them, each a chunk or the end of one: as much is read in one turn at most.
pub const RING_BUFFERS_MAX: u16 = 64;
/// Most bytes queued for one peer before messages to it are dropped (counted; the status exchange repairs them).
pub const PEER_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Most bytes queued for one client connection before replies to it are dropped (counted; clients ask again).
pub const CLIENT_QUEUE_BYTES_MAX: usize = 8 << 20;
/// Most bytes queued for all connections of one client node.
pub const NODE_QUEUE_BYTES_MAX: usize = 4 * CLIENT_QUEUE_BYTES_MAX;
/// Most bytes of memory that frames which have begun to arrive keep, over all connections of one node.
pub const NODE_FRAMES_BYTES_MAX: usize = 4 * FRAME_BODY_BYTES_MAX;
/// Most bytes under way on one emulated link, 100 ms at 10 Gbit/s; frames beyond are dropped (counted). Of those that
/// wait for its bandwidth there are at most as many as in a peer's queue.
pub const LINK_BYTES_MAX: usize = 128 << 20;
/// Longest delay and largest jitter of an emulated link.
pub const LINK_DELAY_MAX: Duration = Duration::from_secs(60);
/// Least bandwidth of an emulated link, bits a second.
pub const LINK_BITS_PER_S_MIN: u64 = 1000;
/// Most regions of an emulated network.
pub const REGIONS_MAX: usize = 64;
/// Most bytes of one request's columns in a table: client, timestamp, length. The columns' heads are in the 1024 bytes
/// around it. Clients and lengths differ by less than 2^31, so that four bytes hold any distance.
pub const REQUEST_COLUMNS_BYTES_MAX: usize = 4 + 8 + 4;
/// Least bytes of them: client and timestamp near others', a length like all.
pub const REQUEST_COLUMNS_BYTES_MIN: usize = 1 + 1;

/// Most bytes of a frame's body from a client node of a cluster of `n` replicas: a full table of requests.
#[must_use]
pub const fn client_body_bytes_max(n: usize) -> usize {
    let tags = n * RECEIVER_PROOF_BYTES_MAX;
    let proof = if tags > PROOF_BYTES_MAX { tags } else { PROOF_BYTES_MAX };
    REQUESTS_MAX * (REQUEST_COLUMNS_BYTES_MAX + GROUP_BYTES + proof) + OPERATIONS_BYTES_MAX + 1024
}

const _: () = {
    assert!(RING_BUFFERS > 0 && RING_BUFFERS <= RING_BUFFERS_MAX && RING_BUFFERS_MAX.is_power_of_two());
    let columns = REQUESTS_MAX * REQUEST_COLUMNS_BYTES_MAX;
    let tags = REQUESTS_MAX * REPLICAS_MAX * RECEIVER_PROOF_BYTES_MAX;
    let signatures = REQUESTS_MAX * PROOF_BYTES_MAX;
    assert!(TAG_BYTES <= RECEIVER_PROOF_BYTES_MAX && SIGNATURE_BYTES <= PROOF_BYTES_MAX);
    assert!(OPERATION_BYTES_MAX <= OPERATIONS_BYTES_MAX);
    assert!(CLIENTS_MAX <= 1 << 31 && OPERATION_BYTES_MAX <= 1 << 31 && RESULT_BYTES_MAX <= 1 << 31);
    // A full table with a full authenticator, and the message around it, fit in one frame.
    assert!(client_body_bytes_max(REPLICAS_MAX) <= FRAME_BODY_BYTES_MAX);
    assert!(columns + tags + OPERATIONS_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX);
    assert!(columns + signatures + OPERATIONS_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX);
    // So does one of as many groups as there may be, each with a full authenticator and all of it but one request
    // missing.
    let holes = (GROUP_REQUESTS_MAX - 1) * DIGEST_BYTES;
    let group = GROUP_BYTES + holes + REPLICAS_MAX * RECEIVER_PROOF_BYTES_MAX;
    assert!(PROOF_BYTES_MAX <= REPLICAS_MAX * RECEIVER_PROOF_BYTES_MAX);
    assert!(columns + GROUPS_MAX * group + OPERATIONS_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX);
    assert!(GROUP_REQUESTS_MAX <= 64 && GROUPS_MAX * GROUP_REQUESTS_MAX >= REQUESTS_MAX); // sets of requests are u64 bit masks
    // Of a node's connections one can always go on, even while its memory grows by doubling.
    assert!(NODE_FRAMES_BYTES_MAX >= 2 * (FRAME_BODY_BYTES_MAX + FRAME_HEADER_BYTES));
    assert!(NODE_QUEUE_BYTES_MAX >= CLIENT_QUEUE_BYTES_MAX);
    // So does a full table of replies, each signed; and any result fits in a table.
    assert!(columns + signatures + REPLIES_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX);
    assert!(RESULT_BYTES_MAX <= REPLIES_BYTES_MAX);
    assert!(REPLIES_PER_STEP_BYTES <= REPLIES_UNDER_WAY_BYTES_MAX);
    assert!(0 < READS_PER_STEP_MAX && READS_PER_STEP_MAX <= REQUESTS_MAX);
    assert!(REPLICAS_MAX <= 64); // sets of replicas are u64 bit masks
    // So does the longest view-change, and a chunk of a snapshot.
    let votes = WINDOW_MAX as usize * (1 + PRE_PREPARED_MAX) * (8 + 8 + 32);
    assert!(votes + CHECKPOINTS_MAX * (8 + 32) + 1024 <= FRAME_BODY_BYTES_MAX);
    assert!(STATE_CHUNK_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX);
    // A new-view with all its view-changes, and a batch, are entries of a log.
    assert!(REPLICAS_MAX * (votes + CHECKPOINTS_MAX * (8 + 32) + 1024) <= LOG_ENTRY_BYTES_MAX);
    assert!(columns + OPERATIONS_BYTES_MAX + 1024 <= LOG_ENTRY_BYTES_MAX && LOG_ENTRY_BYTES_MAX <= u32::MAX as usize);
    // A peer's queue holds at least one largest frame.
    assert!(PEER_QUEUE_BYTES_MAX >= FRAME_BODY_BYTES_MAX + FRAME_HEADER_BYTES);
    assert!(LINK_BYTES_MAX >= PEER_QUEUE_BYTES_MAX);
    // What a protocol keeps has room for one largest batch, and for a message of every replica.
    assert!(WAITING_BYTES_MAX >= FRAME_BODY_BYTES_MAX);
    assert!(EARLY_BYTES_MAX >= OPERATIONS_BYTES_MAX && HISTORY_BYTES_MAX >= OPERATIONS_BYTES_MAX);
    assert!(EARLY_MESSAGES_MAX >= REPLICAS_MAX);
    assert!(BODIES_BYTES_MAX >= ANSWER_BYTES_MAX);
    // The newest table of a client node is never the one that goes, nor do others' while one alone has too much.
    assert!(HELD_NODE_BYTES_MAX >= 2 * FRAME_BODY_BYTES_MAX && HELD_BYTES_MAX >= 2 * HELD_NODE_BYTES_MAX);
    // A full table without bodies, in a message.
    assert!(REQUESTS_MAX * (4 + 8 + 32) + SIGNATURE_BYTES + 1024 <= FRAME_BODY_BYTES_MAX);
    // More batches can not be in flight than the window has sequence numbers. A replica one window behind finds what it
    // misses, and its ledger can be compared.
    assert!(IN_FLIGHT_MAX <= WINDOW_MAX);
    assert!(HISTORY_BATCHES_MAX as u64 >= 2 * WINDOW_MAX && LEDGER_RETAINED as u64 >= 2 * WINDOW_MAX);
    // A verify stage has the next quantum while it is at one, and of one node never more than a few largest tables.
    assert!(
        QUANTA_SIGNED >= 2
            && QUANTA >= 2
            && QUANTUM_SIGNED <= QUANTUM_ACROSS_THREADS
            && QUANTUM_ACROSS_THREADS <= QUANTUM
    );
    assert!((QUANTA_SIGNED * QUANTUM_SIGNED) as usize <= REQUESTS_MAX);
    assert!((QUANTA * QUANTUM) as usize <= 4 * REQUESTS_MAX);
    // What is under way is remembered as proven until it is executed, also if each table became a batch of its own.
    assert!(PROVEN_TABLES_MAX as u64 >= IN_FLIGHT_MAX);
    // A question with all its sequence numbers, each of 20 digits and a comma, can be asked.
    assert!(QUESTION_SEQUENCES_MAX * 21 + 1024 <= QUESTION_BYTES_MAX);
};
