//! Wakes a thread that sleeps because its rings are empty, without a system call for one that is awake.
//!
//! Consumer: [`prepare_sleep`](Doorbell::prepare_sleep); look into every ring once more; if all are empty sleep, in
//! `Transport::poll` or a parker; then [`awake`](Doorbell::awake). Producer: push, then [`ring`](Doorbell::ring), once
//! for as many pushes as there are to make.
//!
//! No wake-up is lost: each side writes (the flag, the ring), passes a sequentially consistent fence, then reads what
//! the other wrote. Of two such fences one comes first, so at least one side sees the other's write: the consumer finds
//! the item, or the producer finds the flag.

use crossbeam::sync::Parker;

use super::sync::{Arc, AtomicBool, Ordering, fence};
use crate::transport::Waker;

/// Shared by one consumer and the producers of all its rings.
#[derive(Clone)]
pub struct Doorbell {
    shared: Arc<Shared>,
}

struct Shared {
    sleeping: AtomicBool,
    waker: Waker,
}

impl Doorbell {
    /// A doorbell for a consumer that `waker` wakes. The waker must remember a call that comes just before the sleep,
    /// as those of transports do.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self { shared: Arc::new(Shared { sleeping: AtomicBool::new(false), waker }) }
    }

    /// A doorbell for a thread that sleeps in the returned parker.
    #[must_use]
    pub fn parker() -> (Self, Parker) {
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        (Self::new(Waker::new(move || unparker.unpark())), parker)
    }

    /// Consumer: announces the sleep. Every ring must be looked into after this, and the sleep given up if one has an
    /// item.
    pub fn prepare_sleep(&self) {
        self.shared.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Consumer: takes the announcement back, after the sleep or instead of it.
    pub fn awake(&self) {
        self.shared.sleeping.store(false, Ordering::Relaxed);
    }

    /// Producer: wakes the consumer if it sleeps or is about to; costs a fence and a load if it does not.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        // Of many producers one makes the system call. The load keeps the line shared while the consumer is awake.
        let sleeping = &self.shared.sleeping;
        if sleeping.load(Ordering::Relaxed)
            && sleeping.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.shared.waker.wake();
        }
    }
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doorbell")
    }
}
