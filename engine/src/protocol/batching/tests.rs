//! What options say, for all strategies alike. How policies behave is tested in the core that they are part of
//! (`engine/src/protocol/pbft/tests/batching.rs`).

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_strategy_reads_what_it_writes() {
    for strategy in STRATEGIES {
        assert!(!strategy.samples.is_empty(), "{}", strategy.name);
        for &sample in strategy.samples {
            assert!(sample.split(':').next() == Some(strategy.name), "{sample}");
            let batching: Batching = sample.parse().unwrap();
            let text = batching.to_string();
            assert_eq!(text.parse::<Batching>().unwrap().to_string(), text, "{sample}");
            assert_eq!(serde_json::to_value(&batching).unwrap(), text.as_str());
            assert_eq!(serde_json::from_value::<Batching>(text.into()).unwrap(), batching);
        }
    }
    for text in ["none", "fixed:10", "time:100,2ms", "adaptive:512,4", "latency-target:5ms,512,4"] {
        assert_eq!(text.parse::<Batching>().unwrap().to_string(), text);
    }
    assert_eq!("adaptive".parse::<Batching>().unwrap(), Batching::default());
    assert_eq!("latency-target:1500us".parse::<Batching>().unwrap().to_string(), "latency-target:1ms 500us,1024,8");
    assert_ne!("fixed:1".parse::<Batching>().unwrap(), "fixed:2".parse().unwrap());
}

#[test]
fn strategies_are_told_apart_and_described() {
    let names: BTreeSet<&str> = STRATEGIES.iter().map(|strategy| strategy.name).collect();
    assert_eq!(names.len(), STRATEGIES.len());
    for strategy in STRATEGIES {
        assert!(strategy.usage.starts_with(strategy.name), "{}", strategy.usage);
        assert!(Batching::usage().contains(strategy.usage) && Batching::help().contains(strategy.summary));
        assert_eq!(strategy.usage == strategy.name, strategy.allowed.is_empty(), "{}", strategy.name);
    }
}

#[test]
fn errors_name_the_value_and_what_is_allowed() {
    let refused = |text: &str| text.parse::<Batching>().unwrap_err();
    for text in [
        "fixed",
        "fixed:0",
        "fixed:4097",
        "fixed:1,2",
        "time:5",
        "time:5,xs",
        "time:5,1h",
        "time:5,1ns",
        "adaptive:",
        "adaptive:8,0",
        "adaptive:8,1025",
        "adaptive:8,1,1",
        "latency-target",
        "latency-target:9us",
        "latency-target:11s",
        "latency-target:1ms,0",
        "latency-target:1ms,1,1025",
        "none:1",
        "none:",
        "random",
        "",
    ] {
        let error = refused(text);
        assert_eq!((error.option, error.value.as_str()), ("batch", text));
        // Of a strategy that there is, its own arguments; else every strategy.
        let own = STRATEGIES.iter().find(|strategy| strategy.name == text.split(':').next().unwrap());
        match own {
            Some(own) => {
                assert!(error.allowed.starts_with(own.usage) && error.allowed.contains(own.allowed), "{error}")
            }
            None => assert_eq!(error.allowed, Batching::usage()),
        }
    }
    let error = refused("fixed:0").to_string();
    assert_eq!(error, "batch: 'fixed:0' is not allowed; allowed: fixed:N (N: 1 to 4096 requests)");
    assert!(refused("none:1").to_string().ends_with("allowed: none (no arguments)"));
}

/// What is allowed is written out in texts, so that readers need not look it up.
#[test]
fn texts_name_the_limits_that_are_enforced() {
    use crate::limits::{IN_FLIGHT_MAX, REQUESTS_MAX};
    for strategy in STRATEGIES {
        for (unit, limit) in [("requests", REQUESTS_MAX as u64), ("batches", IN_FLIGHT_MAX)] {
            let says = strategy.allowed.contains(&format!("1 to {limit} {unit}"));
            assert_eq!(says, strategy.allowed.contains(unit), "{}: {}", strategy.name, strategy.allowed);
        }
    }
}
