//! Columns of numbers, as narrow as they can be.
//!
//! Clients, timestamps and lengths of one table are mostly near each other, and a byte costs on every copy of it: at
//! the sender, in the kernel at both ends, at the receiver, and where it is hashed. So a column says its first number
//! in full and of each number how far it is from that, in as many bytes as the farthest needs: frame of reference
//! coding (Goldstein, Ramakrishnan and Shaft, ICDE'98), with the first number as the reference and whole bytes.
//!
//! | bytes | column |
//! |---|---|
//! | 1 | width: 0, 1, 2, 4 or 8 |
//! | 8 | the first number; 0 if there is none |
//! | width × count | each number less the first one: signed, two's complement |
//!
//! Columns of clients and timestamps have a width of at least 1, so that a short frame can not claim many requests;
//! where the width of lengths is 0, all are equal. A column has one encoding: what is wider than it has to be is
//! refused.

use super::reader::{DecodeError, Reader};

/// Bytes of a column's head: width and first number.
pub(super) const HEAD_BYTES: usize = 1 + 8;

/// The least width of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WidthMin {
    /// 0, where all numbers are equal.
    Zero,
    /// 1.
    One,
}

/// Appends a column of `count` numbers.
#[inline]
pub(super) fn put_numbers(
    out: &mut Vec<u8>,
    least: WidthMin,
    count: usize,
    numbers: impl Iterator<Item = u64> + Clone,
) {
    let first = numbers.clone().next().unwrap_or(0);
    let distances = numbers.map(|number| number.wrapping_sub(first).cast_signed());
    let spread = distances.clone().fold(0, |spread, distance| spread | zigzag(distance));
    let width = width(spread, least);
    put_head(out, width, first);
    #[allow(clippy::cast_possible_truncation, reason = "its width says that it fits")]
    match width {
        0 => {}
        1 => put(out, count, distances.map(|distance| (distance as i8).to_le_bytes())),
        2 => put(out, count, distances.map(|distance| (distance as i16).to_le_bytes())),
        4 => put(out, count, distances.map(|distance| (distance as i32).to_le_bytes())),
        _ => put(out, count, distances.map(i64::to_le_bytes)),
    }
}

/// Appends a column of `count` numbers, which are all the same and may take no bytes.
pub(super) fn put_equal(out: &mut Vec<u8>, number: u64, count: usize) {
    put_head(out, 0, if count == 0 { 0 } else { number });
}

fn put_head(out: &mut Vec<u8>, width: usize, first: u64) {
    #[allow(clippy::cast_possible_truncation, reason = "at most 8")]
    out.push(width as u8);
    out.extend_from_slice(&first.to_le_bytes());
}

fn put<const N: usize>(out: &mut Vec<u8>, count: usize, distances: impl Iterator<Item = [u8; N]>) {
    let at = out.len();
    out.resize(at + count * N, 0);
    for (slot, distance) in out[at..].as_chunks_mut().0.iter_mut().zip(distances) {
        *slot = distance;
    }
}

/// A distance without a sign, as Protocol Buffers encode it: 0, 1, 2, 3, 4, .. for 0, -1, 1, -2, 2, ..
#[inline]
const fn zigzag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)).cast_unsigned()
}

/// Bytes that numbers need whose [`zigzag`]s are these, or'ed.
const fn width(spread: u64, least: WidthMin) -> usize {
    match spread {
        0 if matches!(least, WidthMin::Zero) => 0,
        0..0x100 => 1,
        0x100..0x1_0000 => 2,
        0x1_0000..0x1_0000_0000 => 4,
        _ => 8,
    }
}

impl Reader {
    /// A column of `count` numbers, each at most `most`.
    ///
    /// # Errors
    /// `Truncated` if it is not there; `BadNumbers` if it is not written in the one way there is, or has a number of
    /// more than `most`.
    pub(super) fn numbers<T>(
        &mut self,
        count: usize,
        least: WidthMin,
        most: u64,
        value: impl Fn(u64) -> T,
    ) -> Result<Vec<T>, DecodeError> {
        let (width, first) = (usize::from(self.u8()?), self.u64()?);
        if !matches!(width, 0 | 1 | 2 | 4 | 8) {
            return Err(DecodeError::BadNumbers);
        }
        let bytes = self.take(count * width)?;
        if count == 0 && first != 0 {
            return Err(DecodeError::BadNumbers);
        }
        let column = Column { first, least, most, width };
        match width {
            0 => column.equal(count, value),
            1 => column.read(&bytes, |[byte]| i8::from_le_bytes([byte]).into(), value),
            2 => column.read(&bytes, |bytes| i16::from_le_bytes(bytes).into(), value),
            4 => column.read(&bytes, |bytes| i32::from_le_bytes(bytes).into(), value),
            _ => column.read(&bytes, i64::from_le_bytes, value),
        }
    }
}

/// What a column that is read has to be like.
struct Column {
    first: u64,
    least: WidthMin,
    most: u64,
    width: usize,
}

impl Column {
    fn equal<T>(&self, count: usize, value: impl Fn(u64) -> T) -> Result<Vec<T>, DecodeError> {
        self.accept(0, 0, self.first)?;
        Ok((0..count).map(|_| value(self.first)).collect())
    }

    fn read<const N: usize, T>(
        &self,
        bytes: &[u8],
        distance: impl Fn([u8; N]) -> i64,
        value: impl Fn(u64) -> T,
    ) -> Result<Vec<T>, DecodeError> {
        let distances = || bytes.as_chunks().0.iter().map(|bytes| distance(*bytes));
        let number = |distance: i64| self.first.wrapping_add_signed(distance);
        let (mut spread, mut bits) = (0, 0);
        for distance in distances() {
            spread |= zigzag(distance);
            bits |= number(distance);
        }
        self.accept(distances().next().unwrap_or(0), spread, bits)?;
        Ok(distances().map(|distance| value(number(distance))).collect())
    }

    /// Whether the one encoding of these numbers was read: the distance of the first one, the [`zigzag`]s of all
    /// distances or'ed, and the numbers or'ed.
    fn accept(&self, first: i64, spread: u64, bits: u64) -> Result<(), DecodeError> {
        debug_assert!(self.most.wrapping_add(1) == 0 || (self.most + 1).is_power_of_two(), "or'ed bits tell");
        let fits = width(spread, self.least) == self.width && bits <= self.most;
        if first == 0 && fits { Ok(()) } else { Err(DecodeError::BadNumbers) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn encode(numbers: &[u64], least: WidthMin) -> Vec<u8> {
        let mut out = Vec::new();
        put_numbers(&mut out, least, numbers.len(), numbers.iter().copied());
        out
    }

    fn decode(bytes: &[u8], count: usize, least: WidthMin, most: u64) -> Result<Vec<u64>, DecodeError> {
        let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
        let numbers = reader.numbers(count, least, most, |number| number)?;
        reader.finish()?;
        Ok(numbers)
    }

    #[test]
    fn a_column_is_as_wide_as_its_farthest_number_needs() {
        for (numbers, least, width) in [
            (&[][..], WidthMin::Zero, 0),
            (&[], WidthMin::One, 1),
            (&[u64::MAX; 3], WidthMin::Zero, 0),
            (&[u64::MAX; 3], WidthMin::One, 1),
            (&[1000, 1127, 872], WidthMin::Zero, 1),
            (&[1000, 1128], WidthMin::Zero, 2),
            (&[1000, 871], WidthMin::Zero, 2),
            (&[0, 0x7fff], WidthMin::Zero, 2),
            (&[0, 0x8000], WidthMin::Zero, 4),
            (&[1 << 40, (1 << 40) - 0x8000_0000], WidthMin::Zero, 4),
            (&[0, 0x8000_0000], WidthMin::Zero, 8),
            (&[1, u64::MAX], WidthMin::Zero, 1), // around the end, -2
            (&[0, 1 << 63], WidthMin::Zero, 8),
        ] {
            let bytes = encode(numbers, least);
            assert_eq!(
                (usize::from(bytes[0]), bytes.len()),
                (width, HEAD_BYTES + width * numbers.len()),
                "{numbers:?}"
            );
            assert_eq!(decode(&bytes, numbers.len(), least, u64::MAX).as_deref(), Ok(numbers));
        }
    }

    #[test]
    fn equal_numbers_have_one_encoding() {
        for (number, count) in [(0, 0), (7, 0), (7, 1), (u64::MAX, 9)] {
            let mut out = Vec::new();
            put_equal(&mut out, number, count);
            assert_eq!(out, encode(&vec![number; count], WidthMin::Zero));
        }
    }

    #[test]
    fn every_other_way_to_write_a_column_is_refused() {
        let column = |width: u8, first: u64, distances: &[u8]| [&[width], &first.to_le_bytes()[..], distances].concat();
        for (bytes, count, least) in [
            (column(0, 7, &[]), 0, WidthMin::Zero), // a first number of none
            (column(1, 7, &[]), 0, WidthMin::One),
            (column(1, 0, &[]), 0, WidthMin::Zero), // as wide as if there were some
            (column(1, 7, &[0, 0]), 2, WidthMin::Zero), // equal
            (column(0, 7, &[]), 2, WidthMin::One),  // too narrow for this column
            (column(2, 1000, &[0, 0, 1, 0]), 2, WidthMin::One), // wider than 1
            (column(4, 1000, &[0, 0, 0, 0, 0, 1, 0, 0]), 2, WidthMin::One),
            (column(1, 1000, &[1, 2]), 2, WidthMin::One), // the first is not where it is said to be
            (column(3, 1000, &[0; 6]), 2, WidthMin::One),
        ] {
            assert_eq!(decode(&bytes, count, least, u64::MAX), Err(DecodeError::BadNumbers), "{bytes:?}");
        }
    }

    #[test]
    fn a_column_that_is_not_there_takes_no_memory() {
        let bytes = encode(&[1, 2], WidthMin::One);
        assert_eq!(decode(&bytes, usize::MAX / 8, WidthMin::One, u64::MAX), Err(DecodeError::Truncated));
    }

    proptest! {
        #[test]
        fn numbers_survive(
            first: u64,
            distances in prop::collection::vec(any::<i64>(), 0..50),
            shift in 0u32..64,
            needs_byte: bool,
        ) {
            let others = distances.iter().map(|distance| first.wrapping_add_signed(distance >> shift));
            let numbers: Vec<u64> = [first].into_iter().chain(others).collect();
            let least = if needs_byte { WidthMin::One } else { WidthMin::Zero };
            let bytes = encode(&numbers, least);
            prop_assert_eq!(decode(&bytes, numbers.len(), least, u64::MAX).unwrap(), numbers.clone());
            let fit = numbers.iter().all(|number| *number <= 0xffff_ffff);
            prop_assert_eq!(decode(&bytes, numbers.len(), least, 0xffff_ffff).is_ok(), fit);
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(
            width in prop::sample::select(vec![0usize, 1, 2, 4, 8]),
            first in prop_oneof![Just(0u64), any::<u64>()],
            mut distances in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 40),
            count in 0usize..6,
            begins_anywhere in prop::bool::weighted(0.1),
            needs_byte: bool,
        ) {
            if !begins_anywhere {
                distances[..width].fill(0);
            }
            let bytes = [&[width as u8], &first.to_le_bytes()[..], &distances[..width * count]].concat();
            let least = if needs_byte { WidthMin::One } else { WidthMin::Zero };
            if let Ok(numbers) = decode(&bytes, count, least, u64::MAX) {
                prop_assert_eq!(encode(&numbers, least), bytes);
            }
        }
    }
}
