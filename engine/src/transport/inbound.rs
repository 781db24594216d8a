//! Where reads go: one chunk for all connections of a transport, cut up as bytes arrive.

use bytes::{Bytes, BytesMut};

use crate::limits::READ_CHUNK_BYTES;

/// A read offers the kernel at least this many bytes.
const OFFER_MIN_BYTES: usize = READ_CHUNK_BYTES / 4;
/// What arrives in less than this is copied out, so that a slice that somebody keeps does not keep a whole chunk.
pub(super) const COPY_BELOW_BYTES: usize = 4 << 10;

/// Gives `chunk`, which is empty, room for a read.
pub(super) fn make_room(chunk: &mut BytesMut) {
    debug_assert!(chunk.is_empty());
    if chunk.capacity() < OFFER_MIN_BYTES {
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
        make_room(&mut chunk);
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
}
