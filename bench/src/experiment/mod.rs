//! Experiments: many runs of `hippodrome run` under a plan, so that settings can be compared.
//!
//! In the order in which an experiment meets them: [mod@file] (what is varied, as people write it), [shipped] (those
//! that come with the binary), [point] (settings that become the options of a run), [plan] (which run comes when),
//! [journal] (the directory of an experiment, which is the truth about what is done), [trial] (one run and what came of
//! it), [foreign] (the same by another build), [progress] (what a person sees meanwhile).

pub(crate) mod file;
pub(crate) mod foreign;
pub(crate) mod journal;
pub(crate) mod plan;
pub(crate) mod point;
pub(crate) mod progress;
pub(crate) mod shipped;
pub(crate) mod trial;
