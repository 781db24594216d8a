//! Result files of benchmark runs, and what may be concluded from them.
//!
//! In the order in which a run meets them: [latency] (the interval log), [attribution] (where sampled operations spent
//! their time), [series] (operations second by second), [statistics] (intervals and drift), [scorecard] (how faults
//! were borne), [audit] (the verdict: five points that a run must prove), [report] (`report.json`), [bottleneck] (what
//! limited it), [roofline] (what the machine needs at least), [traffic] (what was sent for an operation, beside what
//! the protocol says), [results] (the directory that holds all files), [summary] (a report as text for people) and
//! [page] (results as one HTML file with charts). [sweep] is about many runs that differ in chosen settings,
//! [comparison] about whether settings differ in speed, [search] about the highest rate that meets latency objectives;
//! `shown` has the figures that texts and pages of many runs show.
//!
//! This crate knows nothing of the engine or the load generator: whatever it judges is handed to it as plain data, so
//! that results of other machines, and of later versions, can be read without either.

pub mod attribution;
pub mod audit;
pub mod bottleneck;
pub mod comparison;
pub mod latency;
pub mod page;
pub mod report;
pub mod results;
pub mod roofline;
pub mod scorecard;
pub mod search;
pub mod series;
mod shown;
pub mod statistics;
pub mod summary;
pub mod sweep;
pub mod traffic;
