//! The cluster file: who takes part, and what all must agree on.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::app::kv;
use crate::auth::Strategy;
use crate::limits::{
    CLIENT_NODES_MAX, CLIENTS_MAX, KV_RECORDS_MAX, REPLICAS_MAX, REPLICAS_MIN, RESULT_BYTES_MAX, VIEW_TIMEOUT_MS_MAX,
    VIEW_TIMEOUT_MS_MIN, WINDOW_MAX,
};
use crate::quorum::Quorums;
use crate::settings::options::{Authentication, Dissemination, ExecutionChoice, Granularity, Reads, Replies};
use crate::types::{ClientId, NodeId};

/// What is wrong with a cluster file.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file can not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not what it should be: names the key and what is allowed.
    #[error("{path}: {error}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        error: String,
    },
    /// A value is out of its range.
    #[error("{key} = {value}: allowed: {allowed}")]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What may be given.
        allowed: String,
    },
}

impl SettingsError {
    fn value(key: impl Into<String>, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self::Value { key: key.into(), value: value.to_string(), allowed: allowed.into() }
    }
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A replica that votes.
    Voter,
    /// A replica that follows along without a vote (no protocol uses these yet).
    Follower,
    /// A load generator.
    Client,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its number: nodes are numbered from 0 in the order of the file, voters first, then clients.
    pub id: NodeId,
    /// What it is for.
    pub role: Role,
    /// Where a replica listens. Clients have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Its Ed25519 public key, 32 bytes in hex.
    pub public_key: String,
    /// Its group (region). All nodes are in group 0 while one group of voters is all there is.
    #[serde(default)]
    pub group: u16,
    /// How many logical clients a client node speaks for. Their requests carry the node's authenticators.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clients: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What all nodes must agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// The replication protocol. Only `pbft` so far.
    pub protocol: String,
    /// Who proves what to whom.
    pub authentication: Authentication,
    /// What one authenticator of a client node covers.
    #[serde(default = "by_request")]
    pub auth_granularity: Granularity,
    /// How requests get to the replicas.
    #[serde(default = "inline")]
    pub dissemination: Dissemination,
    /// Whether batches are executed once they are committed, or as soon as they are prepared.
    #[serde(default = "committed")]
    pub execution: ExecutionChoice,
    /// Who sends results, and who their digests.
    pub replies: Replies,
    /// Whether operations that change nothing are ordered.
    pub reads: Reads,
    /// The watermark window L: how many sequence numbers past the stable checkpoint may be in use. At least twice the
    /// checkpoint interval.
    pub window: u64,
    /// K: a checkpoint is taken every K sequence numbers.
    pub checkpoint_interval: u64,
    /// How long backups wait for the primary to commit what it has to order before they replace it, in milliseconds.
    pub view_timeout_ms: u64,
    /// The application, `null` or `kv`.
    pub application: String,
    /// Bytes of each result of the `null` application.
    pub reply_bytes: u64,
    /// How many records the `kv` application starts with.
    pub records: u64,
    /// Bytes of each value of the `kv` application's first records, and of the values that its workloads write.
    pub value_bytes: u64,
}

/// What a cluster file means that does not say what an authenticator covers.
const fn by_request() -> Granularity {
    Granularity::Request
}

/// What a cluster file means that does not say how requests get to the replicas.
const fn inline() -> Dissemination {
    Dissemination::Inline
}

/// What a cluster file means that does not say when batches are executed.
const fn committed() -> ExecutionChoice {
    ExecutionChoice::Committed
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            protocol: "pbft".into(),
            authentication: Authentication::all(Strategy::MAC),
            auth_granularity: Granularity::Request,
            dissemination: Dissemination::Inline,
            execution: ExecutionChoice::Committed,
            replies: Replies::BatchDigest,
            reads: Reads::Ordered,
            window: 256,
            checkpoint_interval: 128,
            view_timeout_ms: 1000,
            application: "null".into(),
            reply_bytes: 0,
            records: kv::RECORDS,
            value_bytes: kv::VALUE_BYTES as u64,
        }
    }
}

/// The cluster file, validated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// What all agree on.
    pub settings: ClusterSettings,
    /// Everybody, numbered in order.
    #[serde(rename = "node")]
    pub nodes: Vec<Node>,
}

impl ClusterFile {
    /// A cluster of one group of voters at these addresses, then one client node for each entry of `clients`, which
    /// says for how many logical clients it speaks. `public_key` tells each node's public key in hex.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub fn new(
        settings: ClusterSettings,
        addresses: &[SocketAddr],
        clients: &[u32],
        public_key: impl Fn(NodeId) -> String,
    ) -> Result<Self, SettingsError> {
        let voters = addresses.iter().map(|address| (Role::Voter, Some(*address), 0));
        let client_nodes = clients.iter().map(|clients| (Role::Client, None, *clients));
        let nodes = (0..=u16::MAX).zip(voters.chain(client_nodes)).map(|(id, (role, address, clients))| {
            let id = NodeId(id);
            Node { id, role, address, public_key: public_key(id), group: 0, clients }
        });
        let file = Self { settings, nodes: nodes.collect() };
        file.validate()?;
        Ok(file)
    }

    /// Reads and validates a cluster file (TOML).
    ///
    /// # Errors
    /// Names the file, and the key or value that is wrong.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| SettingsError::File { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// Reads and validates the text of the cluster file at `path`.
    ///
    /// # Errors
    /// Names the file, and the key or value that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let syntax = |error: String| SettingsError::Syntax { path: path.to_owned(), error };
        let file: Self = toml::from_str(text).map_err(|error| syntax(error.to_string()))?;
        file.validate().map_err(|error| syntax(error.to_string()))?;
        Ok(file)
    }

    /// The file's text.
    ///
    /// # Panics
    /// Never: every field has a TOML form.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings serialise")
    }

    /// Checks every value and the relations between them.
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let s = &self.settings;
        if s.protocol != "pbft" {
            return Err(SettingsError::value("settings.protocol", &s.protocol, "pbft"));
        }
        if !["null", "kv"].contains(&s.application.as_str()) {
            return Err(SettingsError::value("settings.application", &s.application, "null, kv"));
        }
        if s.reply_bytes > RESULT_BYTES_MAX as u64 {
            return Err(SettingsError::value(
                "settings.reply_bytes",
                s.reply_bytes,
                format!("0 to {RESULT_BYTES_MAX}"),
            ));
        }
        if !(1..=KV_RECORDS_MAX).contains(&s.records) {
            return Err(SettingsError::value("settings.records", s.records, format!("1 to {KV_RECORDS_MAX}")));
        }
        let values = kv::VALUE_BYTES_MIN as u64..=kv::VALUE_BYTES_MAX as u64;
        if !values.contains(&s.value_bytes) {
            let allowed = format!("{} to {}", values.start(), values.end());
            return Err(SettingsError::value("settings.value_bytes", s.value_bytes, allowed));
        }
        if !(1..=WINDOW_MAX / 2).contains(&s.checkpoint_interval) {
            return Err(SettingsError::value(
                "settings.checkpoint_interval",
                s.checkpoint_interval,
                format!("1 to {}", WINDOW_MAX / 2),
            ));
        }
        if s.window < 2 * s.checkpoint_interval || s.window > WINDOW_MAX {
            return Err(SettingsError::value(
                "settings.window",
                s.window,
                format!("{} (twice the checkpoint interval) to {WINDOW_MAX}", 2 * s.checkpoint_interval),
            ));
        }
        if !(VIEW_TIMEOUT_MS_MIN..=VIEW_TIMEOUT_MS_MAX).contains(&s.view_timeout_ms) {
            return Err(SettingsError::value(
                "settings.view_timeout_ms",
                s.view_timeout_ms,
                format!("{VIEW_TIMEOUT_MS_MIN} to {VIEW_TIMEOUT_MS_MAX}"),
            ));
        }
        self.validate_nodes()
    }

    fn validate_nodes(&self) -> Result<(), SettingsError> {
        let voters = self.nodes.iter().filter(|node| node.role == Role::Voter).count();
        if Quorums::new(voters).is_none() {
            return Err(SettingsError::value("number of voters", voters, format!("{REPLICAS_MIN} to {REPLICAS_MAX}")));
        }
        let client_nodes = self.nodes.len() - voters;
        if client_nodes > CLIENT_NODES_MAX {
            return Err(SettingsError::value(
                "number of client nodes",
                client_nodes,
                format!("0 to {CLIENT_NODES_MAX}"),
            ));
        }
        let mut clients = 0u64;
        for (index, node) in self.nodes.iter().enumerate() {
            let key = |field: &str| format!("node {index}: {field}");
            if usize::from(node.id.0) != index {
                return Err(SettingsError::value(key("id"), node.id, format!("{index}: nodes are numbered in order")));
            }
            let role = if index < voters { Role::Voter } else { Role::Client };
            if node.role != role {
                return Err(SettingsError::value(
                    key("role"),
                    format!("{:?}", node.role),
                    "voters first, then clients",
                ));
            }
            if node.address.is_some() != (role == Role::Voter) {
                let given = node.address.map_or_else(|| "none".into(), |address| address.to_string());
                return Err(SettingsError::value(key("address"), given, "IP:PORT for voters, none for clients"));
            }
            if hex::decode(&node.public_key).map_or(true, |bytes| bytes.len() != 32) {
                return Err(SettingsError::value(key("public_key"), &node.public_key, "32 bytes in hex"));
            }
            if (node.clients > 0) != (role == Role::Client) {
                return Err(SettingsError::value(
                    key("clients"),
                    node.clients,
                    "at least 1 for clients, none for voters",
                ));
            }
            clients += u64::from(node.clients);
        }
        if clients > u64::from(CLIENTS_MAX) {
            return Err(SettingsError::value("number of logical clients", clients, format!("at most {CLIENTS_MAX}")));
        }
        Ok(())
    }

    /// Quorums of the voters.
    ///
    /// # Panics
    /// If the file was not validated.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        Quorums::new(self.voters().count()).expect("validated")
    }

    /// The voters, in order of their ids.
    pub fn voters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::Voter)
    }

    /// Each client node with the range of logical clients that it owns. Ranges follow each other without gaps, from 0.
    pub fn client_nodes(&self) -> impl Iterator<Item = (NodeId, Range<u32>)> + '_ {
        self.nodes.iter().filter(|node| node.role == Role::Client).scan(0, |next, node| {
            let start = *next;
            *next += node.clients;
            Some((node.id, start..*next))
        })
    }

    /// How many logical clients there are.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.nodes.iter().map(|node| node.clients).sum()
    }

    /// The client node that owns `client`.
    #[must_use]
    pub fn owner(&self, client: ClientId) -> Option<NodeId> {
        self.client_nodes().find(|(_, range)| range.contains(&client.0)).map(|(node, _)| node)
    }

    /// What the handshake compares, name by name: every cluster-wide setting and the nodes' keys and roles. Addresses
    /// may differ (a node may see another through a tunnel).
    #[must_use]
    pub fn agreement(&self) -> Vec<(String, String)> {
        let s = &self.settings;
        let quorums = self.quorums();
        let mut nodes = String::new();
        for node in &self.nodes {
            let _ = write!(nodes, "{} {:?} {} {} {};", node.id, node.role, node.public_key, node.group, node.clients);
        }
        vec![
            ("protocol".into(), s.protocol.clone()),
            ("n".into(), quorums.n().to_string()),
            ("f".into(), quorums.f().to_string()),
            ("authentication".into(), s.authentication.to_string()),
            ("auth_granularity".into(), s.auth_granularity.to_string()),
            ("dissemination".into(), s.dissemination.to_string()),
            ("execution".into(), s.execution.to_string()),
            ("replies".into(), s.replies.to_string()),
            ("reads".into(), s.reads.to_string()),
            ("window".into(), s.window.to_string()),
            ("checkpoint_interval".into(), s.checkpoint_interval.to_string()),
            ("view_timeout_ms".into(), s.view_timeout_ms.to_string()),
            ("application".into(), s.application.clone()),
            ("reply_bytes".into(), s.reply_bytes.to_string()),
            ("records".into(), s.records.to_string()),
            ("value_bytes".into(), s.value_bytes.to_string()),
            ("nodes".into(), blake3::hash(nodes.as_bytes()).to_hex().to_string()),
        ]
    }

    /// Fingerprint of [`agreement`](Self::agreement): equal fingerprints, equal settings. Its first 8 bytes are part of
    /// whatever is authenticated, so that nothing can be replayed from one cluster to another.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("hippodrome 2026 cluster fingerprint");
        for (name, value) in self.agreement() {
            hasher.update(format!("{name}={value}\n").as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}
