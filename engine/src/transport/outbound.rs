//! What is queued for one connection, in as few pieces as possible.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces below this many bytes are copied together: one large piece costs the kernel less than many small ones, and
/// less than the copy.
const COPY_BELOW_BYTES: usize = 4 << 10;
/// Bytes of small pieces copied into one.
const COPY_CHUNK_BYTES: usize = 64 << 10;
/// Most pieces in one system call.
pub(super) const PIECES_MAX: usize = 64;

/// A queue of bytes to be written.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// What leaves first.
    pieces: VecDeque<Bytes>,
    /// Small pieces copied together; they come behind `pieces`.
    small: BytesMut,
    /// Bytes in both.
    bytes: usize,
}

impl Outbound {
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        if bytes.len() >= COPY_BELOW_BYTES {
            self.seal();
            self.pieces.push_back(bytes);
            return;
        }
        if self.small.capacity() - self.small.len() < bytes.len() {
            self.seal();
            // Takes the old chunk again if nothing of it is queued any more.
            self.small.reserve(COPY_CHUNK_BYTES);
        }
        self.small.extend_from_slice(&bytes);
    }

    /// Bytes that were pushed but not yet [advanced](Self::advance) over or [taken](Self::take).
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts the first pieces into `slices` and says how many it put there, and how many bytes those are.
    pub(super) fn gather<'a>(&'a mut self, slices: &mut [IoSlice<'a>; PIECES_MAX]) -> (usize, usize) {
        self.seal();
        let (mut count, mut bytes) = (0, 0);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
            bytes += piece.len();
        }
        (count, bytes)
    }

    /// Forgets the first `written` bytes.
    pub(super) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while written > 0 {
            let Some(first) = self.pieces.front_mut() else { unreachable!("only queued bytes are written") };
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.pieces.pop_front();
        }
    }

    /// Moves the first pieces, at most [`PIECES_MAX`], to the end of `pieces` and says how many bytes they are.
    pub(super) fn take(&mut self, pieces: &mut Vec<Bytes>) -> usize {
        self.seal();
        let before = pieces.len();
        pieces.extend(self.pieces.drain(..self.pieces.len().min(PIECES_MAX)));
        let bytes = pieces[before..].iter().map(Bytes::len).sum();
        self.bytes -= bytes;
        bytes
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }
}

/// Forgets the first `written` bytes of pieces that were [taken](Outbound::take).
pub(super) fn skip(pieces: &mut Vec<Bytes>, mut written: usize) {
    let whole = pieces.iter().take_while(|piece| {
        let gone = piece.len() <= written;
        written -= if gone { piece.len() } else { 0 };
        gone
    });
    let whole = whole.count();
    pieces.drain(..whole);
    if let Some(first) = pieces.first_mut() {
        first.advance(written);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_the_order_and_the_count(sizes in proptest::collection::vec(0_usize..9000, 0..200), writes in proptest::collection::vec(1_usize..100_000, 1..20)) {
            let mut outbound = Outbound::default();
            let mut expected = Vec::new();
            let mut written = Vec::new();
            let mut writes = writes.iter().cycle();
            for (number, &size) in sizes.iter().enumerate() {
                let piece = vec![number as u8; size];
                expected.extend_from_slice(&piece);
                outbound.push(piece.into());
                prop_assert_eq!(outbound.bytes(), expected.len() - written.len());
                if number % 7 == 3 {
                    write(&mut outbound, *writes.next().unwrap(), &mut written);
                }
            }
            while outbound.bytes() > 0 {
                write(&mut outbound, *writes.next().unwrap(), &mut written);
            }
            prop_assert_eq!(written, expected);
        }
    }

    /// A kernel that takes at most `room` bytes.
    fn write(outbound: &mut Outbound, room: usize, written: &mut Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let (count, bytes) = outbound.gather(&mut slices);
        let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(all.len(), bytes);
        written.extend_from_slice(&all[..room.min(bytes)]);
        outbound.advance(room.min(bytes));
    }

    #[test]
    fn hundreds_of_small_pieces_are_taken_as_one() {
        let mut outbound = Outbound::default();
        for number in 0..1000_u16 {
            outbound.push(Bytes::copy_from_slice(&number.to_le_bytes()));
        }
        let mut pieces = Vec::new();
        assert_eq!(outbound.take(&mut pieces), 2000);
        assert_eq!((pieces.len(), outbound.bytes()), (1, 0));
        skip(&mut pieces, 1999);
        assert_eq!(pieces, [&999_u16.to_le_bytes()[1..]]);
        pieces.extend([Bytes::from_static(b"abc"), Bytes::from_static(b"def")]);
        skip(&mut pieces, 4);
        assert_eq!(pieces, ["def"]);
        skip(&mut pieces, 3);
        assert!(pieces.is_empty());
        outbound.push(Bytes::from_static(b"x"));
        outbound.clear();
        assert_eq!(outbound.bytes(), 0);
    }
}
