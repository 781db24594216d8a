//! The options of a run that somebody really typed, for commands that make many runs of them.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

use super::run::RunOptions;
use crate::experiment::point::Setting;

/// All options of `hippodrome run`, of which those are kept that were given: what is not may still be set otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given(pub(crate) Vec<Setting>);

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        RunOptions::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        RunOptions::augment_args_for_update(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let all = RunOptions::augment_args(Command::new("all"));
        let mut given = Vec::new();
        for (id, key) in all.get_arguments().filter_map(|argument| Some((argument.get_id(), argument.get_long()?))) {
            if matches.value_source(id.as_str()) != Some(ValueSource::CommandLine) {
                continue;
            }
            // The last one wins.
            let Some(value) = matches.get_raw(id.as_str()).and_then(Iterator::last) else { continue };
            let value = value.to_str().ok_or_else(|| {
                Error::raw(ErrorKind::InvalidUtf8, format!("--{key} {}: allowed: UTF-8\n", value.display()))
            })?;
            given.push(Setting { key: key.to_owned(), value: value.to_owned() });
        }
        Ok(Self(given))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    #[command(args_override_self = true)]
    struct Many {
        #[command(flatten)]
        given: Given,
    }

    #[test]
    fn only_what_was_typed_is_kept_and_the_last_of_it() {
        let many = Many::try_parse_from(["x", "--clients", "5", "--clients=6", "--auth-replies", "none"]).unwrap();
        let given: Vec<String> = many.given.0.iter().map(Setting::to_string).collect();
        assert_eq!(given, ["clients=6", "auth-replies=none"]);
        assert_eq!(Many::try_parse_from(["x"]).unwrap().given.0, []);
        let error = Many::try_parse_from(["x", "--clients", "0"]).unwrap_err().to_string();
        assert!(error.contains("a whole number from 1 to 1048576"), "{error}");
    }
}
