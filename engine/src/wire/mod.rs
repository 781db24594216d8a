//! What nodes say to each other, as bytes. `docs/wire.md` is the layout's description.
//!
//! In data-path order: [frame] (the 16-byte header, and frames out of a stream of chunks), [handshake] (who is at the
//! other end of a connection), [decoder] (bodies by a cluster's rules), [requests] (tables of requests), [messages]
//! (replica to replica; those that are passed on in `views`), [replies] (tables of replies, and their digests),
//! [answering] (which of these a client node wants).
//!
//! Everything here takes bytes that anybody may have sent: nothing panics, nothing is allocated by a length that was
//! only claimed, and every refusal has a name to be counted by. Integers are little endian. What is decoded is not yet
//! authenticated: decoding hands on the [`AuthBlock`](crate::auth::AuthBlock) and the proof for `auth` to check.

pub mod answering;
pub mod decoder;
pub mod frame;
pub mod handshake;
pub mod messages;
mod numbers;
mod reader;
pub mod replies;
pub mod requests;
mod views;

#[cfg(test)]
mod golden;

pub use answering::{decode_answering, encode_answering};
pub use decoder::Decoder;
pub use frame::{Frame, FrameError, FrameKind, FrameReader};
pub use handshake::{Established, Handshake, HandshakeError, Step};
pub use messages::{Decoded, Outgoing, encode_message};
pub use reader::DecodeError;
pub use replies::{
    DecodedBatchDigest, DecodedReplies, batch_digest, encode_batch_replies, encode_read_replies, encode_replies,
    encode_tentative_replies,
};
pub use requests::{encode_and_seal, encode_reads, encode_requests, requests_claimed};
pub use views::Origin;
