//! Every bound in one place, with the relations between them checked when the crate is compiled.

/// Fewest replicas of a cluster: n = 3f + 1 with f = 1.
pub const REPLICAS_MIN: usize = 4;
/// Most replicas of a cluster: a set of replicas is one 64-bit word.
pub const REPLICAS_MAX: usize = 64;
/// Most client nodes (load generators) of a cluster.
pub const CLIENT_NODES_MAX: usize = 64;
/// Most logical clients of a cluster.
pub const CLIENTS_MAX: u32 = 1 << 20;
/// Most TCP connections from one client node to one replica.
pub const CONNECTIONS_MAX: u32 = 1024;

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
/// Bytes of a MAC: 128 bits.
pub const TAG_BYTES: usize = 16;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Largest watermark window (sequence numbers).
pub const WINDOW_MAX: u64 = 4096;
/// Most slots that one status message describes.
pub const STATUS_SLOTS_MAX: usize = 64;
/// Most messages kept for sequence numbers just above the high watermark, over all senders.
pub const EARLY_MESSAGES_MAX: usize = 4096;
/// Most bytes of executed batches kept for replicas that fell behind: at a million small operations a second, those of about a second.
pub const HISTORY_BYTES_MAX: usize = 96 << 20;

/// Most records that the `kv` application may start with.
pub const KV_RECORDS_MAX: u64 = 10_000_000;

/// Bytes that a transport reads at a time.
pub const READ_CHUNK_BYTES: usize = 64 << 10;
/// Most bytes queued for one peer before messages to it are dropped (counted; the status exchange repairs them).
pub const PEER_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Most bytes queued for one client connection before replies to it are dropped (counted; clients ask again).
pub const CLIENT_QUEUE_BYTES_MAX: usize = 8 << 20;
/// Bytes of one request's columns in a table: client, timestamp, length.
pub const REQUEST_COLUMNS_BYTES: usize = 4 + 8 + 4;

const _: () = {
    let columns = REQUESTS_MAX * REQUEST_COLUMNS_BYTES;
    let tags = REQUESTS_MAX * REPLICAS_MAX * TAG_BYTES;
    let signatures = REQUESTS_MAX * SIGNATURE_BYTES;
    assert!(OPERATION_BYTES_MAX <= OPERATIONS_BYTES_MAX);
    // A full table with a full authenticator, and the message around it, fit in one frame.
    assert!(columns + tags + OPERATIONS_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX);
    assert!(columns + signatures + OPERATIONS_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX);
    assert!(RESULT_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX);
    assert!(REPLICAS_MAX <= 64); // sets of replicas are u64 bit masks
    // A peer's queue holds at least one largest frame.
    assert!(PEER_QUEUE_BYTES_MAX >= FRAME_BODY_BYTES_MAX + FRAME_HEADER_BYTES);
};
