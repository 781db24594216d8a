//! What benchmarks share: one small cluster, and tables of requests.

use std::net::SocketAddr;
use std::sync::Arc;

use hippodrome_engine::auth::{Digester, Keyring, NodeKey};
use hippodrome_engine::requests::RequestTable;
use hippodrome_engine::settings::{ClusterFile, ClusterSettings};
use hippodrome_engine::types::{ClientId, NodeId, Timestamp};

#[allow(dead_code, reason = "each benchmark uses what it needs")]
/// The keyring of one node among four replicas and one client node, number 4, of 4096 clients.
pub(crate) fn keyring(authentication: &str, node: u16) -> Arc<Keyring> {
    let key = |id: NodeId| NodeKey::from_seed([id.0 as u8 + 1; 32]);
    let addresses: Vec<SocketAddr> = (0..4).map(|id| ([127, 0, 0, 1], 7000 + id).into()).collect();
    let settings = ClusterSettings { authentication: authentication.parse().unwrap(), ..ClusterSettings::default() };
    let file = ClusterFile::new(settings, &addresses, &[4096], |id| key(id).public_hex()).unwrap();
    Keyring::new(&file, NodeId(node), &key(NodeId(node))).unwrap()
}

/// A table of requests of different clients, digests computed, without proofs.
pub(crate) fn table(requests: usize, operation_bytes: usize) -> RequestTable {
    let mut table = RequestTable {
        clients: (0..requests as u32).map(ClientId).collect(),
        timestamps: vec![Timestamp(1); requests],
        operation_ends: (1..=requests).map(|end| (end * operation_bytes) as u32).collect(),
        operations: vec![7; requests * operation_bytes].into(),
        ..RequestTable::empty()
    };
    Digester::default().digest(&mut table);
    table
}
