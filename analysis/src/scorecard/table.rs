//! Scorecards as text.

use super::{Score, Scorecard};
use crate::summary::{count, time};

/// What is shown where there is nothing to tell.
const NONE: &str = "-";

/// A scorecard's faults as a table, a line each, below a line of headings.
#[must_use]
pub fn table(card: &Scorecard) -> Vec<String> {
    let head = ["at", "fault", "noticed", "progress", "back to 95 %", "depth", "lost", "p99", "views"];
    aligned(&head, card.faults.iter().map(row).collect())
}

/// Many scorecards as one table, a line each: the scenario, how it ended, its deepest dip, its longest way back and the
/// view changes used. A scenario without a scorecard shows why.
#[must_use]
pub fn overview(cards: &[(String, Result<Scorecard, String>)]) -> Vec<String> {
    let head = ["scenario", "verdict", "safety", "depth", "progress", "back to 95 %", "views", ""];
    let rows = cards.iter().map(|(name, outcome)| match outcome {
        Err(why) => [name, NONE, NONE, NONE, NONE, NONE, NONE, why].map(str::to_owned).to_vec(),
        Ok(card) => {
            let worst = |value: fn(&Score) -> Option<f64>| card.faults.iter().filter_map(value).reduce(f64::max);
            let depth = card.faults.iter().filter_map(|score| score.depth_percent).reduce(f64::min);
            // One that never came back is the longest.
            let back = card.faults.iter().all(|score| score.recovered_after_ms.is_some());
            vec![
                name.clone(),
                if card.green { "GREEN" } else { "RED" }.to_owned(),
                if card.safe { "held" } else { "VIOLATED" }.to_owned(),
                percent(depth),
                ms(worst(|score| score.progress_after_ms)),
                ms(worst(|score| score.recovered_after_ms).filter(|_| back)),
                card.view_changes.to_string(),
                card.failed.first().cloned().unwrap_or_default(),
            ]
        }
    });
    let rows = rows.collect();
    aligned(&head, rows)
}

fn row(score: &Score) -> Vec<String> {
    let whom = score.replicas.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let lost = match (score.operations_lost, score.lost_percent_seconds) {
        (Some(operations), Some(area)) => format!("{} ops = {area:.0} %s", count(operations)),
        _ => NONE.to_owned(),
    };
    vec![
        format!("{:.1} s", score.at_s),
        format!("{} {whom}", score.kind).trim_end().to_owned(),
        ms(score.detected_after_ms),
        ms(score.progress_after_ms),
        ms(score.recovered_after_ms),
        percent(score.depth_percent),
        lost,
        score.p99_us.map_or_else(|| NONE.to_owned(), time),
        score.view_changes.to_string(),
    ]
}

fn ms(value: Option<f64>) -> String {
    match value {
        None => NONE.to_owned(),
        Some(ms) if ms < 0.5 => "0 ms".to_owned(),
        Some(ms) => time(ms * 1e3),
    }
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |percent| format!("{percent:.0} %"))
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

    fn card() -> Scorecard {
        let kill = Score {
            at_s: 5.05,
            kind: "kill".into(),
            replicas: vec![0],
            baseline_ops_per_s: Some(10_000.0),
            detected_after_ms: Some(150.0),
            progress_after_ms: Some(350.0),
            recovered_after_ms: Some(1450.0),
            depth_percent: Some(0.0),
            operations_lost: Some(4100.0),
            lost_percent_seconds: Some(41.0),
            p99_us: Some(6000.0),
            view_changes: 1,
            ..Score::default()
        };
        let late = Score { at_s: 12.0, kind: "partition".into(), replicas: vec![2, 3], ..Score::default() };
        Scorecard {
            scenario: "two".into(),
            faults: vec![kill, late],
            view_changes: 1,
            safe: true,
            ..Scorecard::default()
        }
    }

    #[test]
    fn faults_are_rows() {
        assert_eq!(
            table(&card()),
            [
                "at      fault          noticed  progress  back to 95 %  depth  lost               p99      views",
                "5.0 s   kill 0         150 ms   350 ms    1.45 s        0 %    4,100 ops = 41 %s  6.00 ms  1",
                "12.0 s  partition 2,3  -        -         -             -      -                  -        0",
            ]
        );
    }

    #[test]
    fn scenarios_are_rows_with_their_worst_figures() {
        let green = Scorecard { green: true, faults: card().faults[..1].to_vec(), ..card() };
        let red = Scorecard { failed: vec!["3 view changes, expected: at most 2".into()], safe: false, ..card() };
        let cards =
            [("a".to_owned(), Ok(green)), ("longer".to_owned(), Ok(red)), ("b".to_owned(), Err("not run: no".into()))];
        assert_eq!(
            overview(&cards),
            [
                "scenario  verdict  safety    depth  progress  back to 95 %  views",
                "a         GREEN    held      0 %    350 ms    1.45 s        1",
                "longer    RED      VIOLATED  0 %    350 ms    -             1      3 view changes, expected: at most 2",
                "b         -        -         -      -         -             -      not run: no",
            ]
        );
    }
}
