//! The run second by second (`series.csv`).

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One second of a run, as the load generator saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the load began (warm-up included), at the end of this second.
    pub second: u64,
    /// Whether it belongs to the measured window.
    pub measured: bool,
    /// Operations completed in it.
    pub operations: u64,
    /// Median latency of those, µs; 0 if there were none.
    pub p50_us: f64,
    /// 99th percentile, µs.
    pub p99_us: f64,
    /// Longest, µs.
    pub max_us: f64,
    /// Requests sent again in it.
    pub retransmissions: u64,
}

const HEADER: &str = "second,measured,operations,p50_us,p99_us,max_us,retransmissions";

/// A series that can not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: '{text}': expected {HEADER}")]
pub struct SeriesError {
    line: usize,
    text: String,
}

/// The series as comma-separated values with a header line.
#[must_use]
pub fn to_csv(seconds: &[Second]) -> String {
    let mut text = format!("{HEADER}\n");
    for s in seconds {
        let Second { second, measured, operations, p50_us, p99_us, max_us, retransmissions } = s;
        let _ =
            writeln!(text, "{second},{measured},{operations},{p50_us:.1},{p99_us:.1},{max_us:.1},{retransmissions}");
    }
    text
}

/// Reads what [`to_csv`] wrote.
///
/// # Errors
/// Names the first line that is not a row.
pub fn from_csv(text: &str) -> Result<Vec<Second>, SeriesError> {
    let mut lines = text.lines().enumerate();
    let error = |line: usize, text: &str| SeriesError { line: line + 1, text: text.to_owned() };
    match lines.next() {
        Some((_, HEADER)) => {}
        other => return Err(error(0, other.map_or("", |(_, text)| text))),
    }
    lines.map(|(index, line)| row(line).ok_or_else(|| error(index, line))).collect()
}

fn row(line: &str) -> Option<Second> {
    let mut fields = line.split(',');
    let second = Second {
        second: fields.next()?.parse().ok()?,
        measured: fields.next()?.parse().ok()?,
        operations: fields.next()?.parse().ok()?,
        p50_us: fields.next()?.parse().ok()?,
        p99_us: fields.next()?.parse().ok()?,
        max_us: fields.next()?.parse().ok()?,
        retransmissions: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_reads_what_it_writes() {
        let seconds = [
            Second { second: 1, operations: 10, p50_us: 1.5, p99_us: 2.0, max_us: 3.0, ..Second::default() },
            Second { second: 2, measured: true, retransmissions: 4, ..Second::default() },
        ];
        assert_eq!(from_csv(&to_csv(&seconds)).unwrap(), seconds);
    }

    #[test]
    fn errors_name_the_line() {
        assert!(from_csv("").unwrap_err().to_string().starts_with("line 1"));
        let broken = format!("{HEADER}\n1,true,5,1,2,3,0\n2,true,x,1,2,3,0\n");
        assert!(from_csv(&broken).unwrap_err().to_string().starts_with("line 3: '2,true,x,1,2,3,0'"));
        assert!(from_csv(&format!("{HEADER}\n1,true,5,1,2,3,0,9\n")).is_err());
    }
}
