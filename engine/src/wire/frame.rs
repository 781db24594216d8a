//! Frames: a 16-byte header and a body.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | length of the body |
//! | 4..6 | magic, "HP" |
//! | 6 | version of the layout |
//! | 7 | kind |
//! | 8..12 | sender's node id |
//! | 12..16 | CRC-32 (IEEE) of bytes 0..12 and the body |
//!
//! The checksum finds broken hardware and our own errors early; it proves nothing. The sender is a claim, too, until a
//! handshake has bound the connection to a node and a proof has been checked.

use bytes::{Bytes, BytesMut};

use crate::limits::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES};
use crate::named::named_enum;
use crate::types::NodeId;

/// "HP": the first thing that a stream of something else gets wrong.
pub const MAGIC: u16 = u16::from_le_bytes(*b"HP");
/// Version of all layouts of this folder.
pub const WIRE_VERSION: u8 = 7;
/// Where the header has the kind.
const KIND_AT: usize = 7;
/// Bytes of the header that the checksum covers.
const CHECKED_BYTES: usize = 12;

named_enum! {
    /// Why a stream was refused. Where frames start is lost with the first error, so each is the end of its connection.
    FrameError {
        /// Not a frame at all.
        BadMagic = "bad_magic",
        /// A frame of another version.
        BadVersion = "bad_version",
        /// A kind of frame that there is not.
        UnknownKind = "unknown_kind",
        /// A body longer than allowed here.
        TooLong = "too_long",
        /// A sender that can be no node.
        BadSender = "bad_sender",
        /// Header or body were changed on the way.
        BadChecksum = "bad_checksum",
    }
}

impl std::error::Error for FrameError {}

macro_rules! frame_kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a frame carries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum FrameKind { $($(#[$doc])* $name = $number,)* }

        impl FrameKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The kind with this number.
            #[must_use]
            pub const fn from_u8(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

frame_kinds! {
    /// Handshake: the initiator introduces itself.
    Hello = 1,
    /// Handshake: the acceptor introduces and proves itself.
    Welcome = 2,
    /// Handshake: the initiator proves itself.
    Proof = 3,
    /// Handshake: why the other side is not let in, as text.
    Refusal = 4,
    /// A client node's requests.
    Requests = 16,
    /// A replica's replies.
    Replies = 17,
    /// A client node's read-only requests.
    Reads = 18,
    /// A replica's replies to read-only requests.
    ReadReplies = 19,
    /// A replica's digest of the replies to a batch.
    BatchDigest = 20,
    /// How a client node wants the replies to batches over this connection.
    Answering = 21,
    /// A pre-prepare.
    PrePrepare = 32,
    /// A prepare.
    Prepare = 33,
    /// A commit.
    Commit = 34,
    /// A checkpoint.
    Checkpoint = 35,
    /// A status message.
    Status = 36,
    /// Forwarded requests.
    Forward = 37,
    /// A claim that a batch is committed-local.
    Committed = 38,
    /// A batch's body.
    Body = 39,
    /// A view-change.
    ViewChange = 40,
    /// A new-view.
    NewView = 41,
    /// A wish for a snapshot at a coming checkpoint.
    StateWanted = 42,
    /// A wish for a chunk of a snapshot.
    FetchState = 43,
    /// A chunk of a snapshot.
    StateChunk = 44,
    /// A pre-prepare by digests.
    DigestPrePrepare = 45,
}

impl FrameKind {
    /// The kind that an encoded frame says that it is of.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        frame.get(KIND_AT).copied().and_then(Self::from_u8)
    }
}

/// One frame out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: FrameKind,
    /// Who is said to have sent it.
    pub sender: NodeId,
    /// The body.
    pub body: Bytes,
}

/// A header whose fields make sense.
struct Header {
    body_bytes: usize,
    kind: FrameKind,
    sender: NodeId,
    checksum: u32,
}

impl Header {
    fn parse(bytes: &[u8; FRAME_HEADER_BYTES], body_max: usize) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, m0, m1, version, kind, s0, s1, s2, s3, c0, c1, c2, c3] = *bytes;
        if u16::from_le_bytes([m0, m1]) != MAGIC {
            return Err(FrameError::BadMagic);
        }
        if version != WIRE_VERSION {
            return Err(FrameError::BadVersion);
        }
        let kind = FrameKind::from_u8(kind).ok_or(FrameError::UnknownKind)?;
        let body_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if body_bytes > body_max {
            return Err(FrameError::TooLong);
        }
        let sender = u16::try_from(u32::from_le_bytes([s0, s1, s2, s3])).map_err(|_| FrameError::BadSender)?;
        Ok(Self { body_bytes, kind, sender: NodeId(sender), checksum: u32::from_le_bytes([c0, c1, c2, c3]) })
    }

    /// The frame that `bytes`, header included, are.
    fn frame(&self, mut bytes: Bytes) -> Result<Frame, FrameError> {
        let body = bytes.split_off(FRAME_HEADER_BYTES);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..CHECKED_BYTES]);
        hasher.update(&body);
        if hasher.finalize() != self.checksum {
            return Err(FrameError::BadChecksum);
        }
        Ok(Frame { kind: self.kind, sender: self.sender, body })
    }
}

/// Finds the frames in one connection's stream of chunks.
///
/// A frame that lies inside one chunk is a slice of it, without a copy; one that does not is put together in memory
/// that grows with the bytes that have arrived, never by the length that a header claims.
#[derive(Debug)]
pub struct FrameReader {
    body_max: usize,
    /// The start of a frame, out of earlier chunks.
    carry: BytesMut,
    /// What follows it.
    chunk: Bytes,
    failed: Option<FrameError>,
}

impl FrameReader {
    /// A reader that refuses bodies of more than `body_max` bytes.
    #[must_use]
    pub fn new(body_max: usize) -> Self {
        Self { body_max, carry: BytesMut::new(), chunk: Bytes::new(), failed: None }
    }

    /// Changes the bound, for frames that were not handed out yet: after the handshake they may be longer.
    pub const fn set_body_max(&mut self, body_max: usize) {
        self.body_max = body_max;
    }

    /// Takes the stream's next chunk. Take all frames out with [`next_frame`](Self::next_frame) before: a chunk on top
    /// of another is copied.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_some() {
            return;
        }
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.chunk));
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next frame; `None` until more bytes arrive.
    ///
    /// # Errors
    /// If the stream is not one of frames. Every later call says the same.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance().inspect_err(|error| {
            *self = Self { failed: Some(*error), ..Self::new(0) };
        })
    }

    fn advance(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.carry.is_empty()
            && let Some(header) = self.chunk.first_chunk()
        {
            let header = Header::parse(header, self.body_max)?;
            let frame_bytes = FRAME_HEADER_BYTES + header.body_bytes;
            if self.chunk.len() >= frame_bytes {
                return header.frame(self.chunk.split_to(frame_bytes)).map(Some);
            }
        }
        self.top_up(FRAME_HEADER_BYTES);
        let Some(header) = self.carry.first_chunk() else { return Ok(None) };
        let header = Header::parse(header, self.body_max)?;
        let frame_bytes = FRAME_HEADER_BYTES + header.body_bytes;
        self.top_up(frame_bytes);
        if self.carry.len() < frame_bytes {
            return Ok(None);
        }
        header.frame(std::mem::take(&mut self.carry).freeze()).map(Some)
    }

    /// Moves bytes from the chunk until `carry` holds `bytes` or the chunk is used up.
    fn top_up(&mut self, bytes: usize) {
        let missing = bytes.saturating_sub(self.carry.len()).min(self.chunk.len());
        self.carry.extend_from_slice(&self.chunk.split_to(missing));
        if self.chunk.is_empty() {
            self.chunk = Bytes::new(); // lets go of the transport's memory
        }
    }

    /// Bytes of memory that this reader holds for the start of a frame.
    #[must_use]
    pub fn carried_bytes(&self) -> usize {
        self.carry.capacity()
    }
}

/// A whole frame. `body` appends the body to what it is given, which has room for `body_bytes`.
///
/// # Panics
/// If the body is longer than [`FRAME_BODY_BYTES_MAX`]: that would be our own error.
#[must_use]
pub fn encode_frame(kind: FrameKind, sender: NodeId, body_bytes: usize, body: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + body_bytes);
    out.resize(FRAME_HEADER_BYTES, 0);
    body(&mut out);
    let head = head(kind, sender, out.len() - FRAME_HEADER_BYTES);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(&out[FRAME_HEADER_BYTES..]);
    out[..CHECKED_BYTES].copy_from_slice(&head);
    out[CHECKED_BYTES..FRAME_HEADER_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
    out.into()
}

/// The header without its checksum.
fn head(kind: FrameKind, sender: NodeId, body_bytes: usize) -> [u8; CHECKED_BYTES] {
    assert!(body_bytes <= FRAME_BODY_BYTES_MAX, "a frame of {body_bytes} bytes was made");
    let mut head = [0; CHECKED_BYTES];
    #[allow(clippy::cast_possible_truncation, reason = "checked above")]
    head[..4].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    head[4..6].copy_from_slice(&MAGIC.to_le_bytes());
    (head[6], head[7]) = (WIRE_VERSION, kind as u8);
    head[8..12].copy_from_slice(&u32::from(sender.0).to_le_bytes());
    head
}

/// A whole frame again with its last byte inverted and a checksum that fits: what its receiver takes for a good frame
/// with a bad proof, where a proof is at its end. For replicas that misbehave on purpose.
///
/// # Panics
/// If `frame` is none: that would be our own error.
#[must_use]
pub fn spoil_last_byte(frame: &Bytes) -> Bytes {
    assert!(frame.len() > FRAME_HEADER_BYTES, "a frame with a body");
    let mut out = frame.to_vec();
    if let Some(byte) = out.last_mut() {
        *byte = !*byte;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&out[..CHECKED_BYTES]);
    hasher.update(&out[FRAME_HEADER_BYTES..]);
    out[CHECKED_BYTES..FRAME_HEADER_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
    out.into()
}

/// Frames that differ in their last bytes alone, such as one message for several receivers: what they share is encoded
/// and summed up once.
#[derive(Debug)]
pub(super) struct SharedFrame {
    head: [u8; CHECKED_BYTES],
    body: Vec<u8>,
    tail_bytes: usize,
    hasher: crc32fast::Hasher,
}

impl SharedFrame {
    /// Frames whose body is `body` and then `tail_bytes` more.
    pub(super) fn new(kind: FrameKind, sender: NodeId, body: Vec<u8>, tail_bytes: usize) -> Self {
        let head = head(kind, sender, body.len() + tail_bytes);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head);
        hasher.update(&body);
        Self { head, body, tail_bytes, hasher }
    }

    /// What the frames share, without their header.
    pub(super) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The frame whose last bytes `tail` appends: as many as were announced.
    pub(super) fn with_tail(&self, tail: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let tail_at = FRAME_HEADER_BYTES + self.body.len();
        let mut out = Vec::with_capacity(tail_at + self.tail_bytes);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&[0; FRAME_HEADER_BYTES - CHECKED_BYTES]);
        out.extend_from_slice(&self.body);
        tail(&mut out);
        assert_eq!(out.len(), tail_at + self.tail_bytes, "the tail is as long as announced");
        let mut hasher = self.hasher.clone();
        hasher.update(&out[tail_at..]);
        out[CHECKED_BYTES..FRAME_HEADER_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
        out.into()
    }
}

#[cfg(test)]
mod tests;
