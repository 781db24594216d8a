//! Tables that are gathered from others: batches, forwards, what is left of a frame.

use std::ops::Range;

use super::groups::GroupsBuilder;
use super::{Proofs, RequestTable};
use crate::limits::{GROUPS_MAX, OPERATIONS_BYTES_MAX, REQUESTS_MAX};
use crate::types::{ClientId, Digest, Timestamp};

/// Gathers requests from several tables into one.
#[derive(Debug, Default)]
pub struct TableBuilder {
    clients: Vec<ClientId>,
    timestamps: Vec<Timestamp>,
    operation_ends: Vec<u32>,
    operations: Vec<u8>,
    digests: Vec<Digest>,
    tags: Vec<Vec<u8>>,
    signatures: Vec<u8>,
    groups: GroupsBuilder,
    /// Of one proof of the table that was pushed last.
    proof_bytes: usize,
}

impl TableBuilder {
    /// How many requests were pushed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether none was pushed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Bytes of operations pushed.
    #[must_use]
    pub const fn operation_bytes(&self) -> usize {
        self.operations.len()
    }

    /// Whether request `index` of `table` still fits within the limits of a table.
    #[must_use]
    pub fn has_room_for(&self, table: &RequestTable, index: usize) -> bool {
        let bytes = self.operation_bytes() + table.operation(index).len();
        self.len() < REQUESTS_MAX && bytes <= OPERATIONS_BYTES_MAX && self.groups.len() < GROUPS_MAX
    }

    /// Appends request `index` of `table`. All tables pushed into one builder must carry the same kind of proofs.
    ///
    /// # Panics
    /// If `index` is out of range or the kinds of proofs differ: that would be our own error, not a peer's.
    pub fn push(&mut self, table: &RequestTable, index: usize) {
        self.taking_from(table).push(index);
    }

    /// To append requests of one table, which costs less than one by one where they share proofs.
    pub const fn taking_from<'a>(&'a mut self, table: &'a RequestTable) -> Taking<'a> {
        Taking { builder: self, table, group: 0..0, at: 0 }
    }

    /// Appends request `index` of `table` without its proof. Then none in this builder may have one.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn push_unproven(&mut self, table: &RequestTable, index: usize) {
        self.push_columns(table, index);
        self.digests.push(table.digests[index]);
    }

    /// What a request is, but for its digest and its proof.
    #[inline]
    fn push_columns(&mut self, table: &RequestTable, index: usize) {
        self.clients.push(table.clients[index]);
        self.timestamps.push(table.timestamps[index]);
        self.operations.extend_from_slice(table.operation(index));
        #[allow(clippy::cast_possible_truncation, reason = "tables are bounded by OPERATIONS_BYTES_MAX")]
        self.operation_ends.push(self.operations.len() as u32);
    }

    /// The table of what was pushed; the builder is empty again.
    ///
    /// # Panics
    /// If tables with different kinds of proofs were mixed.
    #[must_use]
    pub fn finish(&mut self) -> RequestTable {
        let built = std::mem::take(self);
        let len = built.clients.len();
        let proofs = if built.groups.len() > 0 {
            let groups = built.groups.finish();
            assert!(groups.as_ref().is_none_or(|groups| groups.requests() == len), "mixed proofs in one table");
            groups.map_or(Proofs::None, Proofs::Groups)
        } else if !built.tags.is_empty() {
            let bytes = built.tags.concat();
            assert_eq!(bytes.len(), built.tags.len() * len * built.proof_bytes, "mixed proofs in one table");
            #[allow(clippy::cast_possible_truncation, reason = "at most REPLICAS_MAX columns")]
            Proofs::Tags { columns: built.tags.len() as u16, bytes: bytes.into() }
        } else if !built.signatures.is_empty() {
            assert_eq!(built.signatures.len(), len * built.proof_bytes, "mixed proofs in one table");
            Proofs::Signatures(built.signatures.into())
        } else {
            Proofs::None
        };
        RequestTable {
            clients: built.clients,
            timestamps: built.timestamps,
            operation_ends: built.operation_ends,
            operations: built.operations.into(),
            digests: built.digests,
            proofs,
        }
    }
}

/// Appends requests of one table to those in a builder.
#[derive(Debug)]
pub struct Taking<'a> {
    builder: &'a mut TableBuilder,
    table: &'a RequestTable,
    /// Which requests of the table are of the group that the builder's last one is of, and which group that is.
    group: Range<usize>,
    at: usize,
}

impl Taking<'_> {
    /// What it is all gathered in.
    #[must_use]
    pub const fn builder(&self) -> &TableBuilder {
        self.builder
    }

    /// Appends request `index`.
    ///
    /// # Panics
    /// As [`TableBuilder::push`] does.
    pub fn push(&mut self, index: usize) {
        let Self { builder, table, .. } = self;
        builder.push_columns(table, index);
        if let Some(digest) = table.digests.get(index) {
            builder.digests.push(*digest);
        }
        if let Proofs::Groups(groups) = &table.proofs {
            let same = self.group.contains(&index);
            if !same {
                self.at = groups.of(index);
                self.group = groups.range(self.at);
            }
            builder.groups.push(groups, &table.digests, (index, self.at), same);
            return;
        }
        let each = table.proofs.bytes_each(table.len());
        match &table.proofs {
            Proofs::None | Proofs::Groups(_) => {}
            Proofs::Tags { columns, bytes } => {
                builder.tags.resize_with(usize::from(*columns), Vec::new);
                for (column, tags) in builder.tags.iter_mut().enumerate() {
                    let at = (column * table.len() + index) * each;
                    tags.extend_from_slice(&bytes[at..at + each]);
                }
            }
            Proofs::Signatures(bytes) => builder.signatures.extend_from_slice(&bytes[index * each..(index + 1) * each]),
        }
        builder.proof_bytes = each;
    }
}
