//! The results directory: which files a run leaves behind. Whatever reads results reads only these.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::comparison::{self, Comparison};
use crate::report::{Report, SCHEMA};
use crate::search::{self, Search};
use crate::sweep::{self, Sweep};

/// The report.
pub const REPORT: &str = "report.json";
/// The resolved settings, usable as `--config` of another run.
pub const CONFIG: &str = "config.toml";
/// The run second by second.
pub const SERIES: &str = "series.csv";
/// The load generator's own report.
pub const LOAD: &str = "load.json";
/// The load generator's latencies.
pub const LATENCY: &str = "latency.hlog";
/// Where the time of each sampled operation went; only where operations were sampled.
pub const ATTRIBUTION: &str = "attribution.csv";
/// The load generator's side of the sampled operations, until the launcher has joined it with the replicas'.
pub const SAMPLES: &str = "samples.json";
/// The cluster file, without keys.
pub const CLUSTER: &str = "cluster.toml";
/// The network that was emulated; only where one was. Usable as `--network` of another run.
pub const NETWORK: &str = "network.toml";
/// The scenario that was played, if one was.
pub const SCENARIO: &str = "scenario.toml";
/// What a scorecard is drawn from: operations in each 100 ms, views as replicas told them, faults, where the measured
/// window begins and ends, and f. Times are seconds since the load began.
pub const TIMELINE: &str = "timeline.json";
/// What only the launcher of many runs knows of one of them: whether it could be played, and how long it took.
pub const TRIAL: &str = "trial.json";
/// Many runs: which of them there are to be, and in which order.
pub const PLAN: &str = "plan.json";
/// Many runs: what came of them.
pub const SWEEP: &str = "sweep.json";
/// A comparison of several runs of each of several settings: all of it, and as tables.
pub const COMPARISON: &str = "comparison.json";
/// The comparison as Markdown.
pub const COMPARISON_MARKDOWN: &str = "comparison.md";
/// The comparison as CSV.
pub const COMPARISON_CSV: &str = "comparison.csv";
/// Many runs: a row each.
pub const SWEEP_CSV: &str = "sweep.csv";
/// Many runs: a table for documents, a row each point.
pub const SWEEP_MARKDOWN: &str = "sweep.md";
/// A search for the highest rate.
pub const SEARCH: &str = "search.json";
/// The folder of every process's log.
pub const LOGS: &str = "logs";
/// The page for people, made from the other files.
pub const PAGE: &str = "report.html";

/// A results directory that can not be used.
#[derive(Debug, Error)]
pub enum ResultsError {
    /// A file can not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what its name says.
    #[error("{path}: {error}")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// A directory does not hold what a command leaves behind.
    #[error(
        "{path}: {why}; allowed: a results directory, which holds {REPORT} (run and stress make it), {SWEEP} (sweep), \
         {COMPARISON} (compare) or {SEARCH} (search)"
    )]
    NoResults {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The directory already holds something.
    #[error("{path} is not empty (it holds '{holds}'); results are never overwritten: choose another --out")]
    NotEmpty {
        /// Which.
        path: PathBuf,
        /// One of the things in it.
        holds: String,
    },
}

impl ResultsError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { path: path.to_owned(), error }
    }
}

/// Makes a fresh results directory with its folder for logs. An empty directory is taken as it is.
///
/// # Errors
/// If the directory holds anything, or can not be made.
pub fn create(directory: &Path) -> Result<(), ResultsError> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => {
            if let Some(entry) = entries.next() {
                let holds = entry.map_err(ResultsError::file(directory))?.file_name().to_string_lossy().into_owned();
                return Err(ResultsError::NotEmpty { path: directory.to_owned(), holds });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ResultsError::file(directory)(error)),
    }
    let logs = directory.join(LOGS);
    std::fs::create_dir_all(&logs).map_err(ResultsError::file(&logs))
}

/// Writes one file of the directory, whole or not at all: whoever is killed meanwhile leaves the old one or none.
///
/// # Errors
/// Names the file that can not be written.
pub fn write(directory: &Path, name: &str, content: &str) -> Result<(), ResultsError> {
    let path = directory.join(name);
    let aside = directory.join(format!(".{name}.new"));
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        // A name that survives a power failure must not lead to a file that did not.
        file.sync_all()?;
        std::fs::rename(&aside, &path)
    });
    written.map_err(ResultsError::file(&path))
}

/// The report as the text of `report.json`.
///
/// # Panics
/// Never: every field has a JSON form.
#[must_use]
pub fn to_json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("reports serialise");
    text.push('\n');
    text
}

/// What a results directory is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One run: [`REPORT`].
    Run,
    /// Many runs: [`SWEEP`].
    Sweep,
    /// [`COMPARISON`].
    Comparison,
    /// [`SEARCH`].
    Search,
}

/// Tells what a directory is of, by the files that it holds.
///
/// # Errors
/// If it holds no results; what would be some is named.
pub fn kind(directory: &Path) -> Result<Kind, ResultsError> {
    let marks = [(SWEEP, Kind::Sweep), (COMPARISON, Kind::Comparison), (SEARCH, Kind::Search), (REPORT, Kind::Run)];
    if let Some((_, kind)) = marks.into_iter().find(|(name, _)| directory.join(name).exists()) {
        return Ok(kind);
    }
    let why = match std::fs::read_dir(directory) {
        Ok(_) => "there are no results in it".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(ResultsError::NoResults { path: directory.to_owned(), why })
}

/// Reads a directory's `report.json`.
///
/// # Errors
/// Names the file, and what is wrong with it: missing, no report, or of another schema.
pub fn read_report(directory: &Path) -> Result<Report, ResultsError> {
    read_schema(&directory.join(REPORT), SCHEMA)
}

/// Reads a directory's `sweep.json`.
///
/// # Errors
/// As [`read_report`].
pub fn read_sweep(directory: &Path) -> Result<Sweep, ResultsError> {
    read_schema(&directory.join(SWEEP), sweep::SCHEMA)
}

/// Reads a directory's `comparison.json`.
///
/// # Errors
/// As [`read_report`].
pub fn read_comparison(directory: &Path) -> Result<Comparison, ResultsError> {
    read_schema(&directory.join(COMPARISON), comparison::SCHEMA)
}

/// Reads a directory's `search.json`.
///
/// # Errors
/// As [`read_report`].
pub fn read_search(directory: &Path) -> Result<Search, ResultsError> {
    read_schema(&directory.join(SEARCH), search::SCHEMA)
}

/// Reads a JSON file that names its schema.
fn read_schema<T: DeserializeOwned>(path: &Path, schema: &str) -> Result<T, ResultsError> {
    let text = std::fs::read_to_string(path).map_err(ResultsError::file(path))?;
    let content = |error: String| ResultsError::Content { path: path.to_owned(), error };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| content(error.to_string()))?;
    match value.get("schema").and_then(serde_json::Value::as_str) {
        Some(known) if known == schema => {}
        Some(other) => return Err(content(format!("schema '{other}' is not known to this version; known: {schema}"))),
        None => return Err(content(format!("no report: it has no schema (expected {schema})"))),
    }
    serde_json::from_value(value).map_err(|error| content(error.to_string()))
}

/// The bytes of one file of a directory; nothing if there is none.
pub(crate) fn read_if_there(directory: &Path, name: &str) -> Result<Option<Vec<u8>>, ResultsError> {
    let path = directory.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ResultsError::file(&path)(error)),
    }
}

/// What a JSON file of a directory says; nothing if there is none.
pub(crate) fn read_json_if_there<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>, ResultsError> {
    let Some(bytes) = read_if_there(directory, name)? else { return Ok(None) };
    let read = serde_json::from_slice(&bytes);
    read.map(Some).map_err(|error| ResultsError::Content { path: directory.join(name), error: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_directories_are_made_and_used_ones_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("a/b");
        create(&directory).unwrap();
        assert!(directory.join(LOGS).is_dir());
        let error = create(&directory).unwrap_err().to_string();
        assert!(error.contains("a/b is not empty (it holds 'logs')"), "{error}");
        let file = temporary.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(create(&file).unwrap_err().to_string().contains("file"));
    }

    #[test]
    fn directories_are_told_apart_by_what_they_hold() {
        let directory = tempfile::tempdir().unwrap();
        let error = |path: &Path| kind(path).unwrap_err().to_string();
        let allowed = "allowed: a results directory, which holds report.json (run and stress make it), sweep.json (sweep), \
                       comparison.json (compare) or search.json (search)";
        let none = error(directory.path());
        assert!(none.contains("there are no results in it") && none.ends_with(allowed), "{none}");
        let missing = error(&directory.path().join("none"));
        assert!(missing.contains("/none: No such file") && missing.ends_with(allowed), "{missing}");
        for (name, expected) in [(REPORT, Kind::Run), (SEARCH, Kind::Search), (SWEEP, Kind::Sweep)] {
            write(directory.path(), name, "").unwrap();
            assert_eq!(kind(directory.path()).unwrap(), expected);
        }
        let file = error(&directory.path().join(SWEEP));
        assert!(file.contains("sweep.json: Not a directory") && file.ends_with(allowed), "{file}");
    }

    #[test]
    fn reports_read_back_and_foreign_ones_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let report = Report { schema: SCHEMA.into(), ..Report::default() };
        write(directory.path(), REPORT, &to_json(&report)).unwrap();
        assert_eq!(read_report(directory.path()).unwrap(), report);
        for (text, part) in [
            ("{}", "no schema"),
            ("[", "EOF"),
            (r#"{"schema":"hippodrome/run/9"}"#, "schema 'hippodrome/run/9' is not known"),
            (r#"{"schema":"hippodrome/run/1"}"#, "missing field"),
        ] {
            write(directory.path(), REPORT, text).unwrap();
            let error = read_report(directory.path()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(REPORT), "{error}");
        }
        assert!(read_report(&directory.path().join("none")).unwrap_err().to_string().contains("none/report.json"));
    }
}
