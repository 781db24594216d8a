//! What holds for any bytes. Each function takes bytes that a fuzzer made up and panics if something that must always
//! hold does not; not to crash is the least of it.
//!
//! [`wire()`] (frames, bodies and handshakes from anybody), [`protocol()`] (inputs to one replica's core), [`log()`]
//! (files of a write-ahead log) and [`config()`] (files that people write). The same functions run under libFuzzer,
//! without end, and as short property tests with every change.

mod config;
mod log;
mod protocol;
mod wire;

pub use config::config;
pub use log::log;
pub use protocol::protocol;
pub use wire::{IN_GROUPS, wire};

/// An entry point: its name, which is that of its corpus as well, and what takes the bytes.
pub type Entry = (&'static str, fn(&[u8]));

/// All entry points.
pub const ENTRIES: [Entry; 4] = [("wire", wire), ("protocol", protocol), ("log", log), ("config", config)];
