//! One run, from plan to outcome.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use hippodrome_engine::protocol::planted::Planted;

use crate::check::{Checker, Violation};
use crate::coverage::Coverage;
use crate::plan::Plan;
use crate::world::World;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// What the run met.
    pub coverage: Coverage,
    /// Two runs with the same number went the same way.
    pub hash: u64,
    /// What happened, a line for each event, if that was asked for.
    pub trace: Vec<String>,
}

/// Runs a plan. The same plan always gives the same outcome.
///
/// `planted`: a bug in every replica. `trace`: whether to tell what happens.
///
/// # Panics
/// If the plan does not pass its own [check](Plan::check).
#[must_use]
pub fn run(plan: &Plan, planted: Option<Planted>, trace: bool) -> Outcome {
    catch_quietly();
    let mut world = World::new(plan, planted, trace);
    SIMULATING.set(true);
    let fell = catch_unwind(AssertUnwindSafe(|| world.run())).is_err();
    SIMULATING.set(false);
    if fell {
        let what = FELL.take();
        world.checks.violation = Some(Violation { checker: Checker::Panic, detail: what });
    }
    let World { checks, coverage, mut trace, .. } = world;
    if let Some(violation) = &checks.violation {
        trace.line("!!", || format!("{}: {}", violation.checker, violation.detail));
    }
    Outcome { violation: checks.violation, coverage, hash: trace.hash(), trace: trace.into_lines() }
}

thread_local! {
    static SIMULATING: Cell<bool> = const { Cell::new(false) };
    static FELL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A replica that falls over is a finding, not a message on standard error.
fn catch_quietly() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if SIMULATING.get() {
                let mut text = panic.to_string().replace('\n', " ");
                let backtrace = Backtrace::capture(); // empty unless RUST_BACKTRACE asks for it
                if backtrace.status() == BacktraceStatus::Captured {
                    let _ = write!(text, "\n{backtrace}");
                }
                FELL.set(text);
            } else {
                before(panic);
            }
        }));
    });
}
