//! Whether a primary that misses no deadline is late all the same, on purpose or because it is not fit for its task.
//!
//! A backup knows since when a request that its client sent to everybody has been waited for, and during how much of
//! that time the primary had nothing under way. A primary that is merely overloaded always has something under way; one
//! that lets requests lie has not. If a client's requests lie again and again, the primary is replaced (the aim of
//! Aardvark's demands on primaries, NSDI'09, section 4.3, without a rate that must be known beforehand).
//!
//! That may be unfounded where the network is slow, and then the next primary will look no better. So each replacement
//! that did not help doubles how often it takes until the next one.

use std::collections::BTreeMap;

use crate::types::Time;

/// A request is late if it was waited for longer than so many eighths of the view time-out,
const LATE_EIGHTHS: u64 = 3;
/// and the primary had nothing under way for so many of them.
const IDLE_EIGHTHS: u64 = 2;
/// Evidence is gathered in periods of this part of the view time-out.
const PERIOD_FRACTION: u64 = 4;
/// After so many periods with late requests, with nothing in time between them, the primary is replaced.
const LATE_PERIODS: u32 = 4;
/// Periods that are farther apart have nothing to do with each other.
const APART_PERIODS: u64 = 8;
/// How often both double.
const DOUBLINGS_MAX: u32 = 6;

/// How the primary has served each principal in this view, and how busy it was.
#[derive(Debug)]
pub(super) struct Slowness {
    timeout_ns: u64,
    /// For how long the primary had nothing under way, up to when it last began to have nothing.
    idle_ns: u64,
    /// Since when it has nothing under way, if so.
    idle_since: Option<Time>,
    served: BTreeMap<u32, Served>,
}

/// How one principal was served.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    /// The last period with a request of it, and whether one was late.
    period: u64,
    late: bool,
    /// Periods before that one with late requests, in a row.
    before: u32,
    /// How many primaries were replaced for it in vain.
    replaced: u32,
}

impl Served {
    /// Whether the last period with a request is so long ago that it says nothing about `period`.
    const fn is_outdated(&self, period: u64) -> bool {
        period.saturating_sub(self.period) > APART_PERIODS << self.replaced
    }

    /// Begins a period, unless it is the last one.
    fn begin(&mut self, period: u64) {
        if self.is_outdated(period) {
            *self = Self::default();
        }
        if self.period != period {
            self.before = if self.late { self.before + 1 } else { 0 };
            (self.period, self.late) = (period, false);
        }
    }

    /// Periods in a row with late requests, the last one included.
    const fn late_periods(&self) -> u32 {
        if self.late { self.before + 1 } else { 0 }
    }
}

impl Slowness {
    /// From `now` on, under a view time-out of `timeout_ns`. Nothing is under way.
    pub(super) const fn new(timeout_ns: u64, now: Time) -> Self {
        Self { timeout_ns, idle_ns: 0, idle_since: Some(now), served: BTreeMap::new() }
    }

    /// A view starts; its primary has something `under_way` or not.
    pub(super) fn begin_view(&mut self, under_way: bool, now: Time) {
        self.note_work(under_way, now);
        for served in self.served.values_mut() {
            (served.late, served.before) = (false, 0);
        }
    }

    /// The primary has something `under_way` from now on, or nothing.
    pub(super) fn note_work(&mut self, under_way: bool, now: Time) {
        match (self.idle_since, under_way) {
            (Some(since), true) => {
                self.idle_ns = self.idle_ns.saturating_add(now.since(since));
                self.idle_since = None;
            }
            (None, false) => self.idle_since = Some(now),
            _ => {}
        }
    }

    /// For how long the primary has had nothing under way in all.
    pub(super) fn idle_ns(&self, now: Time) -> u64 {
        self.idle_ns.saturating_add(self.idle_since.map_or(0, |since| now.since(since)))
    }

    /// A request of `principal` commits that was waited for since `since`, when the primary had been idle for
    /// `idle_ns`. True if it is one late request too many.
    pub(super) fn note_served(&mut self, principal: u32, since: Time, idle_ns: u64, now: Time) -> bool {
        let eighth = self.timeout_ns / 8;
        let idle = self.idle_ns(now).saturating_sub(idle_ns);
        let late = now.since(since) >= LATE_EIGHTHS * eighth && idle >= IDLE_EIGHTHS * eighth;
        let served = self.served.entry(principal).or_default();
        served.begin(now.0 / (self.timeout_ns / PERIOD_FRACTION).max(1));
        served.late |= late;
        if !served.late && served.before == 0 {
            served.replaced = 0;
        }
        let too_slow = late && served.late_periods() >= LATE_PERIODS << served.replaced;
        if too_slow {
            served.replaced = (served.replaced + 1).min(DOUBLINGS_MAX);
        }
        too_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT_NS: u64 = 8_000;

    /// The primary has something under way.
    fn busy() -> Slowness {
        let mut slowness = Slowness::new(TIMEOUT_NS, Time(0));
        slowness.note_work(true, Time(0));
        slowness
    }

    /// Serves one request each `every`, after `waited` of which the primary was idle for `idle`. After how many
    /// requests is the primary too slow?
    fn serve(slowness: &mut Slowness, from: Time, every: u64, waited: u64, idle: u64) -> Option<u64> {
        (1..=200).find(|round| {
            let now = Time(from.0 + round * every);
            slowness.idle_ns += idle;
            slowness.note_served(7, Time(now.0 - waited), slowness.idle_ns - idle, now)
        })
    }

    #[test]
    fn only_requests_that_lie_while_nothing_is_under_way_count() {
        let slow = |waited, idle| serve(&mut busy(), Time(100_000), 4_000, waited, idle);
        assert_eq!(slow(3_000, 2_000), Some(4));
        assert_eq!(slow(2_999, 2_999), None, "in time");
        assert_eq!(slow(7_999, 1_999), None, "overloaded");
    }

    #[test]
    fn a_row_of_late_periods_is_broken_by_one_in_time_and_by_a_long_pause() {
        let mut slowness = busy();
        let mut serve = |at, waited| {
            slowness.idle_ns += waited;
            slowness.note_served(7, Time(at - waited), slowness.idle_ns - waited, Time(at))
        };
        for at in [10_000, 12_000, 14_000] {
            assert!(!serve(at, 4_000));
        }
        assert!(!serve(14_500, 10), "late and in time in one period: late");
        assert!(!serve(16_000, 10));
        for at in [18_000, 20_000, 22_000] {
            assert!(!serve(at, 4_000));
        }
        for at in [60_000, 62_000, 64_000] {
            assert!(!serve(at, 4_000), "what was long ago does not count");
        }
        assert!(serve(66_000, 4_000));
    }

    #[test]
    fn another_principal_that_is_served_in_time_excuses_nothing() {
        let mut slowness = busy();
        let slow = (1..=10u64).find(|round| {
            let now = Time(round * 4_000);
            slowness.idle_ns += 3_000;
            assert!(!slowness.note_served(8, now, slowness.idle_ns, now));
            slowness.note_served(7, Time(now.0 - 3_000), slowness.idle_ns - 3_000, now)
        });
        assert_eq!(slow, Some(4));
    }

    #[test]
    fn replacements_in_vain_take_longer_and_longer_until_one_helps() {
        let mut slowness = busy();
        let mut at = Time(100_000);
        let mut again = |slowness: &mut Slowness| {
            slowness.begin_view(true, at);
            let rounds = serve(slowness, at, 2_000, 3_000, 3_000).unwrap();
            at = Time(at.0 + rounds * 2_000);
            rounds
        };
        let rounds: Vec<u64> = (0..5).map(|_| again(&mut slowness)).collect();
        assert_eq!(rounds, [4, 8, 16, 32, 64]);
        for ahead in 1..=2 {
            let now = Time(at.0 + ahead * 2_000);
            assert!(!slowness.note_served(7, now, slowness.idle_ns, now));
        }
        at = Time(at.0 + 4_000);
        slowness.begin_view(true, at);
        assert_eq!(serve(&mut slowness, at, 2_000, 3_000, 3_000), Some(4));
    }

    #[test]
    fn each_view_is_judged_by_itself() {
        let mut slowness = busy();
        for round in 1..=200 {
            let now = Time(round * 2_000);
            slowness.begin_view(true, now);
            slowness.idle_ns += 3_000;
            assert!(!slowness.note_served(7, Time(now.0.saturating_sub(3_000)), slowness.idle_ns - 3_000, now));
        }
    }

    #[test]
    fn idle_time_is_what_lies_between_works() {
        let mut slowness = busy();
        slowness.begin_view(false, Time(10));
        assert_eq!(slowness.idle_ns(Time(15)), 5);
        slowness.begin_view(false, Time(16));
        slowness.note_work(true, Time(20));
        slowness.note_work(true, Time(30));
        assert_eq!(slowness.idle_ns(Time(40)), 10);
        slowness.note_work(false, Time(40));
        slowness.note_work(false, Time(50));
        assert_eq!(slowness.idle_ns(Time(60)), 30);
    }
}
