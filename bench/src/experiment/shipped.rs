//! The experiments that come with the binary: copying it to a host is all the installation there is.

use super::file::Experiment;
use crate::shipped::{self, shipped};

shipped!["experiments": "auth-x-batch", "payload", "replicas", "clients", "placement", "cores", "transport", "castro-liskov", "ycsb"];

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

    /// The cuts of the data path in two, with egress on either side, and a thread for all and for each, in both ways of
    /// waiting; and `auto`, which runs wherever there are two cores.
    #[test]
    fn placements_that_fit_two_cores_are_swept() {
        let on = |name: &str, cores| Experiment::parse(text(name).unwrap()).unwrap().on(cores);
        let placement = on("placement", 2);
        assert_eq!(placement.excluded(), []);
        let points = placement.points().unwrap();
        assert_eq!(points.len(), 2 * (2 * (2 + 7) + 1));
        let threads = |cut: &str| {
            let of_first = |stage| cut.split(',').position(|group| group.split('+').any(|other| other == stage));
            ["network", "verify", "order", "execute", "egress"].map(of_first)
        };
        let values = &placement.varied().into_iter().find(|varied| varied.key == "placement").unwrap().values;
        let cuts: Vec<_> = values.iter().filter(|value| value.contains(',')).map(|cut| threads(cut)).collect();
        let distinct: std::collections::BTreeSet<_> = cuts.iter().collect();
        assert_eq!((cuts.len(), distinct.len()), (7, 7));
        assert!(cuts.iter().flatten().all(Option::is_some));
        // Each further core lets more of the others run, from two on, until all do.
        let counts: Vec<usize> = (1..=16).map(|cores| on("cores", cores).points().unwrap().len()).collect();
        assert!(counts.is_sorted() && counts[1] < counts[3] && counts[3] < counts[15], "{counts:?}");
        assert_eq!(on("cores", 16).excluded(), []);
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
