//! The scenarios that come with the binary: copying it to a host is all the installation there is.

use super::{Title, title};
use crate::shipped::{self, shipped};

shipped!["scenarios":
    "kill-backup",
    "kill-primary",
    "stop-backup",
    "stop-primary",
    "five-primaries",
    "rolling-restarts",
    "all-killed",
    "down-20s",
    "partition-primary",
    "asymmetric-partition",
    "lossy-network",
    "silent-primary",
    "slow-primary",
    "partial-authenticator-primary",
    "early-bodies",
    "flood",
    "hostile-clients",
];

/// One that comes with the binary.
pub(crate) struct Shipped {
    /// Its name and what it is about.
    pub(crate) title: Title,
    /// Its text.
    pub(crate) text: &'static str,
}

/// All of them.
///
/// # Errors
/// Never, as a test shows: each can be read.
pub(crate) fn all() -> anyhow::Result<Vec<Shipped>> {
    TEXTS.iter().map(|(_, text)| Ok(Shipped { title: title(text)?, text })).collect()
}

/// The text of the one with this name.
///
/// # Errors
/// Lists the names if there is none.
pub(crate) fn text(name: &str) -> anyhow::Result<&'static str> {
    shipped::text(TEXTS, "scenario", name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_file_is_shipped_under_its_name() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".toml").to_owned())
            .collect();
        files.sort();
        let mut names: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(names, files);
        for ((name, _), shipped) in TEXTS.iter().zip(all().unwrap()) {
            assert_eq!(*name, shipped.title.name);
        }
    }

    #[test]
    fn what_is_not_left_out_can_be_played() {
        for shipped in all().unwrap().iter().filter(|shipped| shipped.title.skip.is_none()) {
            let scenario =
                Scenario::parse(shipped.text).unwrap_or_else(|error| panic!("{}: {error:#}", shipped.title.name));
            let seconds = (scenario.options.load.warmup.0 + scenario.options.load.duration.0).as_secs();
            assert!(seconds <= 26, "{}: a load of {seconds} s is too long for all to be played", scenario.name);
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let error = text("kill-everyone").unwrap_err().to_string();
        assert!(error.contains("no scenario 'kill-everyone'") && error.contains("kill-primary"), "{error}");
    }
}
