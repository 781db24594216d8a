//! Model-checks the ring and the doorbell under every interleaving that loom can think of:
//! `RUSTFLAGS="--cfg loom" cargo test -p hippodrome-engine --test loom_ring --release`.
#![cfg(loom)]

use hippodrome_engine::ring::doorbell::Doorbell;
use hippodrome_engine::ring::{Consumer, ring};
use hippodrome_engine::transport::Waker;
use loom::sync::{Arc, Condvar, Mutex};

use loom::thread;

/// As many items as make a ring of `capacity` wrap around.
fn hand_over(capacity: usize, items: usize) {
    loom::model(move || {
        let (mut producer, mut consumer) = ring::<Box<usize>>(capacity);
        let pushing = thread::spawn(move || {
            let mut refused = Vec::new();
            for number in 0..items {
                if let Err(item) = producer.push(Box::new(number)) {
                    refused.push(*item);
                }
            }
            refused
        });
        let mut taken = Vec::new();
        for _ in 0..items {
            taken.extend(consumer.pop().map(|item| *item));
        }
        let refused = pushing.join().unwrap();
        taken.extend(std::iter::from_fn(|| consumer.pop()).map(|item| *item));
        assert!(taken.is_sorted());
        assert_eq!(taken.len() + refused.len(), items);
        assert!(consumer.is_abandoned());
    });
}

#[test]
fn items_come_out_once_and_in_order() {
    hand_over(2, 3);
}

#[test]
fn a_ring_of_one_slot_wraps_around() {
    hand_over(1, 3);
}

/// loom also reports what leaks: items left in the ring must be dropped whichever end goes last.
#[test]
fn the_last_end_drops_what_is_left() {
    loom::model(|| {
        let (mut producer, consumer) = ring::<loom::sync::Arc<()>>(2);
        let item = Arc::new(());
        let pushed = Arc::clone(&item);
        let pushing = thread::spawn(move || {
            producer.push(pushed).unwrap();
        });
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(Arc::strong_count(&item), 1);
    });
}

#[test]
fn everything_pushed_is_seen_before_the_producer_is_gone() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<u8>(1);
        let pushing = thread::spawn(move || producer.push(7).unwrap());
        let mut taken = consumer.pop();
        if consumer.is_abandoned() {
            assert_eq!(taken, Some(7));
        }
        taken = taken.or_else(|| consumer.pop());
        pushing.join().unwrap();
        assert_eq!(taken.or_else(|| consumer.pop()), Some(7));
    });
}

/// The consumer sleeps until its waker is called and for no other reason: a wake-up that was lost is a deadlock, which
/// loom reports.
#[test]
fn no_wake_up_is_lost() {
    hand_over_to_a_sleeper(1, 1, None);
    // With every switch between the threads this takes minutes.
    hand_over_to_a_sleeper(1, 2, Some(3));
}

#[test]
fn no_wake_up_is_lost_among_several_producers() {
    hand_over_to_a_sleeper(2, 1, Some(2));
}

fn hand_over_to_a_sleeper(producers: usize, items_each: usize, preemptions_max: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions_max;
    model.check(move || {
        let bed = Arc::new(Bed::default());
        let waker = Arc::clone(&bed);
        let doorbell = Doorbell::new(Waker::new(move || waker.wake()));
        let mut consumers: Vec<Consumer<usize>> = Vec::new();
        for _ in 0..producers {
            let (mut producer, consumer) = ring(items_each);
            consumers.push(consumer);
            let bell = doorbell.clone();
            thread::spawn(move || {
                for number in 0..items_each {
                    producer.push(number).unwrap();
                    bell.ring();
                }
            });
        }
        let mut taken = 0;
        loop {
            taken += consumers.iter_mut().map(|consumer| std::iter::from_fn(|| consumer.pop()).count()).sum::<usize>();
            if taken == producers * items_each {
                return;
            }
            doorbell.prepare_sleep();
            if consumers.iter().all(Consumer::is_empty) {
                bed.sleep();
            }
            doorbell.awake();
        }
    });
}

/// What a parker does: a call before the sleep is remembered. (loom's own `Notify` also wakes for no reason, which
/// would hide what is lost.)
#[derive(Default)]
struct Bed {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Bed {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = self.changed.wait(woken).unwrap();
        }
    }
}
