//! The charts of a run.

use serde_json::{Value, json};

use super::super::document::{Cell, Chart, Table, View};
use super::super::option::{
    VIRIDIS, grid, number_axis, percentile_axis, percentile_curve, place, round, stacked_grid, time_axis, within,
    words_on_viridis,
};
use super::Run;
use crate::report::Report;
use crate::summary::{LOG_WRITTEN, count, is_tentative, phase, time};

/// Latency by percentile, as the interval log has it.
pub(super) fn latency(run: &Run) -> Option<Chart> {
    let l = &run.report.latency_us;
    if l.count == 0 {
        return None;
    }
    let named = [(50.0, l.p50), (90.0, l.p90), (99.0, l.p99), (99.9, l.p99_9), (99.99, l.p99_99)];
    // Without the log the report's percentiles are all there is.
    let curve = match &run.histogram {
        Some(histogram) if !histogram.is_empty() => percentile_curve(histogram),
        _ => named.iter().map(|(percent, us)| [round(place(*percent), 5), *us]).collect(),
    };
    let end = curve.last().map_or(1.0, |point| point[0]);
    let marks: Vec<[f64; 2]> =
        named.iter().map(|(percent, us)| [round(place(*percent), 5), *us]).filter(|point| point[0] <= end).collect();
    let values = curve.iter().map(|point| point[1]).collect::<Vec<_>>();
    let option = json!({
        "grid": grid(36, 44),
        "tooltip": { "trigger": "axis", "formatter": "@fn:percentiles" },
        "xAxis": percentile_axis(end),
        "yAxis": time_axis(values, "latency"),
        "series": [
            { "type": "line", "name": "latency", "data": curve, "showSymbol": false, "lineStyle": { "width": 2.5 },
              "areaStyle": { "color": "@faint0" } },
            { "type": "scatter", "name": "reported", "data": marks, "symbolSize": 10, "z": 5, "tooltip": { "show": false },
              "itemStyle": { "color": "@c1", "opacity": 1, "borderColor": "@surface", "borderWidth": 1.5 } },
        ],
    });
    let mut table = Table::new("", &["percentile", "latency"]);
    for (percent, us) in named {
        table.push(vec![Cell::Number(percent, format!("{percent} %")), Cell::us(us)]);
    }
    table.push(vec![Cell::text("longest"), Cell::us(l.max)]);
    table.push(vec![Cell::text("mean"), Cell::us(l.mean)]);
    let [p50, p99, p99_99] = [l.p50, l.p99, l.p99_99].map(time);
    Some(Chart {
        id: "latency".into(),
        title: "Latency by percentile".into(),
        says: format!("Half of all operations took at most {p50}, 99 % at most {p99}, 99.99 % at most {p99_99}."),
        how:
            "above 99 % you read how long the slowest operation in a hundred took. Each step to the right looks at ten \
              times fewer, slower operations; the flatter the line, the more alike all operations were."
                .into(),
        height: 380,
        views: vec![View { option, ..View::default() }],
        table,
    })
}

/// Throughput and latency second by second.
#[allow(clippy::cast_precision_loss, reason = "drawn with fewer digits")]
pub(super) fn over_time(run: &Run) -> Option<Chart> {
    let end = run.seconds.last()?.second as f64;
    let middle = |second: u64| second as f64 - 0.5;
    // What completes in the drain is what the load left over: no rate to compare with those before.
    let until = run.measured_s().map_or(end, |(_, until)| until);
    let loaded = run.seconds.iter().filter(|s| s.second as f64 <= until);
    let rates: Vec<[f64; 2]> = loaded.map(|s| [middle(s.second), s.operations as f64]).collect();
    let line = |value: fn(&crate::series::Second) -> f64| -> Vec<Value> {
        // A second in which nothing completed has no latency: the line is broken there.
        let points = run
            .seconds
            .iter()
            .map(|s| json!([middle(s.second), if s.operations > 0 { json!(value(s)) } else { Value::Null }]));
        points.collect()
    };
    let marks = marks(run, end);
    let latencies = run.seconds.iter().filter(|s| s.operations > 0).flat_map(|s| [s.p50_us, s.max_us]);
    let mut latency_axis = time_axis(latencies, "latency");
    latency_axis["gridIndex"] = json!(1);
    let fine = fine_rates(&run.per_100ms, end);
    let highest = rates.iter().chain(&fine).map(|point| point[1]).fold(0.0, f64::max);
    let mut rate_axis = number_axis([highest], "operations per second", "@fn:short");
    rate_axis["gridIndex"] = json!(0);
    let latency_series = |name: &str, colour: &str, data: Vec<Value>| {
        json!({ "type": "line", "name": name, "data": data, "xAxisIndex": 1, "yAxisIndex": 1, "color": colour,
            "symbolSize": 5, "tooltip": { "valueFormatter": "@fn:time" } })
    };
    let mut p50 = latency_series("p50", "@c2", line(|s| s.p50_us));
    p50["markArea"] = marks["areas_unnamed"].clone();
    p50["markLine"] = marks["lines_unnamed"].clone();
    let option = json!({
        "legend": { "top": 0, "data": ["each second", "p50", "p99", "max"] },
        "axisPointer": { "link": [{ "xAxisIndex": "all" }] },
        "tooltip": { "trigger": "axis" },
        "grid": [
            stacked_grid(66, 165),
            stacked_grid(285, 165),
        ],
        "xAxis": seconds_axes(end),
        "yAxis": [rate_axis, latency_axis],
        "series": [
            { "type": "line", "name": "each 100 ms", "data": fine, "showSymbol": false, "color": "@c5", "silent": true,
              "lineStyle": { "width": 1, "opacity": 0.75 }, "tooltip": { "show": false } },
            { "type": "line", "name": "each second", "data": rates, "symbolSize": 5, "color": "@c0",
              "lineStyle": { "width": 2.5 }, "tooltip": { "valueFormatter": "@fn:count" },
              "markArea": marks["areas"], "markLine": marks["lines"] },
            p50,
            latency_series("p99", "@c1", line(|s| s.p99_us)),
            latency_series("max", "@c3", line(|s| s.max_us)),
        ],
    });
    let lowest = run.seconds.iter().filter(|s| s.measured).map(|s| s.operations as f64).reduce(f64::min);
    let greatest = run.seconds.iter().filter(|s| s.measured).map(|s| s.operations as f64).reduce(f64::max);
    let says = match lowest.zip(greatest) {
        Some((low, high)) => {
            format!("In the measured window each second had {} to {} operations.", count(low), count(high))
        }
        None => "No second was measured.".to_owned(),
    };
    Some(Chart {
        id: "over-time".into(),
        title: "Throughput and latency over time".into(),
        says,
        how: "a steady run is a level line. What is shaded is not measured: the warm-up, and the drain, in which what is \
              left over completes. Vertical lines are faults. Latencies share the time axis: a peak there under a dip \
              above is a standstill that clients felt."
            .into(),
        height: 500,
        views: vec![View { option, ..View::default() }],
        table: seconds_table(run),
    })
}

fn seconds_table(run: &Run) -> Table {
    let mut table = Table::new("", &["second", "measured", "operations", "p50", "p99", "max", "sent again"]);
    for s in &run.seconds {
        let us = |us: f64| Cell::us(Some(us).filter(|_| s.operations > 0));
        let measured = if s.measured { "yes" } else { "no" };
        let (operations, again) = (Cell::whole(s.operations), Cell::whole(s.retransmissions));
        table.push(vec![
            Cell::whole(s.second),
            Cell::text(measured),
            operations,
            us(s.p50_us),
            us(s.p99_us),
            us(s.max_us),
            again,
        ]);
    }
    table
}

/// The axes of time of two grids below each other, of which the lower one is labelled.
fn seconds_axes(end: f64) -> Value {
    json!([
        { "type": "value", "min": 0, "max": end, "gridIndex": 0, "axisLabel": { "show": false },
          "splitLine": { "show": false } },
        { "type": "value", "min": 0, "max": end, "gridIndex": 1, "name": "seconds since the load began",
          "nameLocation": "middle", "nameGap": 28, "splitLine": { "show": false } },
    ])
}

/// Operations per second in each 100 ms, in the middle of each.
#[allow(clippy::cast_precision_loss, reason = "drawn with fewer digits")]
fn fine_rates(per_100ms: &[u64], end: f64) -> Vec<[f64; 2]> {
    let points =
        per_100ms.iter().enumerate().map(|(index, n)| [round(index as f64 / 10.0 + 0.05, 2), *n as f64 * 10.0]);
    points.take_while(|point| point[0] <= end).collect()
}

/// What is not measured, as areas, and faults, as lines; with their names and without.
fn marks(run: &Run, end: f64) -> Value {
    let mut areas = Vec::new();
    if let Some((from, until)) = run.measured_s() {
        for (name, from, until) in [("warm-up", 0.0, from), ("drain", until, end)] {
            if until > from {
                areas.push((name, from, until));
            }
        }
    }
    let area = |named: bool| -> Value {
        let data = areas.iter().map(|(name, from, until)| {
            json!([{ "xAxis": from, "name": if named { *name } else { "" } }, { "xAxis": until }])
        });
        json!({ "silent": true, "itemStyle": { "color": "@shade" }, "data": data.collect::<Vec<_>>(),
            "label": { "position": "insideTop", "color": "@muted", "fontSize": 11 } })
    };
    let line = |named: bool| -> Value {
        let faults = run.report.faults.iter().filter(|fault| fault.at_s > 0.0 && fault.at_s <= end);
        let data = faults.map(|fault| {
            let name = fault.replica.map_or_else(|| fault.kind.clone(), |id| format!("{} {id}", fault.kind));
            json!({ "xAxis": fault.at_s, "label": { "show": named, "formatter": plain(&name) } })
        });
        json!({ "silent": true, "symbol": "none", "lineStyle": { "color": "@mark", "width": 1.5, "type": "dashed" },
            "label": { "color": "@mark", "fontSize": 11, "position": "end", "distance": 2 }, "data": data.collect::<Vec<_>>() })
    };
    json!({ "areas": area(true), "areas_unnamed": area(false), "lines": line(true), "lines_unnamed": line(false) })
}

/// A text that a label's formatter takes as it is: braces would be its placeholders.
fn plain(text: &str) -> String {
    text.replace(['{', '}', '|'], " ")
}

/// A scenario's throughput in windows of 100 ms, and the views that replicas were in.
#[allow(clippy::cast_precision_loss, reason = "drawn with fewer digits")]
pub(super) fn timeline(run: &Run) -> Option<Chart> {
    let (timeline, card) = (run.timeline.as_ref()?, run.report.scorecard.as_ref()?);
    if timeline.per_100ms.is_empty() {
        return None;
    }
    let end = (timeline.per_100ms.len() as f64 / 10.0).max(timeline.measured_s.1 as f64);
    let rates = fine_rates(&timeline.per_100ms, end);
    let marks = marks(run, end);
    let mut ids: Vec<u16> = timeline.views.iter().map(|sample| sample.replica).collect();
    ids.sort_unstable();
    ids.dedup();
    let highest_view = timeline.views.iter().map(|sample| sample.view).max().unwrap_or(0);
    let mut series = vec![json!({
        "type": "line", "name": "operations per second", "data": rates, "showSymbol": false, "color": "@c0",
        "lineStyle": { "width": 2 }, "areaStyle": { "color": "@faint0" }, "tooltip": { "valueFormatter": "@fn:count" },
        "markArea": marks["areas"], "markLine": marks["lines"],
    })];
    for (index, id) in ids.iter().enumerate() {
        let samples = timeline.views.iter().filter(|sample| sample.replica == *id);
        let data: Vec<[f64; 2]> = samples.map(|sample| [round(sample.at_s, 2), sample.view as f64]).collect();
        series.push(json!({ "type": "line", "name": format!("view of replica {id}"), "data": data, "step": "end",
            "showSymbol": false, "color": format!("@c{}", 1 + index % 6), "xAxisIndex": 1, "yAxisIndex": 1,
            "lineStyle": { "width": 1.5, "opacity": 0.85 } }));
    }
    let option = json!({
        "axisPointer": { "link": [{ "xAxisIndex": "all" }] },
        "tooltip": { "trigger": "axis" },
        "grid": [
            stacked_grid(40, 210),
            stacked_grid(295, 85),
        ],
        "xAxis": seconds_axes(end),
        "yAxis": [
            { "type": "value", "name": "operations per second", "min": 0, "gridIndex": 0, "nameTextStyle": { "align": "left" },
              "axisLabel": { "formatter": "@fn:short" } },
            { "type": "value", "name": "view", "min": 0, "max": highest_view.max(1), "minInterval": 1, "gridIndex": 1 },
        ],
        "series": series,
    });
    let mut table =
        Table::new("Operations in each second, in windows of 100 ms", &["second", "operations", "in each 100 ms"]);
    for (index, windows) in timeline.per_100ms.chunks(10).enumerate() {
        let each = windows.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        table.push(vec![Cell::whole(index as u64 + 1), Cell::whole(windows.iter().sum()), Cell::Text(each)]);
    }
    let stood = card.faults.iter().filter_map(|score| score.progress_after_ms).fold(0.0, f64::max);
    let says = match (card.faults.is_empty(), stood > 0.0) {
        (true, _) => "No fault was made while the load ran.".to_owned(),
        (false, true) => format!("The longest standstill after a fault lasted {}.", time(stood * 1e3)),
        (false, false) => "Operations never ceased after a fault.".to_owned(),
    };
    Some(Chart {
        id: "timeline".into(),
        title: "Throughput around the faults".into(),
        says,
        how: "each dashed line is a fault. A line that falls to zero after it is a standstill: nobody was answered. Below \
              stand the views: a step up is a view change, after which another replica is the primary."
            .into(),
        height: 440,
        views: vec![View { option, ..View::default() }],
        table,
    })
}

/// The phases at the primary as a waterfall.
pub(super) fn phases(report: &Report) -> Option<Chart> {
    let mut phases: Vec<_> = report.phases_us.iter().filter(|(name, _)| *name != LOG_WRITTEN).collect();
    phases.sort_by_key(|(name, _)| phase(report, name).0);
    if phases.is_empty() {
        return None;
    }
    let mut table = Table::new("At the primary, from each phase to the next", &["phase", "p50", "p99"]);
    let (mut names, mut offsets, mut bars, mut whiskers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut begins = 0.0;
    for (index, (name, figures)) in phases.iter().enumerate() {
        let words = phase(report, name).1;
        let note = [words.to_owned(), format!("p50 {}", time(figures.p50)), format!("p99 {}", time(figures.p99))];
        names.push(words);
        offsets.push(json!({ "value": round(begins, 3), "note": note }));
        bars.push(json!({ "value": round(figures.p50, 3), "note": note, "label": { "formatter": time(figures.p50) } }));
        whiskers.push(json!({ "value": [index, round(begins, 3), round(begins + figures.p99, 3)], "note": note }));
        table.push(vec![Cell::text(words), Cell::us(figures.p50), Cell::us(figures.p99)]);
        if *name != "committed" || !is_tentative(report) {
            begins += figures.p50;
        }
    }
    if let Some(phase) = report.phases_us.get(LOG_WRITTEN) {
        table.push(vec![Cell::text("a group made durable in the log"), Cell::us(phase.p50), Cell::us(phase.p99)]);
    }
    let option = json!({
        "grid": grid(12, 32),
        "tooltip": { "trigger": "item", "formatter": "@fn:note" },
        "xAxis": { "type": "value", "min": 0, "axisLabel": { "formatter": "@fn:time", "hideOverlap": true } },
        "yAxis": { "type": "category", "data": names, "inverse": true, "axisTick": { "show": false },
            "axisLabel": { "width": 120, "overflow": "break", "lineHeight": 15 } },
        "series": [
            { "type": "bar", "name": "before", "stack": "phases", "data": offsets, "silent": true, "barWidth": "52%",
              "itemStyle": { "color": "transparent" } },
            { "type": "bar", "name": "p50", "stack": "phases", "data": bars, "color": "@c0",
              "label": { "show": true, "position": "insideLeft", "offset": [4, -22], "color": "@text", "fontSize": 11 } },
            { "type": "custom", "name": "p99", "data": whiskers, "renderItem": "@fn:whisker_along", "color": "@c1",
              "encode": { "x": [1, 2], "y": 0 }, "z": 5 },
        ],
    });
    let longest = phases.iter().max_by(|a, b| a.1.p50.total_cmp(&b.1.p50))?;
    let words = phase(report, longest.0).1;
    #[allow(clippy::cast_possible_truncation, reason = "a handful of phases")]
    let height = 60 + 52 * names.len() as u32;
    Some(Chart {
        id: "phases".into(),
        title: "Phases at the primary".into(),
        says: format!("The longest phase is \"{words}\": {} in the median.", time(longest.1.p50)),
        how:
            "from top to bottom a batch passes through the phases; each bar is the median time of one and begins where \
              the one before ends; the commit phase of what was executed tentatively stands beside its execution. The thin line reaches as far as the 99th percentile of that phase alone. Medians of \
              parts do not add up exactly to the median of the whole."
                .into(),
        height,
        views: vec![View { option, ..View::default() }],
        table,
    })
}

/// How busy each stage of each replica was.
pub(super) fn stages(report: &Report) -> Option<Chart> {
    let mut names: Vec<&str> = Vec::new();
    let replicas: Vec<_> = report.replicas.iter().filter(|replica| !replica.stages.is_empty()).collect();
    for stage in replicas.iter().flat_map(|replica| &replica.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
    let mut table = Table::new("", &["replica", "stage", "thread", "core", "busy", "queue, p99 (batches)"]);
    let mut cells = Vec::new();
    let mut busiest: Option<(f64, String)> = None;
    for (row, replica) in replicas.iter().enumerate() {
        for stage in &replica.stages {
            let column = names.iter().position(|name| *name == stage.name)?;
            let core = stage.core.map_or_else(|| "any".to_owned(), |core| core.to_string());
            let busy = stage.busy_percent;
            let note = [
                format!("replica {}, {}", replica.id, stage.name),
                format!("busy {busy:.1} %, on thread {}, core {core}", stage.thread),
                format!("input queue, 99th percentile: {} batches", stage.queue_p99),
            ];
            cells.push(json!({ "value": [column, row, round(busy, 2)], "note": note, "text": format!("{busy:.0} %"),
                "label": { "color": words_on_viridis(busy / 100.0) } }));
            table.push(vec![
                Cell::whole(replica.id.into()),
                Cell::text(stage.name.clone()),
                Cell::text(stage.thread.clone()),
                Cell::Text(core),
                Cell::percent(busy),
                Cell::whole(stage.queue_p99),
            ]);
            if busiest.as_ref().is_none_or(|(most, _)| busy > *most) {
                busiest = Some((busy, format!("{} of replica {}", stage.name, replica.id)));
            }
        }
    }
    let (most, which) = busiest?;
    let option = json!({
        "grid": within(json!({ "left": 12, "right": 12, "top": 8, "bottom": 56 })),
        "tooltip": { "formatter": "@fn:note" },
        "xAxis": { "type": "category", "data": names, "splitArea": { "show": false }, "axisTick": { "show": false },
            "axisLabel": { "interval": 0, "hideOverlap": false } },
        "yAxis": { "type": "category", "inverse": true, "axisTick": { "show": false },
            "data": replicas.iter().map(|replica| format!("replica {}", replica.id)).collect::<Vec<_>>() },
        "visualMap": { "type": "continuous", "min": 0, "max": 100, "orient": "horizontal", "left": "center", "bottom": 0,
            "itemHeight": 160, "itemWidth": 12, "text": ["busy 100 %", "idle"], "calculable": false, "hoverLink": false,
            "inRange": { "color": VIRIDIS } },
        "series": [{ "type": "heatmap", "data": cells, "itemStyle": { "borderColor": "@surface", "borderWidth": 2 },
            "label": { "show": true, "formatter": "@fn:cell" } }],
    });
    #[allow(clippy::cast_possible_truncation, reason = "at most 64 replicas")]
    let height = 110 + 36 * replicas.len() as u32;
    Some(Chart {
        id: "stages".into(),
        title: "How busy each stage was".into(),
        says: format!("The busiest stage is {which}: {most:.0} % of the time."),
        how: "each row is a replica, each column a stage of its pipeline, from the network in to the network out. The \
              lighter a cell, the more of the time it worked. A stage near 100 % is the bottleneck; where all stages \
              share a thread, their shares add up to that thread's."
            .into(),
        height,
        views: vec![View { option, ..View::default() }],
        table,
    })
}
