//! The simulator itself: it is deterministic, it meets what it promises to meet, it finds what is planted, and the
//! protocol passes.

use std::collections::BTreeSet;

use hippodrome_engine::byzantine::Kind;
use hippodrome_engine::protocol::batching::{Batching, STRATEGIES};
use hippodrome_engine::protocol::planted::Planted;
use hippodrome_engine::settings::options::{Dissemination, ExecutionChoice, Granularity, Reads, Replies};
use hippodrome_sim::hunt::{Hunt, hunt};
use hippodrome_sim::plan::{Disk, Fault, Faulty, Hostile, HostileKind, Plan, What};
use hippodrome_sim::{mutants, run, shrink};

/// Enough for two cores in a few seconds, unoptimised.
const SEEDS: u64 = 60;
/// Enough to find any planted bug.
const MUTANT_SEEDS: u64 = 2_000;

#[test]
fn nothing_is_violated() {
    let found = hunt(Hunt { first: 1, seeds: SEEDS, jobs: 2, planted: None, stop_early: false }, &|_, _| true);
    assert_eq!(found.seeds, SEEDS);
    assert_eq!(found.violations, []);
}

/// Requests in groups and by digests, results by digests, reads that are not ordered, and batches that are executed
/// tentatively.
#[test]
fn all_strategies_together_pass() {
    let (mut grouped, mut by_digests, mut digests, mut reads, mut promised) = (0, 0, 0, 0, 0);
    for seed in 0..SEEDS / 2 {
        let plan = Plan {
            auth_granularity: Granularity::Frame,
            dissemination: Dissemination::Digest,
            execution: ExecutionChoice::Tentative,
            replies: Replies::Digest,
            reads: Reads::ReadOnly,
            ..Plan::draw(seed)
        };
        let outcome = run(&plan, None, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        grouped += outcome.coverage.grouped;
        by_digests += outcome.coverage.by_digests;
        digests += outcome.coverage.digests;
        reads += outcome.coverage.reads;
        promised += outcome.coverage.promised;
    }
    let met = [grouped, by_digests, digests, reads, promised];
    assert!(met.iter().all(|many| *many > 0), "{met:?}");
}

/// Groups of requests, whatever else is drawn: whole ones, and parts of them in batches.
#[test]
fn requests_that_are_proven_in_groups_pass() {
    let (mut grouped, mut parted) = (0, 0);
    for seed in 100..100 + SEEDS / 2 {
        let plan = Plan { auth_granularity: Granularity::Frame, ..Plan::draw(seed) };
        let outcome = run(&plan, None, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        grouped += outcome.coverage.grouped;
        parted += outcome.coverage.parted;
    }
    assert!(grouped > 0 && parted > 0, "{grouped}, {parted}");
}

/// A client proves its requests to some replicas only, and a backup brings their bodies before anybody asks for them
/// and prepares nothing: neither may keep correct clients from their answers.
#[test]
fn early_bodies_hide_no_missing_proofs() {
    let mut harmful = 0;
    for seed in 0..SEEDS / 2 {
        let faulty = Faulty {
            replica: 3,
            kinds: vec![Kind::EarlyBody],
            twins: false,
            mutate_permille: 0,
            false_state: false,
            stale_reads: false,
        };
        let plan = Plan {
            replicas: 4,
            dissemination: Dissemination::Digest,
            signed_requests: false,
            hostile: vec![Hostile { kind: HostileKind::Partial, every_ns: 20_000_000 }],
            faulty: vec![faulty],
            timeline: Vec::new(),
            ..Plan::draw(seed)
        };
        let outcome = run(&plan, None, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert!(!outcome.coverage.unjudged && outcome.coverage.early_bodies > 0, "seed {seed}");
        harmful += outcome.coverage.hostile_requests;
    }
    assert!(harmful > 0, "clients prove everything to everybody");
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
    assert!(found.lied * 2 >= SEEDS, "Byzantine replicas in {}", found.lied);
    assert!(found.view_changes * 3 >= SEEDS, "view changes in {}", found.view_changes);
    for (what, seeds) in [
        ("twins that contradict each other", found.contradicted),
        ("harm by faulty clients", found.did_harm),
        ("requests proven as one group", found.grouped),
        ("batches with a part of a group", found.parted),
        ("new views that reassign batches", found.reassigning),
        ("prepared state through two view changes", found.prepared_twice),
        ("tentative executions", found.tentative),
        ("roll-backs", found.rolled_back),
        ("state transfers", found.transfers),
        ("states of several chunks", found.chunked),
        ("crashes", found.crashed),
        ("power failures", found.power_failed),
        ("partitions", found.partitioned),
        ("reads that a quorum answered", found.read_only),
        ("reads that fell back", found.fell_back),
        ("digests", found.digested),
        ("digests of batches", found.batch_digested),
        ("missing replies", found.missed),
        ("bodies before anybody asks for them", found.early_bodies),
    ] {
        assert!(seeds > 0, "{what} in none of {SEEDS} seeds");
    }
    assert!(found.unjudged.is_empty(), "seeds not judged for liveness: {:?}", found.unjudged);
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

/// A strategy is simulated by being registered.
#[test]
fn plans_have_every_batching_strategy() {
    let name = |plan: &Plan| plan.batching.to_string().split(':').next().unwrap().to_owned();
    let drawn: BTreeSet<String> = (0..SEEDS).map(|seed| name(&Plan::draw(seed))).collect();
    let registered: BTreeSet<String> = STRATEGIES.iter().map(|strategy| strategy.name.to_owned()).collect();
    assert_eq!(drawn, registered);
    let samples = (0..2000).map(|seed| Plan::draw(seed).batching.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(samples, Batching::samples().map(|batching| batching.to_string()).collect());
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
fn a_plan_that_was_edited_wrongly_is_refused_by_the_name_of_what_is_wrong() {
    let whole = Plan { timeline: Vec::new(), faulty: Vec::new(), heal_ns: 1_000_000_000, ..Plan::draw(0) };
    let n = u16::try_from(whole.replicas).unwrap();
    let fault = |at_ns, what| Fault { at_ns, for_ns: 1, what };
    let refused = |change: &dyn Fn(&mut Plan), key: &str| {
        let mut plan = whole.clone();
        change(&mut plan);
        let refusal = plan.check().unwrap_err().to_string();
        assert!(refusal.starts_with(key), "{refusal} instead of {key}");
    };
    whole.check().unwrap();
    for what in [
        What::Crash(99),
        What::Loss(n),
        What::Pause(n),
        What::SlowDisk(n),
        What::Partition(vec![0, n]),
        What::OneWay(vec![0], vec![64]),
        What::Drop(1001),
        What::Slow(0),
    ] {
        refused(&|plan| plan.timeline = vec![fault(1, What::Pause(0)), fault(2, what.clone())], "timeline[1].what");
    }
    refused(&|plan| plan.timeline = vec![fault(2, What::Pause(0)), fault(1, What::Pause(0))], "timeline[1].at_ns = 1");
    refused(&|plan| plan.timeline = vec![fault(plan.heal_ns + 1, What::Pause(0))], "timeline[0].at_ns");
    let faulty = |replica, mutate_permille| Faulty {
        replica,
        kinds: Vec::new(),
        twins: false,
        mutate_permille,
        false_state: false,
        stale_reads: false,
    };
    refused(&|plan| plan.faulty = vec![faulty(n, 0)], "faulty[0].replica");
    refused(&|plan| plan.faulty = vec![faulty(0, 1001)], "faulty[0].mutate_permille = 1001");
    refused(
        &|plan| plan.faulty = vec![faulty(1, 0), faulty(1, 0)],
        "faulty[1].replica = 1: allowed: each replica once",
    );
    refused(&|plan| plan.network.loss_permille = 1001, "network.loss_permille");
    refused(&|plan| plan.network.delay_min_ns = plan.network.delay_max_ns + 1, "network.delay_min_ns");
    refused(
        &|plan| plan.disk = Some(Disk { sync_min_ns: 2, sync_max_ns: 1, snapshot_every: 1 }),
        "disk.sync_min_ns = 2: allowed: 0 to 1",
    );
    refused(&|plan| plan.view_timeout_max_ns = plan.view_timeout_ns - 1, "view_timeout_max_ns");
    refused(&|plan| plan.chunk_bytes = 0, "chunk_bytes = 0");
    refused(&|plan| plan.hostile = vec![Hostile { kind: HostileKind::Replay, every_ns: 0 }], "hostile[0].every_ns");
}

#[test]
fn every_planted_bug_is_found_by_a_checker_that_is_there_for_it() {
    for &planted in Planted::ALL {
        let mutant = mutants::find(planted, 0, MUTANT_SEEDS, 2, &|_, _| true);
        let (_, violation) = mutant.found.unwrap_or_else(|| panic!("{planted} is not found"));
        assert!(mutants::expected(planted).contains(&violation.checker), "{planted}: {}", violation.checker);
    }
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
