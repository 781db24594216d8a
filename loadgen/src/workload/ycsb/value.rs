//! Values that tell who wrote them, so that whatever is read can be checked: `key u64 | client u32 | timestamp u64 |
//! fill`, little-endian. The fill follows from the three, so a value is either whole or recognised as damaged.

use hippodrome_engine::app::kv;
use hippodrome_engine::app::kv::{Key, pattern};
use hippodrome_engine::types::{ClientId, Timestamp};

/// Bytes of a value in front of its fill, and so the size of the smallest value.
pub(super) const HEADER_BYTES: usize = kv::VALUE_BYTES_MIN;

/// Who wrote a value, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) key: Key,
    pub(super) client: ClientId,
    pub(super) timestamp: Timestamp,
}

impl Origin {
    /// Writes the value over all of `value`, which has at least [`HEADER_BYTES`].
    pub(super) fn write(&self, value: &mut [u8]) {
        let (header, fill) = value.split_at_mut(HEADER_BYTES);
        header[..8].copy_from_slice(&self.key.to_le_bytes());
        header[8..12].copy_from_slice(&self.client.0.to_le_bytes());
        header[12..].copy_from_slice(&self.timestamp.0.to_le_bytes());
        pattern::fill(self.seed(), fill);
    }

    /// Who wrote this value; `None` if nobody did.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let (&key, rest) = value.split_first_chunk()?;
        let (&client, rest) = rest.split_first_chunk()?;
        let (&timestamp, fill) = rest.split_first_chunk()?;
        let origin = Self {
            key: Key::from_le_bytes(key),
            client: ClientId(u32::from_le_bytes(client)),
            timestamp: Timestamp(u64::from_le_bytes(timestamp)),
        };
        pattern::matches(origin.seed(), fill).then_some(origin)
    }

    const fn seed(&self) -> u64 {
        pattern::word(pattern::word(self.key, self.timestamp.0), 1 + self.client.0 as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_origin_until_it_is_damaged() {
        let origin = Origin { key: 77, client: ClientId(3), timestamp: Timestamp(12) };
        for bytes in [HEADER_BYTES, HEADER_BYTES + 1, 100] {
            let mut value = vec![0; bytes];
            origin.write(&mut value);
            assert_eq!(Origin::read(&value), Some(origin));
            for at in 0..bytes {
                value[at] ^= 1;
                assert_ne!(Origin::read(&value), Some(origin), "byte {at} of {bytes}");
                assert!(bytes == HEADER_BYTES || bytes == 21 || Origin::read(&value).is_none());
                value[at] ^= 1;
            }
            assert_eq!(Origin::read(&value[..HEADER_BYTES - 1]), None);
        }
    }
}
