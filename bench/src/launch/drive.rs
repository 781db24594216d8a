//! The load generator's process, followed second by second, with the CPU time that all processes take in the measured
//! window.

use std::process::Stdio;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime};

use hippodrome_analysis::report::ThreadUse;
use hippodrome_analysis::results::{LATENCY, LOAD};
use hippodrome_analysis::series::Second;
use hippodrome_engine::platform::{ThreadCounters, cpu_us_of, threads_of};
use hippodrome_loadgen::report::{LoadReport, SecondSample};

use super::Stop;
use super::fleet::Fleet;
use super::machine::MachineTime;
use super::process::{Process, describe};
use super::setup::Setup;
use super::stages::{Asked, Counted};
use super::timeline::{Story, Timeline, on_load_clock};
use crate::cli::values::name;
use crate::commands::load::second;
use crate::failure::Failure;
use crate::scenario::Event;

/// How long the load generator may take beyond the load itself and an operation's time-out: connecting, draining,
/// writing.
const GRACE: Duration = Duration::from_secs(60);
/// How often replicas and Ctrl-C are looked at.
const TICK: Duration = Duration::from_millis(100);

/// What came of the load.
pub(super) struct Driven {
    /// Every second that was told.
    pub(super) seconds: Vec<Second>,
    /// The load generator's report, or why there is none.
    pub(super) load: Result<LoadReport, String>,
    /// The interval log; empty if there is none.
    pub(super) hlog: Vec<u8>,
    /// CPU time in the measured window.
    pub(super) cpu: WindowCpu,
    /// What a scenario did meanwhile.
    pub(super) story: Story,
}

/// CPU time between the first and the last mark of the measured window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WindowCpu {
    /// Of all replicas, µs.
    pub(super) replicas_us: u64,
    /// Of the load generator, µs.
    pub(super) clients_us: u64,
    /// Operations completed in between.
    pub(super) operations: u64,
    /// Share that the host gave to others, percent.
    pub(super) steal_percent: f64,
    /// For how much of the time the machine's cores did something, percent.
    pub(super) busy_percent: f64,
    /// Length of the time between the marks, s.
    pub(super) seconds: f64,
    /// The threads of each replica.
    pub(super) threads: Vec<Vec<ThreadUse>>,
    /// What the stages of each replica had counted when the window began, and when it ended.
    pub(super) stages: [Vec<Option<Counted>>; 2],
}

/// Runs the load to its end. A failing load generator is an outcome, not an error: the report will say so.
///
/// # Errors
/// If it can not be started, or the run is interrupted.
pub(super) fn drive(
    setup: &mut Setup,
    fleet: &mut Fleet,
    events: Option<&[Event]>,
    stop: &Stop,
) -> Result<Driven, Failure> {
    let mut process = start(setup)?;
    let mut follower = Follower::new(setup, fleet, &process, Timeline::new(events, fleet.members.len()));
    let timed_out = follower.follow(setup, fleet, &mut process, stop)?;
    let load = outcome(setup, &mut process, timed_out, stop)?;
    setup.remove_keys();
    // Whoever died in the last moment is noted too.
    fleet.watch(follower.started.elapsed().as_secs_f64());
    let cpu = follower.window();
    let hlog = std::fs::read(setup.directory.join(LATENCY)).unwrap_or_default();
    let began_s = follower.load_began_s(setup, load.as_ref().ok());
    fleet.faults.iter_mut().for_each(|fault| fault.at_s = on_load_clock(fault.at_s, began_s));
    let story = follower.timeline.finish(began_s);
    fleet.failures.extend(story.problems.iter().cloned());
    Ok(Driven { seconds: follower.seconds, load, hlog, cpu, story })
}

fn start(setup: &Setup) -> anyhow::Result<Process> {
    let load = &setup.options.load;
    Process::start("load".to_owned(), setup.log_path("load"), Stdio::null(), |command| {
        command.arg("load");
        let mut pair = |flag: &str, value: &dyn std::fmt::Display| {
            command.arg(format!("--{flag}={value}"));
        };
        pair("parent", &std::process::id());
        pair("progress", &"json");
        pair("duration", &load.duration);
        pair("warmup", &load.warmup);
        pair("connections", &setup.generator.connections);
        pair("load-threads", &setup.generator.threads);
        pair("request-bytes", &load.request_bytes);
        pair("workload", &name(&load.workload));
        pair("zipf", &load.zipf);
        pair("retransmit-after", &load.retransmit_after);
        pair("retransmit-max", &load.retransmit_max);
        pair("timeout", &load.timeout);
        pair("transport", &setup.options.transport.transport);
        pair("sample", &setup.sample_argument());
        if let Some(rate) = load.rate {
            pair("rate", &rate);
        }
        if let Some(arrivals) = load.arrivals {
            pair("arrivals", &name(&arrivals));
        }
        if let Some(seed) = load.seed {
            pair("seed", &seed);
        }
        command.args(setup.network_argument()).args(setup.metrics_argument(usize::from(setup.options.replicas)));
        command.arg("--cluster").arg(setup.cluster_path()).arg("--key").arg(setup.key_path("client-0"));
        command.arg("--out").arg(&setup.directory);
    })
}

/// The load generator's report, or what went wrong with it, in words.
fn outcome(
    setup: &Setup,
    process: &mut Process,
    timed_out: bool,
    stop: &Stop,
) -> Result<Result<LoadReport, String>, Failure> {
    if timed_out {
        process.kill();
        return Ok(Err(process.error("did not end in time and was killed").to_string()));
    }
    // Its output is closed: it ends at once, or it hangs.
    let deadline = Instant::now() + GRACE;
    while process.ended().is_none() && Instant::now() < deadline {
        stop.check()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(match process.ended() {
        Some(status) if status.success() => read_report(setup),
        Some(status) => Err(process.error(&format!("ended early ({})", describe(status))).to_string()),
        None => {
            process.kill();
            Err(process.error("did not end and was killed").to_string())
        }
    })
}

fn read_report(setup: &Setup) -> Result<LoadReport, String> {
    let path = setup.directory.join(LOAD);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// CPU time so far of everybody.
#[derive(Clone, Debug)]
struct Mark {
    at: Instant,
    replicas_us: Vec<u64>,
    clients_us: u64,
    machine: MachineTime,
    /// The threads of each replica.
    threads: Vec<Vec<ThreadCounters>>,
}

/// What the threads of each replica did between two marks. One that was not there before began within.
#[allow(clippy::cast_precision_loss, reason = "times and counts of one run")]
fn threads_between(begin: &Mark, end: &Mark) -> Vec<Vec<ThreadUse>> {
    let seconds = end.at.duration_since(begin.at).as_secs_f64().max(1e-9);
    let between = |before: &[ThreadCounters], thread: &ThreadCounters| {
        let known = before.iter().find(|known| known.id == thread.id && known.name == thread.name);
        let before = known.cloned().unwrap_or_default();
        let percent = |now: u64, then: u64| now.saturating_sub(then) as f64 / 1e7 / seconds;
        ThreadUse {
            name: thread.name.clone(),
            core: None,
            cpu_percent: percent(thread.time.cpu_ns, before.time.cpu_ns),
            wait_percent: percent(thread.time.wait_ns, before.time.wait_ns),
            wakeups_per_s: thread.sleeps.saturating_sub(before.sleeps) as f64 / seconds,
        }
    };
    let replicas = begin.threads.iter().zip(&end.threads);
    replicas.map(|(before, now)| now.iter().map(|thread| between(before, thread)).collect()).collect()
}

/// Follows the load generator's progress lines.
struct Follower {
    started: Instant,
    started_at: SystemTime,
    /// When the load began, s after `started`, going by the seconds that were told: they are late at times, never
    /// early.
    began_s: Option<f64>,
    timeline: Timeline,
    seconds: Vec<Second>,
    /// At the end of the last second before the measured window.
    begin: Mark,
    /// At the end of the latest second of the measured window.
    end: Mark,
    /// After which seconds the measured window begins, and ends, as far as seconds are whole.
    edges: [u64; 2],
    /// How busy stages are, asked at these edges.
    asked: [Asked; 2],
}

impl Follower {
    fn new(setup: &Setup, fleet: &Fleet, process: &Process, timeline: Timeline) -> Self {
        let replicas = fleet.members.len();
        let nothing = Mark {
            at: Instant::now(),
            replicas_us: vec![0; replicas],
            clients_us: 0,
            machine: MachineTime::default(),
            threads: vec![Vec::new(); replicas],
        };
        let begin = nothing.updated(fleet, process);
        let load = &setup.options.load;
        let (warmup, all) = (load.warmup.0, load.warmup.0 + load.duration.0);
        let edges = [warmup.as_secs() + u64::from(warmup.subsec_nanos() > 0), all.as_secs()];
        let at_once = if edges[0] == 0 { ask_stages(fleet) } else { Asked::default() };
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            began_s: None,
            timeline,
            seconds: Vec::new(),
            end: begin.clone(),
            begin,
            edges,
            asked: [at_once, Asked::default()],
        }
    }

    /// Until the load generator closes its output; true if it took too long.
    fn follow(
        &mut self,
        setup: &mut Setup,
        fleet: &mut Fleet,
        process: &mut Process,
        stop: &Stop,
    ) -> Result<bool, Failure> {
        let deadline = self.started + setup.load_time() + setup.options.load.timeout.0 + GRACE;
        loop {
            stop.check()?;
            let now_s = self.started.elapsed().as_secs_f64();
            fleet.watch(now_s);
            let measured_s = self.began_s.map(|began| began + setup.options.load.warmup.0.as_secs_f64());
            self.timeline.tick(now_s, measured_s, fleet, setup);
            match process.lines.recv_timeout(self.timeline.pause(now_s, measured_s, TICK)) {
                Ok(line) => {
                    if !self.timeline.restarts() {
                        setup.remove_keys();
                    }
                    self.on_line(&line, fleet, process);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => return Ok(true),
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    fn on_line(&mut self, line: &str, fleet: &Fleet, process: &Process) {
        let Ok(sample) = serde_json::from_str::<SecondSample>(line) else {
            // Not progress: whatever it is, it is worth seeing.
            fleet.audience.happened(&format!("load: {line}"));
            return;
        };
        let second = second(&sample);
        #[allow(clippy::cast_precision_loss, reason = "seconds of one run")]
        let began_s = self.started.elapsed().as_secs_f64() - second.second as f64;
        self.began_s = Some(self.began_s.map_or(began_s, |known| known.min(began_s)));
        fleet.audience.second(&second);
        if second.measured {
            self.end = self.end.updated(fleet, process);
        } else if !self.seconds.iter().any(|second| second.measured) {
            self.begin = self.end.updated(fleet, process);
            self.end = self.begin.clone();
        }
        for (edge, asked) in self.edges.into_iter().zip(&mut self.asked) {
            if second.second == edge {
                *asked = ask_stages(fleet);
            }
        }
        self.seconds.push(second);
    }

    /// When the load began, s after the generator was started: it says so itself, if it lived to.
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of one run")]
    fn load_began_s(&self, setup: &Setup, load: Option<&LoadReport>) -> f64 {
        let told = load.and_then(|load| {
            let launched = self.started_at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
            let measured = load.started_unix_ms as f64 / 1e3;
            Some(measured - setup.options.load.warmup.0.as_secs_f64() - launched)
        });
        told.or(self.began_s).unwrap_or(0.0)
    }

    /// CPU time within the measured window.
    fn window(&mut self) -> WindowCpu {
        let replicas_us = self
            .end
            .replicas_us
            .iter()
            .zip(&self.begin.replicas_us)
            .map(|(end, begin)| end.saturating_sub(*begin))
            .sum();
        WindowCpu {
            replicas_us,
            clients_us: self.end.clients_us.saturating_sub(self.begin.clients_us),
            operations: self.seconds.iter().filter(|second| second.measured).map(|second| second.operations).sum(),
            steal_percent: self.end.machine.steal_percent(self.begin.machine),
            busy_percent: self.end.machine.busy_percent(self.begin.machine),
            seconds: self.end.at.duration_since(self.begin.at).as_secs_f64(),
            threads: threads_between(&self.begin, &self.end),
            stages: std::mem::take(&mut self.asked).map(Asked::answers),
        }
    }
}

fn ask_stages(fleet: &Fleet) -> Asked {
    Asked::all(fleet.members.iter().map(|member| member.is_up().then_some(member.control)))
}

impl Mark {
    /// The same now. Whoever is gone keeps what it had when it was last seen.
    fn updated(&self, fleet: &Fleet, process: &Process) -> Self {
        let replicas = fleet.members.iter().zip(&self.replicas_us);
        let threads = fleet.members.iter().zip(&self.threads).map(|(member, last)| {
            let now = if member.is_up() { threads_of(member.process.pid()) } else { Vec::new() };
            if now.is_empty() { last.clone() } else { now }
        });
        Self {
            at: Instant::now(),
            threads: threads.collect(),
            replicas_us: replicas.map(|(member, last)| member.cpu_us().unwrap_or(*last)).collect(),
            clients_us: cpu_us_of(process.pid()).unwrap_or(self.clients_us),
            machine: MachineTime::now(),
        }
    }
}
