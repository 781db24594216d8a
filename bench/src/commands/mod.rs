//! Every command but `run`.

use std::time::Duration;

use crate::output;

pub(crate) mod compare;
pub(crate) mod keygen;
pub(crate) mod load;
pub(crate) mod replica;
pub(crate) mod report;
pub(crate) mod search;
pub(crate) mod sim;
pub(crate) mod stress;
pub(crate) mod sweep;

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
