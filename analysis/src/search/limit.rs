//! Which rate to try next: a pure state machine that is told what came of each.
//!
//! Rates lie on a grid, each `resolution` above the one below, so that they are numbers and the search is one for the
//! last number that holds. The grid is the same for all searches of one resolution, wherever they begin. One run may be
//! wrong, above all close to the limit: what one run says of a rate is used to get there (exponential growth, then
//! bisection), and the answer rests on several runs of the two rates on either side of the limit, interleaved; where
//! they say otherwise, the search moves on from there.
//!
//! A rate is sure when the runs that say one thing of it outnumber those that say the other by so many. Where runs
//! agree that takes no more runs than the lead itself, and where they do not as many as the noise asks for, the fewest
//! that can be for the same risk: the sequential probability ratio test of p against 1 - p (Wald, "Sequential Tests of
//! Statistical Hypotheses", 1945). At a rate that 5 of 8 runs meet in the long run, a lead of 5 errs 7 times in 100, a
//! majority of 5 runs 28 times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Lowest and highest rate that is tried, against the calibration's.
const LOWEST: f64 = 1.0 / 4096.0;
const HIGHEST: f64 = 8.0;
/// The first rate that is tried, against the calibration's.
const FIRST: f64 = 1.0 / 8.0;
/// Most runs: a machine that never says the same twice ends the search, too.
pub const RUNS_MAX: usize = 200;

/// Why a rate is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// To find a rate that is too high, and one that is not.
    #[default]
    Growth,
    /// Halfway between them.
    Bisection,
    /// Once more, to be sure.
    Confirmation,
    /// For the curve.
    Curve,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Try this rate, operations a second, and say what came of it.
    Try(f64, Phase),
    /// Nothing: this is what was found.
    Done(Found),
}

/// How many runs of a rate met the objectives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Operations a second.
    pub rate: f64,
    /// Runs that were made to be sure.
    pub runs: u32,
    /// Those of them that met all objectives.
    pub met: u32,
}

impl Confirmed {
    /// By how many the runs that met all objectives outnumber those that did not.
    #[must_use]
    pub fn lead(&self) -> i64 {
        lead((self.runs, self.met))
    }
}

/// Where the limit lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The highest rate that surely meets the objectives; `null` if there is none.
    pub confirmed: Option<Confirmed>,
    /// The lowest rate above it that surely does not; `null` if there is none.
    pub refuted: Option<Confirmed>,
}

/// The search.
#[derive(Clone, Debug)]
pub struct LimitSearch {
    /// How much higher each rate is than the one below. The rate at place 0 is one operation a second.
    factor: f64,
    /// By how many runs one answer must outnumber the other to be sure of a rate.
    lead: u32,
    lowest: i32,
    highest: i32,
    /// The highest place that held, and the lowest that did not, so far.
    low: Option<i32>,
    high: Option<i32>,
    stage: Stage,
    /// Runs to be sure, by place: how many, and how many of them met the objectives.
    sure: BTreeMap<i32, (u32, u32)>,
    made: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The place under way, on the way up or down.
    Growing(i32),
    Bisecting(i32),
    /// How far the next move goes, and which way the last one went.
    Confirming {
        stride: i32,
        up: Option<bool>,
        under_way: i32,
    },
}

impl LimitSearch {
    /// A search around a rate that the cluster is known to come near, operations a second. `resolution` is how far
    /// rates lie apart (0.05 is 5 %), `lead` by how many runs one answer must outnumber the other to be sure of a rate.
    ///
    /// # Panics
    /// If one of them is not above zero.
    #[must_use]
    pub fn new(around: f64, resolution: f64, lead: u32) -> Self {
        assert!(around > 0.0 && resolution > 0.0 && lead > 0, "a search needs a rate, a resolution and a lead");
        let factor = 1.0 + resolution;
        #[allow(clippy::cast_possible_truncation, reason = "a few thousand places")]
        let place = |share: f64| ((around * share).ln() / factor.ln()).round() as i32;
        Self {
            factor,
            lead,
            lowest: place(LOWEST),
            highest: place(HIGHEST),
            low: None,
            high: None,
            stage: Stage::Growing(place(FIRST)),
            sure: BTreeMap::new(),
            made: 0,
        }
    }

    /// What to do next. Asked again before an answer, it says the same.
    #[must_use]
    pub fn next(&self) -> Step {
        if self.made >= RUNS_MAX || self.is_settled() {
            return Step::Done(self.found());
        }
        match self.stage {
            Stage::Growing(place) => Step::Try(self.rate(place), Phase::Growth),
            Stage::Bisecting(place) => Step::Try(self.rate(place), Phase::Bisection),
            Stage::Confirming { under_way, .. } => Step::Try(self.rate(under_way), Phase::Confirmation),
        }
    }

    /// What came of the rate that was to be tried.
    pub fn on_outcome(&mut self, met: bool) {
        self.made += 1;
        match self.stage {
            Stage::Growing(place) => self.grew(place, met),
            Stage::Bisecting(place) => {
                if met {
                    self.low = Some(place)
                } else {
                    self.high = Some(place)
                }
                self.bisect();
            }
            Stage::Confirming { under_way, stride, up } => {
                let (runs, held) = self.sure.entry(under_way).or_default();
                *runs += 1;
                *held += u32::from(met);
                self.confirm(stride, up);
            }
        }
    }

    /// About how many runs are still to come.
    #[must_use]
    pub fn runs_left(&self) -> usize {
        let gap = |low: i32, high: i32| usize::try_from((high - low).max(1).ilog2()).unwrap_or(0);
        let double = self.doubling();
        let sure = 2 * self.lead as usize;
        match self.stage {
            _ if matches!(self.next(), Step::Done(_)) => 0,
            Stage::Growing(_) => 3 + gap(0, double) + sure,
            Stage::Bisecting(_) => gap(self.low.unwrap_or(0), self.high.unwrap_or(double)) + sure,
            Stage::Confirming { .. } => {
                let leads = |place: Option<i32>, sign: i64| place.map_or(0, |place| sign * lead(self.sure_of(place)));
                let missing = |leads: i64| usize::try_from(i64::from(self.lead) - leads).unwrap_or(0);
                (missing(leads(self.low, 1)) + missing(leads(self.high, -1))).max(1)
            }
        }
    }

    fn rate(&self, place: i32) -> f64 {
        self.factor.powi(place)
    }

    /// How many places lie between a rate and twice that.
    #[allow(clippy::cast_possible_truncation, reason = "a few hundred places at most")]
    fn doubling(&self) -> i32 {
        ((2.0_f64.ln() / self.factor.ln()).round() as i32).max(1)
    }

    fn grew(&mut self, place: i32, met: bool) {
        let double = self.doubling();
        if met {
            self.low = Some(place)
        } else {
            self.high = Some(place)
        }
        let next = match (self.low, self.high) {
            (Some(low), None) if low < self.highest => Some((low + double).min(self.highest)),
            (None, Some(high)) if high > self.lowest => Some((high - double).max(self.lowest)),
            _ => None,
        };
        match next {
            Some(place) => self.stage = Stage::Growing(place),
            None => self.bisect(),
        }
    }

    fn bisect(&mut self) {
        match (self.low, self.high) {
            (Some(low), Some(high)) if high - low > 1 => self.stage = Stage::Bisecting(i32::midpoint(low, high)),
            _ => self.confirm(1, None),
        }
    }

    /// How many runs there were to be sure of a place, and how many of them met the objectives.
    fn sure_of(&self, place: i32) -> (u32, u32) {
        self.sure.get(&place).copied().unwrap_or_default()
    }

    /// What a place's runs to be sure say of it, as soon as one answer leads by enough.
    fn decided(&self, place: i32) -> Option<bool> {
        let leads = lead(self.sure_of(place));
        (leads.unsigned_abs() >= u64::from(self.lead)).then_some(leads > 0)
    }

    /// Moves on if the runs on either side of the limit say that it lies elsewhere, and chooses the next run.
    fn confirm(&mut self, mut stride: i32, mut up: Option<bool>) {
        loop {
            let low_fails = self.low.is_some_and(|low| self.decided(low) == Some(false));
            let high_holds = self.high.is_some_and(|high| self.decided(high) == Some(true));
            if !low_fails && !high_holds {
                break;
            }
            // What a lower rate surely misses, a higher one met by luck.
            let upwards = !low_fails;
            stride = if up == Some(upwards) { stride * 2 } else { 1 };
            up = Some(upwards);
            if upwards {
                self.low = self.high;
                self.high = self.low.map(|low| (low + stride).min(self.highest)).filter(|high| Some(*high) != self.low);
            } else {
                self.high = self.low;
                self.low = self.high.map(|high| (high - stride).max(self.lowest)).filter(|low| Some(*low) != self.high);
            }
        }
        let under_way = self.next_to_confirm();
        self.stage = Stage::Confirming { stride, up, under_way: under_way.unwrap_or(0) };
    }

    /// The place that the next run makes sure of: of the two beside the limit the one with fewer runs, in turn
    /// (low, high, high, low) where they are equal; a place between them as soon as both hold what was thought of them.
    fn next_to_confirm(&mut self) -> Option<i32> {
        if let (Some(low), Some(high)) = (self.low, self.high)
            && high - low > 1
            && self.decided(low) == Some(true)
            && self.decided(high) == Some(false)
        {
            let middle = i32::midpoint(low, high);
            match self.decided(middle) {
                None => return Some(middle),
                Some(true) => self.low = Some(middle),
                Some(false) => self.high = Some(middle),
            }
            return self.next_to_confirm();
        }
        let open = |place: Option<i32>| place.filter(|place| self.decided(*place).is_none());
        match (open(self.low), open(self.high)) {
            (Some(low), Some(high)) => {
                let (of_low, of_high) = (self.sure_of(low).0, self.sure_of(high).0);
                let low_first = of_low < of_high || of_low == of_high && of_low % 2 == 0;
                Some(if low_first { low } else { high })
            }
            (one, other) => one.or(other),
        }
    }

    /// Whether the runs beside the limit are sure of what was thought.
    fn is_settled(&self) -> bool {
        let Stage::Confirming { .. } = self.stage else { return false };
        let is_sure = |place: Option<i32>, holds: bool| place.is_none_or(|place| self.decided(place) == Some(holds));
        let adjacent = self.low.zip(self.high).is_none_or(|(low, high)| high - low == 1);
        adjacent && is_sure(self.low, true) && is_sure(self.high, false)
    }

    /// Where the limit lies, as far as is known.
    #[must_use]
    pub fn found(&self) -> Found {
        let confirmed = |place: Option<i32>| {
            place.map(|place| {
                let (runs, met) = self.sure_of(place);
                Confirmed { rate: self.rate(place), runs, met }
            })
        };
        Found { confirmed: confirmed(self.low), refuted: confirmed(self.high) }
    }
}

/// By how many the runs that met all objectives outnumber those that did not, of (all, those that did).
fn lead((runs, met): (u32, u32)) -> i64 {
    2 * i64::from(met) - i64::from(runs)
}
