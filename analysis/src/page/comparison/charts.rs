//! The charts of a comparison.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::super::document::{Cell, Chart, Table, View};
use super::super::option::{number_axis, percentile_axis, percentile_curve, round, time_axis, within};
use super::{headline, labelled, legend, stated, write};
use crate::comparison::figure::Figure as Measured;
use crate::comparison::{Comparison, Ratio};
use crate::summary::time;

/// Ratios farther from 1 than this are drawn by their logarithm.
const LINEAR_RATIO_MAX: f64 = 3.0;

/// Every ratio with its interval: a forest plot.
pub(super) fn forest(comparison: &Comparison) -> Option<Chart> {
    let (mut names, mut dots, mut whiskers) = (Vec::new(), Vec::new(), Vec::new());
    let mut ends = vec![1.0];
    let columns = ["figure", "ratio", "interval from", "to", "p-value", "in words"];
    let mut table = Table::new("", &columns);
    for versus in &comparison.versus {
        for ratio in &versus.figures {
            let Some(estimate) = ratio.ratio else { continue };
            let name = format!("{} {} / {}", ratio.figure.title(), versus.other, versus.base);
            let row = names.len();
            let shown = |ratio: f64| format!("{ratio:.3}");
            let note = note(&name, ratio, estimate);
            ends.push(estimate);
            ends.extend(ratio.interval.iter().flatten());
            if let Some([low, high]) = ratio.interval {
                whiskers.push(json!({ "value": [row, low, high], "note": note }));
            }
            dots.push(json!({ "value": [estimate, row], "note": note, "text": shown(estimate) }));
            names.push(name.clone());
            table.push(vec![
                Cell::Text(name),
                Cell::number(estimate, shown),
                Cell::number(ratio.interval.map(|[low, _]| low), shown),
                Cell::number(ratio.interval.map(|[_, high]| high), shown),
                Cell::number(ratio.p_value, |p| format!("{p:.4}")),
                Cell::text(ratio.statement.clone()),
            ]);
        }
    }
    if names.is_empty() {
        return None;
    }
    let (low, high) = ends.iter().fold((1.0f64, 1.0f64), |(low, high), end| (low.min(*end), high.max(*end)));
    let margin = comparison.margin_percent / 100.0;
    let band = json!({ "silent": true, "itemStyle": { "color": "@shade" },
        "data": [[{ "xAxis": round(1.0 / (1.0 + margin), 5) }, { "xAxis": round(1.0 + margin, 5) }]] });
    let one = json!({ "silent": true, "symbol": "none", "label": { "show": false }, "data": [{ "xAxis": 1 }],
        "lineStyle": { "color": "@mark", "width": 1.5, "type": "solid" } });
    let option = json!({
        "grid": within(json!({ "left": 12, "right": 30, "top": 14, "bottom": 44 })),
        "tooltip": { "formatter": "@fn:note", "confine": true },
        "xAxis": ratio_axis(low, high),
        "yAxis": { "type": "category", "data": names, "inverse": true, "axisTick": { "show": false },
            "axisLabel": { "width": 130, "overflow": "break", "lineHeight": 14, "interval": 0 } },
        "series": [
            { "type": "custom", "name": "interval", "data": whiskers, "renderItem": "@fn:whisker_along", "color": "@c0",
              "encode": { "x": [1, 2], "y": 0 } },
            { "type": "scatter", "name": "ratio", "data": dots, "color": "@c0", "symbol": "diamond", "symbolSize": 13, "z": 5,
              "label": { "show": true, "formatter": "@fn:cell", "position": "top", "distance": 3, "color": "@text", "fontSize": 11 },
              "markArea": band, "markLine": one },
        ],
    });
    #[allow(clippy::cast_possible_truncation, reason = "a handful of figures for each side")]
    let height = 80 + 42 * names.len() as u32;
    let says = comparison.versus.iter().filter_map(|versus| headline(comparison, versus)).map(stated);
    Some(Chart {
        id: "ratios".into(),
        title: "Each figure as a ratio, with its interval".into(),
        says: format!("{}.", says.collect::<Vec<_>>().join("; ")),
        how: "a diamond is how many times the figure of the first side the other side has; the line through it is the \
              interval in which the true ratio lies with the stated confidence. Where a line \
              crosses 1, or the p-value in the table is not small enough, these runs do not tell the sides apart, which is \
              not to say that they are equal; a line that stays within the grey band shows that any difference is too \
              small to matter. More throughput is better, more \
              latency or CPU time is worse."
            .into(),
        height,
        views: vec![View { option, ..View::default() }],
        table,
    })
}

/// What is said of a ratio where it is pointed at.
fn note(name: &str, ratio: &Ratio, estimate: f64) -> Vec<String> {
    let interval = ratio.interval.map(|[low, high]| format!("interval {low:.3} to {high:.3}"));
    let first = [name.to_owned(), format!("ratio {estimate:.3}")];
    first.into_iter().chain(interval).chain([ratio.statement.clone()]).collect()
}

fn ratio_axis(low: f64, high: f64) -> Value {
    let mut axis = json!({ "name": "ratio", "nameLocation": "middle", "nameGap": 28, "axisLabel": { "formatter": "@fn:ratio", "hideOverlap": true } });
    if high > LINEAR_RATIO_MAX || low < 1.0 / LINEAR_RATIO_MAX {
        axis["type"] = json!("log");
        axis["min"] = json!(10f64.powf(low.log10().floor()));
        axis["max"] = json!(10f64.powf(high.log10().ceil()));
        return axis;
    }
    let room = ((high - low) * 0.12).max(0.01);
    axis["type"] = json!("value");
    axis["min"] = json!(((low - room) * 100.0).floor() / 100.0);
    axis["max"] = json!(((high + room) * 100.0).ceil() / 100.0);
    axis
}

/// Latency by percentile of all sides whose latencies are there, over each other.
pub(super) fn percentiles(sides: &[(String, Histogram<u64>)]) -> Option<Chart> {
    let known: Vec<_> = sides.iter().filter(|(_, histogram)| !histogram.is_empty()).collect();
    if known.len() < 2 {
        return None;
    }
    let percents = [50.0, 90.0, 99.0, 99.9, 99.99];
    let mut table = Table::new("All runs of a side together", &["side"]);
    table.columns.extend(percents.map(|percent| format!("{percent} %")));
    let (mut series, mut values, mut end) = (Vec::new(), Vec::new(), 1.0f64);
    for (index, (name, histogram)) in known.iter().enumerate() {
        let curve = percentile_curve(histogram);
        values.extend(curve.iter().map(|point| point[1]));
        end = end.max(curve.last().map_or(1.0, |point| point[0]));
        series.push(json!({ "type": "line", "name": name, "data": curve, "showSymbol": false, "color": format!("@c{}", index % 7),
            "lineStyle": { "width": 2.2 } }));
        let mut row = vec![Cell::text(name.clone())];
        #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
        row.extend(percents.map(|percent| Cell::us(histogram.value_at_quantile(percent / 100.0) as f64 / 1000.0)));
        table.push(row);
    }
    let option = json!({
        "legend": { "top": 0 },
        "grid": within(json!({ "left": 12, "right": 30, "top": 30 + 26 * known.len(), "bottom": 44 })),
        "tooltip": { "trigger": "axis", "formatter": "@fn:percentiles", "confine": true },
        "xAxis": percentile_axis(end),
        "yAxis": time_axis(values, "latency"),
        "series": series,
    });
    #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
    let p99 = |histogram: &Histogram<u64>| time(histogram.value_at_quantile(0.99) as f64 / 1000.0);
    let says: Vec<String> =
        known.iter().map(|(name, histogram)| format!("{name}: 99 % within {}", p99(histogram))).collect();
    Some(Chart {
        id: "latency".into(),
        title: "Latency by percentile".into(),
        says: format!("{}.", says.join("; ")),
        how: "above 99 % you read how long the slowest operation in a hundred took, for each side. Each step to the right \
              looks at ten times fewer, slower operations. The lower line is the better one; where lines cross, one side \
              is better for most operations and the other for the slowest."
            .into(),
        height: 420,
        views: vec![View { option, ..View::default() }],
        table,
    })
}

/// Every run's figure, round by round.
pub(super) fn runs(comparison: &Comparison) -> Option<Chart> {
    let most = comparison.sides.iter().map(|side| side.runs.len()).max()?;
    let figures = [Measured::OpsPerS, Measured::P99Us, Measured::CpuUsPerOp];
    let views = figures.map(|figure| View {
        label: figure.title().to_owned(),
        suffix: figure.name().to_owned(),
        option: runs_option(comparison, figure, most),
    });
    let mut table = Table::new("Median of each side", &["side"]);
    table.columns.extend(figures.map(|figure| figure.title().to_owned()));
    for side in &comparison.sides {
        let mut row = vec![Cell::text(format!("{}: {}", side.name, labelled(side)))];
        row.extend(figures.map(|figure| Cell::number(side.values.get(figure), write(figure))));
        table.push(row);
    }
    let word = if comparison.rounds.is_some() { "round" } else { "run" };
    Some(Chart {
        id: "runs".into(),
        title: format!("Every {word}"),
        says: format!("{most} runs of a side, {} sides.", comparison.sides.len()),
        how: "each line is a side, each dot one of its runs, in the order in which they were made. Lines that rise or fall \
              together show a machine that drifts, which is why runs are made side by side; lines that keep their distance \
              show a real difference. Red crosses are INVALID runs."
            .into(),
        height: 360,
        views: views.into(),
        table,
    })
}

fn runs_option(comparison: &Comparison, figure: Measured, most: usize) -> Value {
    let (mut series, mut values, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
    for (index, side) in comparison.sides.iter().enumerate() {
        let mut data = Vec::new();
        for (place, run) in side.runs.iter().enumerate() {
            let value = run.values.get(figure);
            let place = run.round.unwrap_or(place + 1);
            let mut note = vec![format!("{}, {}", side.name, run.directory), (write(figure))(value)];
            note.extend(run.reasons.iter().cloned());
            values.push(value);
            data.push(json!({ "value": [place, value], "note": note }));
            if !run.valid {
                invalid.push(json!({ "value": [place, value], "note": note }));
            }
        }
        series.push(json!({ "type": "line", "name": legend(side), "data": data,
            "color": format!("@c{}", index % 7), "symbolSize": 8, "lineStyle": { "width": 2 } }));
    }
    series.push(
        json!({ "type": "scatter", "name": "INVALID", "data": invalid, "color": "@bad", "symbolSize": 12, "z": 5,
        "symbol": "path://M2,0 L5,3 L8,0 L10,2 L7,5 L10,8 L8,10 L5,7 L2,10 L0,8 L3,5 L0,2 Z" }),
    );
    let format = match figure {
        Measured::OpsPerS => "@fn:short",
        Measured::CpuUsPerOp => "@fn:micros",
        _ => "@fn:time",
    };
    json!({
        "legend": { "top": 0 },
        "grid": within(json!({ "left": 12, "right": 30, "top": 40 + 26 * comparison.sides.len(), "bottom": 44 })),
        "tooltip": { "formatter": "@fn:note", "confine": true },
        "xAxis": { "type": "value", "min": 1, "max": most.max(2), "minInterval": 1, "splitLine": { "show": false },
            "name": if comparison.rounds.is_some() { "round" } else { "run" }, "nameLocation": "middle", "nameGap": 28 },
        "yAxis": number_axis(values, figure.title(), format),
        "series": series,
    })
}
