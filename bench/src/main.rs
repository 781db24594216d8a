//! The `hippodrome` binary.
fn main() {}
