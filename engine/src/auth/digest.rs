//! Digests of requests, a table at a time.
//!
//! A request's digest is BLAKE3 of: client (u32), length of the operation (u32), timestamp (u64), all little endian,
//! the operation, and zeros up to a multiple of 64 bytes. The length inside keeps the padding unambiguous, and whole
//! blocks let requests of the same number of blocks be hashed side by side ([`super::wide`]).

use super::wide::{BLOCK_BYTES, BLOCKS_MAX, CHUNK_BLOCKS, LANES, digest_padded};
use crate::requests::{RequestTable, equal_length};
use crate::short;
use crate::types::{ClientId, Digest, Timestamp};

/// Bytes before the operation.
const HEAD_BYTES: usize = 16;

/// Computes digests of tables. Keeps its scratch memory from table to table.
#[derive(Debug)]
pub struct Digester {
    /// [`LANES`] messages of up to [`BLOCKS_MAX`] blocks.
    padded: Vec<u8>,
    /// Indices of requests, those of equal length (in blocks) next to each other.
    order: Vec<u32>,
}

impl Default for Digester {
    fn default() -> Self {
        Self { padded: vec![0; LANES * BLOCKS_MAX * BLOCK_BYTES], order: Vec::new() }
    }
}

impl Digester {
    /// Computes the digest of every request of `table` into its `digests`, whatever was there.
    ///
    /// # Panics
    /// If the columns differ in length: that would be our own error, since decoding checks it.
    pub fn digest(&mut self, table: &mut RequestTable) {
        let len = table.len();
        assert!(table.timestamps.len() == len && table.operation_ends.len() == len, "columns of one length");
        let mut digests = std::mem::take(&mut table.digests);
        digests.clear();
        if let Some(length) = length_of_all(table) {
            self.digest_equally_long(table, length, &mut digests);
            table.digests = digests;
            return;
        }
        if let Some(blocks) = blocks_of_all(table) {
            self.digest_alike(table, blocks, &mut digests);
            table.digests = digests;
            return;
        }
        digests.resize(len, Digest::default());
        let starts = self.sort_by_blocks(table);
        for blocks in 1..=BLOCKS_MAX {
            let (start, end) = (starts[blocks], starts[blocks + 1]);
            if are_few(end - start, blocks) {
                for &index in &self.order[start..end] {
                    digests[index as usize] = digest_long(table, index as usize);
                }
                continue;
            }
            for indices in self.order[start..end].chunks(LANES) {
                let out = side_by_side(&mut self.padded, table, blocks, indices.iter().map(|&index| index as usize));
                for (&index, digest) in indices.iter().zip(out) {
                    digests[index as usize] = Digest(digest);
                }
            }
        }
        for &index in &self.order[starts[BLOCKS_MAX + 1]..] {
            digests[index as usize] = digest_long(table, index as usize);
        }
        table.digests = digests;
    }

    /// Digests requests that all have `blocks` blocks, in order.
    fn digest_alike(&mut self, table: &RequestTable, blocks: usize, digests: &mut Vec<Digest>) {
        digests.reserve(table.len());
        for first in (0..table.len()).step_by(LANES) {
            let indices = first..table.len().min(first + LANES);
            let out = side_by_side(&mut self.padded, table, blocks, indices.clone());
            digests.extend(out[..indices.len()].iter().map(|digest| Digest(*digest)));
        }
    }

    /// Digests requests whose operations all have `length` bytes, in order.
    fn digest_equally_long(&mut self, table: &RequestTable, length: usize, digests: &mut Vec<Digest>) {
        let (blocks, used) = (blocks(length), HEAD_BYTES + length);
        let bytes = blocks * BLOCK_BYTES;
        let padded = &mut self.padded[..LANES * bytes];
        // What fills messages up is the same for all.
        padded.chunks_exact_mut(bytes).for_each(|message| message[used..].fill(0));
        let mut out = [[0; 32]; LANES];
        digests.reserve(table.len());
        for first in (0..table.len()).step_by(LANES) {
            let rows = first..table.len().min(first + LANES);
            let operations = &table.operations[rows.start * length..rows.end * length];
            let names = table.clients[rows.clone()].iter().zip(&table.timestamps[rows.clone()]);
            for (at, ((client, timestamp), message)) in names.zip(padded.chunks_exact_mut(bytes)).enumerate() {
                let (head, rest) = message.split_at_mut(HEAD_BYTES);
                head.copy_from_slice(&head_of(*client, *timestamp, length));
                short::copy(&operations[at * length..][..length], &mut rest[..length]);
            }
            digest_padded(blocks, &padded[..rows.len() * bytes], &mut out[..rows.len()]);
            digests.extend(out[..rows.len()].iter().map(|digest| Digest(*digest)));
        }
    }

    /// Sorts the requests' indices by their number of blocks (a counting sort; all that are longer count as
    /// [`BLOCKS_MAX`] + 1) and returns where in `order` each number of blocks starts.
    fn sort_by_blocks(&mut self, table: &RequestTable) -> [usize; BLOCKS_MAX + 3] {
        let class = |index: usize| blocks(table.operation(index).len()).min(BLOCKS_MAX + 1);
        let mut starts = [0; BLOCKS_MAX + 3];
        for index in 0..table.len() {
            starts[class(index) + 1] += 1;
        }
        for class in 1..starts.len() {
            starts[class] += starts[class - 1];
        }
        let mut next = starts;
        self.order.clear();
        self.order.resize(table.len(), 0);
        for index in 0..table.len() {
            let at = &mut next[class(index)];
            #[allow(clippy::cast_possible_truncation, reason = "tables are bounded by REQUESTS_MAX")]
            let index = index as u32;
            self.order[*at] = index;
            *at += 1;
        }
        starts
    }
}

/// The digests of these requests, of `blocks` blocks each and at most [`LANES`], in order; the rest is zeros.
#[inline]
fn side_by_side(
    padded: &mut [u8],
    table: &RequestTable,
    blocks: usize,
    indices: impl ExactSizeIterator<Item = usize>,
) -> [[u8; 32]; LANES] {
    let (count, bytes) = (indices.len(), blocks * BLOCK_BYTES);
    let padded = &mut padded[..count * bytes];
    padded.chunks_exact_mut(bytes).zip(indices).for_each(|(message, index)| fill(message, table, index));
    let mut out = [[0; 32]; LANES];
    digest_padded(blocks, padded, &mut out[..count]);
    out
}

/// Blocks of a request whose operation has so many bytes.
const fn blocks(operation_bytes: usize) -> usize {
    (HEAD_BYTES + operation_bytes).div_ceil(BLOCK_BYTES)
}

/// Whether so many messages of so many blocks have more chunks each than there are messages: then it is better to hash
/// the chunks of each side by side.
const fn are_few(messages: usize, blocks: usize) -> bool {
    blocks > CHUNK_BLOCKS && messages < blocks.div_ceil(CHUNK_BLOCKS)
}

/// How long every operation of the table is, if all have as many bytes and can be hashed side by side: the
/// usual case.
fn length_of_all(table: &RequestTable) -> Option<usize> {
    let length = equal_length(0, &table.operation_ends)? as usize;
    (blocks(length) <= BLOCKS_MAX && !are_few(table.len(), blocks(length))).then_some(length)
}

/// How many blocks every request of the table has, if all have as many and can be hashed side by side.
fn blocks_of_all(table: &RequestTable) -> Option<usize> {
    let mut start = 0;
    let (mut least, mut most) = (u32::MAX, 0);
    for &end in &table.operation_ends {
        let len = end - start;
        (least, most) = (least.min(len), most.max(len));
        start = end;
    }
    let [least, most] = [least, most].map(|len| blocks(len as usize));
    (least == most && most <= BLOCKS_MAX && !are_few(table.len(), most)).then_some(most)
}

/// What precedes the operation.
fn head(table: &RequestTable, index: usize) -> [u8; HEAD_BYTES] {
    head_of(table.clients[index], table.timestamps[index], table.operation(index).len())
}

fn head_of(client: ClientId, timestamp: Timestamp, length: usize) -> [u8; HEAD_BYTES] {
    // In words, as `AuthBlock` is written.
    let first = u64::from(client.0) | (length as u64) << 32; // operations are bounded by OPERATION_BYTES_MAX
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&first.to_le_bytes());
    head[8..].copy_from_slice(&timestamp.0.to_le_bytes());
    head
}

/// Writes the padded message of one request over all of `message`.
fn fill(message: &mut [u8], table: &RequestTable, index: usize) {
    let operation = table.operation(index);
    message[..HEAD_BYTES].copy_from_slice(&head(table, index));
    message[HEAD_BYTES..HEAD_BYTES + operation.len()].copy_from_slice(operation);
    message[HEAD_BYTES + operation.len()..].fill(0);
}

/// The digest of a request so long that its own chunks are hashed side by side.
fn digest_long(table: &RequestTable, index: usize) -> Digest {
    let operation = table.operation(index);
    let used = HEAD_BYTES + operation.len();
    let zeros = [0; BLOCK_BYTES];
    let padding = &zeros[..used.next_multiple_of(BLOCK_BYTES) - used];
    blake3::Hasher::new().update(&head(table, index)).update(operation).update(padding).finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::testing::table;

    /// The definition, word for word.
    fn oracle(client: u32, timestamp: u64, operation: &[u8]) -> Digest {
        let mut message = client.to_le_bytes().to_vec();
        message.extend(u32::try_from(operation.len()).unwrap().to_le_bytes());
        message.extend(timestamp.to_le_bytes());
        message.extend(operation);
        while !message.len().is_multiple_of(64) {
            message.push(0);
        }
        blake3::hash(&message).into()
    }

    #[test]
    fn digests_of_every_length_around_the_block_and_chunk_boundaries() {
        let lengths = (0..200).chain(1000..1030).chain([2032, 2033, 2048, 4096, 8176, 8177, 70_000]);
        let requests: Vec<_> = (0u32..)
            .zip(lengths)
            .map(|(client, len)| (client, u64::from(client) << 33, vec![client as u8; len]))
            .collect();
        for (request, digest) in requests.iter().zip(table(&requests).digests) {
            assert_eq!(digest, oracle(request.0, request.1, &request.2), "{} bytes", request.2.len());
        }
    }

    proptest! {
        #[test]
        fn mixed_lengths_keep_their_order(
            requests in prop::collection::vec((any::<u32>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)), 0..80)
        ) {
            let expected: Vec<_> = requests.iter().map(|(c, t, operation)| oracle(*c, *t, operation)).collect();
            let mut table = table(&requests);
            prop_assert_eq!(&table.digests, &expected);
            // Digests are recomputed, never trusted, and scratch memory leaves no traces.
            let mut digester = Digester::default();
            for _ in 0..2 {
                table.digests.fill(Digest([7; 32]));
                digester.digest(&mut table);
                prop_assert_eq!(&table.digests, &expected);
            }
        }
    }
}
