//! Pieces of option objects for Apache ECharts that several charts share. Strings that begin with `@` are colours and
//! functions of `analysis/assets/page/charts.js`.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Viridis (Smith and van der Walt 2015), from least to most: even in brightness, so that it survives printing in grey.
pub(super) const VIRIDIS: [&str; 6] = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"];

/// The colour of words on the colour of [`VIRIDIS`] at this share of its length.
pub(super) fn words_on_viridis(share: f64) -> &'static str {
    if share < 0.6 { "#ffffff" } else { "#10151b" }
}

/// Points of a percentile curve in each factor of ten of 1 / (1 - p).
const POINTS_PER_DECADE: u32 = 32;
/// Beyond 99.9999 % a curve shows single operations.
const DECADES_MAX: f64 = 6.0;
/// Where greatest and least differ by more than this factor, the axis is logarithmic.
const LINEAR_RATIO_MAX: f64 = 30.0;

/// Where a percentile, in percent, is drawn: the logarithm of 1 / (1 - p), so that 90, 99 and 99.9 % are equally far
/// from each other.
pub(super) fn place(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

/// Latency (µs) by percentile, as points for an axis of [`place`]s, as far as the histogram's count says anything.
#[allow(clippy::cast_precision_loss, reason = "drawn with fewer digits")]
pub(super) fn percentile_curve(histogram: &Histogram<u64>) -> Vec<[f64; 2]> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let end = (histogram.len() as f64).log10().clamp(1.0, DECADES_MAX);
    let step = 1.0 / f64::from(POINTS_PER_DECADE);
    let places = (0..).map(|index| f64::from(index) * step).take_while(|place| *place < end);
    let us = |place: f64| histogram.value_at_quantile(1.0 - 10f64.powf(-place)) as f64 / 1000.0;
    let mut points: Vec<[f64; 2]> = places.map(|place| [round(place, 5), us(place)]).collect();
    points.push([round(end, 5), histogram.max() as f64 / 1000.0]);
    points
}

/// The axis of percentiles, up to a [`place`].
pub(super) fn percentile_axis(end: f64) -> Value {
    let mut ticks = vec![0.0, place(50.0)];
    ticks.extend((1..).map(f64::from).take_while(|tick| *tick <= end + 0.01));
    json!({
        "type": "value", "min": 0, "max": round(end, 3), "name": "percentile", "nameLocation": "middle", "nameGap": 30,
        "axisLabel": { "formatter": "@fn:percentile", "customValues": ticks, "hideOverlap": true },
        "axisTick": { "customValues": ticks },
        "splitLine": { "show": true },
    })
}

/// An axis of times (µs) for these values: linear from 0, or logarithmic where they differ by much.
pub(super) fn time_axis(values: impl IntoIterator<Item = f64>, name: &str) -> Value {
    number_axis(values, name, "@fn:time")
}

/// The same for any figure, with the function that writes its labels.
pub(super) fn number_axis(values: impl IntoIterator<Item = f64>, name: &str, format: &str) -> Value {
    let (mut least, mut most) = (f64::INFINITY, 0.0f64);
    for value in values.into_iter().filter(|value| *value > 0.0 && value.is_finite()) {
        (least, most) = (least.min(value), most.max(value));
    }
    let label = json!({ "formatter": format, "hideOverlap": true });
    if most > least * LINEAR_RATIO_MAX {
        // A tick of a logarithmic axis is a power of ten: ends there say where the curve stands.
        let (low, high) = (10f64.powf(least.log10().floor()), 10f64.powf(most.log10().ceil()));
        return json!({ "type": "log", "name": name, "min": low, "max": high, "axisLabel": label,
            "nameTextStyle": { "align": "left" }, "minorSplitLine": { "show": true } });
    }
    json!({ "type": "value", "name": name, "min": 0, "axisLabel": label, "nameTextStyle": { "align": "left" } })
}

/// A grid that keeps its labels inside.
pub(super) fn grid(top: u32, bottom: u32) -> Value {
    within(json!({ "left": 12, "right": 24, "top": top, "bottom": bottom }))
}

/// The same grid with its axes' labels inside of it.
pub(super) fn within(mut grid: Value) -> Value {
    grid["outerBoundsMode"] = json!("same");
    grid["outerBoundsContain"] = json!("axisLabel");
    grid
}

/// One of several grids below each other, whose axes of time must be in line whatever their labels.
pub(super) fn stacked_grid(top: u32, height: u32) -> Value {
    json!({ "left": 66, "right": 22, "top": top, "height": height, "outerBoundsMode": "none" })
}

/// Drawn and read with so many decimals: files stay small.
pub(super) fn round(value: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_drawn_where_hdrhistogram_draws_them() {
        assert!((place(90.0) - 1.0).abs() < 1e-9 && (place(99.9) - 3.0).abs() < 1e-9);
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1000u64).for_each(|us| histogram.record(us * 1000).unwrap());
        let curve = percentile_curve(&histogram);
        assert_eq!(curve.last().unwrap()[0], 3.0, "a thousand operations say nothing beyond 99.9 %");
        let at = |place: f64| curve.iter().find(|point| (point[0] - place).abs() < 1e-9).unwrap()[1];
        assert!((at(1.0) - 900.0).abs() < 1.0 && (at(2.0) - 990.0).abs() < 1.0, "{curve:?}");
        assert!((curve.last().unwrap()[1] - 1000.0).abs() < 1.0);
        assert!(curve.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1]));
        assert_eq!(percentile_curve(&Histogram::<u64>::new(3).unwrap()), Vec::<[f64; 2]>::new());
    }

    #[test]
    fn wide_ranges_get_a_logarithmic_axis() {
        assert_eq!(time_axis([2.0, 20.0], "")["type"], "value");
        let wide = time_axis([0.0, 3.0, 5000.0], "");
        assert_eq!((&wide["type"], &wide["min"], &wide["max"]), (&json!("log"), &json!(1.0), &json!(10_000.0)));
        assert_eq!(time_axis([], "")["type"], "value");
    }
}
