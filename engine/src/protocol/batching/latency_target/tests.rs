//! The controller against a service of known capacity, in virtual time.

use super::*;
use crate::protocol::batching::Batching;
use crate::protocol::batching::service::{Load, MICROSECOND, MILLISECOND, Model, Service};

const SECOND: u64 = 1000 * MILLISECOND;

/// A stage takes 20 µs for a batch and 1 µs for each request: 20 times as much for a request alone as in a large batch.
const SERVICE: Service = Service::new(20 * MICROSECOND, MICROSECOND, 100 * MICROSECOND);
/// 100,000 requests a second, a tenth of what the service is capable of, though never one alone.
const BURSTS: Load = Load::Bursts { requests: 1000, every_ns: 10 * MILLISECOND };
/// More than any policy can make of the service.
const OVERLOAD: Load = Load::Poisson { per_s: 2e6 };

fn model(batching: &str, service: Service) -> Model {
    Model::new(batching.parse::<Batching>().unwrap().policy(), service)
}

/// The 99th percentile in the second half of so many seconds under `load`, ms.
fn settled(batching: &str, service: Service, load: Load, seconds: u64) -> f64 {
    let mut model = model(batching, service);
    model.run(load, seconds * SECOND / 2);
    let half = model.run(load, seconds * SECOND / 2);
    ms(model.p99_ns(&half))
}

/// Requests executed in the second half of so many seconds.
fn completed(batching: &str, service: Service, load: Load, seconds: u64) -> f64 {
    let mut model = model(batching, service);
    model.run(load, seconds * SECOND / 2);
    let half = model.run(load, seconds * SECOND / 2);
    model.completed(&half) as f64
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[test]
fn at_moderate_load_it_settles_under_the_target_where_large_batches_do_not() {
    assert!(settled("adaptive", SERVICE, BURSTS, 10) > 3.0);
    for target in ["1900us", "2ms", "2500us"] {
        let target_ms = humantime::parse_duration(target).unwrap().as_secs_f64() * 1e3;
        let p99 = settled(&format!("latency-target:{target}"), SERVICE, BURSTS, 20);
        assert!(p99 <= target_ms, "{p99} ms, target {target_ms} ms");
    }
}

/// Nor does it settle lower than it must: its batches are about the largest that meet the target.
#[test]
fn it_makes_use_of_what_the_target_allows() {
    let p99 = settled("latency-target:2500us", SERVICE, BURSTS, 20);
    assert!((1.8..=2.5).contains(&p99), "{p99} ms");
}

/// Where the load stays the same, so do batches: the controller rests, instead of going up and down for ever.
#[test]
fn it_comes_to_rest() {
    let mut model = model("latency-target:2500us", SERVICE);
    model.run(BURSTS, 10 * SECOND);
    let after = model.run(BURSTS, 10 * SECOND);
    let largest = model.largest(&after, SECOND / 10);
    let (least, most) = (*largest.iter().min().unwrap(), *largest.iter().max().unwrap());
    assert!(least > 64 && most <= least + least / 4, "from {least} to {most} requests");
}

/// A machine that stops for a moment now and then, as real ones do, is not mistaken for batches that are too large.
#[test]
fn hiccups_do_not_make_batches_small() {
    let mut hiccups = SERVICE;
    hiccups.hiccup = (400, 5 * MILLISECOND);
    let mut model = model("latency-target:2500us", hiccups);
    model.run(BURSTS, 10 * SECOND);
    let after = model.run(BURSTS, 10 * SECOND);
    let mut largest = model.largest(&after, SECOND / 10);
    largest.sort_unstable();
    assert!(largest[largest.len() / 2] > 64, "{largest:?}");
}

#[test]
fn under_overload_it_goes_for_throughput() {
    for target in ["10us", "1ms", "5ms"] {
        let most = completed("adaptive", SERVICE, OVERLOAD, 2);
        let ours = completed(&format!("latency-target:{target}"), SERVICE, OVERLOAD, 2);
        assert!(ours >= 0.95 * most, "{target}: {ours} of {most}");
    }
}

/// A closed loop whose clients are too many for the target: all of them are in flight, and there is no telling from
/// that whether smaller batches would help. They are tried, and gain nothing.
#[test]
fn too_many_clients_do_not_make_batches_small() {
    for clients in [64, 1000, 4000] {
        let load = Load::Closed { clients };
        let most = completed("adaptive", SERVICE, load, 4);
        let ours = completed("latency-target:50us", SERVICE, load, 4);
        assert!(ours >= 0.9 * most, "{clients} clients: {ours} of {most}");
    }
}

#[test]
fn a_network_that_is_slower_than_the_target_does_not_make_batches_small() {
    let far = Service::new(20 * MICROSECOND, MICROSECOND, 30 * MILLISECOND);
    for load in [BURSTS, Load::Closed { clients: 4000 }] {
        let most = completed("adaptive", far, load, 20);
        let ours = completed("latency-target:5ms", far, load, 20);
        assert!(ours >= 0.9 * most, "{load:?}: {ours} of {most}");
    }
}

#[test]
fn it_follows_the_load_and_recovers_from_overload() {
    let mut model = model("latency-target:2ms", SERVICE);
    let quiet = Load::Poisson { per_s: 1000.0 };
    for (load, settle_s) in [(quiet, 2), (BURSTS, 10), (quiet, 2), (OVERLOAD, 1), (quiet, 5), (BURSTS, 10)] {
        model.run(load, settle_s * SECOND);
        let then = model.run(load, SECOND);
        if load == OVERLOAD {
            assert!(model.completed(&then) > 800_000 && model.waiting() > 0);
        } else {
            assert!(model.p99_ns(&then) <= 2 * MILLISECOND, "{load:?}: {} ms", ms(model.p99_ns(&then)));
        }
    }
}

/// Small bursts let the limit grow, until larger ones come.
#[test]
fn it_shrinks_when_bursts_become_larger() {
    assert!(settled("adaptive:512", SERVICE, BURSTS, 4) > 2.0);
    let mut model = model("latency-target:2ms", SERVICE);
    model.run(Load::Bursts { requests: 500, every_ns: 10 * MILLISECOND }, 10 * SECOND);
    let at_first = model.run(BURSTS, SECOND / 10);
    assert!(model.p99_ns(&at_first) > 2 * MILLISECOND, "{} ms", ms(model.p99_ns(&at_first)));
    model.run(BURSTS, 10 * SECOND);
    let then = model.run(BURSTS, 10 * SECOND);
    assert!(model.p99_ns(&then) <= 2 * MILLISECOND, "{} ms", ms(model.p99_ns(&then)));
}

/// Epochs of batches as large as they may be, each of which took `total_us`, `waited_us` of that before its proposal.
fn feed(control: &mut Control, epochs: usize, total_us: u64, waited_us: u64) {
    for _ in 0..epochs * EPOCH {
        let arrived = Time(control.changed.0 + SECOND);
        control.on_executed(&Executed {
            now: arrived.after(total_us * MICROSECOND),
            sequence: crate::types::SequenceNumber(1),
            requests: control.limit,
            arrived,
            proposed: arrived.after(waited_us * MICROSECOND),
        });
    }
}

#[test]
fn the_limit_doubles_until_it_shrinks_and_grows_in_small_steps_from_then_on() {
    let mut control = Control::new(MILLISECOND, 1024);
    feed(&mut control, 1, 500, 0);
    assert_eq!(control.limit, 128);
    // Close to the target it rests.
    feed(&mut control, 9, 900, 0);
    assert_eq!(control.limit, 128);
    // Over the target in a full window, and it shrinks.
    feed(&mut control, 1, 1100, 0);
    assert_eq!(control.limit, 96);
    feed(&mut control, 1, 500, 0);
    assert_eq!(control.limit, 96 + 96 / 8);
    feed(&mut control, 20, 500, 0);
    let before = control.limit;
    feed(&mut control, 1, 500, 0);
    assert_eq!(control.limit, before + 1024 / 64);
}

#[test]
fn what_waits_for_capacity_gets_larger_batches_and_no_trial() {
    let mut control = Control::new(MILLISECOND, 1024);
    feed(&mut control, 10, 2000, 1500);
    assert_eq!((control.limit, control.trial.is_none()), (1024, true));
}

#[test]
fn a_trial_that_gains_nothing_is_taken_back_and_the_next_one_waits() {
    let mut control = Control::new(MILLISECOND, 1024);
    feed(&mut control, 4, 2000, 0);
    assert_eq!((control.limit, control.trial.is_some()), (48, true));
    feed(&mut control, 4, 1950, 0);
    assert_eq!((control.limit, control.trial.is_none(), control.pause), (64, true, PAUSE_MIN));
    assert_eq!(control.next_pause, 2 * PAUSE_MIN);
    // It grows meanwhile, and then tries again.
    feed(&mut control, 4, 2000, 0);
    assert_eq!((control.limit, control.trial.is_none()), (64 + 8, true));
    feed(&mut control, 1, 2000, 0);
    assert_eq!((control.limit, control.trial.is_some()), (72 * 6 / 8, true));
    // This one gains enough to go on from.
    feed(&mut control, 4, 1500, 0);
    assert_eq!((control.limit, control.next_pause), (54 * 6 / 8, PAUSE_MIN));
}

#[test]
fn limits_stay_in_range_whatever_is_measured() {
    for requests_max in [1, 2, 7, 4096] {
        let mut control = Control::new(MILLISECOND, requests_max);
        let mut now = 1;
        for step in 0..20_000_u64 {
            now += 1 + step * 7919 % 5_000_000;
            let requests = 1 + usize::try_from(step * 31 % 4096).unwrap() % control.limit;
            let sequence = crate::types::SequenceNumber(step);
            let (arrived, proposed) = (Time(now / 3 * (step % 3)), Time(now));
            now += step % 97 * 30_000;
            control.on_executed(&Executed { now: Time(now), sequence, requests, arrived, proposed });
            assert!((1..=requests_max).contains(&control.limit));
        }
    }
}

#[test]
fn percentiles_are_those_of_requests_over_the_newest_batches() {
    let mut window = Window::default();
    let batch = |total: u64, waited: u64, requests| Executed {
        now: Time(1_000_000 + total),
        sequence: crate::types::SequenceNumber(1),
        requests,
        arrived: Time(1_000_000),
        proposed: Time(1_000_000 + waited),
    };
    assert_eq!(window.measure().p99_ns, 0);
    window.push(&batch(900, 0, 1)); // of 100 requests this one is above the percentile
    window.push(&batch(500, 100, 99));
    let measured = window.measure();
    assert_eq!((measured.p99_ns, measured.mean_ns, measured.mean_waited_ns), (500, 504, 99));
    assert_eq!(measured.requests_max, 99);
    window.push(&batch(900, 0, 1));
    assert_eq!(window.measure().p99_ns, 900);
    assert!(!window.is_full());
    for _ in 0..WINDOW {
        window.push(&batch(10, 0, 4));
    }
    assert!(window.is_full());
    assert_eq!((window.measure().p99_ns, window.measure().requests_max), (10, 4));
}

/// The last batches under the old limit say nothing of the new one.
#[test]
fn batches_that_were_proposed_before_a_change_are_not_counted() {
    let mut control = Control::new(MILLISECOND, 1024);
    let (before, first) = (control.limit, crate::types::SequenceNumber(1));
    let batch = |proposed: u64, requests| Executed {
        now: Time(proposed + 100),
        sequence: first,
        requests,
        arrived: Time(proposed),
        proposed: Time(proposed),
    };
    for step in 1..=EPOCH as u64 {
        control.on_executed(&batch(1000 + step, before));
    }
    assert_eq!(control.limit, 2 * before);
    for _ in 0..EPOCH {
        control.on_executed(&batch(1000, 2 * before));
    }
    assert_eq!(control.limit, 2 * before);
    for _ in 0..EPOCH {
        control.on_executed(&batch(2000, 2 * before));
    }
    assert_eq!(control.limit, 4 * before);
}
