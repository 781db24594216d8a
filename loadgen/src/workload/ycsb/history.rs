//! Whether reads respect real time: what the clients of one load generator have seen of each record, and when.
//!
//! A write takes effect between its beginning and its end. So a value is too old for a read if another write of the
//! same record began after that value's write had ended, and is known to have taken effect before the read began:
//! because it had ended by then, or because some read that had ended had seen it or a later one. That holds in every
//! linearizable history (Herlihy and Wing, TOPLAS'90); values name their writes, so a violation is certain. What is not
//! known of a record, such as writes of other load generators, excuses.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hippodrome_engine::app::kv::Key;
use hippodrome_engine::types::{ClientId, Timestamp};

/// Parts that are locked apart.
const SHARDS: u64 = 64;
/// Writes that are remembered of a record besides those that reads may still see.
const SURPLUS_MAX: usize = 8;

/// What is known of all records. Ticks stand for time: a number for each event, in an order that all threads see.
pub(super) struct History {
    clock: AtomicU64,
    shards: Vec<Mutex<HashMap<Key, Record>>>,
}

#[derive(Default)]
struct Record {
    /// The latest beginning of a write that has taken effect, with the tick at which that came to be known, and the one
    /// known before.
    floors: [Floor; 2],
    writes: Vec<Write>,
    /// The latest end of a write that was forgotten.
    forgotten: u64,
}

#[derive(Clone, Copy, Default)]
struct Floor {
    began: u64,
    known: u64,
}

struct Write {
    origin: (ClientId, Timestamp),
    began: u64,
    /// The last tick of all while it is under way.
    ended: u64,
}

impl History {
    pub(super) fn new() -> Self {
        // Preloaded records were written before the first tick.
        Self { clock: AtomicU64::new(1), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// The present tick. Everything that has ended by now has a smaller one.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A write is about to be sent.
    pub(super) fn begin_write(&self, key: Key, origin: (ClientId, Timestamp)) {
        let began = self.tick();
        self.shard(key).entry(key).or_default().writes.push(Write { origin, began, ended: u64::MAX });
    }

    /// A write was acknowledged.
    pub(super) fn end_write(&self, key: Key, origin: (ClientId, Timestamp)) {
        let mut shard = self.shard(key);
        let ended = self.tick();
        let Some(record) = shard.get_mut(&key) else { return };
        let Some(write) = record.writes.iter_mut().find(|write| write.origin == origin) else { return };
        write.ended = ended;
        let began = write.began;
        record.raise(began, ended);
        record.forget();
    }

    /// Whether a read that began at the tick `began` may give what `origin` wrote to `key`; `None` wrote the preloaded
    /// value. `false` is proof of a violation.
    pub(super) fn end_read(&self, key: Key, origin: Option<(ClientId, Timestamp)>, began: u64) -> bool {
        let mut shard = self.shard(key);
        let known = self.tick();
        let record = shard.entry(key).or_default();
        let floor = record.floor_at(began);
        let Some(origin) = origin else { return floor == 0 };
        let Some(write) = record.writes.iter().find(|write| write.origin == origin) else {
            return floor <= record.forgotten;
        };
        let (possible, began) = (write.ended >= floor, write.began);
        record.raise(began, known);
        possible
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, HashMap<Key, Record>> {
        #[allow(clippy::cast_possible_truncation, reason = "less than SHARDS")]
        let shard = (key % SHARDS) as usize;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// The latest beginning of a write that was known at this tick to have taken effect, or an earlier one.
    fn floor_at(&self, tick: u64) -> u64 {
        self.floors.iter().find(|floor| floor.known < tick).map_or(0, |floor| floor.began)
    }

    fn raise(&mut self, began: u64, known: u64) {
        if began > self.floors[0].began {
            self.floors = [Floor { began, known }, self.floors[0]];
        }
    }

    /// Forgets what no read that begins from now on may see.
    fn forget(&mut self) {
        if self.writes.len() <= SURPLUS_MAX {
            return;
        }
        let floor = self.floors[0].began;
        let forgotten = self.writes.iter().filter(|write| write.ended < floor).map(|write| write.ended).max();
        self.forgotten = self.forgotten.max(forgotten.unwrap_or(0));
        self.writes.retain(|write| write.ended >= floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = 7;

    fn origin(client: u32, timestamp: u64) -> (ClientId, Timestamp) {
        (ClientId(client), Timestamp(timestamp))
    }

    fn write(history: &History, origin: (ClientId, Timestamp)) {
        history.begin_write(KEY, origin);
        history.end_write(KEY, origin);
    }

    #[test]
    fn a_value_older_than_a_complete_write_is_found() {
        let history = History::new();
        let began = history.tick();
        assert!(history.end_read(KEY, None, began), "nothing was written");
        let early = history.tick();
        write(&history, origin(1, 1));
        write(&history, origin(2, 1));
        let late = history.tick();
        assert!(history.end_read(KEY, None, early), "nothing was written when it began");
        assert!(history.end_read(KEY, Some(origin(1, 1)), early));
        assert!(!history.end_read(KEY, Some(origin(1, 1)), late), "overwritten when it began");
        assert!(!history.end_read(KEY, None, late));
        assert!(history.end_read(KEY, Some(origin(2, 1)), late));
        assert!(history.end_read(KEY + 1, None, late), "another record");
    }

    #[test]
    fn writes_at_the_same_time_may_have_any_order() {
        let history = History::new();
        history.begin_write(KEY, origin(1, 1));
        history.begin_write(KEY, origin(2, 1));
        history.end_write(KEY, origin(1, 1));
        history.end_write(KEY, origin(2, 1));
        for value in [origin(1, 1), origin(2, 1), origin(1, 1)] {
            assert!(history.end_read(KEY, Some(value), history.tick()), "{value:?}");
        }
    }

    #[test]
    fn what_one_read_has_seen_no_later_one_may_miss() {
        let history = History::new();
        write(&history, origin(1, 1));
        history.begin_write(KEY, origin(2, 1)); // and never ends
        assert!(history.end_read(KEY, Some(origin(1, 1)), history.tick()), "not seen yet");
        let overlapping = history.tick();
        assert!(history.end_read(KEY, Some(origin(2, 1)), history.tick()));
        assert!(history.end_read(KEY, Some(origin(1, 1)), overlapping));
        assert!(!history.end_read(KEY, Some(origin(1, 1)), history.tick()));
    }

    #[test]
    fn memory_is_bounded_and_what_was_forgotten_is_still_found() {
        let history = History::new();
        for timestamp in 1..=1000 {
            write(&history, origin(1, timestamp));
        }
        assert!(history.shard(KEY)[&KEY].writes.len() <= SURPLUS_MAX + 1);
        assert!(!history.end_read(KEY, Some(origin(1, 1)), history.tick()));
        assert!(!history.end_read(KEY, Some(origin(1, 999)), history.tick()));
        assert!(history.end_read(KEY, Some(origin(1, 1000)), history.tick()));
    }
}
