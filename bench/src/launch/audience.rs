//! Who is told how a run goes while it goes: a person at a terminal, or the progress of many runs.

use std::cell::RefCell;
use std::path::Path;

use hippodrome_analysis::series::Second;

use crate::output::{ProgressTable, tell};

/// Whom the launcher tells how a run goes.
pub(crate) trait Audience {
    /// So many replicas are about to be started; the results will be in `directory`.
    fn begins(&self, replicas: u16, directory: &Path);

    /// A second of the load has passed.
    fn second(&self, second: &Second);

    /// Something happened, in a line: a replica died, a scenario's event took place.
    fn happened(&self, line: &str);
}

/// Tells everything on stderr, a row each second.
#[derive(Debug, Default)]
pub(crate) struct Console {
    table: RefCell<ProgressTable>,
}

impl Audience for Console {
    fn begins(&self, replicas: u16, directory: &Path) {
        tell(&format!("{replicas} replicas, results in {}", directory.display()));
    }

    fn second(&self, second: &Second) {
        tell(&self.table.borrow_mut().row(second));
    }

    fn happened(&self, line: &str) {
        tell(line);
    }
}
