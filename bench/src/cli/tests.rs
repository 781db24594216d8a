//! Every bad option is refused with a message that names it, the value and what is allowed.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use hippodrome_engine::settings::{Authentication, Strategy};

use super::{Cli, Command};

fn error(arguments: &[&str]) -> (ErrorKind, String) {
    let error = Cli::try_parse_from(std::iter::once(&"hippodrome").chain(arguments)).unwrap_err();
    (error.kind(), error.render().to_string())
}

#[test]
fn definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn bad_values_are_named_with_what_is_allowed() {
    for (flag, value, allowed) in [
        ("--replicas", "3", "a whole number from 4 to 64"),
        ("--replicas", "65", "a whole number from 4 to 64"),
        ("--clients", "many", "a whole number from 1 to 1048576"),
        ("--clients", "0", "a whole number from 1 to 1048576"),
        ("--clients", "1048577", "a whole number from 1 to 1048576"),
        ("--connections", "65", "auto, or a whole number from 1 to 64"),
        ("--load-threads", "65", "auto, or a whole number from 1 to 64"),
        ("--load-threads", "0", "auto, or a whole number from 1 to 64"),
        ("--duration", "0s", "whole seconds, 1s to 86400s"),
        ("--duration", "1500ms", "whole seconds"),
        ("--warmup", "soon", "whole seconds, 0s to 86400s"),
        ("--rate", "0", "a number from 1 to 1000000000"),
        ("--rate", "NaN", "a number from 1"),
        ("--arrivals", "bursty", "constant, poisson"),
        ("--request-bytes", "2MiB", "0 to 1.0 MiB (1048576 bytes)"),
        ("--reply-bytes", "-1", "1048576 bytes"),
        ("--app", "sql", "null, kv"),
        ("--workload", "g", "a, b, c, d, e, f"),
        ("--zipf", "3", "from 0 to 2"),
        ("--records", "0", "a whole number from 1 to 10000000"),
        ("--auth", "rsa", Authentication::allowed().as_str()),
        ("--auth-clients", "hybrid", Strategy::allowed().as_str()),
        ("--auth-replicas", "", Strategy::allowed().as_str()),
        ("--auth-replies", "x", Strategy::allowed().as_str()),
        ("--auth-granularity", "batch", "request, frame"),
        ("--batch", "fixed:4097", "fixed:N"),
        ("--batch", "time:5", "time:N,DELAY"),
        ("--window", "4097", "a whole number from 2 to 4096"),
        ("--checkpoint-interval", "0", "a whole number from 1 to 2048"),
        ("--transport", "dpdk", "auto, epoll, tokio-uring, io-uring"),
        ("--transport", "io-uring:napi=1s", "sqpoll and napi=TIME (1us to 10ms)"),
        ("--network", "wan-mars", "none, lan, lossy-lan, wan-aws-5, wan-eu, wan-us, a TOML file"),
        ("--network", "lan,loss=2", "loss=PERCENT%"),
        ("--placement", "0,1", "NETWORK,ORDER,EXECUTE,EGRESS,VERIFY"),
        ("--placement", "network,verify,order+execute", "STAGE[+STAGE..][@CORE],.. with each of network, order"),
        ("--placement", "network,verify,order,egress@x", "'x' is no core from 0 to 4095"),
        ("--wait", "sleep", "auto, spin, yield, park"),
        ("--retransmit-after", "0s", "1ms to 1h"),
        ("--retransmit-max", "2h", "1ms to 1h"),
        ("--timeout", "x", "1ms to 1h"),
        ("--seed", "-1", "a whole number from 0"),
    ] {
        let (kind, text) = error(&["run", &format!("{flag}={value}")]);
        assert!(matches!(kind, ErrorKind::ValueValidation | ErrorKind::InvalidValue), "{flag} {value}: {text}");
        for part in [flag, value, allowed] {
            assert!(text.contains(part), "'{text}' lacks '{part}'");
        }
    }
}

#[test]
fn unknown_and_missing_flags_are_named() {
    let (kind, text) = error(&["run", "--replica", "4"]);
    assert_eq!(kind, ErrorKind::UnknownArgument);
    assert!(text.contains("'--replica'") && text.contains("--replicas"), "{text}");
    for (arguments, missing) in [
        (&["replica"][..], "--cluster"),
        (&["load", "--cluster", "x", "--key", "y"], "--out"),
        (&["keygen", "--out", "x"], "--listen"),
        (&["report"], "<DIR>"),
        (&["stress"], "<SCENARIO|--all|--list>"),
        (&["sweep"], "<EXPERIMENT|--vary KEY=VALUE,..|--list>"),
    ] {
        let (kind, text) = error(arguments);
        assert_eq!(kind, ErrorKind::MissingRequiredArgument);
        assert!(text.contains(missing), "{text}");
    }
}

#[test]
fn relations_between_options_are_checked() {
    for (arguments, part) in [
        (&["--arrivals", "poisson"][..], "arrivals = poisson: allowed: only with --rate"),
        (&["--retransmit-after", "9s"], "retransmit_max = 8s: allowed: at least --retransmit-after (9s)"),
    ] {
        let cli = Cli::try_parse_from(["hippodrome", "run"].iter().chain(arguments)).unwrap();
        let Command::Run(run) = cli.command else { panic!() };
        match run.options.load.check().unwrap_err() {
            crate::failure::Failure::Usage(error) => assert!(error.to_string().contains(part), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn overrides_refine_the_preset() {
    let cli = Cli::try_parse_from(["hippodrome", "run", "--auth", "hybrid", "--auth-replies", "none"]).unwrap();
    let Command::Run(run) = cli.command else { panic!() };
    let authentication = run.options.cluster.authentication();
    assert_eq!(authentication.to_string(), "clients ed25519-batch, replicas mac, replies none");
}

#[test]
fn strategies_are_taken_by_every_name_and_described_in_help() {
    let short = Cli::command().find_subcommand_mut("run").unwrap().render_help().to_string();
    let long = error(&["run", "--help"]).1;
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (short, long) = (words(&short), words(&long));
    assert!(short.contains(&format!("Who proves what to whom: {}", Authentication::allowed())), "{short}");
    assert_eq!(short.matches(&format!("only, instead of --auth: {}", Strategy::allowed())).count(), 3, "{short}");
    for strategy in Strategy::all() {
        let about = strategy.about();
        assert!(long.contains(&format!("{}: {}", about.name, about.summary)), "{long}");
        for name in about.aliases.iter().chain([&about.name]) {
            let arguments = ["hippodrome", "run", "--auth", name, "--auth-replies", name];
            let Command::Run(run) = Cli::try_parse_from(arguments).unwrap().command else { panic!() };
            assert_eq!(run.options.cluster.authentication().to_string(), about.name);
        }
    }
    assert!(long.contains("hybrid: clients ed25519-batch, replicas mac, replies mac"), "{long}");
}

#[test]
fn help_of_every_command_tells_examples_and_exit_codes() {
    for (command, about) in [
        ("run", "A run is INVALID (exit code 1) unless"),
        ("stress", "A scenario is GREEN if it was played as it is written, the run is VALID"),
        ("sweep", "Each round runs every combination once, in an order of its own drawn by chance"),
        ("replica", "Runs one replica of a cluster"),
        ("load", "all logical clients of one client node"),
        ("keygen", "Never overwrites"),
        ("report", "reads only its files"),
        ("compare", "Compares runs that were made before"),
        ("search", "first a closed loop to know about where to look"),
        ("roofline", "no implementation of PBFT could go below"),
        ("sim", "the replica's own code under simulated time"),
        ("doctor", "changes nothing"),
        ("completions", "completes commands and options in a shell"),
        ("man", "one for each command"),
    ] {
        let (kind, text) = error(&[command, "--help"]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(kind, ErrorKind::DisplayHelp);
        for part in [about, "Example", "Exit codes:", "130"] {
            assert!(text.contains(part), "{command}: {text}");
        }
    }
}
