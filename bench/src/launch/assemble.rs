//! From what all processes told to the evidence, the verdict and the report.

use std::collections::BTreeSet;

use hippodrome_analysis::audit::{
    Disturbed, Evidence, Exit, LoadEvidence, LoadOutcome, ReplicaEvidence, ReplicaState, judge,
};
use hippodrome_analysis::bottleneck::{Bottleneck, bottleneck};
use hippodrome_analysis::report::{
    Batches, Cpu, Environment, Fault, Generator, Latency, Phase, Replica, Report, SCHEMA, Stage, ThreadUse, Throughput,
};
use hippodrome_analysis::scorecard::{Judged, Observed, Score, Scorecard};
use hippodrome_analysis::series::Second;
use hippodrome_analysis::{latency, statistics};
use hippodrome_engine::control::ReplicaReport;
use hippodrome_loadgen::report::LoadReport;

use super::attribute::Followed;
use super::collect::{Answer, Told};
use super::drive::{Driven, WindowCpu};
use super::fleet::{Fleet, Member, PROCESS_EXIT};
use super::machine::environment;
use super::setup::Setup;
use super::stages;
use crate::scenario::Scenario;

/// The report of a run.
pub(super) fn report(
    setup: &Setup,
    scenario: Option<&Scenario>,
    driven: &Driven,
    (answers, followed): (&[Answer], &Followed),
    fleet: &Fleet,
) -> Report {
    let (latency_us, log_error) = match latency::merge([driven.hlog.as_slice()]) {
        Ok(histogram) => (latency::percentiles(&histogram), None),
        Err(error) => (Latency::default(), Some(format!("latency.hlog: {error}"))),
    };
    let mut throughput = throughput(driven);
    let is_known = latency_us.count > 0;
    throughput.outstanding = is_known.then(|| statistics::outstanding(throughput.ops_per_s, latency_us.mean));
    let load = match (&driven.load, log_error) {
        (Ok(load), None) => LoadOutcome::Finished(load_evidence(load)),
        (Ok(_), Some(error)) => LoadOutcome::Failed(error),
        (Err(why), _) => LoadOutcome::Failed(why.clone()),
    };
    let quorums = setup.cluster.quorums();
    let scorecard = scenario.map(|scenario| draw(setup, driven, scenario));
    let (verdict, mut audit) = judge(&Evidence {
        release_build: !cfg!(debug_assertions),
        f: quorums.f(),
        quorum: quorums.quorum(),
        cores: environment().cores,
        threads: threads(setup, driven, answers),
        replicas: answers.iter().zip(&fleet.members).map(|(answer, member)| replica_evidence(answer, member)).collect(),
        exits: exits(setup, fleet),
        load: load.clone(),
        hostile_clients: u64::from(setup.cluster.clients().saturating_sub(setup.options.clients)),
        failures: fleet.failures.clone(),
        per_second: throughput.per_second.clone(),
        disturbed: scorecard.as_ref().map(|card| disturbed(setup, card)),
        latencies: latency_us.count,
        steal_percent: driven.cpu.steal_percent,
    });
    audit.notes.extend(fleet.notes.iter().cloned());
    let scorecard = scorecard.zip(scenario).map(|(mut card, scenario)| {
        // Whatever the scenario expects: these say that it was not played as it is written.
        let mut problems = fleet.failures.clone();
        if let LoadOutcome::Failed(why) = &load {
            problems.push(format!("the load generator failed: {why}"));
        }
        let judged = Judged { reasons: &verdict.reasons, safe: audit.violations == 0, problems: &problems };
        card.expect(&scenario.expected, &judged);
        card
    });
    let primary = primary(setup, answers, fleet);
    let mut report = Report {
        schema: SCHEMA.into(),
        verdict,
        config: serde_json::to_value(&setup.options).unwrap_or_default(),
        environment: describe_environment(setup, driven, primary),
        throughput,
        latency_us,
        cpu: Cpu {
            system_calls_per_op_replicas: per_operation(driven, replicas_system_calls(answers)),
            system_calls_per_op_clients: per_operation(
                driven,
                driven.load.as_ref().map_or(0, |load| load.system_calls),
            ),
            ..cpu(&driven.cpu, environment().cores, answers.len())
        },
        phases_us: primary.into_iter().flat_map(phases).collect(),
        replicas: replicas(answers, &driven.cpu),
        faults: scored(fleet, driven, scorecard.as_ref()),
        generator: driven.load.as_ref().map(|load| generator(load, &driven.cpu, answers.len())).unwrap_or_default(),
        batches: primary.map(batches).unwrap_or_default(),
        attribution: followed.attribution.clone(),
        bottleneck: Bottleneck::default(),
        efficiency: None,
        traffic: None,
        audit,
        scorecard,
    };
    report.bottleneck = bottleneck(&report);
    report
}

/// Threads of this run that want a core. Who did not answer has as many as those who did.
fn threads(setup: &Setup, driven: &Driven, answers: &[Answer]) -> usize {
    let of = |told: &Told| told.status.stages.iter().map(|stage| &stage.thread).collect::<BTreeSet<_>>().len();
    let of_one = answers.iter().map(|answer| match answer {
        Answer::Up(told) => of(told),
        Answer::Ended(_) | Answer::Silent(_) => 1,
    });
    let load = driven.load.as_ref().map_or(0, |load| load.threads as usize);
    let hostile = setup.options.hostile.as_ref().map_or(0, |hostile| hostile.0.len());
    of_one.max().unwrap_or(0) * answers.len() + load + hostile
}

/// Replicas that ended although nobody had planned it.
fn exits(setup: &Setup, fleet: &Fleet) -> Vec<Exit> {
    let from_s = real(setup.measured_s().0);
    let ended = fleet.faults.iter().filter(|fault| fault.kind == PROCESS_EXIT);
    ended
        .filter_map(|fault| {
            Some(Exit { at_s: fault.at_s - from_s, replica: fault.replica?, how: fault.detail.clone() })
        })
        .collect()
}

/// How the faults were borne, before anybody has judged the run.
fn draw(setup: &Setup, driven: &Driven, scenario: &Scenario) -> Scorecard {
    // What can not be read is judged elsewhere.
    let latencies = latency::intervals(&driven.hlog).unwrap_or_default();
    let observed = Observed {
        per_100ms: driven.load.as_ref().map(|load| load.per_100ms.as_slice()).unwrap_or_default(),
        measured_s: setup.measured_s(),
        faults: &driven.story.injected,
        from_the_beginning: setup.options.byzantine.is_some() || setup.options.hostile.is_some(),
        views: &driven.story.views,
        f: setup.cluster.quorums().f(),
        latencies: &latencies,
    };
    Scorecard::draw(&scenario.name, &observed)
}

/// What the faults excuse.
fn disturbed(setup: &Setup, card: &Scorecard) -> Disturbed {
    let load = &setup.options.load;
    // A cluster whose replicas misbehave from the beginning may still be on its way to a correct primary.
    let first = match &setup.options.byzantine {
        Some(_) => 0.0,
        None => card.faults.first().map_or(f64::INFINITY, |score| score.at_s),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of the measured window")]
    let before = (first - load.warmup.0.as_secs_f64()).clamp(0.0, load.duration.0.as_secs_f64()) as usize;
    Disturbed { seconds: card.seconds_not_judged.clone(), seconds_before: before }
}

/// All faults in order of time, those of the scenario with what the scorecard says of them.
fn scored(fleet: &Fleet, driven: &Driven, card: Option<&Scorecard>) -> Vec<Fault> {
    let measured_s = driven.load.as_ref().map_or(0.0, |load| load.measured_s);
    let mut faults = fleet.faults.clone();
    for fault in &mut faults {
        let is_of = |score: &&Score| score.kind == fault.kind && (score.at_s - fault.at_s).abs() < 1e-9;
        let Some(score) = card.and_then(|card| card.faults.iter().find(is_of)) else { continue };
        fault.detected_after_ms = score.detected_after_ms;
        fault.recovered_after_ms = score.recovered_after_ms;
        fault.ops_lost_percent = score.lost_percent_seconds.filter(|_| measured_s > 0.0).map(|area| area / measured_s);
    }
    faults.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    faults
}

fn throughput(driven: &Driven) -> Throughput {
    let measured: Vec<&Second> = driven.seconds.iter().filter(|second| second.measured).collect();
    let per_second: Vec<f64> = measured.iter().map(|second| real(second.operations)).collect();
    let told = measured.iter().map(|second| second.operations).sum();
    let (operations, measured_s, offered) = match &driven.load {
        Ok(load) => (load.operations, load.measured_s, load.offered_ops_per_s),
        Err(_) => (told, real(measured.len() as u64), None),
    };
    Throughput {
        ops_per_s: ratio(real(operations), measured_s),
        offered_ops_per_s: offered,
        // A rate is never negative, however wide the interval of a few seconds is.
        ci95: statistics::interval95(&per_second).map(|[low, high]| [low.max(0.0), high]),
        drift_percent: statistics::drift_percent(&per_second),
        per_second,
        operations,
        measured_s,
        outstanding: None,
    }
}

fn load_evidence(load: &LoadReport) -> LoadEvidence {
    LoadEvidence {
        measured_s: load.measured_s,
        operations: load.operations,
        latencies: load.latencies,
        offered_ops_per_s: load.offered_ops_per_s,
        random_arrivals: load.mode == "poisson",
        offered_operations: load.offered_operations,
        late_sends: load.late_sends,
        unsent: load.unsent,
        timeouts: load.timeouts,
        unanswered: load.unanswered,
        bad_replies: load.bad_replies,
        wrong_replies: load.wrong_replies.clone(),
        wrong_results: load.wrong_results,
        stale_reads: load.stale_reads,
        read_only: load.read_only_total,
        busiest_thread_percent: load.busiest_thread_percent,
        wait_percent: load.wait_percent,
        busy_or_waiting_percent: load.busy_or_waiting_percent,
        completed: load.completed.clone(),
        begun: load.begun.clone(),
    }
}

fn replica_evidence(answer: &Answer, member: &Member) -> ReplicaEvidence {
    if let Some(kinds) = &member.byzantine {
        return ReplicaEvidence::Byzantine(kinds.clone());
    }
    match answer {
        Answer::Ended(how) => ReplicaEvidence::Ended(how.clone()),
        Answer::Silent(why) => ReplicaEvidence::Silent(why.clone()),
        Answer::Up(told) => ReplicaEvidence::Up(ReplicaState {
            executed_sequence: told.status.executed_sequence.0,
            executed_ops: told.status.executed_ops,
            ledger: told.ledger.clone(),
            diverged: told.status.diverged.clone(),
            left_behind: told.status.left_behind.clone(),
            executed: told.clients.executed.clone(),
            last_timestamp: told.clients.last_timestamp.clone(),
        }),
    }
}

/// The primary of the highest view that a correct replica is in, if it answered.
fn primary<'a>(setup: &Setup, answers: &'a [Answer], fleet: &Fleet) -> Option<&'a Told> {
    let told = |answer: &'a Answer| match answer {
        Answer::Up(told) => Some(&**told),
        Answer::Ended(_) | Answer::Silent(_) => None,
    };
    let correct = answers.iter().zip(&fleet.members).filter(|(_, member)| member.byzantine.is_none());
    let view = correct.filter_map(|(answer, _)| told(answer)).map(|told| told.status.view).max()?;
    answers.get(usize::from(setup.cluster.quorums().primary(view).0)).and_then(told)
}

fn describe_environment(setup: &Setup, driven: &Driven, primary: Option<&Told>) -> Environment {
    Environment {
        transport: primary.map(|told| told.status.transport.clone()).unwrap_or_default(),
        placement: primary.map(|told| told.status.placement.clone()).unwrap_or_default(),
        client_transport: driven.load.as_ref().map(|load| load.transport.clone()).unwrap_or_default(),
        started_at: setup.started_at.clone(),
        network: setup.network.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..environment()
    }
}

fn cpu(window: &WindowCpu, cores: usize, replicas: usize) -> Cpu {
    let operations = real(window.operations);
    let cores_us = 1e6 * window.seconds * real(cores as u64);
    let of_cores = |us: u64| 100.0 * ratio(real(us), cores_us);
    let (cores_replicas_percent, cores_clients_percent) = (of_cores(window.replicas_us), of_cores(window.clients_us));
    Cpu {
        // The run may have fewer cores than the machine.
        cores_busy_percent: window.busy_percent.max(cores_replicas_percent + cores_clients_percent),
        cores_replicas_percent,
        cores_clients_percent,
        us_per_op_total: ratio(real(window.replicas_us + window.clients_us), operations),
        us_per_op_replicas: ratio(real(window.replicas_us), operations),
        us_per_op_clients: ratio(real(window.clients_us), operations),
        us_per_op_one_replica: ratio(of_one_replica_us(window, replicas), operations),
        steal_percent: window.steal_percent,
        ..Cpu::default()
    }
}

/// System calls of those replicas that could be asked.
fn replicas_system_calls(answers: &[Answer]) -> u64 {
    let of = |answer: &Answer| match answer {
        Answer::Up(told) => told.status.system_calls,
        Answer::Ended(_) | Answer::Silent(_) => 0,
    };
    answers.iter().map(of).sum()
}

/// What was counted over the whole run, for each operation that was completed in it.
fn per_operation(driven: &Driven, count: u64) -> f64 {
    let of = |load: &LoadReport| load.completed.iter().sum::<u64>() + load.read_only_total;
    ratio(real(count), real(driven.load.as_ref().map_or(0, of)))
}

/// CPU time that one of so many replicas took in the window, on average, µs.
fn of_one_replica_us(window: &WindowCpu, replicas: usize) -> f64 {
    ratio(real(window.replicas_us), real(replicas as u64))
}

fn phases(told: &Told) -> impl Iterator<Item = (String, Phase)> + '_ {
    told.status.phases.iter().map(|(name, phase)| (name.clone(), Phase { p50: phase.p50, p99: phase.p99 }))
}

fn batches(told: &Told) -> Batches {
    let (count, operations) = (told.status.batches, told.status.executed_ops);
    Batches { count, mean_requests: ratio(real(operations), real(count)) }
}

fn replicas(answers: &[Answer], window: &WindowCpu) -> Vec<Replica> {
    let told = (0..).zip(answers).map(|(id, answer)| replica(id, answer));
    let with_threads = told.enumerate().map(|(index, mut replica)| {
        let [begin, end] = window.stages.each_ref().map(|edge| edge.get(index).and_then(Option::as_ref));
        for stage in &mut replica.stages {
            // Who did not answer then is told of since its start.
            stage.busy_percent = stages::busy_percent(begin, end, &stage.name).unwrap_or(stage.busy_percent);
        }
        let threads = window.threads.get(index).map(Vec::as_slice).unwrap_or_default();
        replica.threads = threads.iter().filter_map(|thread| of_stages(thread, &replica.stages)).collect();
        replica
    });
    with_threads.collect()
}

/// The thread by its whole name, of which the kernel keeps 15 bytes, if it runs a stage.
fn of_stages(thread: &ThreadUse, stages: &[Stage]) -> Option<ThreadUse> {
    let stage = stages.iter().find(|stage| stage.thread.get(..15).unwrap_or(&stage.thread) == thread.name)?;
    Some(ThreadUse { name: stage.thread.clone(), core: stage.core, ..thread.clone() })
}

fn replica(id: u16, answer: &Answer) -> Replica {
    match answer {
        Answer::Ended(how) => Replica { id, state: how.clone(), ..Replica::default() },
        Answer::Silent(why) => Replica { id, state: format!("no answer: {why}"), ..Replica::default() },
        Answer::Up(told) => replica_up(id, &told.status),
    }
}

fn replica_up(id: u16, status: &ReplicaReport) -> Replica {
    let stages = status.stages.iter().map(|stage| Stage {
        name: stage.name.clone(),
        core: stage.core,
        busy_percent: stage.busy_percent,
        queue_p99: stage.queue_p99,
        thread: stage.thread.clone(),
    });
    Replica {
        id,
        view: status.view.0,
        executed_ops: status.executed_ops,
        executed_sequence: status.executed_sequence.0,
        ledger_digest: status.ledger_digest.clone(),
        stable_checkpoint: status.stable_checkpoint.0,
        messages_sent: status.messages_sent,
        bytes_sent: status.bytes_sent,
        system_calls: status.system_calls,
        ignored: status.ignored.clone(),
        stages: stages.collect(),
        threads: Vec::new(),
        state: "up".into(),
        batches: status.batches,
        reads: status.reads,
        rolled_back: status.rolled_back,
        resident_bytes: status.resident_bytes,
        diverged: status.diverged.clone(),
        left_behind: status.left_behind.clone(),
    }
}

fn generator(load: &LoadReport, window: &WindowCpu, replicas: usize) -> Generator {
    Generator {
        mode: load.mode.clone(),
        clients: load.clients,
        connections: load.connections,
        threads: load.threads,
        busiest_thread_percent: load.busiest_thread_percent,
        wait_percent: load.wait_percent,
        busy_or_waiting_percent: load.busy_or_waiting_percent,
        cpu_share_percent: 100.0 * ratio(real(window.clients_us), real(window.clients_us + window.replicas_us)),
        cost_in_replicas: ratio(real(window.clients_us), of_one_replica_us(window, replicas)),
        offered_operations: load.offered_operations,
        late_sends: load.late_sends,
        waited_for_client: load.waited_for_client,
        lag_p99_us: load.lag_p99_us,
        lag_max_us: load.lag_max_us,
        unsent: load.unsent,
        retransmissions: load.retransmissions,
        probes: load.probes,
        bytes_sent: load.bytes_sent,
        system_calls: load.system_calls,
        dropped: load.dropped.by_reason().into_iter().filter(|(_, count)| *count > 0).collect(),
        timeouts: load.timeouts,
        unanswered: load.unanswered,
        bad_replies: load.bad_replies,
        wrong_replies: load.wrong_replies.clone(),
        missing_replies: load.missing_replies,
        replier_changes: load.replier_changes,
        wrong_results: load.wrong_results,
        stale_reads: load.stale_reads,
        read_only: load.read_only,
        fell_back: load.fell_back,
    }
}

#[allow(clippy::cast_precision_loss, reason = "no run counts 2^53 of anything")]
const fn real(count: u64) -> f64 {
    count as f64
}

/// `a / b`; 0 of nothing, so that no report ever holds a number that is none.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
