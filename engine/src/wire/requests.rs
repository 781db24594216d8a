//! Tables of requests.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | count of requests |
//! | 1 | kind of proofs: 0 none, 1 tags, 2 signatures, 3 tags of groups, 4 signatures of groups |
//! | 1 | zero |
//! | 2 | tag columns (0 unless tags) |
//! | a column (see `numbers`) | clients |
//! | a column | timestamps |
//! | a column | lengths of operations |
//! | their sum | operations |
//! | 0, or the groups' | groups |
//! | columns × count, or count, each as long as the strategy says | tags column by column, or signatures |
//!
//! Where groups of requests are proven, it is their count that counts for the proofs, and before these is:
//!
//! | bytes | groups |
//! |---|---|
//! | 4 | count of groups |
//! | 8 × count | which requests of the group are in the table, bit i for number i |
//! | 1 × count | how many requests the group has |
//! | 2 × count | the client node that proves it |
//! | 32 × all that are not in the table | digests of the requests that are not, group by group |

use bytes::Bytes;

use super::frame::{Frame, FrameKind, encode_frame};
use super::numbers;
use super::reader::{DecodeError, Reader, put_clients_and_timestamps, put_column, put_lengths};
use crate::auth::{BlockKind, Digester, Sealer, Strategy};
use crate::limits::{
    DIGEST_BYTES, GROUP_BYTES, GROUPS_MAX, OPERATION_BYTES_MAX, OPERATIONS_BYTES_MAX, REPLICAS_MAX,
    REQUEST_COLUMNS_BYTES_MAX, REQUESTS_MAX,
};
use crate::requests::{Group, Groups, Proofs, RequestTable};
use crate::types::{Digest, NodeId, ReplicaId};

const TABLE_HEAD_BYTES: usize = 8;
/// Of clients, timestamps and lengths.
const COLUMN_HEADS_BYTES: usize = 3 * numbers::HEAD_BYTES;
const PROOFS_NONE: u8 = 0;
const PROOFS_TAGS: u8 = 1;
const PROOFS_SIGNATURES: u8 = 2;
const PROOFS_GROUP_TAGS: u8 = 3;
const PROOFS_GROUP_SIGNATURES: u8 = 4;

/// Which of a table's proofs are written with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofColumns {
    /// As many as there are.
    All,
    /// Of tags, the column of this replica alone. A table with a single column was meant for whoever wrote it, so it is
    /// written without proofs. Signatures are written as they are.
    Of(ReplicaId),
    /// None.
    None,
}

/// A client node's frame of requests, with all their proofs.
#[must_use]
pub fn encode_requests(table: &RequestTable, own: NodeId) -> Bytes {
    let len = table_bytes_max(table, ProofColumns::All);
    encode_frame(FrameKind::Requests, own, len, |out| encode_table(out, table, ProofColumns::All))
}

/// A client node's frame of read-only requests, with all their proofs.
#[must_use]
pub fn encode_reads(table: &RequestTable, own: NodeId) -> Bytes {
    let len = table_bytes_max(table, ProofColumns::All);
    encode_frame(FrameKind::Reads, own, len, |out| encode_table(out, table, ProofColumns::All))
}

/// A client node's frame of requests, read-only ones or others, with the proofs that `sealer` makes: where they stand
/// in the frame, if each request is proven by itself. Hands the table back without them.
///
/// # Panics
/// If the digests have not been computed: that would be our own error.
#[must_use]
pub fn encode_and_seal(mut table: RequestTable, reads: bool, sealer: &mut Sealer) -> (Bytes, RequestTable) {
    let own = sealer.keyring().own();
    let (kind, block) =
        if reads { (FrameKind::Reads, BlockKind::Read) } else { (FrameKind::Requests, BlockKind::Request) };
    let in_groups = sealer.keyring().proves_groups();
    let (proofs, bytes_to_come) = match (in_groups, reads) {
        (false, _) => sealer.proofs_to_come(table.len()),
        (true, false) => (sealer.seal_requests(&table), 0),
        (true, true) => (sealer.seal_reads(&table), 0),
    };
    table.proofs = proofs;
    let len = table_bytes_max(&table, ProofColumns::All) + bytes_to_come;
    let frame = encode_frame(kind, own, len, |out| {
        encode_table(out, &table, ProofColumns::All);
        if !in_groups {
            sealer.append_proofs(block, &table, out);
        }
    });
    table.proofs = Proofs::None;
    (frame, table)
}

/// How many requests a frame says to have; 0 if it has no table of requests. One that has others is refused, before
/// more than these are looked at.
#[must_use]
pub fn requests_claimed(frame: &Frame) -> usize {
    let before_table = match frame.kind {
        FrameKind::Requests | FrameKind::Reads | FrameKind::Forward => 0,
        FrameKind::Body => 8,
        FrameKind::PrePrepare => 16,
        _ => return 0,
    };
    let count = frame.body.get(before_table..).and_then(|table| table.first_chunk());
    count.map_or(0, |count| u32::from_le_bytes(*count) as usize)
}

/// A table by itself, its digests computed. Operations and proofs are slices of `body`. Its proofs are those of
/// `strategy`, or there are none; without a strategy there are none. Whether they are as many as they should be is for
/// [`Decoder`](super::Decoder) to check.
///
/// # Errors
/// If the body is not a table within the limits, or has other proofs.
pub fn decode_requests(
    body: Bytes,
    strategy: Option<Strategy>,
    digester: &mut Digester,
) -> Result<RequestTable, DecodeError> {
    let mut reader = Reader::new(body);
    let table = decode_table(&mut reader, strategy, digester)?;
    reader.finish()?;
    Ok(table)
}

/// Appends a table.
pub fn encode_table(out: &mut Vec<u8>, table: &RequestTable, columns: ProofColumns) {
    encode_before_proofs(out, table, columns);
    out.extend_from_slice(selected(table, columns).bytes);
}

/// Most bytes of a table as [`encode_table`] writes it: its columns may be narrower.
#[must_use]
pub fn table_bytes_max(table: &RequestTable, columns: ProofColumns) -> usize {
    bytes_before_proofs_max(table, columns) + selected(table, columns).bytes.len()
}

pub(super) fn bytes_before_proofs_max(table: &RequestTable, columns: ProofColumns) -> usize {
    let group_bytes = |groups: &Groups| 4 + groups.len() * GROUP_BYTES + groups.holes().len() * DIGEST_BYTES;
    let groups = selected(table, columns).groups.map_or(0, group_bytes);
    TABLE_HEAD_BYTES + COLUMN_HEADS_BYTES + table.len() * REQUEST_COLUMNS_BYTES_MAX + table.operations.len() + groups
}

/// Appends everything of a table but the proofs themselves: the same bytes for every receiver of a pre-prepare.
pub(super) fn encode_before_proofs(out: &mut Vec<u8>, table: &RequestTable, columns: ProofColumns) {
    out.reserve(bytes_before_proofs_max(table, columns));
    let Selected { kind, columns, groups, .. } = selected(table, columns);
    #[allow(clippy::cast_possible_truncation, reason = "tables are bounded by REQUESTS_MAX")]
    out.extend_from_slice(&(table.len() as u32).to_le_bytes());
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&columns.to_le_bytes());
    put_clients_and_timestamps(out, &table.clients, &table.timestamps);
    put_lengths(out, 0, &table.operation_ends);
    out.extend_from_slice(&table.operations);
    if let Some(groups) = groups {
        #[allow(clippy::cast_possible_truncation, reason = "at most GROUPS_MAX")]
        out.extend_from_slice(&(groups.len() as u32).to_le_bytes());
        put_column(out, groups.all(), |group| group.present.to_le_bytes());
        put_column(out, groups.all(), |group| [group.size]);
        put_column(out, groups.all(), |group| group.node.0.to_le_bytes());
        put_column(out, groups.holes(), |digest| digest.0);
    }
}

/// The proofs to write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Selected<'a> {
    kind: u8,
    /// Columns of tags.
    pub(super) columns: u16,
    /// Whether they are of groups, and which.
    groups: Option<&'a Groups>,
    /// The proofs themselves.
    pub(super) bytes: &'a [u8],
}

/// Which proofs to write.
pub(super) fn selected(table: &RequestTable, wanted: ProofColumns) -> Selected<'_> {
    let (kind, columns, groups, bytes) = match &table.proofs {
        Proofs::None => return Selected::default(),
        Proofs::Tags { columns, bytes } => (PROOFS_TAGS, *columns, None, bytes),
        Proofs::Signatures(bytes) => (PROOFS_SIGNATURES, 0, None, bytes),
        Proofs::Groups(groups) => {
            let kind = if groups.columns() == 0 { PROOFS_GROUP_SIGNATURES } else { PROOFS_GROUP_TAGS };
            (kind, groups.columns(), Some(groups), groups.proofs())
        }
    };
    let all = Selected { kind, columns, groups, bytes };
    match wanted {
        ProofColumns::None => Selected::default(),
        ProofColumns::Of(_) if columns == 1 => Selected::default(),
        ProofColumns::Of(replica) if columns > 1 => {
            let proofs = groups.map_or(table.len(), Groups::len);
            let column_bytes = proofs * table.proofs.bytes_each(table.len());
            Selected { columns: 1, bytes: &bytes[usize::from(replica.0) * column_bytes..][..column_bytes], ..all }
        }
        ProofColumns::Of(_) | ProofColumns::All => all,
    }
}

/// Reads a table, whose proofs are as [`decode_requests`] says, and computes its digests. Operations and proofs are
/// slices of what is read.
pub(super) fn decode_table(
    reader: &mut Reader,
    strategy: Option<Strategy>,
    digester: &mut Digester,
) -> Result<RequestTable, DecodeError> {
    let count = reader.u32()? as usize;
    if count > REQUESTS_MAX {
        return Err(DecodeError::TooManyRequests);
    }
    let kind = reader.u8()?;
    if reader.u8()? != 0 {
        return Err(DecodeError::BadReserved);
    }
    let columns = reader.u16()?;
    let (proofs, fits): (usize, fn(Strategy) -> bool) = match (kind, columns) {
        (PROOFS_NONE, 0) => (0, |_| true),
        (PROOFS_SIGNATURES | PROOFS_GROUP_SIGNATURES, 0) => (1, Strategy::is_transferable),
        (PROOFS_TAGS | PROOFS_GROUP_TAGS, columns) if (1..=REPLICAS_MAX).contains(&usize::from(columns)) => {
            (usize::from(columns), Strategy::is_for_receiver)
        }
        (PROOFS_NONE..=PROOFS_GROUP_SIGNATURES, _) => return Err(DecodeError::BadColumns),
        _ => return Err(DecodeError::UnknownProofs),
    };
    let proof_bytes = match strategy {
        None if proofs > 0 => return Err(DecodeError::UnexpectedProofs),
        Some(strategy) if !fits(strategy) => return Err(DecodeError::WrongProofs),
        strategy => proofs * strategy.map_or(0, Strategy::proof_bytes),
    };
    let (clients, timestamps) = reader.clients_and_timestamps(count)?;
    let operation_ends = reader.ends(
        count,
        (OPERATION_BYTES_MAX, DecodeError::OperationTooLong),
        (OPERATIONS_BYTES_MAX, DecodeError::OperationsTooLong),
    )?;
    let operations = reader.take(operation_ends.last().map_or(0, |&end| end as usize))?;
    let proofs = match kind {
        PROOFS_TAGS => Proofs::Tags { columns, bytes: reader.take(count * proof_bytes)? },
        PROOFS_SIGNATURES => Proofs::Signatures(reader.take(count * proof_bytes)?),
        PROOFS_GROUP_TAGS | PROOFS_GROUP_SIGNATURES => {
            Proofs::Groups(decode_groups(reader, count, columns, proof_bytes)?)
        }
        _ => Proofs::None,
    };
    let mut table = RequestTable { clients, timestamps, operation_ends, operations, digests: Vec::new(), proofs };
    digester.digest(&mut table);
    Ok(table)
}

/// Reads the groups that `requests` requests are of, with the proofs of each, of `proof_bytes` in all columns.
fn decode_groups(
    reader: &mut Reader,
    requests: usize,
    columns: u16,
    proof_bytes: usize,
) -> Result<Groups, DecodeError> {
    let count = reader.u32()? as usize;
    if count > GROUPS_MAX {
        return Err(DecodeError::TooManyGroups);
    }
    let present = reader.column(count, u64::from_le_bytes)?;
    let sizes = reader.column(count, |[size]| size)?;
    let nodes = reader.column(count, |bytes| NodeId(u16::from_le_bytes(bytes)))?;
    let group = |((present, size), node)| Group { node, size, present };
    let groups: Vec<Group> = present.into_iter().zip(sizes).zip(nodes).map(group).collect();
    let (mut here, mut lacking) = (0, 0);
    for group in &groups {
        if !group.is_sound() {
            return Err(DecodeError::BadGroup);
        }
        here += group.requests();
        lacking += group.holes();
    }
    if here != requests {
        return Err(DecodeError::BadGroup);
    }
    let holes = reader.column(lacking, Digest)?;
    let proofs = reader.take(count * proof_bytes)?;
    Groups::new(groups, holes, columns, proofs).ok_or(DecodeError::BadGroup)
}

#[cfg(test)]
mod tests;
