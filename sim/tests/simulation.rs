//! The simulator itself: it is deterministic, it meets what it promises to meet, it finds what is planted, and the
//! protocol passes.

use hippodrome_engine::protocol::planted::Planted;
use hippodrome_sim::hunt::{Hunt, hunt};
use hippodrome_sim::plan::{Fault, Plan, What};
use hippodrome_sim::{mutants, run, shrink};

/// Enough for two cores in a few seconds, unoptimised.
const SEEDS: u64 = 60;

#[test]
fn nothing_is_violated() {
    let found = hunt(Hunt { first: 1, seeds: SEEDS, jobs: 2, planted: None, stop_early: false }, &|_, _| true);
    assert_eq!(found.seeds, SEEDS);
    assert_eq!(found.violations, []);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..12 {
        let plan = Plan::draw(seed);
        let (first, again) = (run(&plan, None, true), run(&plan, None, false));
        assert_eq!((first.hash, first.coverage), (again.hash, again.coverage), "seed {seed}");
        assert!(again.trace.is_empty() && !first.trace.is_empty());
    }
    assert_ne!(run(&Plan::draw(1), None, false).hash, run(&Plan::draw(2), None, false).hash);
}

#[test]
fn what_is_promised_is_met() {
    let found = hunt(Hunt { first: 5000, seeds: SEEDS, jobs: 2, planted: None, stop_early: false }, &|_, _| true);
    assert!(found.byzantine * 2 >= SEEDS, "Byzantine replicas in {}", found.byzantine);
    assert!(found.view_changes * 3 >= SEEDS, "view changes in {}", found.view_changes);
    for (what, seeds) in [
        ("twins", found.twins),
        ("faulty clients", found.hostile),
        ("crashes", found.crashed),
        ("partitions", found.partitioned),
    ] {
        assert!(seeds > 0, "{what} in none of {SEEDS} seeds");
    }
}

#[test]
fn plans_are_sound_and_survive_being_written_down() {
    for seed in 0..2000 {
        let plan = Plan::draw(seed);
        plan.check().unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}

#[test]
fn plans_that_prove_nothing_are_refused() {
    let mut plan = Plan::draw(0);
    plan.replicas = 3;
    assert_eq!(plan.check().unwrap_err().to_string(), "replicas = 3: allowed: 4 to 16");
    let mut plan = Plan::draw(0);
    plan.replicas = 4;
    plan.faulty.clear();
    plan.timeline = (0..2).map(|replica| Fault { at_ns: 1, for_ns: 1, what: What::Loss(replica) }).collect();
    assert_eq!(plan.check().unwrap_err().to_string(), "unreliable replicas = 2: allowed: at most f = 1");
}

#[test]
fn a_planted_bug_is_found_shrunk_and_replayed() {
    let planted = Planted::QuorumOffByOne;
    let mutant = mutants::find(planted, 0, 200, 2, &|_, _| true);
    let (seed, violation) = mutant.found.expect("the bug is found");
    let plan = Plan::draw(seed);
    let smaller = shrink(&plan, Some(planted), violation.checker, &mut |_| {});
    assert!(smaller.check().is_ok());
    assert!(smaller.timeline.len() <= plan.timeline.len() && smaller.clients.count <= plan.clients.count);
    let (first, again) = (run(&smaller, Some(planted), true), run(&smaller, Some(planted), true));
    assert_eq!(first.violation.as_ref().map(|violation| violation.checker), Some(violation.checker));
    assert_eq!((first.violation, first.hash, first.trace), (again.violation, again.hash, again.trace));
}
