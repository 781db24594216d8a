//! Settings, parsed once into validated types. Those of the whole cluster ([cluster]) are fingerprinted: a handshake
//! between nodes that differ is refused. Those of one process ([options], [placement]) may differ from node to node.

pub mod cluster;
pub mod options;
pub mod placement;
pub mod transport;

pub use crate::auth::Strategy;
pub use cluster::{ClusterFile, ClusterSettings, Node, Role, SettingsError};
pub use options::{
    Authentication, Batching, Dissemination, Durability, ExecutionChoice, Granularity, OnCorruptLog, OptionError,
    Reads, Replies, RingOptions, TransportChoice, WaitChoice,
};
pub use placement::{Group, PlacedStage, Placement};
