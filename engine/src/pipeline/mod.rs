//! The pipeline: stages on threads, joined by bounded lock-free rings that carry batches.
//!
//! In data-path order: [ingress] (sockets to frames), [intake] (whose turn it is, by what [credit] and [blame] say of
//! the node), [verify] (frames to authenticated inputs), [order] (drives the protocol core), [persist] (makes votes
//! durable, where that is asked for), [execute] (applies committed batches), [egress] (seals and encodes), and back to
//! the sockets, which the ingress's [network] owns both ways. [stage] is what they have in common, [link] joins two of
//! them, [worker] runs some of them on one thread, [placement] decides which by the [cores] that there are, and
//! [topology] is the one file that wires every link, depth and core. [board] is where stages post their counters for
//! the control port.
//!
//! Who may wait for whom: network → verify → order (→ persist) → execute → egress → network. A full link stops the
//! stage before it, back to the intake; whoever fills that is no longer read from, and feels it through TCP. The one
//! cycle, order → execute → order, can not lock up: order takes feedback even while its own output is held back, and
//! the protocol bounds what is between the two by its window.

pub mod blame;
pub mod board;
pub mod clock;
pub mod cores;
pub mod credit;
pub mod egress;
pub mod execute;
pub mod ingress;
pub mod intake;
pub mod link;
pub mod network;
pub mod order;
pub mod persist;
pub mod placement;
pub mod stage;
pub mod topology;
pub mod verify;
pub mod worker;
