//! Configuration files: their keys are flags, so they are read as flags, by the same parsers and with the same
//! messages.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::{Args as _, Parser as _};

use crate::cli::options::is_auth_refined;
use crate::cli::run::{RunFile, RunOptions};
use crate::cli::{Cli, Command};
use crate::experiment::point::Setting;
use crate::failure::Failure;

/// The command line with the options of its `--config` file, if it has one, in front of its own: the later one of two
/// wins.
///
/// # Errors
/// Names the file and the key, its value and what is allowed; also every error of the command line itself.
pub(crate) fn with_file(arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let cli = Cli::try_parse_from(&arguments)?;
    let Command::Run(run) = cli.command else { return Ok(arguments) };
    let Some(path) = run.config else { return Ok(arguments) };
    let mut flags = flags_of(&path)?;
    // A preset on the command line stands for all three strategies: what the file refines is another preset.
    if arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .any(|text| text == "--auth" || text.starts_with("--auth="))
    {
        flags.retain(|flag| !is_auth_refined(flag));
    }
    // The command is always the first argument: there are no options in front of it.
    let (head, tail) = arguments.split_at(2);
    Ok(head.iter().cloned().chain(flags.into_iter().map(OsString::from)).chain(tail.iter().cloned()).collect())
}

/// A file's keys as flags, each one checked.
fn flags_of(path: &Path) -> Result<Vec<String>, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| name.to_string()).map_err(Failure::Usage)?;
    let flags = to_flags(&text).map_err(|error| Failure::Usage(error.context(name.to_string())))?;
    RunFile::try_parse_from(&flags).map_err(|error| Failure::Usage(anyhow!("{name}: {}", first_paragraph(&error))))?;
    Ok(flags)
}

/// A file's keys as settings, each one checked.
///
/// # Errors
/// Names the file, the key, its value and what is allowed.
pub(crate) fn settings_of(path: &Path) -> anyhow::Result<Vec<Setting>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| name.to_string())?;
    let read = || {
        let table: toml::Table = text.parse()?;
        table.iter().map(|(key, value)| Setting::new(key, &typed(key, value)?)).collect()
    };
    let settings: anyhow::Result<Vec<Setting>> = read();
    settings.with_context(|| name.to_string())
}

/// The options that a table of a configuration file sets.
///
/// # Errors
/// Names the key, its value and what is allowed.
pub(crate) fn options_of(table: &toml::Table) -> anyhow::Result<RunOptions> {
    options_of_flags(table_flags(table)?)
}

/// The options that flags (`--clients=4`) make, defaults for the others; the later one of two wins.
///
/// # Errors
/// Names the flag, its value and what is allowed.
pub(crate) fn options_of_flags(flags: impl IntoIterator<Item = String>) -> anyhow::Result<RunOptions> {
    let file = RunFile::try_parse_from(flags).map_err(|error| anyhow!(first_paragraph(&error)))?;
    Ok(file.options)
}

/// A key as flags are spelt, with hyphens.
///
/// # Errors
/// Lists the keys if there is none of this name.
pub(crate) fn known_key(key: &str) -> anyhow::Result<String> {
    let (flag, allowed) = (key.replace('_', "-"), keys());
    if allowed.contains(&flag) {
        return Ok(flag);
    }
    Err(anyhow!("unknown key '{key}'; allowed: {}", allowed.join(", ")))
}

/// A value of a file as it would be typed behind a flag.
///
/// # Errors
/// If it is neither a string nor a number.
pub(crate) fn typed(key: &str, value: &toml::Value) -> anyhow::Result<String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        other => Err(anyhow!("{key} = {other}: a {} is not allowed; allowed: a string or a number", other.type_str())),
    }
}

/// `--key=value` for each key of a TOML document.
fn to_flags(text: &str) -> anyhow::Result<Vec<String>> {
    table_flags(&text.parse()?)
}

fn table_flags(table: &toml::Table) -> anyhow::Result<Vec<String>> {
    table.iter().map(|(key, value)| Ok(format!("--{}={}", known_key(key)?, typed(key, value)?))).collect()
}

/// The names of all options that a file may set, as flags are spelt.
fn keys() -> Vec<String> {
    let command = RunOptions::augment_args(clap::Command::new("keys"));
    command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .filter_map(|a| a.get_long())
        .map(str::to_owned)
        .collect()
}

/// Clap's message without its hints about usage.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or(&text);
    paragraph.trim_start_matches("error: ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::settings::Granularity;

    use super::*;
    use crate::cli::run::RunArgs;
    use crate::cli::values::Count;

    fn run(file: &str, flags: &[&str]) -> Result<RunArgs, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("race.toml");
        std::fs::write(&path, file).unwrap();
        let mut arguments: Vec<OsString> = vec!["hippodrome".into(), "run".into(), "--config".into(), path.into()];
        arguments.extend(flags.iter().map(OsString::from));
        let merged = with_file(arguments).map_err(|failure| match failure {
            Failure::Usage(error) => format!("{error:#}"),
            other => format!("not a usage error: {other:?}"),
        })?;
        match Cli::try_parse_from(merged).unwrap().command {
            Command::Run(run) => Ok(*run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = "replicas = 7\nrequest_bytes = \"4KiB\"\nzipf = 0.5\nbatch = \"fixed:10\"\n";
        let options = run(file, &["--replicas", "10", "--zipf", "0.7"]).unwrap().options;
        assert_eq!((options.replicas, options.load.request_bytes.0), (10, 4096));
        assert_eq!((options.replica.batch.to_string().as_str(), options.clients), ("fixed:10", 4000));
        assert!((options.load.zipf - 0.7).abs() < f64::EPSILON);
    }

    #[test]
    fn a_preset_on_the_command_line_replaces_the_refined_one_of_the_file() {
        let file = "auth = \"mac\"\nauth_clients = \"ed25519\"\n";
        let authentication = |flags: &[&str]| run(file, flags).unwrap().options.cluster.authentication().to_string();
        assert_eq!(authentication(&["--auth", "none"]), "none");
        assert_eq!(authentication(&["--auth=none", "--auth-replies=mac"]), "clients none, replicas none, replies mac");
        assert_eq!(authentication(&["--auth-clients", "mac"]), "mac");
        // What an authenticator covers is no strategy.
        let options = run("auth_granularity = \"frame\"\n", &["--auth", "ed25519"]).unwrap().options;
        assert_eq!(options.cluster.auth_granularity, Granularity::Frame);
    }

    #[test]
    fn hyphens_and_underscores_are_the_same() {
        let options = run("checkpoint-interval = 10\nload_threads = 3\n", &[]).unwrap().options;
        assert_eq!((options.cluster.checkpoint_interval, options.generator.load_threads), (10, Count::Of(3)));
    }

    #[test]
    fn numbers_that_may_be_left_to_the_program_are_numbers_or_auto() {
        let generator = |file: &str| run(file, &[]).map(|run| run.options.generator);
        let left = generator("").unwrap();
        assert_eq!((left.load_threads, left.connections), (Count::Auto, Count::Auto));
        assert_eq!(generator("load_threads = \"auto\"\nconnections = \"auto\"\n").unwrap(), left);
        let given = generator("load_threads = 2\nconnections = \"3\"\n").unwrap();
        assert_eq!(toml::to_string(&given).unwrap(), "connections = 3\nload_threads = 2\n");
        assert_eq!(toml::to_string(&left).unwrap(), "connections = \"auto\"\nload_threads = \"auto\"\n");
        let error = generator("load_threads = \"many\"").unwrap_err();
        assert!(error.contains("'many'") && error.contains("auto, or a whole number from 1 to 64"), "{error}");
    }

    #[test]
    fn errors_name_the_file_the_key_and_what_is_allowed() {
        for (file, parts) in [
            ("replica = 4", &["unknown key 'replica'", "allowed: replicas, clients, auth"][..]),
            ("json = 1", &["unknown key 'json'"]),
            ("wrong_from = 1", &["unknown key 'wrong_from'"]),
            ("replicas = 3", &["'3'", "--replicas", "a whole number from 4 to 64"]),
            ("batch = \"fixed:0\"", &["'fixed:0' is not allowed; allowed: fixed:N (N: 1 to 4096 requests)"]),
            ("duration = 10", &["'10'", "--duration", "whole seconds"]),
            ("clients = [1]", &["clients = [1]: a array is not allowed; allowed: a string or a number"]),
            ("clients = ", &["line 1"]),
        ] {
            let error = run(file, &[]).unwrap_err();
            assert!(error.contains("race.toml"), "{error}");
            parts.iter().for_each(|part| assert!(error.contains(part), "'{error}' lacks '{part}'"));
        }
    }

    #[test]
    fn resolved_options_are_a_file_that_reads_back() {
        let flags = [
            "--rate",
            "1000",
            "--arrivals",
            "poisson",
            "--auth",
            "hybrid",
            "--auth-replies",
            "none",
            "--placement",
            "network+egress@0,verify,order+execute@1",
            "--network",
            "wan-eu,loss=0.1%",
        ];
        let options = run("", &flags).unwrap().options.resolved();
        assert!(options.load.seed.is_some());
        let text = toml::to_string(&options).unwrap();
        assert_eq!(run(&text, &[]).unwrap().options, options, "{text}");
    }
}
