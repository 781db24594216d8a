//! Who is told how a run goes while it goes: a person at a terminal, or the progress of many runs.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use hippodrome_analysis::series::Second;

use crate::output::{ProgressTable, tell};

/// Whom the launcher tells how a run goes.
pub(crate) trait Audience {
    /// So many replicas are about to be started; the results will be in `directory`.
    fn begins(&self, replicas: u16, directory: &Path);

    /// A replica is up, for the first time or anew, and answers at this control port.
    fn replica(&self, _id: u16, _control: SocketAddr) {}

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

/// Tells nothing.
#[derive(Debug)]
pub(crate) struct Silent;

/// Who tells how a run goes where nobody else does: the console, or with `--quiet` nobody.
pub(crate) fn console(quiet: bool) -> Rc<dyn Audience> {
    if quiet { Rc::new(Silent) } else { Rc::new(Console::default()) }
}

impl Audience for Silent {
    fn begins(&self, _: u16, _: &Path) {}

    fn second(&self, _: &Second) {}

    fn happened(&self, _: &str) {}
}

/// Lines stay as they are: no cursor is moved, so that files and pipes get what terminals get.
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
