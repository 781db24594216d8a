use proptest::prelude::*;

use super::*;

fn frame(kind: FrameKind, sender: u16, body: &[u8]) -> Bytes {
    encode_frame(kind, NodeId(sender), body.len(), |out| out.extend_from_slice(body))
}

/// All frames of a stream that arrives in these chunks.
fn read_all(chunks: impl IntoIterator<Item = Bytes>) -> Result<Vec<Frame>, FrameError> {
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    let mut frames = Vec::new();
    for chunk in chunks {
        reader.push(chunk);
        while let Some(frame) = reader.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

#[test]
fn kinds_and_numbers_are_the_same() {
    for number in 0..=u8::MAX {
        if let Some(kind) = FrameKind::from_u8(number) {
            assert_eq!(kind as u8, number);
        }
    }
    assert!(FrameKind::ALL.iter().all(|kind| FrameKind::from_u8(*kind as u8) == Some(*kind)));
}

#[test]
fn a_frame_inside_one_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from([frame(FrameKind::Prepare, 1, b"first"), frame(FrameKind::Commit, 2, b"")].concat());
    let range = chunk.as_ptr_range();
    let mut reader = FrameReader::new(100);
    reader.push(chunk.clone());
    let first = reader.next_frame().unwrap().unwrap();
    assert_eq!(first, Frame { kind: FrameKind::Prepare, sender: NodeId(1), body: Bytes::from_static(b"first") });
    assert!(range.contains(&first.body.as_ptr()), "copied");
    let second = reader.next_frame().unwrap().unwrap();
    assert_eq!(second, Frame { kind: FrameKind::Commit, sender: NodeId(2), body: Bytes::new() });
    assert_eq!(reader.next_frame(), Ok(None));
    assert_eq!(reader.carried_bytes(), 0);
}

#[test]
fn each_defect_has_its_own_reason_and_ends_the_stream() {
    let good = frame(FrameKind::Prepare, 1, &[7; 20]);
    let cases = [
        (4, FrameError::BadMagic),
        (6, FrameError::BadVersion),
        (7, FrameError::UnknownKind),
        (2, FrameError::TooLong),
        (10, FrameError::BadSender),
        (8, FrameError::BadChecksum),
        (13, FrameError::BadChecksum),
        (30, FrameError::BadChecksum),
    ];
    for (at, error) in cases {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x80;
        // Whole and byte by byte.
        for size in [bytes.len(), 1] {
            let mut reader = FrameReader::new(100);
            let mut result = Ok(None);
            for chunk in bytes.chunks(size) {
                reader.push(Bytes::copy_from_slice(chunk));
                result = reader.next_frame();
            }
            assert_eq!(result, Err(error), "byte {at}");
            reader.push(good.clone());
            assert_eq!(reader.next_frame(), Err(error), "a stream does not recover");
        }
    }
}

#[test]
fn memory_follows_what_arrived_not_what_was_claimed() {
    let mut header = frame(FrameKind::Requests, 1, &[]).to_vec();
    #[allow(clippy::cast_possible_truncation, reason = "16 MiB")]
    header[..4].copy_from_slice(&(FRAME_BODY_BYTES_MAX as u32).to_le_bytes());
    let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
    reader.push(header.into());
    assert_eq!(reader.next_frame(), Ok(None));
    assert!(reader.carried_bytes() <= 64, "{}", reader.carried_bytes());
    for arrived in 1..=1000 {
        reader.push(Bytes::from_static(&[0; 100]));
        assert_eq!(reader.next_frame(), Ok(None));
        let bound = 2 * (FRAME_HEADER_BYTES + 100 * arrived) + 64;
        assert!(reader.carried_bytes() <= bound, "{} > {bound}", reader.carried_bytes());
    }
}

#[test]
fn the_bound_on_bodies_can_be_raised_after_the_handshake() {
    let mut reader = FrameReader::new(4);
    reader.push(Bytes::from([frame(FrameKind::Proof, 1, &[1; 4]), frame(FrameKind::Requests, 1, &[2; 5])].concat()));
    assert_eq!(reader.next_frame().unwrap().unwrap().body, [1; 4][..]);
    reader.set_body_max(5);
    assert_eq!(reader.next_frame().unwrap().unwrap().body, [2; 5][..]);
    reader.set_body_max(4);
    reader.push(frame(FrameKind::Requests, 1, &[2; 5]));
    assert_eq!(reader.next_frame(), Err(FrameError::TooLong));
}

#[test]
fn frames_with_a_shared_body_are_ordinary_frames() {
    let shared = SharedFrame::new(FrameKind::PrePrepare, NodeId(3), b"common ".to_vec(), 3);
    for tail in [b"one", b"two"] {
        let whole = [&b"common "[..], tail].concat();
        assert_eq!(shared.with_tail(|out| out.extend_from_slice(tail)), frame(FrameKind::PrePrepare, 3, &whole));
    }
}

proptest! {
    #[test]
    fn streams_cut_anywhere_give_the_same_frames(
        bodies in prop::collection::vec((0..FrameKind::ALL.len(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..200)), 1..10),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        drained in any::<bool>(),
    ) {
        let frames: Vec<_> = bodies
            .into_iter()
            .map(|(kind, sender, body)| Frame { kind: FrameKind::ALL[kind], sender: NodeId(sender), body: body.into() })
            .collect();
        let stream: Bytes = frames.iter().flat_map(|f| frame(f.kind, f.sender.0, &f.body)).collect::<Vec<_>>().into();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|cut| stream.slice(cut[0]..cut[1]));
        if drained {
            prop_assert_eq!(read_all(chunks).unwrap(), frames);
        } else {
            let mut reader = FrameReader::new(FRAME_BODY_BYTES_MAX);
            chunks.for_each(|chunk| reader.push(chunk));
            for frame in frames {
                prop_assert_eq!(reader.next_frame(), Ok(Some(frame)));
            }
            prop_assert_eq!(reader.next_frame(), Ok(None));
        }
    }

    #[test]
    fn garbage_is_refused_or_waited_on(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..5)) {
        let total: usize = chunks.iter().map(Vec::len).sum();
        let frames = read_all(chunks.into_iter().map(Bytes::from));
        prop_assert!(total < FRAME_HEADER_BYTES && frames == Ok(vec![]) || frames.is_err());
    }

    #[test]
    fn a_flipped_bit_never_gives_a_frame(body in prop::collection::vec(any::<u8>(), 0..50), bit in any::<prop::sample::Index>()) {
        let mut bytes = frame(FrameKind::Prepare, 1, &body).to_vec();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let frames = read_all([Bytes::from(bytes)]);
        prop_assert!(frames.is_err() || frames == Ok(vec![]), "{:?}", frames);
    }
}
