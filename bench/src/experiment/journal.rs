//! The directory of an experiment, which is the truth about what is done: a plan, one results directory for each run,
//! and a lock. An experiment that was killed at any moment goes on where it was, with the loss of the run under way.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, anyhow};
use hippodrome_analysis::results::{self, ResultsError};
use serde_json::Value;

use super::trial::{self, Trial};
use crate::cli::run::RunOptions;
use crate::failure::Failure;
use crate::launch::{Audience, Stop};

/// The folder of the runs.
pub(crate) const RUNS: &str = "runs";
/// Where runs are put that did not come to their end.
const ASIDE: &str = "aside";
/// Held by whoever writes the directory. A lock of the kernel: it ends with its process, however that ends.
const LOCK: &str = ".lock";
/// Differences of plans that an error tells.
const DIFFERENCES_TOLD: usize = 4;

/// An experiment's directory.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    /// Kept for the lock on it; `None` for who only reads.
    lock: Option<File>,
}

impl Journal {
    /// Takes a directory, made if missing, for oneself.
    ///
    /// # Errors
    /// If another process has it, or it holds something that is no experiment.
    pub(crate) fn lock(directory: &Path) -> Result<Self, Failure> {
        let name = directory.display();
        std::fs::create_dir_all(directory).with_context(|| name.to_string()).map_err(Failure::Usage)?;
        let journal = Self { directory: directory.to_owned(), lock: None };
        journal.check_free()?;
        let path = directory.join(LOCK);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| path.display().to_string()).map_err(Failure::Usage)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { lock: Some(file), ..journal }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Failure::Usage(anyhow!(
                "{name}: another process is writing it; wait for its end, or choose another --out"
            ))),
            Err(std::fs::TryLockError::Error(error)) => {
                Err(Failure::Failed(anyhow!(error).context(format!("{}: no lock", path.display()))))
            }
        }
    }

    /// Only looks into a directory, which may be missing.
    ///
    /// # Errors
    /// If it holds something that is no experiment.
    pub(crate) fn look(directory: &Path) -> Result<Self, Failure> {
        let journal = Self { directory: directory.to_owned(), lock: None };
        if directory.exists() {
            journal.check_free()?;
        }
        Ok(journal)
    }

    /// What is written beside a plan must belong to it.
    fn check_free(&self) -> Result<(), Failure> {
        if self.directory.join(results::PLAN).exists() {
            return Ok(());
        }
        let path = &self.directory;
        let entries = std::fs::read_dir(path).with_context(|| path.display().to_string()).map_err(Failure::Usage)?;
        let foreign = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        // A start that was killed may have left these.
        match foreign.into_iter().find(|name| !name.starts_with('.')) {
            Some(holds) => Err(Failure::usage(ResultsError::NotEmpty { path: path.clone(), holds })),
            None => Ok(()),
        }
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The plan that was begun here, if any.
    ///
    /// # Errors
    /// If it can not be read.
    pub(crate) fn plan(&self) -> Result<Option<Value>, Failure> {
        let path = self.directory.join(results::PLAN);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let plan = serde_json::from_str(&text);
                Ok(Some(plan.with_context(|| path.display().to_string()).map_err(Failure::Usage)?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::Usage(anyhow!(error).context(path.display().to_string()))),
        }
    }

    /// Checks that what was begun here, if anything was, is the same.
    ///
    /// # Errors
    /// Names the differences.
    pub(crate) fn check(&self, plan: &Value) -> Result<(), Failure> {
        let Some(there) = self.plan()? else { return Ok(()) };
        let mut differences = Vec::new();
        compare("", &there, plan, &mut differences);
        // Whatever differs also makes other runs: that is only worth telling if it is all.
        if differences.iter().any(|difference| !difference.starts_with("runs")) {
            differences.retain(|difference| !difference.starts_with("runs"));
        }
        if differences.is_empty() {
            return Ok(());
        }
        let more = differences.len().saturating_sub(DIFFERENCES_TOLD);
        differences.truncate(DIFFERENCES_TOLD);
        if more > 0 {
            differences.push(format!("and {more} more"));
        }
        Err(Failure::Usage(anyhow!(
            "{}: another plan was begun there; results of two plans are never mixed: choose another --out, or give what was given then\n  {}",
            self.directory.display(),
            differences.join("\n  ")
        )))
    }

    /// Begins a plan, or goes on with it if it was begun here before.
    ///
    /// # Errors
    /// If another one was begun here, or nothing can be written.
    ///
    /// # Panics
    /// If this is not whoever locked the directory.
    pub(crate) fn begin(&self, plan: &Value) -> Result<(), Failure> {
        assert!(self.lock.is_some(), "only who has locked an experiment writes it");
        self.check(plan)?;
        if self.plan()?.is_none() {
            let text = serde_json::to_string_pretty(plan).context(results::PLAN)?;
            results::write(&self.directory, results::PLAN, &format!("{text}\n")).context("plan")?;
        }
        let runs = self.directory.join(RUNS);
        Ok(std::fs::create_dir_all(&runs).with_context(|| runs.display().to_string())?)
    }

    /// What came of a run; `None` if it has not been played to its end.
    pub(crate) fn done(&self, name: &str) -> Option<Trial> {
        trial::read(&self.run_directory(name))
    }

    /// Where a run's results lie, relative to the experiment's directory.
    pub(crate) fn relative(name: &str) -> String {
        format!("{RUNS}/{name}")
    }

    fn run_directory(&self, name: &str) -> PathBuf {
        self.directory.join(RUNS).join(name)
    }

    /// Plays a run, unless it was played to its end before.
    ///
    /// # Errors
    /// If interrupted, or nothing can be written.
    pub(crate) fn play(
        &self,
        name: &str,
        options: &RunOptions,
        audience: Rc<dyn Audience>,
        stop: &Stop,
    ) -> Result<Trial, Failure> {
        self.play_by(name, |directory| trial::run(options, directory, audience, stop))
    }

    /// The same, by whoever makes the run in its directory.
    ///
    /// # Errors
    /// If interrupted, or nothing can be written.
    pub(crate) fn play_by(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<Trial, Failure>,
    ) -> Result<Trial, Failure> {
        assert!(self.lock.is_some(), "only who has locked an experiment plays its runs");
        if let Some(trial) = self.done(name) {
            return Ok(trial);
        }
        self.set_aside(name)?;
        make(&self.run_directory(name))
    }

    /// Moves what is left of a run out of the way.
    ///
    /// # Errors
    /// If it can not be moved.
    pub(crate) fn set_aside(&self, name: &str) -> Result<(), Failure> {
        let from = self.run_directory(name);
        if !from.exists() {
            return Ok(());
        }
        let aside = self.directory.join(ASIDE);
        std::fs::create_dir_all(&aside).with_context(|| aside.display().to_string())?;
        let to = (1..).map(|number| aside.join(format!("{name}.{number}"))).find(|path| !path.exists());
        let to = to.unwrap_or(aside);
        Ok(std::fs::rename(&from, &to).with_context(|| format!("{} to {}", from.display(), to.display()))?)
    }
}

/// Where two plans differ, in words.
fn compare(path: &str, there: &Value, here: &Value, differences: &mut Vec<String>) {
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (there, here) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                match new.get(key) {
                    Some(other) => compare(&at(key), value, other, differences),
                    None => differences.push(format!("{}: {} there, nothing now", at(key), short(value))),
                }
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                differences.push(format!("{}: nothing there, {} now", at(key), short(value)));
            }
        }
        (there, here) if there == here => {}
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{path}[{index}]"), old, new, differences);
            }
        }
        (there, here) => differences.push(format!("{path}: {} there, {} now", short(there), short(here))),
    }
}

/// Longest value that an error shows.
const VALUE_CHARS_MAX: usize = 60;

fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX).chain("..".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
        match result.unwrap_err() {
            Failure::Usage(error) => format!("{error:#}"),
            other => panic!("not a usage error: {other:?}"),
        }
    }

    #[test]
    fn one_process_at_a_time_writes_a_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("a/b");
        let first = Journal::lock(&directory).unwrap();
        assert!(words(Journal::lock(&directory)).contains("another process is writing it"));
        Journal::look(&directory).unwrap();
        drop(first);
        Journal::lock(&directory).unwrap();
    }

    #[test]
    fn foreign_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("thesis.tex"), "").unwrap();
        assert!(words(Journal::lock(directory.path())).contains("is not empty (it holds 'thesis.tex')"));
        assert!(words(Journal::look(directory.path())).contains("is not empty"));
        assert!(Journal::look(&directory.path().join("none")).unwrap().plan().unwrap().is_none());
    }

    #[test]
    fn a_plan_is_gone_on_with_and_another_one_refused_with_the_differences() {
        let directory = tempfile::tempdir().unwrap();
        let plan = json!({"repeats": 3, "base": {"clients": 4000, "app": "kv"}, "runs": ["a", "b"]});
        let journal = Journal::lock(directory.path()).unwrap();
        assert_eq!(journal.plan().unwrap(), None);
        journal.begin(&plan).unwrap();
        journal.begin(&plan).unwrap();
        assert_eq!(journal.plan().unwrap(), Some(plan.clone()));
        let other = json!({"repeats": 5, "base": {"clients": 4000, "zipf": 0.5}, "runs": ["a", "b", "c"]});
        let error = words(journal.begin(&other));
        for part in [
            "another plan was begun there",
            "repeats: 3 there, 5 now",
            "base.app: kv there, nothing now",
            "base.zipf: nothing there, 0.5 now",
        ] {
            assert!(error.contains(part), "'{error}' lacks '{part}'");
        }
        assert!(!error.contains("clients") && !error.contains("runs"), "{error}");
        let order = json!({"repeats": 3, "base": {"clients": 4000, "app": "kv"}, "runs": ["b", "a"]});
        assert!(words(journal.check(&order)).ends_with("\n  runs[0]: a there, b now\n  runs[1]: b there, a now"));
        assert_eq!(journal.plan().unwrap(), Some(plan), "it is as it was");
        let many: Value = (0..9).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into();
        assert!(words(journal.check(&many)).ends_with("and 7 more"));
    }

    #[test]
    fn what_was_not_played_to_its_end_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::lock(directory.path()).unwrap();
        journal.begin(&json!({})).unwrap();
        for number in 1..=2 {
            let run = journal.run_directory("x");
            std::fs::create_dir_all(&run).unwrap();
            std::fs::write(run.join("cluster.toml"), number.to_string()).unwrap();
            assert_eq!(journal.done("x"), None);
            journal.set_aside("x").unwrap();
            let moved = directory.path().join(format!("{ASIDE}/x.{number}/cluster.toml"));
            assert_eq!(std::fs::read_to_string(moved).unwrap(), number.to_string());
        }
        journal.set_aside("never begun").unwrap();
    }
}
