//! New clusters: a key for each node and the file that names them all.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use hippodrome_analysis::results::CLUSTER;
use hippodrome_engine::auth::{Keyring, NodeKey};
use hippodrome_engine::settings::{ClusterFile, ClusterSettings, Node, Role};
use hippodrome_engine::types::NodeId;

/// A cluster that nobody runs yet.
pub(crate) struct NewCluster {
    /// Who takes part, and what all agree on.
    pub(crate) file: ClusterFile,
    keys: Vec<NodeKey>,
}

impl NewCluster {
    /// Makes keys for replicas at these addresses and for client nodes that share the logical clients evenly.
    ///
    /// # Errors
    /// If keys can not be made, or with [`SettingsError`](hippodrome_engine::settings::SettingsError) if a value is out
    /// of its range.
    pub(crate) fn generate(
        settings: ClusterSettings,
        addresses: &[SocketAddr],
        clients: u32,
        client_nodes: u16,
    ) -> anyhow::Result<Self> {
        let nodes = u32::from(client_nodes);
        // The first ones take what does not divide evenly.
        let shares: Vec<u32> = (0..nodes).map(|index| clients / nodes + u32::from(index < clients % nodes)).collect();
        Self::with_shares(settings, addresses, &shares)
    }

    /// The same, with the number of each client node's logical clients.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub(crate) fn with_shares(
        settings: ClusterSettings,
        addresses: &[SocketAddr],
        shares: &[u32],
    ) -> anyhow::Result<Self> {
        let count = addresses.len() + shares.len();
        let keys = (0..count).map(|_| NodeKey::generate()).collect::<Result<Vec<_>, _>>()?;
        let file = ClusterFile::new(settings, addresses, shares, |id| keys[usize::from(id.0)].public_hex())?;
        Ok(Self { file, keys })
    }

    /// The keyring of each node, in order of their ids.
    ///
    /// # Errors
    /// If keys do not fit the file: never, they were made for it.
    pub(crate) fn keyrings(&self) -> anyhow::Result<Vec<Arc<Keyring>>> {
        let nodes = self.file.nodes.iter().zip(&self.keys);
        nodes.map(|(node, key)| Ok(Keyring::new(&self.file, node.id, key)?)).collect()
    }

    /// Where each file of the cluster lies in `directory`: the cluster file, then the key of each node.
    fn paths(&self, directory: &Path) -> (PathBuf, Vec<PathBuf>) {
        let keys = self.file.nodes.iter().map(|node| directory.join(self.key_name(node))).collect();
        (directory.join(CLUSTER), keys)
    }

    /// `replica-2.key`, `client-0.key`.
    fn key_name(&self, node: &Node) -> String {
        match node.role {
            Role::Voter | Role::Follower => format!("replica-{}.key", node.id),
            Role::Client => format!("client-{}.key", usize::from(node.id.0) - self.file.voters().count()),
        }
    }

    /// Writes the cluster file and all keys, or nothing if any of these files exists.
    ///
    /// # Errors
    /// Names the file that exists or can not be written.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let (cluster, keys) = self.paths(directory);
        for path in std::iter::once(&cluster).chain(&keys) {
            anyhow::ensure!(!path.exists(), "{} exists and is not overwritten", path.display());
        }
        for ((path, key), node) in keys.iter().zip(&self.keys).zip(&self.file.nodes) {
            key.write(node.id, path)?;
        }
        std::fs::write(&cluster, self.file.to_toml()).with_context(|| cluster.display().to_string())
    }
}

/// A node's key with the node that it belongs to, checked against the cluster file.
///
/// # Errors
/// If the key is not of this cluster, or its node has another role.
pub(crate) fn own_node(file: &ClusterFile, path: &Path, role: Role) -> anyhow::Result<(NodeId, NodeKey)> {
    let (id, key) = NodeKey::read(path)?;
    let name = path.display();
    let node = file.nodes.get(usize::from(id.0)).with_context(|| {
        format!("{name}: the key of node {id}, but the cluster has nodes 0 to {}", file.nodes.len() - 1)
    })?;
    anyhow::ensure!(node.public_key == key.public_hex(), "{name}: not the key that the cluster file has for node {id}");
    anyhow::ensure!(node.role == role, "{name}: the key of node {id}, a {:?}; allowed: a {role:?}", node.role);
    Ok((id, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(clients: u32, client_nodes: u16) -> NewCluster {
        let addresses: Vec<SocketAddr> = (0..4).map(|i| ([127, 0, 0, 1], 7000 + i).into()).collect();
        NewCluster::generate(ClusterSettings::default(), &addresses, clients, client_nodes).unwrap()
    }

    #[test]
    fn clients_are_shared_evenly() {
        let shares: Vec<u32> = cluster(10, 3).file.nodes[4..].iter().map(|node| node.clients).collect();
        assert_eq!(shares, [4, 3, 3]);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let settings = ClusterSettings { window: 100, ..ClusterSettings::default() };
        let addresses = vec![([127, 0, 0, 1], 7000).into(); 4];
        let error = NewCluster::generate(settings, &addresses, 1, 1).err().unwrap().to_string();
        assert_eq!(error, "settings.window = 100: allowed: 256 (twice the checkpoint interval) to 4096");
    }

    #[test]
    fn keys_must_fit_the_cluster_and_the_role() {
        let directory = tempfile::tempdir().unwrap();
        let new = cluster(8, 1);
        new.write(directory.path()).unwrap();
        let key = |name: &str| directory.path().join(name);
        assert_eq!(own_node(&new.file, &key("replica-2.key"), Role::Voter).unwrap().0, NodeId(2));
        assert_eq!(own_node(&new.file, &key("client-0.key"), Role::Client).unwrap().0, NodeId(4));
        let error = |file, name: &str, role| own_node(file, &key(name), role).err().unwrap().to_string();
        assert!(
            error(&new.file, "client-0.key", Role::Voter).contains("the key of node 4, a Client; allowed: a Voter")
        );
        assert!(error(&cluster(8, 1).file, "replica-0.key", Role::Voter).contains("not the key"));
    }
}
