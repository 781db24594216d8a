//! Records for tests, and tests by what they are about.

use std::sync::Arc;

use super::Identity;
use crate::auth::testing::table;
use crate::protocol::Record;
use crate::protocol::message::{Checkpoint, NewView, PrePrepare, Signed, ViewChange, Vote};
use crate::requests::Batch;
use crate::types::{Digest, ReplicaId, SequenceNumber, View};

mod records;
mod recovery;
mod segments;
mod snapshots;

pub(super) const OWN: Identity = Identity { fingerprint: [0xf1; 32], replica: ReplicaId(2) };

pub(super) fn pre_prepared(sequence: u64, operation: &[u8]) -> Record {
    let requests = table(&[(1, sequence, operation.to_vec()), (7, 1, Vec::new())]);
    Record::PrePrepared(PrePrepare { view: View(3), sequence: SequenceNumber(sequence), batch: Batch::new(requests) })
}

pub(super) fn vote(view: u64, sequence: u64, byte: u8) -> Vote {
    Vote { view: View(view), sequence: SequenceNumber(sequence), digest: Digest([byte; 32]) }
}

pub(super) fn prepared(sequence: u64) -> Record {
    Record::Prepared(vote(3, sequence, 0xd1))
}

pub(super) fn committed(sequence: u64) -> Record {
    Record::Committed(SequenceNumber(sequence), Digest([0xd1; 32]))
}

pub(super) fn view_change(view: u64) -> Arc<ViewChange> {
    Arc::new(ViewChange {
        replica: OWN.replica,
        view: View(view),
        stable: SequenceNumber(128),
        checkpoints: vec![Checkpoint { sequence: SequenceNumber(128), digest: Digest([0xc1; 32]) }],
        prepared: vec![vote(3, 130, 0xd2)],
        pre_prepared: vec![vote(2, 130, 0xd3), vote(3, 130, 0xd2)],
    })
}

pub(super) fn new_view(view: u64) -> Record {
    let content = view_change(view);
    let named = vec![(OWN.replica, content.digest()), (ReplicaId(3), Digest([9; 32]))];
    let view_changes = vec![
        Signed { content: Arc::clone(&content), signature: None },
        Signed { content: view_change(view), signature: Some([0x51; 64]) },
    ];
    let content = Arc::new(NewView { view: View(view), view_changes: named });
    Record::NewView(Signed { content, signature: Some([0x52; 64]) }, view_changes)
}

/// One record of each kind, and a null request.
pub(super) fn one_of_each() -> Vec<Record> {
    vec![
        pre_prepared(129, b"put k v"),
        Record::PrePrepared(PrePrepare { view: View(3), sequence: SequenceNumber(130), batch: Batch::null() }),
        prepared(129),
        committed(129),
        Record::ViewChange(view_change(4)),
        new_view(4),
        Record::Stable(Checkpoint { sequence: SequenceNumber(256), digest: Digest([0xc2; 32]) }),
        Record::Suspected(View(4)),
    ]
}
