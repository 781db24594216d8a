//! Clusters, keys and tables for tests.

use std::net::SocketAddr;
use std::sync::Arc;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;

use super::signature::tests::sign_with;
use super::{AuthBlock, BlockKind, Digester, Keyring, NodeKey};
use crate::requests::{Proofs, RequestTable};
use crate::settings::{ClusterFile, ClusterSettings, Granularity};
use crate::types::{ClientId, NodeId, Timestamp};

/// The key of node `node` in every test cluster.
pub(crate) fn key(node: u16) -> NodeKey {
    let mut seed = [0x51; 32];
    seed[..2].copy_from_slice(&node.to_le_bytes());
    NodeKey::from_seed(seed)
}

/// A cluster of `n` replicas and one client node for each entry of `clients`, which says for how many clients it
/// speaks. Where `/frame` follows the authentication, clients prove groups of requests.
pub(crate) fn cluster(authentication: &str, n: u16, clients: &[u32]) -> ClusterFile {
    let (authentication, auth_granularity) = match authentication.strip_suffix("/frame") {
        Some(authentication) => (authentication, Granularity::Frame),
        None => (authentication, Granularity::Request),
    };
    let authentication = authentication.parse().unwrap();
    let settings = ClusterSettings { authentication, auth_granularity, ..ClusterSettings::default() };
    let addresses: Vec<SocketAddr> = (0..n).map(|id| ([127, 0, 0, 1], 7000 + id).into()).collect();
    ClusterFile::new(settings, &addresses, clients, |id| key(id.0).public_hex()).unwrap()
}

/// The keyring of one node of a test cluster.
pub(crate) fn keyring(file: &ClusterFile, node: u16) -> Arc<Keyring> {
    Keyring::new(file, NodeId(node), &key(node)).unwrap()
}

/// A table of requests with these clients, timestamps and operations, digests computed, without proofs.
pub(crate) fn table(requests: &[(u32, u64, Vec<u8>)]) -> RequestTable {
    let mut table = RequestTable::empty();
    let mut operations = Vec::new();
    for (client, timestamp, operation) in requests {
        table.clients.push(ClientId(*client));
        table.timestamps.push(Timestamp(*timestamp));
        operations.extend_from_slice(operation);
        table.operation_ends.push(u32::try_from(operations.len()).unwrap());
    }
    table.operations = operations.into();
    table.proofs = Proofs::None;
    Digester::default().digest(&mut table);
    table
}

/// Signatures of a table's requests by `keyring`'s node that are good and make combined checks fail: their nonces have
/// a part of order 2.
pub(crate) fn odd_signatures(keyring: &Keyring, table: &RequestTable) -> Proofs {
    let signature = |index: usize| {
        let (client, timestamp) = (table.clients[index], table.timestamps[index]);
        let kind = BlockKind::Request;
        let block = AuthBlock::of_client(kind, keyring.cluster(), client, timestamp, &table.digests[index]);
        let r = Scalar::from(1000 * timestamp.0 + index as u64 + 1);
        let point = ED25519_BASEPOINT_POINT * r + EIGHT_TORSION[4];
        sign_with(keyring.signing(), block.0.to_vec(), r, point.compress().0).2
    };
    Proofs::Signatures((0..table.len()).flat_map(signature).collect::<Vec<u8>>().into())
}
