//! What a thread without sockets does while its rings are empty.

use std::time::Duration;

use crossbeam::sync::Parker;

use super::doorbell::Doorbell;

/// A waiting strategy. Spin only on a core of one's own: elsewhere a spinning thread steals the core that its neighbour
/// needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Look again at once.
    Spin,
    /// Look again after everybody else who is ready had the core.
    Yield,
    /// Sleep until the doorbell rings.
    Park,
}

impl Wait {
    /// Waits a little. `parker` and `doorbell` come from [`Doorbell::parker`]; `has_work` says whether there is
    /// something to do and is asked only before a sleep. A [`Park`](Self::Park) lasts at most `longest` and, like the
    /// others, may end for no reason.
    pub fn idle(self, doorbell: &Doorbell, parker: &Parker, longest: Duration, has_work: impl FnOnce() -> bool) {
        match self {
            Self::Spin => std::hint::spin_loop(),
            Self::Yield => std::thread::yield_now(),
            Self::Park => {
                doorbell.prepare_sleep();
                if !has_work() {
                    parker.park_timeout(longest);
                }
                doorbell.awake();
            }
        }
    }
}
