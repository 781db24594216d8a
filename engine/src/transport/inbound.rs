//! Where reads go: chunks that connections share, cut up as bytes arrive.

use bytes::{Bytes, BytesMut};

use crate::limits::READ_CHUNK_BYTES;

/// A read offers the kernel at least this many bytes, where it finds one chunk for all.
pub(super) const OFFER_MIN_BYTES: usize = READ_CHUNK_BYTES / 4;
/// What arrives in less than this is copied out, so that a slice that somebody keeps does not keep a whole chunk.
pub(super) const COPY_BELOW_BYTES: usize = 4 << 10;

/// Gives `chunk`, which is empty, room for a read of at least `offer_min` bytes, which are no more than a chunk has.
pub(super) fn make_room(chunk: &mut BytesMut, offer_min: usize) {
    debug_assert!(chunk.is_empty() && offer_min <= READ_CHUNK_BYTES);
    if chunk.capacity() < offer_min {
        // Takes the old chunk again if nobody holds a slice of it any more.
        chunk.reserve(READ_CHUNK_BYTES);
    }
}

/// Takes what a read put into `chunk` and leaves the chunk's unused end.
pub(super) fn cut(chunk: &mut BytesMut) -> Bytes {
    if chunk.len() < COPY_BELOW_BYTES {
        let bytes = Bytes::copy_from_slice(chunk);
        chunk.clear();
        bytes
    } else {
        chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_copied_out_and_much_is_not() {
        let mut chunk = BytesMut::new();
        make_room(&mut chunk, OFFER_MIN_BYTES);
        assert!(chunk.capacity() >= READ_CHUNK_BYTES);
        let start = chunk.as_ptr();

        chunk.extend_from_slice(&[1; COPY_BELOW_BYTES - 1]);
        let little = cut(&mut chunk);
        assert_ne!(little.as_ptr(), start);
        assert_eq!((chunk.as_ptr(), chunk.len()), (start, 0), "the room is used again");

        chunk.extend_from_slice(&[2; COPY_BELOW_BYTES]);
        let much = cut(&mut chunk);
        assert_eq!(much.as_ptr(), start);
        assert_eq!((little.len(), little[0], much.len(), much[0]), (COPY_BELOW_BYTES - 1, 1, COPY_BELOW_BYTES, 2));
        assert!(chunk.is_empty());
    }

    #[test]
    fn a_chunk_is_left_when_its_end_is_too_short() {
        let mut chunk = BytesMut::new();
        make_room(&mut chunk, OFFER_MIN_BYTES);
        chunk.extend_from_slice(&[1; READ_CHUNK_BYTES / 2]);
        let held = cut(&mut chunk);
        let end = chunk.as_ptr();
        make_room(&mut chunk, OFFER_MIN_BYTES);
        assert_eq!(chunk.as_ptr(), end, "half of it is enough for a quarter");
        make_room(&mut chunk, READ_CHUNK_BYTES / 2 + 1);
        assert!(chunk.capacity() >= READ_CHUNK_BYTES);
        assert!(held.iter().all(|byte| *byte == 1), "what is held was written over");
    }
}
