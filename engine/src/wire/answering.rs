//! How a client node wants the replies to batches over one connection: as they are, or as their digest.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | 0 as they are, 1 as their digest |
//!
//! Nothing proves it but the connection that it comes over. Whoever can write into that could as well cut it, and what
//! is answered to requests that come again is whole in any case.

use bytes::Bytes;

use super::frame::{FrameKind, encode_frame};
use super::reader::{DecodeError, Reader};
use crate::requests::BatchForm;
use crate::types::NodeId;

/// The frame by which client node `own` tells how it wants replies to batches.
#[must_use]
pub fn encode_answering(form: BatchForm, own: NodeId) -> Bytes {
    encode_frame(FrameKind::Answering, own, 1, |out| out.push(u8::from(form == BatchForm::Digest)))
}

/// How replies to batches are wanted.
///
/// # Errors
/// If the body is not one byte that says so.
pub fn decode_answering(body: Bytes) -> Result<BatchForm, DecodeError> {
    let mut reader = Reader::new(body);
    let form = match reader.u8()? {
        0 => BatchForm::Whole,
        1 => BatchForm::Digest,
        _ => return Err(DecodeError::BadForm),
    };
    reader.finish()?;
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_HEADER_BYTES;

    #[test]
    fn what_is_wanted_is_one_byte() {
        for form in [BatchForm::Whole, BatchForm::Digest] {
            let body = encode_answering(form, NodeId(4)).slice(FRAME_HEADER_BYTES..);
            assert_eq!(decode_answering(body), Ok(form));
        }
        let decode = |body: &'static [u8]| decode_answering(Bytes::from_static(body));
        assert_eq!(decode(&[]), Err(DecodeError::Truncated));
        assert_eq!(decode(&[2]), Err(DecodeError::BadForm));
        assert_eq!(decode(&[1, 0]), Err(DecodeError::TrailingBytes));
    }
}
