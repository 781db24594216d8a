//! Requests as a client would make them, and what can be wrong with their proofs.

use std::sync::Arc;

use bytes::Bytes;
use hippodrome_engine::app::kv::Operation;
use hippodrome_engine::auth::{Digester, Keyring, Sealer};
use hippodrome_engine::limits::SIGNATURE_BYTES;
use hippodrome_engine::requests::{Proofs, RequestTable};
use hippodrome_engine::types::{ClientId, Timestamp};
use hippodrome_engine::wire::encode_requests;

/// Bytes of an operation of the `null` application.
const NULL_BYTES: usize = 16;
/// Keys that are read in the `kv` application. Nothing is written: it would change what honest clients read.
const KEYS: u64 = 1000;

/// Which of a table's proofs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// All of them.
    Everywhere,
    /// None.
    Nowhere,
    /// Of authenticators, the tags for the replicas in this set, bit i for replica i. A signature can not be split.
    At(u64),
}

/// Makes tables of one client node.
pub(super) struct Forge {
    keyring: Arc<Keyring>,
    digester: Digester,
    sealer: Sealer,
    kv: bool,
}

impl Forge {
    pub(super) fn new(keyring: Arc<Keyring>, application: &str) -> Self {
        let sealer = Sealer::new(Arc::clone(&keyring));
        Self { keyring, digester: Digester::default(), sealer, kv: application == "kv" }
    }

    /// A frame of requests of (client, timestamp), one `salt` for all operations.
    pub(super) fn frame(&mut self, requests: &[(u32, u64)], salt: u64, holds: Holds) -> Bytes {
        let mut table = RequestTable::empty();
        let mut operations = Vec::new();
        for &(client, timestamp) in requests {
            table.clients.push(ClientId(client));
            table.timestamps.push(Timestamp(timestamp));
            self.operation(salt, &mut operations);
            table.operation_ends.push(u32::try_from(operations.len()).unwrap_or(u32::MAX));
        }
        table.operations = operations.into();
        self.digester.digest(&mut table);
        let proofs = self.sealer.seal_requests(&table);
        table.proofs = spoil(proofs, table.len(), holds);
        encode_requests(&table, self.keyring.own())
    }

    fn operation(&self, salt: u64, bytes: &mut Vec<u8>) {
        if self.kv {
            Operation::Read { key: salt % KEYS }.encode(bytes);
        } else {
            bytes.extend(salt.to_le_bytes().iter().cycle().take(NULL_BYTES));
        }
    }
}

/// Inverts what must not hold. Where nothing is to be proven, signatures are put that nobody asked for.
fn spoil(proofs: Proofs, len: usize, holds: Holds) -> Proofs {
    if holds == Holds::Everywhere {
        return proofs;
    }
    match proofs {
        Proofs::Tags { columns, bytes } => Proofs::Tags { columns, bytes: spoil_tags(&bytes, columns, holds) },
        Proofs::Signatures(bytes) if holds == Holds::Nowhere => {
            Proofs::Signatures(bytes.iter().map(|byte| !*byte).collect())
        }
        Proofs::Groups(groups) if groups.columns() > 0 => {
            let (columns, tags) = (groups.columns(), spoil_tags(groups.proofs(), groups.columns(), holds));
            Proofs::Groups(groups.with_proofs(columns, tags))
        }
        Proofs::Groups(groups) if holds == Holds::Nowhere => {
            let signatures = groups.proofs().iter().map(|byte| !*byte).collect();
            Proofs::Groups(groups.with_proofs(0, signatures))
        }
        Proofs::None if holds == Holds::Nowhere => Proofs::Signatures(vec![0x5a; len * SIGNATURE_BYTES].into()),
        proofs => proofs,
    }
}

/// These columns of tags, inverted where they must not hold.
fn spoil_tags(tags: &Bytes, columns: u16, holds: Holds) -> Bytes {
    let mut bytes = tags.to_vec();
    let column_bytes = bytes.len() / usize::from(columns).max(1);
    for (column, tags) in bytes.chunks_mut(column_bytes.max(1)).enumerate() {
        let kept = matches!(holds, Holds::At(set) if set >> column & 1 == 1);
        if !kept {
            tags.iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::requests::{Group, Groups};
    use hippodrome_engine::settings::Strategy;
    use hippodrome_engine::types::NodeId;

    use super::*;

    #[test]
    fn tags_hold_where_they_are_to_and_nowhere_else() {
        for strategy in Strategy::all().filter(|strategy| strategy.is_for_receiver()) {
            let column_bytes = 2 * strategy.proof_bytes();
            let tags = |byte: u8| Proofs::Tags { columns: 4, bytes: vec![byte; 4 * column_bytes].into() };
            assert_eq!(spoil(tags(1), 2, Holds::Everywhere), tags(1));
            assert_eq!(spoil(tags(1), 2, Holds::Nowhere), tags(!1));
            let Proofs::Tags { columns: 4, bytes } = spoil(tags(1), 2, Holds::At(0b0101)) else { panic!() };
            let columns: Vec<u8> = bytes.chunks(column_bytes).map(|column| column[0]).collect();
            assert_eq!(columns, [1, !1, 1, !1], "{strategy}");
            assert!(bytes.chunks(column_bytes).all(|column| column.iter().all(|byte| *byte == column[0])));
        }
    }

    #[test]
    fn signatures_hold_or_do_not() {
        let signatures = |byte: u8| Proofs::Signatures(vec![byte; 2 * SIGNATURE_BYTES].into());
        assert_eq!(spoil(signatures(1), 2, Holds::At(1)), signatures(1));
        assert_eq!(spoil(signatures(1), 2, Holds::Nowhere), signatures(!1));
        assert_ne!(spoil(Proofs::None, 2, Holds::Nowhere), Proofs::None);
    }

    #[test]
    fn proofs_of_groups_are_spoiled_as_others_are() {
        let groups = |columns: u16, bytes: Vec<u8>| {
            let two = vec![Group::whole(NodeId(4), 64), Group::whole(NodeId(4), 3)];
            Proofs::Groups(Groups::new(two, Vec::new(), columns, bytes.into()).unwrap())
        };
        let tags = |columns: [u8; 4]| groups(4, columns.iter().flat_map(|byte| [*byte; 32]).collect());
        assert_eq!(spoil(tags([1; 4]), 67, Holds::Everywhere), tags([1; 4]));
        assert_eq!(spoil(tags([1; 4]), 67, Holds::Nowhere), tags([!1; 4]));
        assert_eq!(spoil(tags([1; 4]), 67, Holds::At(0b0101)), tags([1, !1, 1, !1]));
        let signatures = |byte: u8| groups(0, vec![byte; 2 * SIGNATURE_BYTES]);
        assert_eq!(spoil(signatures(1), 67, Holds::At(1)), signatures(1));
        assert_eq!(spoil(signatures(1), 67, Holds::Nowhere), signatures(!1));
    }
}
