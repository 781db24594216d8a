//! Records as bytes, golden ones among them. If a change of code changes bytes, logs of earlier builds can not be read:
//! raise [`VERSION`](super::super::segment::VERSION), then rewrite the files by
//! `HIPPODROME_BLESS=1 cargo test -p hippodrome-engine storage`.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;

use super::{OWN, one_of_each, pre_prepared, view_change, vote};
use crate::auth::Digester;
use crate::limits::{PRE_PREPARED_MAX, REPLICAS_MAX, WINDOW_MAX};
use crate::protocol::Record;
use crate::protocol::message::{Checkpoint, Signed, ViewChange};
use crate::requests::Proofs;
use crate::storage::record::{Kind, RecordError, decode, encode};
use crate::storage::segment::{Builder, Head};
use crate::storage::snapshot::Snapshot;
use crate::types::{Digest, ReplicaId, SequenceNumber, View};
use crate::wire::DecodeError;
use crate::wire::requests::{ProofColumns, encode_table};

fn bytes_of(record: &Record) -> Bytes {
    let mut bytes = Vec::new();
    encode(record, &mut bytes);
    bytes.into()
}

fn read(kind: Kind, bytes: Bytes) -> Result<Record, RecordError> {
    decode(kind, bytes, &mut Digester::default())
}

#[test]
fn records_are_read_as_they_were_written() {
    for record in one_of_each() {
        let bytes = bytes_of(&record);
        assert_eq!(read(Kind::of(&record), bytes.clone()).as_ref(), Ok(&record));
        for len in 0..bytes.len() {
            assert!(read(Kind::of(&record), bytes.slice(..len)).is_err(), "{record:?} cut to {len}");
        }
        let longer: Bytes = [&bytes[..], &[0]].concat().into();
        assert!(read(Kind::of(&record), longer).is_err(), "{record:?} with a byte more");
    }
}

#[test]
fn kinds_have_bytes_of_their_own() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_byte(kind.byte()), Some(*kind));
    }
    assert_eq!(Kind::from_byte(0), None);
    assert_eq!(Kind::from_byte(Kind::ALL.len() as u8 + 1), None);
}

#[test]
fn proofs_of_requests_are_not_kept_and_not_read() {
    let Record::PrePrepared(mut message) = pre_prepared(1, b"x") else { unreachable!() };
    let mut requests = message.batch.requests.clone();
    requests.proofs = Proofs::Signatures(vec![1; 2 * 64].into());
    message.batch = crate::requests::Batch::new(requests.clone());
    assert_eq!(read(Kind::PrePrepared, bytes_of(&Record::PrePrepared(message))), Ok(pre_prepared(1, b"x")));
    let mut with_proofs = vec![0; 16];
    encode_table(&mut with_proofs, &requests, ProofColumns::All);
    let error = RecordError::Batch(DecodeError::UnexpectedProofs);
    assert_eq!(read(Kind::PrePrepared, with_proofs.into()), Err(error));
}

/// What a hostile cluster can make a replica record is bounded, and all of it fits.
#[test]
fn largest_new_view_fits_and_a_larger_one_is_refused() {
    let window = WINDOW_MAX as usize;
    let largest = ViewChange {
        checkpoints: vec![Checkpoint { sequence: SequenceNumber(1), digest: Digest([1; 32]) }; window + 1],
        prepared: vec![vote(1, 1, 1); window],
        pre_prepared: vec![vote(1, 1, 1); window * PRE_PREPARED_MAX],
        ..(*view_change(4)).clone()
    };
    let Record::NewView(new_view, _) = super::new_view(4) else { unreachable!() };
    let mut content = (*new_view.content).clone();
    content.view_changes = vec![(ReplicaId(0), Digest([0; 32])); REPLICAS_MAX];
    let mut view_changes = vec![Signed { content: largest.into(), signature: Some([1; 64]) }; REPLICAS_MAX];
    let whole = |view_changes: &Vec<_>| Record::NewView(Signed::own(content.clone()), view_changes.clone());
    let head = Head { identity: OWN, number: 1, salt: 1 };
    Builder::new(&head).append(&whole(&view_changes), false);
    assert!(read(Kind::NewView, bytes_of(&whole(&view_changes))).is_ok());
    view_changes.push(view_changes[0].clone());
    let error = read(Kind::NewView, bytes_of(&whole(&view_changes))).unwrap_err();
    assert_eq!(error.to_string(), "65 view-changes: allowed: at most 64");
}

fn any_view_change() -> impl Strategy<Value = ViewChange> {
    let votes = || prop::collection::vec((any::<u64>(), any::<u64>(), any::<u8>()), 0..9);
    (any::<(u16, u64, u64)>(), votes(), votes(), votes()).prop_map(|((replica, view, stable), c, p, q)| ViewChange {
        replica: ReplicaId(replica),
        view: View(view),
        stable: SequenceNumber(stable),
        checkpoints: c
            .into_iter()
            .map(|(sequence, _, byte)| Checkpoint { sequence: SequenceNumber(sequence), digest: Digest([byte; 32]) })
            .collect(),
        prepared: p.into_iter().map(|(view, sequence, byte)| vote(view, sequence, byte)).collect(),
        pre_prepared: q.into_iter().map(|(view, sequence, byte)| vote(view, sequence, byte)).collect(),
    })
}

proptest! {
    #[test]
    fn any_view_change_is_read_as_it_was_written(view_change in any_view_change()) {
        let record = Record::ViewChange(view_change.into());
        prop_assert_eq!(read(Kind::ViewChange, bytes_of(&record)), Ok(record));
    }

    #[test]
    fn any_batch_is_read_as_it_was_written(operations in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..99), 0..9)) {
        let requests: Vec<_> = (1u32..).zip(operations).map(|(client, operation)| (client, 1, operation)).collect();
        let batch = crate::requests::Batch::new(super::table(&requests));
        let message = crate::protocol::message::PrePrepare { view: View(1), sequence: SequenceNumber(2), batch };
        let record = Record::PrePrepared(message);
        prop_assert_eq!(read(Kind::PrePrepared, bytes_of(&record)), Ok(record));
    }

    #[test]
    fn garbage_is_no_record(kind in 0..Kind::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(record) = read(Kind::ALL[kind], bytes.clone().into()) {
            prop_assert_eq!(&bytes_of(&record)[..], &bytes[..]);
        }
    }
}

/// Hex, 32 bytes a line.
fn to_text(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex::encode(line) + "\n").collect()
}

#[test]
fn golden_bytes_have_not_changed() {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let head = Head { identity: OWN, number: 5, salt: 0x5a17 };
    let mut builder = Builder::new(&head);
    for (index, record) in one_of_each().iter().enumerate() {
        files.push((format!("record-{index}-{}", Kind::of(record)), bytes_of(record).to_vec()));
        builder.append(record, index == 5);
    }
    files.push(("segment".into(), [&head.encode()[..], builder.pending().1].concat()));
    let snapshot = Snapshot {
        sequence: SequenceNumber(256),
        digest: Digest([0xc2; 32]),
        first_segment: 5,
        chunks: vec![Bytes::from_static(b"one"), Bytes::new()],
    };
    files.push(("snapshot-head".into(), snapshot.encode_head(&OWN)));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/storage");
    for (name, bytes) in &files {
        let (path, text) = (folder.join(format!("{name}.hex")), to_text(bytes));
        if std::env::var_os("HIPPODROME_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, text, "{}: layout changed, see the top of this file", path.display());
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), files.len(), "files that nothing belongs to");
}
