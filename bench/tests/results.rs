//! What a run leaves behind: files that exist, agree with each other, and can be used again.

use std::fs;
use std::path::Path;
use std::process::Output;

use hippodrome_analysis::{latency, results};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Run, hippodrome, outcome, reasons, track};

mod common;

/// Runs the binary to its end; exit code, stdout, stderr.
fn finished(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output: Output = hippodrome(directory, arguments).output().unwrap();
    outcome(&output)
}

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join("out").join(name)).unwrap()
}

#[test]
fn files_of_a_run_agree() {
    let run = Run::start(&["--duration", "3s", "--rate", "300"]).finish();
    let (directory, report) = (&run.directory, &run.report);
    let out = directory.path().join("out");
    let mut files: Vec<String> = (0..4).map(|id| format!("replica-{id}")).collect();
    files.extend(["cluster.toml", "config.toml", "latency.hlog", "load.json", "logs", "report.json"].map(String::from));
    files.extend(["attribution.csv", "report.html", "series.csv"].map(String::from));
    files.sort();
    assert_eq!(names(&out), files, "no keys are left");
    assert_eq!(names(&out.join("replica-0")), ["lock", "replica.toml"], "nothing else is remembered without a log");
    assert_eq!(
        names(&out.join("logs")),
        ["load.log", "replica-0.log", "replica-1.log", "replica-2.log", "replica-3.log"]
    );

    let hlog = latency::merge([fs::read(out.join(results::LATENCY)).unwrap().as_slice()]).unwrap();
    let told = &report["latency_us"];
    assert_eq!(told["count"], hlog.len());
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999), ("max", 1.0)] {
        #[allow(clippy::cast_precision_loss, reason = "no latency here has 2^53 ns")]
        let us = hlog.value_at_quantile(quantile) as f64 / 1e3;
        let difference = (told[name].as_f64().unwrap() - us).abs();
        assert!(difference < 0.01 * us, "{name}: {} in the report, {us} in the log", told[name]);
    }

    let load: Value = serde_json::from_str(&read(directory, results::LOAD)).unwrap();
    let throughput = &report["throughput"];
    assert_eq!(load["operations"], throughput["operations"]);
    assert_eq!(load["offered_operations"], 900);
    // Latencies count by the intended send, operations by the reply: at the window's ends they may differ.
    let operations = load["operations"].as_u64().unwrap();
    assert!(operations.abs_diff(hlog.len()) < 100, "{operations} operations, {} latencies", hlog.len());

    let series = read(directory, results::SERIES);
    let rows: Vec<Vec<&str>> = series.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|head| *head == name).unwrap_or_else(|| panic!("{series}"));
    let (measured, operations) = (column("measured"), column("operations"));
    let is_measured = |row: &&Vec<&str>| matches!(row[measured], "true" | "1");
    let in_series: Vec<f64> =
        rows[1..].iter().filter(is_measured).map(|row| row[operations].parse().unwrap()).collect();
    let in_report: Vec<f64> =
        throughput["per_second"].as_array().unwrap().iter().map(|rate| rate.as_f64().unwrap()).collect();
    assert_eq!(in_series, in_report, "{series}");
    assert_eq!(in_report.len(), 3);
}

/// Real replicas send what message complexity says, within what repairs add on a busy machine. Operations are small:
/// where clients send them to everybody, some are fetched from others all the same.
#[test]
fn replicas_send_what_the_protocol_says() {
    let mut messages = Vec::new();
    for more in [&["--replicas", "4"][..], &["--replicas", "7"], &["--dissemination", "digest"]] {
        let small = ["--duration", "1s", "--batch", "none"];
        let arguments = [&small[..], more].concat();
        let run = Run::start(&arguments).finish();
        run.expect_sound(&more.join(" "));
        let traffic = &run.report["traffic"];
        for (sent, expected) in
            [("messages_per_op", "expected_messages_per_op"), ("bytes_per_op", "expected_bytes_per_op")]
        {
            let [sent, expected] = [sent, expected].map(|name| traffic[name].as_f64().unwrap());
            let ratio = sent / expected;
            assert!((0.9..1.5).contains(&ratio), "{more:?}: {sent} sent, {expected} expected: {traffic}");
        }
        messages.push(traffic["messages_per_op"].as_f64().unwrap());
        let (cpu, cost) = (&run.report["cpu"], run.report["generator"]["cost_in_replicas"].as_f64().unwrap());
        let [clients, replica] = ["us_per_op_clients", "us_per_op_one_replica"].map(|name| cpu[name].as_f64().unwrap());
        assert!(cost > 0.0 && (cost - clients / replica).abs() < 1e-6 * cost, "{cost}: {cpu}");
        let (throughput, latency) = (&run.report["throughput"], &run.report["latency_us"]);
        let rate_times_mean = throughput["ops_per_s"].as_f64().unwrap() * latency["mean"].as_f64().unwrap() / 1e6;
        assert!((throughput["outstanding"].as_f64().unwrap() - rate_times_mean).abs() < 1e-6, "{throughput}");
    }
    assert!(messages[1] > 2.0 * messages[0], "91 for an operation, not 28: {messages:?}");
}

#[test]
fn report_repeats_what_run_said() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let small = ["run", "--clients", "40", "--warmup", "0s", "--duration", "1s"];
    for (out, extra) in [("sound", &[][..]), ("wrong", &["--wrong-from", "3"])] {
        let arguments = [&small[..], &["--out", out], extra].concat();
        let (code, summary, stderr) = finished(directory.path(), &arguments);
        assert!(!summary.is_empty(), "{stderr}");
        let (again, printed, _) = finished(directory.path(), &["report", out]);
        // A run names its directory in full.
        let full = directory.path().join(out).display().to_string();
        assert_eq!((again, printed.replace(out, &full)), (code, summary), "{out}");
        let (again, json, _) = finished(directory.path(), &["report", out, "--json"]);
        let file = fs::read_to_string(directory.path().join(out).join(results::REPORT)).unwrap();
        assert!(json == file, "{out}: {json} is not {file}");
        assert_eq!(again, code, "{out}");
    }
    let (code, stdout, stderr) = finished(directory.path(), &[&small[..], &["--out", "sound"]].concat());
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("sound is not empty") && stderr.contains("choose another --out"), "{stderr}");
}

#[test]
fn configuration_of_a_run_makes_the_same_run_again() {
    let _track = track();
    let directory = tempfile::tempdir().unwrap();
    let options = [
        ["--replicas", "5"],
        ["--clients", "50"],
        ["--auth", "hybrid"],
        ["--auth-replies", "none"],
        ["--batch", "time:20,1ms"],
        ["--app", "kv"],
        ["--workload", "f"],
        ["--records", "500"],
        ["--zipf", "0.5"],
        ["--rate", "200"],
        ["--arrivals", "poisson"],
        ["--load-threads", "2"],
        ["--window", "64"],
        ["--checkpoint-interval", "16"],
        ["--wait", "park"],
        ["--retransmit-after", "1500ms"],
        ["--warmup", "0s"],
        ["--duration", "1s"],
    ];
    let first = [&["run", "--json", "--out", "first"], options.as_flattened()].concat();
    let again = ["run", "--json", "--config", "first/config.toml", "--out", "again"];
    let reports = [&first[..], &again].map(|arguments| {
        let (_, stdout, stderr) = finished(directory.path(), arguments);
        // Nothing but JSON on stdout, and the same as in the file.
        let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
        let out = arguments[arguments.iter().position(|argument| *argument == "--out").unwrap() + 1];
        assert_eq!(stdout, fs::read_to_string(directory.path().join(out).join(results::REPORT)).unwrap());
        report
    });
    let configs: Vec<String> = ["first", "again"]
        .map(|out| fs::read_to_string(directory.path().join(out).join(results::CONFIG)).unwrap())
        .into();
    assert_eq!(configs[0], configs[1]);
    assert_eq!(reports[0]["config"], reports[1]["config"]);
    for [flag, value] in options {
        let recorded = &reports[0]["config"][flag.trim_start_matches("--").replace('-', "_")];
        let text = recorded.as_str().map_or_else(|| recorded.to_string(), str::to_owned);
        assert_eq!(text.replace("s 500ms", "500ms").trim_end_matches(".0"), value, "{flag}");
    }
    // What was left to the program stays so, and what came of it is told.
    assert_eq!(reports[0]["config"]["connections"], "auto");
    let remark = "# What auto came to in this run: connections = 2, load_threads = 2\n";
    assert!(configs[0].ends_with(remark), "{}", configs[0]);
    for report in &reports {
        let generator = &report["generator"];
        assert_eq!([&generator["connections"], &generator["threads"]], [2, 2], "{generator}");
        // A second of random arrivals may miss its rate, and where a busy machine stops for a moment at its end, some
        // of its operations are complete just after; all else must hold.
        let of_the_rate = |reason: &String| reason.contains("late") || reason.starts_with("overload");
        let reasons: Vec<String> = reasons(report).into_iter().filter(|reason| !of_the_rate(reason)).collect();
        assert_eq!(reasons, Vec::<String>::new());
        // In the end all of them are complete.
        assert_eq!(generator["unanswered"], 0, "{generator}");
        assert_eq!(report["replicas"].as_array().unwrap().len(), 5);
        // Checkpoints move the low watermark on.
        assert!(report["replicas"][0]["stable_checkpoint"].as_u64().unwrap() >= 16, "{report}");
    }
}
