use proptest::prelude::*;

use super::*;
use crate::auth::testing::{cluster, key, keyring};
use crate::limits::FRAME_HEADER_BYTES;
use crate::settings::{ClusterFile, ClusterSettings, ExecutionChoice, Granularity};
use crate::wire::FrameReader;

fn file() -> ClusterFile {
    cluster("mac", 4, &[9])
}

fn frame(bytes: &Bytes) -> Frame {
    let mut reader = FrameReader::new(HELLO_BODY_BYTES_MAX);
    reader.push(bytes.clone());
    reader.next_frame().unwrap().unwrap()
}

/// Node 4 calls node 1 over connection 2 of 3.
fn call(file: &ClusterFile) -> (Handshake, Frame) {
    let (handshake, hello) = Handshake::initiate(keyring(file, 4), NodeId(1), 2, 3, [0xaa; 32]);
    (handshake, frame(&hello))
}

fn listen(file: &ClusterFile) -> Handshake {
    Handshake::accept(keyring(file, 1), [0xbb; 32])
}

fn reply(step: Result<Step, HandshakeError>) -> Frame {
    frame(&step.unwrap().reply.unwrap())
}

#[test]
fn both_sides_learn_who_is_there() {
    // Whatever the strategies of authentication are.
    for strategy in ["none", "mac", "ed25519", "hybrid"] {
        let file = cluster(strategy, 4, &[9]);
        let ((mut initiator, hello), mut acceptor) = (call(&file), listen(&file));
        let step = acceptor.on_frame(&hello).unwrap();
        assert_eq!(step.established, None, "nothing is proven by a hello");
        let step = initiator.on_frame(&frame(&step.reply.unwrap())).unwrap();
        assert_eq!(step.established, Some(Established { peer: NodeId(1), connection: 2, connections: 3 }));
        let step = acceptor.on_frame(&frame(&step.reply.unwrap())).unwrap();
        let established = Some(Established { peer: NodeId(4), connection: 2, connections: 3 });
        assert_eq!(step, Step { reply: None, established });
        assert_eq!(acceptor.on_frame(&hello), Err(HandshakeError::UnexpectedFrame(FrameKind::Hello)));
    }
}

#[test]
fn different_settings_are_refused_by_name_with_both_values() {
    let mut other = file();
    other.settings.window = 512;
    other.settings.authentication = "hybrid".parse().unwrap();
    let ((mut initiator, hello), mut acceptor) = (call(&other), listen(&file()));
    let error = acceptor.on_frame(&hello).unwrap_err();
    let text = "authentication is mac at node 1, hybrid at node 4; window is 256 at node 1, 512 at node 4";
    assert_eq!(error, HandshakeError::Settings(text.into()));
    // The other side learns it, too, and says nothing more.
    let refused = initiator.on_frame(&frame(&error.refusal(NodeId(1)).unwrap())).unwrap_err();
    assert_eq!(refused, HandshakeError::Refused(format!("cluster settings differ: {text}")));
    assert_eq!(refused.refusal(NodeId(4)), None);
    assert_eq!(refused.name(), "refused_by_peer");
}

#[test]
fn another_way_to_prove_or_to_execute_is_refused_by_name() {
    let refused = |change: fn(&mut ClusterSettings)| {
        let mut other = file();
        change(&mut other.settings);
        let ((_, hello), mut acceptor) = (call(&other), listen(&file()));
        acceptor.on_frame(&hello).unwrap_err()
    };
    let told = |text: &str| HandshakeError::Settings(text.into());
    assert_eq!(
        refused(|settings| settings.auth_granularity = Granularity::Frame),
        told("auth_granularity is request at node 1, frame at node 4")
    );
    assert_eq!(
        refused(|settings| settings.execution = ExecutionChoice::Tentative),
        told("execution is committed at node 1, tentative at node 4")
    );
}

#[test]
fn strangers_are_refused_by_name() {
    let file = file();
    let (_, hello) = call(&file);
    let refused = |change: &dyn Fn(&mut Frame)| {
        let mut hello = hello.clone();
        change(&mut hello);
        listen(&file).on_frame(&hello).unwrap_err()
    };
    let byte = |at: usize, value: u8| {
        move |frame: &mut Frame| {
            let mut body = frame.body.to_vec();
            body[at] = value;
            frame.body = body.into();
        }
    };
    assert_eq!(refused(&|frame| frame.sender = NodeId(1)), HandshakeError::OwnId(NodeId(1)));
    assert_eq!(refused(&|frame| frame.sender = NodeId(5)), HandshakeError::UnknownNode(NodeId(5)));
    assert_eq!(refused(&byte(0, 9)), HandshakeError::Version { theirs: 9 });
    assert_eq!(refused(&byte(2, 3)), HandshakeError::BadConnection { connection: 3, connections: 3 });
    assert_eq!(refused(&byte(7, 4)), HandshakeError::BadConnection { connection: 2, connections: 1027 });
    assert_eq!(
        refused(&byte(10, 0)).to_string(),
        "cluster settings differ: the fingerprints do, though every setting is the same"
    );
    assert_eq!(refused(&|frame| frame.kind = FrameKind::Requests).name(), "unexpected_frame");
    assert_eq!(refused(&|frame| frame.body.truncate(70)).name(), "malformed_handshake");
    let reflected = Handshake::accept(keyring(&file, 1), [0xaa; 32]).on_frame(&hello).unwrap_err();
    assert_eq!(reflected, HandshakeError::Reflected);
}

#[test]
fn only_the_key_in_the_cluster_file_proves_a_node() {
    let file = file();
    // An impostor of node 4 has a file in which node 4's key is its own; it forges the fingerprint and the settings.
    let mut forged = file.clone();
    forged.nodes[4].public_key = key(40).public_hex();
    let impostor = Keyring::new(&forged, NodeId(4), &key(40)).unwrap();
    let (_, hello) = call(&file);
    let mut acceptor = listen(&file);
    acceptor.on_frame(&hello).unwrap();
    let signed = signed(
        Side::Initiator,
        (NodeId(4), NodeId(1)),
        Established { peer: NodeId(4), connection: 2, connections: 3 },
        (&[0xaa; 32], &[0xbb; 32]),
        &file.fingerprint(),
    );
    let signature = impostor.signing().sign(&signed).to_bytes();
    let proof = Frame { kind: FrameKind::Proof, sender: NodeId(4), body: Bytes::copy_from_slice(&signature) };
    assert_eq!(acceptor.on_frame(&proof), Err(HandshakeError::BadSignature(NodeId(4))));
    // The true key's signature of the same bytes is what was asked for.
    let mut acceptor = listen(&file);
    acceptor.on_frame(&hello).unwrap();
    let signature = keyring(&file, 4).signing().sign(&signed).to_bytes();
    let proof = Frame { body: Bytes::copy_from_slice(&signature), ..proof };
    assert!(acceptor.on_frame(&proof).unwrap().established.is_some());
}

#[test]
fn recorded_handshakes_are_worth_nothing() {
    let file = file();
    let ((mut initiator, hello), mut acceptor) = (call(&file), listen(&file));
    let welcome = reply(acceptor.on_frame(&hello));
    let proof = reply(initiator.on_frame(&welcome));
    // To the acceptor, whose challenge is another one now.
    let mut again = Handshake::accept(keyring(&file, 1), [0xcc; 32]);
    again.on_frame(&hello).unwrap();
    assert_eq!(again.on_frame(&proof), Err(HandshakeError::BadSignature(NodeId(4))));
    // To the initiator, likewise.
    let (mut again, _) = Handshake::initiate(keyring(&file, 4), NodeId(1), 2, 3, [0xdd; 32]);
    assert_eq!(again.on_frame(&welcome), Err(HandshakeError::BadSignature(NodeId(1))));
    // On another connection.
    let (mut again, _) = Handshake::initiate(keyring(&file, 4), NodeId(1), 0, 3, [0xaa; 32]);
    assert_eq!(again.on_frame(&welcome), Err(HandshakeError::BadConnection { connection: 2, connections: 3 }));
    // The welcome's signature as the initiator's own.
    let mut acceptor = listen(&file);
    acceptor.on_frame(&hello).unwrap();
    let signature = welcome.body.slice(welcome.body.len() - SIGNATURE_BYTES..);
    let reflected = Frame { kind: FrameKind::Proof, sender: NodeId(4), body: signature };
    assert_eq!(acceptor.on_frame(&reflected), Err(HandshakeError::BadSignature(NodeId(4))));
}

#[test]
fn the_peer_must_be_the_one_that_was_called_and_stay_it() {
    let file = file();
    let (mut initiator, hello) = call(&file);
    let mut other = Handshake::accept(keyring(&file, 2), [0xbb; 32]);
    let welcome = reply(other.on_frame(&hello));
    let error = HandshakeError::UnexpectedPeer { expected: NodeId(1), actual: NodeId(2) };
    assert_eq!(initiator.on_frame(&welcome), Err(error));
    let ((mut initiator, hello), mut acceptor) = (call(&file), listen(&file));
    let mut proof = reply(initiator.on_frame(&reply(acceptor.on_frame(&hello))));
    proof.sender = NodeId(3);
    let error = HandshakeError::UnexpectedPeer { expected: NodeId(4), actual: NodeId(3) };
    assert_eq!(acceptor.on_frame(&proof), Err(error));
}

#[test]
fn a_refusal_is_safe_to_print_and_bounded() {
    assert_eq!(decode_refusal(b"a\x1b[2Jb\nc\xff"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
    let long = encode_refusal(NodeId(0), &"ä".repeat(9000));
    assert_eq!(long.len(), FRAME_HEADER_BYTES + REFUSAL_BYTES_MAX);
    assert_eq!(decode_refusal(&frame(&long).body), "ä".repeat(REFUSAL_BYTES_MAX / 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flipped_bit_establishes_nothing(which in 0..3, at in any::<prop::sample::Index>(), bit in 0..8) {
        let file = file();
        let flip = |frame: &Frame| {
            let len = frame.body.len();
            // Not the settings: they are for a refusal's text alone, what counts is their fingerprint.
            let places: Vec<usize> = match frame.kind {
                FrameKind::Hello => (0..INTRODUCTION_BYTES).collect(),
                FrameKind::Welcome => (0..INTRODUCTION_BYTES).chain(len - SIGNATURE_BYTES..len).collect(),
                _ => (0..len).collect(),
            };
            let mut body = frame.body.to_vec();
            body[*at.get(&places)] ^= 1u8 << bit;
            Frame { body: body.into(), ..frame.clone() }
        };
        let ((mut initiator, hello), mut acceptor) = (call(&file), listen(&file));
        let hello = if which == 0 { flip(&hello) } else { hello };
        let Ok(step) = acceptor.on_frame(&hello) else { return Ok(()) };
        let welcome = frame(&step.reply.unwrap());
        let welcome = if which == 1 { flip(&welcome) } else { welcome };
        let Ok(step) = initiator.on_frame(&welcome) else { return Ok(()) };
        prop_assert_eq!(which, 2, "the initiator noticed");
        let proof = flip(&frame(&step.reply.unwrap()));
        prop_assert!(acceptor.on_frame(&proof).is_err());
    }

    #[test]
    fn garbage_never_panics(
        kind in 0..FrameKind::ALL.len(),
        sender in any::<u16>(),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let frame = Frame { kind: FrameKind::ALL[kind], sender: NodeId(sender), body: body.into() };
        let file = file();
        prop_assert!(listen(&file).on_frame(&frame).is_err());
        prop_assert!(call(&file).0.on_frame(&frame).is_err());
        let mut challenged = listen(&file);
        challenged.on_frame(&call(&file).1).unwrap();
        prop_assert!(challenged.on_frame(&frame).is_err());
    }
}
