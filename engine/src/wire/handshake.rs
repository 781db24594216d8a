//! Who is at the other end of a connection: a mutual challenge and response by the nodes' Ed25519 identities, whatever
//! the strategies of authentication are. A pure state machine: frames in, frames out, nonces are arguments.
//!
//! ```text
//! initiator                                    acceptor
//!   Hello   (introduction)            ──▶
//!                                     ◀──        Welcome (introduction, signature)   or Refusal (text)
//!   Proof   (signature)               ──▶                                            or Refusal (text)
//! ```
//!
//! Both signatures cover the role of their maker, both node ids, both nonces, the connection's index and the cluster's
//! fingerprint: they can not be replayed, reflected, or taken to another connection. The initiator may send right after
//! its proof; the acceptor sends nothing else before it has checked that proof.
//!
//! An introduction carries the settings that all nodes must agree on. Where fingerprints differ the refusal names every
//! setting that does, with both values, so that whoever started the nodes knows what to repair.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::Signer as _;
use thiserror::Error;

use super::frame::{Frame, FrameKind, encode_frame};
use super::reader::{DecodeError, Reader};
use crate::auth::{Keyring, signature};
use crate::limits::{CONNECTIONS_MAX, HELLO_BODY_BYTES_MAX, SIGNATURE_BYTES};
use crate::types::NodeId;

/// Version of the handshake and of everything that is said after it.
pub const PROTOCOL_VERSION: u16 = 1;

/// Most settings of an introduction.
const SETTINGS_MAX: usize = 32;
/// Most bytes of a setting's name.
const NAME_BYTES_MAX: usize = 64;
/// Most bytes of a setting's value.
const VALUE_BYTES_MAX: usize = 256;
/// Most bytes of a refusal's text.
const REFUSAL_BYTES_MAX: usize = 8192;
/// Bytes of an introduction without its settings.
const INTRODUCTION_BYTES: usize = 2 + 4 + 4 + 32 + 32 + 2;

const _: () = {
    let settings = SETTINGS_MAX * (2 + NAME_BYTES_MAX + 2 + VALUE_BYTES_MAX);
    assert!(INTRODUCTION_BYTES + settings + SIGNATURE_BYTES <= HELLO_BODY_BYTES_MAX);
    assert!(REFUSAL_BYTES_MAX <= HELLO_BODY_BYTES_MAX);
};

/// Precedes what is signed. What is signed elsewhere is a block of 64 bytes; this and a hash are 52, so that neither
/// signature can be taken for the other.
const SIGNED_PREFIX: &[u8; 20] = b"hippodrome handshake";
/// What BLAKE3's key derivation is told that the transcript's hash is for.
const TRANSCRIPT_CONTEXT: &str = "hippodrome 2026 handshake transcript";

/// Why a handshake failed. It is the end of its connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// A frame that does not belong here.
    #[error("a frame of kind {0:?} does not belong here")]
    UnexpectedFrame(FrameKind),
    /// A frame whose body can not be read.
    #[error("malformed: {0}")]
    Malformed(DecodeError),
    /// The peer speaks another version.
    #[error("protocol version {theirs} is not spoken here, only {PROTOCOL_VERSION}")]
    Version {
        /// The peer's.
        theirs: u16,
    },
    /// The peer is not in the cluster file.
    #[error("node {0} is not in the cluster file")]
    UnknownNode(NodeId),
    /// The peer says that it is this very node.
    #[error("node {0} is this node itself")]
    OwnId(NodeId),
    /// Another node answered than the one that was called, or the sender changed on the way.
    #[error("node {actual} answered where node {expected} was expected")]
    UnexpectedPeer {
        /// Who was expected.
        expected: NodeId,
        /// Who answered.
        actual: NodeId,
    },
    /// Not one of the allowed connections, or another one than was asked for.
    #[error(
        "connection {connection} of {connections} is not allowed; allowed: 0 to {CONNECTIONS_MAX} - 1, below their number"
    )]
    BadConnection {
        /// Its index.
        connection: u32,
        /// How many there are said to be.
        connections: u32,
    },
    /// The nodes were started with different settings.
    #[error("cluster settings differ: {0}")]
    Settings(String),
    /// The peer sent this node's own challenge back.
    #[error("the challenge came back as the peer's own")]
    Reflected,
    /// The peer does not have the key that the cluster file names.
    #[error("node {0} did not prove its identity: its key is not the one in the cluster file")]
    BadSignature(NodeId),
    /// The peer refused this node.
    #[error("refused by the peer: {0}")]
    Refused(String),
}

impl HandshakeError {
    /// The reason's name in reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::UnexpectedFrame(_) => "unexpected_frame",
            Self::Malformed(_) => "malformed_handshake",
            Self::Version { .. } => "protocol_version",
            Self::UnknownNode(_) => "unknown_node",
            Self::OwnId(_) => "own_id",
            Self::UnexpectedPeer { .. } => "unexpected_peer",
            Self::BadConnection { .. } => "bad_connection",
            Self::Settings(_) => "settings_differ",
            Self::Reflected => "reflected_challenge",
            Self::BadSignature(_) => "bad_handshake_signature",
            Self::Refused(_) => "refused_by_peer",
        }
    }

    /// What to tell the peer before hanging up. A refusal is not answered.
    #[must_use]
    pub fn refusal(&self, own: NodeId) -> Option<Bytes> {
        (!matches!(self, Self::Refused(_))).then(|| encode_refusal(own, &self.to_string()))
    }
}

impl From<DecodeError> for HandshakeError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// The peer, proven.
    pub peer: NodeId,
    /// Which of the peer's (acceptor) or this node's (initiator) connections this is, from 0.
    pub connection: u32,
    /// How many there are.
    pub connections: u32,
}

/// What a frame leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// A frame to send.
    pub reply: Option<Bytes>,
    /// The handshake is done.
    pub established: Option<Established>,
}

/// One side of one connection's handshake.
#[derive(Debug)]
pub struct Handshake {
    keyring: Arc<Keyring>,
    nonce: [u8; 32],
    state: State,
}

#[derive(Debug)]
enum State {
    /// Initiator: said hello to this peer.
    Introduced(Established),
    /// Acceptor: waits for a hello.
    Listening,
    /// Acceptor: welcomed this peer, which must now sign this.
    Challenged(Established, [u8; 52]),
    /// Established or failed: nothing more belongs here.
    Done,
}

/// Which side a signature is made by.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Side {
    Initiator = 1,
    Acceptor = 2,
}

impl Handshake {
    /// Calls `peer` over connection `connection` of `connections`. Returns the first frame to send, too. `nonce` must
    /// come from the operating system's randomness ([`crate::auth::keys::fresh_nonce`]), anew for each handshake.
    #[must_use]
    pub fn initiate(
        keyring: Arc<Keyring>,
        peer: NodeId,
        connection: u32,
        connections: u32,
        nonce: [u8; 32],
    ) -> (Self, Bytes) {
        let hello = encode_introduction(&keyring, FrameKind::Hello, connection, connections, &nonce, None);
        let state = State::Introduced(Established { peer, connection, connections });
        (Self { keyring, nonce, state }, hello)
    }

    /// Waits for a peer to call. `nonce` as in [`initiate`](Self::initiate).
    #[must_use]
    pub const fn accept(keyring: Arc<Keyring>, nonce: [u8; 32]) -> Self {
        Self { keyring, nonce, state: State::Listening }
    }

    /// Handles the peer's next frame.
    ///
    /// # Errors
    /// If the peer is not to be talked to. Send [`HandshakeError::refusal`], then hang up: any later frame is an error,
    /// too.
    pub fn on_frame(&mut self, frame: &Frame) -> Result<Step, HandshakeError> {
        let state = std::mem::replace(&mut self.state, State::Done);
        match (state, frame.kind) {
            (State::Introduced(_) | State::Challenged(..), FrameKind::Refusal) => {
                Err(HandshakeError::Refused(decode_refusal(&frame.body)))
            }
            (State::Introduced(called), FrameKind::Welcome) => self.on_welcome(called, frame),
            (State::Listening, FrameKind::Hello) => self.on_hello(frame),
            (State::Challenged(peer, signed), FrameKind::Proof) => self.on_proof(peer, &signed, frame),
            _ => Err(HandshakeError::UnexpectedFrame(frame.kind)),
        }
    }

    fn on_hello(&mut self, frame: &Frame) -> Result<Step, HandshakeError> {
        let mut reader = Reader::new(frame.body.clone());
        let theirs = Introduction::decode(&mut reader)?;
        reader.finish()?;
        self.check(frame.sender, &theirs)?;
        let Introduction { connection, connections, .. } = theirs;
        if connection >= connections || connections > CONNECTIONS_MAX {
            return Err(HandshakeError::BadConnection { connection, connections });
        }
        let peer = Established { peer: frame.sender, connection, connections };
        let ids = (frame.sender, self.keyring.own());
        let nonces = (&theirs.nonce, &self.nonce);
        let welcome = self.sign(&signed(Side::Acceptor, ids, peer, nonces, self.keyring.fingerprint()));
        let reply = encode_introduction(
            &self.keyring,
            FrameKind::Welcome,
            connection,
            connections,
            &self.nonce,
            Some(&welcome),
        );
        let expected = signed(Side::Initiator, ids, peer, nonces, self.keyring.fingerprint());
        self.state = State::Challenged(peer, expected);
        Ok(Step { reply: Some(reply), established: None })
    }

    fn on_welcome(&self, called: Established, frame: &Frame) -> Result<Step, HandshakeError> {
        let mut reader = Reader::new(frame.body.clone());
        let theirs = Introduction::decode(&mut reader)?;
        let signature = reader.array()?;
        reader.finish()?;
        if frame.sender != called.peer {
            return Err(HandshakeError::UnexpectedPeer { expected: called.peer, actual: frame.sender });
        }
        self.check(frame.sender, &theirs)?;
        let Introduction { connection, connections, .. } = theirs;
        if (connection, connections) != (called.connection, called.connections) {
            return Err(HandshakeError::BadConnection { connection, connections });
        }
        let ids = (self.keyring.own(), called.peer);
        let nonces = (&self.nonce, &theirs.nonce);
        let fingerprint = self.keyring.fingerprint();
        self.check_signature(called.peer, &signed(Side::Acceptor, ids, called, nonces, fingerprint), &signature)?;
        let proof = self.sign(&signed(Side::Initiator, ids, called, nonces, fingerprint));
        let own = self.keyring.own();
        let reply = encode_frame(FrameKind::Proof, own, proof.len(), |out| out.extend_from_slice(&proof));
        Ok(Step { reply: Some(reply), established: Some(called) })
    }

    fn on_proof(&self, peer: Established, signed: &[u8; 52], frame: &Frame) -> Result<Step, HandshakeError> {
        if frame.sender != peer.peer {
            return Err(HandshakeError::UnexpectedPeer { expected: peer.peer, actual: frame.sender });
        }
        let mut reader = Reader::new(frame.body.clone());
        let signature = reader.array()?;
        reader.finish()?;
        self.check_signature(peer.peer, signed, &signature)?;
        Ok(Step { reply: None, established: Some(peer) })
    }

    /// What both sides check of an introduction. Settings come first: where cluster files differ, ids may well be
    /// wrong, but the difference is what has to be repaired.
    fn check(&self, sender: NodeId, theirs: &Introduction) -> Result<(), HandshakeError> {
        if theirs.version != PROTOCOL_VERSION {
            return Err(HandshakeError::Version { theirs: theirs.version });
        }
        if theirs.fingerprint != *self.keyring.fingerprint() {
            return Err(HandshakeError::Settings(self.differences(sender, &theirs.settings)));
        }
        if sender == self.keyring.own() {
            return Err(HandshakeError::OwnId(sender));
        }
        if usize::from(sender.0) >= self.keyring.nodes() {
            return Err(HandshakeError::UnknownNode(sender));
        }
        if theirs.nonce == self.nonce {
            return Err(HandshakeError::Reflected);
        }
        Ok(())
    }

    /// Names every setting that differs, with both values.
    fn differences(&self, sender: NodeId, theirs: &BTreeMap<String, String>) -> String {
        let own = self.keyring.own();
        let ours: BTreeMap<_, _> = self.keyring.agreement().iter().cloned().collect();
        let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let mut text = String::new();
        for name in names {
            let (here, there) = (ours.get(name), theirs.get(name));
            if here != there {
                let separator = if text.is_empty() { "" } else { "; " };
                let (here, there) = (here.map_or("nothing", String::as_str), there.map_or("nothing", String::as_str));
                let _ = write!(text, "{separator}{name} is {here} at node {own}, {there} at node {sender}");
            }
        }
        if text.is_empty() {
            return "the fingerprints do, though every setting is the same".into();
        }
        printable(&text)
    }

    fn sign(&self, signed: &[u8; 52]) -> [u8; SIGNATURE_BYTES] {
        self.keyring.signing().sign(signed).to_bytes()
    }

    fn check_signature(
        &self,
        peer: NodeId,
        signed: &[u8; 52],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<(), HandshakeError> {
        let key = self.keyring.public(peer).ok_or(HandshakeError::UnknownNode(peer))?;
        if signature::verify(key, signed, signature) { Ok(()) } else { Err(HandshakeError::BadSignature(peer)) }
    }
}

/// What one side signs. `ids` and `nonces`: initiator's, then acceptor's.
fn signed(
    side: Side,
    ids: (NodeId, NodeId),
    connection: Established,
    nonces: (&[u8; 32], &[u8; 32]),
    fingerprint: &[u8; 32],
) -> [u8; 52] {
    let mut hasher = blake3::Hasher::new_derive_key(TRANSCRIPT_CONTEXT);
    hasher.update(&[side as u8]).update(&PROTOCOL_VERSION.to_le_bytes());
    hasher.update(&ids.0.0.to_le_bytes()).update(&ids.1.0.to_le_bytes());
    hasher.update(&connection.connection.to_le_bytes()).update(&connection.connections.to_le_bytes());
    hasher.update(nonces.0).update(nonces.1).update(fingerprint);
    let mut signed = [0; 52];
    signed[..20].copy_from_slice(SIGNED_PREFIX);
    signed[20..].copy_from_slice(hasher.finalize().as_bytes());
    signed
}

/// How a node introduces itself. Its id is the frame's sender.
#[derive(Debug)]
struct Introduction {
    version: u16,
    connection: u32,
    connections: u32,
    fingerprint: [u8; 32],
    nonce: [u8; 32],
    settings: BTreeMap<String, String>,
}

impl Introduction {
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.u16()?;
        let (connection, connections) = (reader.u32()?, reader.u32()?);
        let (fingerprint, nonce) = (reader.array()?, reader.array()?);
        let count = usize::from(reader.u16()?);
        if count > SETTINGS_MAX {
            return Err(DecodeError::TextTooLong);
        }
        let mut settings = BTreeMap::new();
        for _ in 0..count {
            let name = decode_text(reader, NAME_BYTES_MAX)?;
            settings.insert(name, decode_text(reader, VALUE_BYTES_MAX)?);
        }
        Ok(Self { version, connection, connections, fingerprint, nonce, settings })
    }
}

fn decode_text(reader: &mut Reader, bytes_max: usize) -> Result<String, DecodeError> {
    let len = usize::from(reader.u16()?);
    if len > bytes_max {
        return Err(DecodeError::TextTooLong);
    }
    String::from_utf8(reader.take(len)?.to_vec()).map_err(|_| DecodeError::BadText)
}

fn encode_introduction(
    keyring: &Keyring,
    kind: FrameKind,
    connection: u32,
    connections: u32,
    nonce: &[u8; 32],
    signature: Option<&[u8; SIGNATURE_BYTES]>,
) -> Bytes {
    let settings = keyring.agreement();
    assert!(settings.len() <= SETTINGS_MAX, "introductions are bounded");
    encode_frame(kind, keyring.own(), 512, |out| {
        out.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        out.extend_from_slice(&connection.to_le_bytes());
        out.extend_from_slice(&connections.to_le_bytes());
        out.extend_from_slice(keyring.fingerprint());
        out.extend_from_slice(nonce);
        #[allow(clippy::cast_possible_truncation, reason = "checked above")]
        out.extend_from_slice(&(settings.len() as u16).to_le_bytes());
        for (name, value) in settings {
            encode_text(out, name, NAME_BYTES_MAX);
            encode_text(out, value, VALUE_BYTES_MAX);
        }
        if let Some(signature) = signature {
            out.extend_from_slice(signature);
        }
    })
}

fn encode_text(out: &mut Vec<u8>, text: &str, bytes_max: usize) {
    assert!(text.len() <= bytes_max, "settings' names and values are short: {text}");
    #[allow(clippy::cast_possible_truncation, reason = "checked above")]
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A frame that tells the peer why it is not let in. Text of more than 8 KiB is cut.
#[must_use]
pub fn encode_refusal(own: NodeId, text: &str) -> Bytes {
    let mut end = text.len().min(REFUSAL_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    encode_frame(FrameKind::Refusal, own, text.len(), |out| out.extend_from_slice(text.as_bytes()))
}

/// The text of a refusal, fit to be printed whatever the peer sent.
#[must_use]
pub fn decode_refusal(body: &[u8]) -> String {
    printable(&String::from_utf8_lossy(&body[..body.len().min(REFUSAL_BYTES_MAX)]))
}

/// A peer's text without control characters, so that it can not write over a terminal or forge lines of a log.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
