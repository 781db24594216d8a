//! Plays a scenario beside the load: each event when its time has come, as soon as it is possible.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hippodrome_analysis::report::Fault;
use hippodrome_analysis::scorecard::{Injected, ViewSample};
use hippodrome_engine::quorum::Quorums;
use hippodrome_engine::types::View;

use super::fleet::Fleet;
use super::links::Wish;
use super::setup::Setup;
use super::watcher::Watcher;
use crate::output;
use crate::scenario::{Action, Event, Links, Target, Whom};

/// How often replicas are asked for their views, s.
const WATCH_EVERY_S: f64 = 0.09;

/// A scenario under way. All times are seconds on the launcher's clock, from when the load generator was started.
pub(super) struct Timeline {
    events: VecDeque<Event>,
    watcher: Option<Watcher>,
    watched_s: f64,
    /// Replicas to be started anew as soon as they can be.
    restarts: Vec<Restart>,
    /// Why the first of the events does not happen though its time has come.
    waiting: Option<String>,
    injected: Vec<Injected>,
    /// What went wrong with the playing itself.
    problems: Vec<String>,
    /// Whether replicas are started while the load runs. They need their keys then, whenever they get to read them.
    ever_restarts: bool,
}

/// A replica that is to be started anew.
struct Restart {
    id: u16,
    /// How it is to misbehave from then on, if it is.
    byzantine: Option<String>,
    /// Why it could not be started when that was tried last.
    error: Option<String>,
}

/// What a scenario did.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Every fault, in order of time, seconds since the load began.
    pub(super) injected: Vec<Injected>,
    /// Views as replicas told them, the same.
    pub(super) views: Vec<ViewSample>,
    /// Why it was not played as it is written.
    pub(super) problems: Vec<String>,
}

/// What became of an event whose time has come.
enum Outcome {
    /// It happened to these replicas; in words.
    Done(Vec<u16>, String),
    /// It can not happen yet, because of this.
    NotYet(String),
}

impl Timeline {
    /// The events of a scenario, in order of time; `None` for a run without one.
    pub(super) fn new(events: Option<&[Event]>, n: usize) -> Self {
        let starts = |event: &Event| matches!(event.action, Action::Restart(_) | Action::Byzantine(..));
        let ever_restarts = events.is_some_and(|events| events.iter().any(starts));
        Self {
            events: events.unwrap_or_default().iter().cloned().collect(),
            watcher: events.map(|_| Watcher::new(n)),
            watched_s: 0.0,
            restarts: Vec::new(),
            waiting: None,
            injected: Vec::new(),
            problems: Vec::new(),
            ever_restarts,
        }
    }

    /// Whether replicas will be started while the load runs, which need their keys then.
    pub(super) const fn restarts(&self) -> bool {
        self.ever_restarts
    }

    /// How long nothing will happen, if not longer than `longest`. `began_s`: when the measured load began.
    pub(super) fn pause(&self, now_s: f64, began_s: Option<f64>, longest: Duration) -> Duration {
        match (self.events.front(), began_s) {
            (Some(event), Some(began)) => {
                let wait = (began + event.s - now_s).clamp(0.001, longest.as_secs_f64());
                Duration::from_secs_f64(wait)
            }
            _ => longest,
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now_s: f64, began_s: Option<f64>, fleet: &mut Fleet, setup: &Setup) {
        let Some(watcher) = &mut self.watcher else { return };
        self.problems.extend(fleet.welcome());
        fleet.keep_ports(setup);
        if now_s - self.watched_s >= WATCH_EVERY_S {
            self.watched_s = now_s;
            watcher.poll(now_s, fleet.members.iter().map(|member| member.is_up().then(|| member.control.address())));
        }
        self.restart(fleet, setup);
        let Some(began) = began_s else { return };
        while let Some(event) = self.events.front().filter(|event| now_s >= began + event.s).cloned() {
            match self.play(&event.action, fleet, setup) {
                Ok(Outcome::NotYet(why)) => {
                    self.waiting = Some(why);
                    break;
                }
                Ok(Outcome::Done(replicas, detail)) => {
                    note(&mut self.injected, (now_s, now_s - began), &event, replicas, &detail, fleet)
                }
                Err(error) => self.problems.push(format!("{}: {error:#}", name(&event))),
            }
            self.events.pop_front();
            self.waiting = None;
        }
    }

    /// Starts what is to be started and can be.
    fn restart(&mut self, fleet: &mut Fleet, setup: &Setup) {
        // A port may take a moment to be free: it is tried again.
        self.restarts.retain_mut(|Restart { id, byzantine, error }| {
            *error = fleet.restart(setup, *id, byzantine.as_deref()).err().map(|error| format!("{error:#}"));
            error.is_some()
        });
    }

    fn play(&mut self, action: &Action, fleet: &mut Fleet, setup: &Setup) -> anyhow::Result<Outcome> {
        let quorums = setup.cluster.quorums();
        match action {
            Action::Kill(targets) => self.with(targets, "SIGKILL", fleet, &quorums, |fleet, id| {
                fleet.kill(setup, id);
                Ok(())
            }),
            Action::Stop(targets) => self.with(targets, "SIGSTOP", fleet, &quorums, |fleet, id| fleet.pause(id, true)),
            Action::Restart(whom) => {
                let waiting: BTreeSet<u16> = self.restarts.iter().map(|restart| restart.id).collect();
                let killed = chosen(whom, fleet, |fleet, id| fleet.members[usize::from(id)].was_killed());
                let ids: Vec<u16> = killed.into_iter().filter(|id| !waiting.contains(id)).collect();
                self.restarts.extend(ids.iter().map(|id| Restart { id: *id, byzantine: None, error: None }));
                self.restart(fleet, setup);
                Ok(Outcome::Done(ids, "started anew".into()))
            }
            Action::Resume(whom) => {
                let ids = chosen(whom, fleet, |fleet, id| fleet.members[usize::from(id)].ordeal.stopped);
                ids.iter().try_for_each(|id| fleet.pause(*id, false))?;
                Ok(Outcome::Done(ids, "SIGCONT".into()))
            }
            Action::Byzantine(target, kind) => match self.resolve(&[*target], fleet, &quorums) {
                Err(why) => Ok(Outcome::NotYet(why)),
                Ok(ids) => {
                    for id in &ids {
                        fleet.kill(setup, *id);
                        self.restarts.push(Restart { id: *id, byzantine: Some(kind.clone()), error: None });
                    }
                    self.restart(fleet, setup);
                    Ok(Outcome::Done(ids, format!("started anew as {kind}")))
                }
            },
            Action::Partition(links) => self.partition(links, fleet, &quorums),
            Action::Heal => {
                fleet.links(|_, _| Some(Wish::Heal))?;
                Ok(Outcome::Done(Vec::new(), "no link is cut any more".into()))
            }
            Action::Network(link) => {
                fleet.links(|_, _| {
                    Some(match link.as_str() {
                        "none" => Wish::Reset,
                        link => Wish::Values(link),
                    })
                })?;
                Ok(Outcome::Done(Vec::new(), format!("links between replicas: {link}")))
            }
            // These last from the beginning; whoever read the scenario has made an option of the run of them.
            Action::Clients(kinds) => Ok(Outcome::Done(Vec::new(), kinds.to_string())),
        }
    }

    /// Does something to each of these replicas, or to nobody if one of them is not known yet.
    fn with(
        &self,
        targets: &[Target],
        what: &str,
        fleet: &mut Fleet,
        quorums: &Quorums,
        mut act: impl FnMut(&mut Fleet, u16) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        match self.resolve(targets, fleet, quorums) {
            Err(why) => Ok(Outcome::NotYet(why)),
            Ok(ids) => {
                ids.iter().try_for_each(|id| act(fleet, *id))?;
                let named = targets.iter().filter(|target| !matches!(target, Target::Replica(_)));
                let roles: String = named.map(|target| format!(", the {target}")).collect();
                Ok(Outcome::Done(ids, format!("{what}{roles}")))
            }
        }
    }

    /// Who is meant now, or why nobody can say.
    fn resolve(&self, targets: &[Target], fleet: &Fleet, quorums: &Quorums) -> Result<Vec<u16>, String> {
        let up: Vec<bool> = fleet.members.iter().map(super::fleet::Member::is_up).collect();
        let byzantine: Vec<bool> = fleet.members.iter().map(|member| member.byzantine.is_some()).collect();
        let views = self.watcher.as_ref().map(Watcher::views).unwrap_or_default();
        resolve(targets, &up, &byzantine, &views, quorums)
    }

    fn partition(&self, links: &Links, fleet: &mut Fleet, quorums: &Quorums) -> anyhow::Result<Outcome> {
        let side = |targets: &[Target], fleet: &Fleet| self.resolve(targets, fleet, quorums);
        match links {
            Links::OneWay { from, to } => match (side(from, fleet), side(to, fleet)) {
                (Ok(from), Ok(to)) => {
                    fleet.links(|id, _| from.contains(&id).then(|| Wish::Cut(to.clone())))?;
                    let detail = format!("what {from:?} send does not reach {to:?}");
                    Ok(Outcome::Done(from, detail))
                }
                (Err(why), _) | (_, Err(why)) => Ok(Outcome::NotYet(why)),
            },
            Links::Between(groups) => {
                let sides: Result<Vec<Vec<u16>>, String> = groups.iter().map(|group| side(group, fleet)).collect();
                let sides = match sides {
                    Ok(sides) => sides,
                    Err(why) => return Ok(Outcome::NotYet(why)),
                };
                let of = |id: u16| sides.iter().position(|side| side.contains(&id));
                fleet.links(|id, n| Some(Wish::Cut((0..n).filter(|other| of(*other) != of(id)).collect())))?;
                Ok(Outcome::Done(sides.concat(), format!("links between {sides:?} and the others are cut")))
            }
        }
    }

    /// What was done, on the clock of the load, which began at `load_s` on the launcher's.
    pub(super) fn finish(mut self, load_s: f64) -> Story {
        let left: Vec<String> = self.events.iter().map(name).collect();
        if !left.is_empty() {
            let why = self.waiting.map_or_else(String::new, |why| format!(": {why}"));
            let left = left.join(", ");
            self.problems.push(format!("the scenario was not played to its end: {left} did not happen{why}"));
        }
        for Restart { id, error, .. } in &self.restarts {
            let why = error.as_deref().unwrap_or("the load had ended");
            self.problems.push(format!("replica {id} could not be started anew: {why}"));
        }
        let mut injected = self.injected;
        injected.iter_mut().for_each(|fault| fault.at_s = on_load_clock(fault.at_s, load_s));
        let mut views = self.watcher.map(|watcher| watcher.samples().to_vec()).unwrap_or_default();
        views.iter_mut().for_each(|sample| sample.at_s = on_load_clock(sample.at_s, load_s));
        Story { injected, views, problems: self.problems }
    }
}

/// A time of the launcher's clock as one of the load's.
pub(super) fn on_load_clock(at_s: f64, load_s: f64) -> f64 {
    // Whatever happened before the load began happened at its beginning.
    ((at_s - load_s).max(0.0) * 1e3).round() / 1e3
}

/// `kill at 3 s`.
fn name(event: &Event) -> String {
    format!("{} at {} s", event.action.kind(), event.s)
}

/// Notes what happened, for the report and for whoever watches: at `scenario_s` on the scenario's clock, which begins
/// with the measured load.
fn note(
    injected: &mut Vec<Injected>,
    (at_s, scenario_s): (f64, f64),
    event: &Event,
    replicas: Vec<u16>,
    detail: &str,
    fleet: &mut Fleet,
) {
    let kind = event.action.kind();
    output::progress(&told(scenario_s, kind, &replicas, detail));
    let whom: Vec<Option<u16>> =
        if replicas.is_empty() { vec![None] } else { replicas.iter().copied().map(Some).collect() };
    fleet.faults.extend(whom.into_iter().map(|replica| Fault {
        at_s,
        kind: kind.into(),
        replica,
        detail: detail.into(),
        ..Fault::default()
    }));
    if event.action.is_fault() {
        injected.push(Injected { at_s, kind: kind.into(), replicas });
    }
}

/// `  scenario at 4.0 s: kill 0: SIGKILL, the primary`.
fn told(scenario_s: f64, kind: &str, replicas: &[u16], detail: &str) -> String {
    let whom: Vec<String> = replicas.iter().map(u16::to_string).collect();
    let gap = if whom.is_empty() { "" } else { " " };
    format!("  scenario at {scenario_s:.1} s: {kind}{gap}{}: {detail}", whom.join(", "))
}

/// Those of the replicas that an event names for which `is` holds.
fn chosen(whom: &Whom, fleet: &Fleet, is: impl Fn(&Fleet, u16) -> bool) -> Vec<u16> {
    let all = (0u16..).zip(&fleet.members).map(|(id, _)| id).filter(|id| is(fleet, *id));
    match whom {
        Whom::All => all.collect(),
        Whom::These(ids) => all.filter(|id| ids.contains(id)).collect(),
    }
}

/// The replicas that are meant, given who is up, who misbehaves, and in which views they were last.
fn resolve(
    targets: &[Target],
    up: &[bool],
    byzantine: &[bool],
    views: &[Option<u64>],
    quorums: &Quorums,
) -> Result<Vec<u16>, String> {
    let primary = || {
        let mut known: Vec<u64> =
            views.iter().zip(byzantine).filter(|(_, byzantine)| !**byzantine).filter_map(|(v, _)| *v).collect();
        known.sort_unstable_by(|a, b| b.cmp(a));
        // At least one correct replica is in this view; of fewer than f + 1, the lowest is as good as any.
        let view = known.get(quorums.f()).or(known.last()).ok_or("no replica has told its view")?;
        Ok::<u16, &str>(quorums.primary(View(*view)).0)
    };
    let is_up = |id: u16| up.get(usize::from(id)).copied().unwrap_or(false);
    let mut ids = Vec::new();
    for target in targets {
        let id = match target {
            Target::Replica(id) => Some(*id).filter(|id| is_up(*id)).ok_or(format!("replica {id} is not up")),
            Target::Primary => {
                let id = primary()?;
                Some(id).filter(|id| is_up(*id)).ok_or(format!("replica {id}, the primary, is not up"))
            }
            Target::Backup => {
                let primary = primary()?;
                let is_backup =
                    |id: &u16| *id != primary && is_up(*id) && !byzantine[usize::from(*id)] && !ids.contains(id);
                (0u16..).zip(up).map(|(id, _)| id).filter(is_backup).last().ok_or("no backup is up".to_owned())
            }
        }?;
        ids.push(id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(times: &[f64]) -> Timeline {
        let events: Vec<Event> =
            times.iter().map(|s| Event { s: *s, action: Action::Kill(vec![Target::Primary]) }).collect();
        Timeline::new(Some(&events), 4)
    }

    #[test]
    fn the_launcher_wakes_in_time_for_the_next_event() {
        let longest = Duration::from_millis(100);
        let ms = |now_s, began_s| timeline(&[2.0, 3.0]).pause(now_s, began_s, longest).as_millis();
        assert_eq!(ms(0.0, None), 100, "nobody knows yet when the load begins");
        assert_eq!(ms(1.0, Some(1.2)), 100);
        assert_eq!(ms(3.15, Some(1.2)), 50);
        assert_eq!(ms(9.0, Some(1.2)), 1, "what can not happen yet is tried again soon");
        assert_eq!(timeline(&[]).pause(0.0, Some(0.0), longest), longest);
    }

    #[test]
    fn what_did_not_happen_is_told() {
        let mut timeline = timeline(&[2.0, 3.5]);
        timeline.waiting = Some("nobody is up".into());
        timeline.injected.push(Injected { at_s: 4.25, kind: "stop".into(), replicas: vec![1] });
        timeline.injected.push(Injected { at_s: 0.5, ..Injected::default() });
        let story = timeline.finish(1.0);
        assert_eq!(
            story.problems,
            ["the scenario was not played to its end: kill at 2 s, kill at 3.5 s did not happen: nobody is up"]
        );
        let times: Vec<f64> = story.injected.iter().map(|fault| fault.at_s).collect();
        assert_eq!(times, [3.25, 0.0], "on the clock of the load");
    }

    #[test]
    fn why_a_replica_could_not_be_started_is_told() {
        let mut timeline = timeline(&[]);
        let error = "can not start replica-2: Resource temporarily unavailable";
        timeline.restarts.push(Restart { id: 2, byzantine: None, error: Some(error.into()) });
        assert_eq!(timeline.finish(1.0).problems, [format!("replica 2 could not be started anew: {error}")]);
    }

    #[test]
    fn lines_are_on_the_clock_of_the_scenario_and_without_gaps() {
        assert_eq!(told(4.04, "kill", &[0, 3], "SIGKILL"), "  scenario at 4.0 s: kill 0, 3: SIGKILL");
        assert_eq!(
            told(6.0, "heal", &[], "no link is cut any more"),
            "  scenario at 6.0 s: heal: no link is cut any more"
        );
    }

    #[test]
    fn the_primary_is_who_it_is_now() {
        let quorums = Quorums::new(4).unwrap();
        let who = |targets: &[Target], up: [bool; 4], views: [Option<u64>; 4]| {
            resolve(targets, &up, &[false, false, true, false], &views, &quorums)
        };
        let all = [true; 4];
        assert_eq!(who(&[Target::Primary], all, [Some(0); 4]), Ok(vec![0]));
        assert_eq!(who(&[Target::Primary], all, [Some(1), Some(1), Some(9), Some(0)]), Ok(vec![1]));
        // One replica that is ahead, or one that misbehaves, is no reason to believe in another view.
        assert_eq!(who(&[Target::Primary], all, [Some(7), Some(1), Some(9), Some(1)]), Ok(vec![1]));
        assert_eq!(
            who(&[Target::Primary], all, [Some(5), None, None, None]),
            Ok(vec![1]),
            "there is nobody else to ask"
        );
        assert!(who(&[Target::Primary], all, [None; 4]).is_err());
        let first_down = [false, true, true, true];
        let error = who(&[Target::Primary], first_down, [None, Some(0), Some(0), Some(0)]).unwrap_err();
        assert_eq!(error, "replica 0, the primary, is not up");
        assert_eq!(who(&[Target::Backup], all, [Some(0); 4]), Ok(vec![3]));
        assert_eq!(who(&[Target::Backup], all, [Some(3); 4]), Ok(vec![1]), "not the one that misbehaves");
        assert_eq!(who(&[Target::Backup, Target::Backup], all, [Some(0); 4]), Ok(vec![3, 1]));
        assert_eq!(who(&[Target::Replica(2), Target::Primary], all, [Some(0); 4]), Ok(vec![2, 0]));
        assert!(who(&[Target::Replica(0)], first_down, [Some(0); 4]).is_err());
    }
}
