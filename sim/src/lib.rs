//! A deterministic simulator of whole clusters.
//!
//! It runs the very code of the replicas: the protocol core, the executor with the key-value application, and the
//! clients' half of the protocol. Around them everything is simulated: time, network, disks, crashes, and those who
//! mean harm. One seed decides all of it, so a run that went wrong goes wrong again, as often as one likes, and can be
//! made smaller until a person can read it.
//!
//! In the order of a hunt: [plan] (what happens in a run, drawn from a seed), `world` (the run itself), [check] (what
//! must hold), [mod@run] (from plan to outcome), [mod@shrink] (a smaller plan that fails alike), [hunt] (many seeds,
//! and what they met), [mutants] (bugs planted on purpose, to see that they are found); `trace` tells what happened,
//! [coverage] what a run met, and `random` is where all chance comes from.

pub mod check;
pub mod coverage;
pub mod hunt;
pub mod mutants;
pub mod plan;
mod random;
pub mod run;
pub mod shrink;
mod trace;
mod world;

pub use run::{Outcome, run};
pub use shrink::shrink;
