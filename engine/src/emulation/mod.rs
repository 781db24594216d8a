//! Network emulation in user space: what leaves a process for another one is held back, thinned out or stopped as a
//! wide-area network would. It needs no root and no kernel support, and works between any two processes of a cluster,
//! replicas and load generators.
//!
//! Each process emulates its *outgoing* links, one to each other node. What it hands to the network is whole frames: a
//! frame may be lost, and is released to the transport when it is due. Both directions of a link are independent, so a
//! partition may be one-sided. Connections themselves stay: a blocked link loses frames as a firewall that drops them
//! does. Handshakes are not emulated: they pass at once, and are never lost.
//!
//! In the order of use: [spec] (what people write: a preset, a file, or a few values) gives a [model] for each link;
//! [shaper] applies the models to frames (pure: time and seed are arguments); [emulator] is the shaper of one process
//! with what may be changed while it runs; [alarm] wakes its thread when a frame falls due.

pub mod alarm;
pub mod emulator;
pub mod model;
pub mod shaper;
pub mod spec;

pub use emulator::{Change, ChangeError, Emulator, InForce, LinkInForce, OutgoingLinks};
pub use model::{Distribution, LinkModel};
pub use shaper::{Dropped, LinkCounts, Shaper};
pub use spec::{NetworkSpec, Override, SpecError};
