//! Where the time of operations that were followed all the way went, if a report tells it.

use serde::Deserialize;
use serde_json::json;

use super::super::document::{Cell, Chart, Table, View};
use super::super::option::{round, within};
use crate::summary::time;

/// What a report says beyond what this crate needs of it: versions that do not follow operations leave it out.
#[derive(Default, Deserialize)]
pub(super) struct Followed {
    #[serde(default)]
    attribution: Option<Attribution>,
    #[serde(default)]
    bottleneck: Option<Bottleneck>,
}

#[derive(Deserialize)]
struct Attribution {
    samples: u64,
    middle: Group,
    tail: Group,
    parts: Vec<Part>,
}

/// Samples of which the mean is told, µs.
#[derive(Deserialize)]
struct Group {
    mean_us: f64,
}

/// A piece of the path, in its order.
#[derive(Deserialize)]
struct Part {
    name: String,
    p50_share_us: f64,
    p99_9_share_us: f64,
    p99: f64,
}

#[derive(Deserialize)]
struct Bottleneck {
    sentence: String,
}

impl Followed {
    /// What limited the run, in words.
    pub(super) fn sentence(&self) -> Option<&str> {
        self.bottleneck.as_ref().map(|bottleneck| bottleneck.sentence.as_str()).filter(|sentence| !sentence.is_empty())
    }

    /// The pieces of the path as a waterfall: of operations around the median, and of the slowest.
    pub(super) fn chart(&self) -> Option<Chart> {
        let attribution = self.attribution.as_ref().filter(|attribution| !attribution.parts.is_empty())?;
        let parts = &attribution.parts;
        let [middle, tail]: [fn(&Part) -> f64; 2] = [|part| part.p50_share_us, |part| part.p99_9_share_us];
        let view = |label: &str, suffix: &str, share| View {
            label: label.to_owned(),
            suffix: suffix.to_owned(),
            option: waterfall(parts, share),
        };
        let mut table = Table::new("", &["part", "around the median", "of the slowest", "p99 of the part"]);
        for part in parts {
            table.push(vec![
                Cell::text(words(&part.name)),
                Cell::us(middle(part)),
                Cell::us(tail(part)),
                Cell::us(part.p99),
            ]);
        }
        table.push(vec![
            Cell::text("in all"),
            Cell::us(attribution.middle.mean_us),
            Cell::us(attribution.tail.mean_us),
            Cell::Nothing,
        ]);
        let longest = parts.iter().max_by(|a, b| middle(a).total_cmp(&middle(b)))?;
        #[allow(clippy::cast_possible_truncation, reason = "a handful of parts")]
        let height = 60 + 44 * parts.len() as u32;
        Some(Chart {
            id: "path".into(),
            title: "The path of an operation".into(),
            says: format!(
                "Of operations around the median ({} samples in all), the longest part is \"{}\": {} of {}.",
                attribution.samples,
                words(&longest.name),
                time(middle(longest)),
                time(attribution.middle.mean_us)
            ),
            how:
                "from top to bottom an operation passes from the client through the cluster and back; each bar begins \
                  where the one before ends, and all together they are its latency. The buttons change between \
                  operations around the median and the slowest ones: what grows most is what makes them slow."
                    .into(),
            height,
            views: vec![view("Around the median", "median", middle), view("The slowest", "tail", tail)],
            table,
        })
    }
}

/// `quorum_wait` as people write it.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn waterfall(parts: &[Part], share: fn(&Part) -> f64) -> serde_json::Value {
    let (mut before, mut bars, mut begins) = (Vec::new(), Vec::new(), 0.0);
    for part in parts {
        let us = share(part);
        let note = [words(&part.name), time(us)];
        before.push(json!(round(begins, 3)));
        bars.push(json!({ "value": round(us, 3), "note": note, "label": { "formatter": time(us) } }));
        begins += us;
    }
    json!({
        "grid": within(json!({ "left": 12, "right": 60, "top": 12, "bottom": 32 })),
        "tooltip": { "trigger": "item", "formatter": "@fn:note", "confine": true },
        "xAxis": { "type": "value", "min": 0, "axisLabel": { "formatter": "@fn:time", "hideOverlap": true } },
        "yAxis": { "type": "category", "inverse": true, "axisTick": { "show": false },
            "data": parts.iter().map(|part| words(&part.name)).collect::<Vec<_>>() },
        "series": [
            { "type": "bar", "name": "before", "stack": "path", "data": before, "silent": true, "barWidth": "60%",
              "itemStyle": { "color": "transparent" } },
            { "type": "bar", "name": "time", "stack": "path", "data": bars, "color": "@c0",
              "label": { "show": true, "position": "right", "color": "@text", "fontSize": 11 } },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other() {
        let part = |name: &str, us: f64| json!({ "name": name, "p50_share_us": us, "p99_9_share_us": 2.0 * us, "mean_us": us, "p50": us, "p99": us });
        let group = |us: f64| json!({ "samples": 3, "mean_us": us, "from_us": us, "to_us": us });
        let report = json!({
            "attribution": { "samples": 30, "middle": group(30.0), "tail": group(60.0),
                "parts": [part("client_wait", 10.0), part("prepare", 20.0)] },
            "bottleneck": { "limit": "stage", "sentence": "The order stage was busy." },
        });
        let followed: Followed = serde_json::from_value(report).unwrap();
        assert_eq!(followed.sentence(), Some("The order stage was busy."));
        let chart = followed.chart().unwrap();
        assert!(chart.says.contains("\"prepare\": 20.0 µs of 30.0 µs"), "{}", chart.says);
        assert_eq!(chart.views[0].option["series"][0]["data"], json!([0.0, 10.0]));
        assert_eq!(chart.views[1].option["series"][0]["data"], json!([0.0, 20.0]), "the slowest");
        let none: Followed = serde_json::from_value(json!({ "attribution": null })).unwrap();
        assert!(none.chart().is_none() && none.sentence().is_none());
    }
}
