//! What texts and pages say of points alike: which is the best one, what one without figures is, what it has besides.

use super::{Point, Spread, Sweep, Varied};
use crate::shown::Shown;

/// Points that runs do not tell from the best one, so many are named.
const CLOSE_TOLD: usize = 3;

/// The best point by a figure.
pub(crate) struct Best<'a> {
    /// Which.
    pub(crate) point: &'a Point,
    /// The figure over its VALID runs.
    pub(crate) spread: Spread,
    /// Which points its runs do not tell from it, to be put behind its range; empty if they tell it from all.
    pub(crate) caveat: String,
}

/// The best point by a figure: the one with the best median.
pub(crate) fn best<'a>(sweep: &'a Sweep, shown: &Shown) -> Option<Best<'a>> {
    let mut ranked: Vec<(&Point, Spread)> = sweep.points.iter().filter_map(|p| Some((p, *shown.of(p)?))).collect();
    let sign = if shown.more { -1.0 } else { 1.0 };
    ranked.sort_by(|(_, a), (_, b)| (a.median * sign).total_cmp(&(b.median * sign)));
    let ((point, spread), others) = ranked.split_first()?;
    let overlaps = |other: &Spread| other.lowest <= spread.highest && spread.lowest <= other.highest;
    let close: Vec<String> =
        others.iter().filter(|(_, other)| overlaps(other)).map(|(p, _)| sweep.label(&p.settings)).collect();
    let caveat = match close.as_slice() {
        [] => String::new(),
        few if few.len() <= CLOSE_TOLD => format!("; its runs overlap with those of {}", few.join(", ")),
        many => format!("; its runs overlap with those of {} other points", many.len()),
    };
    Some(Best { point, spread: *spread, caveat })
}

/// Every value of each with every value of the others.
pub(crate) fn combinations(varied: &[&Varied]) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    for Varied { values, .. } in varied {
        let with = |head: &Vec<String>, value: &String| head.iter().chain([value]).cloned().collect();
        all = all.iter().flat_map(|head| values.iter().map(move |value| with(head, value))).collect();
    }
    all
}

impl Point {
    /// What stands where it has no figure, for want of a VALID run.
    pub(crate) const fn lacking(&self) -> &'static str {
        match (self.summary.invalid, self.summary.failed) {
            (0, 0) => "not run",
            (0, _) => "FAILED",
            _ => "INVALID",
        }
    }

    /// What only this point has besides: `clients=400 duration=5s`.
    pub(crate) fn adjusted_in_words(&self) -> String {
        self.adjusted.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_all_of_them_in_order() {
        let varied = |values: &[&str]| Varied { key: "k".into(), values: values.iter().map(|&v| v.into()).collect() };
        let (a, b) = (varied(&["1", "2"]), varied(&["x", "y"]));
        assert_eq!(combinations(&[&a, &b]), [["1", "x"], ["1", "y"], ["2", "x"], ["2", "y"]]);
        assert_eq!(combinations(&[]), [[""; 0]]);
    }
}
