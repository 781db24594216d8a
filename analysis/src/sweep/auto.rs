//! How good `auto` is where a sweep has it beside what it could have taken.

use super::{Point, Spread, Sweep};
use crate::shown::THROUGHPUT;

/// A sentence on each point with `auto` among its settings: how its throughput compares with the best of those that
/// differ from it only where it has `auto`.
pub(crate) fn auto_in_words(sweep: &Sweep) -> Vec<String> {
    sweep.points.iter().filter_map(|point| verdict(sweep, point)).collect()
}

fn verdict(sweep: &Sweep, auto: &Point) -> Option<String> {
    let value = |point: &Point, key: &str| point.settings.get(key).cloned().unwrap_or_default();
    let name = |point: &Point, keys: &[&str]| {
        keys.iter().map(|key| format!("{key}={}", value(point, key))).collect::<Vec<_>>().join(" ")
    };
    let keys = sweep.varied.iter().map(|varied| varied.key.as_str());
    let (left_open, fixed): (Vec<&str>, Vec<&str>) = keys.partition(|key| value(auto, key) == "auto");
    if left_open.is_empty() {
        return None;
    }
    let is_other =
        |other: &&Point| !std::ptr::eq(*other, auto) && fixed.iter().all(|key| value(other, key) == value(auto, key));
    let others: Vec<&Point> = sweep.points.iter().filter(is_other).collect();
    let measured = others.iter().filter_map(|point| Some((*point, THROUGHPUT.of(point)?)));
    let (best, of_best) = measured.max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))?;
    let place = if fixed.is_empty() { String::new() } else { format!("{}: ", name(auto, &fixed)) };
    let best = name(best, &left_open);
    let Some(of_auto) = THROUGHPUT.of(auto) else {
        return Some(format!("{place}auto has no VALID run; the best is {best}"));
    };
    let caveat = if overlap(of_auto, of_best) { "; their runs overlap" } else { "" };
    Some(if of_auto.median >= of_best.median {
        let ahead = behind_percent(of_best, of_auto);
        format!("{place}auto is the best; {best} is next, {ahead:.1} % behind{caveat}")
    } else {
        let behind = behind_percent(of_auto, of_best);
        format!("{place}auto is within {behind:.1} % of the best, {best}{caveat}")
    })
}

/// How far the one is behind the other, which is better, percent.
fn behind_percent(one: &Spread, better: &Spread) -> f64 {
    if better.median > 0.0 { 100.0 * (better.median - one.median) / better.median } else { 0.0 }
}

fn overlap(a: &Spread, b: &Spread) -> bool {
    a.lowest <= b.highest && b.lowest <= a.highest
}

#[cfg(test)]
mod tests {
    use super::super::{Summary, Varied};
    use super::*;

    /// Points by placement and clients, each with its median; runs are within 1 % of it.
    fn sweep(points: &[(&str, &str, Option<f64>)]) -> Sweep {
        let varied = ["clients", "placement"].map(|key| Varied { key: key.into(), values: Vec::new() });
        let point = |(placement, clients, median): &(&str, &str, Option<f64>)| {
            let spread =
                |median: f64| Spread { median, lowest: median * 0.99, highest: median * 1.01, ..Spread::default() };
            let figures = median.map(|median| ("ops_per_s".to_owned(), spread(median))).into_iter().collect();
            let settings = [("placement", placement), ("clients", clients)];
            Point {
                settings: settings.map(|(key, value)| (key.to_owned(), (*value).to_owned())).into_iter().collect(),
                summary: Summary { figures, ..Summary::default() },
                ..Point::default()
            }
        };
        Sweep { varied: varied.to_vec(), points: points.iter().map(point).collect(), ..Sweep::default() }
    }

    #[test]
    fn auto_is_compared_with_what_differs_in_nothing_else() {
        let of = |points: &[(&str, &str, Option<f64>)]| auto_in_words(&sweep(points));
        let points = [
            ("fused", "1", Some(100.0)),
            ("pipelined", "1", Some(200.0)),
            ("auto", "1", Some(150.0)),
            ("fused", "9", Some(999.0)),
            ("pipelined", "9", Some(500.0)),
            ("auto", "9", Some(1000.0)),
        ];
        let expected = [
            "clients=1: auto is within 25.0 % of the best, placement=pipelined",
            "clients=9: auto is the best; placement=fused is next, 0.1 % behind; their runs overlap",
        ];
        assert_eq!(of(&points), expected);
        assert_eq!(of(&points[..2]), [""; 0], "no auto");
        assert_eq!(of(&points[2..3]), [""; 0], "nothing to compare it with");
        let failed = [("auto", "1", None), ("fused", "1", Some(1.0)), ("pipelined", "1", None)];
        assert_eq!(of(&failed), ["clients=1: auto has no VALID run; the best is placement=fused"]);
    }

    #[test]
    fn what_else_was_left_open_is_no_difference() {
        let mut sweep = sweep(&[("auto", "1", Some(90.0)), ("fused", "1", Some(100.0)), ("fused", "1", Some(95.0))]);
        sweep.varied.push(Varied { key: "wait".into(), values: Vec::new() });
        for (point, wait) in sweep.points.iter_mut().zip(["auto", "yield", "park"]) {
            point.settings.insert("wait".into(), wait.into());
        }
        assert_eq!(auto_in_words(&sweep), ["clients=1: auto is within 10.0 % of the best, placement=fused wait=yield"]);
        sweep.varied.remove(0);
        assert_eq!(auto_in_words(&sweep), ["auto is within 10.0 % of the best, placement=fused wait=yield"]);
    }
}
