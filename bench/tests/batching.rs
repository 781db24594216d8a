//! Every registered batching strategy in a short race of real processes: nothing may speak against any of them, and the
//! report has what was asked for.

use hippodrome_engine::protocol::batching::{Batching, STRATEGIES};
use tempfile::TempDir;

use crate::common::{Run, hippodrome, outcome};

mod common;

#[test]
fn every_strategy_races() {
    for strategy in STRATEGIES {
        let sample = *strategy.samples.last().expect("every strategy has samples");
        let batching: Batching = sample.parse().unwrap();
        let most = batching.policy().requests_max();
        let run = Run::start(&["--batch", sample, "--warmup", "0s", "--duration", "1s", "--clients", "100"]).finish();
        run.expect_sound(sample);
        assert_eq!(run.report["config"]["batch"], batching.to_string());
        let mean = run.report["batches"]["mean_requests"].as_f64().unwrap();
        assert!((1.0..=most as f64).contains(&mean), "{sample}: {mean} requests a batch");
    }
}

#[test]
fn refusals_name_what_is_allowed() {
    let directory = TempDir::new().unwrap();
    let refused = |batch: &str| {
        let output = hippodrome(directory.path(), &["run", "--batch", batch]).output().unwrap();
        let (code, _, stderr) = outcome(&output);
        assert_eq!(code, Some(2), "{stderr}");
        stderr
    };
    let every = refused("quickly");
    for strategy in STRATEGIES {
        assert!(every.contains(strategy.usage), "{every}");
        let own = refused(&format!("{}:,", strategy.name));
        assert!(own.contains(strategy.usage) && own.contains(strategy.allowed), "{own}");
    }
}
