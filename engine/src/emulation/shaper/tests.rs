//! The shaper against what it promises, whatever is pushed when.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn shaper(link: &str, seed: u64) -> Shaper<usize> {
    Shaper::new(&[link.parse().unwrap()], seed)
}

/// Pushes frames of these sizes, each so long after the one before, and takes them out when they are due: due time and
/// number of each that arrived.
fn run(shaper: &mut Shaper<usize>, frames: &[(u64, usize)]) -> (Vec<Time>, Vec<(Time, usize)>) {
    let (mut now, mut pushed, mut arrived) = (Time(1), Vec::new(), Vec::new());
    for (number, (pause, bytes)) in frames.iter().enumerate() {
        now = now.after(*pause);
        drain(shaper, now, &mut arrived);
        pushed.push(now);
        let _ = shaper.push(now, 0, *bytes, number);
    }
    drain(shaper, Time(u64::MAX), &mut arrived);
    (pushed, arrived)
}

fn drain(shaper: &mut Shaper<usize>, until: Time, arrived: &mut Vec<(Time, usize)>) {
    while let Some(due) = shaper.next_due().filter(|due| *due <= until) {
        assert_eq!(shaper.pop_due(Time(due.0 - 1)), None, "a frame left before it was due");
        let (link, number) = shaper.pop_due(due).unwrap();
        assert_eq!(link, 0);
        arrived.push((due, number));
    }
}

fn any_link() -> impl Strategy<Value = LinkModel> {
    (0u64..50, 0u64..20, any::<bool>(), any::<bool>(), proptest::option::of(10_000u64..1_000_000_000)).prop_map(
        |(delay, jitter, uniform, reorder, bandwidth)| {
            let text = format!(
                "delay={delay}ms,jitter={jitter}ms,distribution={},reorder={}",
                if uniform { "uniform" } else { "normal" },
                if reorder { "on" } else { "off" }
            );
            LinkModel { bandwidth, ..text.parse().unwrap() }
        },
    )
}

proptest! {
    #[test]
    fn no_frame_is_early_and_none_overtakes_unless_told_to(
        model in any_link(),
        seed in any::<u64>(),
        frames in vec((0..5 * MS, 0usize..5000), 1..100),
    ) {
        let mut shaper = Shaper::new(&[model], seed);
        let (pushed, arrived) = run(&mut shaper, &frames);
        prop_assert_eq!(arrived.len(), frames.len());
        for (due, number) in &arrived {
            let takes_ns = model.serialisation_ns(frames[*number].1);
            prop_assert!(*due >= pushed[*number].after_duration(model.delay).after(takes_ns));
        }
        if !model.reorder {
            prop_assert!(arrived.iter().map(|(_, number)| *number).is_sorted());
        }
        prop_assert_eq!((shaper.bytes(0), shaper.counts(0).passed), (0, frames.len() as u64));
    }

    #[test]
    fn without_jitter_and_bandwidth_the_delay_is_exact(delay in 0u64..100, frames in vec((0..5 * MS, 0usize..5000), 1..50)) {
        let (pushed, arrived) = run(&mut shaper(&format!("delay={delay}ms"), 1), &frames);
        for (due, number) in arrived {
            prop_assert_eq!(due, pushed[number].after(delay * MS));
        }
    }

    /// In any interval that begins with an arrival, what arrives after that frame fits the rate.
    #[test]
    fn rate_is_never_exceeded_by_more_than_a_frame(
        model in any_link(),
        bits_per_s in 10_000u64..1_000_000_000,
        frames in vec((0..5 * MS, 0usize..5000), 1..60),
    ) {
        let model = LinkModel { bandwidth: Some(bits_per_s), reorder: false, ..model };
        let (_, arrived) = run(&mut Shaper::new(&[model], 5), &frames);
        for first in 0..arrived.len() {
            let mut bits = 0;
            for (due, number) in &arrived[first + 1..] {
                bits += frames[*number].1 as u128 * 8;
                let interval_ns = u128::from(due.since(arrived[first].0));
                prop_assert!(bits * 1_000_000_000 <= interval_ns * u128::from(bits_per_s));
            }
        }
    }

    #[test]
    fn same_seed_same_fate(model in any_link(), seed in any::<u64>(), frames in vec((0..5 * MS, 0usize..5000), 1..50)) {
        let model = LinkModel { loss_percent: 20.0, ..model };
        let once = || run(&mut Shaper::new(&[model], seed), &frames).1;
        prop_assert_eq!(once(), once());
    }
}

#[test]
fn busy_link_is_used_in_full() {
    // 1000 frames of 1250 bytes at 10 Mbit/s: 1 ms each.
    let (_, arrived) = run(&mut shaper("bandwidth=10Mbit", 1), &vec![(0, 1250); 1000]);
    assert_eq!(arrived.last().unwrap().0, Time(1 + 1000 * MS));
}

#[test]
fn losses_are_as_many_as_chance_allows() {
    for (percent, seed) in [(0.0, 1), (1.0, 2), (50.0, 3), (99.0, 4), (100.0, 5)] {
        let frames = 20_000;
        let mut shaper = shaper(&format!("loss={percent}%"), seed);
        let (_, arrived) = run(&mut shaper, &vec![(0, 10); frames]);
        let chance = percent / 100.0;
        let expected = frames as f64 * chance;
        // Four standard deviations of a binomial distribution, for seeds that never change.
        let bound = 4.0 * (expected * (1.0 - chance)).sqrt();
        let lost = shaper.counts(0).lost;
        assert!((lost as f64 - expected).abs() <= bound, "{percent} %: {lost} of {frames}");
        assert_eq!(arrived.len() as u64 + lost, frames as u64);
    }
}

#[test]
fn jitter_is_distributed_as_it_says() {
    for (distribution, mean, most) in [("uniform", 0.5, 1.0), ("normal", 0.798, 4.0)] {
        let mut shaper = shaper(&format!("jitter=10ms,reorder=on,distribution={distribution}"), 9);
        let (pushed, arrived) = run(&mut shaper, &vec![(0, 10); 20_000]);
        let late: Vec<f64> = arrived.iter().map(|(due, number)| due.since(pushed[*number]) as f64 / 1e7).collect();
        let found = late.iter().sum::<f64>() / late.len() as f64;
        assert!((found - mean).abs() < 0.02, "{distribution}: mean {found}");
        assert!(late.iter().all(|late| *late <= most), "{distribution}");
        assert!(!arrived.iter().map(|(_, number)| *number).is_sorted(), "frames overtake each other");
    }
}

#[test]
fn links_draw_from_numbers_of_their_own() {
    let models = ["loss=50%".parse().unwrap(); 2];
    let fates = |seed| {
        let mut shaper = Shaper::new(&models, seed);
        [0, 1].map(|link| (0..64).map(|item| shaper.push(Time(0), link, 1, item).is_ok()).collect::<Vec<_>>())
    };
    let [first, second] = fates(1);
    assert_ne!(first, second);
    assert_eq!(fates(1), [first.clone(), second]);
    assert_ne!(fates(2)[0], first);
}

#[test]
fn nothing_passes_a_blocked_link_and_everything_passes_afterwards() {
    let open: LinkModel = "delay=10ms".parse().unwrap();
    let mut shaper = Shaper::new(&[open, open], 1);
    shaper.push(Time(0), 0, 100, 'a').unwrap();
    shaper.push(Time(0), 1, 100, 'b').unwrap();
    shaper.set(0, LinkModel { blocked: true, ..open });
    assert_eq!(shaper.push(Time(1), 0, 100, 'c'), Err(Dropped::Blocked));
    assert_eq!(shaper.pop_due(Time(u64::MAX)), Some((1, 'b')), "other links are not concerned");
    assert_eq!(shaper.pop_due(Time(u64::MAX)), None);
    assert_eq!((shaper.bytes(0), shaper.counts(0).blocked), (0, 2));
    shaper.set(0, open);
    shaper.push(Time(5), 0, 100, 'd').unwrap();
    assert_eq!((shaper.next_due(), shaper.pop_due(Time(5 + 10 * MS))), (Some(Time(5 + 10 * MS)), Some((0, 'd'))));
}

#[test]
fn what_is_under_way_is_bounded() {
    let mut shaper = shaper("delay=1s", 1);
    let piece = LINK_BYTES_MAX / 4;
    for item in 0..4 {
        shaper.push(Time(0), 0, piece, item).unwrap();
    }
    assert_eq!(shaper.push(Time(0), 0, 1, 4), Err(Dropped::Full));
    assert_eq!((shaper.counts(0).full, shaper.bytes(0)), (1, LINK_BYTES_MAX));
    assert!(shaper.pop_due(Time(1000 * MS)).is_some());
    shaper.push(Time(1000 * MS), 0, piece, 5).unwrap();
    assert_eq!(shaper.push(Time(0), 7, 1, 6), Err(Dropped::Blocked), "there is no such link");
}

#[test]
fn what_waits_for_bandwidth_is_bounded_as_a_peers_queue_is() {
    // A byte a microsecond.
    let mut shaper = shaper("bandwidth=8Mbit,delay=1s", 1);
    let frame = 1 << 20;
    let frames = PEER_QUEUE_BYTES_MAX / frame;
    for item in 0..=frames {
        shaper.push(Time(0), 0, frame, item).unwrap();
    }
    assert_eq!(shaper.push(Time(0), 0, 1, 0), Err(Dropped::Full));
    // When one of them has left, there is room, although none has arrived.
    let later = Time(frame as u64 * 1000);
    shaper.push(later, 0, frame, 0).unwrap();
    assert_eq!((shaper.pop_due(later), shaper.push(later, 0, 1, 0)), (None, Err(Dropped::Full)));
}

#[test]
fn slower_link_keeps_the_order_of_what_is_under_way() {
    let mut shaper = shaper("delay=50ms", 1);
    shaper.push(Time(0), 0, 10, 0).unwrap();
    shaper.set(0, LinkModel::CLEAR);
    shaper.push(Time(1), 0, 10, 1).unwrap();
    assert_eq!(shaper.next_due(), Some(Time(50 * MS)));
    assert_eq!([shaper.pop_due(Time(50 * MS)), shaper.pop_due(Time(50 * MS))], [Some((0, 0)), Some((0, 1))]);
}
