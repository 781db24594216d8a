//! The experiments that come with the binary: copying it to a host is all the installation there is.

use super::file::Experiment;
use crate::shipped::{self, shipped};

shipped!["experiments": "auth-x-batch", "payload", "replicas", "clients", "placement", "transport", "castro-liskov", "ycsb"];

/// All of them.
///
/// # Errors
/// Never, as a test shows: each can be read.
pub(crate) fn all() -> anyhow::Result<Vec<Experiment>> {
    TEXTS.iter().map(|(_, text)| Experiment::parse(text)).collect()
}

/// The text of the one with this name.
///
/// # Errors
/// Lists the names if there is none.
pub(crate) fn text(name: &str) -> anyhow::Result<&'static str> {
    shipped::text(TEXTS, "experiment", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_shipped_under_its_name() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".toml").to_owned())
            .collect();
        files.sort();
        let mut names: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(names, files);
        for ((name, _), experiment) in TEXTS.iter().zip(all().unwrap()) {
            assert_eq!(*name, experiment.name);
        }
    }

    #[test]
    fn every_point_of_every_experiment_can_run() {
        for (name, text) in TEXTS {
            let experiment = Experiment::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(experiment.question.ends_with('?'), "{name}: {}", experiment.question);
            assert!(experiment.points().unwrap().len() > 2, "{name}");
        }
    }

    /// As it is promised: under a quarter of an hour on two cores.
    #[test]
    fn authentication_by_batching_is_short_enough() {
        let experiment = Experiment::parse(text("auth-x-batch").unwrap()).unwrap();
        let overhead_s = crate::experiment::progress::OVERHEAD_S;
        let one: f64 = experiment.points().unwrap().iter().map(|point| point.load_s() + overhead_s).sum();
        let all = one * f64::from(experiment.repeats);
        assert!(all < 15.0 * 60.0, "{all} s");
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let error = text("everything").unwrap_err().to_string();
        assert!(error.contains("no experiment 'everything'") && error.contains("auth-x-batch"), "{error}");
    }
}
