//! What limits a run, in one sentence: the load generator, the machine, one stage, or nothing but waiting.
//!
//! Pure: it goes by the report alone. On a machine with fewer cores than threads no single thread is ever saturated, so
//! the machine as a whole is looked at before its threads.

use serde::{Deserialize, Serialize};

use crate::attribution::{Attribution, Part};
use crate::report::{Replica, Report, ThreadUse};
use crate::summary::count;

/// What is busy for so much of the time has no room left, percent: the rest goes by in between.
const SATURATED_PERCENT: f64 = 90.0;
/// An open loop that completes this share of what it was asked for keeps up, percent.
const KEEPS_UP_PERCENT: f64 = 98.0;

/// What limits a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bottleneck {
    /// `generator`, `machine`, `stage` (one thread of a replica), `schedule` (the cluster does all that it is asked
    /// for), `latency` (nothing is saturated, operations wait for each other), or `unknown`.
    pub limit: String,
    /// The same as a sentence, with what would help.
    pub sentence: String,
}

/// What limits the run of this report.
#[must_use]
pub fn bottleneck(report: &Report) -> Bottleneck {
    let found = if report.throughput.operations == 0 {
        ("unknown", "nothing can be said: no operation was completed".to_owned())
    } else if let Some(sentence) = generator(report) {
        ("generator", sentence)
    } else if let Some(sentence) = machine(report) {
        ("machine", sentence)
    } else if let Some(sentence) = stage(report) {
        ("stage", sentence)
    } else {
        unsaturated(report)
    };
    Bottleneck { limit: found.0.to_owned(), sentence: found.1 }
}

fn generator(report: &Report) -> Option<String> {
    let busy = report.generator.busiest_thread_percent;
    (busy >= SATURATED_PERCENT).then(|| {
        format!(
            "the load generator is the limit: one of its threads is {busy:.0} % busy; more of them (--load-threads) \
             would help, where there are cores for them"
        )
    })
}

fn machine(report: &Report) -> Option<String> {
    let cpu = &report.cpu;
    let busy = cpu.cores_busy_percent;
    if busy < SATURATED_PERCENT {
        return None;
    }
    let cores = match report.environment.cores {
        1 => "its core is".to_owned(),
        cores => format!("its {cores} cores are"),
    };
    let share = |percent: f64| 100.0 * percent / busy;
    let (replicas, clients) = (share(cpu.cores_replicas_percent), share(cpu.cores_clients_percent));
    let others = 100.0 - replicas - clients;
    if others > 50.0 {
        return Some(format!(
            "the machine is the limit: {cores} {busy:.0} % busy, {others:.0} % of it in processes that are not of this \
             run: to leave it to the run would help"
        ));
    }
    let others = match others {
        others if others >= 4.5 => format!(", {others:.0} % in other processes"),
        _ => String::new(),
    };
    let help = match busiest_kind(report) {
        Some(kind) => format!("of the replicas' stages {kind} works most: {}, or more cores", less_work(&kind)),
        None => "more cores".to_owned(),
    };
    Some(format!(
        "the machine is the limit: {cores} {busy:.0} % busy, {replicas:.0} % of it in replicas, {clients:.0} % in the \
         load generator{others}; {help} would help"
    ))
}

/// The kind of stage that works most, over all replicas.
fn busiest_kind(report: &Report) -> Option<String> {
    let mut kinds: Vec<(&str, f64)> = Vec::new();
    for stage in report.replicas.iter().flat_map(|replica| &replica.stages) {
        let kind = kind(&stage.name);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, busy)) => *busy += stage.busy_percent,
            None => kinds.push((kind, stage.busy_percent)),
        }
    }
    kinds.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(kind, _)| kind.to_owned())
}

/// `verify` of `verify-3`.
fn kind(stage: &str) -> &str {
    stage.split_once('-').map_or(stage, |(kind, _)| kind)
}

/// What relieves a thread of a kind of stage.
fn relief(kind: &str) -> String {
    let less = less_work(kind);
    if kind == "verify" { format!("more verify stages or {less}") } else { less.to_owned() }
}

/// What makes a kind of stage work less.
fn less_work(kind: &str) -> &'static str {
    match kind {
        "verify" => "a cheaper authentication",
        "order" => "larger batches",
        "persist" => "a faster disk, or larger batches",
        "execute" => "a cheaper operation",
        "egress" => "larger batches or a cheaper authentication",
        "ingress" => "larger batches, or another transport",
        _ => "less work for it",
    }
}

/// A thread of a replica that is on a core nearly all the time, and not only because it spins.
fn stage(report: &Report) -> Option<String> {
    let all = report.replicas.iter().flat_map(|replica| threads(replica).map(move |thread| (replica, thread)));
    let loads = all.map(|(replica, thread)| (load(report, replica, &thread), replica, thread));
    let (busy, replica, thread) = loads.max_by(|a, b| a.0.total_cmp(&b.0))?;
    if busy < SATURATED_PERCENT {
        return None;
    }
    let of_thread = || replica.stages.iter().filter(|stage| stage.thread == thread.name);
    let busiest = of_thread().max_by(|a, b| a.busy_percent.total_cmp(&b.busy_percent))?;
    let core = thread.core.map_or_else(String::new, |core| format!(" on core {core}"));
    let (id, name, help) = (replica.id, &busiest.name, relief(kind(&busiest.name)));
    if of_thread().count() == 1 {
        return Some(format!("{name} of replica {id} is {busy:.0} % busy{core}: {help} would help"));
    }
    let fused: Vec<&str> = of_thread().map(|stage| stage.name.as_str()).collect();
    Some(format!(
        "the thread of {} at replica {id} is {busy:.0} % busy{core}, and {name} works most of them: {help}, or a thread \
         for each of them (--placement) would help",
        fused.join(", ")
    ))
}

/// The threads of a replica; by its stages where nothing is known of them but that.
fn threads(replica: &Replica) -> impl Iterator<Item = ThreadUse> + '_ {
    let unknown = |name: &str| !replica.threads.iter().any(|thread| thread.name == name);
    let mut names: Vec<(&str, Option<usize>)> = Vec::new();
    for stage in replica.stages.iter().filter(|stage| unknown(&stage.thread)) {
        if !names.iter().any(|(name, _)| *name == stage.thread) {
            names.push((&stage.thread, stage.core));
        }
    }
    let by_stages = names.into_iter().map(|(name, core)| ThreadUse {
        name: name.to_owned(),
        core,
        cpu_percent: f64::INFINITY,
        ..ThreadUse::default()
    });
    replica.threads.iter().cloned().chain(by_stages)
}

/// For how much of the time a thread had something to do and a core to do it on, percent. One that spins or yields
/// while it is idle is always on a core: there its stages tell. Elsewhere these also count when the thread was
/// interrupted.
fn load(report: &Report, replica: &Replica, thread: &ThreadUse) -> f64 {
    let stages = replica.stages.iter().filter(|stage| stage.thread == thread.name);
    let working: f64 = stages.map(|stage| stage.busy_percent).sum();
    let polls = ["spinning", "yielding"].iter().any(|how| report.environment.placement.contains(how));
    if polls || thread.cpu_percent.is_infinite() { working.min(thread.cpu_percent) } else { thread.cpu_percent }
}

fn unsaturated(report: &Report) -> (&'static str, String) {
    let busy = report.cpu.cores_busy_percent;
    let idle = format!("nothing is saturated (the cores are {busy:.0} % busy)");
    let most = report.attribution.as_ref().and_then(largest_part);
    let Some(offered) = report.throughput.offered_ops_per_s else {
        let clients = match report.generator.clients {
            1 => "1 client, which waits for its answer before it asks again".to_owned(),
            clients => format!("{} clients, each of which waits for its answer", count(f64::from(clients))),
        };
        let bound = most.unwrap_or_else(|| "latency".to_owned());
        return (
            "latency",
            format!(
                "{idle}: throughput is bound by {bound}; closed loop with {clients}: more clients (--clients) would show \
                 what the cluster can do"
            ),
        );
    };
    let (offered_ops, done) = (count(offered), report.throughput.ops_per_s);
    let latency = most.map_or_else(String::new, |most| format!("; latency is bound by {most}"));
    if 100.0 * done >= KEEPS_UP_PERCENT * offered {
        return ("schedule", format!("{idle}: the schedule asks for {offered_ops} ops/s and gets them{latency}"));
    }
    let help = match report.generator.waited_for_client {
        0 => "",
        _ => "; operations waited for a free client: more of them (--clients) would help",
    };
    let done = count(done);
    ("latency", format!("{idle}, yet only {done} of {offered_ops} ops/s are done{latency}{help}"))
}

/// What the samples around the median spent most time on.
fn largest_part(attribution: &Attribution) -> Option<String> {
    let largest = attribution.parts.iter().max_by(|a, b| a.p50_share_us.total_cmp(&b.p50_share_us))?;
    let whole = attribution.middle.mean_us;
    if whole <= 0.0 {
        return None;
    }
    let words = Part::of_name(&largest.name).map_or(largest.name.as_str(), |part| part.words());
    Some(format!("'{words}' ({:.0} % of the median latency)", 100.0 * largest.p50_share_us / whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::{Group, PartShare};
    use crate::report::{Cpu, Stage};

    fn stages(thread: &str, core: Option<usize>, busy: &[(&str, f64)]) -> Vec<Stage> {
        let stage = |(name, busy_percent): &(&str, f64)| Stage {
            name: (*name).to_owned(),
            core,
            busy_percent: *busy_percent,
            thread: thread.to_owned(),
            ..Stage::default()
        };
        busy.iter().map(stage).collect()
    }

    fn thread(name: &str, core: Option<usize>, cpu_percent: f64) -> ThreadUse {
        ThreadUse { name: name.to_owned(), core, cpu_percent, ..ThreadUse::default() }
    }

    /// Four replicas, fused on one thread each, on a machine of two cores that are `busy`.
    fn fused(busy: f64) -> Report {
        let replica = |id| Replica {
            id,
            stages: stages("fused", None, &[("ingress", 3.0), ("verify-0", 10.0), ("order", 4.0), ("execute", 6.0)]),
            threads: vec![thread("fused", None, 0.4 * busy)],
            ..Replica::default()
        };
        let mut report = Report { replicas: (0..4).map(replica).collect(), ..Report::default() };
        report.throughput.operations = 1_000_000;
        report.throughput.ops_per_s = 100_000.0;
        report.generator.mode = "closed".into();
        report.generator.clients = 4000;
        report.generator.busiest_thread_percent = 36.0;
        report.environment.cores = 2;
        report.environment.placement = "fused, unpinned; 1 thread a replica, parked while idle".into();
        let (cores_replicas_percent, cores_clients_percent) = (0.75 * busy, 0.2 * busy);
        report.cpu = Cpu { cores_busy_percent: busy, cores_replicas_percent, cores_clients_percent, ..Cpu::default() };
        report
    }

    fn attributed(report: Report) -> Report {
        let part = |name: &str, p50_share_us| PartShare { name: name.into(), p50_share_us, ..PartShare::default() };
        let attribution = Attribution {
            middle: Group { mean_us: 200.0, ..Group::default() },
            parts: vec![part("request_network", 50.0), part("prepare", 90.0), part("commit", 60.0)],
            ..Attribution::default()
        };
        Report { attribution: Some(attribution), ..report }
    }

    fn told(report: &Report) -> (String, String) {
        let Bottleneck { limit, sentence } = bottleneck(report);
        (limit, sentence)
    }

    #[track_caller]
    fn assert_told(report: &Report, limit: &str, sentence: &str) {
        assert_eq!(told(report), (limit.to_owned(), sentence.to_owned()));
    }

    #[test]
    fn a_machine_with_fewer_cores_than_threads_is_the_limit_itself() {
        assert_told(
            &fused(99.0),
            "machine",
            "the machine is the limit: its 2 cores are 99 % busy, 75 % of it in replicas, 20 % in the load generator, \
             5 % in other processes; of the replicas' stages verify works most: a cheaper authentication, or more \
             cores would help",
        );
        let mut alone = fused(95.0);
        alone.environment.cores = 1;
        alone.cpu.cores_clients_percent = 0.25 * 95.0;
        alone.replicas.iter_mut().for_each(|replica| replica.stages.clear());
        assert_told(
            &alone,
            "machine",
            "the machine is the limit: its core is 95 % busy, 75 % of it in replicas, 25 % in the load generator; more \
             cores would help",
        );
    }

    #[test]
    fn a_machine_that_is_busy_with_something_else_is_told_so() {
        let mut report = fused(99.0);
        (report.cpu.cores_replicas_percent, report.cpu.cores_clients_percent) = (9.9, 9.9);
        assert_told(
            &report,
            "machine",
            "the machine is the limit: its 2 cores are 99 % busy, 80 % of it in processes that are not of this run: to \
             leave it to the run would help",
        );
    }

    #[test]
    fn a_generator_that_can_do_no_more_is_the_limit_whatever_else_is_busy() {
        let mut report = fused(99.0);
        report.generator.busiest_thread_percent = 97.0;
        let (limit, sentence) = told(&report);
        assert_eq!(limit, "generator");
        assert!(sentence.contains("one of its threads is 97 % busy"), "{sentence}");
    }

    /// Pipelined replicas that spin on cores of their own: every thread is on its core all the time, one of them works.
    #[test]
    fn a_stage_that_works_all_the_time_is_the_limit_and_one_that_spins_is_not() {
        let mut report = fused(60.0);
        report.environment.placement = "pipelined, pinned; 5 threads a replica, spinning while idle".into();
        for replica in &mut report.replicas {
            let verify = if replica.id == 0 { 97.0 } else { 30.0 };
            replica.stages = stages("verify", Some(3), &[("verify-0", verify)]);
            replica.stages.extend(stages("order", Some(4), &[("order", 20.0)]));
            replica.threads = vec![thread("verify", Some(3), 99.9), thread("order", Some(4), 99.9)];
        }
        let sentence = "verify-0 of replica 0 is 97 % busy on core 3: more verify stages or a cheaper authentication \
                        would help";
        assert_told(&report, "stage", sentence);
        report.replicas[0].stages[0].busy_percent = 50.0;
        assert_eq!(told(&report).0, "latency", "they only spin");
        // Nothing is known of threads but their stages.
        report.replicas[0].stages[0].busy_percent = 97.0;
        report.replicas[0].threads.clear();
        assert_told(&report, "stage", sentence);
    }

    #[test]
    fn a_fused_thread_that_parks_is_judged_by_its_time_on_a_core() {
        let mut report = fused(55.0);
        // A thread that is interrupted all the time takes long for everything and does little.
        report.replicas[1].stages[1].busy_percent = 96.0;
        assert_eq!(told(&report).0, "latency");
        report.replicas[2].threads[0].cpu_percent = 98.0;
        assert_told(
            &report,
            "stage",
            "the thread of ingress, verify-0, order, execute at replica 2 is 98 % busy, and verify-0 works most of them: \
             more verify stages or a cheaper authentication, or a thread for each of them (--placement) would help",
        );
    }

    #[test]
    fn a_closed_loop_that_saturates_nothing_is_bound_by_latency() {
        let mut report = attributed(fused(40.0));
        report.generator.clients = 1;
        assert_told(
            &report,
            "latency",
            "nothing is saturated (the cores are 40 % busy): throughput is bound by 'pre-prepare to prepared' (45 % of the \
             median latency); closed loop with 1 client, which waits for its answer before it asks again: more \
             clients (--clients) would show what the cluster can do",
        );
        assert_told(
            &fused(40.0),
            "latency",
            "nothing is saturated (the cores are 40 % busy): throughput is bound by latency; closed loop with 4,000 \
             clients, each of which waits for its answer: more clients (--clients) would show what the cluster can do",
        );
    }

    #[test]
    fn an_open_loop_keeps_up_or_does_not() {
        let mut report = attributed(fused(40.0));
        report.throughput.offered_ops_per_s = Some(101_000.0);
        let (limit, sentence) = told(&report);
        assert_eq!(limit, "schedule");
        assert!(
            sentence.contains("asks for 101,000 ops/s and gets them; latency is bound by 'pre-prepare to"),
            "{sentence}"
        );
        report.throughput.offered_ops_per_s = Some(150_000.0);
        report.generator.waited_for_client = 5;
        let (limit, sentence) = told(&report);
        assert_eq!(limit, "latency");
        assert!(sentence.contains("yet only 100,000 of 150,000 ops/s are done"), "{sentence}");
        assert!(sentence.ends_with("more of them (--clients) would help"), "{sentence}");
    }

    #[test]
    fn nothing_is_said_of_a_run_without_operations() {
        assert_eq!(told(&Report::default()).0, "unknown");
    }
}
