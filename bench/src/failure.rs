//! How a command ends when it does not end well.

use std::process::ExitCode;

use crate::output::tell;

/// Exit codes, as every `--help` and docs/command-line.md list them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done; run and report: the verdict is VALID; stress: GREEN; sweep: all runs are VALID;
       compare: no side is slower than it may be; search: a rate was found; doctor: nothing is BAD;
       sim: nothing was violated, or, with --mutants, every planted bug was found
  1    run and report: the verdict is INVALID; stress: something is not GREEN; sweep: not all runs
       are VALID; compare: a side is slower than it may be; search: no rate meets the objectives;
       doctor: something is BAD; sim: something was violated, or a planted bug was not found by a
       checker that is there for it
  2    usage: a flag, key, value, file or address can not be used (the message names it)
  3    something failed on the way (the message says what)
  4    compare and search: inconclusive
  130  interrupted by Ctrl-C or SIGTERM";

/// Why a command ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Clap's own errors, and `--help` and `--version`.
    Arguments(clap::Error),
    /// What the user gave can not be used.
    Usage(anyhow::Error),
    /// Something failed on the way.
    Failed(anyhow::Error),
    /// The verdict is INVALID; the reasons have been printed.
    Invalid,
    /// A scenario is not GREEN; what was not met has been printed.
    NotGreen,
    /// The doctor found that runs can not be made here; what it is has been printed.
    Unfit,
    /// A side is slower than it may be; by how much has been printed.
    Slower,
    /// No rate meets the objectives; which were tried has been printed.
    Missed,
    /// No conclusion may be drawn; why has been printed.
    Inconclusive,
    /// Interrupted by a signal.
    Interrupted,
}

impl Failure {
    /// A usage error.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// A usage error about one key: names it, the value and what is allowed.
    pub(crate) fn value(key: &str, value: impl std::fmt::Display, allowed: impl std::fmt::Display) -> Self {
        Self::Usage(anyhow::anyhow!("{key} = {value}: allowed: {allowed}"))
    }

    /// What happened, in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Arguments(error) => error.to_string(),
            Self::Usage(error) | Self::Failed(error) => format!("{error:#}"),
            Self::Invalid => "the verdict is INVALID".to_owned(),
            Self::NotGreen => "not everything was as the scenario expects".to_owned(),
            Self::Unfit => "runs can not be made here".to_owned(),
            Self::Slower => "a side is slower than it may be".to_owned(),
            Self::Missed => "no rate meets the objectives".to_owned(),
            Self::Inconclusive => "inconclusive".to_owned(),
            Self::Interrupted => "interrupted".to_owned(),
        }
    }

    /// Says what happened on stderr; the code to exit with.
    pub(crate) fn exit(self) -> ExitCode {
        let code = match self {
            Self::Arguments(error) => {
                let _ = error.print();
                u8::try_from(error.exit_code()).unwrap_or(2)
            }
            Self::Usage(error) => {
                tell(&format!("error: {error:#}"));
                2
            }
            Self::Failed(error) => {
                tell(&format!("error: {error:#}"));
                3
            }
            Self::Invalid | Self::NotGreen | Self::Slower | Self::Missed | Self::Unfit => 1,
            Self::Inconclusive => 4,
            Self::Interrupted => {
                tell("interrupted");
                130
            }
        };
        ExitCode::from(code)
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}
