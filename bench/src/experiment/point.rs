//! Settings: options of `hippodrome run` by their names, read by the same parsers as its flags and its files.

use std::fmt;

use anyhow::{Context as _, anyhow};

use crate::cli::options::is_auth_refined;
use crate::cli::run::RunOptions;
use crate::{config, launch};

/// An option of `hippodrome run` and its value, both as they are typed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Setting {
    /// The flag's name, without the dashes in front of it.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: String,
}

impl Setting {
    /// Checks that there is such an option and that it takes this value.
    ///
    /// Besides what the flag takes, a batching may be written as a number (1 is `none`, any other N is `fixed:N`).
    ///
    /// # Errors
    /// Names the key, the value and what is allowed.
    pub(crate) fn new(key: &str, value: &str) -> anyhow::Result<Self> {
        let key = config::known_key(key)?;
        let setting = Self { value: value.to_owned(), key };
        let refusal = match config::options_of_flags([setting.flag()]) {
            Ok(_) => return Ok(setting),
            Err(error) => error,
        };
        let spelt_out = setting.spelt_out().filter(|other| config::options_of_flags([other.flag()]).is_ok());
        spelt_out.ok_or(refusal)
    }

    /// What its value stands for, if it may be short for something that flags take.
    fn spelt_out(&self) -> Option<Self> {
        let value = match (self.key.as_str(), self.value.as_str()) {
            ("batch", "1") => "none".to_owned(),
            ("batch", number) if number.bytes().all(|byte| byte.is_ascii_digit()) => format!("fixed:{number}"),
            _ => return None,
        };
        Some(Self { key: self.key.clone(), value })
    }

    fn flag(&self) -> String {
        format!("--{}={}", self.key, self.value)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// The options that settings make, defaults for the others. The later one of two wins; `auth` stands for all three
/// strategies, so it also wins over earlier ones of its refinements.
///
/// # Errors
/// Names the key, the value and what is allowed.
pub(crate) fn options<'a>(settings: impl IntoIterator<Item = &'a Setting>) -> anyhow::Result<RunOptions> {
    let mut flags: Vec<String> = Vec::new();
    for setting in settings {
        if setting.key == "auth" {
            flags.retain(|flag| !is_auth_refined(flag));
        }
        flags.push(setting.flag());
    }
    config::options_of_flags(flags)
}

/// One of the things that an experiment compares: settings on top of what all have in common.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// What tells it from the other points, in the order in which it is to be shown.
    pub(crate) settings: Vec<Setting>,
    /// What else only this point has.
    pub(crate) adjusted: Vec<Setting>,
    /// All of its options. Without a seed, unless one was given.
    pub(crate) options: RunOptions,
}

impl Point {
    /// A point on top of a base. `adjusted` wins over `settings`, which win over the base.
    ///
    /// # Errors
    /// Names the point, the key, its value and what is allowed: also of values that do not go together.
    pub(crate) fn new(base: &[Setting], settings: Vec<Setting>, adjusted: Vec<Setting>) -> anyhow::Result<Self> {
        let checked = options(base.iter().chain(&settings).chain(&adjusted)).and_then(|options| {
            launch::check(&options, false).map_err(|failure| anyhow!(failure.words()))?;
            Ok(options)
        });
        let options = checked.with_context(|| label(&settings))?;
        Ok(Self { settings, adjusted, options })
    }

    /// What people call it: `auth=mac batch=fixed:10`.
    pub(crate) fn label(&self) -> String {
        label(&self.settings)
    }

    /// Length of its load without the drain, s.
    pub(crate) fn load_s(&self) -> f64 {
        (self.options.load.warmup.0 + self.options.load.duration.0).as_secs_f64()
    }
}

/// Settings in one line.
pub(crate) fn label(settings: &[Setting]) -> String {
    if settings.is_empty() {
        return "the base".to_owned();
    }
    settings.iter().map(Setting::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::settings::Granularity;

    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
        pairs.iter().map(|(key, value)| Setting::new(key, value).unwrap()).collect()
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        for (key, value, part) in [
            ("replica", "4", "unknown key 'replica'; allowed: replicas, clients, auth"),
            ("replicas", "3", "'3' for '--replicas <N>': allowed: a whole number from 4 to 64"),
            ("batch", "0", "'0' for '--batch <STRATEGY>'"),
            ("batch", "5000", "'5000' for '--batch <STRATEGY>'"),
            ("auth", "rsa", "'rsa' for '--auth <PRESET>'"),
            ("wrong-from", "1", "unknown key 'wrong-from'"),
            ("json", "1", "unknown key 'json'"),
        ] {
            let error = Setting::new(key, value).unwrap_err().to_string();
            assert!(error.contains(part), "'{error}' lacks '{part}'");
        }
    }

    #[test]
    fn short_forms_stand_for_what_flags_take() {
        for (key, value, spelt_out) in [
            ("batch", "1", "none"),
            ("batch", "10", "fixed:10"),
            ("batch", "time:100,2ms", "time:100,2ms"),
            ("auth_clients", "ed25519", "ed25519"),
        ] {
            assert_eq!(Setting::new(key, value).unwrap().value, spelt_out);
        }
        let options = options(&settings(&[("auth", "mac-blake3"), ("batch", "100")])).unwrap();
        let expected = super::options(&settings(&[("auth", "mac"), ("batch", "fixed:100")])).unwrap();
        assert_eq!(options, expected);
    }

    #[test]
    fn later_settings_win_and_a_preset_over_its_refinements() {
        let base = settings(&[("clients", "10"), ("auth_clients", "ed25519"), ("duration", "3s")]);
        let point =
            Point::new(&base, settings(&[("auth", "none"), ("clients", "20")]), settings(&[("clients", "5")])).unwrap();
        assert_eq!(point.label(), "auth=none clients=20");
        assert_eq!((point.options.clients, point.load_s().to_string().as_str()), (5, "5"));
        assert_eq!(point.options.cluster.authentication().to_string(), "none");
        let refined = Point::new(&base, settings(&[("clients", "20")]), Vec::new()).unwrap();
        assert_eq!(refined.options.cluster.authentication().to_string(), "clients ed25519, replicas mac, replies mac");
        let frames = settings(&[("auth-granularity", "frame")]);
        let point = Point::new(&frames, settings(&[("auth", "ed25519")]), Vec::new()).unwrap();
        assert_eq!(point.options.cluster.settings().auth_granularity, Granularity::Frame);
    }

    #[test]
    fn values_that_do_not_go_together_are_named_with_the_point() {
        let error = |pairs: &[(&str, &str)]| {
            format!("{:#}", Point::new(&settings(&[("connections", "4")]), settings(pairs), Vec::new()).unwrap_err())
        };
        assert_eq!(error(&[("clients", "2")]), "clients=2: connections = 4: allowed: at most --clients (2)");
        assert_eq!(
            error(&[("arrivals", "poisson")]),
            "arrivals=poisson: arrivals = poisson: allowed: only with --rate (a closed loop has no schedule)"
        );
        assert!(error(&[("window", "100")]).starts_with("window=100: settings.window = 100: allowed: 256"));
        assert!(error(&[("byzantine", "0:silent,1:silent")]).contains("at most f = 1 of 4 replicas"));
        assert!(error(&[("network", "lan"), ("load-threads", "5")]).contains("load_threads = 5: allowed: at most"));
    }
}
