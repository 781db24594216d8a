//! Scorecards as text. Every figure that is missing says why.

use super::{RECOVERED_SHARE, Score, Scorecard};
use crate::summary::{count, time};

/// Why figures that compare with the time before a fault are missing.
const NO_BASELINE: &str = "no baseline";

/// A scorecard's faults as a table, a line each, below a line of headings. Times are the scenario's: `0 s` is when the
/// measured load began.
#[must_use]
pub fn table(card: &Scorecard) -> Vec<String> {
    if card.faults.is_empty() {
        return vec![without_faults(card).to_owned()];
    }
    aligned(&HEAD, rows(card))
}

/// Headings of a scorecard's table.
pub(crate) const HEAD: [&str; 9] =
    ["at", "fault", "noticed", "standstill", "back to 95 %", "dip", "lost", "p99", "view changes"];

/// The cells of a scorecard's table, a row for each fault.
pub(crate) fn rows(card: &Scorecard) -> Vec<Vec<String>> {
    card.faults.iter().map(|score| row(card, score)).collect()
}

/// Many scorecards as one table, a line each: the scenario, how it ended, and the worst of each figure over its faults.
/// A scenario without a scorecard shows why.
#[must_use]
pub fn overview(cards: &[(String, Result<Scorecard, String>)]) -> Vec<String> {
    let head = [
        "scenario",
        "result",
        "safety",
        "standstill",
        "dip",
        "lost",
        "back to 95 %",
        "at the end",
        "view changes",
        "why",
    ];
    let rows = cards.iter().map(|(name, outcome)| match outcome {
        Err(why) => {
            let mut row = vec![name.clone(), "not played".to_owned()];
            row.resize(head.len() - 1, String::new());
            row.push(why.clone());
            row
        }
        Ok(card) => overview_row(name, card),
    });
    let rows = rows.collect();
    aligned(&head, rows)
}

fn overview_row(name: &str, card: &Scorecard) -> Vec<String> {
    let faults = &card.faults;
    let worst = |value: fn(&Score) -> Option<f64>| faults.iter().filter_map(value).reduce(f64::max);
    // One fault that the cluster never got over is worse than any number.
    let standstill = match faults.iter().find(|score| score.progress_after_ms.is_none()) {
        Some(score) => standstill(score),
        None => worst(|score| score.progress_after_ms).map_or_else(|| "no fault".to_owned(), standstill_ms),
    };
    let compared: Vec<&Score> = faults.iter().filter(|score| score.baseline_ops_per_s.is_some()).collect();
    let back = match compared.iter().find(|score| score.recovered_after_ms.is_none()) {
        Some(score) => back(score),
        None => worst(|score| score.recovered_after_ms).map_or_else(|| NO_BASELINE.to_owned(), back_ms),
    };
    let no_baseline = || NO_BASELINE.to_owned();
    let end = match card.final_percent {
        Some(percent) => format!("{percent:.0} %"),
        None if faults.first().is_some_and(|score| score.baseline_ops_per_s.is_some()) => "too short".to_owned(),
        None => no_baseline(),
    };
    let mut why = card.failed.clone();
    if faults.is_empty() {
        why.push(without_faults(card).to_owned());
    }
    vec![
        name.to_owned(),
        if card.green { "GREEN" } else { "RED" }.to_owned(),
        if card.safe { "held" } else { "VIOLATED" }.to_owned(),
        standstill,
        worst(|score| score.lowest_percent.map(dip_percent)).map_or_else(no_baseline, dip),
        worst(|score| score.lost_percent_seconds).map_or_else(no_baseline, lost_s),
        back,
        end,
        card.view_changes.to_string(),
        why.join("; "),
    ]
}

/// What is said of a scenario that made no fault while the load ran.
const fn without_faults(card: &Scorecard) -> &'static str {
    if card.from_the_beginning {
        "no baseline: its faults last from the beginning"
    } else {
        "no fault was made while the load ran"
    }
}

fn row(card: &Scorecard, score: &Score) -> Vec<String> {
    let whom = score.replicas.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let compared = score.baseline_ops_per_s.is_some();
    let no_baseline = || NO_BASELINE.to_owned();
    let noticed = match score.detected_after_ms {
        Some(value) => ms(value),
        // Without a baseline a dip can not be told; only a view change can.
        None => if compared { "not at all" } else { NO_BASELINE }.to_owned(),
    };
    let lost = match (score.operations_lost, score.lost_percent_seconds) {
        (Some(operations), Some(area)) if operations >= 0.5 => format!("{} ops ({})", count(operations), lost_s(area)),
        (Some(_), Some(_)) => "none".to_owned(),
        _ => no_baseline(),
    };
    vec![
        format!("{:.1} s", card.scenario_s(score.at_s)),
        format!("{} {whom}", score.kind).trim_end().to_owned(),
        noticed,
        standstill(score),
        if compared { back(score) } else { no_baseline() },
        score.lowest_percent.map(dip_percent).map_or_else(if compared { not_observed } else { no_baseline }, dip),
        lost,
        score.p99_us.map_or_else(|| "no operation".to_owned(), time),
        score.view_changes.to_string(),
    ]
}

fn not_observed() -> String {
    "not observed".to_owned()
}

fn standstill(score: &Score) -> String {
    match score.progress_after_ms {
        Some(ms) => standstill_ms(ms),
        None if score.observed_s > 0.0 => "for good".to_owned(),
        None => not_observed(),
    }
}

fn standstill_ms(value: f64) -> String {
    if value < 0.5 { "none".to_owned() } else { ms(value) }
}

fn back(score: &Score) -> String {
    match score.recovered_after_ms {
        Some(ms) => back_ms(ms),
        None if score.observed_s > 0.0 => "never".to_owned(),
        None => not_observed(),
    }
}

fn back_ms(value: f64) -> String {
    if value < 0.5 { "at once".to_owned() } else { ms(value) }
}

fn ms(value: f64) -> String {
    if value < 0.5 { "0 ms".to_owned() } else { time(value * 1e3) }
}

/// How far below the baseline the lowest window lies, percent of the baseline.
fn dip_percent(lowest_percent: f64) -> f64 {
    (100.0 - lowest_percent).max(0.0)
}

/// A dip that still counts as recovered is none.
fn dip(percent: f64) -> String {
    if percent < 100.0 * (1.0 - RECOVERED_SHARE) { "none".to_owned() } else { format!("{percent:.0} %") }
}

/// Seconds' worth of operations at the rate of the baseline.
fn lost_s(percent_seconds: f64) -> String {
    if percent_seconds < 0.5 { "none".to_owned() } else { format!("{:.2} s", percent_seconds / 100.0) }
}

/// Columns as wide as their widest cell, two spaces apart.
fn aligned(head: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    let mut all = vec![head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed() -> Score {
        Score {
            at_s: 7.05,
            kind: "kill".into(),
            replicas: vec![0],
            observed_s: 5.0,
            baseline_ops_per_s: Some(10_000.0),
            detected_after_ms: Some(150.0),
            progress_after_ms: Some(350.0),
            recovered_after_ms: Some(1450.0),
            lowest_percent: Some(0.0),
            operations_lost: Some(4100.0),
            lost_percent_seconds: Some(41.0),
            p99_us: Some(6000.0),
            view_changes: 1,
            ..Score::default()
        }
    }

    /// Nobody notices anything.
    fn harmless() -> Score {
        Score {
            kind: "stop".into(),
            replicas: vec![3],
            at_s: 10.0,
            detected_after_ms: None,
            progress_after_ms: Some(0.0),
            recovered_after_ms: Some(0.0),
            lowest_percent: Some(118.0),
            operations_lost: Some(0.0),
            lost_percent_seconds: Some(0.0),
            view_changes: 0,
            ..killed()
        }
    }

    fn card(faults: Vec<Score>) -> Scorecard {
        Scorecard {
            scenario: "two".into(),
            measured_from_s: 2.0,
            faults,
            final_percent: Some(97.3),
            view_changes: 1,
            safe: true,
            green: true,
            ..Scorecard::default()
        }
    }

    #[test]
    fn faults_are_rows() {
        let partition =
            Score { at_s: 12.0, kind: "partition".into(), replicas: vec![2, 3], observed_s: 1.0, ..Score::default() };
        let for_good = Score {
            at_s: 13.0,
            progress_after_ms: None,
            recovered_after_ms: None,
            operations_lost: Some(20_000.0),
            lost_percent_seconds: Some(200.0),
            ..killed()
        };
        let last =
            Score { at_s: 15.0, observed_s: 0.0, lowest_percent: None, detected_after_ms: None, ..for_good.clone() };
        assert_eq!(
            table(&card(vec![killed(), harmless(), partition, for_good, last])),
            [
                "at      fault          noticed      standstill    back to 95 %  dip           lost                 p99           view changes",
                "5.0 s   kill 0         150 ms       350 ms        1.45 s        100 %         4,100 ops (0.41 s)   6.00 ms       1",
                "8.0 s   stop 3         not at all   none          at once       none          none                 6.00 ms       0",
                "10.0 s  partition 2,3  no baseline  for good      no baseline   no baseline   no baseline          no operation  0",
                "11.0 s  kill 0         150 ms       for good      never         100 %         20,000 ops (2.00 s)  6.00 ms       1",
                "13.0 s  kill 0         not at all   not observed  not observed  not observed  20,000 ops (2.00 s)  6.00 ms       1",
            ]
        );
        let hostile = Scorecard { from_the_beginning: true, ..card(vec![]) };
        assert_eq!(table(&hostile), ["no baseline: its faults last from the beginning"]);
    }

    #[test]
    fn scenarios_are_rows_with_their_worst_figures() {
        let red = |failed: &str, faults| Scorecard { failed: vec![failed.into()], green: false, ..card(faults) };
        // The fault after which nothing went on decides, not the one that was over soon.
        let dead = Score { progress_after_ms: None, recovered_after_ms: None, ..killed() };
        let violated = Scorecard { safe: false, ..red("safety was violated", vec![killed(), dead]) };
        let hostile = Scorecard { from_the_beginning: true, final_percent: None, ..card(vec![]) };
        let cards = [
            ("a", Ok(card(vec![killed(), harmless()]))),
            ("harmless", Ok(card(vec![harmless()]))),
            ("b", Ok(violated)),
            ("hostile", Ok(hostile)),
            ("c", Err("no port".to_owned())),
        ];
        let cards = cards.map(|(name, outcome)| (name.to_owned(), outcome));
        assert_eq!(
            overview(&cards),
            [
                "scenario  result      safety    standstill  dip          lost         back to 95 %  at the end   view changes  why",
                "a         GREEN       held      350 ms      100 %        0.41 s       1.45 s        97 %         1",
                "harmless  GREEN       held      none        none         none         at once       97 %         1",
                "b         RED         VIOLATED  for good    100 %        0.41 s       never         97 %         1             safety was violated",
                "hostile   GREEN       held      no fault    no baseline  no baseline  no baseline   no baseline  1             no baseline: its faults last from the beginning",
                "c         not played                                                                                           no port",
            ]
        );
    }
}
