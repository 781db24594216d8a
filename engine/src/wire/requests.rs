//! Tables of requests.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | count of requests |
//! | 1 | kind of proofs: 0 none, 1 tags, 2 signatures |
//! | 1 | zero |
//! | 2 | tag columns (0 unless tags) |
//! | 4 × count | clients |
//! | 8 × count | timestamps |
//! | 4 × count | lengths of operations |
//! | their sum | operations |
//! | columns × count, or count, each as long as the strategy says | tags column by column, or signatures |

use bytes::Bytes;

use super::frame::{FrameKind, encode_frame};
use super::reader::{DecodeError, Reader, put_column, put_lengths};
use crate::auth::{Digester, Strategy};
use crate::limits::{OPERATION_BYTES_MAX, OPERATIONS_BYTES_MAX, REPLICAS_MAX, REQUEST_COLUMNS_BYTES, REQUESTS_MAX};
use crate::requests::{Proofs, RequestTable};
use crate::types::{ClientId, NodeId, ReplicaId, Timestamp};

const TABLE_HEAD_BYTES: usize = 8;
const PROOFS_NONE: u8 = 0;
const PROOFS_TAGS: u8 = 1;
const PROOFS_SIGNATURES: u8 = 2;

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
    let len = table_bytes(table, ProofColumns::All);
    encode_frame(FrameKind::Requests, own, len, |out| encode_table(out, table, ProofColumns::All))
}

/// A client node's frame of read-only requests, with all their proofs.
#[must_use]
pub fn encode_reads(table: &RequestTable, own: NodeId) -> Bytes {
    let len = table_bytes(table, ProofColumns::All);
    encode_frame(FrameKind::Reads, own, len, |out| encode_table(out, table, ProofColumns::All))
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
    out.extend_from_slice(selected(table, columns).2);
}

/// Bytes of a table as [`encode_table`] writes it.
#[must_use]
pub fn table_bytes(table: &RequestTable, columns: ProofColumns) -> usize {
    bytes_before_proofs(table) + selected(table, columns).2.len()
}

pub(super) const fn bytes_before_proofs(table: &RequestTable) -> usize {
    TABLE_HEAD_BYTES + table.len() * REQUEST_COLUMNS_BYTES + table.operations.len()
}

/// Appends everything of a table but the proofs themselves: the same bytes for every receiver of a pre-prepare.
pub(super) fn encode_before_proofs(out: &mut Vec<u8>, table: &RequestTable, columns: ProofColumns) {
    let (kind, columns, _) = selected(table, columns);
    out.reserve(bytes_before_proofs(table));
    #[allow(clippy::cast_possible_truncation, reason = "tables are bounded by REQUESTS_MAX")]
    out.extend_from_slice(&(table.len() as u32).to_le_bytes());
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&columns.to_le_bytes());
    put_column(out, &table.clients, |client| client.0.to_le_bytes());
    put_column(out, &table.timestamps, |timestamp| timestamp.0.to_le_bytes());
    put_lengths(out, 0, &table.operation_ends);
    out.extend_from_slice(&table.operations);
}

/// Kind, number of columns and bytes of the proofs to write.
pub(super) fn selected(table: &RequestTable, columns: ProofColumns) -> (u8, u16, &[u8]) {
    match (columns, &table.proofs) {
        (ProofColumns::None, _) | (_, Proofs::None) | (ProofColumns::Of(_), Proofs::Tags { columns: 1, .. }) => {
            (PROOFS_NONE, 0, &[])
        }
        (_, Proofs::Signatures(bytes)) => (PROOFS_SIGNATURES, 0, bytes),
        (ProofColumns::All, Proofs::Tags { columns, bytes }) => (PROOFS_TAGS, *columns, bytes),
        (ProofColumns::Of(replica), Proofs::Tags { bytes, .. }) => {
            let column_bytes = table.len() * table.proofs.bytes_each(table.len());
            (PROOFS_TAGS, 1, &bytes[usize::from(replica.0) * column_bytes..][..column_bytes])
        }
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
        (PROOFS_SIGNATURES, 0) => (1, Strategy::is_transferable),
        (PROOFS_TAGS, columns) if (1..=REPLICAS_MAX).contains(&usize::from(columns)) => {
            (usize::from(columns), Strategy::is_for_receiver)
        }
        (PROOFS_NONE | PROOFS_TAGS | PROOFS_SIGNATURES, _) => return Err(DecodeError::BadColumns),
        _ => return Err(DecodeError::UnknownProofs),
    };
    let proof_bytes = match strategy {
        None if proofs > 0 => return Err(DecodeError::UnexpectedProofs),
        Some(strategy) if !fits(strategy) => return Err(DecodeError::WrongProofs),
        strategy => proofs * strategy.map_or(0, Strategy::proof_bytes),
    };
    let clients = reader.column(count, |bytes| ClientId(u32::from_le_bytes(bytes)))?;
    let timestamps = reader.column(count, |bytes| Timestamp(u64::from_le_bytes(bytes)))?;
    let operation_ends = reader.ends(
        count,
        (OPERATION_BYTES_MAX, DecodeError::OperationTooLong),
        (OPERATIONS_BYTES_MAX, DecodeError::OperationsTooLong),
    )?;
    let operations = reader.take(operation_ends.last().map_or(0, |&end| end as usize))?;
    let bytes = reader.take(count * proof_bytes)?;
    let proofs = match kind {
        PROOFS_TAGS => Proofs::Tags { columns, bytes },
        PROOFS_SIGNATURES => Proofs::Signatures(bytes),
        _ => Proofs::None,
    };
    let mut table = RequestTable { clients, timestamps, operation_ends, operations, digests: Vec::new(), proofs };
    digester.digest(&mut table);
    Ok(table)
}

#[cfg(test)]
mod tests;
