use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::doorbell::Doorbell;
use super::ring;
use super::wait::Wait;

#[derive(Clone, Debug)]
enum Step {
    Push(u32),
    Pop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(prop_oneof![any::<u32>().prop_map(Step::Push), Just(Step::Pop)], 0..400)
}

proptest! {
    #[test]
    fn behaves_like_a_bounded_queue(capacity in 0_usize..20, steps in steps()) {
        let (mut producer, mut consumer) = ring(capacity);
        let capacity = capacity.max(1).next_power_of_two();
        let mut oracle = VecDeque::new();
        for step in steps {
            match step {
                Step::Push(item) if oracle.len() == capacity => prop_assert_eq!(producer.push(item), Err(item)),
                Step::Push(item) => {
                    prop_assert_eq!(producer.push(item), Ok(()));
                    oracle.push_back(item);
                }
                Step::Pop => prop_assert_eq!(consumer.pop(), oracle.pop_front()),
            }
            prop_assert_eq!(producer.len(), oracle.len());
            prop_assert_eq!(consumer.len(), oracle.len());
            prop_assert_eq!(producer.free(), capacity - oracle.len());
            prop_assert_eq!(producer.is_empty() && consumer.is_empty(), oracle.is_empty());
        }
    }
}

#[test]
fn capacity_is_rounded_up() {
    for (asked, given) in [(0, 1), (1, 1), (2, 2), (3, 4), (1000, 1024)] {
        assert_eq!(ring::<()>(asked).0.capacity(), given);
    }
}

#[test]
fn items_left_behind_are_dropped_once() {
    let item = Arc::new(());
    let (mut producer, mut consumer) = ring(4);
    for _ in 0..4 {
        producer.push(Arc::clone(&item)).unwrap();
    }
    assert!(producer.push(Arc::clone(&item)).is_err());
    drop(consumer.pop());
    producer.push(Arc::clone(&item)).unwrap(); // wraps around
    assert_eq!(Arc::strong_count(&item), 5);
    drop(producer);
    assert_eq!(Arc::strong_count(&item), 5);
    drop(consumer);
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn each_end_learns_that_the_other_is_gone() {
    let (mut producer, mut consumer) = ring(2);
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
    producer.push(1).unwrap();
    drop(producer);
    assert!(!consumer.is_abandoned(), "an item is still to be taken");
    assert_eq!(consumer.pop(), Some(1));
    assert!(consumer.is_abandoned());

    let (producer, consumer) = ring::<u8>(2);
    drop(consumer);
    assert!(producer.is_abandoned());
}

#[test]
fn two_threads_keep_the_order() {
    const ITEMS: u64 = 200_000;
    let (mut producer, mut consumer) = ring::<Box<u64>>(8);
    let pushing = thread::spawn(move || {
        for number in 0..ITEMS {
            let mut item = Box::new(number);
            while let Err(refused) = producer.push(item) {
                item = refused;
                thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while !consumer.is_abandoned() {
        match consumer.pop() {
            Some(item) => {
                assert_eq!(*item, expected);
                expected += 1;
            }
            None => thread::yield_now(),
        }
    }
    assert_eq!(expected, ITEMS);
    pushing.join().unwrap();
}

#[test]
fn a_parked_consumer_is_woken_for_every_item() {
    const ITEMS: u32 = 5_000;
    let (mut producer, mut consumer) = ring(1);
    let (doorbell, parker) = Doorbell::parker();
    let bell = doorbell.clone();
    let pushing = thread::spawn(move || {
        for number in 0..ITEMS {
            while producer.push(number).is_err() {
                thread::yield_now();
            }
            bell.ring();
        }
    });
    let started = Instant::now();
    let mut expected = 0;
    while expected < ITEMS {
        match consumer.pop() {
            Some(item) => {
                assert_eq!(item, expected);
                expected += 1;
            }
            None => Wait::Park.idle(&doorbell, &parker, Duration::from_secs(60), || !consumer.is_empty()),
        }
    }
    assert!(started.elapsed() < Duration::from_secs(50), "a wake-up was lost");
    pushing.join().unwrap();
}

#[test]
fn spinning_and_yielding_do_not_sleep() {
    let (doorbell, parker) = Doorbell::parker();
    let started = Instant::now();
    for strategy in [Wait::Spin, Wait::Yield] {
        strategy.idle(&doorbell, &parker, Duration::from_secs(60), || unreachable!("only a sleep asks for work"));
    }
    Wait::Park.idle(&doorbell, &parker, Duration::from_secs(60), || true);
    Wait::Park.idle(&doorbell, &parker, Duration::from_millis(1), || false);
    assert!(started.elapsed() < Duration::from_secs(30));
}
