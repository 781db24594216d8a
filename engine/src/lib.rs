//! The engine: a pipelined, thread-per-core PBFT replica.
//!
//! In data-path order: [transport] moves bytes, [wire] frames them, [auth] proves who sent them, [requests] is the unit
//! that travels, [protocol] orders it, [storage] makes durable what must not be forgotten, [execute] applies it to an
//! [app]; [pipeline] puts these on threads, joined by [ring]s; [emulation] imitates a network in front of the
//! transport; [settings], [quorum], [types] and [limits] are what they share; [sampling] follows some operations all
//! the way; [byzantine] makes replicas that misbehave on purpose.

pub mod app;
pub mod auth;
pub mod byzantine;
mod columns;
pub mod control;
pub mod emulation;
pub mod execute;
pub mod limits;
mod named;
pub mod pipeline;
pub mod platform;
pub mod protocol;
pub mod quorum;
pub mod replica;
pub mod requests;
pub mod ring;
pub mod sampling;
mod scratch;
pub mod settings;
pub mod short;
pub mod storage;
pub mod transport;
pub mod types;
pub mod wire;
