//! Every command but `run`.

use std::time::Duration;

use hippodrome_engine::sampling::Sampling;

use crate::cli::values::Sample;
use crate::failure::Failure;
use crate::output;

pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod keygen;
pub(crate) mod load;
pub(crate) mod man;
pub(crate) mod replica;
pub(crate) mod report;
pub(crate) mod roofline;
pub(crate) mod search;
pub(crate) mod sim;
pub(crate) mod stress;
pub(crate) mod sweep;

/// Which operations one process follows that is started by hand.
///
/// # Errors
/// If that is to be found out from what only a launcher knows.
fn sampling(sample: Sample) -> Result<Sampling, Failure> {
    match sample {
        Sample::Off => Ok(Sampling::OFF),
        Sample::OneIn(many) => Ok(Sampling::one_in(many)),
        Sample::Auto => Err(Failure::value("sample", sample, "off, or 1/N: all processes must follow the same ones")),
    }
}

/// Ends this process when `parent` is no longer its parent: a launcher that was killed can not stop its children
/// itself.
fn exit_with_parent(parent: Option<u32>) {
    let Some(parent) = parent else { return };
    std::thread::spawn(move || {
        while std::os::unix::process::parent_id() == parent {
            std::thread::sleep(Duration::from_millis(100));
        }
        output::tell(&format!("the launcher (process {parent}) is gone: so am I"));
        std::process::exit(3);
    });
}
