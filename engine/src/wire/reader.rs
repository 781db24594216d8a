//! Reads a body piece by piece. Every piece is checked against the bytes that are really there before it is taken.

use bytes::{Buf as _, Bytes};

use super::numbers::{WidthMin, put_equal, put_numbers};
use crate::named::named_enum;
use crate::requests::equal_length;
use crate::types::{ClientId, Digest, Timestamp};

named_enum! {
    /// Why a body was refused.
    DecodeError {
        /// It ends before its content does.
        Truncated = "truncated",
        /// It goes on after its content.
        TrailingBytes = "trailing_bytes",
        /// A byte that must be zero is not.
        BadReserved = "bad_reserved",
        /// A column of numbers that is not written in the one way there is, or has a number out of range.
        BadNumbers = "bad_numbers",
        /// More requests than a table may have.
        TooManyRequests = "too_many_requests",
        /// An operation is longer than allowed.
        OperationTooLong = "operation_too_long",
        /// A table's operations are longer than allowed, together.
        OperationsTooLong = "operations_too_long",
        /// A kind of proofs that there is not.
        UnknownProofs = "unknown_proofs",
        /// A number of tag columns that does not fit the kind of proofs.
        BadColumns = "bad_columns",
        /// Requests with proofs where none belong: a body is proven by its digest alone.
        UnexpectedProofs = "unexpected_proofs",
        /// Requests of more groups than a table may have.
        TooManyGroups = "too_many_groups",
        /// A group that there can not be, or groups of more or fewer requests than the table has.
        BadGroup = "bad_group",
        /// A client node's own table lacks requests of a group.
        PartialGroup = "partial_group",
        /// Requests with proofs of another kind or number than the cluster uses.
        WrongProofs = "wrong_proofs",
        /// More replies than a table may have.
        TooManyReplies = "too_many_replies",
        /// A result is longer than allowed.
        ResultTooLong = "result_too_long",
        /// A form of result, or of the replies to a batch, that there is not, or a digest of another length.
        BadForm = "bad_form",
        /// A batch digest with sequence number 0, or replies with another that are tentative, digests or answers to
        /// reads.
        BadSequence = "bad_sequence",
        /// A status message describes more slots than it may.
        TooManySlots = "too_many_slots",
        /// A list in a view-change or a new-view is longer than allowed.
        TooManyEntries = "too_many_entries",
        /// A chunk of a snapshot is longer than allowed.
        ChunkTooLong = "chunk_too_long",
        /// Flags without a meaning.
        UnknownFlags = "unknown_flags",
        /// A frame that is no message between replicas.
        NotAMessage = "not_a_message",
        /// Text that is not UTF-8.
        BadText = "bad_text",
        /// More text than allowed.
        TextTooLong = "text_too_long",
    }
}

impl std::error::Error for DecodeError {}

/// What is left of a body.
pub(super) struct Reader(Bytes);

impl Reader {
    pub(super) const fn new(body: Bytes) -> Self {
        Self(body)
    }

    /// The next `len` bytes, shared with the body.
    pub(super) fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.0.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.0.split_to(len))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let array = *self.0.first_chunk().ok_or(DecodeError::Truncated)?;
        self.0.advance(N);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn digest(&mut self) -> Result<Digest, DecodeError> {
        self.array().map(Digest)
    }

    /// A column of `count` values of `N` bytes each.
    pub(super) fn column<const N: usize, T>(
        &mut self,
        count: usize,
        value: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, DecodeError> {
        let bytes = self.take(count * N)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| value(*bytes)).collect())
    }

    /// The columns of `count` clients and their timestamps: what requests are named by.
    pub(super) fn clients_and_timestamps(
        &mut self,
        count: usize,
    ) -> Result<(Vec<ClientId>, Vec<Timestamp>), DecodeError> {
        #[allow(clippy::cast_possible_truncation, reason = "at most u32::MAX")]
        let clients = self.numbers(count, WidthMin::One, u32::MAX.into(), |client| ClientId(client as u32))?;
        Ok((clients, self.numbers(count, WidthMin::One, u64::MAX, Timestamp)?))
    }

    /// A column of `count` lengths, as ends of pieces that follow each other. Errors are `piece` if a length is
    /// more than `piece_max` and `total` if all are more than `total_max` together.
    pub(super) fn ends(
        &mut self,
        count: usize,
        (piece_max, piece): (usize, DecodeError),
        (total_max, total): (usize, DecodeError),
    ) -> Result<Vec<u32>, DecodeError> {
        debug_assert!(u32::try_from(piece_max + total_max).is_ok(), "ends fit in u32");
        #[allow(clippy::cast_possible_truncation, reason = "at most u32::MAX")]
        let mut ends = self.numbers(count, WidthMin::Zero, u32::MAX.into(), |length| length as u32)?;
        let mut end = 0;
        for len in &mut ends {
            if *len as usize > piece_max {
                return Err(piece);
            }
            end += *len;
            if end as usize > total_max {
                return Err(total);
            }
            *len = end;
        }
        Ok(ends)
    }

    /// Splits off the last `len` bytes: a proof at the end of a body.
    pub(super) fn trailer(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        let at = self.0.len().checked_sub(len).ok_or(DecodeError::Truncated)?;
        Ok(self.0.split_off(at))
    }

    /// What is left, without taking it.
    pub(super) fn rest(&self) -> &[u8] {
        &self.0
    }

    /// That nothing is left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

/// Appends a column of values of `N` bytes each.
pub(super) fn put_column<const N: usize, T>(out: &mut Vec<u8>, values: &[T], bytes: impl Fn(&T) -> [u8; N]) {
    let at = out.len();
    out.resize(at + values.len() * N, 0);
    for (slot, value) in out[at..].as_chunks_mut().0.iter_mut().zip(values) {
        *slot = bytes(value);
    }
}

/// Appends the columns of clients and their timestamps.
pub(super) fn put_clients_and_timestamps(out: &mut Vec<u8>, clients: &[ClientId], timestamps: &[Timestamp]) {
    put_numbers(out, WidthMin::One, clients.len(), clients.iter().map(|client| client.0.into()));
    put_numbers(out, WidthMin::One, timestamps.len(), timestamps.iter().map(|timestamp| timestamp.0));
}

/// Appends the lengths of pieces that follow each other from `start` and end at `ends`.
pub(super) fn put_lengths(out: &mut Vec<u8>, start: u32, ends: &[u32]) {
    if let Some(length) = equal_length(start, ends) {
        return put_equal(out, length.into(), ends.len());
    }
    let before = [&start].into_iter().chain(ends);
    put_numbers(out, WidthMin::Zero, ends.len(), ends.iter().zip(before).map(|(end, before)| (end - before).into()));
}
